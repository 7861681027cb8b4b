//! Who waits for a server connection, for how long, and what becomes of connections that die.

use std::time::Duration;

use cloison::observe::Event;

use super::{A, B, COUNT, PID, Pair, Wire, done, error, pooled, tags};
use crate::support::postgres::until_any;
use crate::support::proxy;

#[tokio::test]
async fn first_come_first_served() {
    let proxy = pooled().run().await;
    let mut holder = Wire::tenant(&proxy, A).await;
    done(&mut holder, "begin").await;
    holder.value(COUNT).await;
    let superuser = proxy.database.superuser().await;
    superuser
        .batch_execute(
            "create table turns (n serial, who text); grant all on turns, turns_n_seq to it_app",
        )
        .await
        .unwrap();
    let mut waiting = Vec::new();
    for i in 0..6 {
        let mut wire = Wire::tenant(&proxy, if i % 2 == 0 { A } else { B }).await;
        wire.query(&format!("insert into turns (who) values ('{i}')")).send().await;
        // There is no event of waiting; by the time of another's login it has been read.
        proxy::settled(&proxy).await;
        waiting.push(wire);
    }
    done(&mut holder, "commit").await;
    for wire in &mut waiting {
        assert_eq!(tags(&wire.answer().await), "CZ");
    }
    let order: String = superuser
        .query_one("select string_agg(who, '' order by n) from turns", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(order, "012345");
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_never_rests_lets_others_in() {
    let mut pair = Pair::new().await;
    // Enough to keep the connection for long if it did not give way.
    for _ in 0..200 {
        pair.a.query("select pg_sleep(0.01)");
    }
    pair.a.send().await;
    pair.a.answer().await;
    let asked = tokio::time::timeout(Duration::from_secs(1), pair.b.value(COUNT)).await;
    assert_eq!(asked.expect("it had to wait for all of it"), "5");
    for _ in 1..200 {
        assert_eq!(tags(&pair.a.answer().await), "TDCZ");
    }
    pair.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_and_others_are_not_harmed() {
    let mut proxy = pooled().set("query_wait_timeout = \"250ms\"").run().await;
    let mut holder = Wire::tenant(&proxy, A).await;
    done(&mut holder, "begin").await;
    let mut waiting = Wire::tenant(&proxy, B).await;
    waiting.query(COUNT).send().await;
    let answer = waiting.answer().await;
    let told = error(&answer);
    assert_eq!((told.field('C'), told.field('V')), ("53300", "FATAL"));
    assert_eq!(told.field('M'), "no server connection became free within 0.25 s");
    let waited = proxy.observed(|event| match event {
        Event::CheckoutTimedOut { waited, .. } => Some(*waited),
        _ => None,
    });
    assert_eq!(waited.await, Duration::from_millis(250));
    assert_eq!(holder.value(COUNT).await, "3");
    done(&mut holder, "commit").await;
    assert_eq!(Wire::tenant(&proxy, B).await.value(COUNT).await, "5");
    proxy.stop().await;
}

#[tokio::test]
async fn who_leaves_the_queue_takes_no_turn() {
    let proxy = pooled().run().await;
    let mut holder = Wire::tenant(&proxy, A).await;
    done(&mut holder, "begin").await;
    for _ in 0..5 {
        let mut gone = Wire::tenant(&proxy, B).await;
        gone.query("update note set body = 'gone'").send().await;
        drop(gone);
    }
    let mut last = Wire::tenant(&proxy, B).await;
    last.query(COUNT).send().await;
    done(&mut holder, "commit").await;
    assert_eq!(super::rows(&last.answer().await), ["5"]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_server_connection_that_dies_is_replaced() {
    let mut pair = Pair::new().await;
    let superuser = pair.proxy.database.superuser().await;
    let end = "select pg_terminate_backend($1)";
    let gone = "select (count(*) = 0)::int::bigint from pg_stat_activity where pid = ";
    // At rest: nobody hears of it.
    for _ in 0..5 {
        let pid: i32 = pair.a.value(PID).await.parse().unwrap();
        superuser.query(end, &[&pid]).await.unwrap();
        until_any(&superuser, &format!("{gone}{pid}")).await;
        assert_eq!(pair.b.value(COUNT).await, "5");
        assert_eq!(pair.a.value(COUNT).await, "3");
    }
    // What a client has prepared and set is there on the next one.
    pair.a.parse("s", COUNT).sync().send().await;
    pair.a.answer().await;
    done(&mut pair.a, "set timezone = 'Asia/Tokyo'").await;
    let pid: i32 = pair.a.value(PID).await.parse().unwrap();
    superuser.query(end, &[&pid]).await.unwrap();
    until_any(&superuser, &format!("{gone}{pid}")).await;
    assert_eq!(super::rows_of(&mut pair.a, "s").await, ["3"]);
    assert_eq!(pair.a.value("show timezone").await, "Asia/Tokyo");
    // In a transaction: its client hears of it in the server's words, and no other.
    done(&mut pair.a, "begin").await;
    let pid: i32 = pair.a.value(PID).await.parse().unwrap();
    superuser.query(end, &[&pid]).await.unwrap();
    let answer = pair.a.answer().await;
    assert_eq!((error(&answer).field('C'), error(&answer).field('V')), ("57P01", "FATAL"));
    assert!(pair.a.receive().await.is_none());
    assert_eq!(pair.b.value(COUNT).await, "5");
    pair.stop().await;
}

#[tokio::test]
async fn many_clients_share_few_connections() {
    let proxy = proxy::new().by_transaction().set("default_pool_size = 3").unfiltered().run().await;
    let mut clients = Vec::new();
    for i in 0..30 {
        let tenant = if i % 2 == 0 { A } else { B };
        let mut wire = Wire::tenant(&proxy, tenant).await;
        clients.push(tokio::spawn(async move {
            let expected = if i % 2 == 0 { "3" } else { "5" };
            for round in 0..20 {
                match round % 4 {
                    0 => assert_eq!(wire.value(COUNT).await, expected),
                    1 => {
                        done(&mut wire, "begin").await;
                        assert_eq!(wire.value(COUNT).await, expected);
                        done(&mut wire, "commit").await;
                    }
                    2 => {
                        let answer = super::extended(&mut wire, COUNT).await;
                        assert_eq!(super::rows(&answer), [expected]);
                    }
                    _ => {
                        done(&mut wire, &format!("set my.key = '{i}'")).await;
                        assert_eq!(wire.value("show my.key").await, i.to_string());
                    }
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let superuser = proxy.database.superuser().await;
    let open = "select count(*) from pg_stat_activity where usename = 'it_app' and datname = current_database()";
    let open: i64 = superuser.query_one(open, &[]).await.unwrap().get(0);
    assert!((1..=3).contains(&open), "{open}");
    proxy.stop().await;
}

#[tokio::test]
async fn logins_at_postgres_are_few_at_a_time() {
    let mut proxy = proxy::new().by_transaction().set("default_pool_size = 40").run().await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(Wire::tenant(&proxy, A).await);
    }
    for wire in &mut clients {
        wire.query("select pg_sleep(0.3)").send().await;
    }
    for wire in &mut clients {
        assert_eq!(tags(&wire.answer().await), "TDCZ");
    }
    let mut logins = 0;
    while let Ok(event) = proxy.events.try_recv() {
        logins += usize::from(matches!(event, Event::ServerConnected { .. }));
    }
    assert!((2..=40).contains(&logins), "{logins}");
    proxy.stop().await;
}

/// A message that has only begun needs no server connection, and does not ask for one again and
/// again.
#[tokio::test]
async fn who_has_not_said_all_does_not_queue() {
    let proxy = pooled().set("query_wait_timeout = 1").run().await;
    let mut b = Wire::tenant(&proxy, B).await;
    b.ask("begin; select 1").await;
    let said = |tag: u8, body: &[u8]| {
        let mut frame = vec![tag];
        frame.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        frame.extend_from_slice(body);
        frame
    };
    let long = format!("select '{}'\0", "x".repeat(100_000));
    for (whole, answer) in [
        (said(b'Q', b"select 7\0"), "TDCZ"),
        (said(b'Q', long.as_bytes()), "TDCZ"),
        (said(b'P', b"a\0select 7\0\0\0"), "1Z"),
        (said(b'B', b"\0a\0\0\0\0\0\0\0"), "2Z"),
        (said(b'D', b"Sa\0"), "tTZ"),
        (said(b'C', b"Sa\0"), "3Z"),
    ] {
        let shown = char::from(whole[0]);
        let mut a = Wire::tenant(&proxy, super::A).await;
        if !matches!(whole[0], b'Q' | b'P') {
            b.ask("commit").await;
            a.parse("a", "select 7").sync().send().await;
            a.answer().await;
            b.ask("begin; select 1").await;
        }
        let (first, rest) = whole.split_at(whole.len() - 2);
        a.raw(first).send().await;
        let told = tokio::time::timeout(Duration::from_secs(2), a.receive()).await;
        assert!(told.is_err(), "{shown}: {told:?}");
        b.ask("commit").await;
        let rest = a.raw(rest);
        if whole[0] == b'Q' { rest } else { rest.sync() }.send().await;
        assert_eq!(tags(&a.answer().await), answer, "{shown}");
        b.ask("begin; select 1").await;
    }
    proxy.stop().await;
}
