//! Cancel requests: whom they reach, and whom they do not.

use cloison::observe::Event;
use tokio::io::AsyncWriteExt;
use tokio_postgres::NoTls;

use crate::support::postgres::{A, B, until_any};
use crate::support::proxy::{self, Proxy, tenant_token};
use crate::support::wire::{Wire, cancel_key, cancel_request, error, tags};

const SLEEP: &str = "select pg_sleep(3600)";

async fn session(proxy: &Proxy, tenant: &str) -> (Wire, Vec<u8>) {
    let (wire, answer) = Wire::login(proxy, "app", &tenant_token(tenant), &[]).await;
    let key = cancel_key(&answer);
    (wire, key)
}

/// Waits until Postgres runs what the tenant has sent.
async fn is_running(proxy: &Proxy) {
    let superuser = proxy.database.superuser().await;
    let running = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' \
                   and usename = 'it_app' and datname = current_database() and query like '%3600%'";
    until_any(&superuser, running).await;
}

async fn outcome(proxy: &mut Proxy) -> bool {
    proxy
        .observed(|event| match event {
            Event::CancelForwarded { .. } => Some(true),
            Event::CancelUnknown => Some(false),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_cancel_request_reaches_the_statement_however_its_sender_leaves() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let (mut wire, key) = session(&proxy, A).await;
    for manner in ["waits", "half-closes", "closes"] {
        wire.query(SLEEP).send().await;
        is_running(&proxy).await;
        let mut sender = Wire::connect(proxy.address).await;
        sender.raw(&cancel_request(&key)).send().await;
        match manner {
            "half-closes" => sender.socket.shutdown().await.unwrap(),
            "closes" => {
                drop(sender);
                sender = Wire::connect(proxy.address).await;
                sender.socket.shutdown().await.unwrap();
            }
            _ => {}
        }
        let answer = wire.answer().await;
        assert_eq!((error(&answer).field('C'), error(&answer).field('V')), ("57014", "ERROR"));
        assert_eq!(sender.receive_byte().await, None, "{manner}");
        assert!(outcome(&mut proxy).await);
        assert_eq!(wire.value("select count(*) from note").await, "3");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_drivers_own_cancel_works() {
    let proxy = proxy::new().run().await;
    let client = proxy.tenant(A).await;
    let cancel = client.cancel_token();
    let cancelled = async {
        is_running(&proxy).await;
        cancel.cancel_query(NoTls).await.unwrap();
    };
    let (result, ()) = tokio::join!(client.query(SLEEP, &[]), cancelled);
    assert_eq!(result.unwrap_err().code().unwrap().code(), "57014");
    assert_eq!(client.query("select * from note", &[]).await.unwrap().len(), 3);
    proxy.stop().await;
}

#[tokio::test]
async fn a_long_key_cancels_too() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::connect(proxy.address).await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    wire.startup(0x0003_0002, &parameters).password(&tenant_token(A)).send().await;
    let key = cancel_key(&wire.answer().await);
    assert_eq!(key.len(), 36);
    wire.query(SLEEP).send().await;
    is_running(&proxy).await;
    let mut sender = Wire::connect(proxy.address).await;
    sender.raw(&cancel_request(&key)).send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "57014");
    proxy.stop().await;
}

#[tokio::test]
async fn a_wrong_key_reaches_nobody() {
    let mut proxy = proxy::new().run().await;
    let (mut wire, key) = session(&proxy, A).await;
    wire.query("select pg_sleep(0.5), 3600").send().await;
    is_running(&proxy).await;
    let mut wrong = key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for key in [&wrong[..], &key[..5], &[&key[..], &[0]].concat(), &[0; 8], &[0; 260]] {
        let mut sender = Wire::connect(proxy.address).await;
        sender.raw(&cancel_request(key)).send().await;
        assert_eq!(sender.receive_byte().await, None);
        if key.len() <= 260 {
            assert!(!outcome(&mut proxy).await);
        }
    }
    assert_eq!(tags(&wire.answer().await), "TDCZ");
    proxy.stop().await;
}

#[tokio::test]
async fn the_servers_own_key_is_never_told() {
    let proxy = proxy::new().pool_size(1).run().await;
    let (mut first, key) = session(&proxy, A).await;
    let pid: u32 = first.value("select pg_backend_pid()").await.parse().unwrap();
    drop(first);
    let (_, other) = session(&proxy, A).await;
    if proxy::by_transaction() {
        // There is no one server, so the process id says nothing either.
        assert_ne!(key[..4], other[..4]);
        assert_ne!(key[..4], pid.to_be_bytes());
    } else {
        assert_eq!(key[..4], pid.to_be_bytes());
        assert_eq!(key[..4], other[..4]);
    }
    assert_ne!(key[4..], other[4..]);
    proxy.stop().await;
}

#[tokio::test]
async fn the_key_of_an_ended_session_means_nothing_to_the_next() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let (a, key) = session(&proxy, A).await;
    drop(a);
    let (mut b, _) = session(&proxy, B).await;
    b.query("select pg_sleep(0.3), 3600").send().await;
    is_running(&proxy).await;
    let mut sender = Wire::connect(proxy.address).await;
    sender.raw(&cancel_request(&key)).send().await;
    assert_eq!(sender.receive_byte().await, None);
    assert!(!outcome(&mut proxy).await);
    assert_eq!(tags(&b.answer().await), "TDCZ");
    proxy.stop().await;
}

#[tokio::test]
async fn a_cancel_request_on_the_way_at_the_end_of_a_session_hits_nobody_else() {
    let proxy = proxy::new().pool_size(1).run().await;
    for _ in 0..30 {
        let (mut a, key) = session(&proxy, A).await;
        let mut sender = Wire::connect(proxy.address).await;
        a.message('X', b"");
        sender.raw(&cancel_request(&key));
        tokio::join!(a.send(), sender.send());
        let (mut b, _) = session(&proxy, B).await;
        assert_eq!(tags(&b.ask("select pg_sleep(0.01)").await), "TDCZ");
    }
    proxy.stop().await;
}

/// What became of each of `count` requests, once all of them are over.
async fn outcomes(proxy: &mut Proxy, count: usize) -> (usize, usize, usize) {
    let (mut forwarded, mut unknown, mut dropped) = (0, 0, 0);
    proxy
        .observed(|event| {
            match event {
                Event::CancelForwarded { .. } => forwarded += 1,
                Event::CancelUnknown => unknown += 1,
                Event::CancelDropped { .. } => dropped += 1,
                _ => {}
            }
            (forwarded + unknown + dropped == count).then_some(())
        })
        .await;
    (forwarded, unknown, dropped)
}

#[tokio::test]
async fn a_flood_for_one_session_is_carried_out_a_few_times() {
    const MANY: usize = 300;
    let mut proxy = proxy::new().run().await;
    let (mut wire, key) = session(&proxy, A).await;
    wire.query(SLEEP).send().await;
    is_running(&proxy).await;
    let mut senders = Vec::new();
    for _ in 0..MANY {
        let mut sender = Wire::connect(proxy.address).await;
        sender.raw(&cancel_request(&key));
        senders.push(sender);
    }
    futures_util::future::join_all(senders.iter_mut().map(Wire::send)).await;
    assert_eq!(error(&wire.answer().await).field('C'), "57014");
    let (forwarded, unknown, dropped) = outcomes(&mut proxy, MANY).await;
    // With transaction pooling a late one finds nothing that could be cancelled.
    assert!(forwarded > 0 && dropped > MANY / 2, "{forwarded} {unknown} {dropped}");
    // Nobody else's wait for their turn.
    let (mut other, key) = session(&proxy, B).await;
    other.query(SLEEP).send().await;
    is_running(&proxy).await;
    Wire::connect(proxy.address).await.raw(&cancel_request(&key)).send().await;
    assert_eq!(error(&other.answer().await).field('C'), "57014");
    proxy.stop().await;
}

#[tokio::test]
async fn whoever_guesses_keys_is_not_heard_for_a_while() {
    const MANY: usize = 100;
    let mut proxy = proxy::new().run().await;
    let (mut wire, key) = session(&proxy, A).await;
    let mut wrong = key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let started = std::time::Instant::now();
    for _ in 0..MANY {
        Wire::connect(proxy.address).await.raw(&cancel_request(&wrong)).send().await;
    }
    let (forwarded, unknown, dropped) = outcomes(&mut proxy, MANY).await;
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert_eq!(forwarded, 0);
    assert!(unknown <= 20 * seconds && dropped > 0, "{unknown} {dropped} in {seconds} s");
    // From another address, at the same time.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let socket = socket.connect(proxy.address).await.unwrap();
    wire.query(SLEEP).send().await;
    is_running(&proxy).await;
    Wire::over(socket).raw(&cancel_request(&key)).send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "57014");
    // And from there, too, when the second is over.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    wire.query(SLEEP).send().await;
    is_running(&proxy).await;
    Wire::connect(proxy.address).await.raw(&cancel_request(&key)).send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "57014");
    proxy.stop().await;
}
