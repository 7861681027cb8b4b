//! A cancel request reaches the statement of the client whose key it carries, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{A, B, COUNT, Pair, Wire, error, pooled, tags};
use crate::support::postgres::until_any;
use crate::support::proxy::{Proxy, settled, tenant_token};
use crate::support::wire::{cancel_key, cancel_request};

async fn login(proxy: &Proxy, tenant: &str) -> (Wire, Vec<u8>) {
    let (wire, answer) = Wire::login(proxy, "app", &tenant_token(tenant), &[]).await;
    let key = cancel_key(&answer);
    (wire, key)
}

/// Sends a request and waits until the proxy has done with it.
async fn cancel(proxy: &Proxy, key: &[u8]) {
    let mut sender = Wire::connect(proxy.address).await;
    sender.raw(&cancel_request(key)).send().await;
    assert_eq!(sender.receive_byte().await, None);
}

/// Postgres drops a request that comes between two messages of a pipeline.
const RUNNING: &str = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' \
                       and usename = 'it_app' and query like '%3600%'";

#[tokio::test]
async fn it_hits_the_one_who_asks() {
    let proxy = pooled()
        .edit(|config| {
            config.pools.get_mut(&cloison::types::Access::Tenant).unwrap().size = 2;
        })
        .run()
        .await;
    let (mut a, key) = login(&proxy, A).await;
    let (mut b, _) = login(&proxy, B).await;
    let superuser = proxy.database.superuser().await;
    for text in [
        "select pg_sleep(3600)",
        "begin; select pg_sleep(3600)",
        "select 1; select pg_sleep(3600); select 2",
    ] {
        b.query("select pg_sleep(0.5), 'b'").send().await;
        a.query(text).send().await;
        until_any(&superuser, RUNNING).await;
        cancel(&proxy, &key).await;
        assert_eq!(error(&a.answer().await).field('C'), "57014", "{text}");
        assert_eq!(tags(&b.answer().await), "TDCZ", "{text}");
        a.ask("rollback").await;
        assert_eq!(a.value(COUNT).await, "3");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn one_that_comes_too_late_hits_nobody() {
    let proxy = pooled().run().await;
    let (mut a, key) = login(&proxy, A).await;
    let (mut b, _) = login(&proxy, B).await;
    for _ in 0..20 {
        assert_eq!(a.value(COUNT).await, "3");
        b.query("select pg_sleep(0.02), 'b'").send().await;
        cancel(&proxy, &key).await;
        cancel(&proxy, &key).await;
        assert_eq!(tags(&b.answer().await), "TDCZ");
    }
    // Nor while its owner waits for a connection.
    b.ask("begin").await;
    a.query(COUNT).send().await;
    for _ in 0..5 {
        cancel(&proxy, &key).await;
        assert_eq!(b.value("select 'b'").await, "b");
    }
    b.ask("commit").await;
    assert_eq!(super::rows(&a.answer().await), ["3"]);
    proxy.stop().await;
}

#[tokio::test]
async fn one_that_comes_while_its_owner_waits_is_carried_out_once_it_runs() {
    let proxy = pooled().run().await;
    let (mut a, key) = login(&proxy, A).await;
    let (mut b, _) = login(&proxy, B).await;
    b.ask("begin").await;
    b.value(COUNT).await;
    a.query("select pg_sleep(3600)").send().await;
    // There is no event of waiting; by the time of another's login it has been read.
    settled(&proxy).await;
    cancel(&proxy, &key).await;
    assert_eq!(b.value(COUNT).await, "5");
    b.ask("commit").await;
    assert_eq!(error(&a.answer().await).field('C'), "57014");
    assert_eq!(a.value(COUNT).await, "3");
    assert_eq!(b.value(COUNT).await, "5");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_them_never_hits_the_other() {
    let pair = Pair::new().await;
    let (mut a, key) = login(&pair.proxy, A).await;
    let stop = Arc::new(AtomicBool::new(false));
    let address = pair.proxy.address;
    let storm = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut sender = Wire::connect(address).await;
                sender.raw(&cancel_request(&key)).send().await;
                sender.receive_byte().await;
                sent += 1;
            }
            sent
        }
    });
    let mut b = pair.b;
    let mut cancelled = 0;
    for round in 0..400 {
        // B's follows A's on the same connection as closely as may be.
        a.query("select pg_sleep(0.002)").send().await;
        match round % 3 {
            0 => {
                b.query("select pg_sleep(0.001), 'b'");
            }
            1 => {
                b.run("select count(*) from note").sync();
            }
            _ => {
                b.query("begin; select 'b'; commit");
            }
        }
        b.send().await;
        let answer = b.answer().await;
        assert!(!tags(&answer).contains('E'), "{round}: {}", error(&answer).field('M'));
        let answer = a.answer().await;
        if tags(&answer).contains('E') {
            assert_eq!(error(&answer).field('C'), "57014", "{round}");
            cancelled += 1;
        }
        assert_eq!(answer.last().unwrap().tag, 'Z', "{round}");
    }
    stop.store(true, Ordering::Relaxed);
    let sent: usize = storm.await.unwrap();
    println!("{sent} requests, {cancelled} statements cancelled");
    assert!(cancelled > 0);
    drop((a, b, pair.a));
    pair.proxy.stop().await;
}

/// What is set is not lost because a request arrives between the statement and the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_survives_a_storm_of_them() {
    let pair = Pair::new().await;
    let (mut a, key) = login(&pair.proxy, A).await;
    let stop = Arc::new(AtomicBool::new(false));
    let address = pair.proxy.address;
    let storm = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            while !stop.load(Ordering::Relaxed) {
                let mut sender = Wire::connect(address).await;
                sender.raw(&cancel_request(&key)).send().await;
                sender.receive_byte().await;
            }
        }
    });
    let mut b = pair.b;
    for round in 0..200 {
        let set = a.ask(&format!("set my.key = 'v{round}'")).await;
        assert_eq!(b.value(COUNT).await, "5");
        if tags(&set) == "CZ" {
            let mut shown = a.ask("show my.key").await;
            while tags(&shown).contains('E') && error(&shown).field('C') == "57014" {
                shown = a.ask("show my.key").await;
            }
            assert!(!tags(&shown).contains('E'), "{round}: {}", error(&shown).field('M'));
            assert_eq!(super::rows(&shown), [format!("v{round}")]);
        }
    }
    stop.store(true, Ordering::Relaxed);
    storm.await.unwrap();
    drop((a, b, pair.a));
    pair.proxy.stop().await;
}
