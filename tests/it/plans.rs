//! Plans and estimates, which are made from all tenants' rows: no tenant is shown them.

use crate::support::postgres::A;
use crate::support::proxy::{self, Proxy, token};
use crate::support::wire::{Message, Wire, error, tags};
use serde_json::json;

/// What makes Postgres speak of plans, sorts and transactions, without any statement that the
/// filter refuses.
const LOUD: &[&str] = &[
    "select set_config('client_min_messages', 'debug5', false)",
    "select set_config('debug_print_plan', 'on', false)",
    "select set_config('debug_print_rewritten', 'on', false)",
    "select set_config('debug_print_parse', 'on', false)",
    "select set_config('trace_sort', 'on', false)",
];

/// One that has a plan of many times what is looked at of a message.
fn long_query() -> String {
    let body: Vec<String> = (0..400).map(|n| format!("body = 'guess {n}'")).collect();
    format!("select count(*) from (select * from note where {} order by body) x", body.join(" or "))
}

fn levels(answer: &[Message]) -> Vec<&str> {
    answer.iter().filter(|message| message.tag == 'N').map(|notice| notice.field('V')).collect()
}

async fn open_logged(proxy: &Proxy, parameters: &[(&str, &str)]) -> (Wire, Vec<Message>) {
    let token = token("tenant", json!({"tenant_id": A}));
    Wire::login(proxy, "app", &token, parameters).await
}

#[tokio::test]
async fn no_message_tells_a_tenant_of_a_plan() {
    // Whatever the filter reads: it rests on the level of a message alone.
    for proxy in [proxy::new().pool_size(1), proxy::new().pool_size(1).unfiltered()] {
        let proxy = proxy.run().await;
        let mut wire = Wire::tenant(&proxy, A).await;
        // Settings last for a transaction at least.
        wire.ask("begin").await;
        for sql in LOUD {
            let answer = wire.ask(sql).await;
            assert!(!tags(&answer).contains(['E', 'N']), "{sql}: {}", tags(&answer));
        }
        let long = long_query();
        for sql in ["select * from note order by body", &long, "show client_min_messages"] {
            let answer = wire.ask(sql).await;
            assert_eq!(levels(&answer), [""; 0], "{sql}");
            assert!(tags(&answer).ends_with("CZ"), "{}", tags(&answer));
            wire.parse("", sql).bind("", "", &[]).execute("", 0).sync().send().await;
            let answer = wire.answer().await;
            assert_eq!(levels(&answer), [""; 0], "{sql}");
            assert!(tags(&answer).starts_with("12D"), "{}", tags(&answer));
        }
        wire.ask("commit").await;
        // All of it in one text.
        let answer = wire
            .ask(
                "begin; select set_config('debug_print_plan', 'on', true); \
                 select * from note where body = 'x'; commit",
            )
            .await;
        assert_eq!((levels(&answer), tags(&answer).as_str()), (vec![], "CTDCTCCZ"));
        proxy.stop().await;
    }
}

#[tokio::test]
async fn what_is_said_at_login_tells_of_no_plan_either() {
    let proxy = proxy::new().pool_size(1).run().await;
    let asked = [("client_min_messages", "debug5"), ("debug_print_plan", "on")];
    let (mut wire, answer) = open_logged(&proxy, &asked).await;
    assert_eq!(levels(&answer), [""; 0]);
    if answer.last().is_some_and(|last| last.tag == 'Z') {
        assert_eq!(levels(&wire.ask("select * from note").await), [""; 0]);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn what_an_application_says_arrives() {
    let proxy = proxy::new().pool_size(1).unfiltered().allowing(&["languages"]).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.ask("begin; select set_config('client_min_messages', 'debug5', true)").await;
    let answer = wire
        .ask(
            "do $$ begin raise debug 'd'; raise log 'l'; raise info 'i'; raise notice 'n'; \
             raise warning 'w'; end $$",
        )
        .await;
    assert_eq!(levels(&answer), ["NOTICE", "WARNING"]);
    assert_eq!(levels(&wire.ask("do $$ begin raise log 'l'; end $$").await), [""; 0]);
    proxy.stop().await;
}

#[tokio::test]
async fn explain_is_refused_in_every_form() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for sql in [
        "explain select 1",
        "explain (costs off) select * from note",
        "explain (costs off, verbose) select * from note",
        "explain (generic_plan, costs off) select * from note where id = $1",
        "explain (settings, costs off, format json) delete from note",
        "explain (costs off) declare c cursor for select 1",
        "/* */ EXPLAIN (COSTS OFF) select 1",
    ] {
        for answer in [wire.ask(sql).await, {
            wire.run(sql).sync().send().await;
            wire.answer().await
        }] {
            let refusal = error(&answer);
            assert_eq!((refusal.field('C'), refusal.field('D')), ("42501", "cloison: C405"));
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn who_may_see_plans_is_told_of_them() {
    let lines = "allowed_statements = [\"explain\"]";
    let proxy = proxy::new().pool_size(1).set(lines).run().await;
    let (mut tenant, _) = open_logged(&proxy, &[]).await;
    tenant.ask("begin").await;
    for sql in LOUD {
        tenant.ask(sql).await;
    }
    assert!(levels(&tenant.ask("select * from note").await).contains(&"LOG"));
    assert!(!tags(&tenant.ask("explain (costs off) select * from note").await).contains('E'));
    drop(tenant);
    let token = token("superadmin", json!({}));
    let (mut superadmin, _) = Wire::login(&proxy, "cloison_superadmin", &token, &[]).await;
    for sql in LOUD {
        superadmin.ask(sql).await;
    }
    assert!(levels(&superadmin.ask("select 1").await).contains(&"LOG"));
    proxy.stop().await;
}
