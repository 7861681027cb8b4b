//! Migration tools go on working as the owner, through the proxy, on a database that was adopted:
//! they change tables that hold several tenants' rows, and make tables, which are reported, adopted
//! by the same command once more, or protected as they are made.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::stand::{A, B, Mode, stand};

/// The last migration from before the adoption.
const BEFORE: u32 = 1;
/// A table with a foreign key, rows of every tenant changed, and an index built concurrently.
const AFTER: u32 = 3;
/// A table with a tenant column.
const LAST: u32 = 4;

#[test]
fn alembic() {
    tried("alembic", |url, last| script(&python(), "with_alembic.py", url, last));
}

#[test]
fn django_migrations() {
    tried("django", |url, last| script(&python(), "with_django.py", url, last));
}

/// Numbered files of SQL, by psql.
#[test]
fn flyway_style() {
    tried("flyway", |url, last| script("bash".as_ref(), "with_psql.sh", url, last));
}

#[test]
fn prisma() {
    tried("prisma", |url, last| script("node".as_ref(), "with_prisma.js", url, last));
}

#[test]
fn sqlx() {
    tried("sqlx", |url, last| {
        runtime().block_on(async {
            let migrator = sqlx::migrate::Migrator::new(folder().join("sql")).await.unwrap();
            let pool = sqlx::PgPool::connect(url).await.unwrap();
            migrator.run_to(i64::from(last), &pool).await.unwrap();
            pool.close().await;
        });
    });
}

/// Migrates up to so many, before and after the adoption.
fn tried(tool: &str, migrate: impl Fn(&str, u32)) {
    let database = format!("migrated_by_{tool}");
    let owner_url = made(&database);
    migrate(&owner_url, BEFORE);
    add_tenant(&owner_url, A, "first");
    adopts(&owner_url, "adopt.toml");
    add_tenant(&owner_url, B, "second");

    let (_proxy, listen) = stand().proxy_of(&database);
    let road = |name: &str| {
        let (road, _) = stand().url(Mode::Session, name).rsplit_once('@').unwrap();
        format!("{road}@{listen}/{database}")
    };
    let [through, first, second] = ["OWNER_URL", "TENANT_A_URL", "TENANT_B_URL"].map(road);
    sql(&second, "insert into accounts (email) values ('user1@example.com')");
    sql(&second, "insert into notes (account_id, body) select id, 'second' from accounts");

    migrate(&through, AFTER);
    // Every tenant's rows were changed, and each sees its own.
    let stars = "select count(*) || ' ' || bool_and(stars = length(body)) from notes";
    assert_eq!(value(&first, stars), "60 true");
    assert_eq!(value(&second, stars), "1 true");
    let index =
        "select count(*) from pg_index where indexrelid = 'notes_stars'::regclass and indisvalid";
    assert_eq!(value(&owner_url, index), "1");
    // A new table is nobody's but the owner's; it is reported.
    let read =
        runtime().block_on(async { connect(&first).await.query("select from tags", &[]).await });
    assert_eq!(read.unwrap_err().code().unwrap().code(), "42501");
    assert_eq!(unprotected(&owner_url), ["public.tags"]);

    // Adopted as the others were: each tag is its note's tenant's.
    adopts(&owner_url, "adopt_again.toml");
    assert_eq!(unprotected(&owner_url), [""; 0]);
    assert_eq!(value(&first, "select count(*) from tags"), "60");
    assert_eq!(value(&second, "select count(*) from tags"), "1");

    let superuser = stand().direct("postgres", &database);
    sql(&superuser, "select cloison.watch_schema('public', 'protect')");
    migrate(&through, LAST);
    assert_eq!(unprotected(&owner_url), [""; 0]);
    sql(&second, "insert into marks (word) values ('mine')");
    assert_eq!(value(&first, "select count(*) from marks"), "0");
    assert_eq!(value(&second, "select string_agg(word, '') from marks"), "mine");
    // Nothing is left to do, and it can be told.
    migrate(&through, LAST);
}

/// A database with the kit, hardened, of the application's owner.
fn made(database: &str) -> String {
    let superuser = &stand().direct("postgres", "app");
    sql(superuser, &format!("drop database if exists {database} with (force)"));
    sql(superuser, &format!("create database {database} owner app_owner"));
    let owner = stand().direct("app_owner", database);
    cloison(&["install", "--database-url", &owner]);
    sql(&stand().direct("postgres", database), "select cloison.harden()");
    owner
}

fn add_tenant(owner_url: &str, id: &str, slug: &str) {
    let values = format!("('{id}', '{slug}', '{slug}')");
    sql(owner_url, &format!("insert into cloison.tenants (id, name, slug) values {values}"));
}

/// Tenant A's are the rows from before. Tools write foreign keys to a table's `id`, which stays
/// the key.
fn adopts(owner_url: &str, mapping: &str) {
    let mapping = folder().join(mapping);
    let mapping = mapping.to_str().unwrap();
    cloison(&["adopt", "--database-url", owner_url, "--mapping", mapping, "--apply"]);
}

/// What `cloison lint` says is not protected.
fn unprotected(owner_url: &str) -> Vec<String> {
    let report = cloison(&["lint", "--database-url", owner_url, "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let tables = findings.filter(|finding| finding["name"] == "table_unprotected");
    tables.map(|finding| finding["object"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn cloison(words: &[&str]) -> String {
    output(Command::new(env!("CARGO_BIN_EXE_cloison")).args(words))
}

#[track_caller]
fn script(program: &Path, script: &str, url: &str, last: u32) {
    output(
        Command::new(program)
            .arg(folder().join(script))
            .arg(last.to_string())
            .env("DATABASE_URL", url)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
}

#[track_caller]
fn output(command: &mut Command) -> String {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    let done = command.output().unwrap();
    let [said, errors] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(
        done.status.success(),
        "{}: {}\n{said}\n{errors}",
        command.get_program().display(),
        done.status
    );
    said.into_owned()
}

#[track_caller]
fn sql(url: &str, sql: &str) {
    let done = runtime().block_on(async { connect(url).await.batch_execute(sql).await });
    done.unwrap_or_else(|error| panic!("{sql}: {error}: {:?}", error.as_db_error()));
}

#[track_caller]
fn value(url: &str, sql: &str) -> String {
    let answers = runtime().block_on(async { connect(url).await.simple_query(sql).await }).unwrap();
    let mut rows = Vec::new();
    for answer in &answers {
        if let SimpleQueryMessage::Row(row) = answer {
            rows.push(row.get(0).unwrap_or_default());
        }
    }
    rows.join("\n")
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/.venv/bin/python3")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/migrations")
}
