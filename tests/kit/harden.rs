//! Hardening: what is closed, what goes on working, and the way back.

use cloison::kit::migrate;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{
    Database, Rows, Server, add_tenant, batch, denied, on_a_server_of_its_own, on_every_major, pid,
    texts,
};

on_every_major!(
    attacks_across_tenants_work_before_and_not_after,
    the_owner_keeps_what_tenants_lose,
    the_owner_of_a_materialized_view_refreshes_it_concurrently,
    introspection_goes_on,
    an_owner_closes_what_he_may,
    what_is_allowed_is_told_for_ever,
    what_a_tenant_was_given_directly_is_taken_too,
    functions_of_the_application_go_on,
    an_owner_cannot_lose_what_a_superuser_noted,
);
on_a_server_of_its_own!(everything_in_the_list_is_refused, the_way_back_leaves_nothing);

/// A statement that uses each right of the list, and the right.
const USES: &str = r"
    select h.target || ' ' || h.privilege, case h.kind
        when 'function' then (
            select pg_catalog.format('select pg_catalog.%I(%s)', p.proname, (
                -- Not a constant: a strict function would not even be looked up.
                select pg_catalog.string_agg(pg_catalog.format(
                    '%s (select null::%s)',
                    case when p.provariadic <> 0 and a.n = p.pronargs then 'variadic' end,
                    pg_catalog.format_type(a.type, null)), ', ' order by a.n)
                from pg_catalog.unnest(p.proargtypes) with ordinality a (type, n)))
            from pg_catalog.pg_proc p where p.oid = h.id)
        when 'table' then case h.privilege
            when 'UPDATE' then 'update pg_catalog.pg_settings set setting = setting where false'
            else 'select from ' || pg_catalog.substr(h.target, 7) || ' where false' end
        when 'columns' then 'select reltuples from pg_catalog.pg_class where false'
        when 'language' then case h.name when 'plpgsql' then 'do language plpgsql $$ begin end $$' end
        when 'database' then case h.privilege
            when 'CREATE' then 'create schema mine' else 'create temporary table t ()' end
        when 'schema' then pg_catalog.format('create table %s.t ()', pg_catalog.substr(h.target, 8))
        end
    from cloison.hardening() h";

/// The rights of the list whose use is refused, and those whose use is not.
async fn tried(superuser: &Client, session: &Client) -> (Vec<String>, Vec<String>) {
    let (mut refused, mut possible) = (Vec::new(), Vec::new());
    for row in superuser.query(USES, &[]).await.unwrap() {
        let (right, sql): (String, Option<String>) = (row.get(0), row.get(1));
        let Some(sql) = sql else { continue };
        batch(session, "begin").await;
        let code = session.batch_execute(&sql).await.err().map(|error| error.code().cloned());
        batch(session, "rollback").await;
        if code == Some(Some(SqlState::INSUFFICIENT_PRIVILEGE)) {
            refused.push(right);
        } else {
            possible.push(right);
        }
    }
    (refused, possible)
}

async fn everything_in_the_list_is_refused(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    let session = database.session("tenant").await;
    // What Postgres itself gives to superusers only is in the list too, lest somebody grants it.
    let (refused, possible) = tried(&superuser, &session).await;
    assert!(possible.len() > 240, "{possible:?}");
    assert!(refused.len() < 40, "{refused:?}");
    assert_eq!(database.refused_in("postgres", "tenant").await, None);

    let report = database.harden(&[]).await;
    assert_eq!(report.open(), 0, "{report}");
    let (_, possible) = tried(&superuser, &session).await;
    assert!(possible.is_empty(), "{possible:?}");
    for elsewhere in ["postgres", "template1"] {
        let refused = database.refused_in(elsewhere, "tenant").await;
        assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{elsewhere}");
    }
    let languages = "select lanname from pg_language where lanpltrusted and has_language_privilege(oid, 'usage')";
    assert!(texts(&session, languages).await.is_empty());
    let columns = ["relpages", "relallvisible", "*"];
    for column in columns {
        denied(&session, &format!("select {column} from pg_class")).await;
    }
    assert!(texts(&superuser, "select problem from cloison.hardening_findings()").await.is_empty());
    // Again, and nothing is left to do.
    let changes = "select count(*), max(id) from cloison.hardening_changes";
    let before = superuser.query_one(changes, &[]).await.unwrap();
    assert_eq!(database.harden(&[]).await, report);
    let after = superuser.query_one(changes, &[]).await.unwrap();
    assert_eq!((before.get::<_, i64>(0), before.get::<_, i64>(1)), (after.get(0), after.get(1)));
}

/// What one tenant does to another: the name, what the other does first, the attack, its answer.
const ATTACKS: &[(&str, &str, &str, &str)] = &[
    (
        "reading statements",
        "select 'secret' || ' of b'",
        "select count(*) from pg_stat_activity where query like '%secret''%' and pid <> pg_backend_pid()",
        "1",
    ),
    (
        "watching locks",
        "select pg_advisory_lock(7)",
        "select count(*) > 0 from pg_locks where locktype = 'advisory'",
        "t",
    ),
    ("an advisory lock", "select pg_advisory_lock(8)", "select pg_try_advisory_lock(8)", "f"),
    (
        "a large object",
        "select lo_from_bytea(4711, 'secret of b')",
        "select convert_from(lo_get(4711), 'UTF8')",
        "secret of b",
    ),
    (
        "their list",
        "select lo_create(4712)",
        "select count(*) from pg_largeobject_metadata where oid = 4712",
        "1",
    ),
    ("sizes", "select 1", "select pg_relation_size('public.note') > 0", "t"),
    ("row counts", "select 1", "select reltuples::text from pg_class where relname = 'note'", "5"),
    (
        "counters",
        "select 1",
        "select n_live_tup from pg_stat_user_tables where relname = 'note'",
        "5",
    ),
    ("row versions", "select 1", "select currtid2('public.note', '(0,5)')", "(0,5)"),
    ("SQL in a text", "select 1", "select count(query_to_xml('select 1', true, true, ''))", "1"),
    ("the seed", "select 1", "select setseed(0.5) is not null", "t"),
    (
        "logical decoding",
        "select 1",
        "select pg_logical_emit_message(true, 'outbox', 'forged') is not null",
        "t",
    ),
    ("a message", "listen news", "select pg_notify('news', 'forged') is not null", "t"),
    ("a snapshot", "select 1", "select count(pg_export_snapshot())", "1"),
    (
        "a setting",
        "select 1",
        "update pg_settings set setting = '2048' where name = 'work_mem'; show work_mem",
        "2MB",
    ),
];

async fn attacks_across_tenants_work_before_and_not_after(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let (a, b) = (add_tenant(&owner, "a", None).await, add_tenant(&owner, "b", None).await);
    batch(&owner, "create table public.note (n int); select cloison.protect('public.note')").await;
    let rows = format!(
        "insert into public.note (n, tenant_id) select n, '{b}' from generate_series(1, 5) n"
    );
    batch(&database.superuser().await, &format!("{rows}; analyze public.note")).await;
    let (attacker, victim) = (database.tenant(a).await, database.tenant(b).await);
    assert_eq!(texts(&attacker, "select count(*) from public.note").await, ["0"]);
    for (name, first, attack, answer) in ATTACKS {
        batch(&victim, first).await;
        let statistics = "select n_live_tup from pg_stat_user_tables where relname = 'note'";
        while attack == &statistics && texts(&attacker, statistics).await != ["5"] {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(texts(&attacker, attack).await.last().unwrap(), answer, "{name}");
    }
    let victims = pid(&victim).await;
    let end = format!("select pg_terminate_backend({victims})");
    assert_eq!(texts(&attacker, &end).await, ["t"]);
    let gone = async { while victim.batch_execute("select 1").await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();

    database.harden(&[]).await;
    for (_, _, attack, _) in ATTACKS {
        denied(&attacker, attack).await;
    }
    let victim = database.tenant(b).await;
    for signal in ["pg_terminate_backend", "pg_cancel_backend"] {
        denied(&attacker, &format!("select {signal}({})", pid(&victim).await)).await;
    }
    assert_eq!(texts(&victim, "select count(*) from public.note").await, ["5"]);
}

async fn the_owner_keeps_what_tenants_lose(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(&owner, "create table public.note (n int); select cloison.protect('public.note')").await;
    let superuser = database.superuser().await;
    let (_, before) = tried(&superuser, &owner).await;
    database.harden(&[]).await;
    let (_, after) = tried(&superuser, &owner).await;
    assert_eq!(before, after);
    // Who looks after the server does, too.
    batch(&superuser, &format!("grant pg_monitor to {}", database.login("superadmin"))).await;
    let monitor = database.session("superadmin").await;
    texts(
        &monitor,
        "select count(*) from pg_stat_activity, pg_locks, pg_class where reltuples > 0",
    )
    .await;
    texts(&monitor, "select pg_database_size(current_database())").await;
    if server.major <= 15 {
        let dumped = database.dump_as("owner");
        assert!(dumped.contains("CREATE TABLE public.note"), "{dumped}");
    }
}

/// REFRESH … CONCURRENTLY makes a temporary table as the view's owner, whoever asks for it.
async fn the_owner_of_a_materialized_view_refreshes_it_concurrently(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    let role = database.login("viewer");
    for sql in [
        format!("create role {role}"),
        format!("create schema seen authorization {role}"),
        format!("set role {role}"),
        "create materialized view seen.totals as select 1 as n".to_owned(),
        "create unique index on seen.totals (n)".to_owned(),
        "reset role".to_owned(),
    ] {
        batch(&superuser, &sql).await;
    }
    database.harden(&[]).await;
    batch(&superuser, "refresh materialized view concurrently seen.totals").await;
    // A tenant does not own one, and has no temporary tables.
    denied(&database.session("tenant").await, "create temporary table t ()").await;
}

/// The commands of psql that ask the catalogue.
const COMMANDS: &[&str] = &[
    "\\d",
    "\\d public.note",
    "\\d+ public.note",
    "\\dS",
    "\\dt",
    "\\di",
    "\\ds",
    "\\dv",
    "\\dm",
    "\\dE",
    "\\df",
    "\\dfS pg_*",
    "\\dn",
    "\\dn+",
    "\\l",
    "\\du",
    "\\du+",
    "\\dp",
    "\\z",
    "\\ddp",
    "\\dT",
    "\\dT+",
    "\\da",
    "\\db",
    "\\dc",
    "\\dC",
    "\\dd",
    "\\dD",
    "\\des",
    "\\det",
    "\\deu",
    "\\dew",
    "\\dF",
    "\\dFd",
    "\\dFp",
    "\\dFt",
    "\\dg",
    "\\dL",
    "\\do",
    "\\dO",
    "\\dPn",
    "\\drds",
    "\\dRp",
    "\\dRp+",
    "\\dRs",
    "\\dx",
    "\\dX",
    "\\dy",
    "\\dA",
    "\\dAc",
    "\\dAf",
    "\\dAo",
    "\\dAp",
    "\\sf cloison.kit_version",
    "\\sv cloison_view",
    "\\conninfo",
    "\\encoding",
    "\\dconfig",
];

async fn introspection_goes_on(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create table public.note (n serial primary key, t text); \
                   create view public.cloison_view as select 1 as one; \
                   select cloison.protect('public.note')",
    )
    .await;
    // An older psql does not know all of a newer server.
    let told = |command: &&str| {
        let done = database.psql("tenant", &["-c", command]);
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let before: Vec<_> = COMMANDS.iter().map(told).collect();
    assert!(before.iter().filter(|(success, _)| *success).count() > 50, "{before:?}");
    database.harden(&[]).await;
    for (command, before) in COMMANDS.iter().zip(before) {
        assert_eq!(told(command), before, "{command}");
    }
    // What prints sizes is for the owner.
    for command in ["\\dt+", "\\di+", "\\dl"] {
        let told = database.psql("tenant", &["-c", command]);
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains("permission denied for"), "{command}: {told}");
        let told = database.psql("owner", &["-c", command]);
        assert!(told.status.success(), "{command}: {}", String::from_utf8_lossy(&told.stderr));
    }
    let session = database.session("tenant").await;
    let views = "select c.oid::regclass::text from pg_class c \
                 where c.relnamespace = 'information_schema'::regnamespace and c.relkind = 'v' \
                   and has_table_privilege(c.oid, 'select')";
    let views = texts(&session, views).await;
    assert!(views.len() > 55, "{views:?}");
    for view in views {
        batch(&session, &format!("select * from {view}")).await;
    }
    // The catalogue's own tables and views that stay.
    let stays = "select c.oid::regclass::text from pg_class c \
                 where c.relnamespace = 'pg_catalog'::regnamespace and c.relkind in ('r', 'v') \
                   and has_table_privilege(c.oid, 'select')";
    for relation in texts(&session, stays).await {
        batch(&session, &format!("select * from {relation}")).await;
    }
    let columns = "select c.oid, c.xmin, c.tableoid, c.relname, c.relkind, c.relacl, c.reloptions \
                   from pg_class c";
    batch(&session, columns).await;
}

async fn an_owner_closes_what_he_may(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let report = cloison::kit::harden::harden(&owner, &[]).await.unwrap();
    assert!(report.parts()["temporary"].open.is_empty(), "{report}");
    assert_eq!(report.parts()["temporary"].closed, 1);
    let signals = &report.parts()["signals"];
    let ((reason, consequence), _) = signals.open.first_key_value().unwrap();
    assert_eq!(reason, "only postgres may, which owns it");
    assert!(consequence.contains("end the sessions of the others"));
    let session = database.session("tenant").await;
    denied(&session, "create temporary table t ()").await;
    texts(&session, "select pg_cancel_backend(0)").await;
    let findings = texts(
        &owner,
        "select problem from cloison.hardening_findings() where part = 'signals' and level = 'warning'",
    )
    .await;
    assert!(
        findings[0].starts_with("public has EXECUTE on function pg_cancel_backend"),
        "{findings:?}"
    );
    // A superuser does the rest.
    database.harden(&[]).await;
    denied(&session, "select pg_cancel_backend(0)").await;
}

async fn what_is_allowed_is_told_for_ever(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    let session = database.session("tenant").await;
    let report = database.harden(&["temporary", "pg_stat_activity", "large_objects"]).await;
    assert_eq!(report.parts()["temporary"].allowed, 1);
    batch(&session, "create temporary table t ()").await;
    texts(&session, "select count(*) from pg_stat_activity").await;
    texts(&session, "select lo_create(0) > 0").await;
    denied(&session, "select count(*) from pg_locks").await;
    // What Postgres keeps from everybody cannot be allowed by the name of its part.
    denied(&session, "select lo_import('/etc/passwd')").await;
    denied(&session, "select * from pg_largeobject").await;
    // Others than tenants do not get it.
    denied(&database.session("control").await, "create temporary table t ()").await;

    database.harden(&[]).await;
    let told = "select part from cloison.hardening_findings() where level = 'info'";
    assert_eq!(texts(&superuser, told).await, ["activity", "large_objects", "temporary"]);
    let fix = "select fix from cloison.hardening_findings() where part = 'temporary'";
    let fix = texts(&superuser, fix).await.remove(0);
    batch(&superuser, &fix).await;
    denied(&database.session("tenant").await, "create temporary table t ()").await;
    assert_eq!(texts(&superuser, told).await, ["activity", "large_objects"]);

    texts(&superuser, "select count(*) from cloison.allow_back('setseed')").await;
    texts(&session, "select setseed(0.5)").await;
    let unknown = superuser.batch_execute("select cloison.allow_back('no such thing')").await;
    let unknown = unknown.unwrap_err();
    assert_eq!(*unknown.code().unwrap(), SqlState::UNDEFINED_OBJECT);
    denied(&session, "select cloison.allow_back('pg_locks')").await;
}

async fn what_a_tenant_was_given_directly_is_taken_too(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    let login = database.login("tenant");
    batch(&superuser, &format!("grant execute on function setseed(float8) to {login}")).await;
    batch(&superuser, "grant select on pg_stat_activity to cloison_tenant").await;
    database.harden(&[]).await;
    let session = database.session("tenant").await;
    denied(&session, "select setseed(0.5)").await;
    denied(&session, "select * from pg_stat_activity").await;
    // What comes later is found.
    batch(&superuser, &format!("grant execute on function setseed(float8) to {login}")).await;
    let findings = "select problem from cloison.hardening_findings() where part = 'random_seed'";
    let found = texts(&superuser, findings).await;
    assert!(found[0].starts_with(&format!("{login} has EXECUTE on function setseed")), "{found:?}");
}

async fn functions_of_the_application_go_on(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let tenant = add_tenant(&owner, "a", None).await;
    database.harden(&[]).await;
    batch(
        &owner,
        "create function public.twice(n int) returns int language plpgsql as $$ begin return 2 * n; end $$; \
         create function public.thrice(n int) returns int language sql as 'select 3 * n'; \
         create table public.note (n int default public.twice(2)); \
         select cloison.protect('public.note')",
    )
    .await;
    let session = database.tenant(tenant).await;
    assert_eq!(texts(&session, "select twice(1) + thrice(1)").await, ["5"]);
    batch(&session, "insert into public.note default values").await;
    // What tells the proxy of changed tenants sends a notification as the kit's owner.
    batch(&owner, "update cloison.tenants set plan = 'x'").await;
    // Drivers call these by themselves.
    batch(
        &session,
        "select pg_advisory_unlock_all(), pg_is_in_recovery(), set_config('jit', 'off', false); \
                     close all; unlisten *; reset all",
    )
    .await;
    batch(&session, "discard all").await;
}

/// Every right in the database, as a line each.
const RIGHTS: &str = "
    select format('%s %s %s %s', kind, name, grantee, privilege) from (
        select 'function' as kind, p.oid::regprocedure::text as name, a.grantee::regrole, a.privilege_type as privilege
        from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace::regnamespace::text <> 'cloison'
        union all
        select 'relation', c.oid::regclass::text, a.grantee::regrole, a.privilege_type
        from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
        where c.relkind <> 'S' and c.relnamespace::regnamespace::text not in ('cloison', 'pg_toast')
        union all
        select 'column', format('%s.%s', t.attrelid::regclass, t.attname), a.grantee::regrole, a.privilege_type
        from pg_attribute t, aclexplode(t.attacl) a
        union all
        select 'language', l.lanname, a.grantee::regrole, a.privilege_type
        from pg_language l, aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) a
        union all
        select 'database', d.datname, a.grantee::regrole, a.privilege_type
        from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        union all
        select 'schema', n.nspname, a.grantee::regrole, a.privilege_type
        from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    ) rights order by 1";

async fn rights(database: &Database<'_>) -> Vec<String> {
    texts(&database.superuser().await, RIGHTS).await
}

async fn the_way_back_leaves_nothing(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    let before = rights(&database).await;
    database.harden(&["temporary", "pg_stat_activity", "pg_class"]).await;
    database.harden(&["large_objects"]).await;
    let closed = "select part || ' ' || done from cloison.close_again('temporary')";
    assert_eq!(texts(&superuser, closed).await, ["temporary true"]);
    let hardened = rights(&database).await;
    assert!(before.iter().filter(|right| !hardened.contains(right)).count() > 200);
    assert!(texts(&superuser, "select target from cloison.unharden()").await.is_empty());
    assert_eq!(rights(&database).await, before);

    // Taking the kit away takes the way back, too.
    database.harden(&[]).await;
    let kit = database.dump(Rows::Without).await;
    assert!(kit.contains("cloison.harden"));
    migrate::down(&superuser, |_| ()).await.unwrap();
    let after = rights(&database).await;
    let missing: Vec<_> = before
        .iter()
        .filter(|right| !after.contains(right) && !right.contains("cloison"))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

async fn an_owner_cannot_lose_what_a_superuser_noted(server: &Server) {
    let database = server.database().await;
    database.harden(&[]).await;
    let owner = database.owner().await;
    let error = migrate::down(&owner, |_| ()).await.unwrap_err().to_string();
    assert!(error.contains("rights that hardening changed cannot be changed back"), "{error}");
    assert!(error.contains("select * from cloison.unharden()"), "{error}");
    assert_eq!(texts(&owner, "select count(*) > 100 from cloison.hardening_changes").await, ["t"]);
    texts(&database.superuser().await, "select count(*) from cloison.unharden()").await;
    migrate::down(&owner, |_| ()).await.unwrap();
}
