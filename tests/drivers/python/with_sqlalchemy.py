"""Everyday work of SQLAlchemy on psycopg and on asyncpg, as two tenants at once."""

import asyncio
import os
import traceback
import uuid

from sqlalchemy import MetaData, Table, create_engine, delete, event, inspect, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, Mapped


from stand import CHANGE, CHANGED, OPTIONS, SHOW, SIDES, TRANSACTION, WISHES, check, check_moves, finish


class Base(DeclarativeBase):
    pass


class Lead(Base):
    __tablename__ = "crm_leads"

    # The tenant is the database's to fill in; the mapper knows the row by its id.
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    full_name: Mapped[str]
    email: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="new")


def url(side, driver, narrow=False):
    return (side.narrow if narrow else side.url).replace("postgres://", f"postgresql+{driver}://")


def everything(c):
    """All that the inspector can ask, of all that there is, on a hardened database."""
    found = MetaData()
    found.reflect(c, views=True)
    check("all tables", {"projects", "crm_leads", "crm_deals"} <= set(found.tables), True)
    asked = inspect(c)
    kinds = (
        "columns", "pk_constraint", "foreign_keys", "indexes", "unique_constraints", "check_constraints",
        "table_comment", "table_options",
    )
    for kind in kinds:
        every = getattr(asked, f"get_multi_{kind}")(schema="public")
        check(f"{kind} of every table", ("public", "projects") in every, True)
    check("its schemas", {"public", "information_schema"} <= set(asked.get_schema_names()), True)
    check("its views", "tenants" in asked.get_view_names(), True)
    check("a view's text", "cloison" in asked.get_view_definition("tenants"), True)
    for kind in ("enums", "domains", "sequence_names", "materialized_view_names"):
        check(f"its {kind}", isinstance(getattr(asked, f"get_{kind}")(), list), True)


def work(c, side):
    """On a connection of either kind, inside a transaction of its own."""
    projects = Table("projects", MetaData(), autoload_with=c)
    check("reflection", [column.name for column in projects.primary_key], ["tenant_id", "id"])
    check("the inspector", "crm_deals" in inspect(c).get_table_names(), True)
    check("its foreign keys", {key["referred_table"] for key in inspect(c).get_foreign_keys("crm_deals")}, {"crm_leads", "tenants"})
    everything(c)
    own = uuid.UUID(side.own)
    only = select(projects.c.tenant_id).distinct()
    check("reads its own rows", c.scalars(only).all(), [own])
    with c.begin_nested() as savepoint:
        row = c.execute(insert(projects).values(name="SQLAlchemy").returning(projects.c.tenant_id)).scalar()
        check("insert is given its tenant", row, own)
        many = [{"name": f"many{n}", "budget_cents": n} for n in range(500)]
        rows = c.execute(insert(projects).returning(projects.c.tenant_id), many).scalars().all()
        check("500 rows at once", (len(rows), set(rows)), (500, {own}))
        check("update", c.execute(update(projects).values(status="draft")).rowcount >= 504, True)
        c.execute(delete(projects).where(projects.c.tenant_id == side.other))
        check("within the savepoint", c.scalars(only).all(), [own])
        savepoint.rollback()
    try:
        with c.begin_nested():
            c.execute(insert(projects).values(name="x", tenant_id=side.other))
        check("a foreign tenant_id", "accepted", "refused")
    except DBAPIError as error:
        check("a foreign tenant_id", error.orig.sqlstate, "42501")
    try:
        with c.begin_nested():
            c.execute(insert(projects).from_select(["name"], select(projects.c.name)))
        check("a unique violation", "accepted", "refused")
    except IntegrityError as error:
        check("a unique violation", error.orig.sqlstate, "23505")
    with Session(bind=c, join_transaction_mode="create_savepoint") as session:
        lead = Lead(full_name="ORM", email=f"orm-{uuid.uuid4()}@example.org")
        session.add(lead)
        session.flush()
        session.refresh(lead)
        check("a mapped row", lead.status, "new")
        session.rollback()
    check("afterwards", c.scalars(only).all(), [own])


def sync(side):
    engine = create_engine(url(side, "psycopg"), pool_size=2, pool_pre_ping=True)
    with engine.begin() as c:
        work(c, side)
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as c:
        check("isolation level", c.scalar(text("show transaction_isolation")), "serializable")
    with engine.connect().execution_options(yield_per=1000) as c:
        rows = c.execute(text("select tenant_id::text from projects, generate_series(1, 30000)"))
        check("a server-side cursor", {row[0] for row in rows}, {side.own})
    engine.dispose()
    for _ in range(3):
        engine = create_engine(url(side, "psycopg", narrow=True), pool_size=1, max_overflow=0)
        for _ in range(3):
            with engine.connect() as c:
                got = c.scalars(text("select distinct tenant_id::text from public.projects")).all()
                check("one server connection", got, [side.own])
                c.execute(text("set search_path = pg_catalog"))
                c.commit()
        engine.dispose()


def moving(side):
    """What a transaction finds on the next server connection."""
    engine = create_engine(url(side, "psycopg"), pool_size=1, connect_args={"options": OPTIONS, "prepare_threshold": 1})

    def pid():
        with engine.begin() as c:
            return c.scalar(text("select pg_backend_pid()"))

    check_moves(pid() for _ in range(2000))
    for n in range(20):
        with engine.begin() as c:
            check("settings", tuple(c.execute(text(SHOW)).one()), tuple(WISHES.values()))
            c.execute(insert(Lead).values(full_name=side.name, email=f"moving{n}@sqlalchemy.example.org"))
        with Session(engine) as session, session.begin():
            lead = session.scalars(select(Lead).where(Lead.email == f"moving{n}@sqlalchemy.example.org")).one()
            check("a committed row", lead.full_name, side.name)
            lead.status = "won"
            session.flush()
            session.delete(lead)
    engine.dispose()
    # A SET when a connection is made, as applications hook it into their pool.
    engine = create_engine(url(side, "psycopg"), pool_size=1)

    @event.listens_for(engine, "connect")
    def on_connect(connection, _):
        connection.autocommit = True
        connection.execute(CHANGE)
        connection.autocommit = False

    for _ in range(10):
        with engine.begin() as c:
            check("settings of a hook", tuple(c.execute(text(SHOW)).one()), tuple(CHANGED.values()))
    engine.dispose()


async def asynchronous(side):
    engine = create_async_engine(url(side, "asyncpg"), pool_size=2)
    async with engine.begin() as c:
        await c.run_sync(work, side)
    async with engine.connect() as c:
        total = 0
        async for row in await c.stream(text("select tenant_id::text from projects, generate_series(1, 30000)")):
            total += row[0] == side.own
        count = await c.scalar(text("select count(*) * 30000 from projects"))
        check("a stream", total, count)
    await engine.dispose()


def everyday(side):
    try:
        sync(side)
        asyncio.run(asynchronous(side))
        if TRANSACTION:
            moving(side)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


async def main():
    await asyncio.gather(*(asyncio.to_thread(everyday, side) for side in SIDES))


asyncio.run(main())
finish()
