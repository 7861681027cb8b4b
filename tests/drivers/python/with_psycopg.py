"""Everyday work of psycopg 3, as two tenants at once, the super-admin and the owner."""

import asyncio
import datetime
import decimal
import os
import threading
import time
import uuid

import psycopg
from psycopg import errors, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

import stand
from stand import ONLY, TWICE, SIDES, check, check_in


def sees(connection):
    return [row[0] for row in connection.execute(ONLY).fetchall()]


def refused(what, expected, work):
    try:
        work()
    except psycopg.Error as error:
        check(what, (type(error), error.sqlstate), (expected, expected.sqlstate))
        return error
    check(what, "accepted", expected)


def rows(side):
    with psycopg.connect(side.url) as c:
        check("reads its own rows", sees(c), [side.own])
        with c.transaction(force_rollback=True):
            insert = "insert into crm_leads (full_name, email) values (%s, %s) returning tenant_id::text"
            got = c.execute(insert, ("psycopg", "psycopg@example.org")).fetchone()
            check("insert is given its tenant", got[0], side.own)
            c.execute("update crm_leads set status = 'lost'")
            got = c.execute("delete from crm_leads returning tenant_id::text").fetchall()
            check("a delete of everything is of its own", {row[0] for row in got}, {side.own})
            check("nothing is left", c.execute("select count(*) from crm_leads").fetchone()[0], 0)
            got = c.execute("delete from crm_leads where tenant_id = %s", (side.other,)).rowcount
            check("nothing of another tenant's can be deleted", got, 0)
        got = c.execute("select count(*) from crm_leads where status <> 'lost'").fetchone()[0]
        check("a rollback brings it back", got >= 3, True)
        c.commit()
        insert = "insert into crm_leads (tenant_id, full_name, email) values (%s, 'x', 'x')"
        refused("a foreign tenant_id", errors.InsufficientPrivilege, lambda: c.execute(insert, (side.other,)))
        c.rollback()
        with c.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute("select tenant_id, name from projects limit 1").fetchone()
            check("rows as dictionaries, uuid by type", row["tenant_id"], uuid.UUID(side.own))
        many = [(f"many{n}", f"many{n}@example.org") for n in range(100)]
        with c.transaction(force_rollback=True), c.cursor() as cursor:
            cursor.executemany(
                "insert into crm_leads (full_name, email) values (%s, %s) returning tenant_id::text",
                many,
                returning=True,
            )
            got = {result.fetchone()[0] for result in cursor.results()}
            check("executemany", got, {side.own})


def transactions(side):
    with psycopg.connect(side.session, autocommit=True) as c:
        c.execute("create temporary table t (n integer)")
        with c.transaction():
            c.execute("insert into t values (1)")
            try:
                with c.transaction():
                    c.execute("insert into t values (2)")
                    c.execute("select 1 / 0")
            except errors.DivisionByZero:
                pass
            c.execute("insert into t values (4)")
        check("savepoints", c.execute("select sum(n) from t").fetchone()[0], 5)
        for level in psycopg.IsolationLevel:
            c.isolation_level = level
            c.read_only = True
            with c.transaction():
                got = c.execute("show transaction_isolation").fetchone()[0]
                check("isolation level", got.replace(" ", "_").upper(), level.name)
            with c.transaction():
                c.execute("savepoint s")
                refused(
                    "a read-only transaction",
                    errors.ReadOnlySqlTransaction,
                    lambda: c.execute("update projects set name = name"),
                )
                c.execute("rollback to s")
        check("status", c.info.transaction_status.name, "IDLE")


def statements(side):
    with psycopg.connect(side.url, prepare_threshold=0, autocommit=True) as c:
        for n in range(20):
            got = c.execute("select %s || tenant_id::text from projects", (side.name,)).fetchall()
            check("statement by name, reused", {row[0] for row in got}, {side.name + side.own})
        # DISCARD ALL undoes them behind the driver's back; the driver is told to begin anew.
        c.execute("deallocate all")
        check("after DEALLOCATE ALL", sees(c), [side.own])
    with psycopg.connect(side.session, autocommit=True) as c:
        c.execute(f"prepare shared as select '{side.name}' || $1::text")
        got = c.execute("execute shared('x')").fetchone()[0]
        check("PREPARE in SQL", got, side.name + "x")


def parameters(side):
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
        (psycopg.types.range.Range(1, 5), "int4range"),
    ]
    for binary in (False, True):
        with psycopg.connect(side.url, autocommit=True) as c, c.cursor(binary=binary) as cursor:
            for value, kind in values:
                got = cursor.execute(f"select %{'b' if binary else 's'}::{kind}", (value,)).fetchone()[0]
                check(f"{kind}, {'binary' if binary else 'text'}", got, value)
            document = {"clé": [1, None, {"é": 1.5}]}
            got = cursor.execute("select %s::jsonb", (Jsonb(document),)).fetchone()[0]
            check("jsonb", got, document)


def pipelines(side):
    with psycopg.connect(side.url, autocommit=True) as c:
        with c.pipeline():
            cursors = [
                c.execute("select %s::int4, tenant_id::text from projects limit 1", (n,)) for n in range(200)
            ]
        got = [cursor.fetchone() for cursor in cursors]
        check("a pipeline of 200", got, [(n, side.own) for n in range(200)])

        def fails():
            with c.pipeline():
                c.execute("select 1")
                c.execute("select 1 / 0")
                c.execute("select 2")

        refused("an error in a pipeline", errors.DivisionByZero, fails)
        with c.pipeline() as pipeline:
            c.execute("reset all")
            pipeline.sync()
            behind = c.execute(ONLY)
        check("rows behind RESET ALL and a Sync", behind.fetchall(), [(side.own,)])

        def no_sync():
            with c.pipeline():
                c.execute("reset all")
                c.execute(ONLY)

        if stand.TRANSACTION:
            no_sync()
        else:
            # Within one implicit transaction there is no place to bind again: it ends in an error.
            refused("rows behind RESET ALL without a Sync", errors.InsufficientPrivilege, no_sync)
        check("after the pipeline", sees(c), [side.own])


def cursors_and_copy(side):
    with psycopg.connect(side.url) as c:
        with c.cursor("named") as cursor:
            cursor.itersize = 1000
            total = 0
            for n, tenant in cursor.execute(
                "select n, tenant_id::text from generate_series(1, 100000) n, (select tenant_id from projects limit 1) p"
            ):
                total += 1
                if tenant != side.own or n != total:
                    check("a server-side cursor", (n, tenant), (total, side.own))
        check("a server-side cursor of 100,000 rows", total, 100_000)
        c.commit()
        with c.cursor() as cursor:
            got = sum(1 for _ in cursor.stream("select generate_series(1, 100000)"))
            check("single-row mode", got, 100_000)
            with cursor.copy("copy (select tenant_id from projects) to stdout") as copy:
                check("COPY TO", {row[0] for row in copy.rows()}, {side.own})
            with cursor.copy("copy (select generate_series(1, 100000)) to stdout (format binary)") as copy:
                copy.set_types(["int4"])
                check("COPY TO, binary", sum(row[0] for row in copy.rows()), 5_000_050_000)
    with psycopg.connect(side.freed) as c:
        with c.cursor() as cursor:
            cursor.execute("create temporary table t (n int4, x text) on commit drop")
            with cursor.copy("copy t from stdin") as copy:
                for n in range(50_000):
                    copy.write_row((n, "é\t\\"))
            got = cursor.execute("select count(*), min(x) from t").fetchone()
            check("COPY FROM into a table of its own", got, (50_000, "é\t\\"))

            def abandon():
                with cursor.copy("copy t from stdin") as copy:
                    copy.write_row((1, "x"))
                    raise ZeroDivisionError

            try:
                abandon()
            except ZeroDivisionError:
                c.rollback()

            mark = f"copied {os.getpid()}"
            copied = f"select count(*), min(tenant_id::text) from projects where name like '{mark} %'"
            with cursor.copy("copy projects (name) from stdin") as copy:
                for n in range(10_000):
                    copy.write_row((f"{mark} {n}\t",))
            check("COPY FROM into a table under policies", cursor.statusmessage, "COPY 10000")
            check("its rows", cursor.execute(copied).fetchone(), (10_000, side.own))
            c.rollback()
            with cursor.copy("copy projects (name, budget_cents) from stdin (format binary)") as copy:
                copy.set_types(["text", "int8"])
                copy.write_row((f"{mark} 1", 7))
            check("in binary", cursor.execute(copied).fetchone(), (1, side.own))
            c.rollback()

            def copy_in():
                with cursor.copy("copy projects (tenant_id, name) from stdin") as copy:
                    copy.write_row((side.other, "x"))

            refused("COPY FROM with another tenant's row", errors.InsufficientPrivilege, copy_in)
            c.rollback()
            try:
                with cursor.copy("copy projects (name) from stdin") as copy:
                    copy.write_row((mark,))
                    raise ZeroDivisionError
            except ZeroDivisionError:
                c.rollback()
            check("after COPY", sees(c), [side.own])
    with psycopg.connect(side.session) as c, c.cursor("named", scrollable=True, withhold=True) as cursor:
        cursor.execute("select tenant_id::text from projects")
        cursor.scroll(1)
        c.commit()
        check("a cursor WITH HOLD after the commit", cursor.fetchone()[0], side.own)


def cancelling(side):
    with psycopg.connect(side.url, autocommit=True) as c:
        for cancel in (c.cancel, c.cancel_safe):
            stop = threading.Event()

            def keep_cancelling():
                while not stop.wait(0.2):
                    cancel()

            thread = threading.Thread(target=keep_cancelling)
            thread.start()
            begun = time.monotonic()
            refused("a cancelled sleep", errors.QueryCanceled, lambda: c.execute("select pg_sleep(60)"))
            stop.set()
            thread.join()
            check("long before its end", time.monotonic() - begun < 30, True)
            while True:
                try:
                    got = sees(c)
                    break
                except errors.QueryCanceled:
                    pass
            check("after a cancel", got, [side.own])
        c.execute("set statement_timeout = 50")
        refused("statement_timeout", errors.QueryCanceled, lambda: c.execute("select pg_sleep(60)"))


def notifications(side):
    with psycopg.connect(side.session, autocommit=True) as listener, psycopg.connect(side.freed, autocommit=True) as sender:
        channel = f"psycopg_{side.name}"
        listener.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        sender.execute("select pg_notify(%s, 'salut')", (channel,))
        got = next(listener.notifies(timeout=20))
        check("a notification", (got.channel, got.payload), (channel, "salut"))
        if not stand.TRANSACTION:
            check("its sender", got.pid, sender.info.backend_pid)
            check("the process id is the true one", sender.execute("select pg_backend_pid()").fetchone()[0], sender.info.backend_pid)


def errors_and_notices(side):
    with psycopg.connect(side.url, autocommit=True) as c:
        error = refused("an unknown column", errors.UndefinedColumn, lambda: c.execute("select no_such from projects"))
        check("its position", error.diag.statement_position, "8")
        error = refused("a unique violation", errors.UniqueViolation, lambda: c.execute(TWICE))
        check("its table", (error.diag.table_name, error.diag.constraint_name), ("crm_leads", "crm_leads_tenant_id_email_key"))
        check("Postgres keeps the values of protected rows to itself", error.diag.message_detail, None)
    with psycopg.connect(side.freed, autocommit=True) as c:
        with c.transaction(force_rollback=True):
            c.execute("create temporary table t (n integer primary key) on commit drop")
            error = refused("another", errors.UniqueViolation, lambda: c.execute("insert into t values (1), (1)"))
        check("its detail", error.diag.message_detail, "Key (n)=(1) already exists.")
        notices = []
        c.add_notice_handler(lambda notice: notices.append((notice.sqlstate, notice.message_primary)))
        c.execute("do $$ begin raise notice 'hello' using errcode = 'CL123'; end $$")
        check("a notice", notices, [("CL123", "hello")])
    c = psycopg.connect(side.freed, autocommit=True)
    refused("a terminated connection", errors.AdminShutdown, lambda: c.execute("select pg_terminate_backend(pg_backend_pid())"))
    check("is closed", c.closed, True)


def settings(side):
    options = "-c statement_timeout=54321 -c DateStyle=German -c search_path=public"
    with psycopg.connect(
        side.url, autocommit=True, application_name="psycopg", client_encoding="latin1", options=options
    ) as c:
        show = lambda name: c.execute(f"show {name}").fetchone()[0]
        check("client_encoding at startup", c.info.encoding, "iso8859-1")
        check("text in it", c.execute("select 'é', length('é')").fetchone(), ("é", 1))
        for undo in ("reset all", "discard all", "reset datestyle; reset application_name; reset client_encoding"):
            c.execute("set datestyle = 'ISO, YMD'; set application_name = 'other'; set client_encoding = 'utf8'; set timezone = 'Asia/Tokyo'")
            check("SET is told to the driver", (c.info.encoding, c.info.parameter_status("DateStyle"), str(c.info.timezone)), ("utf-8", "ISO, YMD", "Asia/Tokyo"))
            c.execute(undo)
            got = (c.info.encoding, c.info.parameter_status("DateStyle"), show("datestyle"), show("application_name"))
            check(f"{undo}: back to the client's own", got, ("iso8859-1", "German, DMY", "German, DMY", "psycopg"))
            check("statement_timeout too", show("statement_timeout"), "54321ms")
            check(f"{undo}: the tenant stays", sees(c), [side.own])
            if undo == "discard all":
                # The driver does not know that its prepared statements are gone.
                c._prepared.clear()
    for name, value in (("role", "postgres"), ("cloison.context", "x"), ("row_security", "off")):
        try:
            psycopg.connect(side.url, options=f"-c {name}={value}")
            check(f"{name} at startup", "accepted", "refused")
        except psycopg.OperationalError as error:
            check_in(f"{name} at startup", "is refused", str(error))


def introspection(side):
    with psycopg.connect(side.url, autocommit=True) as c:
        got = c.execute(
            "select column_name from information_schema.columns where table_name = 'projects' order by ordinal_position limit 2"
        ).fetchall()
        check("information_schema", got, [("tenant_id",), ("id",)])
        info = psycopg.types.TypeInfo.fetch(c, "projects")
        check("type lookup", info.name, "projects")
        row = psycopg.types.composite.CompositeInfo.fetch(c, "projects")
        check("a composite's fields", row.field_names[:2], ("tenant_id", "id"))
        check("a range's look-up", psycopg.types.range.RangeInfo.fetch(c, "int4range").subtype_oid, 23)
        check("a multirange's look-up", psycopg.types.multirange.MultirangeInfo.fetch(c, "int4multirange").subtype_oid, 23)
    with psycopg.connect(side.session) as c:
        c.execute("create type pg_temp.mood as enum ('sad', 'glad')")
        mood = psycopg.types.enum.EnumInfo.fetch(c, "pg_temp.mood")
        check("an enum's labels", list(mood.labels), ["sad", "glad"])
        psycopg.types.enum.register_enum(mood, c)
        got = c.execute("select array['glad']::pg_temp.mood[]").fetchone()[0]
        check("an array of an enum", [value.name for value in got], ["glad"])
        c.rollback()
    with psycopg.connect(side.url, autocommit=True) as c:
        cursor = c.execute("select * from projects")
        check("columns", cursor.description[0].name, "tenant_id")


def pooled(side):
    """The driver's own pool on a proxy with one server connection in each pool."""

    def reset(c):
        c.execute("discard all")
        # The driver does not know that its prepared statements are gone.
        c._prepared.clear()

    opened = []
    # The tenants take turns: a pool that keeps its connection keeps the server's.
    for _ in range(4):
        with ConnectionPool(
            side.narrow,
            min_size=1,
            max_size=1,
            kwargs={"autocommit": True},
            configure=opened.append,
            reset=reset,
            check=ConnectionPool.check_connection,
            timeout=120,
        ) as pool:
            pool.wait(120)
            for _ in range(3):
                with pool.connection() as c:
                    check("one server connection: its own rows", sees(c), [side.own])
                    left = c.execute(
                        "select (select count(*) from pg_class where relname = 'left_behind'),"
                        " (select count(*) from pg_cursors where name <> ''), current_setting('application_name')"
                    ).fetchone()
                    check("nothing left behind", left, (0, 0, ""))
                    c.execute("create temporary table left_behind (); set application_name = 'left'; prepare left_behind as select 1")
                    c.execute("declare left_behind cursor with hold for select * from projects")
        # A pool that is closed while a worker resets a connection leaves that one open.
        for c in opened:
            c.close()


def moving(side):
    """What a transaction finds on the next server connection."""
    with psycopg.connect(side.url, autocommit=True) as c:
        stand.check_moves(c.execute("select pg_backend_pid()").fetchone()[0] for _ in range(2000))
    with psycopg.connect(side.freed, autocommit=True) as c:
        for statement in stand.REFUSED:
            error = refused(statement, errors.FeatureNotSupported, lambda: c.execute(statement))
            check_in("says what to do", "session_statements", error.diag.message_hint)
            check("and goes on", sees(c), [side.own])
        with c.transaction():
            refused("in a transaction", errors.FeatureNotSupported, lambda: c.execute("listen news"))
            refused("it fails", errors.InFailedSqlTransaction, lambda: c.execute("select 1"))
            raise psycopg.Rollback
    with psycopg.connect(side.url, autocommit=True) as c:
        insert = "insert into crm_leads (full_name, email) values (%s, %s) returning id, tenant_id::text"
        ids = []
        for n in range(20):
            with c.transaction():
                id, tenant = c.execute(insert, (f"moving{n}", f"moving{n}@psycopg.example.org")).fetchone()
                check("a committed row is its tenant's", tenant, side.own)
                ids.append(id)
            got = c.execute("update crm_leads set status = 'won' where id = %s returning tenant_id::text", (id,)).fetchall()
            check("and found on the next connection", got, [(side.own,)])
        got = c.execute("delete from crm_leads where id = any(%s)", (ids,)).rowcount
        check("and deleted", got, 20)
    with psycopg.connect(side.url, options=stand.OPTIONS, autocommit=True) as c:
        for wishes, change in ((stand.WISHES, "select 1"), (stand.CHANGED, stand.CHANGE), (stand.WISHES, "reset all")):
            c.execute(change)
            for _ in range(20):
                check(f"settings after {change[:20]}", c.execute(stand.SHOW).fetchone(), tuple(wishes.values()))
                told = [c.info.parameter_status(name) for name in ("application_name", "TimeZone", "DateStyle")]
                check("as the driver was told", told, [wishes[name] for name in ("application_name", "TimeZone", "DateStyle")])
        with c.transaction(force_rollback=True):
            c.execute(stand.CHANGE)
            check("settings in a transaction", c.execute(stand.SHOW).fetchone(), tuple(stand.CHANGED.values()))
        for _ in range(5):
            check("settings after its rollback", c.execute(stand.SHOW).fetchone(), tuple(stand.WISHES.values()))
        with c.transaction():
            c.execute("set local timezone = 'UTC'")
            check("SET LOCAL", c.execute("show timezone").fetchone()[0], "UTC")
        check("SET LOCAL is over", c.execute("show timezone").fetchone()[0], "Asia/Tokyo")


async def asynchronous(side):
    async with await psycopg.AsyncConnection.connect(side.url, prepare_threshold=2) as c:
        for n in range(10):
            async with c.transaction():
                got = await c.execute(f"select %s, tenant_id::text, '{side.name}' from projects limit 1", (n,))
                check("an async transaction", await got.fetchone(), (n, side.own, side.name))
            async with c.transaction(), c.cursor("named") as cursor:
                cursor.itersize = 10
                await cursor.execute("select tenant_id::text from projects, generate_series(1, 50)")
                check("an async server-side cursor", {row[0] async for row in cursor}, {side.own})
            async with c.pipeline():
                got = [await c.execute("select %s::int4", (m,)) for m in range(10)]
            check("an async pipeline", [(await one.fetchone())[0] for one in got], list(range(10)))
            await c.commit()


def asynchronously(side):
    asyncio.run(asynchronous(side))


def everyday(side):
    for part in (
        rows, transactions, statements, parameters, pipelines, cursors_and_copy, cancelling, notifications,
        errors_and_notices, settings, introspection, asynchronously, pooled,
    ):
        part(side)
    if stand.TRANSACTION:
        moving(side)


def guarded(side):
    try:
        everyday(side)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def logins():
    for what, url in (("a forged token", stand.FORGED_URL), ("an expired token", stand.EXPIRED_URL)):
        refused_login(what, url)
    refused_login("a token on another road", stand.with_user(SIDES[0].url, "cloison_owner"))
    try:
        psycopg.connect(stand.EXPIRED_URL)
    except psycopg.OperationalError as error:
        check_in("an expired token is told", "token has expired", str(error))


def refused_login(what, url):
    try:
        psycopg.connect(url)
    except psycopg.OperationalError as error:
        result = error.pgconn.error_message.decode() if error.pgconn else str(error)
        check_in(what, "FATAL:  token", result)
        return
    check(what, "accepted", "refused")


def other_roads():
    with psycopg.connect(stand.SUPERADMIN_URL, autocommit=True) as c:
        check("the super-admin before", sees(c), [])
        c.execute("select enable_superadmin_mode()")
        check("the super-admin after", len(sees(c)), 3)
    with psycopg.connect(stand.OWNER_URL, autocommit=True) as c:
        c.execute("create table psycopg_owned (n integer primary key, t text)")
        try:
            with c.cursor().copy("copy psycopg_owned from stdin") as copy:
                for n in range(1000):
                    copy.write_row((n, "x"))
            c.execute("create index concurrently on psycopg_owned (t)")
            check("the owner's COPY", c.execute("select count(*) from psycopg_owned").fetchone()[0], 1000)
        finally:
            c.execute("drop table psycopg_owned")


threads = [threading.Thread(target=guarded, args=(side,)) for side in SIDES]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
logins()
if not stand.TRANSACTION:
    other_roads()
stand.finish()
