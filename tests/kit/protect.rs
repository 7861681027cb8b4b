//! Tables under isolation: every kind, every verb.

use tokio_postgres::Client;

use crate::support::{Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(
    the_four_verbs_reach_own_rows_only,
    any_kind_of_tenant_column_will_do,
    partitions_and_children_are_protected_too,
    shared_tables_are_read_and_global_ones_unseen,
    odd_names_are_quoted,
    protect_twice_changes_nothing,
    unprotect_leaves_the_rows,
    what_cannot_be_protected_is_refused,
    texts_that_are_equal_name_one_tenant,
    rows_without_a_tenant_are_assigned,
    a_lax_policy_of_the_application_widens_nothing,
    the_context_is_evaluated_once_and_the_index_used,
    parallel_plans_work,
);

async fn the_four_verbs_reach_own_rows_only(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let (a, b) = (add_tenant(&owner, "a", None).await, add_tenant(&owner, "b", None).await);
    batch(
        &owner,
        "create schema shop; create table shop.item (id serial primary key, name text); \
         select cloison.protect('shop.item')",
    )
    .await;
    let (of_a, of_b) = (database.tenant(a).await, database.tenant(b).await);
    for (session, name) in [(&of_a, "a"), (&of_b, "b")] {
        batch(session, &format!("insert into shop.item (name) values ('{name}'), ('{name}2')"))
            .await;
    }
    assert_eq!(texts(&of_a, "select name from shop.item order by 1").await, ["a", "a2"]);
    assert_eq!(texts(&of_b, "select name from shop.item order by 1").await, ["b", "b2"]);

    assert_eq!(of_a.execute("update shop.item set name = name || '!'", &[]).await.unwrap(), 2);
    assert_eq!(of_a.execute("delete from shop.item where name like 'b%'", &[]).await.unwrap(), 0);
    denied(&of_a, &format!("update shop.item set tenant_id = '{b}'")).await;
    denied(&of_a, &format!("insert into shop.item (name, tenant_id) values ('x', '{b}')")).await;
    denied(
        &of_a,
        &format!(
            "insert into shop.item (id, name, tenant_id) values (1, 'x', '{b}') \
             on conflict (id) do update set name = 'x'"
        ),
    )
    .await;
    denied(&of_a, "truncate shop.item").await;
    denied(&of_a, "select setval('shop.item_id_seq', 1)").await;
    assert_eq!(of_a.execute("delete from shop.item", &[]).await.unwrap(), 2);
    assert_eq!(texts(&of_b, "select name from shop.item order by 1").await, ["b", "b2"]);
    // A migration's data step reaches all rows.
    assert_eq!(owner.execute("update shop.item set name = 'm'", &[]).await.unwrap(), 2);
    let no_context = database.session("tenant").await;
    denied(&no_context, "select * from shop.item").await;
    denied(&no_context, "insert into shop.item (name) values ('x')").await;
    denied(&no_context, "update shop.item set name = 'x'").await;
    denied(&no_context, "delete from shop.item").await;
    denied(&database.session("control").await, "select * from shop.item").await;
}

async fn any_kind_of_tenant_column_will_do(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", Some("1")).await;
    let b = add_tenant(&owner, "b", Some("2")).await;
    for kind in ["smallint", "integer", "bigint", "text", "varchar(20)", "uuid"] {
        let values = if kind == "uuid" {
            format!("('of a', '{a}'), ('of b', '{b}')")
        } else {
            "('of a', '1'), ('of b', '2')".to_owned()
        };
        batch(
            &owner,
            &format!(
                "drop table if exists public.conversation; \
                 delete from cloison.protected_tables; \
                 create table public.conversation (body text, organisation_id {kind}); \
                 insert into public.conversation values {values}; \
                 select cloison.protect('public.conversation', 'tenant', 'organisation_id')"
            ),
        )
        .await;
        let session = database.tenant(a).await;
        batch(&session, "insert into public.conversation (body) values ('new')").await;
        assert_eq!(
            texts(&session, "select body from public.conversation order by 1").await,
            ["new", "of a"],
            "{kind}"
        );
        denied(&session, &format!("insert into public.conversation values {values}")).await;
        assert_eq!(
            session.execute("update public.conversation set body = 'x'", &[]).await.unwrap(),
            2
        );
        assert_eq!(findings(&owner).await, [""; 0], "{kind}");
    }
}

async fn partitions_and_children_are_protected_too(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let (a, b) = (add_tenant(&owner, "a", None).await, add_tenant(&owner, "b", None).await);
    batch(
        &owner,
        "create table public.event (at integer) partition by range (at); \
         create table public.event_low partition of public.event for values from (0) to (10) \
             partition by range (at); \
         create table public.event_low_1 partition of public.event_low for values from (0) to (5); \
         create table public.event_high partition of public.event for values from (10) to (20); \
         insert into public.event values (1), (11); \
         select cloison.protect('public.event'); \
         create table public.base (n integer); \
         create table public.derived () inherits (public.base); \
         select cloison.protect('public.base')",
    )
    .await;
    assert_eq!(findings(&owner).await, [""; 0]);
    let (of_a, of_b) = (database.tenant(a).await, database.tenant(b).await);
    batch(&of_a, "insert into public.event values (2), (12)").await;
    assert_eq!(texts(&of_a, "select at from public.event order by 1").await, ["2", "12"]);
    assert_eq!(texts(&of_b, "select at from public.event").await, [""; 0]);
    for child in ["event_low", "event_low_1", "event_high", "derived"] {
        denied(&of_a, &format!("select * from public.{child}")).await;
        denied(&of_a, &format!("insert into public.{child} values (3)")).await;
    }
    // A partition that comes later is noticed, and the cure that is told works.
    batch(
        &owner,
        "create table public.event_late partition of public.event for values from (20) to (30)",
    )
    .await;
    assert_eq!(
        findings(&owner).await,
        ["public.event_late: it belongs to public.event and is not protected itself"]
    );
    batch(&owner, "select cloison.protect('public.event')").await;
    assert_eq!(findings(&owner).await, [""; 0]);
    batch(&owner, "select cloison.unprotect('public.event')").await;
    batch(&owner, "select cloison.unprotect('public.base')").await;
    assert_eq!(texts(&owner, "select count(*) from cloison.protected_tables").await, ["0"]);
}

async fn shared_tables_are_read_and_global_ones_unseen(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", None).await;
    batch(
        &owner,
        "create table public.country (code text); insert into public.country values ('DZ'), ('CH'); \
         grant all on public.country to public; \
         create table public.job (id integer); insert into public.job values (1); \
         select cloison.protect('public.country', 'shared'); \
         select cloison.protect('public.job', 'global')",
    )
    .await;
    let session = database.tenant(a).await;
    assert_eq!(texts(&session, "select code from public.country order by 1").await, ["CH", "DZ"]);
    for sql in [
        "insert into public.country values ('FR')",
        "update public.country set code = 'x'",
        "delete from public.country",
        "truncate public.country",
        "select * from public.job",
        "insert into public.job values (2)",
    ] {
        denied(&session, sql).await;
    }
    // Even with a grant a global table shows nothing.
    batch(&owner, "grant select on public.job to cloison_tenant").await;
    assert_eq!(texts(&session, "select * from public.job").await, [""; 0]);
    let superadmin = database.session("superadmin").await;
    batch(&superadmin, "select cloison.enable_superadmin_mode()").await;
    database.permit_writes(&superadmin).await;
    batch(&superadmin, "insert into public.job values (2); update public.country set code = 'x'")
        .await;
    assert_eq!(texts(&superadmin, "select count(*) from public.job").await, ["2"]);
}

async fn odd_names_are_quoted(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let (a, b) =
        (add_tenant(&owner, "a", Some("A'\"1")).await, add_tenant(&owner, "b", None).await);
    batch(
        &owner,
        r#"create schema "Select"; create table "Select"."Order ""x" ("from" serial, "Tenant;Id" text);
           select cloison.protect('"Select"."Order ""x"', 'tenant', 'Tenant;Id');
           create table "Select"."user" ("group" integer);
           select cloison.protect('"Select"."user"', 'tenant', 'where')"#,
    )
    .await;
    assert_eq!(findings(&owner).await, [""; 0]);
    let session = database.tenant(a).await;
    batch(&session, r#"insert into "Select"."Order ""x" default values"#).await;
    batch(&session, r#"insert into "Select"."user" values (1)"#).await;
    assert_eq!(texts(&session, r#"select "Tenant;Id" from "Select"."Order ""x""#).await, ["A'\"1"]);
    let other = database.tenant(b).await;
    assert_eq!(texts(&other, r#"select * from "Select"."user""#).await, [""; 0]);
    // The cures that findings tell are quoted as well.
    batch(
        &owner,
        r#"create policy "Lax one" on "Select"."user" using (true);
           drop policy cloison_tenant_select on "Select"."user";
           alter table "Select"."user" no force row level security;
           drop policy cloison_tenant_select on "Select"."Order ""x""#,
    )
    .await;
    let cures = texts(&owner, "select fix from cloison.protection_findings()").await;
    assert_eq!(cures.len(), 4);
    for cure in cures {
        batch(&owner, &cure).await;
    }
    assert_eq!(findings(&owner).await, [""; 0]);
    batch(&owner, r#"select cloison.unprotect('"Select"."user"')"#).await;
}

async fn protect_twice_changes_nothing(server: &Server) {
    use crate::support::Rows;
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create table public.note (id serial); select cloison.protect('public.note'); \
         create table public.org (id serial, org integer); \
         select cloison.protect('public.org', 'tenant', 'org'); \
         create table public.part (id integer) partition by list (id); \
         create table public.part_1 partition of public.part for values in (1); \
         select cloison.protect('public.part')",
    )
    .await;
    let versions = "select string_agg(xmin::text, ' ' order by oid) from pg_policy \
                    union all select string_agg(xmin::text, ' ' order by oid) from pg_class c \
                        where relnamespace = 'public'::regnamespace \
                    union all select string_agg(xmin::text, ' ') from cloison.protected_tables";
    let before = (texts(&owner, versions).await, database.dump(Rows::With).await);
    batch(
        &owner,
        "select cloison.protect('public.note'); \
         select cloison.protect('public.org', 'tenant', 'org'); \
         select cloison.protect('public.part')",
    )
    .await;
    // Not one row of the catalogue was written.
    assert_eq!(before, (texts(&owner, versions).await, database.dump(Rows::With).await));
}

async fn unprotect_leaves_the_rows(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", None).await;
    batch(
        &owner,
        "create table public.note (id serial, body text); \
         insert into public.note (body) values ('x'); \
         select cloison.protect('public.note'); select cloison.unprotect('public.note'); \
         select cloison.unprotect('public.note')",
    )
    .await;
    assert_eq!(
        texts(&owner, "select body || (tenant_id is not null)::text from public.note").await,
        ["xtrue"]
    );
    assert_eq!(texts(&owner, "select count(*) from cloison.protected_tables").await, ["0"]);
    assert_eq!(
        texts(
            &owner,
            "select relrowsecurity::text || relforcerowsecurity::text from pg_class \
             where relname = 'note' and relnamespace = 'public'::regnamespace"
        )
        .await,
        ["falsefalse"]
    );
    assert_eq!(
        texts(&owner, "select count(*) from pg_policy where polrelid = 'public.note'::regclass")
            .await,
        ["0"]
    );
    denied(&database.tenant(a).await, "select * from public.note").await;
    denied(&database.tenant(a).await, "select nextval('public.note_id_seq')").await;
}

async fn what_cannot_be_protected_is_refused(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create view public.v as select 1 as n; \
         create materialized view public.m as select 1 as n; \
         create table public.dated (tenant_id date); create sequence public.s; \
         create temporary table passing (n integer); \
         create table public.made (n integer, tenant_id integer generated always as identity)",
    )
    .await;
    for (call, why) in [
        ("'public.v'", "it is a view"),
        ("'public.m'", "it is a materialized view"),
        ("'public.s'", "it is not a table"),
        ("'passing'", "it is a temporary table"),
        ("'public.dated'", "a tenant column cannot be of type date"),
        ("'public.made'", "generated"),
        ("'cloison.tenants'", "not a table of the application"),
        ("'public.dated', 'private'", "class is tenant, shared or global"),
    ] {
        let error = owner.batch_execute(&format!("select cloison.protect({call})")).await;
        let error = error.unwrap_err();
        let told = error.as_db_error().unwrap().message();
        assert!(told.contains(why), "{call}: {told}");
    }
    assert_eq!(texts(&owner, "select count(*) from cloison.protected_tables").await, ["0"]);
}

async fn rows_without_a_tenant_are_assigned(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", Some("7")).await;
    batch(
        &owner,
        &format!(
            "create table public.one (n integer); insert into public.one values (1); \
             select cloison.protect('public.one'); \
             create table public.two (n integer); insert into public.two values (1); \
             select cloison.protect('public.two', existing_rows_to => '{a}'); \
             create table public.three (n integer, org integer); \
             insert into public.three values (1, null), (2, 8); \
             select cloison.protect('public.three', 'tenant', 'org', '{a}')"
        ),
    )
    .await;
    assert_eq!(
        texts(
            &owner,
            "select slug from public.one join cloison.tenants t on t.id = tenant_id \
             union all select slug from public.two join cloison.tenants t on t.id = tenant_id \
             union all select org::text from public.three"
        )
        .await,
        ["system-default", "a", "8", "7"]
    );
    // Without an external key there is nothing to give them, and NOT NULL stops it.
    batch(&owner, "create table public.four (org integer); insert into public.four values (null)")
        .await;
    let error = owner.batch_execute("select cloison.protect('public.four', 'tenant', 'org')").await;
    assert_eq!(error.unwrap_err().code().unwrap().code(), "23502");
}

async fn a_lax_policy_of_the_application_widens_nothing(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let (a, b) = (add_tenant(&owner, "a", None).await, add_tenant(&owner, "b", None).await);
    batch(
        &owner,
        "create table public.note (body text); select cloison.protect('public.note'); \
         create policy lax on public.note using (true) with check (true)",
    )
    .await;
    batch(&database.tenant(b).await, "insert into public.note values ('of b')").await;
    let session = database.tenant(a).await;
    assert_eq!(texts(&session, "select * from public.note").await, [""; 0]);
    assert_eq!(session.execute("delete from public.note", &[]).await.unwrap(), 0);
    denied(&session, &format!("insert into public.note values ('x', '{b}')")).await;
}

/// A big table: 200 tenants, 40,000 rows.
async fn big_table(owner: &Client) {
    batch(
        owner,
        "insert into cloison.tenants (name, slug) select 't' || i, 't' || i from generate_series(1, 200) i; \
         create table public.big (id integer, body text, tenant_id uuid); \
         insert into public.big select i, repeat('x', 50), t.id \
             from cloison.tenants t, generate_series(1, 200) i where t.slug like 't%'; \
         select cloison.protect('public.big'); analyze public.big",
    )
    .await;
}

async fn the_context_is_evaluated_once_and_the_index_used(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    big_table(&owner).await;
    let a = owner.query_one("select id from cloison.tenants where slug = 't7'", &[]).await.unwrap();
    let session = database.tenant(a.get(0)).await;
    for (sql, inits) in [
        ("select * from public.big where body is not null", 1),
        ("delete from public.big where body is not null", 2),
        ("update public.big set body = 'y'", 3),
    ] {
        batch(&session, "begin").await;
        let plan = texts(&session, &format!("explain (analyze, costs off, timing off) {sql}"))
            .await
            .join("\n");
        batch(&session, "rollback").await;
        assert!(plan.contains("big_tenant_id_idx"), "{plan}");
        assert!(!plan.contains("SubPlan"), "{plan}");
        let planned = plan.matches("InitPlan").count();
        let named_once = plan.lines().filter(|l| l.trim_start().starts_with("InitPlan")).count();
        assert!(planned >= 1 && named_once <= inits, "{plan}");
        // Each of them ran once, or not at all.
        for line in plan.lines().filter(|line| line.contains("Result (")) {
            assert!(line.contains("loops=1") || line.contains("never executed"), "{plan}");
        }
    }
}

async fn parallel_plans_work(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    big_table(&owner).await;
    let a = owner.query_one("select id from cloison.tenants where slug = 't7'", &[]).await.unwrap();
    let session = database.tenant(a.get(0)).await;
    batch(
        &session,
        "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; \
         set min_parallel_table_scan_size = 0; set min_parallel_index_scan_size = 0; \
         set enable_indexscan = off; set enable_bitmapscan = off",
    )
    .await;
    let query = "select count(*) from public.big where body like 'x%'";
    let plan = texts(&session, &format!("explain (analyze, costs off, timing off) {query}")).await;
    let plan = plan.join("\n");
    assert_eq!(texts(&session, query).await, ["200"], "{plan}");
    assert!(plan.contains("Parallel Seq Scan"), "{plan}");
    assert!(plan.contains("Workers Launched: 2"), "{plan}");
    // A worker has a process id of its own, so the function itself has to stay with the leader.
    let direct = "select count(*) from public.big where tenant_id = cloison.current_tenant_id()";
    assert_eq!(texts(&session, direct).await, ["200"]);
}

async fn findings(owner: &Client) -> Vec<String> {
    texts(owner, "select relation || ': ' || problem from cloison.protection_findings()").await
}

/// Two tenants whose keys a column takes for equal would see each other's rows.
async fn texts_that_are_equal_name_one_tenant(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create collation public.any_case (provider = icu, locale = 'und-u-ks-level2', \
             deterministic = false); \
         create table public.item (org text collate public.any_case not null, name text)",
    )
    .await;
    let protect = "select cloison.protect('public.item', 'tenant', 'org')";
    let refused = owner.batch_execute(protect).await.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code().code(), "0A000");
    assert!(refused.message().contains("item.org has a collation"), "{refused}");
    batch(&owner, refused.hint().unwrap()).await;
    batch(&owner, protect).await;

    // A number that is spelled in two ways is one tenant's.
    add_tenant(&owner, "two", Some("2")).await;
    for key in ["02", "+2", " 2"] {
        let sql = "insert into cloison.tenants (name, slug, external_key) values ($1, 'x', $1)";
        let refused = owner.execute(sql, &[&key]).await.unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert_eq!(refused.code().code(), "23505", "{key}: {refused}");
        assert_eq!(refused.constraint(), Some("tenants_canonical_key_idx"), "{key}");
    }
    add_tenant(&owner, "other", Some("two")).await;
}
