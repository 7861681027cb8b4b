"""The recipes of docs/recipes: one pool, a token for every request, many requests at once."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

from stand import A, B, ONLY, check, finish

NOBODY_URL = os.environ["NOBODY_URL"]
TOKEN_A = os.environ["TOKEN_A"]
TOKEN_B = os.environ["TOKEN_B"]
TOKEN_EXPIRED = os.environ["TOKEN_EXPIRED"]
sys.path.insert(0, str(Path(__file__).parents[3] / "docs" / "recipes"))

VISITS = [(TOKEN_A, A), (TOKEN_B, B)] * 60


def psycopg_pool():
    import with_psycopg_pool
    from psycopg import Error
    from psycopg_pool import ConnectionPool

    with ConnectionPool(NOBODY_URL, min_size=3, max_size=3) as pool:

        def visit(token, tenant):
            with with_psycopg_pool.connection_for(pool, token) as connection:
                return connection.execute(ONLY).fetchall() == [(tenant,)]

        def nobody(pool):
            try:
                with pool.connection() as connection:
                    assert connection.execute("select 1").fetchall() == [(1,)]
                    return connection.execute(ONLY).fetchall()
            except Error as error:
                return error.sqlstate

        with ThreadPoolExecutor(8) as threads:
            check("psycopg_pool", all(threads.map(lambda v: visit(*v), VISITS)), True)
        check("psycopg_pool: nobody", nobody(pool), "42501")
        try:
            visit(TOKEN_EXPIRED, A)
            check("psycopg_pool: an expired token", "accepted", "refused")
        except Error as error:
            check("psycopg_pool: an expired token", error.sqlstate, "28P01")
        check("psycopg_pool: nobody after it", nobody(pool), "42501")


def sqlalchemy():
    import with_sqlalchemy
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError

    engine = create_engine(NOBODY_URL.replace("postgres:", "postgresql+psycopg:"), pool_size=3, max_overflow=0)
    with_sqlalchemy.identify(engine)

    def visit(token, tenant):
        with_sqlalchemy.token.set(token)
        with engine.begin() as connection:
            return connection.scalars(text(ONLY)).all() == [tenant]

    with ThreadPoolExecutor(8) as threads:
        check("SQLAlchemy", all(threads.map(lambda v: visit(*v), VISITS)), True)
    with_sqlalchemy.token.set(None)
    try:
        with engine.begin() as connection:
            check("SQLAlchemy: nobody", connection.scalars(text(ONLY)).all(), "refused")
    except DBAPIError as error:
        check("SQLAlchemy: nobody", error.orig.sqlstate, "42501")
    engine.dispose()


async def sqlalchemy_async():
    import with_sqlalchemy
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        NOBODY_URL.replace("postgres:", "postgresql+asyncpg:"), pool_size=3, max_overflow=0
    )
    with_sqlalchemy.identify(engine.sync_engine)

    async def visit(token, tenant):
        with_sqlalchemy.token.set(token)
        async with engine.begin() as connection:
            return (await connection.scalars(text(ONLY))).all() == [tenant]

    check("SQLAlchemy, async", all(await asyncio.gather(*(visit(*v) for v in VISITS))), True)
    await engine.dispose()


async def asyncpg():
    import with_asyncpg
    from asyncpg import PostgresError

    async with with_asyncpg.pool_of(NOBODY_URL, min_size=3, max_size=3) as pool:

        async def visit(token, tenant):
            with_asyncpg.token.set(token)
            async with pool.acquire() as connection:
                return [row[0] for row in await connection.fetch(ONLY)] == [tenant]

        check("asyncpg", all(await asyncio.gather(*(visit(*v) for v in VISITS))), True)
        with_asyncpg.token.set(None)
        async with pool.acquire() as connection:
            try:
                check("asyncpg: nobody", await connection.fetch(ONLY), "refused")
            except PostgresError as error:
                check("asyncpg: nobody", error.sqlstate, "42501")


def django():
    import django
    from django.conf import settings

    url = urlsplit(NOBODY_URL)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path[1:],
        "HOST": url.hostname,
        "PORT": url.port,
        "USER": url.username,
        "PASSWORD": url.password,
        "CONN_MAX_AGE": None,
    }
    settings.configure(DATABASES={"default": database})
    django.setup()
    import with_django
    from django.db import DatabaseError, connection

    def view(request):
        with connection.cursor() as cursor:
            cursor.execute(ONLY)
            return cursor.fetchall()

    handle = with_django.identify(view)

    def visit(token, tenant):
        return handle(SimpleNamespace(token=token)) == [(tenant,)]

    def nobody():
        try:
            return f"rows of somebody: {view(None)}"
        except DatabaseError as error:
            return error.__cause__.sqlstate == "42501"

    def thread(visits):
        good = all(visit(*v) for v in visits)
        good &= nobody() is True

        def fails(request):
            raise LookupError

        try:
            with_django.identify(fails)(SimpleNamespace(token=TOKEN_A))
        except LookupError:
            good &= nobody() is True
        connection.close()
        return good

    with ThreadPoolExecutor(4) as threads:
        check("Django", all(threads.map(thread, [VISITS[n::4] + VISITS[n + 1 :: 4] for n in range(4)])), True)


psycopg_pool()
sqlalchemy()
asyncio.run(sqlalchemy_async())
asyncio.run(asyncpg())
django()
finish()
