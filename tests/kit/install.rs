//! Installing, installing again, taking away.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;
use cloison::cli::install;
use cloison::kit::migrate::{self, Compat};

use crate::support::{Rows, Server, batch, on_a_server_of_its_own, on_every_major, texts};

on_every_major!(
    a_superuser_may_install,
    nobody_waits_behind_an_installation_that_waits,
    the_verb_installs_and_takes_away,
    without_createrole_it_says_so,
);

on_a_server_of_its_own!(a_second_install_changes_nothing);

const FILES: &[&str] = &[
    "sql/migrations/0001_schema.sql",
    "sql/migrations/0002_functions.sql",
    "sql/migrations/0003_row_level_security.sql",
    "sql/migrations/0004_surroundings.sql",
    "sql/migrations/0005_lint.sql",
    "sql/migrations/0006_harden.sql",
    "sql/migrations/0007_advisory_locks.sql",
    "sql/migrations/0008_revocations.sql",
    "sql/migrations/0009_audit.sql",
    "sql/migrations/0010_claims.sql",
    "sql/migrations/0011_api_keys.sql",
    "sql/migrations/0012_adopt.sql",
    "sql/migrations/0013_guard.sql",
    "sql/migrations/0014_copy.sql",
    "sql/compat/public_names.sql",
    "sql/compat/supabase.sql",
];

/// An installation waits for nobody so long that others wait for it.
async fn nobody_waits_behind_an_installation_that_waits(server: &Server) {
    let database = server.database().await;
    let reader = database.owner().await;
    batch(&reader, "begin; select from cloison.audit_log, cloison.tenants").await;
    let owner = database.owner().await;
    let told = AtomicU32::new(0);
    let installing = migrate::install(&owner, &[], |waiting| {
        told.fetch_max(waiting.tries, Ordering::Relaxed);
    });
    let others = async {
        let other = database.owner().await;
        batch(&other, "set statement_timeout = '5s'").await;
        while told.load(Ordering::Relaxed) < 2 {
            batch(&other, "select from cloison.audit_log, cloison.tenants").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        batch(&reader, "rollback").await;
    };
    let (installed, ()) = tokio::join!(installing, others);
    installed.unwrap();
    let timeout = texts(&owner, "select current_setting('lock_timeout')").await;
    assert_eq!(timeout, ["0"]);
}

async fn a_second_install_changes_nothing(server: &Server) {
    let database = server.empty_database().await;
    let before = database.dump(Rows::Without).await;
    for file in FILES {
        let done = database.psql("owner", &["-f", file]);
        assert!(done.status.success(), "{file}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let owner = database.owner().await;
    batch(&owner, "create table public.note (id serial primary key)").await;
    batch(&owner, "select cloison.protect('public.note')").await;
    let installed = database.dump(Rows::With).await;
    assert!(installed.contains("cloison_tenant_select"));

    for file in FILES {
        let done = database.psql("owner", &["-f", file]);
        assert!(done.status.success());
        assert_eq!(String::from_utf8_lossy(&done.stdout), "", "{file} is not silent");
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{file} is not silent");
    }
    migrate::install(&owner, &[Compat::Public, Compat::Supabase], |_| ()).await.unwrap();
    batch(&owner, "select cloison.protect('public.note')").await;
    assert_eq!(installed, database.dump(Rows::With).await);

    // Up, down, up. Protected tables are unprotected on the way down.
    batch(&owner, "select cloison.unprotect('public.note'); drop table public.note").await;
    let up = database.dump(Rows::Without).await;
    migrate::down(&owner, |_| ()).await.unwrap();
    assert_eq!(before, database.dump(Rows::Without).await);
    migrate::down(&owner, |_| ()).await.unwrap();
    migrate::install(&owner, &[Compat::Public, Compat::Supabase], |_| ()).await.unwrap();
    assert_eq!(up, database.dump(Rows::Without).await);

    // Taking the kit away leaves the rows, and tenants without rights on them.
    batch(&owner, "create table public.note (id serial primary key, body text)").await;
    batch(&owner, "insert into public.note (body) values ('stays')").await;
    batch(&owner, "select cloison.protect('public.note')").await;
    migrate::down(&owner, |_| ()).await.unwrap();
    assert_eq!(texts(&owner, "select body from public.note").await, ["stays"]);
    assert_eq!(
        texts(&owner, "select relrowsecurity::text from pg_class where relname = 'note'").await,
        ["false"]
    );
}

async fn a_superuser_may_install(server: &Server) {
    let database = server.empty_database().await;
    let superuser = database.superuser().await;
    migrate::install(&superuser, &[Compat::Public], |_| ()).await.unwrap();
    migrate::install(&superuser, &[Compat::Public], |_| ()).await.unwrap();
    assert_eq!(texts(&superuser, "select cloison.kit_version()").await, ["8"]);
    assert_eq!(
        texts(&superuser, "select count(*) from cloison.protection_findings()").await,
        ["0"]
    );
    assert_eq!(
        texts(&superuser, "select count(*) from cloison.tenants where slug = 'system-default'")
            .await,
        ["1"]
    );
}

async fn without_createrole_it_says_so(server: &Server) {
    let database = server.empty_database().await;
    let superuser = database.superuser().await;
    batch(&superuser, &format!("alter role {} nocreaterole", database.login("owner"))).await;
    batch(&superuser, &format!("alter database {} owner to postgres", database.name)).await;
    let owner = database.owner().await;
    let error = migrate::install(&owner, &[], |_| ()).await.unwrap_err().to_string();
    let name = &database.name;
    assert_eq!(
        error.lines().next().unwrap(),
        format!(
            "run this as the owner of the database, a role with CREATEROLE: role {name}_owner does \
             not own the database {name} (its owner is postgres), and has no CREATEROLE"
        )
    );
    let cause = "\n  because: migrations/0001_schema.sql failed and was rolled back: ";
    assert!(error.contains(cause) && error.contains("permission denied"), "{error}");
    // The connection is still good.
    assert_eq!(texts(&owner, "select 1").await, ["1"]);
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    install: install::Args,
}

async fn the_verb_installs_and_takes_away(server: &Server) {
    let database = server.empty_database().await;
    let owner = database.owner().await;
    let url = database.url("owner");
    for (options, kit, public, auth) in [
        (&[][..], "t", "f", "f"),
        (&["--compat"], "t", "t", "f"),
        (&["--compat", "supabase"], "t", "t", "t"),
        (&["--down"], "f", "f", "f"),
        (&["--compat=public,supabase"], "t", "t", "t"),
    ] {
        let words = ["install", "--database-url", &url].into_iter().chain(options.iter().copied());
        install::run(Program::parse_from(words).install).await.unwrap();
        assert_eq!(
            texts(
                &owner,
                "select to_regprocedure('cloison.kit_version()') is not null \
                 union all select to_regprocedure('public.set_tenant(uuid)') is not null \
                 union all select to_regprocedure('auth.uid()') is not null"
            )
            .await,
            [kit, public, auth],
            "{options:?}"
        );
    }
    let nowhere = Program::parse_from(["install", "--database-url", "host=/nowhere user=x"]);
    let error = install::run(nowhere.install).await.unwrap_err();
    assert_eq!(
        cloison::cli::report(&error),
        "cannot connect to Postgres at /nowhere/.s.PGSQL.5432 (database x, user x): \
         No such file or directory (os error 2)"
    );
}
