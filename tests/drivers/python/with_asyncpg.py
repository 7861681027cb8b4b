"""Everyday work of asyncpg, as two tenants at once, the super-admin and the owner."""

import asyncio
import datetime
import decimal
import io
import json
import os
import time
import traceback
import uuid

import asyncpg

import stand
from stand import ONLY, TWICE, SIDES, check, check_in


async def sees(connection):
    return [row[0] for row in await connection.fetch(ONLY)]


async def refused(what, expected, work):
    try:
        await work
    except asyncpg.PostgresError as error:
        check(what, (type(error), error.sqlstate), (expected, expected.sqlstate))
        return error
    check(what, "accepted", expected)


class connected:
    """A connection for one `async with`."""

    def __init__(self, url, **arguments):
        self.connecting = asyncpg.connect(url, **arguments)

    async def __aenter__(self):
        self.connection = await self.connecting
        return self.connection

    async def __aexit__(self, *_):
        await self.connection.close()


async def rows(side):
    async with connected(side.url) as c:
        check("reads its own rows", await sees(c), [side.own])
        work = c.transaction()
        await work.start()
        insert = "insert into crm_leads (full_name, email) values ($1, $2) returning tenant_id::text"
        check("insert is given its tenant", await c.fetchval(insert, "asyncpg", "asyncpg@example.org"), side.own)
        check_in("update", "UPDATE", await c.execute("update crm_leads set status = 'lost'"))
        got = await c.fetch("delete from crm_leads returning tenant_id::text")
        check("a delete of everything is of its own", {row[0] for row in got}, {side.own})
        got = await c.execute("delete from crm_leads where tenant_id = $1", side.other)
        check("nothing of another tenant's can be deleted", got, "DELETE 0")
        await work.rollback()
        check("a rollback brings it back", await c.fetchval("select count(*) >= 3 from crm_leads"), True)
        insert = "insert into crm_leads (tenant_id, full_name, email) values ($1, 'x', 'x')"
        await refused("a foreign tenant_id", asyncpg.InsufficientPrivilegeError, c.execute(insert, side.other))
        work = c.transaction()
        await work.start()
        many = [(f"many{n}", f"asyncpg{n}@example.org") for n in range(100)]
        await c.executemany("insert into crm_leads (full_name, email) values ($1, $2)", many)
        got = await c.fetch("select distinct tenant_id::text, count(*) from crm_leads where full_name like 'many%' group by 1")
        check("executemany", [tuple(row) for row in got], [(side.own, 100)])
        await work.rollback()


async def transactions(side):
    async with connected(side.session) as c:
        await c.execute("create temporary table t (n integer)")
        async with c.transaction():
            await c.execute("insert into t values (1)")
            try:
                async with c.transaction():
                    await c.execute("insert into t values (2)")
                    await c.execute("select 1 / 0")
            except asyncpg.DivisionByZeroError:
                pass
            await c.execute("insert into t values (4)")
        check("savepoints", await c.fetchval("select sum(n) from t"), 5)
        for level in ("read_committed", "repeatable_read", "serializable"):
            async with c.transaction(isolation=level, readonly=True):
                got = await c.fetchval("show transaction_isolation")
                check("isolation level", got.replace(" ", "_"), level)
                check("its own rows in it", await sees(c), [side.own])
        check("no transaction is left", c.is_in_transaction(), False)


async def statements(side):
    async with connected(side.url) as c:
        text = await c.prepare(f"select '{side.name}' || $1::text", name="shared")
        own = await c.prepare("select tenant_id::text, $1::int from projects limit 1")
        for n in range(20):
            check("a statement by name", await text.fetchval(str(n)), side.name + str(n))
            check("a statement by the driver's name", tuple(await own.fetchrow(n)), (side.own, n))
        check("what it says of itself", [a.name for a in own.get_attributes()], ["tenant_id", "int4"])
    async with connected(side.freed) as c:
        own = await c.prepare("select tenant_id::text, $1::int from projects limit 1")
        check_in("explain", "Plan", (await own.explain(1))[0])
    async with connected(side.url, statement_cache_size=0) as c:
        for n in range(5):
            check("unnamed statements", await c.fetchval("select $1::int", n), n)


async def parameters(side):
    values = [
        (uuid.UUID(side.own), "uuid"),
        (datetime.datetime(2026, 2, 28, 23, 59, 59, 999999, datetime.timezone.utc), "timestamptz"),
        (datetime.datetime(1, 1, 1), "timestamp"),
        (datetime.date(9999, 12, 31), "date"),
        (datetime.time(12, 34, 56), "time"),
        (datetime.timedelta(days=-3, seconds=7), "interval"),
        (decimal.Decimal("-12345678901234567890.000000000001"), "numeric"),
        (bytes(range(256)), "bytea"),
        ([1, None, 3], "int8[]"),
        (["é", 'q"{,}', None, ""], "text[]"),
        ([[1, 2], [3, 4]], "int4[]"),
        (2**62, "int8"),
        (1e-300, "float8"),
        (True, "bool"),
        (None, "text"),
        ("'; drop table projects; --", "text"),
        (asyncpg.Range(1, 5), "int4range"),
    ]
    async with connected(side.url) as c:
        for value, kind in values:
            check(kind, await c.fetchval(f"select $1::{kind}", value), value)
        await c.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        document = {"clé": [1, None, {"é": 1.5}]}
        check("jsonb by a codec", await c.fetchval("select $1::jsonb", document), document)
        # A composite type is looked up by the driver's own statement, with jit switched off in it.
        got = await c.fetchval("select p from projects p limit 1")
        check("a row as a value", str(got["tenant_id"]), side.own)
        check("after the look-up", await sees(c), [side.own])


async def cursors_and_copy(side):
    sql = "select n, tenant_id::text from generate_series(1, 100000) n, (select tenant_id from projects limit 1) p"
    async with connected(side.url) as c:
        total = 0
        async with c.transaction():
            async for row in c.cursor(sql, prefetch=1000):
                total += 1
                if tuple(row) != (total, side.own):
                    check("a cursor", tuple(row), (total, side.own))
            first = await c.cursor("select generate_series(1, 100)")
            second = await c.cursor("select tenant_id::text from projects")
            check("two cursors by turns", [len(await first.fetch(10)), len(await second.fetch(2))], [10, 2])
            await first.forward(50)
            check("two cursors by turns", (await first.fetchrow())[0], 61)
        check("a cursor of 100,000 rows", total, 100_000)
        check("a large result", len(await c.fetch(sql)), 100_000)

        out = io.BytesIO()
        await c.copy_from_query("select tenant_id from projects where name <> $1", "x", output=out)
        check("COPY TO", set(out.getvalue().decode().split()), {side.own})
    async with connected(side.session) as c:
        await c.execute("create temporary table t (n int8, x text)")
        got = await c.copy_records_to_table("t", records=[(n, "é\t\\") for n in range(50_000)])
        check("COPY FROM into a table of its own", got, "COPY 50000")
        mark = f"copied {os.getpid()}"
        records = [(f"{mark} {n}", n) for n in range(10_000)]
        got = await c.copy_records_to_table("projects", records=records, columns=["name", "budget_cents"])
        check("COPY FROM into a table under policies", got, "COPY 10000")
        copied = f"from projects where name like '{mark} %'"
        check("its rows", await c.fetchval(f"select min(tenant_id::text) || count(*) {copied}"), f"{side.own}10000")
        await c.execute(f"delete {copied}")
        await refused(
            "COPY FROM with another tenant's row",
            asyncpg.InsufficientPrivilegeError,
            c.copy_records_to_table("projects", records=[(side.other, "x")], columns=["tenant_id", "name"]),
        )

        async def broken():
            yield (1, "x")
            raise ZeroDivisionError

        try:
            await c.copy_records_to_table("t", records=broken())
        except (ZeroDivisionError, asyncpg.QueryCanceledError):
            pass
        check("an abandoned COPY", await c.fetchval("select count(*) from t"), 50_000)
        check("after COPY", await sees(c), [side.own])


async def cancelling(side):
    async with connected(side.url) as c:
        for _ in range(3):
            begun = time.monotonic()
            try:
                await c.fetch("select pg_sleep(60)", timeout=0.3)
                check("a timeout", "not cancelled", "cancelled")
            except asyncio.TimeoutError:
                check("a timeout cancels", time.monotonic() - begun < 30, True)
            check("after a cancel", await sees(c), [side.own])
        task = asyncio.ensure_future(c.fetch("select pg_sleep(60)"))
        await asyncio.sleep(0.2)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        check("after a cancelled task", await sees(c), [side.own])


async def notifications(side):
    async with connected(side.session) as listener, connected(side.freed) as sender:
        channel = f"asyncpg_{side.name}"
        received = asyncio.get_running_loop().create_future()
        await listener.add_listener(channel, lambda *told: received.done() or received.set_result(told[1:]))
        await sender.execute("select pg_notify($1, 'salut')", channel)
        got = await asyncio.wait_for(received, 20)
        check("a notification", got[1:], (channel, "salut"))
        await listener.reset()
        if not stand.TRANSACTION:
            check("its sender", got[0], sender.get_server_pid())
            check("the process id is the true one", await sender.fetchval("select pg_backend_pid()"), sender.get_server_pid())


async def errors(side):
    async with connected(side.session) as c:
        error = await refused("an unknown column", asyncpg.UndefinedColumnError, c.fetch("select no_such from projects"))
        check("its position", error.position, "8")
        error = await refused("a unique violation", asyncpg.UniqueViolationError, c.execute(TWICE))
        check("its table", (error.table_name, error.detail), ("crm_leads", None))
        await c.execute("create temporary table t (n integer primary key)")
        error = await refused("another", asyncpg.UniqueViolationError, c.execute("insert into t values (1), (1)"))
        check("its detail", error.detail, "Key (n)=(1) already exists.")
        messages = []
        c.add_log_listener(lambda _, message: messages.append(message.message))
        await c.execute("do $$ begin raise warning 'hello'; end $$")
        await asyncio.sleep(0)
        check("a warning", messages, ["hello"])
    async with connected(side.freed) as c:
        error = await refused(
            "a terminated connection",
            asyncpg.ConnectionDoesNotExistError,
            c.execute("select pg_terminate_backend(pg_backend_pid())"),
        )
        check_in("the server's own last words", "due to administrator command", str(error))
        check("is closed", c.is_closed(), True)


async def settings(side):
    wishes = {"application_name": "asyncpg", "timezone": "Asia/Tokyo", "search_path": "public", "jit": "off"}
    async with connected(side.url, server_settings=wishes) as c:
        check("the server's own word for the encoding", c.get_settings().client_encoding, "UTF8")
        for undo in ("reset all", "discard all"):
            await c.execute("set timezone = 'America/Lima'; set application_name = 'other'; set jit = on")
            check("SET is told to the driver", c.get_settings().TimeZone, "America/Lima")
            await c.execute(undo)
            await c.reload_schema_state()
            got = [await c.fetchval(f"select current_setting('{name}')") for name in wishes]
            check(f"{undo}: back to the client's own", got, list(wishes.values()))
            check(f"{undo}: the tenant stays", await sees(c), [side.own])
            if undo == "discard all":
                break
    for name, value in (("role", "postgres"), ("cloison.context", "x")):
        try:
            await asyncpg.connect(side.url, server_settings={name: value})
            check(f"{name} at startup", "accepted", "refused")
        except asyncpg.FeatureNotSupportedError as error:
            check_in(f"{name} at startup", "is refused", str(error))


async def introspection(side):
    async with connected(side.url) as c:
        got = await c.fetch("select column_name from information_schema.columns where table_name = $1 order by ordinal_position limit 2", "projects")
        check("information_schema", [row[0] for row in got], ["tenant_id", "id"])
        check("server version", c.get_server_version().major >= 14, True)
        rows = await c.fetchval("select array_agg(p) from projects p")
        check("an array of rows, whose type is looked up", {str(row["tenant_id"]) for row in rows}, {side.own})
    async with connected(side.session) as c, c.transaction():
        await c.execute("create type pg_temp.mood as enum ('sad', 'glad'); create type pg_temp.pair as (m pg_temp.mood, n int[])")
        got = await c.fetchval("select array[('glad', '{1,2}')]::pg_temp.pair[]")
        check("an array of composites of an enum and an array", [tuple(row) for row in got], [("glad", [1, 2])])
        kinds = await c.fetch("select $1::pg_temp.mood, $2::pg_temp.mood[]", "sad", ["glad"])
        check("an enum as a parameter", tuple(kinds[0]), ("sad", ["glad"]))


async def pooled(side):
    """The driver's own pool, which sends RESET ALL and more at every release."""
    for url in (side.url, side.freed):
        async with asyncpg.create_pool(url, min_size=2, max_size=3) as pool:

            async def use(n):
                async with pool.acquire() as c:
                    check("a pool's connection", await sees(c), [side.own])
                    left = await c.fetchval("select current_setting('application_name') || coalesce(current_setting('app.mark', true), '')")
                    check("nothing left behind in a pool", left, "")
                    await c.execute("set application_name = 'left'")
                    if url == side.freed:
                        await c.execute("set app.mark = 'x'")
                        if not stand.TRANSACTION:
                            await c.execute("select pg_advisory_lock_shared(7); listen left_behind")

            await asyncio.gather(*(use(n) for n in range(12)))
    # One server connection for both tenants: they take turns.
    for _ in range(4):
        async with asyncpg.create_pool(side.narrow, min_size=1, max_size=1, timeout=120) as pool:
            for _ in range(3):
                async with pool.acquire() as c:
                    check("one server connection: its own rows", await sees(c), [side.own])
                    sql = (
                        "select (select count(*) from pg_class where relname = 'left_behind'"
                        " and pg_table_is_visible(oid)) + (select count(*) from pg_listening_channels())"
                        " + (select count(*) from pg_cursors where name = 'left_behind')"
                    )
                    # Within a pool temporary tables stay, as with Postgres itself.
                    check("nothing left behind by the other", await c.fetchval(sql), 0)
                    await c.execute("listen left_behind")
                    await c.execute("declare left_behind cursor with hold for select * from projects")
                    await c.execute("set search_path = pg_catalog")


async def moving(side):
    """What a transaction finds on the next server connection."""
    async with connected(side.url) as c:
        await stand.check_moves_async(lambda: c.fetchval("select pg_backend_pid()"))
    async with connected(side.freed) as c:
        for statement in stand.REFUSED:
            error = await refused(statement, asyncpg.FeatureNotSupportedError, c.execute(statement))
            check_in("says what to do", "session_statements", error.hint)
            await refused("as a prepared statement, too", asyncpg.FeatureNotSupportedError, c.fetch(statement))
            check("and goes on", await sees(c), [side.own])
    async with connected(side.url) as c:
        insert = "insert into crm_leads (full_name, email) values ($1, $2) returning id"
        ids = []
        for n in range(20):
            async with c.transaction():
                ids.append(await c.fetchval(insert, f"moving{n}", f"moving{n}@asyncpg.example.org"))
                try:
                    async with c.transaction():
                        await c.fetchval(insert, f"moving{n}", f"moving{n}@asyncpg.example.org")
                except asyncpg.UniqueViolationError:
                    pass
            got = await c.fetch("update crm_leads set status = 'won' where id = $1 returning tenant_id::text", ids[-1])
            check("found on the next connection", [row[0] for row in got], [side.own])
        got = await c.execute("delete from crm_leads where id = any($1)", ids)
        check("and deleted", got, "DELETE 20")
    async with connected(side.freed) as c:
        async with c.transaction():
            await c.execute("create temporary table t (n int8, x text) on commit drop")
            got = await c.copy_records_to_table("t", records=[(n, "é") for n in range(5000)])
            check("COPY FROM in a transaction", (got, await c.fetchval("select count(*) from t")), ("COPY 5000", 5000))
    async with connected(side.url, server_settings=stand.WISHES) as c:
        for wishes, change in ((stand.WISHES, "select 1"), (stand.CHANGED, stand.CHANGE), (stand.WISHES, "reset all")):
            await c.execute(change)
            for _ in range(20):
                got = tuple(await c.fetchrow(stand.SHOW))
                check(f"settings after {change[:20]}", got, tuple(wishes.values()))
                check("as the driver was told", c.get_settings().TimeZone, wishes["TimeZone"])
    async with asyncpg.create_pool(side.url, min_size=2, max_size=2, server_settings=stand.WISHES) as pool:
        for _ in range(10):
            async with pool.acquire() as c, c.transaction():
                got = (tuple(await c.fetchrow(stand.SHOW)), await sees(c))
                check("in a pool", got, (tuple(stand.WISHES.values()), [side.own]))
                await c.execute("set timezone = 'UTC'; set search_path = pg_catalog")


async def everyday(side):
    try:
        for part in (
            rows, transactions, statements, parameters, cursors_and_copy, cancelling, notifications, errors,
            settings, introspection, pooled,
        ):
            await part(side)
        if stand.TRANSACTION:
            await moving(side)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


async def refused_login(what, expected, part, url, **arguments):
    try:
        await asyncpg.connect(url, **arguments)
    except asyncpg.PostgresError as error:
        check(what, type(error), expected)
        check_in(what, part, str(error))
        return
    check(what, "accepted", expected)


async def logins():
    invalid = asyncpg.InvalidPasswordError
    await refused_login("a forged token", invalid, "token was not accepted", stand.FORGED_URL)
    await refused_login("an expired token", invalid, "token has expired", stand.EXPIRED_URL)
    await refused_login("a password", invalid, "token", SIDES[0].url, password="secret")
    other = stand.with_user(SIDES[0].url, "cloison_owner")
    await refused_login("a token on another road", asyncpg.InvalidAuthorizationSpecificationError, "token is not valid", other)
    await refused_login("an unknown database", asyncpg.InvalidCatalogNameError, "does not exist", SIDES[0].url, database="x")


async def other_roads():
    async with connected(stand.SUPERADMIN_URL) as c:
        check("the super-admin before", await sees(c), [])
        await c.execute("select enable_superadmin_mode()")
        check("the super-admin after", len(await sees(c)), 3)
    async with connected(stand.OWNER_URL) as c:
        await c.execute("create table asyncpg_owned (n integer primary key, t text)")
        try:
            await c.copy_records_to_table("asyncpg_owned", records=[(n, "x") for n in range(1000)])
            check("the owner's COPY", await c.fetchval("select count(*) from asyncpg_owned"), 1000)
        finally:
            await c.execute("drop table asyncpg_owned")


async def main():
    await asyncio.gather(*(everyday(side) for side in SIDES))
    await logins()
    if not stand.TRANSACTION:
        await other_roads()


asyncio.run(main())
stand.finish()
