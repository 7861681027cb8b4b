//! Who is asking: claims that SQL can read and not make.

use cloison::kit::migrate::{self, Compat};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{
    Database, Server, add_tenant, batch, denied, mark, on_every_major, soon, texts,
};

on_every_major!(
    signed_claims_are_read,
    nobody_else_makes_claims,
    claims_end,
    the_process_id_need_not_be_bound,
    policies_of_supabase_narrow_a_tenants_rows,
    somebody_elses_auth_functions_stay,
);

const JSON: &str = r#"{"sub":"11111111-0000-4000-8000-000000000001","role":"authenticated","app_metadata":{"plan":"gold"},"https://a.io/x":"y","n":7,"none":null}"#;

/// What the proxy computes: the definition, written out once more.
async fn signed(
    database: &Database<'_>,
    tenant: Uuid,
    mark: &str,
    until: u64,
    json: &str,
) -> String {
    let body = format!("p{until:010}{json}");
    let message = [&b"cloison:claims:1:"[..], tenant.as_bytes(), body.as_bytes()].concat();
    let mac = database.mac(&message, mark).await;
    body + &mac
}

async fn set(session: &Client, claims: &str) {
    session.execute("select set_config('cloison.claims', $1, false)", &[&claims]).await.unwrap();
}

/// A session of a tenant with these claims.
async fn session_with(database: &Database<'_>, tenant: Uuid, json: &str) -> Client {
    let session = database.tenant(tenant).await;
    let claims = signed(database, tenant, &mark(&session).await, soon(), json).await;
    set(&session, &claims).await;
    session
}

const NOTHING: &str = "select (cloison.claims() is null and cloison.claim('sub') is null \
    and cloison.current_user_id() is null)::text";

async fn signed_claims_are_read(server: &Server) {
    let database = server.database().await;
    let a = add_tenant(&database.owner().await, "a", None).await;
    let session = database.tenant(a).await;
    assert_eq!(texts(&session, NOTHING).await, ["true"]);
    let session = session_with(&database, a, JSON).await;
    let sub = "11111111-0000-4000-8000-000000000001";
    assert_eq!(texts(&session, "select cloison.current_user_id()").await, [sub]);
    assert_eq!(
        texts(&session, "select cloison.claims() = $$J$$::jsonb".replace("J", JSON).as_str()).await,
        ["t"]
    );
    for (path, expected) in [
        ("role", "authenticated"),
        ("app_metadata.plan", "gold"),
        ("app_metadata", r#"{"plan": "gold"}"#),
        ("https://a.io/x", "y"),
        ("n", "7"),
        ("none", "null"),
        ("app_metadata.x", "null"),
        ("x", "null"),
        ("", "null"),
    ] {
        let read = format!("select cloison.claim('{path}')");
        assert_eq!(texts(&session, &read).await, [expected], "{path}");
    }
    // Once a scan, and not once a row.
    let plan = texts(
        &session,
        "explain (costs off) select 1 from generate_series(1, 9) \
         where (select cloison.current_user_id()) = 'x'",
    )
    .await;
    assert!(plan.iter().any(|line| line.contains("InitPlan")), "{plan:?}");
}

async fn nobody_else_makes_claims(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", None).await;
    let b = add_tenant(&owner, "b", None).await;
    let session = database.tenant(a).await;
    let here = mark(&session).await;
    let elsewhere = mark(&database.session("tenant").await).await;
    let good = signed(&database, a, &here, soon(), JSON).await;
    let later = format!("p9999999999{}", &good[11..]);
    for forged in [
        "x".to_owned(),
        JSON.to_owned(),
        "0".repeat(64),
        "0".repeat(200),
        good[1..].to_owned(),
        format!(" {good}"),
        format!("s{}", &good[1..]),
        format!("{good}0"),
        good.replace("gold", "iron"),
        good.replacen("000000000001", "000000000002", 1),
        good.to_uppercase(),
        later,
        signed(&database, b, &here, soon(), JSON).await,
        signed(&database, a, &elsewhere, soon(), JSON).await,
        signed(&database, a, "", soon(), JSON).await,
        // A context is no claim.
        texts(&session, "select current_setting('cloison.context')").await.remove(0),
    ] {
        set(&session, &forged).await;
        for read in ["cloison.claims()", "cloison.claim('sub')", "cloison.current_user_id()"] {
            let told = denied(&session, &format!("select {read}")).await;
            assert_eq!(told, "the claims were not made for this session", "{forged}");
        }
    }
    set(&session, &good).await;
    assert_eq!(texts(&session, "select cloison.claim('role')").await, ["authenticated"]);
    // Claims are no context.
    batch(
        &session,
        "select set_config('cloison.context', current_setting('cloison.claims'), false)",
    )
    .await;
    denied(&session, "select cloison.current_tenant_id()").await;
}

async fn claims_end(server: &Server) {
    let database = server.database().await;
    let a = add_tenant(&database.owner().await, "a", None).await;
    let session = session_with(&database, a, JSON).await;
    assert_eq!(texts(&session, NOTHING).await, ["false"]);
    let over = signed(&database, a, &mark(&session).await, soon() - 601, JSON).await;
    set(&session, &over).await;
    assert_eq!(texts(&session, NOTHING).await, ["true"]);
    // Who has lost the context has no claims either.
    let session = session_with(&database, a, JSON).await;
    batch(&session, "reset cloison.context").await;
    assert_eq!(texts(&session, NOTHING).await, ["true"]);
    // No tenant, no claims; and no error, as policies of the application call it.
    let operator = database.session("superadmin").await;
    set(&operator, "x").await;
    assert_eq!(texts(&operator, NOTHING).await, ["true"]);
    // A new key ends them.
    let session = session_with(&database, a, JSON).await;
    let claims = texts(&session, "select current_setting('cloison.claims')").await.remove(0);
    batch(
        &database.owner().await,
        "update cloison.signing_key set key = sha256(key), \
         inner_pad = sha256(inner_pad) || sha256(outer_pad), \
         outer_pad = sha256(outer_pad) || sha256(inner_pad)",
    )
    .await;
    batch(&database.owner().await, "update cloison.settings set strict = false").await;
    set(&session, &claims).await;
    assert_eq!(texts(&session, NOTHING).await, ["true"]);
}

async fn the_process_id_need_not_be_bound(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", None).await;
    let session = database.tenant(a).await;
    let bound = signed(&database, a, &mark(&session).await, soon(), JSON).await;
    batch(&owner, "update cloison.settings set bind_process_id = false").await;
    set(&session, &signed(&database, a, "", soon(), JSON).await).await;
    assert_eq!(texts(&session, "select cloison.claim('role')").await, ["authenticated"]);
    set(&session, &bound).await;
    denied(&session, "select cloison.claims()").await;
}

async fn policies_of_supabase_narrow_a_tenants_rows(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    migrate::install(&owner, &[Compat::Supabase], |_| ()).await.unwrap();
    let a = add_tenant(&owner, "a", None).await;
    let b = add_tenant(&owner, "b", None).await;
    let (ada, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
    batch(&owner, "create table public.post (user_id uuid default auth.uid(), body text)").await;
    batch(&owner, "select cloison.protect('public.post')").await;
    for (tenant, user, body) in
        [(a, ada, "ada in a"), (a, bob, "bob in a"), (b, ada, "ada in b"), (b, bob, "bob in b")]
    {
        owner
            .execute(
                "insert into public.post (tenant_id, user_id, body) values ($1, $2, $3)",
                &[&tenant, &user, &body],
            )
            .await
            .unwrap();
    }
    batch(
        &owner,
        "create policy mine on public.post as restrictive to cloison_tenant \
         using ((select auth.uid()) = user_id and (select auth.role()) = 'authenticated' \
                and (auth.jwt() -> 'app_metadata' ->> 'plan') = 'gold')",
    )
    .await;
    let json = |user: Uuid, plan: &str| {
        format!(
            r#"{{"sub":"{user}","role":"authenticated","email":"x@y","app_metadata":{{"plan":"{plan}"}}}}"#
        )
    };
    let posts = "select body from public.post order by 1";
    let session = session_with(&database, a, &json(ada, "gold")).await;
    assert_eq!(texts(&session, posts).await, ["ada in a"]);
    assert_eq!(texts(&session, "select auth.email()").await, ["x@y"]);
    batch(&session, "insert into public.post (body) values ('new')").await;
    let foreign = format!("insert into public.post (body, user_id) values ('x', '{bob}')");
    denied(&session, &foreign).await;
    assert_eq!(texts(&session, posts).await, ["ada in a", "new"]);
    let session = session_with(&database, b, &json(bob, "gold")).await;
    assert_eq!(texts(&session, posts).await, ["bob in b"]);
    let session = session_with(&database, a, &json(bob, "iron")).await;
    assert_eq!(texts(&session, posts).await, [""; 0]);
    // Nobody is asking.
    assert_eq!(texts(&database.tenant(a).await, posts).await, [""; 0]);
    // What PostgREST sets, anybody can set: nothing of ours asks it.
    let forged = json(ada, "gold");
    let session = session_with(&database, a, &json(bob, "gold")).await;
    session
        .execute("select set_config('request.jwt.claims', $1, false)", &[&forged])
        .await
        .unwrap();
    assert_eq!(texts(&session, posts).await, ["bob in a"]);
    assert_eq!(texts(&owner, "select problem from cloison.protection_findings()").await, [""; 0]);
}

async fn somebody_elses_auth_functions_stay(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    batch(
        &owner,
        "create schema auth; create function auth.uid() returns uuid language sql \
         as 'select null::uuid'",
    )
    .await;
    migrate::install(&owner, &[Compat::Supabase], |_| ()).await.unwrap();
    let body = "select prosrc from pg_proc where oid = 'auth.uid()'::regprocedure";
    assert_eq!(texts(&owner, body).await, ["select null::uuid"]);
    assert_eq!(texts(&owner, "select auth.jwt() is null").await, ["t"]);
    migrate::down(&owner, |_| ()).await.unwrap();
    assert_eq!(texts(&owner, "select auth.uid() is null").await, ["t"]);
    assert_eq!(texts(&owner, "select to_regprocedure('auth.jwt()') is null").await, ["t"]);
}
