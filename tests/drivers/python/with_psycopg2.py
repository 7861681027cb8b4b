"""Everyday work of psycopg 2, as two tenants at once."""

import os
import threading
import time
import traceback

import psycopg2
from psycopg2 import errors, extras

import stand
from stand import ONLY, SIDES, check, check_in


# The driver sets DateStyle to ISO in each connection that has another.
WISHES = tuple((stand.WISHES | {"DateStyle": "ISO, DMY"}).values())


def one(c, sql, values=None):
    with c.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def refused(what, expected, work):
    try:
        work()
    except expected as error:
        check(what, error.pgcode is not None, True)
        return error
    check(what, "accepted", expected)


def everyday(side):
    c = psycopg2.connect(side.url, options=stand.OPTIONS)
    for n in range(20):
        with c:
            check("its own rows", one(c, ONLY), [(side.own,)])
            got = one(c, stand.SHOW)
            check("settings at startup", got, [WISHES])
    with c, c.cursor() as cursor:
        rows = [(f"many{n}", f"many{n}@psycopg2.example.org") for n in range(50)]
        got = extras.execute_values(
            cursor, "insert into crm_leads (full_name, email) values %s returning tenant_id::text", rows, fetch=True
        )
        check("execute_values", set(got), {(side.own,)})
    with c:
        got = one(c, "update crm_leads set status = 'won' where email like 'many%psycopg2%' returning tenant_id::text")
        check("found in the next transaction", (len(got), set(got)), (50, {(side.own,)}))
        one(c, "savepoint s")
        refused("an error", errors.DivisionByZero, lambda: one(c, "select 1 / 0"))
        one(c, "rollback to s")
        check("deleted", one(c, "delete from crm_leads where email like 'many%%psycopg2%%' and %s", (True,)), 50)
    with c, c.cursor("named") as cursor:
        cursor.itersize = 100
        cursor.execute("select n, tenant_id::text from generate_series(1, 2000) n, (select tenant_id from projects limit 1) p")
        check("a server-side cursor", sum(row[1] == side.own for row in cursor), 2000)
    with c, c.cursor() as cursor, open(os.devnull, "w") as out:
        cursor.copy_expert("copy (select tenant_id from projects) to stdout", out)
    freed = psycopg2.connect(side.freed)
    with freed, freed.cursor() as cursor:
        cursor.execute("create temporary table t (n integer) on commit drop")
        with os.fdopen(os.memfd_create("numbers"), "w+") as numbers:
            numbers.writelines(f"{n}\n" for n in range(5000))
            numbers.seek(0)
            cursor.copy_expert("copy t from stdin", numbers)
        cursor.execute("select count(*) from t")
        check("COPY", cursor.fetchone(), (5000,))
    # The driver asks for these with SET SESSION CHARACTERISTICS, and of a transaction with BEGIN.
    c.set_session(isolation_level="SERIALIZABLE", readonly=True)
    for _ in range(5):
        with c:
            check("isolation level", one(c, "show transaction_isolation"), [("serializable",)])
            check("read-only", one(c, "show transaction_read_only"), [("on",)])
    c.set_session(isolation_level="DEFAULT", readonly="DEFAULT", autocommit=True)
    one(c, stand.CHANGE)
    for _ in range(10):
        check("SET", one(c, stand.SHOW), [tuple(stand.CHANGED.values())])
    c.reset()
    c.autocommit = True
    for _ in range(10):
        check("after reset()", one(c, stand.SHOW), [WISHES])
    one(c, "set session characteristics as transaction isolation level repeatable read")
    for _ in range(5):
        check("session characteristics", one(c, "show transaction_isolation"), [("repeatable read",)])

    def keep_cancelling():
        while not over.wait(0.3):
            c.cancel()

    over = threading.Event()
    thread = threading.Thread(target=keep_cancelling)
    thread.start()
    begun = time.monotonic()
    refused("a cancelled sleep", errors.QueryCanceled, lambda: one(c, "select pg_sleep(60)"))
    over.set()
    thread.join()
    check("long before its end", time.monotonic() - begun < 30, True)
    check("after a cancel", one(c, ONLY), [(side.own,)])
    c.close()
    freed.autocommit = True
    if stand.TRANSACTION:
        for statement in stand.REFUSED:
            error = refused(statement, errors.FeatureNotSupported, lambda: one(freed, statement))
            check_in("says what to do", "session_statements", error.diag.message_hint)
            check("and goes on", one(freed, ONLY), [(side.own,)])
    freed.close()


def guarded(side):
    try:
        everyday(side)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


threads = [threading.Thread(target=guarded, args=(side,)) for side in SIDES]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stand.finish()
