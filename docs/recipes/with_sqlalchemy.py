"""SQLAlchemy: a token for every transaction, by an event of the engine's.

    engine = create_engine("postgresql+psycopg://app:<service token>@cloison:6432/shop")
    identify(engine)                      # an AsyncEngine: identify(engine.sync_engine)

    token.set(request_token)              # in a middleware, for each request
"""

from contextvars import ContextVar

from sqlalchemy import event, text

token: ContextVar[str | None] = ContextVar("token", default=None)


def identify(engine):
    @event.listens_for(engine, "begin")
    def begin(connection):
        if token.get():
            # To the end of this transaction: the next request starts with nobody.
            connection.execute(text("select set_config('cloison.jwt', :token, true)"), {"token": token.get()})
