"""asyncpg: a token for whoever takes a connection from the pool.

    pool = await pool_of("postgres://app:<service token>@cloison:6432/shop")

    token.set(request_token)
    async with pool.acquire() as connection: ...
"""

from contextvars import ContextVar

import asyncpg

token: ContextVar[str | None] = ContextVar("token", default=None)


async def identify(connection):
    """Called with each connection that is taken. Given back, asyncpg says RESET ALL on it, which
    takes the identity away."""
    await connection.execute("select set_config('cloison.jwt', $1, false)", token.get() or "")


def pool_of(dsn, **options):
    return asyncpg.create_pool(dsn, setup=identify, **options)
