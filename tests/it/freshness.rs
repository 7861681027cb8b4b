//! Nothing that is signed is good for longer than a minute, and nobody privileged stays past his end.

use std::time::{Duration, Instant};

use cloison::config::PoolMode;
use cloison::observe::Event;
use cloison::types::Access;
use serde_json::json;
use tokio_postgres::Client;

use crate::support::postgres::{A, B, until_none};
use crate::support::proxy::{self, Proxy, token};
use crate::support::wire::{Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";
const TICKET: &str = "select current_setting('cloison.context')";
const PID: &str = "select pg_backend_pid()";
const A_SECOND: Duration = Duration::from_secs(1);

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

async fn super_admin(proxy: &Proxy, jti: &str, writes: bool) -> Wire {
    let token = token("superadmin", json!({ "jti": jti }));
    let write = [("options", "-c cloison.write=on")];
    let parameters = if writes { &write[..] } else { &[] };
    Wire::login(proxy, "cloison_superadmin", &token, parameters).await.0
}

/// What a session was given is over in less than a minute, and its client does not notice.
#[tokio::test]
async fn what_a_session_has_is_renewed_while_it_is_served() {
    let proxy = proxy::new().by_session().run().await;
    let mut idle = Wire::tenant(&proxy, A).await;
    let mut busy = Wire::tenant(&proxy, A).await;
    let mut open = Wire::tenant(&proxy, A).await;
    let mut chained = Wire::tenant(&proxy, A).await;
    let mut admin = super_admin(&proxy, "one", true).await;
    let mut reader = super_admin(&proxy, "two", true).await;
    let kept = idle.value(TICKET).await;
    assert_eq!(kept.len(), 111, "{kept}");
    for admin in [&mut admin, &mut reader] {
        admin.ask("select cloison.enable_superadmin_mode()").await;
        assert_eq!(admin.value(COUNT).await, "8");
    }
    // Who has become a reader by his own doing stays one.
    reader.ask("reset cloison.superadmin_write").await;
    open.ask("begin").await;
    assert_eq!(open.value(COUNT).await, "3");
    chained.ask("begin").await;

    let begun = Instant::now();
    while begun.elapsed() < 47 * A_SECOND {
        tokio::time::sleep(A_SECOND).await;
        assert_eq!(busy.value(COUNT).await, "3");
    }
    assert_eq!(open.value(COUNT).await, "3", "what began in time goes on");
    open.ask("commit").await;
    assert_eq!(open.value(COUNT).await, "3");
    chained.ask("commit and chain").await;
    assert_eq!(chained.value(COUNT).await, "3");
    chained.ask("rollback and chain").await;
    assert_eq!(chained.value(COUNT).await, "3");
    chained.ask("rollback").await;
    assert_eq!(chained.value(COUNT).await, "3");

    // The first text after a long rest is answered as any other.
    idle.run(COUNT).sync().run(COUNT).sync().send().await;
    for _ in 0..2 {
        assert_eq!(rows(&idle.answer().await), ["3"]);
    }
    assert_ne!(idle.value(TICKET).await, kept);
    let again = format!("select set_config('cloison.context', '{kept}', false); {COUNT}");
    assert_eq!(error(&idle.ask(&again).await).field('C'), "42501");
    assert_eq!(idle.value(COUNT).await, "3");

    for admin in [&mut admin, &mut reader] {
        assert_eq!(admin.value(COUNT).await, "8");
    }
    assert_eq!(tags(&admin.ask("update note set body = body").await), "CZ");
    let told = reader.ask("update note set body = body").await;
    assert_eq!(error(&told).field('M'), "this super-admin's session is read-only");
    // Nor does it become a super-admin by a renewal who is none any more.
    admin.ask("reset all").await;
    assert_eq!(admin.value(COUNT).await, "0");
    proxy.stop().await;
}

/// A connection whose client may not be here any more meets nobody else, reset or not.
#[tokio::test]
async fn the_connection_of_a_session_that_was_ended_is_closed() {
    let mut proxy = proxy::new().by_session().pool_size(1).run().await;
    let superuser = proxy.database.superuser().await;
    let tenant = |jti: &str| token("tenant", json!({ "tenant_id": A, "jti": jti }));
    let ends = [
        ("lost", "select cloison.revoke_token('lost', 'x')"),
        ("kept", "update cloison.tenants set status = 'suspended' where slug = 'a'"),
    ];
    for (jti, end) in ends {
        let (mut wire, _) = Wire::login(&proxy, "app", &tenant(jti), &[]).await;
        let pid = wire.value(PID).await;
        run(&superuser, end).await;
        assert_eq!(error(&wire.answer().await).field('C'), "57P01");
        let reason = proxy.observed(|event| match event {
            Event::ServerDiscarded { reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(reason.await, "ended");
        let mut other = Wire::tenant(&proxy, B).await;
        assert_ne!(other.value(PID).await, pid);
        drop(other);
    }
    proxy.stop().await;
}

/// What is open or running does not keep a super-admin, or the owner, whose time is over.
#[tokio::test]
async fn somebody_privileged_goes_whatever_is_open() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let edit = move |config: &mut cloison::config::Config| {
            for access in [Access::Superadmin, Access::Owner] {
                config.pools.get_mut(&access).unwrap().mode = mode;
            }
        };
        let proxy = proxy::new().edit(edit).run().await;
        let superuser = proxy.database.superuser().await;
        let mut idle = super_admin(&proxy, "lost", false).await;
        let mut busy = super_admin(&proxy, "lost", false).await;
        let owner = token("owner", json!({ "jti": "lost" }));
        let (mut owner, _) = Wire::login(&proxy, "cloison_owner", &owner, &[]).await;
        for wire in [&mut idle, &mut owner] {
            wire.ask("begin").await;
            wire.value("select 1").await;
        }
        busy.query("begin; select pg_sleep(60)").send().await;
        tokio::time::sleep(A_SECOND / 2).await;
        run(&superuser, "select cloison.revoke_token('lost', 'x')").await;
        for wire in [&mut idle, &mut owner, &mut busy] {
            let told = tokio::time::timeout(2 * A_SECOND, wire.until('E')).await;
            let told = told.expect("within two seconds");
            assert_eq!(error(&told).field('C'), "57P01", "{mode:?}");
            assert!(wire.receive().await.is_none());
        }
        let left = "select count(*) from pg_stat_activity where usename ~ 'superadmin|owner' \
                    and state like '%transaction%' or query like '%pg_sleep(60)' and state = 'active'";
        until_none(&superuser, left).await;
        proxy.stop().await;

        // The same at the end of the time that the operator has set.
        let rule = "superadmin_session_lifetime = 2";
        let proxy = proxy::new().set(rule).edit(edit).run().await;
        let mut wire = super_admin(&proxy, "one", false).await;
        wire.ask("begin").await;
        assert_eq!(error(&wire.answer().await).field('D'), "cloison: C204");
        proxy.stop().await;
    }
}

/// A tenant's transaction has a little time, and no more.
#[tokio::test]
async fn a_tenants_transaction_ends_soon_after_its_leave() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let lost = token("tenant", json!({ "tenant_id": A, "jti": "lost" }));
    let (mut wire, _) = Wire::login(&proxy, "app", &lost, &[]).await;
    wire.ask("begin").await;
    assert_eq!(wire.value(COUNT).await, "3");
    run(&superuser, "select cloison.revoke_token('lost', 'x')").await;
    tokio::time::sleep(5 * A_SECOND).await;
    assert_eq!(wire.value(COUNT).await, "3");
    let told = tokio::time::timeout(20 * A_SECOND, wire.answer()).await.expect("soon");
    assert_eq!(error(&told).field('D'), "cloison: C213");
    assert!(wire.receive().await.is_none());
    proxy.stop().await;
}

/// Of a super-admin's own tokens none comes back by his own word.
#[tokio::test]
async fn nobody_lifts_a_revocation_that_concerns_himself() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    drop(super_admin(&proxy, "other", false).await);
    let mut admin = super_admin(&proxy, "one", true).await;
    for revoke in [
        "select cloison.revoke_token('other', 'x')",
        "select cloison.revoke_subject('tester', 'x', 'elsewhere')",
        "select cloison.revoke_subject('eve', 'x')",
    ] {
        run(&superuser, revoke).await;
    }
    let lift = |value: &str| {
        format!(
            "select cloison.lift_revocation(id, 'x') from cloison.current_revocations() \
             where value = '{value}'"
        )
    };
    admin.ask("select cloison.enable_superadmin_mode()").await;
    // The subject of both is the same: who came with the other has this one.
    let told = admin.ask(&lift("other")).await;
    assert_eq!(error(&told).field('M'), "nobody lifts a revocation that concerns himself");
    assert_eq!(admin.value(&lift("eve")).await, "t");
    // Of another issuer, it is somebody else.
    assert_eq!(admin.value(&lift("tester")).await, "t");
    proxy.stop().await;
}

/// A refusal is a record that nobody can take away again: so there are few of them.
#[tokio::test]
async fn a_tenant_does_not_fill_the_audit_log() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let before: i64 =
        superuser.query_one("select count(*) from cloison.audit_log", &[]).await.unwrap().get(0);
    for _ in 0..2 {
        let service = proxy::service_token(json!(["a"]));
        let (mut wire, _) = Wire::login(&proxy, "app", &service, &[]).await;
        for number in 0..200 {
            wire.ask("reset cloison.jwt").await;
            let name = format!("{number}-{}", "x".repeat(250));
            let told = wire.ask(&format!("select set_tenant('{name}')")).await;
            assert!(error(&told).field('D').contains("C20"), "{number}");
        }
    }
    let rows = superuser
        .query("select detail ->> 'asked_for' from cloison.audit_log order by id", &[])
        .await
        .unwrap();
    assert_eq!(i64::try_from(rows.len()).unwrap() - before, 5);
    let longest = rows.iter().filter_map(|row| row.get::<_, Option<String>>(0));
    assert_eq!(longest.map(|name| name.len()).max(), Some(63));
    proxy.stop().await;
}
