//! A client that is gone in the middle of a COPY or of a message, and what the other finds.

use std::time::Duration;

use cloison::observe::Event;

use super::{A, B, COUNT, Pair, Wire, done, error, pooled};

/// A table without a tenant, as rows of others' tables cannot be copied in.
const PLAIN: &str = "create table plain (x text); grant select, insert on plain to it_app";

/// Sends what leads to COPY data, and the beginning of the data.
type Begin = fn(&mut Wire) -> &mut Wire;

/// How a COPY may have begun. The server has asked for data by then.
const COPIES: &[(&str, Begin, &[u8])] = &[
    ("by Query", |w| w.query("copy plain from stdin"), LEFT),
    ("half of a message", |w| w.query("copy plain from stdin"), b"d\0\0\x10\0left\n"),
    (
        "by Query in a block",
        |w| w.query("begin; insert into plain values ('left'); copy plain from stdin"),
        LEFT,
    ),
    (
        "in the middle of a text",
        |w| w.query("copy plain from stdin; insert into plain values ('left')"),
        LEFT,
    ),
    ("by Execute", |w| w.run("copy plain from stdin").flush(), b"d\0\0\0\x09left\nc\0\0\0\x04"),
    ("by Execute, with a Sync", |w| w.run("copy plain from stdin").sync(), LEFT),
    ("nothing of it", |w| w.query("copy plain from stdin"), b""),
];

const LEFT: &[u8] = b"d\0\0\0\x09left\n";

#[tokio::test]
async fn a_client_that_dies_in_copy_leaves_nothing_to_the_next() {
    let mut pair = Pair::with(PLAIN).await;
    let superuser = pair.proxy.database.superuser().await;
    for (what, begin, data) in COPIES {
        let mut dying = Wire::tenant(&pair.proxy, A).await;
        begin(&mut dying);
        dying.send().await;
        dying.until('G').await;
        dying.raw(data).send().await;
        drop(dying);
        // What it would have sent is not waited for.
        let next = tokio::time::timeout(Duration::from_secs(4), pair.b.value(COUNT)).await;
        assert_eq!(next.expect("the connection was kept for the dead"), "5", "{what}");
        for _ in 0..2 {
            assert_eq!(pair.b.value(COUNT).await, "5", "{what}");
            assert_eq!(pair.b.value("select 'b'").await, "b", "{what}");
            assert_eq!(pair.a.value(COUNT).await, "3", "{what}");
        }
        let left = superuser.query_one("select count(*) from plain", &[]).await.unwrap();
        assert_eq!(left.get::<_, i64>(0), 0, "{what}");
    }
    // Whoever stays to the end of it has copied.
    pair.a.query("copy plain from stdin").send().await;
    pair.a.until('G').await;
    pair.a.copy_data(b"done\n").copy_done().send().await;
    pair.a.answer().await;
    assert_eq!(pair.b.value("select x from plain").await, "done");
    pair.stop().await;
}

/// The server would take it for a failure of the COPY, and the answers would be one too few.
#[tokio::test]
async fn what_does_not_belong_into_a_copy_ends_its_session_alone() {
    let mut pair = Pair::with(PLAIN).await;
    for tag in ['Q', 'P', 'B', 'E', 'D', 'C', 'F'] {
        let mut odd = Wire::tenant(&pair.proxy, A).await;
        odd.query("copy plain from stdin").send().await;
        odd.until('G').await;
        odd.copy_data(b"left\n").message(tag, b"select 'odd'\0").query("select 'odd'").send().await;
        let answer = odd.answer().await;
        assert_eq!((error(&answer).field('C'), error(&answer).field('V')), ("08P01", "FATAL"));
        for _ in 0..2 {
            assert_eq!(pair.b.value("select 'b'").await, "b", "{tag}");
            assert_eq!(pair.b.value("select count(*) from plain").await, "0", "{tag}");
            assert_eq!(pair.a.value(COUNT).await, "3", "{tag}");
        }
    }
    pair.stop().await;
}

/// Nothing is due for a Flush, and a reset behind half of one would be its other half.
#[tokio::test]
async fn half_of_a_flush_takes_its_connection_along() {
    let mut proxy = pooled().pinning().run().await;
    let mut a = Wire::tenant(&proxy, A).await;
    done(&mut a, "create temp table t (i int)").await;
    a.raw(b"H\0\0\x10\0half").send().await;
    drop(a);
    let told = proxy.observed(|event| match event {
        Event::ServerDiscarded { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(told.await, "unread_bytes");
    let mut b = Wire::tenant(&proxy, B).await;
    assert_eq!(b.value(COUNT).await, "5");
    proxy.stop().await;
}
