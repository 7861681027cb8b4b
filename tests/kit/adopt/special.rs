//! What is not a plain table: handled, or refused with a reason.

use super::support::{
    adopts, assert_same, fails_with, make, refuses, round_trip, run_as, schema, tenant, value,
};
use crate::support::{Server, add_tenant, batch, on_every_major, run, texts};

on_every_major!(partitions_views_and_names);

const TABLES: &str = r#"
    create schema "Sales Dept";
    create table "Sales Dept"."Order" (
        "Id" serial primary key, "select" text unique, "user" text not null
    );
    comment on table "Sales Dept"."Order" is 'mixed case, reserved names';
    create table "Sales Dept"."Line" (
        "Order" int not null references "Sales Dept"."Order" ("Id") on delete cascade,
        "Line No" int not null, primary key ("Order", "Line No")
    );
    create table measures (
        at date not null, sensor int not null, value numeric,
        primary key (at, sensor)
    ) partition by range (at);
    create table measures_2024 partition of measures for values from ('2024-01-01') to ('2025-01-01');
    create table measures_2025 partition of measures for values from ('2025-01-01') to ('2026-01-01')
        partition by list (sensor);
    create table measures_2025_1 partition of measures_2025 for values in (1);
    create table measures_2025_x partition of measures_2025 default;
    create unique index measures_value on measures (at, sensor, value);
    create table sensors (id int primary key);
    insert into sensors values (1), (2);
    alter table measures add foreign key (sensor) references sensors;
    create table bookings (
        room text, during tsrange,
        exclude using gist (room with =, during with &&)
    );
    create sequence ticket_numbers;
    create table tickets (number bigint default nextval('ticket_numbers') primary key, what text);
    create index tickets_what on tickets (what);
    alter table tickets cluster on tickets_pkey;
    create table published (id int not null, code text not null);
    create unique index published_id on published (id) include (code) with (fillfactor = 70);
    alter table published replica identity using index published_id;
    create table log_lines (at timestamptz default now(), line text);
    create view recent_lines as select * from log_lines where at > now() - interval '1 day';
    create view recent_two as select line from recent_lines;
    create materialized view line_count as select count(*) from log_lines;
    create table touched (id serial primary key, note text, touched_at timestamptz);
    create function touch() returns trigger language plpgsql as $$
        begin new.touched_at := now(); return new; end $$;
    create trigger touch before update on touched for each row execute function touch();
    alter table touched enable row level security;
    create policy own on touched as restrictive for select using (note <> 'hidden');
    grant select, insert (note) on touched to public;
    insert into "Sales Dept"."Order" ("select", "user") values ('a', 'x'), ('b', 'y');
    insert into "Sales Dept"."Line" values (1, 1), (1, 2), (2, 1);
    insert into measures select date '2024-06-01' + n, 1 + n % 2, n from generate_series(0, 400) n;
    insert into bookings values ('blue', '[2024-01-01, 2024-01-02)');
    insert into tickets (what) values ('w');
    insert into published values (1, 'c');
    insert into log_lines (line) values ('l');
    insert into touched (note) values ('n')"#;

async fn partitions_views_and_names(server: &Server) {
    let database = server.database().await;
    // An extension is the superuser's to make.
    batch(&database.superuser().await, "create extension btree_gist").await;
    make(&database, TABLES).await;
    round_trip(
        &database,
        &[
            "--schema",
            "public",
            "--schema",
            "Sales Dept",
            "--column",
            "Tenant",
            "--type",
            "text",
            "--default-tenant",
            "acme",
            "--create-tenants",
        ],
    )
    .await;
    let owner = database.owner().await;
    add_tenant(&owner, "globex", Some("globex")).await;
    let acme = tenant(&database, "acme").await;
    let globex = tenant(&database, "globex").await;
    for (table, rows) in [
        (r#""Sales Dept"."Line""#, "3"),
        ("measures", "401"),
        ("bookings", "1"),
        ("tickets", "1"),
        ("touched", "1"),
    ] {
        let count = format!("select count(*) from {table}");
        assert_eq!(value(&acme, &count).await, rows, "{table}");
        assert_eq!(value(&globex, &count).await, "0", "{table}");
    }
    // Each key within a tenant, on partitions, with an exclusion, by a sequence of nobody's.
    batch(&globex, "insert into sensors values (1)").await;
    for sql in [
        "insert into measures values ('2024-06-01', 1, 0)",
        "insert into bookings values ('blue', '[2024-01-01, 2024-01-03)')",
        "insert into tickets (number, what) values (1, 'w')",
        "insert into published values (1, 'c')",
        r#"insert into "Sales Dept"."Order" ("select", "user") values ('a', 'x')"#,
    ] {
        batch(&globex, sql).await;
        let code = if sql.contains("bookings") { "23P01" } else { "23505" };
        fails_with(&globex, code, sql).await;
        fails_with(&acme, code, sql).await;
    }
    batch(&globex, "insert into tickets (what) values ('next')").await;
    fails_with(&globex, "23503", "insert into measures values ('2024-06-02', 2, 0)").await;
    // Partitions are reached through the parent only.
    fails_with(&acme, "42501", "select * from measures_2025_1").await;
    // A view shows what its reader may see, or nothing.
    if server.major >= 15 {
        assert_eq!(value(&acme, "select count(*) from recent_two").await, "1");
        assert_eq!(value(&globex, "select count(*) from recent_two").await, "0");
    } else {
        fails_with(&acme, "42501", "select count(*) from recent_two").await;
    }
    fails_with(&acme, "42501", "select * from line_count").await;
    // Rows were given a tenant without the application's trigger noticing.
    assert_eq!(value(&owner, "select count(touched_at) from touched").await, "0");
}

/// What an adoption does not do is said before anything is changed, all of it at once.
#[test]
fn what_cannot_be_adopted_is_refused_with_the_reason() {
    run(async {
        let server = Server::shared(14);
        let database = server.database().await;
        make(
            &database,
            "create table mother (id int); create table child () inherits (mother);
             create type thing as (a int); create table typed of thing;
             create table rows (id int); create table holder (id int, r rows);
             create table part (id int) partition by list (id);
             create table part_1 partition of part for values in (1);
             create table money (id int, tenant_id text);
             create table made (id int, tenant_id uuid generated always as (null) stored);
             create table busy (id int, tenant_id uuid);
             create function touch() returns trigger language plpgsql as 'begin return new; end';
             create trigger touch before update on busy for each row execute function touch();
             create table seen (id int); create view everybody as select * from seen;
             grant select on everybody to public;
             create materialized view kept as select * from seen; grant select on kept to public;
             create table room (id int, during tsrange, exclude using gist (during with &&));
             create view v as select 1 as one;
             create table forced (id int, tenant_id uuid);
             alter table forced enable row level security;
             alter table forced force row level security;
             create policy none on forced as restrictive using (false);
             create table lax (id int); create policy all_see on lax using (true)",
        )
        .await;
        batch(&database.superuser().await, "create table theirs (id int)").await;
        let before = schema(&database).await;
        let error = refuses(
            &database,
            &["--schema", "public", "--table", "part_1", "--table", "v", "--apply"],
        )
        .await;
        for expected in [
            "public.mother: it inherits or is inherited from",
            "public.child: it inherits or is inherited from",
            "public.typed: it is a table OF a type",
            "public.rows: its row type is that of a column of public.holder",
            "public.part_1: it is a partition",
            "public.money: tenant_id is of type text there, not uuid",
            "public.made: the column is generated",
            "public.everybody: everybody may read this view of public.seen",
            "public.kept: everybody may read this materialized view",
            "public.v: it is not a table",
            "public.theirs: it belongs to postgres",
            "public.lax: its own policy all_see is permissive",
            "alter policy all_see on public.lax to ROLE",
            "public.forced: row security is forced there by policies of its own",
        ] {
            assert!(error.contains(expected), "{expected}\n{error}");
        }
        assert_same(&before, &schema(&database).await, "a refusal");
        let error = refuses(&database, &["--table", "room", "--apply"]).await;
        assert!(error.contains("gist has no operators there for uuid"), "{error}");
        let error = refuses(&database, &["--table", "nothing", "--table", "a b c"]).await;
        assert_eq!(error, "there is no table nothing, no table a b c");
        let error = refuses(&database, &["--table", "seen", "--type", "integer"]).await;
        assert!(error.contains("public.seen: nothing says whose its rows are"), "{error}");
        let error = refuses(&database, &["--apply"]).await;
        assert_eq!(error, "no adoption is under way: say which tables");
        // A superuser sees through forced policies, and leaves triggers out without a lock.
        let nulls = ["--table", "forced", "--table", "busy", "--apply"];
        let words = [&["--default-tenant", "system-default"], &nulls[..]].concat();
        batch(
            &database.superuser().await,
            "insert into busy values (1); insert into forced values (1)",
        )
        .await;
        // A null may mean every tenant.
        let error = run_as(&database, "superuser", &nulls).await.unwrap_err().to_string();
        assert!(error.contains("rows of public.busy whose tenant_id is null"), "{error}");
        run_as(&database, "superuser", &words).await.unwrap();
        adopts(&database, &["--verify"]).await;
        let filled = "select count(*) from busy where tenant_id is not null";
        assert_eq!(texts(&database.owner().await, filled).await, ["1"]);
    });
}
