//! The signed context: what makes it, and that nothing else does.

use futures_util::StreamExt;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::support::{
    Database, Server, add_tenant, batch, denied, mark, on_every_major, soon, texts,
};

on_every_major!(
    the_proxys_proof_is_accepted,
    a_wrong_proof_is_refused,
    only_active_tenants_are_bound,
    no_sql_of_a_tenant_changes_its_context,
    a_context_is_worthless_elsewhere,
    a_context_ends_with_its_proof,
    a_context_does_not_outlive_the_server,
    a_local_context_ends_with_its_transaction,
    without_strictness_there_are_no_rows,
    the_process_id_need_not_be_bound,
    shadows_are_not_read,
    no_secret_shows_in_a_plan,
    a_new_key_ends_every_context,
    the_current_key_is_the_external_key,
    superadmin_mode_cannot_be_forged,
    operators_need_no_proof,
    a_role_that_bypasses_policies_is_warned,
);

struct World<'a> {
    database: Database<'a>,
    owner: Client,
    a: Uuid,
    b: Uuid,
}

/// Two tenants and a table with one row of each.
async fn world(server: &Server) -> World<'_> {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", Some("1")).await;
    let b = add_tenant(&owner, "b", Some("2")).await;
    batch(&owner, "create table public.note (body text); select cloison.protect('public.note')")
        .await;
    owner
        .execute(
            "insert into public.note (body, tenant_id) values ('of a', $1), ('of b', $2)",
            &[&a, &b],
        )
        .await
        .unwrap();
    World { database, owner, a, b }
}

/// What `set_tenant` left in the session.
async fn ticket(session: &Client) -> String {
    texts(session, "select current_setting('cloison.context')").await.remove(0)
}

async fn notes(session: &Client) -> Vec<String> {
    texts(session, "select body from public.note order by 1").await
}

async fn the_proxys_proof_is_accepted(server: &Server) {
    let World { database, a, b, .. } = world(server).await;
    let session = database.tenant(a).await;
    assert_eq!(notes(&session).await, ["of a"]);
    let id = a.to_string();
    assert_eq!(texts(&session, "select cloison.current_tenant_id()").await, [id.as_str()]);
    assert_eq!(texts(&session, "select cloison.get_current_tenant()").await, [id.as_str()]);

    let proof = database.proof(b, &mark(&session).await).await;
    session.execute("select cloison.set_tenant($1, $2)", &[&b, &proof]).await.unwrap();
    assert_eq!(notes(&session).await, ["of b"]);

    batch(&session, "reset all").await;
    assert_eq!(
        denied(&session, "select * from public.note").await,
        "no tenant is bound to this session"
    );
    assert_eq!(texts(&session, "select cloison.get_current_tenant()").await, ["null"]);
}

async fn a_wrong_proof_is_refused(server: &Server) {
    let World { database, a, b, .. } = world(server).await;
    let session = database.session("tenant").await;
    let right = database.proof(a, &mark(&session).await).await;
    let elsewhere = database.proof(a, &mark(&database.session("tenant").await).await).await;
    let unbound = database.proof(a, "").await;
    let short = &right[..72];
    let (second, _) = right.split_at(10);
    let later = format!("{}{}", 9_999_999_999_u64, &right[10..]);
    let over = database.proof_until(a, &mark(&session).await, soon() - 601).await;
    let wrongs = [
        String::new(),
        " ".into(),
        "0".into(),
        short.into(),
        format!("{right}0"),
        right.to_uppercase(),
        "0".repeat(64),
        format!("{second}{}", "0".repeat(64)),
        later,
        over,
        elsewhere,
        unbound,
        format!("{short}gg"),
        format!(" {}", &right[1..]),
        database.proof(b, &mark(&session).await).await,
    ];
    for wrong in wrongs {
        for call in ["$1, $2", "$1, $2, true", "$1, $2, false"] {
            let error = session
                .execute(&format!("select cloison.set_tenant({call})"), &[&a, &wrong])
                .await
                .unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42501", "{wrong:?}");
        }
    }
    denied(&session, &format!("select cloison.set_tenant('{a}', null)")).await;
    denied(&session, &format!("select cloison.set_tenant(null, '{right}')")).await;
    denied(&session, &format!("select cloison.set_tenant('{a}', '{right}', null)")).await;
    // A wrong proof does not tell whether the tenant exists.
    let known = denied(&session, &format!("select cloison.set_tenant('{a}', 'x')")).await;
    let unknown =
        denied(&session, &format!("select cloison.set_tenant('{}', 'x')", Uuid::new_v4())).await;
    assert_eq!(known, unknown);
    denied(&session, "select * from public.note").await;
}

async fn only_active_tenants_are_bound(server: &Server) {
    let World { database, owner, a, .. } = world(server).await;
    let session = database.session("tenant").await;
    let mark_here = &mark(&session).await;
    let nobody = Uuid::new_v4();
    let proof = database.proof(nobody, mark_here).await;
    denied(&session, &format!("select cloison.set_tenant('{nobody}', '{proof}')")).await;
    let proof = database.proof(a, mark_here).await;
    for status in ["suspended", "archived"] {
        batch(&owner, &format!("update cloison.tenants set status = '{status}' where id = '{a}'"))
            .await;
        let told = denied(&session, &format!("select cloison.set_tenant('{a}', '{proof}')")).await;
        assert!(told.ends_with(status), "{told}");
        denied(&owner, &format!("select cloison.set_tenant('{a}')")).await;
    }
    batch(&owner, "update cloison.tenants set status = 'active'").await;
    batch(&session, &format!("select cloison.set_tenant('{a}', '{proof}')")).await;
    // What a client that dumps switches off.
    batch(&session, "set row_security = off").await;
    batch(&session, &format!("select cloison.set_tenant('{a}', '{proof}')")).await;
}

/// The first column of every row.
fn firsts(told: Vec<SimpleQueryMessage>) -> Vec<String> {
    let mut firsts = Vec::new();
    for message in told {
        if let SimpleQueryMessage::Row(row) = message {
            firsts.extend(row.get(0).map(str::to_owned));
        }
    }
    firsts
}

/// The notes that a session sees; none if it has no context.
async fn seen(session: &Client) -> Vec<String> {
    let told = session.simple_query("select body from public.note").await;
    firsts(told.unwrap_or_default())
}

/// ISOLATION.md, section 1: each way either is refused or leaves the session where it was.
async fn no_sql_of_a_tenant_changes_its_context(server: &Server) {
    let World { database, a, b, owner } = world(server).await;
    let of_a = ticket(&database.tenant(a).await).await;
    let of_b = ticket(&database.tenant(b).await).await;
    let edited = of_a.replace(&a.to_string(), &b.to_string());
    let local = of_a.replacen('s', "t", 1);
    let later = format!("{}9999999999{}", &of_a[..37], &of_a[47..]);
    let cut = of_a[..of_a.len() - 2].to_owned();
    let proof_of_b = database.proof(b, "").await;
    let forged = [
        b.to_string(),
        format!("s{b}"),
        format!("s{b}{proof_of_b}"),
        format!("s{b}{}", &proof_of_b[10..]),
        format!("t{b}{}", "0".repeat(64)),
        of_b.clone(),
        edited.clone(),
        local,
        later,
        cut,
        format!("{of_a}0"),
        String::new(),
        " ".into(),
        r"\x73".into(),
        r"s\061".into(),
        "é".repeat(101),
        "s".repeat(100_000),
    ];

    let mut ways = Vec::new();
    for value in &forged {
        ways.extend([
            format!("set cloison.context = '{value}'"),
            format!("set session cloison.context to '{value}'"),
            format!("select set_config('cloison.context', '{value}', false)"),
            format!("do $$ begin perform set_config('cloison.context', '{value}', false); end $$"),
            format!("do $$ begin execute 'set cloison.context = ''{value}'''; end $$"),
            format!(
                "create or replace function pg_temp.forge() returns text language sql as \
                 $$ select set_config('cloison.context', '{value}', false) $$; \
                 select pg_temp.forge()"
            ),
            format!(
                "select query_to_xml($$select set_config('cloison.context', '{value}', false)$$, \
                 true, false, '')"
            ),
            format!("update pg_settings set setting = '{value}' where name = 'cloison.context'"),
        ]);
        let set = format!("set_config('cloison.context', '{value}', false)");
        ways.extend([
            format!("select * from {set}"),
            format!("values ({set})"),
            format!("with w as materialized (select {set}) select * from w"),
            format!("select 1 where {set} is null"),
            format!("select body from public.note where {set} is not null or true"),
            format!("begin; declare c cursor with hold for select {set}; fetch c; commit"),
            format!("prepare w as select {set}; execute w; deallocate w"),
            format!("explain analyze select {set}"),
            format!("select * from ts_stat($$select to_tsvector({set})$$)"),
            format!("select ('x' || {set})::tsvector; set local cloison.context = '{value}'"),
            format!(
                "create or replace procedure pg_temp.forge_it() language sql as \
                 $$ select {set} $$; call pg_temp.forge_it()"
            ),
            // Postgres itself refuses that.
            format!(
                "create or replace function pg_temp.under_it() returns setof text language sql \
                 set cloison.context = '{value}' as 'select body from public.note'; \
                 select * from pg_temp.under_it()"
            ),
        ]);
    }
    ways.extend(
        [
            "reset all",
            "discard all",
            "reset cloison.context",
            "set role cloison_superadmin",
            "set role postgres",
            "set session authorization postgres",
            "select set_config('role', 'cloison_superadmin', false)",
            "reset role",
            "select cloison.enable_superadmin_mode()",
            "set cloison.superadmin = 'on'",
            "set cloison.superadmin = 'true'",
            "select key from cloison.signing_key",
            "select cloison.inner_pad()",
            "explain verbose select cloison.outer_pad()",
            "select cloison.context_tenant(), cloison.bound_tenant()",
            "select * from cloison.signing_material()",
            "select * from cloison.settings",
            "update cloison.settings set strict = false",
            "select * from cloison.protected_tables",
            "alter table public.note disable row level security",
            "alter table public.note no force row level security",
            "drop policy cloison_tenant_select on public.note",
            "create policy mine on public.note using (true)",
            "truncate public.note",
            "select cloison.unprotect('public.note')",
            "select cloison.protect('public.note')",
            "create function public.f() returns int language sql as 'select 1'",
            "create schema mine",
            "set row_security = off",
            "grant cloison_superadmin to current_user",
        ]
        .map(str::to_owned),
    );
    ways.extend([
        format!("select cloison.set_tenant('{b}')"),
        format!("select cloison.bind_tenant('{b}', '', '')"),
        format!("select cloison.set_tenant('{b}', '{proof_of_b}')"),
        format!("select cloison.set_tenant('{b}', '{}')", &of_a[37..]),
        format!("select cloison.set_tenant('{b}', '{}')", &of_a[47..]),
        format!("select cloison.set_tenant('{b}', '{}')", &of_b[37..]),
        format!("update public.note set tenant_id = '{b}'"),
        format!("insert into public.note (body, tenant_id) values ('x', '{b}')"),
    ]);

    let session = database.tenant(a).await;
    let proof = database.proof(a, &mark(&session).await).await;
    for way in ways {
        let told = session.simple_query(&way).await.unwrap_or_default();
        assert!(!firsts(told).contains(&"of b".to_owned()), "{way}");
        // What comes of it: own rows, nothing, or an error. Never another's.
        match session.simple_query("select body from public.note").await {
            Ok(_) => assert_eq!(notes(&session).await, ["of a"], "{way}"),
            Err(error) => assert_eq!(error.code().unwrap().code(), "42501", "{way}"),
        }
        assert_eq!(
            texts(
                &session,
                "select count(*) from (select cloison.is_superadmin() as yes) s where yes"
            )
            .await,
            ["0"],
            "{way}"
        );
        batch(&session, "rollback; close all; deallocate all; reset all; reset role").await;
        batch(&session, &format!("select cloison.set_tenant('{a}', '{proof}')")).await;
    }
    // By parameters, and on the way of a COPY.
    for value in &forged {
        let set = "select set_config($1, $2, false)";
        let _ = session.query(set, &[&"cloison.context", value]).await;
        assert!(!seen(&session).await.contains(&"of b".to_owned()), "{value}");
        let copy =
            format!("copy (select set_config('cloison.context', '{value}', false)) to stdout");
        if let Ok(rows) = session.copy_out(&copy).await {
            let _: Vec<_> = rows.collect().await;
        }
        assert!(!seen(&session).await.contains(&"of b".to_owned()), "{value}");
        batch(&session, &format!("select cloison.set_tenant('{a}', '{proof}')")).await;
    }
    assert_eq!(
        texts(&owner, "select count(*) from public.note where body like 'of _'").await,
        ["2"]
    );
    assert_eq!(texts(&owner, "select strict::text from cloison.settings").await, ["true"]);
    assert_eq!(texts(&owner, "select problem from cloison.protection_findings()").await, [""; 0]);
}

async fn a_context_is_worthless_elsewhere(server: &Server) {
    let World { database, a, b, .. } = world(server).await;
    let of_b = database.tenant(b).await;
    let ticket = texts(&of_b, "select current_setting('cloison.context')").await.remove(0);
    assert_eq!(notes(&of_b).await, ["of b"]);
    let session = database.tenant(a).await;
    batch(&session, &format!("set cloison.context = '{ticket}'")).await;
    denied(&session, "select * from public.note").await;
    // Where it was made it is good: that session is that tenant.
    batch(&of_b, &format!("set cloison.context = '{ticket}'")).await;
    assert_eq!(notes(&of_b).await, ["of b"]);
}

/// What began in time goes on; what begins later has no tenant.
async fn a_context_ends_with_its_proof(server: &Server) {
    let World { database, a, .. } = world(server).await;
    let session = database.session("tenant").await;
    let proof = database.proof_until(a, &mark(&session).await, soon() - 598).await;
    let bind = format!("select cloison.set_tenant('{a}', '{proof}')");
    batch(&session, &bind).await;
    assert_eq!(notes(&session).await, ["of a"]);
    batch(&session, "begin").await;
    assert_eq!(notes(&session).await, ["of a"]);
    let slow = "select body from public.note, pg_sleep(3)";
    assert_eq!(texts(&session, slow).await, ["of a"]);
    assert_eq!(notes(&session).await, ["of a"]);
    assert_eq!(texts(&session, "select cloison.get_current_tenant()").await, [a.to_string()]);
    batch(&session, "commit").await;
    denied(&session, "select * from public.note").await;
    assert_eq!(texts(&session, "select cloison.get_current_tenant()").await, ["null"]);
    let told = denied(&session, &bind).await;
    assert_eq!(told, "the time of this proof is over");
}

/// Process ids come again after a restart, most of all in containers.
async fn a_context_does_not_outlive_the_server(server: &Server) {
    let server = Server::start(server.major);
    let World { database, a, .. } = world(&server).await;
    let session = database.tenant(a).await;
    let (before, kept) = (mark(&session).await, ticket(&session).await);
    // Of one process it stays the same, whatever is dropped.
    batch(&session, "discard all").await;
    assert_eq!(mark(&session).await, before);
    drop(session);
    server.restart();
    let session = database.session("tenant").await;
    assert_ne!(mark(&session).await, before);
    batch(&session, &format!("set cloison.context = '{kept}'")).await;
    denied(&session, "select * from public.note").await;
}

async fn a_local_context_ends_with_its_transaction(server: &Server) {
    let World { database, a, b, .. } = world(server).await;
    let session = database.session("tenant").await;
    let bind = format!(
        "select cloison.set_tenant('{a}', '{}', true)",
        database.proof(a, &mark(&session).await).await
    );
    batch(&session, "begin").await;
    batch(&session, &bind).await;
    assert_eq!(notes(&session).await, ["of a"]);
    batch(&session, "savepoint s; rollback to s").await;
    assert_eq!(notes(&session).await, ["of a"]);
    let kept = texts(&session, "select current_setting('cloison.context')").await.remove(0);
    batch(&session, "commit and chain").await;
    denied(&session, "select * from public.note").await;
    batch(&session, "rollback").await;
    denied(&session, "select * from public.note").await;

    // Neither does it help to have written it down: it was for that transaction.
    batch(&session, &format!("set cloison.context = '{kept}'")).await;
    denied(&session, "select * from public.note").await;
    let as_session = kept.replacen('t', "s", 1);
    batch(&session, &format!("set cloison.context = '{as_session}'")).await;
    denied(&session, "select * from public.note").await;
    // Even on the same server connection, once another tenant has it.
    let proof = database.proof(b, &mark(&session).await).await;
    batch(&session, &format!("begin; select cloison.set_tenant('{b}', '{proof}', true)")).await;
    batch(&session, &format!("set local cloison.context = '{kept}'")).await;
    denied(&session, "select * from public.note").await;
}

async fn without_strictness_there_are_no_rows(server: &Server) {
    let World { database, owner, b, .. } = world(server).await;
    batch(&owner, "update cloison.settings set strict = false").await;
    let session = database.session("tenant").await;
    for context in ["", "x", &format!("s{b}{}", "0".repeat(64))] {
        batch(&session, &format!("set cloison.context = '{context}'")).await;
        assert_eq!(notes(&session).await, [""; 0]);
        assert_eq!(texts(&session, "select cloison.current_tenant_id()").await, ["null"]);
        assert!(
            session.batch_execute("insert into public.note (body) values ('x')").await.is_err()
        );
    }
}

async fn the_process_id_need_not_be_bound(server: &Server) {
    let World { database, owner, a, b } = world(server).await;
    batch(&owner, "update cloison.settings set bind_process_id = false").await;
    let session = database.tenant(a).await;
    assert_eq!(notes(&session).await, ["of a"]);
    let mark_here = &mark(&session).await;
    let unbound = database.proof(a, mark_here).await;
    let wrongs = [unbound.to_uppercase(), format!("{unbound} "), "0".repeat(64), String::new()];
    for wrong in wrongs {
        denied(&session, &format!("select cloison.set_tenant('{a}', '{wrong}', true)")).await;
    }
    denied(&session, &format!("select cloison.set_tenant('{b}', '{unbound}', true)")).await;
    denied(&session, &format!("select cloison.set_tenant('{a}', null, true)")).await;
    // A proof for one process stays one: for others it is none.
    batch(&owner, "update cloison.settings set bind_process_id = true").await;
    let bound = [
        database.proof(a, mark_here).await,
        database.proof(a, &mark(&database.session("tenant").await).await).await,
    ];
    batch(&owner, "update cloison.settings set bind_process_id = false").await;
    let [here, elsewhere] = bound;
    batch(&session, &format!("select cloison.set_tenant('{a}', '{here}')")).await;
    denied(&session, &format!("select cloison.set_tenant('{a}', '{elsewhere}')")).await;
    // The ticket is bound nevertheless: it was made here.
    let ticket = texts(&session, "select current_setting('cloison.context')").await.remove(0);
    let other = database.session("tenant").await;
    batch(&other, &format!("set cloison.context = '{ticket}'")).await;
    denied(&other, "select * from public.note").await;
}

async fn shadows_are_not_read(server: &Server) {
    let World { database, a, b, .. } = world(server).await;
    // Functions and operators are not looked for in pg_temp: they need a schema that some
    // application has left open.
    batch(
        &database.superuser().await,
        "create schema trap; grant usage on schema trap to public; \
         create function trap.sha256(bytea) returns bytea \
             language sql as $$ select 'x'::bytea $$; \
         create function trap.same(uuid, uuid) returns boolean language sql as 'select true'; \
         create operator trap.= (leftarg = uuid, rightarg = uuid, function = trap.same); \
         create function trap.same(bytea, bytea) returns boolean language sql as 'select true'; \
         create operator trap.= (leftarg = bytea, rightarg = bytea, function = trap.same); \
         create operator trap.<> (leftarg = text, rightarg = text, function = texteq)",
    )
    .await;
    let session = database.tenant(a).await;
    batch(
        &session,
        "create temporary table signing_key (key bytea, inner_pad bytea, outer_pad bytea); \
         create temporary table settings as select false as strict, false as bind_process_id; \
         create temporary table pg_class (oid oid); \
         create temporary view tenants as select gen_random_uuid() as id, 'active' as status; \
         set search_path = pg_temp, trap, cloison, pg_catalog",
    )
    .await;
    assert_eq!(notes(&session).await, ["of a"]);
    denied(&session, &format!("select cloison.set_tenant('{b}', '{}')", "0".repeat(64))).await;
    batch(&session, &format!("set cloison.context = 's{b}{}'", "0".repeat(64))).await;
    denied(&session, "select * from public.note").await;
    assert_eq!(texts(&session, "select cloison.get_current_tenant()").await, ["null"]);
}

/// Any session may have the plans of all queries printed to it, with their constants.
async fn no_secret_shows_in_a_plan(server: &Server) {
    let World { database, owner, a, .. } = world(server).await;
    let row = owner
        .query_one("select key, inner_pad, outer_pad from cloison.signing_key", &[])
        .await
        .unwrap();
    let session = format!(
        "set client_min_messages = log; set debug_print_plan = on; set debug_print_rewritten = on; \
         set debug_print_parse = on; set plan_cache_mode = force_custom_plan; \
         set cloison.context = 'p{a}9999999999{0}'; select cloison.current_tenant_id(); \
         set cloison.context = 's{a}{0}'; select cloison.current_tenant_id(); \
         select cloison.current_tenant_id(), 'seen'::bytea; \
         select cloison.set_tenant('{a}', '{0}');",
        "0".repeat(64)
    );
    // As an operator's session does, too: there the whole way is gone.
    let operators = session.replace(&format!(", '{}'", "0".repeat(64)), "")
        + "select cloison.enable_superadmin_mode(); select cloison.is_superadmin();";
    for (access, sql) in [("tenant", session), ("superadmin", operators)] {
        let mut arguments = vec!["-v", "ON_ERROR_STOP=0"];
        for statement in sql.split_inclusive(';') {
            arguments.extend(["-c", statement]);
        }
        let done = database.psql(access, &arguments);
        let told = String::from_utf8_lossy(&done.stderr).replace(['\n', '\t'], " ");
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        let printed = |bytes: &[u8]| -> String {
            bytes.iter().map(|b| (*b as i8).to_string()).collect::<Vec<_>>().join(" ")
        };
        assert!(told.contains(&printed(b"seen")), "the plans are not printed: {told}");
        for column in ["key", "inner_pad", "outer_pad"] {
            let secret: Vec<u8> = row.get(column);
            assert!(!told.contains(&printed(&secret[..8])), "{column} shows to {access}");
        }
    }
}

/// A session that has checked a context keeps plans with the key in them.
async fn a_new_key_ends_every_context(server: &Server) {
    let World { database, owner, a, .. } = world(server).await;
    let session = database.tenant(a).await;
    let other = database.tenant(a).await;
    assert_eq!(notes(&session).await, ["of a"]);
    assert_eq!(notes(&other).await, ["of a"]);
    batch(&owner, "update cloison.signing_key set inner_pad = outer_pad, outer_pad = inner_pad")
        .await;
    denied(&session, "select * from public.note").await;
    denied(&other, "select * from public.note").await;
    batch(&owner, "update cloison.signing_key set inner_pad = outer_pad, outer_pad = inner_pad")
        .await;
    assert_eq!(notes(&session).await, ["of a"]);
    assert_eq!(notes(&other).await, ["of a"]);
}

async fn the_current_key_is_the_external_key(server: &Server) {
    let World { database, owner, a, .. } = world(server).await;
    let session = database.tenant(a).await;
    assert_eq!(texts(&session, "select cloison.current_tenant_key()").await, ["1"]);
    let c = add_tenant(&owner, "c", None).await;
    let session = database.tenant(c).await;
    let told = denied(&session, "select cloison.current_tenant_key()").await;
    assert!(told.contains("has no external key"), "{told}");
}

async fn superadmin_mode_cannot_be_forged(server: &Server) {
    let World { database, owner, a, .. } = world(server).await;
    let session = database.session("superadmin").await;
    assert_eq!(notes(&session).await, [""; 0]);
    for value in ["on", "true", "1", "", &"0".repeat(64)] {
        batch(&session, &format!("set cloison.superadmin = '{value}'")).await;
        assert_eq!(notes(&session).await, [""; 0], "{value}");
    }
    batch(&session, "select cloison.enable_superadmin_mode()").await;
    assert_eq!(notes(&session).await, ["of a", "of b"]);
    let ticket = texts(&session, "select current_setting('cloison.superadmin')").await.remove(0);
    assert_eq!(
        texts(&owner, "select actor || ' ' || action from cloison.audit_log").await,
        [format!("{} superadmin.enabled", database.login("superadmin"))]
    );
    batch(&session, "reset all").await;
    assert_eq!(notes(&session).await, [""; 0]);

    let other = database.session("superadmin").await;
    batch(&other, &format!("set cloison.superadmin = '{ticket}'")).await;
    assert_eq!(notes(&other).await, [""; 0]);
    batch(&other, "set default_transaction_read_only = on").await;
    assert!(other.batch_execute("select cloison.enable_superadmin_mode()").await.is_err());

    // The mode gives a tenant's session nothing, even with a ticket.
    let tenant = database.tenant(a).await;
    batch(&tenant, &format!("set cloison.superadmin = '{ticket}'")).await;
    assert_eq!(notes(&tenant).await, ["of a"]);
    denied(&tenant, "select cloison.enable_superadmin_mode()").await;
}

async fn operators_need_no_proof(server: &Server) {
    let World { database, owner, a, .. } = world(server).await;
    for session in [owner, database.session("superadmin").await] {
        batch(&session, &format!("select cloison.set_tenant('{a}')")).await;
        assert_eq!(texts(&session, "select cloison.get_current_tenant()").await, [a.to_string()]);
    }
    denied(&database.session("control").await, &format!("select cloison.set_tenant('{a}')")).await;
}

async fn a_role_that_bypasses_policies_is_warned(server: &Server) {
    let World { database, owner, a, .. } = world(server).await;
    let superuser = database.superuser().await;
    let (role, other) = (database.login("owner"), database.login("superadmin"));
    let set = format!("select cloison.set_tenant('{a}')");
    let warned = |access: &str, sql: &str| {
        let output = database.psql(access, &["-c", sql]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{sql}: {said}");
        said.contains(&format!("WARNING:  row security does not hold for role {role}"))
    };
    batch(
        &owner,
        &format!(
            "create function public.choose() returns void language sql security definer \
             begin atomic {set}; end; grant execute on function public.choose() to {other}"
        ),
    )
    .await;
    batch(&superuser, &format!("grant {other} to {role}")).await;
    assert!(!warned("owner", &set) && !warned("superadmin", &set));
    for attribute in ["bypassrls", "superuser"] {
        batch(&superuser, &format!("alter role {role} {attribute}")).await;
        assert!(warned("owner", &set), "{attribute}");
        assert!(warned("owner", "select public.choose()"), "{attribute}");
        // SET ROLE gives the other role's rights, and a function lends its owner's only while it
        // runs.
        assert!(!warned("owner", &format!("set role {other}; {set}")), "{attribute}");
        assert!(!warned("superadmin", "select public.choose()"), "{attribute}");
        batch(&superuser, &format!("alter role {role} no{attribute}")).await;
    }
}
