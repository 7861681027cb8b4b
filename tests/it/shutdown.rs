//! The end of the proxy, as its clients see it.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::postgres::{A, until_none};
use crate::support::proxy::{self, tenant_token};
use crate::support::wire::{Message, V3_0, Wire, tags};

fn check_farewell(answer: &[Message]) {
    assert_eq!(tags(answer), "E");
    assert_eq!((answer[0].field('V'), answer[0].field('C')), ("FATAL", "57P01"));
}

#[tokio::test]
async fn idle_sessions_end_at_once() {
    let proxy = proxy::new().set("shutdown_timeout = \"1h\"").run().await;
    let mut first = Wire::tenant(&proxy, A).await;
    let mut second = Wire::tenant(&proxy, A).await;
    second.ask("begin").await;
    second.ask("commit").await;
    let ended = tokio::spawn(proxy.stop());
    check_farewell(&first.answer().await);
    check_farewell(&second.answer().await);
    drop((first, second));
    ended.await.unwrap();
}

#[tokio::test]
async fn a_running_transaction_comes_to_its_end() {
    let proxy = proxy::new().set("shutdown_timeout = \"1h\"").run().await;
    let mut idle = Wire::tenant(&proxy, A).await;
    let mut busy = Wire::tenant(&proxy, A).await;
    busy.ask("begin").await;
    let address = proxy.address;
    let ended = tokio::spawn(proxy.stop());
    check_farewell(&idle.answer().await);
    drop(idle);
    // Nobody new comes in meanwhile.
    assert!(TcpStream::connect(address).await.is_err());
    assert_eq!(busy.value("select count(*) from note").await, "3");
    busy.run("select 1").sync().query("commit").send().await;
    assert_eq!(tags(&busy.answer().await), "12DCZ");
    assert_eq!(tags(&busy.answer().await), "CZ");
    check_farewell(&busy.answer().await);
    drop(busy);
    ended.await.unwrap();
}

#[tokio::test]
async fn a_session_that_does_not_end_is_cut_at_the_deadline() {
    let proxy = proxy::new().set("shutdown_timeout = \"300ms\"").run().await;
    let mut open = Wire::tenant(&proxy, A).await;
    open.ask("begin").await;
    let mut busy = Wire::tenant(&proxy, A).await;
    busy.query("select pg_sleep(3600)").send().await;
    let superuser = proxy.database.superuser().await;
    let started = Instant::now();
    let ended = tokio::spawn(proxy.stop());
    check_farewell(&open.answer().await);
    assert!(started.elapsed() >= Duration::from_millis(300));
    check_farewell(&busy.answer().await);
    drop((open, busy));
    ended.await.unwrap();
    let left = "select count(*) from pg_stat_activity \
                where usename = 'it_app' and datname = current_database()";
    until_none(&superuser, left).await;
}

#[tokio::test]
async fn who_has_no_session_yet_does_not_hold_up_the_end() {
    let proxy = proxy::new().pool_size(1).set("shutdown_timeout = \"1h\"").run().await;
    let mut silent = Wire::connect(proxy.address).await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    let mut mute = Wire::connect(proxy.address).await;
    mute.startup(V3_0, &parameters).send().await;
    assert_eq!(mute.receive().await.unwrap().tag, 'R');
    let mut holder = Wire::tenant(&proxy, A).await;
    // With transaction pooling nobody waits before the first statement.
    let by_transaction = proxy::by_transaction();
    if by_transaction {
        holder.ask("begin").await;
    }
    let mut waiting = Wire::connect(proxy.address).await;
    waiting.startup(V3_0, &parameters).send().await;
    assert_eq!(waiting.receive().await.unwrap().tag, 'R');
    waiting.password(&tenant_token(A)).send().await;
    if by_transaction {
        waiting.answer().await;
        waiting.query("select 1").send().await;
    }
    proxy::settled(&proxy).await;
    let ended = tokio::spawn(proxy.stop());
    assert_eq!(silent.receive_byte().await, None);
    assert_eq!(mute.receive().await, None);
    if by_transaction {
        check_farewell(&waiting.answer().await);
        assert_eq!(tags(&holder.ask("commit").await), "CZ");
    }
    check_farewell(&holder.answer().await);
    if !by_transaction {
        check_farewell(&waiting.answer().await);
    }
    drop((holder, waiting));
    ended.await.unwrap();
}
