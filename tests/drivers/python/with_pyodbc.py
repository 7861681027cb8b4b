"""Everyday work of psqlODBC, by pyodbc, as two tenants at once, and the owner."""

import contextlib
import datetime
import decimal
import glob
import os
import threading
import urllib.parse
import uuid

import pyodbc

import stand
from stand import ONLY, SIDES, TRANSACTION, check, check_in

MODE = os.environ["POOL_MODE"]
TABLE = f"with_pyodbc_{MODE}"
DRIVER = glob.glob("/usr/lib/*/odbc/psqlodbcw.so")[0]
INSERT = "insert into crm_leads (full_name, email) values (?, ?)"
# The driver's own pool would hand connections on.
pyodbc.pooling = False


def connect(url, autocommit=True, **options):
    at = urllib.parse.urlsplit(url)
    words = {
        "Driver": DRIVER,
        "Server": at.hostname,
        "Port": at.port,
        "Database": at.path.strip("/"),
        "UID": at.username,
        "PWD": at.password,
        **options,
    }
    text = ";".join(f"{name}={value}" for name, value in words.items())
    # Without this `with` would commit, and no more.
    return contextlib.closing(pyodbc.connect(text, autocommit=autocommit))


def email(n):
    return f"{n}@odbc.{MODE}.example.org"


def column(c, text, *values):
    return [row[0] for row in c.execute(text, *values).fetchall()]


def refused(what, state, work):
    try:
        work()
    except pyodbc.Error as error:
        check(what, error.args[0], state)
        return error.args[1]
    check(what, "accepted", state)


def rows(side):
    with connect(side.url, autocommit=False) as c:
        check("reads its own rows", column(c, ONLY), [side.own])
        c.execute(INSERT, "odbc", email(0))
        check("insert is given its tenant", column(c, "select tenant_id::text from crm_leads where email = ?", email(0)), [side.own])
        got = c.execute("delete from crm_leads where tenant_id = ?", side.other).rowcount
        check("nothing of another tenant's is deleted", got, 0)
        # The driver sets a savepoint ahead of each statement, and goes back to it.
        refused("a unique violation", "23505", lambda: c.execute(INSERT, "odbc", email(0)))
        check("the transaction goes on", column(c, ONLY), [side.own])
        foreign = "insert into crm_leads (tenant_id, full_name, email) values (?, 'x', 'x')"
        refused("another tenant's row", "42501", lambda: c.execute(foreign, side.other))
        refused("a row moved to another tenant", "42501", lambda: c.execute("update crm_leads set tenant_id = ?", side.other))
        refused("an unknown column", "42703", lambda: c.execute("select no_such from projects"))
        check("and goes on", column(c, ONLY), [side.own])
        c.rollback()
        check("a rollback", column(c, "select count(*) from crm_leads where email = ?", email(0)), [0])


def prepared(side):
    document = '{"clé": [1, null]}'
    # On the server, which is the default, and with the values in the text.
    for way in ({}, {"UseServerSidePrepare": 0}, {"Protocol": "7.4-0"}):
        with connect(side.url, **way) as c:
            cursor = c.cursor()
            for n in range(3):
                values = (n, decimal.Decimal("-12345.0001"), datetime.datetime(2026, 2, 28, 23, 59, 59, 999999), "é'\\", document, b"\0\xff\\'", None)
                text = (
                    "select p.tenant_id::text, ?::int4, ?::numeric(10,4), ?::timestamp, ?::text, ?::jsonb::text, "
                    "?::bytea, ?::text from projects p limit 1"
                )
                row = cursor.execute(text, values).fetchone()
                check(f"a statement, {way}", tuple(row), (side.own, *values))
            array = cursor.execute("select array_to_string(?::text[], '|')", '{"a b",é}').fetchone()[0]
            check("an array", array, "a b|é")
            check("a uuid", str(uuid.UUID(str(column(c, "select tenant_id from projects limit 1")[0]))), side.own)


def batches(side):
    with connect(side.url, autocommit=False) as c:
        cursor = c.cursor()
        for fast in (False, True):
            cursor.fast_executemany = fast
            cursor.executemany(INSERT, [("odbc", email(n)) for n in range(50)])
            got = column(c, "select count(*) from crm_leads where email like ? and tenant_id = ?", email("%"), side.own)
            check("executemany", got, [50])
            c.rollback()
    # A cursor of the server's, page by page. The driver declares it WITH HOLD, which needs a session.
    text = "select p.tenant_id::text from generate_series(1, 1000), (select tenant_id from projects limit 1) p"
    with connect(side.session, autocommit=False, UseDeclareFetch=1, Fetch=100) as c:
        check("a cursor", column(c, text), [side.own] * 1000)
    if TRANSACTION:
        with connect(side.url, UseDeclareFetch=1) as c:
            told = refused("a cursor", "0A000", lambda: c.execute(text))
            check_in("is told why", "WITH HOLD does not work with transaction pooling", told)


def catalogue(side):
    with connect(side.url) as c:
        cursor = c.cursor()
        check("SQLTables", [row.table_name for row in cursor.tables(table="crm%", schema="public", tableType="TABLE")], ["crm_deals", "crm_leads"])
        columns = [row.column_name for row in cursor.columns(table="projects", schema="public")]
        check("SQLColumns", columns, ["tenant_id", "id", "name", "description", "status", "budget_cents", "due_on", "created_at"])
        keys = {row.column_name for row in cursor.primaryKeys("projects", schema="public")}
        check("SQLPrimaryKeys", keys, {"tenant_id", "id"})
        check("SQLForeignKeys", {row.pktable_name for row in cursor.foreignKeys(foreignTable="crm_deals")}, {"crm_leads", "tenants"})


def sessions(side):
    with connect(side.url, ConnSettings="set timezone = 'Asia/Tokyo'", ApplicationName="odbc") as c:
        for _ in range(4):
            check("as the driver starts with", column(c, "show timezone"), ["Asia/Tokyo"])
        c.execute("set timezone = 'America/Lima'")
        for _ in range(4):
            check("its SET", column(c, "show timezone"), ["America/Lima"])
        cursor = c.cursor()
        timer = threading.Timer(0.5, cursor.cancel)
        timer.start()
        refused("a cancelled query", "57014", lambda: cursor.execute("select pg_sleep(60)"))
        timer.join()
        check("after a cancel", column(c, ONLY), [side.own])
    with connect(side.freed if TRANSACTION else side.url) as c:
        state = "0A000" if TRANSACTION else "42501"
        refused("LISTEN", state, lambda: c.execute("listen news"))
        check("and goes on", column(c, ONLY), [side.own])
    for _ in range(2):
        with connect(side.narrow) as c:
            for _ in range(3):
                got = column(c, f"select '{side.name}' || tenant_id from projects where id is distinct from ?", side.other)
                check("one server connection: its own rows", set(got), {side.name + side.own})


def migrating():
    """The owner changes a table under the tenants' prepared statements."""
    with connect(stand.OWNER_URL) as owner:
        owner.execute(f"drop table if exists {TABLE}")
        make = f"create table {TABLE} (id int generated always as identity, word text, n bigint)"
        owner.execute(f"begin; {make}; select cloison.protect('{TABLE}'); commit")
        cursors = []
        for side in SIDES:
            c = connect(side.url).thing
            c.execute(f"insert into {TABLE} (word, n) values (?, 7)", side.name)
            cursor = c.cursor()
            for _ in range(2):
                check("before the change", tuple(cursor.execute(f"select word, n from {TABLE} where id > ?", 0).fetchone()), (side.name, 7))
            cursors.append((side, c, cursor))
        owner.execute(f"alter table {TABLE} alter n type double precision, add extra text default 'new'")
        for side, c, cursor in cursors:
            # The driver prepares anew by itself where Postgres asks for it.
            row = cursor.execute(f"select word, n from {TABLE} where id > ?", 0).fetchone()
            check("a statement that it touches", tuple(row), (side.name, 7.0))
            row = c.cursor().execute(f"select word, n, extra from {TABLE} where id > ?", 0).fetchone()
            check("prepared again", tuple(row), (side.name, 7.0, "new"))
            c.close()
        owner.execute(f"drop table {TABLE}")


def everyday(side):
    try:
        rows(side)
        prepared(side)
        batches(side)
        catalogue(side)
        sessions(side)
    except BaseException as error:
        check("a thread", repr(error), None)


threads = [threading.Thread(target=everyday, args=(side,)) for side in SIDES]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
migrating()
told = refused("an expired token", "08001", lambda: connect(stand.EXPIRED_URL))
check_in("is told", "token has expired", told)
stand.finish()
