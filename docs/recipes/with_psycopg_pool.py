"""psycopg's pool: a token for each transaction.

    pool = ConnectionPool("postgres://app:<service token>@cloison:6432/shop")

    with connection_for(pool, request_token) as connection: ...
"""

from contextlib import contextmanager


@contextmanager
def connection_for(pool, token):
    # Commits when the block ends, rolls back when it fails; either way the identity ends with it.
    with pool.connection() as connection:
        connection.execute("select set_config('cloison.jwt', %s, true)", [token])
        yield connection
