//! Identity in band with session pooling: a client keeps its server connection until it is another
//! tenant's, which gets another one.

use serde_json::json;

use crate::support::postgres::A;
use crate::support::proxy::{self, Builder, Proxy, service_token, tenant_token, token};
use crate::support::wire::{Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";
const CHOOSE: &str = "select set_tenant($1)";
const PID: &str = "select pg_backend_pid()";

/// One server connection, so that whatever is left behind is met.
fn narrow() -> Builder {
    proxy::new().by_session().pool_size(1)
}

async fn service(proxy: &Proxy) -> Wire {
    let (wire, answer) = Wire::login(proxy, "app", &service_token(json!("*")), &[]).await;
    assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
    wire
}

/// The value that a text finds, or the SQLSTATE and code of its error.
async fn seen(wire: &mut Wire, sql: &str) -> String {
    told(&wire.ask(sql).await)
}

fn told(answer: &[crate::support::wire::Message]) -> String {
    match answer.iter().find(|message| message.tag == 'E') {
        Some(error) => format!("{} {}", error.field('C'), error.field('D')),
        None => rows(answer).join(","),
    }
}

async fn choose(wire: &mut Wire, tenant: &str) {
    wire.parse("", CHOOSE).bind("", "", &[tenant]).execute("", 0).sync().send().await;
    assert_eq!(told(&wire.answer().await), "");
}

/// Leaves on the server connection whatever one can.
const LEAVE: [&str; 7] = [
    "create temp table secret as select body from note",
    "declare c cursor with hold for select body from note",
    "listen x",
    "select pg_advisory_lock(7)",
    "prepare p as select body from note",
    "select set_config('app.secret', 'x', false)",
    "select nextval('counter')",
];

/// Looks for it: what is found if nothing was left.
const LOOK: [(&str, &str); 7] = [
    ("select * from secret", "42P01 "),
    ("fetch all from c", "34000 "),
    ("select count(*) from pg_listening_channels()", "0"),
    ("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "0"),
    ("execute p", "26000 "),
    ("select coalesce(nullif(current_setting('app.secret', true), ''), 'none')", "none"),
    ("select currval('counter')", "55000 "),
];

#[tokio::test]
async fn nothing_of_a_tenant_is_left_for_the_next_one() {
    let proxy = narrow().bare().run().await;
    let owner = proxy.database.superuser().await;
    owner.batch_execute("create sequence counter; grant all on counter to public").await.unwrap();
    let mut wire = service(&proxy).await;
    for round in ["by the extended protocol", "by simple queries", "by its end", "by a reset"] {
        choose(&mut wire, "a").await;
        for sql in LEAVE {
            let answer = wire.ask(sql).await;
            assert_eq!(answer.last().unwrap().tag, 'Z');
            assert!(!tags(&answer).contains('E'), "{sql}: {}", error(&answer).field('M'));
        }
        // It is the tenant's from one transaction to the next.
        assert_eq!(seen(&mut wire, "select count(*) from secret").await, "3");
        match round {
            "by simple queries" => {
                // Nothing of the same text runs where it was left.
                let text = format!("select set_tenant('b'); {}", LOOK[0].0);
                assert_eq!(seen(&mut wire, &text).await, "25001 cloison: C409");
                assert_eq!(seen(&mut wire, "select set_tenant('b')").await, "");
            }
            "by its end" => {
                wire.ask("reset cloison.jwt").await;
                assert_eq!(seen(&mut wire, LOOK[0].0).await, LOOK[0].1);
                choose(&mut wire, "b").await;
            }
            "by a reset" => {
                wire.ask("reset all").await;
                choose(&mut wire, "b").await;
            }
            _ => choose(&mut wire, "b").await,
        }
        assert_eq!(seen(&mut wire, COUNT).await, "5");
        for (sql, expected) in LOOK {
            assert_eq!(seen(&mut wire, sql).await, expected, "{round}: {sql}");
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn whatever_one_thing_is_left_has_the_client_move() {
    let proxy = narrow().bare().run().await;
    let owner = proxy.database.superuser().await;
    owner.batch_execute("create sequence counter; grant all on counter to public").await.unwrap();
    let mut wire = service(&proxy).await;
    for (leave, (look, expected)) in LEAVE.into_iter().zip(LOOK) {
        choose(&mut wire, "a").await;
        assert!(!tags(&wire.ask(leave).await).contains('E'), "{leave}");
        choose(&mut wire, "b").await;
        assert_eq!(seen(&mut wire, look).await, expected, "{leave}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn tenants_that_leave_nothing_share_a_connection() {
    let proxy = narrow().run().await;
    let mut wire = service(&proxy).await;
    let mut pids = Vec::new();
    for (tenant, count) in [("a", "3"), ("b", "5"), ("a", "3")] {
        // As pools have it: the transaction is open when the tenant is chosen.
        wire.ask("begin").await;
        choose(&mut wire, tenant).await;
        assert_eq!(seen(&mut wire, COUNT).await, count);
        pids.push(seen(&mut wire, PID).await);
        wire.ask("commit").await;
        assert_eq!(seen(&mut wire, COUNT).await, "42501 cloison: C206");
    }
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    proxy.stop().await;
}

#[tokio::test]
async fn a_choice_for_a_transaction_takes_its_leavings_along() {
    let proxy = narrow().bare().run().await;
    let mut wire = service(&proxy).await;
    for (tenant, count, other) in [("a", "3", "b"), ("b", "5", "a"), ("a", "3", "b")] {
        wire.ask("begin").await;
        choose(&mut wire, tenant).await;
        assert_eq!(seen(&mut wire, "create temp table secret as select 1").await, "");
        assert_eq!(seen(&mut wire, COUNT).await, count);
        choose(&mut wire, tenant).await;
        wire.parse("", CHOOSE).bind("", "", &[other]).execute("", 0).sync().send().await;
        assert_eq!(told(&wire.answer().await), "25001 cloison: C409");
        wire.ask("rollback").await;
        wire.ask("begin").await;
        choose(&mut wire, tenant).await;
        assert_eq!(seen(&mut wire, "create temp table secret as select 1").await, "");
        wire.ask("commit").await;
        assert_eq!(seen(&mut wire, COUNT).await, "42501 cloison: C206");
        assert_eq!(seen(&mut wire, "select * from secret").await, "42P01 ");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn what_follows_on_a_move_waits_for_a_sync() {
    let proxy = narrow().bare().run().await;
    let mut wire = service(&proxy).await;
    choose(&mut wire, "a").await;
    assert_eq!(seen(&mut wire, "create temp table secret as select body from note").await, "");
    let look = "select count(*) from secret";
    wire.parse("", CHOOSE).bind("", "", &["b"]).execute("", 0).run(look).sync().send().await;
    let answer = wire.answer().await;
    assert_eq!(error(&answer).field('D'), "cloison: C409");
    assert_eq!(rows(&answer), [""]);
    // The move is undone with its transaction, but what was left is gone.
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    assert_eq!(seen(&mut wire, look).await, "42P01 ");
    // A query in place of the Sync.
    assert_eq!(seen(&mut wire, "create temp table secret as select body from note").await, "");
    wire.parse("", CHOOSE).bind("", "", &["b"]).execute("", 0).query(look).send().await;
    assert_eq!(error(&wire.answer().await).field('D'), "cloison: C409");
    assert_eq!(seen(&mut wire, look).await, "42P01 ");
    // A transaction that begins where another tenant's things are stays there.
    choose(&mut wire, "a").await;
    assert_eq!(seen(&mut wire, "create temp table secret as select body from note").await, "");
    wire.ask("begin").await;
    assert_eq!(seen(&mut wire, "select set_tenant('b')").await, "25001 cloison: C409");
    wire.ask("rollback").await;
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    // Who has become nobody can still end it.
    wire.ask("begin").await;
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    wire.ask("reset cloison.jwt").await;
    assert_eq!(seen(&mut wire, "select set_tenant('b')").await, "25001 cloison: C409");
    assert_eq!(tags(&wire.ask("rollback").await), "CZ");
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn what_is_the_clients_moves_along() {
    let proxy = proxy::new().by_session().pool_size(2).run().await;
    let parameters = [("application_name", "inband"), ("options", "-c DateStyle=German")];
    let token = service_token(json!("*"));
    let (mut wire, _) = Wire::login(&proxy, "app", &token, &parameters).await;
    wire.parse("count", COUNT).parse("choose", CHOOSE).sync().send().await;
    assert_eq!(tags(&wire.answer().await), "11Z");
    wire.ask("set extra_float_digits = 3").await;
    let mut pids = Vec::new();
    for (tenant, count) in [("a", "3"), ("b", "5"), ("a", "3")] {
        wire.bind("", "choose", &[tenant]).execute("", 0).sync().send().await;
        assert_eq!(told(&wire.answer().await), "");
        for _ in 0..2 {
            wire.bind("", "count", &[]).execute("", 0).sync().send().await;
            assert_eq!(told(&wire.answer().await), count);
            assert_eq!(seen(&mut wire, "show extra_float_digits").await, "3");
            assert_eq!(seen(&mut wire, "show application_name").await, "inband");
            assert_eq!(seen(&mut wire, "select '2026-02-01'::date").await, "01.02.2026");
            pids.push(seen(&mut wire, PID).await);
        }
    }
    assert!(pids.chunks(2).all(|pair| pair[0] == pair[1]), "{pids:?}");
    // Who has chosen at startup is the same tenant's after a reset, and has what it came with.
    let parameters = [("application_name", "inband"), ("options", "-c cloison.tenant=a")];
    let (mut wire, _) = Wire::login(&proxy, "app", &token, &parameters).await;
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    wire.ask("set extra_float_digits = 3").await;
    wire.ask("discard all").await;
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    assert_eq!(seen(&mut wire, "show extra_float_digits").await, "1");
    assert_eq!(seen(&mut wire, "show application_name").await, "inband");
    proxy.stop().await;
}

#[tokio::test]
async fn a_plan_that_does_not_fit_any_more_is_told_where_a_connection_is_kept() {
    let proxy = narrow().run().await;
    let owner = proxy.database.superuser().await;
    let mut wire = service(&proxy).await;
    choose(&mut wire, "a").await;
    wire.parse("all", "select * from note").sync().send().await;
    assert_eq!(tags(&wire.answer().await), "1Z");
    let run = async |wire: &mut Wire| {
        wire.bind("", "all", &[]).message('D', b"P\0").execute("", 0).sync().send().await;
        wire.answer().await
    };
    assert_eq!(tags(&run(&mut wire).await), "2TDDDCZ");
    owner.batch_execute("alter table note add column extra int").await.unwrap();
    assert_eq!(error(&run(&mut wire).await).field('C'), "0A000");
    assert_eq!(tags(&run(&mut wire).await), "2TDDDCZ");
    proxy.stop().await;
}

#[tokio::test]
async fn a_session_with_a_tenant_of_its_own_takes_no_other() {
    let proxy = narrow().unfiltered().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    let set = format!("set cloison.jwt = '{}'", tenant_token("b"));
    for sql in [&set, &format!("select set_config('cloison.jwt', '{}', true)", tenant_token("b"))] {
        assert_eq!(seen(&mut wire, sql).await, "0A000 cloison: C410");
        wire.run(sql).run(COUNT).sync().send().await;
        assert_eq!(told(&wire.answer().await), "0A000 cloison: C410");
        assert_eq!(seen(&mut wire, COUNT).await, "3");
    }
    let hidden = set.replace("'", "$$");
    assert_eq!(seen(&mut wire, &hidden).await, "42501 cloison: C208");
    let long = format!("select '{}'", "x".repeat(1 << 20));
    assert_eq!(seen(&mut wire, &long).await.len(), 1 << 20);
    let log = crate::support::postgres::server_log();
    assert!(!log.contains(&tenant_token("b")[..]));
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenants_own_session_takes_a_token_where_it_may() {
    let proxy = narrow().set("session_identity = \"in_band\"").run().await;
    let soon = token("tenant", json!({"tenant_id": A, "exp": proxy::now() + 3}));
    let (mut wire, _) = Wire::login(&proxy, "app", &soon, &[]).await;
    let pid = seen(&mut wire, PID).await;
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    wire.ask(&format!("set cloison.jwt = '{}'", tenant_token("b"))).await;
    assert_eq!(seen(&mut wire, COUNT).await, "5");
    // A newer token of its own keeps it here.
    wire.ask(&format!("set cloison.jwt = '{}'", tenant_token(A))).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(seen(&mut wire, COUNT).await, "3");
    assert_eq!(seen(&mut wire, PID).await, pid);
    proxy.stop().await;
}
