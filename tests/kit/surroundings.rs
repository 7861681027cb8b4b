//! What the database adds to a statement's text: every verdict, in both directions.

use cloison::tenant::Surroundings;
use tokio_postgres::Client;

use crate::support::{Database, Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(
    the_kit_itself_adds_nothing,
    functions_are_those_that_the_login_may_call,
    a_name_is_vouched_for_with_all_its_functions,
    code_that_runs_unnamed_is_found,
    functions_of_postgres_that_last_are_found,
    what_leaves_nothing_is_not_code,
    compiled_code_is_code_unless_it_is_known,
    objects_of_one_session_do_not_count,
    sequences_tell_only_whom_they_are_granted_to,
    hardening_takes_the_texts_of_prepared_statements,
);

async fn surroundings(database: &Database<'_>, vouched: &[&str]) -> Surroundings {
    let vouched: Vec<String> = vouched.iter().map(|name| (*name).to_owned()).collect();
    let directory = database.directory().await;
    directory.surroundings(&database.login("tenant"), &vouched).await.unwrap()
}

async fn blame(database: &Database<'_>, vouched: &[&str]) -> Option<String> {
    let surroundings = surroundings(database, vouched).await;
    assert_eq!(surroundings.implicit_code, surroundings.blame.is_some());
    surroundings.blame
}

fn names(names: &std::collections::BTreeSet<String>) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

async fn the_kit_itself_adds_nothing(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create table public.note (id uuid primary key default gen_random_uuid(), \
             n bigint generated always as identity, at timestamptz default now(), \
             body text check (body <> ''), size int generated always as (length(body)) stored); \
         create view public.notes as select id, upper(body) as body from public.note; \
         select cloison.protect('public.note')",
    )
    .await;
    add_tenant(&owner, "a", Some("1")).await;
    batch(&owner, "create table public.old (tenant_id text, body text)").await;
    batch(&owner, "select cloison.protect('public.old')").await;
    let Surroundings { functions, vouched, implicit_code, blame, sequences, .. } =
        surroundings(&database, &[]).await;
    // It leaves a tenant in the session, as nobody but the proxy may.
    assert_eq!(
        names(&functions),
        ["drop_copy_table", "make_copy_table", "set_tenant", "stage_copy"]
    );
    assert!(vouched.is_empty());
    assert_eq!((implicit_code, blame, sequences), (false, None, false));

    let nobody = database.directory().await.surroundings("nobody", &[]).await;
    assert!(nobody.is_err());
}

async fn functions_are_those_that_the_login_may_call(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        r#"create function public.open() returns int language sql as 'select 1';
           create function public."Odd name"(a int, b int) returns int language sql as 'select 1';
           create procedure public.act() language sql as 'select 1';
           create aggregate public.total(int) (sfunc = int4pl, stype = int);
           create function public.lower(a int, b int) returns int language sql as 'select 1';
           create function public.shut() returns int language sql as 'select 1';
           revoke execute on function public.shut() from public;
           create schema hidden;
           create function hidden.far() returns int language sql as 'select 1';
           create function hidden.get_current_tenant() returns int language sql as 'select 1'"#,
    )
    .await;
    let found = surroundings(&database, &[]).await;
    let open = [
        "Odd name",
        "act",
        "drop_copy_table",
        "lower",
        "make_copy_table",
        "open",
        "set_tenant",
        "stage_copy",
        "total",
    ];
    assert_eq!(names(&found.functions), open);
    assert!(!found.implicit_code);

    // A name of the kit's is not the kit's function.
    batch(&owner, "grant usage on schema hidden to public").await;
    batch(&owner, "grant execute on function public.shut() to cloison_tenant").await;
    let found = surroundings(&database, &[]).await;
    for name in ["far", "get_current_tenant", "shut"] {
        assert!(found.functions.contains(name), "{name}");
    }
    // Neither is what somebody puts into the kit's schema, or into Postgres' own.
    batch(&owner, "create function cloison.more() returns int language sql as 'select 1'").await;
    batch(
        &database.superuser().await,
        "set allow_system_table_mods = on; \
         create function pg_catalog.another() returns int language sql as 'select 1'",
    )
    .await;
    let found = surroundings(&database, &[]).await;
    assert!(found.functions.contains("more") && found.functions.contains("another"));
}

async fn a_name_is_vouched_for_with_all_its_functions(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create schema app; grant usage on schema app to public; \
         create function app.f() returns int language sql as 'select 1'; \
         create function app.f(int) returns int language sql as 'select 1'; \
         create function app.g() returns int language sql as 'select 1'",
    )
    .await;
    let found = surroundings(&database, &["app.f", "app.other", "public.g"]).await;
    assert_eq!(names(&found.vouched), ["f"]);
    assert_eq!(
        names(&found.functions),
        ["drop_copy_table", "f", "g", "make_copy_table", "set_tenant", "stage_copy"]
    );

    batch(&owner, "create function public.f(text) returns int language sql as 'select 1'").await;
    assert!(surroundings(&database, &["app.f"]).await.vouched.is_empty());
    let both = surroundings(&database, &["app.f", "public.f"]).await;
    assert_eq!(names(&both.vouched), ["f"]);
    // What is put into plans is vouched for by nobody.
    batch(&owner, "alter function app.f() immutable").await;
    assert!(surroundings(&database, &["app.f", "public.f"]).await.vouched.is_empty());
    batch(&owner, "alter function app.f() volatile").await;
    // Whom the login cannot call does not matter.
    batch(&owner, "revoke execute on function public.f(text) from public").await;
    assert_eq!(names(&surroundings(&database, &["app.f"]).await.vouched), ["f"]);
}

/// What makes a door, and what is said of it.
const DOORS: &[(&str, &str)] = &[
    (
        "create trigger t before insert on app.item for each row execute function app.touch()",
        "trigger t on app.item calls app.touch()",
    ),
    (
        "create trigger w before insert on app.item for each row when (app.test(new.n)) \
         execute function suppress_redundant_updates_trigger()",
        "trigger w on app.item calls app.test(integer)",
    ),
    ("create view app.v as select app.calc(n) from app.item", " calls app.calc(integer)"),
    ("create materialized view app.m as select app.calc(1)", " calls app.calc(integer)"),
    (
        "create view app.s as select sum from (select app.total(n) as sum from app.item) i",
        " calls app.total(integer)",
    ),
    ("alter table app.item alter n set default app.calc(1)", "calls app.calc(integer)"),
    (
        "alter table app.item add g int generated always as (app.calc(n)) stored",
        "calls app.calc(integer)",
    ),
    ("alter table app.item add constraint c check (app.test(n))", "calls app.test(integer)"),
    ("create domain app.d as int check (app.test(value))", "calls app.test(integer)"),
    ("create domain app.d as int default app.calc(1)", "calls app.calc(integer)"),
    (
        "create operator app.=== (leftarg = int, rightarg = int, function = app.same)",
        "calls app.same(integer,integer)",
    ),
    (
        "create cast (app.pair as int) with function app.first(app.pair) as implicit",
        "calls app.first(app.pair)",
    ),
    ("create policy p on app.item using (app.test(n))", "policy p on app.item calls"),
    ("create index i on app.item (app.calc(n))", "index app.i calls app.calc(integer)"),
    ("create index i on app.item (n) where app.test(n)", "index app.i calls app.test(integer)"),
    (
        "create table app.parts (n int) partition by range (app.calc(n))",
        "table app.parts calls app.calc(integer)",
    ),
    (
        "create statistics app.st on (app.calc(n)), n from app.item",
        "statistics object app.st calls app.calc(integer)",
    ),
    ("create type app.r as range (subtype = int, subtype_diff = app.diff)", "calls app.diff"),
    ("create rule r as on delete to app.item do instead nothing", "rule r on app.item"),
    ("create rule r as on insert to app.item do also notify app", "rule r on app.item"),
    (
        "create function app.f(app.pair) returns int language sql as 'select 1'",
        "app.f(app.pair) can be called like a column",
    ),
    (
        "create function app.f(anyelement, int default 1) returns int language sql as 'select 1'",
        "app.f(anyelement,integer) can be called like a column",
    ),
    (
        "create function app.f(variadic app.pair[]) returns int language sql as 'select 1'",
        "app.f(app.pair[]) can be called like a column",
    ),
    (
        "create domain app.dp as app.pair; \
         create function app.f(app.dp) returns int language sql as 'select 1'",
        "app.f(app.dp) can be called like a column",
    ),
    (
        "create function app.f(record) returns int language plpgsql as 'begin return 1; end'",
        "app.f(record) can be called like a column",
    ),
    (
        "create cast (app.pair as text) with inout as implicit; \
         create function app.f(text) returns int language sql as 'select 1'",
        "app.f(text) can be called like a column",
    ),
];

/// Code of every kind, that nothing calls yet.
async fn code(database: &Database<'_>) -> Client {
    let owner = database.owner().await;
    batch(
        &owner,
        "create schema app; grant usage on schema app to public; \
         create table app.item (n int); create type app.pair as (a int, b int); \
         create function app.touch() returns trigger language plpgsql \
             as 'begin return new; end'; \
         create function app.calc(int) returns int immutable language sql as 'select $1'; \
         create function app.test(int) returns boolean immutable language sql as 'select true'; \
         create function app.same(int, int) returns boolean language sql as 'select true'; \
         create function app.diff(int, int) returns float8 immutable language sql as 'select 1'; \
         create function app.first(app.pair) returns int language sql as 'select 1'; \
         revoke execute on function app.first(app.pair) from public; \
         create aggregate app.total(int) (sfunc = int4pl, stype = int); \
         create function app.two(app.pair, int) returns int language sql as 'select 1'; \
         create function app.many(app.pair[]) returns int language sql as 'select 1'; \
         create procedure app.act(app.pair) language sql as 'select 1'; \
         create function app.plain(text) returns int language sql as 'select 1'; \
         create function app.outer() returns int return app.calc(1)",
    )
    .await;
    owner
}

async fn code_that_runs_unnamed_is_found(server: &Server) {
    let database = server.database().await;
    let owner = code(&database).await;
    assert_eq!(blame(&database, &[]).await, None);
    let all = ["touch", "calc", "test", "same", "diff", "first", "total", "f", "plain"];
    let all = all.map(|name| format!("app.{name}"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for (door, expected) in DOORS {
        batch(&owner, &format!("begin; {door}; commit")).await;
        let told = blame(&database, &[]).await.unwrap_or_else(|| panic!("not found: {door}"));
        assert!(told.contains(expected), "{door}: {told}");
        // A rule is not a function; and what is IMMUTABLE becomes a part of a plan in some places.
        let vouched = blame(&database, &all).await;
        let is_planned = |told: &str| {
            let immutable = ["app.calc(", "app.test(", "app.diff("];
            let place = ["rule ", "default value ", "operator ", "cast ", "policy "];
            immutable.iter().any(|name| told.contains(name))
                && place.iter().any(|place| told.starts_with(place))
        };
        let expected = door.starts_with("create rule")
            || is_planned(&told) && !door.contains("generated always");
        assert_eq!(vouched.is_some(), expected, "{door}: {vouched:?}");
        batch(&owner, "drop schema app cascade").await;
        code(&database).await;
    }
    assert_eq!(blame(&database, &[]).await, None);

    let superuser = database.superuser().await;
    batch(
        &superuser,
        "create function app.watch() returns event_trigger language plpgsql as 'begin end'; \
         create event trigger e on ddl_command_start execute function app.watch()",
    )
    .await;
    assert_eq!(blame(&database, &[]).await.as_deref(), Some("event trigger e calls app.watch()"));
    assert_eq!(blame(&database, &["app.watch"]).await, None);
    batch(&superuser, "drop event trigger e").await;

    // Whom the login may not call it cannot call like a column either.
    batch(
        &owner,
        "create function app.f(app.pair) returns int language sql as 'select 1'; \
         revoke execute on function app.f(app.pair) from public",
    )
    .await;
    assert_eq!(blame(&database, &[]).await, None);
}

/// Nothing that Postgres brings is in its list of who depends on whom.
async fn functions_of_postgres_that_last_are_found(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(&owner, "create table public.item (n int, t text)").await;
    for (door, undo, expected) in [
        (
            "create view public.v as select set_config('a.b', 'c', false)",
            "drop view public.v",
            "on public.v calls set_config(text,text,boolean)",
        ),
        (
            "create view public.v as select n from public.item \
             where exists (select from public.item i where pg_try_advisory_lock(i.n))",
            "drop view public.v",
            "on public.v calls pg_try_advisory_lock(bigint)",
        ),
        (
            "create view public.v as select * from query_to_xml('select 1', true, true, '')",
            "drop view public.v",
            "on public.v calls query_to_xml(",
        ),
        (
            "alter table public.item alter t set default set_config('a.b', 'c', false)",
            "alter table public.item alter t drop default",
            "default value for public.item.t calls set_config(",
        ),
        (
            "alter table public.item add constraint c check (pg_try_advisory_lock(n))",
            "alter table public.item drop constraint c",
            "table constraint c on public.item calls pg_try_advisory_lock(bigint)",
        ),
        (
            "create policy p on public.item using (set_config('a.b', 'c', false) <> '')",
            "drop policy p on public.item",
            "policy p on public.item calls set_config(",
        ),
        (
            "create trigger w before insert on public.item for each row \
             when (pg_try_advisory_lock(new.n)) \
             execute function suppress_redundant_updates_trigger()",
            "drop trigger w on public.item",
            "trigger w on public.item calls pg_try_advisory_lock(bigint)",
        ),
        (
            "create domain public.d as text default set_config('a.b', 'c', false)",
            "drop domain public.d",
            "type public.d calls set_config(",
        ),
        (
            "create operator public.@@@ (rightarg = bigint, function = pg_try_advisory_lock)",
            "drop operator public.@@@ (none, bigint)",
            "operator public.@@@(NONE,bigint) calls pg_try_advisory_lock(bigint)",
        ),
    ] {
        assert_eq!(blame(&database, &[]).await, None, "{door}");
        batch(&owner, door).await;
        let told = blame(&database, &[]).await.unwrap_or_else(|| panic!("not found: {door}"));
        assert!(told.contains(expected), "{door}: {told}");
        batch(&owner, undo).await;
    }
    batch(&owner, "create view public.v as select set_config('a.b', 'c', false)").await;
    assert_eq!(blame(&database, &["pg_catalog.set_config"]).await, None);
}

async fn what_leaves_nothing_is_not_code(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create table public.item (id uuid default gen_random_uuid(), n serial, \
             r float8 default random(), at timestamptz default clock_timestamp(), \
             body text, v tsvector, check (n > 0)); \
         create trigger t before insert on public.item for each row execute function \
             tsvector_update_trigger(v, 'pg_catalog.english', body); \
         create index i on public.item (lower(body)); \
         create policy p on public.item using (n = current_setting('app.n')::int); \
         create view public.v as select count(*), \
             pg_size_pretty(pg_total_relation_size('public.item')) from public.item; \
         create type public.mood as enum ('sad', 'happy'); \
         create type public.span as range (subtype = float8)",
    )
    .await;
    assert_eq!(blame(&database, &[]).await, None);
}

async fn compiled_code_is_code_unless_it_is_known(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    batch(
        &superuser,
        "create schema ext; grant usage on schema ext to public; \
         create extension citext schema ext; create extension hstore schema ext; \
         create extension pg_trgm schema ext; create extension btree_gist schema ext; \
         create extension ltree schema ext; create extension moddatetime schema ext; \
         create extension dblink schema ext; create extension tablefunc schema ext; \
         create extension autoinc schema ext; create extension postgres_fdw schema ext; \
         create table public.item (n int, body ext.citext unique, h ext.hstore, p ext.ltree, \
             at timestamp); \
         create index i on public.item using gin (body ext.gin_trgm_ops); \
         create trigger m before update on public.item \
             for each row execute function ext.moddatetime(at); \
         create sequence public.s",
    )
    .await;
    assert_eq!(blame(&database, &[]).await, None);
    let found = surroundings(&database, &[]).await.functions;
    assert!(found.contains("set_limit") && found.contains("dblink_connect"));

    for (door, undo, expected) in [
        (
            "create trigger a before insert on public.item for each row \
             execute function ext.autoinc(n, s)",
            "drop trigger a on public.item",
            "trigger a on public.item calls ext.autoinc()",
        ),
        (
            "create view public.v as select * from ext.crosstab('select 1') as t (a text, b text)",
            "drop view public.v",
            "on public.v calls ext.crosstab(text)",
        ),
        (
            "create view public.v as select ext.dblink_connect('x', 'y')",
            "drop view public.v",
            "on public.v calls ext.dblink_connect(text,text)",
        ),
        (
            "create view public.v as select ext.set_limit(0.5)",
            "drop view public.v",
            "on public.v calls ext.set_limit(real)",
        ),
        (
            "create server far foreign data wrapper postgres_fdw; \
             create foreign table public.far (n int) server far",
            "drop server far cascade",
            "foreign-data wrapper postgres_fdw calls ext.postgres_fdw_handler()",
        ),
        (
            "create function public.own(integer, integer) returns integer language internal \
             as 'int4pl'; create operator public.@@@ \
             (leftarg = int, rightarg = int, function = public.own)",
            "drop function public.own cascade",
            "calls public.own(integer,integer)",
        ),
    ] {
        batch(&superuser, door).await;
        let told = blame(&database, &[]).await.unwrap_or_else(|| panic!("not found: {door}"));
        assert!(told.contains(expected), "{door}: {told}");
        batch(&superuser, undo).await;
        assert_eq!(blame(&database, &[]).await, None, "{undo}");
    }
}

/// A tenant must not be able to slow the others down.
async fn objects_of_one_session_do_not_count(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create function public.calc(int) returns int immutable language sql as 'select $1'; \
         create function public.one(anyenum) returns int language plpgsql \
             as 'begin return 1; end'; \
         create function public.touch() returns trigger language plpgsql as 'begin end'",
    )
    .await;
    let before = surroundings(&database, &[]).await;
    assert_eq!(before.blame, None);
    let session = database.session("tenant").await;
    batch(
        &session,
        "create temporary table mine (n int default public.calc(1) check (public.calc(n) > 0), \
             s serial, t text default set_config('a.b', 'c', false)); \
         create trigger t before insert on mine for each row execute function public.touch(); \
         create index i on mine (public.calc(n)) where public.calc(n) > 0; \
         create temporary table parts (n int) partition by range (public.calc(n)); \
         create rule r as on delete to mine do instead nothing; \
         create temporary view v as select public.calc(1); \
         create domain pg_temp.d as int check (public.calc(value) > 0); \
         create function pg_temp.f(record) returns int language plpgsql \
             as 'begin return 1; end'; \
         create type pg_temp.e as enum ('x'); \
         create cast (pg_temp.e as int) with function public.one(anyenum); \
         create operator pg_temp.=== (rightarg = int, function = public.calc)",
    )
    .await;
    assert_eq!(surroundings(&database, &[]).await, before);
}

async fn sequences_tell_only_whom_they_are_granted_to(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let session = database.session("tenant").await;
    batch(
        &owner,
        "create table public.item (id int generated always as identity, body text); \
         grant insert, select on public.item to cloison_tenant; \
         create schema far; create sequence far.s",
    )
    .await;
    assert!(!surroundings(&database, &[]).await.sequences);
    batch(&session, "insert into public.item (body) values ('x')").await;
    denied(&session, "select lastval()").await;
    denied(&session, "select currval('public.item_id_seq')").await;

    // Not even the schema is needed to ask.
    for right in ["usage", "select"] {
        batch(&owner, &format!("grant {right} on sequence far.s to cloison_tenant")).await;
        assert!(surroundings(&database, &[]).await.sequences, "{right}");
        batch(&owner, &format!("revoke {right} on sequence far.s from cloison_tenant")).await;
    }
    assert!(!surroundings(&database, &[]).await.sequences);
    batch(&owner, "grant usage on sequence public.item_id_seq to cloison_tenant").await;
    assert!(surroundings(&database, &[]).await.sequences);
    assert_eq!(texts(&session, "select lastval()").await, ["1"]);

    // Whoever may only draw sees what he draws, and nothing that is left of it.
    batch(&owner, "revoke all on sequence public.item_id_seq from cloison_tenant").await;
    batch(&owner, "grant update on sequence public.item_id_seq to cloison_tenant").await;
    assert!(!surroundings(&database, &[]).await.sequences);
    assert_eq!(texts(&session, "select nextval('public.item_id_seq')").await, ["2"]);
    denied(&session, "select lastval()").await;
}

async fn hardening_takes_the_texts_of_prepared_statements(server: &Server) {
    let database = server.database().await;
    assert!(surroundings(&database, &[]).await.reads_statements);
    database.harden(&[]).await;
    assert!(!surroundings(&database, &[]).await.reads_statements);
    database.harden(&["pg_prepared_statements"]).await;
    assert!(surroundings(&database, &[]).await.reads_statements);
}
