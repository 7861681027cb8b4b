//! The everyday work of real drivers, through `cloison dev`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rust;
mod script;
mod stand;

use script::{node, python, shell};

#[test]
fn psql() {
    shell("psql.sh");
}

#[test]
fn psycopg() {
    python("python/with_psycopg.py");
}

#[test]
fn asyncpg() {
    python("python/with_asyncpg.py");
}

#[test]
fn sqlalchemy() {
    python("python/with_sqlalchemy.py");
}

#[test]
fn node_postgres() {
    node("node/with_pg.js");
}
