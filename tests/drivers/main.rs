//! The everyday work of real drivers, through `cloison dev`, in each pool mode.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod background;
mod migrations;
mod oauth;
mod provider;
mod recipes;
mod rust;
mod sarif;
mod script;
mod stand;

use script::{c, go, java, node, perl, php, python, ruby, shell};

/// The same tests in each pool mode; a name without one is the session's.
macro_rules! in_both_modes {
    ($($name:ident: $run:ident($script:literal),)*) => {
        $(
            #[test]
            fn $name() {
                $run(crate::stand::Mode::Session, $script);
            }
        )*

        mod transaction_pooling {
            use super::{c, go, java, node, perl, php, python, ruby, shell};

            $(
                #[test]
                fn $name() {
                    $run(crate::stand::Mode::Transaction, $script);
                }
            )*
        }
    };
}

in_both_modes!(
    psql: shell("psql.sh"),
    psycopg: python("python/with_psycopg.py"),
    psycopg2: python("python/with_psycopg2.py"),
    asyncpg: python("python/with_asyncpg.py"),
    sqlalchemy: python("python/with_sqlalchemy.py"),
    django: python("python/with_django.py"),
    node_postgres: node("node/with_pg.js"),
    postgres_js: node("node/with_postgres.js"),
    drizzle: node("node/with_drizzle.js"),
    prisma: node("node/with_prisma.js"),
    jdbc: java("java/WithJdbc.java"),
    lib_pq: go("go/with_pq.go"),
    pgx: go("go/with_pgx.go"),
    pdo: php("php/with_pdo.php"),
    ruby_pg: ruby("ruby/with_pg.rb"),
    active_record: ruby("ruby/with_activerecord.rb"),
    psqlodbc: python("python/with_pyodbc.py"),
    dbd_pg: perl("perl/with_dbd_pg.pl"),
    libpq_pipelines: c("c/with_libpq.c"),
);
