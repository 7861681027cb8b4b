//! New tables of a watched schema: protected or reported as they are made, where the role may have
//! an event trigger; found by lint where not.

use cloison::kit::{lint, migrate};
use tokio_postgres::Client;

use crate::support::{Database, Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(
    without_an_event_trigger_lint_finds_them,
    new_tables_are_protected_as_they_are_made,
    new_tables_are_reported,
    what_the_event_trigger_costs_tenants_is_nothing,
);

const REGISTERED: &str = "select relation::text || ' ' || class from cloison.protected_tables \
                          order by 1";

const REPORTED: &str = "select detail ->> 'table' || ': ' || (detail ->> 'why') \
                        from cloison.audit_log where action = 'table.unprotected' order by id";

async fn watch(client: &Client, action: &str) -> bool {
    let sql = "select cloison.watch_schema('public', $1)";
    client.query_one(sql, &[&action]).await.unwrap().get(0)
}

/// Runs SQL as the owner, and returns what psql said.
fn said(database: &Database<'_>, sql: &str) -> String {
    let done = database.psql("owner", &["-c", sql]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    said
}

async fn without_an_event_trigger_lint_finds_them(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    assert!(!migrate::may_watch(&owner).await.unwrap());
    assert!(migrate::may_watch(&database.superuser().await).await.unwrap());
    assert!(!watch(&owner, "protect").await);
    batch(&owner, "create table public.note (tenant_id uuid)").await;
    batch(&owner, "grant select on public.note to cloison_tenant").await;
    assert_eq!(texts(&owner, REGISTERED).await, [""; 0]);
    let found = lint::run(&owner).await.unwrap();
    let keys: Vec<_> = found.iter().map(|finding| &finding.key[..]).collect();
    assert!(keys.contains(&"table_unprotected:public.note"), "{keys:?}");
    assert!(keys.contains(&"watch_off:public"), "{keys:?}");
    let wrong = "select cloison.watch_schema('public', 'ignore')";
    let error = owner.batch_execute(wrong).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("not to ignore"));
    // install tells which of the two holds.
    let url = database.url("owner");
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["install", "--database-url", &url])
        .output()
        .unwrap();
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(told.contains("this role may not make event triggers"), "{told}");
}

async fn new_tables_are_protected_as_they_are_made(server: &Server) {
    let database = server.database().await;
    let (owner, superuser) = (database.owner().await, database.superuser().await);
    assert!(watch(&superuser, "protect").await);
    assert!(watch(&owner, "protect").await, "it is there");

    let quiet = [
        "create table public.note (tenant_id uuid not null, id int)",
        "create table public.copy as select * from public.note",
        "create table public.event (tenant_id uuid not null, at date) partition by range (at)",
        "alter table public.note add column body text",
    ];
    for sql in quiet {
        assert_eq!(said(&database, sql), "", "{sql}");
    }
    let protected = ["copy tenant", "event tenant", "note tenant"];
    assert_eq!(texts(&owner, REGISTERED).await, protected);
    let a = add_tenant(&owner, "a", None).await;
    let b = add_tenant(&owner, "b", None).await;
    batch(&database.tenant(a).await, "insert into public.note (id) values (1)").await;
    let count = "select count(*)::text from public.note";
    assert_eq!(texts(&database.tenant(b).await, count).await, ["0"]);
    assert_eq!(texts(&database.tenant(a).await, count).await, ["1"]);

    // What it cannot protect it reports, and makes.
    let told = said(&database, "create table public.plan (code text)");
    assert!(told.contains("WARNING:  no tenant is kept out of public.plan"), "{told}");
    assert!(told.contains("has no column tenant_id"), "{told}");
    assert_eq!(said(&database, "select cloison.protect('public.plan', 'shared')"), "");
    let told = said(&database, "alter table public.note disable row level security");
    assert!(told.contains("no tenant is kept out of public.note"), "{told}");
    batch(&owner, "alter table public.note enable row level security").await;
    let part = "create table public.event_1 partition of public.event \
                for values from ('2026-01-01') to ('2026-02-01')";
    assert!(said(&database, part).contains("protect its parent again"));
    assert_eq!(said(&database, "select cloison.protect('public.event')"), "");
    // Another's table: the kit's owner could run code of his by it.
    batch(&superuser, "create table public.theirs (tenant_id uuid)").await;
    assert_eq!(
        texts(&owner, REPORTED).await,
        [
            "public.plan: it has no column tenant_id",
            "public.note: its row security is off, or does not hold for its owner",
            "public.event_1: it is a partition: protect its parent again",
            "public.theirs: it does not belong to the owner of the kit",
        ]
    );

    batch(&owner, "select cloison.unwatch_schema('public')").await;
    assert_eq!(said(&database, "create table public.unseen (tenant_id uuid)"), "");
    migrate::down(&superuser, |_| ()).await.unwrap();
    let left = "select evtname from pg_event_trigger";
    assert_eq!(texts(&superuser, left).await, [""; 0]);
}

async fn new_tables_are_reported(server: &Server) {
    let database = server.database().await;
    assert!(watch(&database.superuser().await, "report").await);
    let owner = database.owner().await;
    let told = said(&database, "create table public.note (tenant_id uuid not null)");
    assert!(told.contains("no tenant is kept out of public.note: it is not protected"), "{told}");
    assert!(told.contains("HINT:  select cloison.protect('public.note')"), "{told}");
    assert_eq!(said(&database, "select cloison.protect('public.note')"), "");
    assert_eq!(texts(&owner, REPORTED).await, ["public.note: it is not protected"]);
    // A schema that nobody asked for is left in peace.
    assert_eq!(said(&database, "create schema aside; create table aside.note (id int)"), "");
}

async fn what_the_event_trigger_costs_tenants_is_nothing(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let tenant = add_tenant(&owner, "a", None).await;
    batch(&owner, "create table public.note (id int); select cloison.protect('public.note')").await;
    let control = database.session("control").await;
    let login = database.login("tenant");
    let surroundings =
        format!("select implicit_code::text from cloison.surroundings('{login}', '{{}}')");
    assert_eq!(texts(&control, &surroundings).await, ["false"]);
    assert!(watch(&database.superuser().await, "protect").await);
    // A connection that a temporary table was made on has run nothing of the application's.
    assert_eq!(texts(&control, &surroundings).await, ["false"]);
    let session = database.tenant(tenant).await;
    batch(&session, "create temp table mine (tenant_id uuid); alter table mine add x int").await;
    denied(&session, "select * from cloison.watched_schemas").await;
    denied(&session, "select cloison.watch_schema('public', 'report')").await;
}
