//! With `session_statements = "pin"` a client that needs a session gets one to itself.

use super::{A, B, COUNT, PID, Pair, Wire, done, open, refused, tags};

const PINS: &[(&str, &str, &str)] = &[
    ("create temp table t as select 1 as i", "select i from t", "1"),
    ("prepare s as select 'mine'", "execute s", "mine"),
    ("declare c cursor with hold for select body from note order by 1", "fetch c", "a1"),
    ("select pg_advisory_lock(7)", "select pg_advisory_unlock(7)", "t"),
    ("listen news", "select pg_listening_channels()", "news"),
];

#[tokio::test]
async fn a_pinned_client_keeps_what_it_made_and_the_others_work_on() {
    let proxy = proxy(2).await;
    for (make, look, expected) in PINS {
        for by_query in [true, false] {
            let mut a = Wire::tenant(&proxy, A).await;
            if by_query {
                done(&mut a, make).await;
            } else {
                let answer = super::extended(&mut a, make).await;
                assert!(!tags(&answer).contains('E'), "{make}");
            }
            let pid = a.value(PID).await;
            let mut b = Wire::tenant(&proxy, B).await;
            for _ in 0..3 {
                assert_ne!(b.value(PID).await, pid, "{make}");
                assert_eq!(b.value(COUNT).await, "5");
                assert_eq!(a.value(PID).await, pid, "{make}");
                assert_eq!(a.value(COUNT).await, "3");
            }
            assert_eq!(a.value(look).await, *expected, "{make}");
            a.message('X', b"").send().await;
            assert!(a.receive().await.is_none());
            drop(a);
            // Whoever gets that connection finds nothing.
            done(&mut b, "begin").await;
            let mut other = Wire::tenant(&proxy, B).await;
            for wire in [&mut b, &mut other] {
                let answer = wire.ask(look).await;
                assert!(
                    tags(&answer).contains('E')
                        || !super::rows(&answer).contains(&(*expected).to_owned()),
                    "{make}"
                );
            }
            b.ask("rollback").await;
            assert_eq!(b.value(COUNT).await, "5");
            assert_eq!(other.value(COUNT).await, "5");
        }
    }
    proxy.stop().await;
}

async fn proxy(size: usize) -> crate::support::proxy::Proxy {
    open()
        .pinning()
        .edit(move |config| {
            config.pools.get_mut(&cloison::types::Access::Tenant).unwrap().size = size;
        })
        .run()
        .await
}

#[tokio::test]
async fn a_pinned_client_hears_its_notifications_at_rest() {
    let proxy = proxy(2).await;
    let mut a = Wire::tenant(&proxy, A).await;
    let mut b = Wire::tenant(&proxy, B).await;
    done(&mut a, "listen news").await;
    b.value(COUNT).await;
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute("notify news, 'now'").await.unwrap();
    let heard = a.receive().await.unwrap();
    assert!(heard.tag == 'A' && heard.body.ends_with(b"news\0now\0"));
    assert_eq!(tags(&b.ask("select 1").await), "TDCZ");
    proxy.stop().await;
}

#[tokio::test]
async fn the_context_of_a_pinned_client_holds_in_every_transaction() {
    let mut pair = Pair::on(proxy(2).await).await;
    done(&mut pair.a, "create temp table t (i int)").await;
    for text in [
        COUNT,
        "begin; select count(*) from note; commit",
        "reset all; select count(*) from note",
        "commit; select count(*) from note",
    ] {
        assert_eq!(pair.a.value(text).await, "3", "{text}");
        assert_eq!(pair.b.value(text).await, "5", "{text}");
    }
    // It says so when it has nothing to keep any more; that frees nothing before its end.
    done(&mut pair.a, "discard all").await;
    assert_eq!(pair.a.value(COUNT).await, "3");
    assert_eq!(refused(&mut pair.a, "table t").await, "42P01");
    assert_eq!(pair.b.value(COUNT).await, "5");
    pair.stop().await;
}
