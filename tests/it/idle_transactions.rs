//! Transactions that wait for their client end, however the client left them open.

use std::time::{Duration, Instant};

use crate::support::postgres::A;
use crate::support::proxy::{self, Proxy};
use crate::support::wire::{Message, Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";
const WRITE: &str = "update note set body = 'x'";

/// The SQLSTATE that ends the session; the error comes before the connection is closed.
async fn ended_with(wire: &mut Wire) -> String {
    let mut all: Vec<Message> = Vec::new();
    let closed = async {
        while let Some(message) = wire.receive().await {
            all.push(message);
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(10), closed).await;
    assert!(closed.is_ok(), "the session goes on: {}", tags(&all));
    let last = all.last().expect("closed without a word");
    error(std::slice::from_ref(last)).field('C').to_owned()
}

/// A proxy, and a table that takes a COPY, which Postgres refuses where row security is on.
async fn run(lines: &str) -> Proxy {
    let proxy = proxy::new().pool_size(1).set(lines).run().await;
    let make = "create table heap (id int); grant all on heap to it_app";
    proxy.database.superuser().await.batch_execute(make).await.unwrap();
    proxy
}

type Sends = fn(&mut Wire);

/// Each leaves a transaction open, and waits for a message that the client does not send.
const SEQUENCES: &[(&str, Sends)] = &[
    ("a pipeline with a Flush and no Sync", |wire| {
        wire.run(WRITE).flush();
    }),
    ("a pipeline with neither", |wire| {
        wire.run(WRITE);
    }),
    ("a statement in a block", |wire| {
        wire.query("begin").parse("", WRITE).flush();
    }),
    ("a portal that gives some of its rows", |wire| {
        wire.parse("", COUNT).bind("", "", &[]).execute("", 1).flush();
    }),
    ("an error without a Sync", |wire| {
        wire.run(WRITE).run("select 1/0").flush();
    }),
    ("work behind a Sync", |wire| {
        wire.run(COUNT).sync().run(WRITE).flush();
    }),
    ("half a Bind", |wire| {
        wire.run(WRITE).parse("", "select $1");
        wire.raw(&[&b"B\0\x0f\0\0\0\0\0\0\0\x01\0\x0e\0\0"[..], &[b'x'; 9_000]].concat());
    }),
    ("half a Parse", |wire| {
        wire.run(WRITE).raw(b"P\0\0\x01\0\0select");
    }),
    ("half a Query", |wire| {
        wire.query("begin").raw(b"Q\0\0\x01\0select");
    }),
    ("a COPY in a Query", |wire| {
        wire.query("copy heap from stdin").copy_data(b"77\n");
    }),
    ("a COPY in a pipeline", |wire| {
        wire.run("copy heap from stdin").sync();
    }),
];

#[tokio::test]
async fn a_transaction_that_waits_for_its_client_ends_without_a_sync() {
    let proxy = run("idle_transaction_timeout = \"300ms\"").await;
    for (name, send) in SEQUENCES {
        let mut wire = Wire::tenant(&proxy, A).await;
        send(&mut wire);
        wire.send().await;
        let state = ended_with(&mut wire).await;
        assert_eq!(state, "25P03", "{name}");
        // Its locks and its server connection are free.
        let mut next = Wire::tenant(&proxy, A).await;
        assert_eq!(tags(&next.ask(WRITE).await), "CZ", "{name}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_statement_that_runs_is_not_idle_while_its_sync_is_missing() {
    let proxy = run("idle_transaction_timeout = \"300ms\"").await;
    let slow = "select 1 from pg_sleep(1.2)";
    let mut wire = Wire::tenant(&proxy, A).await;
    for flushes in [true, false] {
        wire.run(slow);
        if flushes {
            wire.flush();
        }
        wire.send().await;
        assert_eq!(rows(&wire.until('C').await), ["1"]);
        wire.sync().send().await;
        assert_eq!(tags(&wire.answer().await), "Z");
    }
    // Behind what has been answered, and behind a Sync.
    wire.run("select 2").flush().send().await;
    wire.until('C').await;
    wire.run(slow).send().await;
    assert_eq!(rows(&wire.until('C').await), ["1"]);
    wire.sync().run(slow).send().await;
    assert_eq!(rows(&wire.until('C').await), ["1"]);
    wire.sync().send().await;
    assert_eq!(tags(&wire.answer().await), "Z");
    // The data of a COPY may come slowly.
    wire.query("copy heap from stdin").send().await;
    for id in 100..108 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        wire.copy_data(format!("{id}\n").as_bytes()).send().await;
    }
    wire.copy_done().send().await;
    assert_eq!(tags(&wire.answer().await), "GCZ");
    proxy.stop().await;
}

/// No client keeps an implicit transaction open by sending something now and then.
#[tokio::test]
async fn a_transaction_without_a_block_lasts_no_longer_than_one_with() {
    let proxy = run("transaction_timeout = \"500ms\"").await;
    let mut wire = Wire::tenant(&proxy, A).await;
    // Many short ones, in one pipeline, are not one long one.
    for _ in 0..8 {
        wire.run("select pg_sleep(0.1)").sync();
    }
    wire.send().await;
    for _ in 0..8 {
        wire.answer().await;
    }
    wire.run(WRITE).flush().send().await;
    let started = Instant::now();
    let answer = loop {
        wire.run("select 1").flush().send().await;
        let answer = wire.until('C').await;
        if tags(&answer).contains('E') || answer.is_empty() {
            break answer;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(error(&answer).field('C'), "25P04");
    proxy.stop().await;
}
