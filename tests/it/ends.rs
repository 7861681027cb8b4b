//! The end of a session by somebody's word: revoked tokens, tenants that are not served any more.

use std::time::{Duration, Instant};

use cloison::observe::Event;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Proxy, now, tenant_token, token};
use crate::support::wire::{Message, Wire, error, tags};

const COUNT: &str = "select count(*) from note";

/// An end takes no longer.
const A_SECOND: Duration = Duration::from_secs(1);

fn token_of(tenant: &str, claims: Value) -> String {
    let mut all = json!({ "tenant_id": tenant });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    token("tenant", all)
}

async fn login(proxy: &Proxy, token: &str) -> Wire {
    Wire::login(proxy, "app", token, &[]).await.0
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// Waits for what an idle client is told without having asked.
async fn told_within_a_second(wire: &mut Wire) -> Message {
    let answer = tokio::time::timeout(A_SECOND, wire.answer()).await.expect("within a second");
    assert_eq!(tags(&answer), "E");
    assert!(wire.receive().await.is_none());
    answer.into_iter().next().unwrap()
}

fn fields(told: &Message) -> (&str, &str, &str) {
    (told.field('V'), told.field('C'), told.field('D'))
}

#[tokio::test]
async fn a_revoked_token_ends_its_sessions_within_a_second_and_no_others() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let lost = token_of(A, json!({ "jti": "lost" }));
    let (mut idle, mut again) = (login(&proxy, &lost).await, login(&proxy, &lost).await);
    let (mut open, mut busy) = (login(&proxy, &lost).await, login(&proxy, &lost).await);
    let mut other = login(&proxy, &token_of(A, json!({ "jti": "kept" }))).await;
    let mut nameless = login(&proxy, &tenant_token(B)).await;
    assert_eq!(again.value(COUNT).await, "3");
    open.ask("begin").await;
    busy.query("select count(*) from note, pg_sleep(1.5)").send().await;

    run(&superuser, "select cloison.revoke_token('lost', 'its laptop was stolen')").await;
    for wire in [&mut idle, &mut again] {
        let told = told_within_a_second(wire).await;
        assert_eq!(fields(&told), ("FATAL", "57P01", "cloison: C213"));
        assert!(!told.field('M').contains("laptop"));
    }
    // Refused at the door, too, although the token was good a moment ago.
    let refused = Wire::refused(&proxy, "app", &lost, &[]).await;
    assert_eq!(fields(&refused), ("FATAL", "28P01", "cloison: C213"));
    // What is open comes to its end.
    assert_eq!(open.value(COUNT).await, "3");
    assert_eq!(tags(&open.ask("commit").await), "CZ");
    assert_eq!(told_within_a_second(&mut open).await.field('C'), "57P01");
    assert_eq!(tags(&busy.answer().await), "TDCZ");
    assert_eq!(told_within_a_second(&mut busy).await.field('C'), "57P01");
    assert_eq!(other.value(COUNT).await, "3");
    assert_eq!(nameless.value(COUNT).await, "5");
    proxy.stop().await;
}

#[tokio::test]
async fn a_revoked_subject_is_out_until_that_is_lifted_and_is_one_of_an_issuer() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let eve = token_of(A, json!({ "sub": "eve" }));
    let mut wire = login(&proxy, &eve).await;
    let elsewhere = "select cloison.revoke_subject('eve', 'left', 'https://elsewhere.example/')";
    run(&superuser, elsewhere).await;
    run(&superuser, "select cloison.revoke_subject('Eve', 'left')").await;
    tokio::time::sleep(A_SECOND).await;
    assert_eq!(wire.value(COUNT).await, "3", "another issuer's, and somebody else");

    run(&superuser, "select cloison.revoke_subject('eve', 'left', 'test')").await;
    assert_eq!(fields(&told_within_a_second(&mut wire).await), ("FATAL", "57P01", "cloison: C213"));
    let newer = token_of(A, json!({ "sub": "eve", "jti": "new" }));
    assert_eq!(Wire::refused(&proxy, "app", &newer, &[]).await.field('D'), "cloison: C213");
    let lift = "select cloison.lift_revocation(max(id), 'is back') from cloison.revocations";
    run(&superuser, lift).await;
    tokio::time::sleep(A_SECOND).await;
    assert_eq!(login(&proxy, &eve).await.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_super_admin_can_be_revoked_and_revokes_through_the_proxy() {
    let proxy = proxy::new().run().await;
    let admin = |jti: &str| token("superadmin", json!({ "jti": jti }));
    let writes = [("cloison.write", "on")];
    let (mut wire, _) = Wire::login(&proxy, "cloison_superadmin", &admin("one"), &writes).await;
    let (mut other, _) = Wire::login(&proxy, "cloison_superadmin", &admin("two"), &[]).await;
    let revoke = |jti: &str| format!("select cloison.revoke_token('{jti}', 'enough')");
    other.ask("select cloison.enable_superadmin_mode()").await;
    wire.ask("select cloison.enable_superadmin_mode()").await;
    let answer = other.ask(&revoke("one")).await;
    let told = answer.iter().find(|message| message.tag == 'E').unwrap();
    assert_eq!(told.field('C'), "42501");
    assert_eq!(told.field('M'), "this super-admin's session is read-only");
    let answer = wire.ask(&revoke("two")).await;
    assert_eq!(tags(&answer), "TDCZ");
    assert_eq!(told_within_a_second(&mut other).await.field('D'), "cloison: C213");
    assert_eq!(wire.value("select 1").await, "1");
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_that_is_not_served_any_more_is_shown_out_idle_or_not() {
    let mut proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let mut other = login(&proxy, &tenant_token(B)).await;
    for end in [
        "update cloison.tenants set status = 'suspended' where slug = 'a'",
        "update cloison.tenants set status = 'archived' where slug = 'a'",
    ] {
        let (mut idle, mut used) =
            (login(&proxy, &tenant_token(A)).await, login(&proxy, &tenant_token(A)).await);
        assert_eq!(used.value(COUNT).await, "3");
        run(&superuser, end).await;
        for wire in [&mut idle, &mut used] {
            let told = told_within_a_second(wire).await;
            assert_eq!(fields(&told), ("FATAL", "57P01", "cloison: C214"), "{end}");
        }
        let count = proxy.observed(|event| match event {
            Event::SessionsEnding { count } => Some(*count),
            _ => None,
        });
        assert_eq!(count.await, 2);
        let refused = Wire::refused(&proxy, "app", &tenant_token(A), &[]).await;
        assert_eq!(refused.field('C'), "28000", "{end}");
        run(&superuser, "update cloison.tenants set status = 'active' where slug = 'a'").await;
        assert_eq!(login(&proxy, &tenant_token(A)).await.value(COUNT).await, "3");
        assert_eq!(other.value(COUNT).await, "5");
    }
    proxy.stop().await;
}

/// Nothing rests on a notification, nor on there being none.
#[tokio::test]
async fn who_says_it_does_not_matter_and_who_keeps_it_back_neither() {
    let proxy = proxy::new().allowing(&["pg_notify"]).unfiltered().run().await;
    let superuser = proxy.database.superuser().await;
    let (mut one, mut two) = (
        login(&proxy, &token_of(A, json!({ "jti": "one" }))).await,
        login(&proxy, &token_of(A, json!({ "jti": "two" }))).await,
    );
    // A tenant can wake the proxy, and no more.
    for _ in 0..50 {
        assert_eq!(tags(&two.ask("select pg_notify('cloison', 'one')").await), "TDCZ");
    }
    assert_eq!(one.value(COUNT).await, "3");
    // Without the notification, as behind a pooler or on a server that does not pass it on.
    run(
        &superuser,
        "create or replace function cloison.sessions_changed() returns trigger security definer
         language plpgsql as $$ begin
             insert into cloison.session_changes as c values (pg_backend_pid(), 1)
                 on conflict (process) do update set number = c.number + 1;
             return null;
         end $$;
         select cloison.revoke_token('one', 'lost')",
    )
    .await;
    assert_eq!(told_within_a_second(&mut one).await.field('D'), "cloison: C213");
    // And with the connection lost that would have heard it.
    let lose = "select pg_terminate_backend(pid) from pg_stat_activity
                where application_name = 'cloison control' and datname = current_database()";
    run(&superuser, &format!("{lose}; select cloison.revoke_token('two', 'lost')")).await;
    assert_eq!(told_within_a_second(&mut two).await.field('D'), "cloison: C213");
    proxy.stop().await;
}

#[tokio::test]
async fn a_revocation_ends_with_the_token_and_not_before() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let short = token_of(A, json!({ "jti": "short", "exp": now() + 60 }));
    let revoke = "select cloison.revoke_token('short', 'x', until => now() + interval '2 seconds')";
    run(&superuser, revoke).await;
    tokio::time::sleep(A_SECOND).await;
    assert_eq!(Wire::refused(&proxy, "app", &short, &[]).await.field('D'), "cloison: C213");
    tokio::time::sleep(2 * A_SECOND).await;
    assert_eq!(login(&proxy, &short).await.value(COUNT).await, "3");
    proxy.stop().await;
}

/// Nobody knows whether they may stay, so in the end nobody does.
#[tokio::test]
async fn when_the_database_does_not_tell_for_long_everybody_goes() {
    let mut proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let mut wire = login(&proxy, &tenant_token(A)).await;
    assert_eq!(wire.value(COUNT).await, "3");
    run(&superuser, "revoke execute on function cloison.session_change() from cloison_control")
        .await;
    let blind = Instant::now();
    proxy.observed(|event| matches!(event, Event::EndsUnknown { .. }).then_some(())).await;
    // A short while is nothing.
    tokio::time::sleep(15 * A_SECOND).await;
    assert_eq!(wire.value(COUNT).await, "3");
    let answer = wire.answer().await;
    assert_eq!(fields(error(&answer)), ("FATAL", "08006", "cloison: C205"));
    assert!(blind.elapsed() > cloison::tenant::BLIND_AFTER - A_SECOND);
    let refused = Wire::refused(&proxy, "app", &tenant_token(A), &[]).await;
    assert_eq!(refused.field('D'), "cloison: C205");
    run(&superuser, "grant execute on function cloison.session_change() to cloison_control").await;
    tokio::time::sleep(A_SECOND).await;
    assert_eq!(login(&proxy, &tenant_token(A)).await.value(COUNT).await, "3");
    proxy.stop().await;
}

/// Three tenants take turns on few server connections, and each session is ended by its token's
/// revocation: the next one there sees its own rows only.
#[tokio::test]
async fn what_a_revoked_session_leaves_is_nobody_elses() {
    const C: &str = "cccccccc-0000-4000-8000-000000000003";
    let proxy = proxy::new().pool_size(2).run().await;
    let superuser = proxy.database.superuser().await;
    run(
        &superuser,
        &format!(
            "update cloison.tenants set status = 'active' where slug = 'c'; \
             insert into public.note (tenant_id, id, body) \
             select uuid '{C}', i, 'c' || i from generate_series(1, 2) i"
        ),
    )
    .await;
    let seen = "select count(*) || ' ' || coalesce(min(body), '') from note";
    for turn in 0..9 {
        let (tenant, own) = [(A, "3 a1"), (B, "5 b1"), (C, "2 c1")][turn % 3];
        let id = format!("turn-{turn}");
        let mut wire = login(&proxy, &token_of(tenant, json!({ "jti": id }))).await;
        assert_eq!(wire.value(seen).await, own, "turn {turn}");
        // Every other one has had a transaction of several statements.
        if turn % 2 == 0 {
            wire.ask("begin").await;
            assert_eq!(wire.value(seen).await, own, "turn {turn}");
            wire.ask("commit").await;
        }
        run(&superuser, &format!("select cloison.revoke_token('{id}', 'its turn is over')")).await;
        let told = tokio::time::timeout(Duration::from_secs(20), wire.answer()).await;
        let told = told.expect("it does not end");
        assert_eq!(fields(&told[0]), ("FATAL", "57P01", "cloison: C213"), "turn {turn}");
    }
    proxy.stop().await;
}
