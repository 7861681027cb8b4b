//! The owner's access: migrations, dumps, other databases, and nothing that keeps VACUUM from its work.

use std::process::{Command, Output};

use cloison::kit::migrate;
use cloison::observe::Event;
use serde_json::json;
use tokio_postgres::Client;

use crate::support::postgres::{A, Database, until_none};
use crate::support::proxy::{self, Proxy, by_transaction, service_token, tenant_token, token};
use crate::support::wire::{V3_0, Wire, error, tags};

const OWNER: &str = "cloison_owner";

fn owner_token() -> String {
    token("owner", json!({}))
}

/// A session in any database, and what was said up to its first `ReadyForQuery`, or its end.
async fn log_in(proxy: &Proxy, user: &str, token: &str, database: &str) -> (Wire, String) {
    let mut wire = Wire::connect(proxy.address).await;
    wire.startup(V3_0, &[("user", user), ("database", database)]).password(token).send().await;
    let answer = wire.answer().await;
    let told = match tags(&answer).contains('E') {
        true => {
            let told = error(&answer);
            format!("{} {}", told.field('C'), told.field('D'))
        }
        false => String::new(),
    };
    (wire, told)
}

async fn owner_in(proxy: &Proxy, database: &str) -> Wire {
    let (wire, told) = log_in(proxy, OWNER, &owner_token(), database).await;
    assert_eq!(told, "", "{database}");
    wire
}

/// Runs a command while the proxy goes on.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn one(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Pages are all visible after VACUUM only if no other session has had a snapshot since the rows
/// were made. The proxy asks short questions now and then, and autovacuum comes by: few rounds may
/// meet one of these.
#[tokio::test]
async fn nothing_of_the_proxys_keeps_vacuum_from_its_work() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let mut wire = owner_in(&proxy, &proxy.database.name).await;
    // A tenant that is connected, and idle.
    let mut tenant = Wire::tenant(&proxy, A).await;
    tenant.value("select count(*) from note").await;
    let mut met = Vec::new();
    for round in 0..20 {
        for sql in [
            "drop table if exists large",
            "create table large (i integer)",
            "insert into large select generate_series(1, 20000)",
            "vacuum large",
        ] {
            assert!(!tags(&wire.ask(sql).await).contains('E'), "{sql}");
        }
        let pages = "select relpages - relallvisible || ' of ' || relpages from pg_class \
                     where oid = 'large'::regclass";
        let left = wire.value(pages).await;
        assert_ne!(left, "0 of 0");
        if !left.starts_with("0 of ") {
            met.push(format!("round {round}: {left}"));
        }
    }
    assert!(met.len() <= 5, "{met:#?}");
    let holding = "select count(*) from pg_stat_activity where usename like 'it_%' \
                   and datname = current_database() and state <> 'active' \
                   and (backend_xmin is not null or backend_xid is not null)";
    until_none(&superuser, holding).await;
    proxy.stop().await;
}

#[tokio::test]
async fn the_owner_makes_works_in_and_drops_a_database_that_nobody_named() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute("alter role it_owner createdb").await.unwrap();
    let test = format!("test_{}", proxy.database.name);
    let mut wire = owner_in(&proxy, &proxy.database.name).await;
    let create = wire.ask(&format!("create database {test}")).await;
    assert_eq!(tags(&create), "CZ");
    for round in 0..3 {
        let mut inside = owner_in(&proxy, &test).await;
        assert_eq!(inside.value("select current_database()").await, test);
        inside.ask(&format!("create table t{round} (i integer)")).await;
        inside.ask(&format!("insert into t{round} values (1)")).await;
        assert_eq!(inside.value(&format!("select count(*) from t{round}")).await, "1");
        inside.message('X', b"").send().await;
    }
    // Nobody else is let in, and learns nothing of what there is.
    for database in [&test[..], "template1", "nowhere"] {
        for (user, token) in [
            ("app", tenant_token(A)),
            ("app", service_token(json!("*"))),
            ("cloison_superadmin", token("superadmin", json!({}))),
        ] {
            let (_, told) = log_in(&proxy, user, &token, database).await;
            assert_eq!(told, "3D000 cloison: C011", "{user} in {database}");
        }
        // The user name alone opens nothing.
        let (_, told) = log_in(&proxy, OWNER, &tenant_token(A), database).await;
        assert!(told.starts_with("28"), "{told}");
    }
    // What Postgres says of a database goes to the owner.
    let (_, told) = log_in(&proxy, OWNER, &owner_token(), "nowhere").await;
    assert!(told.starts_with("3D000 ") && !told.contains("cloison"), "{told}");
    // No connection of the proxy's is left there.
    let drop = wire.ask(&format!("drop database {test}")).await;
    assert_eq!(tags(&drop), "CZ");
    let log = "select count(*)::text from cloison.audit_log \
               where action = 'session.owner' and detail ->> 'database' like 'test_%'";
    assert_eq!(one(&superuser, log).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn sessions_elsewhere_are_bounded_and_leave_no_connection() {
    let lines = "query_wait_timeout = \"300ms\"\n";
    let proxy = proxy::new().set(lines).pool_size(2).run().await;
    let superuser = proxy.database.superuser().await;
    let elsewhere = "select count(*) from pg_stat_activity \
                     where usename = 'it_owner' and datname = 'postgres'";
    superuser.batch_execute("grant connect on database postgres to it_owner").await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(owner_in(&proxy, "postgres").await);
    }
    let (_, told) = log_in(&proxy, OWNER, &owner_token(), "postgres").await;
    assert_eq!(told, "53300 cloison: C302");
    // The served database has its own.
    let mut served = owner_in(&proxy, &proxy.database.name).await;
    assert_eq!(served.value("select 1").await, "1");
    drop(sessions);
    until_none(&superuser, elsewhere).await;
    owner_in(&proxy, "postgres").await;
    proxy.stop().await;
}

/// What migrations of Rails and PDO's cursors need.
#[tokio::test]
async fn the_owner_has_advisory_locks_and_cursors_that_outlive_a_transaction() {
    let proxy = proxy::new().run().await;
    let mut wire = owner_in(&proxy, &proxy.database.name).await;
    let mut other = owner_in(&proxy, &proxy.database.name).await;
    // Owners of protected tables keep what hardening takes.
    assert_eq!(wire.value("select pg_try_advisory_lock(4711)").await, "t");
    wire.ask("begin").await;
    wire.ask("create table migrated (i integer)").await;
    wire.ask("commit").await;
    assert_eq!(other.value("select pg_try_advisory_lock(4711)").await, "f");
    assert_eq!(wire.value("select pg_advisory_unlock(4711)").await, "t");
    assert_eq!(other.value("select pg_try_advisory_lock(4711)").await, "t");
    wire.ask("begin").await;
    wire.ask("declare c scroll cursor with hold for select generate_series(1, 5)").await;
    wire.ask("commit").await;
    assert_eq!(wire.value("fetch absolute 5 from c").await, "5");
    assert_eq!(wire.value("fetch prior from c").await, "4");
    assert_eq!(wire.value("select count(*) from pg_cursors where name <> ''").await, "1");
    for sql in [
        "create materialized view totals as select count(*) as n from migrated",
        "create unique index on totals (n)",
        "refresh materialized view concurrently totals",
    ] {
        assert!(!tags(&wire.ask(sql).await).contains('E'), "{sql}");
    }
    proxy.stop().await;
}

/// On tenants' access paths the refusal names what allows it: a setting of the proxy, or the right
/// that hardening took.
#[tokio::test]
async fn a_tenant_is_told_what_would_allow_it() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    let mut hint = async |sql: &str| {
        let answer = wire.ask(sql).await;
        let told = error(&answer);
        (told.field('C').to_owned(), told.field('H').to_owned())
    };
    let pins = "session_statements = \"pin\"";
    for (sql, mode, hardening) in [
        ("select pg_try_advisory_lock(1)", pins, "cloison install --allow pg_try_advisory_lock"),
        ("declare c scroll cursor with hold for select 1", pins, ""),
    ] {
        if by_transaction() {
            let (code, hint) = hint(sql).await;
            assert!(code == "0A000" && hint.contains(mode), "{sql}: {code} {hint}");
        } else if !hardening.is_empty() {
            let (code, hint) = hint(sql).await;
            assert!(code == "42501" && hint.contains(hardening), "{sql}: {code} {hint}");
        }
    }
    for (sql, right) in [
        ("select pg_notify('a', 'b')", "cloison install --allow pg_notify"),
        ("select * from pg_stat_activity", "cloison install --allow pg_stat_activity"),
        ("copy note to '/tmp/note'", "COPY … TO STDOUT"),
        ("copy note from program 'id'", "FROM STDIN"),
    ] {
        let (code, hint) = hint(sql).await;
        assert!(code == "42501" && hint.contains(right), "{sql}: {code} {hint}");
    }
    // By the extended protocol the same, and what is not hardening's has no such hint.
    wire.run("select pg_notify('a', 'b')").sync().send().await;
    assert!(error(&wire.answer().await).field('H').contains("--allow pg_notify"));
    let answer = wire.ask("select * from cloison.signing_key").await;
    assert!(!error(&answer).field('H').contains("--allow"));
    assert_eq!(wire.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

/// A database in which everything belongs to the owner's role, as `cloison init` makes it.
async fn owners_database() -> Database {
    let other = Database::new();
    let name = format!("owned_{}", other.name);
    let superuser = other.superuser().await;
    superuser.batch_execute("alter role it_owner createdb").await.unwrap();
    superuser.batch_execute(&format!("create database {name} owner it_owner")).await.unwrap();
    let database = Database { name };
    let superuser = database.superuser().await;
    superuser.batch_execute("grant create on schema public to it_owner").await.unwrap();
    let (port, name) = (database.port(), &database.name);
    let owner = client(&format!("postgres://it_owner:owner-secret@127.0.0.1:{port}/{name}")).await;
    migrate::install(&owner, &[], |_| ()).await.unwrap();
    owner.batch_execute(TABLES).await.unwrap();
    superuser.batch_execute(ROWS).await.unwrap();
    database
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

const TABLES: &str = "
    create table public.note (
        tenant_id uuid not null,
        id bigint generated by default as identity,
        body text,
        primary key (tenant_id, id)
    );
    select cloison.protect('public.note')";

const ROWS: &str = r#"
    insert into cloison.tenants (id, name, slug)
    values
        ('aaaaaaaa-0000-4000-8000-000000000001', 'Tenant A', 'a'),
        ('bbbbbbbb-0000-4000-8000-000000000002', 'Tenant B', 'b');
    insert into public.note (tenant_id, body)
    select t.id, e'	tab, "quote" and \ of ' || t.slug || i
    from cloison.tenants t, generate_series(1, 500) i;
    select cloison.harden()"#;

/// Every table's name, and a hash of its rows.
const CONTENT: &str = "
    select string_agg(format('%s %s', c.oid::regclass, (xpath('/row/h/text()', query_to_xml(format(
        'select coalesce(md5(string_agg(t::text, $_$,$_$ order by t::text)), $_$none$_$) as h from %s t',
        c.oid::regclass), false, true, '')))[1]), E'\\n' order by c.oid::regclass::text)
    from pg_class c
    where c.relkind = 'r' and c.relnamespace in ('public'::regnamespace, 'cloison'::regnamespace)";

/// The policies and the rows' tables, as the catalogue has them.
const POLICIES: &str = "
    select string_agg(format('%s %s %s %s %s', tablename, policyname, roles, qual, with_check), E'\\n'
        order by tablename, policyname)
    from pg_policies";

/// The command of the document is run as it stands there.
#[tokio::test]
async fn a_dump_through_the_owners_access_is_restored_through_it() {
    let page = include_str!("../../docs/superadmin.md");
    let blocks = page.split("```sh\n").filter_map(|block| Some(block.split_once("```")?.0));
    let command = blocks.into_iter().find(|block| block.contains("pg_dump")).unwrap();
    let database = owners_database().await;
    let superuser = database.superuser().await;
    let mut proxy = proxy::new().run_on(database).await;
    let copy = format!("copy_{}", proxy.database.name);
    let command = command.replace("app_copy", &copy);
    let url = |database: &str| {
        format!("postgres://{OWNER}:{}@{}/{database}", owner_token(), proxy.address)
    };
    let folder = std::env::temp_dir().join(format!("cloison-it-{}-dump", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euxc", &command]).current_dir(&folder);
    shell.env("OWNER_URL", url(&proxy.database.name)).env("COPY_URL", url(&copy));
    let done = run(shell).await;
    let mut refused = Vec::new();
    while let Ok(event) = proxy.events.try_recv() {
        if matches!(event, Event::ClientRefused { .. }) {
            refused.push(event);
        }
    }
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told} {refused:?}");
    std::fs::remove_dir_all(&folder).unwrap();
    let mut restored = proxy.database.superuser_url();
    restored.truncate(restored.rfind('/').unwrap() + 1);
    let there = client(&format!("{restored}{copy}")).await;
    // The audit log has grown by the sessions of the dump.
    let keep = |text: String| {
        let moves = ["audit_log", "audit_head", "audit_written", "session_changes"];
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.retain(|line| !moves.iter().any(|table| line.contains(table)));
        lines
    };
    let (before, after) = (one(&superuser, CONTENT).await, one(&there, CONTENT).await);
    assert!(before.contains("note ") && before.contains("cloison.tenants "), "{before}");
    assert_eq!(keep(before), keep(after));
    assert_eq!(one(&superuser, POLICIES).await, one(&there, POLICIES).await);
    let rows = "select string_agg(tenant_id || ' ' || body, ',' order by tenant_id, id) from note";
    assert_eq!(one(&superuser, rows).await, one(&there, rows).await);
    drop(there);
    proxy.stop().await;
}
