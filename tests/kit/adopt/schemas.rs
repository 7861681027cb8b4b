//! Schemas as people have them, with data: adopted, tried with two tenants, taken back, compared.

use std::path::Path;
use std::process::Command;

use cloison::kit::lint;
use tokio_postgres::Client;

use super::support::{adopts, assert_same, make, round_trip, schema, tenant, value};
use crate::support::{Database, Server, add_tenant, batch, run, texts};

/// All that round trips do, and then each table as two tenants.
async fn tried(database: &Database<'_>, words: &[&str]) {
    let before = schema(database).await;
    round_trip(database, words).await;
    two_tenants(database).await;
    adopts(database, &["--down"]).await;
    assert_same(&before, &schema(database).await, "--down after two tenants");
}

/// The first tenant has every row of every table, the second none, whatever it says.
async fn two_tenants(database: &Database<'_>) {
    let owner = database.owner().await;
    let second = add_tenant(&owner, "second", None).await;
    let first = tenant(database, "system-default").await;
    let second = database.tenant(second).await;
    let tables = "select relation::text from cloison.protected_tables \
                  where class = 'tenant' and part_of is null order by 1";
    let tables = texts(&owner, tables).await;
    assert!(tables.len() > 5, "{tables:?}");
    for table in tables {
        let count = format!("select count(*) from {table}");
        let all = value(&owner, &count).await;
        assert_ne!(all, "0", "{table} holds nothing to see");
        assert_eq!(value(&first, &count).await, all, "{table}");
        assert_eq!(value(&second, &count).await, "0", "{table}");
        for statement in
            [format!("update {table} set tenant_id = tenant_id"), format!("delete from {table}")]
        {
            assert_eq!(second.execute(&statement, &[]).await.unwrap(), 0, "{statement}");
        }
        assert_eq!(value(&owner, &count).await, all, "{table}");
    }
    batch(&owner, "delete from cloison.tenants where slug = 'second'").await;
}

#[test]
fn an_application_of_rails() {
    run(async {
        let server = Server::shared(17);
        let database = server.database().await;
        make(&database, include_str!("schemas/rails.sql")).await;
        tried(&database, &["--schema", "public"]).await;
    });
}

#[test]
fn an_erp_of_several_schemas() {
    run(async {
        let server = Server::shared(15);
        let database = server.database().await;
        make(&database, include_str!("schemas/erp.sql")).await;
        let words = [
            "--schema",
            "sales",
            "--schema",
            "stock",
            "--schema",
            "ledger",
            "--schema",
            "master",
            "--shared",
            "master.countries",
            "--shared",
            "master.currencies",
        ];
        tried(&database, &words).await;
    });
}

/// Python with Django, of the drivers' tests.
fn django(database: &Database<'_>, verb: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("tests/drivers/.venv/bin/python3");
    assert!(python.exists(), "run tests/setup-drivers.sh: Django is not there");
    let socket = database.socket();
    let done = Command::new(python)
        .arg(root.join("tests/kit/adopt/schemas/django_project.py"))
        .arg(verb)
        .arg(socket.parent().unwrap())
        .arg(&database.name)
        .arg(database.login("owner"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Auth, admin and sessions; and Django goes on migrating and working afterwards.
#[test]
fn a_project_of_django() {
    run(async {
        let server = Server::shared(16);
        let database = server.database().await;
        django(&database, "fill_in");
        let words = [
            "--schema",
            "public",
            "--shared",
            "django_content_type",
            "--shared",
            "auth_permission",
            "--skip",
            "django_site",
        ];
        tried(&database, &words).await;

        adopts(&database, &[&words[..], &["--apply"]].concat()).await;
        let owner = database.owner().await;
        add_tenant(&owner, "second", None).await;
        django(&database, "second");

        // A table that a migration makes later is reported, and protected where it can be.
        batch(&database.superuser().await, "select cloison.watch_schema('public', 'protect')")
            .await;
        django(&database, "migrate_again");
        let findings = unprotected(&owner).await;
        assert_eq!(findings, ["public.django_site", "public.notes_note"]);
        let made = "select tenant_column from cloison.protected_tables \
                    where relation = 'notes_tenantnote'::regclass";
        assert_eq!(texts(&owner, made).await, ["tenant_id"]);
        // And adopted by the same command once more: what is protected stays as it is.
        adopts(&database, &[&words[..], &["--apply"]].concat()).await;
        assert_eq!(unprotected(&owner).await, ["public.django_site"]);
    });
}

async fn unprotected(owner: &Client) -> Vec<String> {
    let findings = lint::run(owner).await.unwrap();
    let mut tables: Vec<String> = findings
        .into_iter()
        .filter(|finding| finding.name == "table_unprotected")
        .map(|finding| finding.object)
        .collect();
    tables.sort();
    tables
}
