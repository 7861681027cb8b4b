//! Whose the rows become: by expression, join, parent and table; and those that are nobody's.

use std::fs;

use super::support::{
    adopts, assert_same, make, mapping, printed, program, refuses, run_as, schema, value,
};
use crate::support::{Database, Server, batch, on_every_major, run, texts};

on_every_major!(rows_go_where_the_rules_say);

const TABLES: &str = "
    create schema sales;
    create table users (id serial primary key, email text unique, org_code text);
    create table projects (id serial primary key, owner_id int references users, name text);
    create table tasks (id serial primary key, project_id int not null references projects, what text);
    create table sales.leads (id serial primary key, region text, name text);
    create table sales.region_orgs (region text primary key, organisation_id bigint);
    create table files (path text primary key, size int);
    insert into users (email, org_code) select 'u' || n, 'ORG-' || 1 + n % 3 from generate_series(1, 30) n;
    insert into projects (owner_id, name) select n, 'p' from generate_series(1, 30) n;
    insert into tasks (project_id, what) select n, 't' from generate_series(1, 30) n, generate_series(1, 10);
    insert into sales.region_orgs values ('north', 1), ('south', 2);
    insert into sales.leads (region, name) select case when n % 2 = 0 then 'north' else 'south' end, 'l'
        from generate_series(1, 10) n;
    insert into files select 'org1/f' || n from generate_series(1, 5) n";

const MAPPING: &str = "
    column = 'organisation_id'
    type = 'bigint'
    create_tenants = true
    global = ['sales.region_orgs']

    [table.'users']
    tenant = \"substr(org_code, 5)\"

    [table.'tasks']
    parent = 'projects'

    [table.'projects']
    tenant = \"substr(u.org_code, 5)\"
    from = 'users u'
    where = 'u.id = this.owner_id'

    [table.'sales.leads']
    map = 'sales.region_orgs'
    by = ['region']

    [table.'files']
    tenant = \"substring(path from 'org([0-9]+)/')\"
    default_tenant = 7
";

async fn rows_go_where_the_rules_say(server: &Server) {
    let database = server.database().await;
    make(&database, TABLES).await;
    let before = schema(&database).await;
    let file = mapping(&database, MAPPING);
    let words = ["--mapping", file.to_str().unwrap(), "--apply"];
    let owner = database.owner().await;

    // A row that is nobody's stops it, says which, and changes nothing.
    batch(&owner, "insert into sales.leads (region) values ('east')").await;
    let error = refuses(&database, &words).await;
    assert!(error.contains("rows of sales.leads that are no tenant's"), "{error}");
    assert!(error.contains("1 rows: the rule finds no tenant"), "{error}");
    assert_same(&before, &schema(&database).await, "blocked");
    batch(&owner, "delete from sales.leads where region = 'east'").await;

    // The application writes on between the stages: a trigger finds the tenant.
    adopts_until(&database, &words, "expand").await;
    batch(
        &owner,
        "insert into files values ('org3/new'), ('strange'); \
         insert into projects (owner_id, name) values (2, 'new'); \
         insert into tasks (project_id, what) values (31, 'new')",
    )
    .await;
    adopts(&database, &["--apply"]).await;
    let count = |table: &str| {
        format!(
            "select string_agg(o || ':' || n, ' ' order by o) from (select organisation_id, count(*) \
             from {table} group by 1) x (o, n)"
        )
    };
    for (table, expected) in [
        ("users", "1:10 2:10 3:10"),
        ("projects", "1:10 2:10 3:11"),
        ("tasks", "1:100 2:100 3:101"),
        ("sales.leads", "1:5 2:5"),
        ("files", "1:5 3:1 7:1"),
    ] {
        assert_eq!(value(&owner, &count(table)).await, expected, "{table}");
    }
    let keys = "select string_agg(external_key, ' ' order by external_key) from cloison.tenants";
    assert_eq!(value(&owner, keys).await, "1 2 3 7");
    adopts(&database, &["--down"]).await;
    assert_same(&before, &schema(&database).await, "--down");
    fs::remove_file(file).unwrap();
}

async fn adopts_until(database: &Database<'_>, words: &[&str], stage: &str) {
    let words = [words, &["--stop-after", stage]].concat();
    let code = run_as(database, "owner", &words).await.unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::from(2)));
}

/// Tenants that rows lead to and that are not there are an error, unless one asks for them.
#[test]
fn unknown_tenants_stop_it() {
    run(async {
        let server = Server::shared(16);
        let database = server.database().await;
        make(&database, TABLES).await;
        let file = mapping(&database, &MAPPING.replace("create_tenants = true", ""));
        let words = ["--mapping", file.to_str().unwrap(), "--apply"];
        let error = refuses(&database, &words).await;
        assert!(
            error.contains("public.files: there is no tenant with the external_key \"7\""),
            "{error}"
        );
        batch(
            &database.owner().await,
            "insert into cloison.tenants (name, slug, external_key) values ('7', 'seven', '7'), \
             ('1', 'one', '1')",
        )
        .await;
        let error = refuses(&database, &words).await;
        assert!(error.contains("10 rows: there is no tenant 2"), "{error}");
        assert!(error.contains("10 rows: there is no tenant 3"), "{error}");
        // By its slug as well as by its key.
        adopts(&database, &["--down"]).await;
        adopts(
            &database,
            &["--table", "files", "--type", "text", "--default-tenant", "seven", "--apply"],
        )
        .await;
        let owner = database.owner().await;
        assert_eq!(texts(&owner, "select distinct tenant_id from files").await, ["7"]);
        // A foreign key holds what a number cannot.
        let reference = "select pg_get_constraintdef(oid) from pg_constraint \
                         where conrelid = 'files'::regclass and contype = 'f'";
        assert_eq!(
            value(&owner, reference).await,
            "FOREIGN KEY (tenant_id) REFERENCES cloison.tenants(external_key) ON UPDATE CASCADE"
        );
        fs::remove_file(file).unwrap();
    });
}

/// The picture says which texts of the application name a key that changes, and which keys stay.
#[test]
fn the_plan_names_what_breaks() {
    run(async {
        let server = Server::shared(15);
        let database = server.database().await;
        make(&database, TABLES).await;
        make(
            &database,
            "create table plans (id uuid primary key default gen_random_uuid(), name text);
             create function add_user(e text) returns void language sql as $$
                 insert into users (email) values (e)
                 on conflict (email) do update set email = excluded.email $$;
             create function add_atomic(e text) returns void language sql begin atomic
                 insert into users (email) values (e) on conflict (email) do nothing; end;
             analyze",
        )
        .await;
        let words = ["--schema", "public", "--keep-keys", "files_pkey", "--verbose"];
        let done = program(&database, &words).output().unwrap();
        let text = printed(&done);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        for expected in [
            "public.users_email_key: public.add_user(text) has ON CONFLICT (email), which this key \
             is wider than",
            "public.users_email_key: public.add_atomic(text) has ON CONFLICT (email)",
            "public.files_pkey: stays as it is: it was asked to",
            "public.plans_pkey: stays as it is: a uuid made at random",
            "users_pkey is (tenant_id, id)",
            "stage expand",
            "30 rows",
            "lock: all, a moment; about 5 ms",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("projects_pkey: public.add"), "{text}");
    });
}

/// Statements of the application, which only the server has seen; of this database alone, and where
/// they cannot be read that is said.
#[test]
fn the_plan_finds_statements_that_have_run() {
    run(async {
        let server = Server::start_with(15, "shared_preload_libraries = 'pg_stat_statements'\n");
        let (database, other) = (server.database().await, server.database().await);
        let upsert = "insert into users (email) values ('a@x') on conflict (email) do nothing";
        let plan = |database: &Database<'_>| {
            let done = program(database, &["--schema", "public"]).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            printed(&done)
        };
        for database in [&database, &other] {
            make(database, TABLES).await;
        }
        make(&other, upsert).await;
        let text = plan(&database);
        assert!(
            text.contains(
                "pg_stat_statements: does not tell what the application says: it is \
                               not in this database"
            ),
            "{text}"
        );
        let superuser = database.superuser().await;
        let owner = database.login("owner");
        let may =
            format!("create extension pg_stat_statements; grant pg_read_all_stats to {owner}");
        batch(&superuser, &may).await;
        let text = plan(&database);
        assert!(!text.contains("has ON CONFLICT"), "another database's: {text}");
        assert!(!text.contains("pg_stat_statements"), "{text}");

        make(&database, upsert).await;
        let expected = "public.users_email_key: a statement that ran 1 times, insert into users \
                        (email) values ($1) on conflict (email) do …, has ON CONFLICT (email)";
        let text = plan(&database);
        assert!(text.contains(expected), "{text}");
        // Others' are hidden from who may read its own alone.
        batch(&superuser, &format!("revoke pg_read_all_stats from {owner}; {upsert}")).await;
        let text = plan(&database);
        assert!(text.contains("this role may not read others' statements"), "{text}");
        assert!(text.contains(expected), "{text}");
    });
}
