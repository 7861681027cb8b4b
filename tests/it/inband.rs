//! Identity in band: tokens in `cloison.jwt`, choices by `set_tenant`, by every road of the
//! protocol.

use std::time::Duration;

use serde_json::json;

use cloison::observe::Event;

use crate::support::postgres::{A, B, Database, server_log};
use crate::support::proxy::{self, Builder, Proxy, now, service_token, tenant_token, token};
use crate::support::wire::{Message, Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";
const CHOOSE: &str = "select set_tenant($1)";
const PRESENT: &str = "select set_config('cloison.jwt', $1, false)";
const PRESENT_LOCALLY: &str = "select set_config('cloison.jwt', $1, true)";

/// One server connection, so that whatever is left behind is met.
fn narrow() -> Builder {
    proxy::new().pool_size(1)
}

/// The same by transaction pooling, where a server connection goes from one tenant to the next in
/// the middle of anything; and a tenant's own session takes a token.
fn mixing() -> Builder {
    narrow().by_transaction()
}

async fn nobody(proxy: &Proxy) -> Wire {
    service(proxy, json!([])).await
}

async fn service(proxy: &Proxy, tenants: serde_json::Value) -> Wire {
    let (wire, answer) = Wire::login(proxy, "app", &service_token(tenants), &[]).await;
    assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
    wire
}

fn set(tenant: &str) -> String {
    format!("SET cloison.jwt = '{}'", tenant_token(tenant))
}

fn set_local(tenant: &str) -> String {
    format!("SET LOCAL cloison.jwt TO '{}'", tenant_token(tenant))
}

/// What the answer is to one statement: its rows, or its error's SQLSTATE and code.
fn seen(answer: &[Message]) -> String {
    match answer.iter().find(|message| message.tag == 'E') {
        Some(error) => {
            let code = error.field('D').strip_prefix("cloison: ").unwrap_or("-").to_owned();
            format!("{} {}", error.field('C'), &code[..code.len().min(4)])
        }
        None => rows(answer).join(","),
    }
}

/// Sends one after the other and compares.
#[track_caller]
fn play<'a>(wire: &'a mut Wire, script: &'a [(&'a str, &'a str)]) -> impl Future<Output = ()> + 'a {
    let at = std::panic::Location::caller();
    async move {
        for (sql, expected) in script {
            let answer = wire.ask(sql).await;
            let shown = sql.get(..40).unwrap_or(sql);
            let fault = answer.iter().find(|m| m.tag == 'E').map(|m| m.field('M').to_owned());
            assert_eq!(seen(&answer), *expected, "{shown} at {at}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_token_in_band_makes_a_tenant_of_the_session() {
    let proxy = narrow().run().await;
    let mut wire = nobody(&proxy).await;
    for (a, b) in [
        (set(A), set(B)),
        (set(A).replace("SET", "set session"), set(B).replace(" = ", " to ")),
        (
            PRESENT.replace("$1", &format!("'{}'", tenant_token(A))),
            PRESENT.replace("$1", &format!("'{}'", tenant_token(B))),
        ),
    ] {
        assert!(tags(&wire.ask(&a).await).ends_with("CZ"));
        play(&mut wire, &[(COUNT, "3")]).await;
        wire.ask(&b).await;
        play(&mut wire, &[(COUNT, "5"), ("reset cloison.jwt", ""), (COUNT, "42501 C206")]).await;
    }
    for away in ["set cloison.jwt to default", "reset all", "discard all", "DISCARD ALL;"] {
        wire.ask(&set(A)).await;
        play(&mut wire, &[(COUNT, "3"), (away, ""), (COUNT, "42501 C206")]).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn the_answer_is_what_postgres_says_to_a_setting() {
    let proxy = narrow().run().await;
    let mut wire = nobody(&proxy).await;
    let answer = wire.ask(&set(A)).await;
    assert_eq!(tags(&answer), "CZ");
    assert_eq!(answer[0].body, b"SET\0");
    let answer = wire.ask(&PRESENT.replace("$1", &format!("'{}'", tenant_token(A)))).await;
    assert_eq!((tags(&answer).as_str(), seen(&answer).as_str()), ("TDCZ", ""));
    assert!(answer[0].body.windows(10).any(|name| name == b"set_config"));
    let answer = service(&proxy, json!("*"));
    drop(wire);
    let mut wire = answer.await;
    let answer = wire.ask("select set_tenant('a')").await;
    assert_eq!((tags(&answer).as_str(), seen(&answer).as_str()), ("TDCZ", ""));
    assert!(answer[0].body.windows(10).any(|name| name == b"set_tenant"));
    play(&mut wire, &[("show cloison.jwt", "42704 -")]).await;
    play(&mut wire, &[("select current_setting('cloison.jwt', true)", "")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_is_chosen_by_every_name_and_road() {
    let proxy = narrow().run().await;
    let mut wire = service(&proxy, json!([A, "b"])).await;
    for (a, b) in [("a", "b"), (A, B)] {
        for form in [
            "select set_tenant('?')",
            "SELECT cloison.set_tenant('?'::uuid);",
            "select public.set_tenant('?') as chosen",
            "SELECT * FROM set_tenant('?')",
        ] {
            let (a, b) = (form.replace('?', a), form.replace('?', b));
            play(&mut wire, &[(&a, ""), (COUNT, "3"), (&b, ""), (COUNT, "5")]).await;
        }
        for (tenant, count) in [(a, "3"), (b, "5")] {
            wire.parse("", CHOOSE).bind("", "", &[tenant]).execute("", 0).sync().send().await;
            assert_eq!(tags(&wire.answer().await), "12DCZ");
            play(&mut wire, &[(COUNT, count)]).await;
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn what_is_not_allowed_looks_like_what_is_not_there_and_is_recorded() {
    let proxy = narrow().run().await;
    let mut wire = service(&proxy, json!(["a"])).await;
    let mut told = Vec::new();
    for name in ["b", B, "nobody", "d", "00000000-0000-4000-8000-000000000000", "a b", ""] {
        play(&mut wire, &[("select set_tenant('a')", ""), (COUNT, "3")]).await;
        let answer = wire.ask(&format!("select set_tenant('{name}')")).await;
        assert_eq!(seen(&answer), "42501 C207", "{name}");
        told.push(error(&answer).field('M').to_owned());
        // Not who it was: what comes next is meant for somebody else.
        play(&mut wire, &[(COUNT, "42501 C206"), ("select 1", "1")]).await;
        play(&mut wire, &[("reset cloison.jwt", ""), (COUNT, "42501 C206")]).await;
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    let log = "select count(*) from cloison.audit_log where action = 'tenant.refused' \
               and actor = 'tester' and detail ->> 'asked_for' = 'b'";
    let recorded: i64 = proxy.database.superuser().await.query_one(log, &[]).await.unwrap().get(0);
    assert_eq!(recorded, 1);
    proxy.stop().await;
}

/// The holder of a token for every tenant may know that there is none of a name; the holder of a
/// list may not know what others there are.
#[tokio::test]
async fn an_unknown_name_is_told_to_whom_may_choose_every_tenant() {
    let proxy = narrow().run().await;
    for (tenants, message) in [
        (json!("*"), "there is no tenant of this name"),
        (json!(["a"]), "the token does not allow this tenant"),
    ] {
        let mut wire = service(&proxy, tenants).await;
        for name in ["nobody", "00000000-0000-4000-8000-000000000000", "a b"] {
            let answer = wire.ask(&format!("select set_tenant('{name}')")).await;
            assert_eq!(seen(&answer), "42501 C207", "{name}");
            assert_eq!(error(&answer).field('M'), message, "{name}");
        }
        let answer = wire.ask(COUNT).await;
        assert_eq!(seen(&answer), "42501 C206");
        assert!(error(&answer).field('H').contains("select set_tenant("));
        play(&mut wire, &[("select set_tenant('a')", ""), (COUNT, "3")]).await;
    }
    proxy.stop().await;
}

/// A pool hands one connection from request to request: a choice that is refused to one of them
/// concerns no other.
#[tokio::test]
async fn a_refused_choice_leaves_the_session_to_the_next_one() {
    for builder in [narrow(), mixing()] {
        let mut proxy = builder.run().await;
        let superuser = proxy.database.superuser().await;
        superuser
            .batch_execute("update cloison.tenants set status = 'suspended' where slug = 'd'")
            .await
            .unwrap();
        let mut wire = service(&proxy, json!(["a", "b", "d"])).await;
        for refused in ["nobody", "d", "", "a b"] {
            let refused = format!("select set_tenant('{refused}')");
            for _ in 0..3 {
                let answer = wire.ask(&refused).await;
                assert_eq!(answer[0].tag, 'E', "{refused}");
                play(&mut wire, &[(COUNT, "42501 C206")]).await;
            }
            play(&mut wire, &[("select set_tenant('a')", ""), (COUNT, "3")]).await;
            // By a parameter, and in a transaction, which fails and is rolled back.
            wire.parse("", CHOOSE).bind("", "", &["nobody"]).execute("", 0).sync().send().await;
            assert_eq!(seen(&wire.answer().await), "42501 C207");
            wire.parse("", CHOOSE).bind("", "", &["b"]).execute("", 0).sync().send().await;
            assert_eq!(tags(&wire.answer().await), "12DCZ");
            play(&mut wire, &[(COUNT, "5"), ("begin", "")]).await;
            assert_eq!(wire.ask(&refused).await[0].tag, 'E');
            play(&mut wire, &[("select set_tenant('a')", "25P02 -"), ("rollback", "")]).await;
            play(&mut wire, &[("begin", ""), ("select set_tenant('a')", ""), (COUNT, "3")]).await;
            play(&mut wire, &[("commit", "")]).await;
        }
        let told = proxy
            .observed(|event| match event {
                Event::IdentityRefused { code, asked_for, .. } => Some((*code, asked_for.clone())),
                _ => None,
            })
            .await;
        assert_eq!(told, ("C207", Some("nobody".to_owned())));
        drop(wire);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_choice_after_a_savepoint_is_made_from_the_logins_token() {
    let proxy = mixing().run().await;
    let mut wire = service(&proxy, json!(["a", "b"])).await;
    play(
        &mut wire,
        &[
            ("begin", ""),
            ("savepoint s", ""),
            ("select set_tenant('a')", ""),
            ("rollback to s", ""),
            (COUNT, "42501 C206"),
            ("rollback to s", ""),
            ("select set_tenant('b')", ""),
            (COUNT, "5"),
            ("commit", ""),
        ],
    )
    .await;
    proxy.stop().await;
}

/// Falling back on the login's rights after a bad token would serve a request that proved nothing.
#[tokio::test]
async fn a_refused_token_is_not_replaced_by_the_logins() {
    let proxy = mixing().run().await;
    let mut wire = service(&proxy, json!("*")).await;
    play(
        &mut wire,
        &[
            ("set cloison.jwt = 'bad'", "28P01 C102"),
            ("select set_tenant('a')", "42501 C206"),
            ("reset cloison.jwt", ""),
            ("select set_tenant('a')", ""),
            (COUNT, "3"),
        ],
    )
    .await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenants_own_token_chooses_its_own_tenant_alone() {
    let proxy = mixing().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    play(
        &mut wire,
        &[
            ("select set_tenant('a')", ""),
            (COUNT, "3"),
            ("select set_tenant('b')", "42501 C207"),
            // It can be nobody else, so it stays.
            (COUNT, "3"),
            ("begin", ""),
            ("select set_tenant('b')", "42501 C207"),
            (COUNT, "25P02 -"),
            ("rollback", ""),
            (COUNT, "3"),
        ],
    )
    .await;
    proxy.stop().await;
}

#[tokio::test]
async fn it_ends_with_its_transaction_as_settings_do() {
    let proxy = mixing().run().await;
    let (a, b) = (set(A), set(B));
    let (local_a, local_b) = (set_local(A), set_local(B));
    let mut wire = nobody(&proxy).await;
    let unset = (COUNT, "42501 C206");
    for end in ["commit", "rollback"] {
        let script = [("begin", ""), (&local_a, ""), (COUNT, "3"), (COUNT, "3"), (end, ""), unset];
        play(&mut wire, &script).await;
    }
    // Plain, and undone.
    play(&mut wire, &[("begin", ""), (&a, ""), (COUNT, "3"), ("rollback", ""), unset]).await;
    play(&mut wire, &[("begin", ""), (&a, ""), (COUNT, "3"), ("commit", ""), (COUNT, "3")]).await;
    play(&mut wire, &[("begin", ""), (&local_b, ""), (COUNT, "5"), ("end", ""), (COUNT, "3")])
        .await;
    play(&mut wire, &[("begin", ""), (&b, ""), (COUNT, "5"), ("abort", ""), (COUNT, "3")]).await;
    play(&mut wire, &[("begin", ""), ("reset cloison.jwt", ""), unset, ("rollback", "")]).await;
    play(&mut wire, &[(COUNT, "3"), ("begin", ""), ("reset all", ""), ("rollback", "")]).await;
    play(&mut wire, &[(COUNT, "3"), ("begin", ""), ("reset all", ""), ("commit", ""), unset]).await;
    // Outside of a transaction a local one is over at once.
    play(&mut wire, &[(&local_a, ""), unset]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn savepoints_keep_it_or_leave_nobody() {
    let proxy = mixing().run().await;
    let (a, b) = (set(A), set_local(B));
    let mut wire = nobody(&proxy).await;
    play(
        &mut wire,
        &[
            (&a, ""),
            ("begin", ""),
            (&b, ""),
            ("savepoint s", ""),
            (COUNT, "5"),
            ("rollback to s", ""),
            (COUNT, "5"),
            ("release s", ""),
            ("commit", ""),
            (COUNT, "3"),
        ],
    )
    .await;
    play(&mut wire, &[("begin", ""), ("savepoint s", ""), (&b, ""), (COUNT, "5")]).await;
    wire.ask("rollback to s").await;
    let after = seen(&wire.ask(COUNT).await);
    // Never the other one's.
    assert!(["42501 C206", "3"].contains(&after.as_str()), "{after}");
    play(&mut wire, &[("rollback", ""), (COUNT, "3")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_choice_ends_with_its_transaction_unless_the_operator_says_otherwise() {
    let (a, b) = ("select set_tenant('a')", "select set_tenant('b')");
    let unset = (COUNT, "42501 C206");
    let proxy = mixing().run().await;
    let mut wire = service(&proxy, json!("*")).await;
    play(&mut wire, &[unset, ("begin", ""), (a, ""), (COUNT, "3"), ("commit", ""), unset]).await;
    play(&mut wire, &[(a, ""), (COUNT, "3"), ("begin", ""), (b, ""), (COUNT, "5")]).await;
    play(&mut wire, &[("commit", ""), (COUNT, "3"), ("reset all", ""), unset]).await;
    proxy.stop().await;
    let proxy = mixing().set("set_tenant_lasts = \"session\"").run().await;
    let mut wire = service(&proxy, json!("*")).await;
    play(&mut wire, &[("begin", ""), (a, ""), (COUNT, "3"), ("commit", ""), (COUNT, "3")]).await;
    play(&mut wire, &[("begin", ""), (b, ""), (COUNT, "5"), ("rollback", ""), (COUNT, "3")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_transaction_stays_with_its_tenant() {
    let proxy = mixing().run().await;
    let (a, b) = (set(A), set_local(B));
    let mut wire = nobody(&proxy).await;
    play(
        &mut wire,
        &[
            (&a, ""),
            ("begin", ""),
            (COUNT, "3"),
            (&b, "25001 C409"),
            (COUNT, "25P02 -"),
            ("rollback", ""),
            (COUNT, "3"),
            // Nothing has run yet, or nothing that has anybody's rows.
            ("begin isolation level serializable", ""),
            (&b, ""),
            (COUNT, "5"),
            (&b, ""),
            (COUNT, "5"),
            ("commit", ""),
            (COUNT, "3"),
        ],
    )
    .await;
    proxy.stop().await;
}

#[tokio::test]
async fn what_was_refused_leaves_nobody() {
    let proxy = mixing().run().await;
    let good = tenant_token(A);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let expired = token("tenant", json!({"tenant_id": A, "exp": now() - 60}));
    let elsewhere = token("superadmin", json!({}));
    let suspended = tenant_token("c");
    for (token, code) in [
        ("rubbish".to_owned(), "28P01 C102"),
        (format!("{head}.{other}{}", &signature[1..]), "28P01 C101"),
        (expired, "28P01 C103"),
        (elsewhere, "28000 C107"),
        (suspended, "28000 C202"),
    ] {
        let (set, local) =
            (format!("set cloison.jwt = '{token}'"), format!("set local cloison.jwt = '{token}'"));
        let mut wire = Wire::tenant(&proxy, B).await;
        let a = self::set(A);
        play(&mut wire, &[(&a, ""), (COUNT, "3")]).await;
        let answer = wire.ask(&set).await;
        assert_eq!((seen(&answer).as_str(), error(&answer).field('V')), (code, "ERROR"));
        play(&mut wire, &[(COUNT, "42501 C206"), ("select 1", "1")]).await;
        // Whatever is rolled back.
        play(&mut wire, &[(&a, ""), (COUNT, "3"), ("begin", ""), (&set, code)]).await;
        play(&mut wire, &[("rollback", ""), (COUNT, "42501 C206")]).await;
        play(&mut wire, &[(&a, ""), ("begin", ""), (&local, code), (COUNT, "25P02 -")]).await;
        play(&mut wire, &[("rollback", ""), (COUNT, "3")]).await;
        play(&mut wire, &[("reset cloison.jwt", ""), (COUNT, "5")]).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn values_and_statements_come_by_the_extended_protocol() {
    let proxy = narrow().run().await;
    let mut wire = nobody(&proxy).await;
    let (a, b) = (tenant_token(A), tenant_token(B));
    // Parsed now, bound and executed later, again and again.
    wire.parse("present", PRESENT).parse("count", COUNT).sync().send().await;
    assert_eq!(tags(&wire.answer().await), "11Z");
    for (token, count) in [(&a, "3"), (&b, "5"), (&a, "3")] {
        wire.bind("", "present", &[token]).execute("", 0).sync().send().await;
        let answer = wire.answer().await;
        assert_eq!((tags(&answer).as_str(), seen(&answer).as_str()), ("2DCZ", ""));
        wire.bind("", "count", &[]).execute("", 0).sync().send().await;
        assert_eq!(seen(&wire.answer().await), count);
    }
    // It is described as Postgres would: one parameter, one column.
    wire.message('D', b"Spresent\0").sync().send().await;
    let answer = wire.answer().await;
    assert_eq!(tags(&answer), "tTZ");
    assert_eq!(answer[0].body, [0, 1, 0, 0, 0, 25]);
    // A name that comes to mean something else.
    wire.message('C', b"Spresent\0").parse("present", "select $1::text").sync().send().await;
    assert_eq!(tags(&wire.answer().await), "31Z");
    wire.bind("", "present", &["x"]).execute("", 0).sync().send().await;
    assert_eq!(seen(&wire.answer().await), "x");
    wire.parse("", &set(B)).bind("", "", &[]).execute("", 0).sync().send().await;
    assert_eq!(tags(&wire.answer().await), "12CZ");
    assert_eq!(wire.value(COUNT).await, "5");
    proxy.stop().await;
}

#[tokio::test]
async fn a_name_that_is_taken_keeps_its_meaning() {
    let proxy = mixing().run().await;
    let mut wire = nobody(&proxy).await;
    let (a, b) = (tenant_token(A), tenant_token(B));
    wire.parse("p", PRESENT).parse("q", "select $1::text").sync().send().await;
    assert_eq!(tags(&wire.answer().await), "11Z");
    for (name, text) in [("p", "select $1::text"), ("q", PRESENT)] {
        wire.parse(name, text).sync().send().await;
        assert_eq!(error(&wire.answer().await).field('C'), "42P05");
    }
    wire.bind("", "p", &[&a]).execute("", 0).sync().send().await;
    assert_eq!(seen(&wire.answer().await), "");
    assert_eq!(wire.value(COUNT).await, "3");
    wire.bind("", "q", &[&b]).execute("", 0).sync().send().await;
    assert_eq!(seen(&wire.answer().await), b);
    assert_eq!(wire.value(COUNT).await, "3");
    // What Postgres gets in place of it is another statement, when a client sends it itself.
    let other = "select set_config('cloison.context', $1, false)";
    wire.parse("r", other).bind("", "r", &["x"]).execute("", 0).sync().send().await;
    assert_eq!(seen(&wire.answer().await), "x");
    wire.bind("", "p", &[&b]).execute("", 0).sync().send().await;
    assert_eq!(seen(&wire.answer().await), "");
    assert_eq!(wire.value(COUNT).await, "5");
    // Not even one who has prepared it first.
    let choose =
        "select pg_catalog.pg_sleep(0) as set_tenant where ($1::pg_catalog.text) is null or true";
    let mut first = Wire::tenant(&proxy, A).await;
    first.parse("s", choose).sync().send().await;
    assert_eq!(tags(&first.answer().await), "1Z");
    let mut second = service(&proxy, json!([A, B])).await;
    second.parse("s", CHOOSE).sync().send().await;
    assert_eq!(tags(&second.answer().await), "1Z");
    for (tenant, count) in [(A, "3"), (B, "5")] {
        second.bind("", "s", &[tenant]).execute("", 0).sync().send().await;
        assert_eq!(seen(&second.answer().await), "");
        assert_eq!(second.value(COUNT).await, count);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn one_row_is_enough_of_it() {
    let proxy = mixing().run().await;
    let mut wire = service(&proxy, json!([A, B])).await;
    for (tenant, count) in [(A, "3"), (B, "5")] {
        wire.parse("", CHOOSE).bind("", "", &[tenant]).execute("", 1).run(COUNT).sync();
        wire.send().await;
        let answer = wire.answer().await;
        assert_eq!(rows(&answer), ["", count], "{}", tags(&answer));
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_pipeline_does_not_make_a_transaction_forget_its_tenant() {
    let proxy = narrow().run().await;
    let mut wire = nobody(&proxy).await;
    wire.ask(&set(A)).await;
    let b = tenant_token(B);
    wire.run("begin").run(COUNT).run("commit").run("begin").run(COUNT);
    wire.parse("", PRESENT_LOCALLY).bind("", "", &[&b]).execute("", 0).run(COUNT).sync();
    wire.send().await;
    let answer = wire.answer().await;
    assert_eq!((seen(&answer).as_str(), rows(&answer).len()), ("25001 C409", 2));
    play(&mut wire, &[("rollback", ""), (COUNT, "3")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_super_admin_takes_no_token_in_band() {
    let proxy = narrow().set("pool_mode = \"transaction\"").run().await;
    let (mut wire, _) =
        Wire::login(&proxy, "cloison_superadmin", &token("superadmin", json!({})), &[]).await;
    let a = set(A);
    play(&mut wire, &[(&a, "42501 C208"), ("select 1", "1")]).await;
    wire.run(&a).sync().send().await;
    assert_eq!(seen(&wire.answer().await), "42501 C208");
    assert!(!server_log().contains(&tenant_token(A)));
    let recorded = "select count(*) from cloison.audit_log where detail::text like '%cloison.jwt%'";
    let superuser = proxy.database.superuser().await;
    let found: i64 = superuser.query_one(recorded, &[]).await.unwrap().get(0);
    let tokens = recorded.replace("cloison.jwt", "eyJ");
    let kept: i64 = superuser.query_one(&tokens, &[]).await.unwrap().get(0);
    assert_eq!((found, kept), (2, 0));
    proxy.stop().await;
}

#[tokio::test]
async fn it_takes_effect_in_the_middle_of_a_pipeline() {
    let proxy = mixing().run().await;
    let mut wire = nobody(&proxy).await;
    let (a, b) = (tenant_token(A), tenant_token(B));
    for _ in 0..3 {
        // Across Syncs.
        for (token, _) in [(&a, "3"), (&b, "5"), (&a, "3")] {
            wire.parse("", PRESENT).bind("", "", &[token]).execute("", 0).sync();
            wire.run(COUNT).sync();
        }
        wire.send().await;
        for count in ["3", "5", "3"] {
            assert_eq!(tags(&wire.answer().await), "12DCZ");
            assert_eq!(seen(&wire.answer().await), count);
        }
        // Within a transaction, all of it in one packet; and what comes behind its end.
        for (token, end) in [(&a, "commit"), (&b, "rollback")] {
            wire.run("begin").sync();
            wire.parse("", PRESENT_LOCALLY).bind("", "", &[token]).execute("", 0);
            wire.run(COUNT).sync();
            wire.run(end).sync().run(COUNT).sync();
        }
        wire.send().await;
        for count in ["3", "5"] {
            wire.answer().await;
            let answer = wire.answer().await;
            assert_eq!(rows(&answer), ["", count], "{}", tags(&answer));
            wire.answer().await;
            assert_eq!(seen(&wire.answer().await), "3");
        }
        // With no Sync in between.
        wire.run("begin").parse("", PRESENT_LOCALLY).bind("", "", &[&b]).execute("", 0);
        wire.run(COUNT).run("commit").sync().run(COUNT).sync().send().await;
        let answer = wire.answer().await;
        assert_eq!(rows(&answer), ["", "5"], "{}", tags(&answer));
        assert_eq!(seen(&wire.answer().await), "3");
        // And what stands behind the end of the transaction without a Sync, or in the same text.
        wire.run("begin").parse("", PRESENT_LOCALLY).bind("", "", &[&b]).execute("", 0);
        wire.run(COUNT).run("commit").run(COUNT).sync().send().await;
        let answer = wire.answer().await;
        assert_eq!(rows(&answer), ["", "5", "3"], "{}", tags(&answer));
        let local = set_local(B);
        for end in ["commit", "rollback"] {
            let answer = wire.ask(&format!("begin; {local}; {COUNT}; {end}; {COUNT}")).await;
            assert_eq!(rows(&answer), ["5", "3"], "{}", tags(&answer));
        }
        wire.run("reset all").run(COUNT).sync().run(COUNT).sync().send().await;
        assert_eq!(seen(&wire.answer().await), "42501 C206");
        // The reset was undone with its pipeline.
        assert_eq!(seen(&wire.answer().await), "3");
        // What fails ahead of it keeps it from happening.
        wire.run("select 1/0").parse("", PRESENT).bind("", "", &[&b]).execute("", 0);
        wire.run(COUNT).sync().run(COUNT).sync().send().await;
        assert_eq!(seen(&wire.answer().await), "22012 -");
        assert_eq!(seen(&wire.answer().await), "3");
        wire.ask("reset cloison.jwt").await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_text_that_hides_a_token_does_not_reach_postgres() {
    let proxy = narrow().bare().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    let b = tenant_token(B);
    for text in [
        format!("select set_config('cloison.jwt', '{b}', false), 1"),
        format!("with x as (select set_config('cloison.jwt', '{b}', false)) select * from x"),
        format!("do $$ begin perform set_config('cloison.jwt', '{b}', false); end $$"),
        format!("alter role it_app set cloison.jwt = '{b}'"),
        format!("set cloison.jwt = E'{b}'"),
        "prepare p as select set_config('cloison.jwt', $1, true)".to_owned(),
    ] {
        play(&mut wire, &[(&text, "42501 C208"), (COUNT, "3")]).await;
        wire.run(&text).sync().send().await;
        assert_eq!(seen(&wire.answer().await), "42501 C208");
        play(&mut wire, &[(COUNT, "3")]).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn no_token_is_found_at_postgres() {
    let database = Database::new();
    let superuser = database.superuser().await;
    let sql = format!(
        "alter database {} set log_statement = 'all'; \
         alter database {0} set log_parameter_max_length = -1; \
         alter database {0} set log_min_duration_statement = 0",
        database.name
    );
    superuser.batch_execute(&sql).await.unwrap();
    let proxy = proxy::new().pool_size(2).run_on(database).await;
    let mut wire = nobody(&proxy).await;
    let token = tenant_token(A);
    let mark = &token[token.len() - 20..];
    let activity = format!(
        "select count(*) from pg_stat_activity \
         where pid <> pg_backend_pid() and position('{mark}' in query) > 0"
    );
    let bad = format!("set cloison.jwt = '{token}x'");
    let refused = format!("select set_config('cloison.jwt', '{token}', false), 2");
    let literal = PRESENT.replace("$1", &format!("'{token}'"));
    for sql in [&set(A), &set_local(A), &literal, &bad, &refused] {
        wire.ask(sql).await;
        let found: i64 = superuser.query_one(&activity, &[]).await.unwrap().get(0);
        assert_eq!(found, 0);
    }
    wire.parse("", PRESENT).bind("", "", &[&token]).execute("", 0).sync().send().await;
    wire.answer().await;
    assert_eq!(wire.value(COUNT).await, "3");
    let found: i64 = superuser.query_one(&activity, &[]).await.unwrap().get(0);
    assert_eq!(found, 0);
    let log = server_log();
    assert!(log.contains("cloison.context"), "statements are logged");
    assert!(!log.contains(mark));
    proxy.stop().await;
}

#[tokio::test]
async fn a_token_that_expires_leaves_nobody_and_a_new_one_goes_on() {
    let proxy = narrow().run().await;
    let mut wire = nobody(&proxy).await;
    let brief = token("tenant", json!({"tenant_id": A, "exp": now() + 2}));
    let (brief, again) = (format!("set cloison.jwt = '{brief}'"), set(A));
    play(&mut wire, &[(&brief, ""), (COUNT, "3"), ("begin", ""), (COUNT, "3")]).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    // A transaction that began in time goes on.
    play(&mut wire, &[(COUNT, "3"), ("commit", ""), (COUNT, "42501 C206")]).await;
    play(&mut wire, &[(&again, ""), (COUNT, "3")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_newer_token_extends_the_session() {
    let proxy = narrow().run().await;
    let ending = token("tenant", json!({"tenants": [], "exp": now() + 2}));
    let (mut stays, _) = Wire::login(&proxy, "app", &ending, &[]).await;
    let a = set(A);
    play(&mut stays, &[(&a, ""), (COUNT, "3")]).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    play(&mut stays, &[(COUNT, "3")]).await;
    // Who logged in is not good any more.
    let last = stays.ask("reset cloison.jwt").await;
    let told = match last.last().unwrap().tag {
        'Z' => stays.until('E').await,
        _ => last,
    };
    assert_eq!(seen(&told), "57P01 C204");
    proxy.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_the_tenant_or_the_token_that_was_named_last() {
    let proxy = proxy::new().pool_size(4).pinning().unfiltered().run().await;
    let superuser = proxy.database.superuser().await;
    let of = |tenant: &str, id: &str| {
        let token = token("tenant", json!({"tenant_id": tenant, "jti": id}));
        format!("set cloison.jwt = '{token}'")
    };
    let (lost, kept) = (of(A, "lost"), of(B, "kept"));
    let (mut idle, mut moved, mut back) =
        (nobody(&proxy).await, nobody(&proxy).await, nobody(&proxy).await);
    play(&mut idle, &[(&lost, ""), (COUNT, "3")]).await;
    play(&mut moved, &[(&lost, ""), (COUNT, "3"), (&kept, ""), (COUNT, "5")]).await;
    play(&mut back, &[("begin", ""), (&set_local(A), ""), (COUNT, "3"), ("commit", "")]).await;
    // One that keeps its server connection, and asks nobody for another.
    let mut pinned = service(&proxy, json!("*")).await;
    let keeps = "declare c cursor with hold for select 1";
    play(&mut pinned, &[("select set_tenant('a')", ""), (keeps, ""), (COUNT, "3")]).await;

    superuser.batch_execute("select cloison.revoke_token('lost', 'stolen')").await.unwrap();
    assert_eq!(seen(&idle.until('E').await), "57P01 C213");
    play(&mut moved, &[(COUNT, "5"), (&lost, "28P01 C213"), (COUNT, "42501 C206")]).await;
    play(&mut moved, &[(&kept, ""), (COUNT, "5")]).await;

    let suspend = format!("update cloison.tenants set status = 'suspended' where id = '{A}'");
    superuser.batch_execute(&suspend).await.unwrap();
    assert_eq!(seen(&pinned.until('E').await), "57P01 C214");
    play(&mut back, &[("select 1", "1"), (COUNT, "42501 C206")]).await;
    play(&mut moved, &[(COUNT, "5")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn who_is_chosen_counts_for_the_tenant_while_that_lasts() {
    let proxy = proxy::new().pool_size(4).set("max_tenant_client_connections = 1").run().await;
    let (mut first, mut second) =
        (service(&proxy, json!("*")).await, service(&proxy, json!("*")).await);
    let (a, b) = ("select set_tenant('a')", "select set_tenant('b')");
    play(&mut first, &[(a, ""), (COUNT, "3"), (a, "")]).await;
    play(&mut second, &[(a, "53300 C016"), (COUNT, "42501 C206")]).await;
    let refused = Wire::refused(&proxy, "app", &tenant_token(A), &[]).await;
    assert_eq!(refused.field('C'), "53300");
    // Rolled back, or with its transaction, it counts no more.
    let reset = ("reset cloison.jwt", "");
    play(&mut first, &[(b, ""), (COUNT, "5")]).await;
    play(&mut second, &[reset, ("begin", ""), (a, ""), (COUNT, "3"), ("commit", "")]).await;
    play(&mut first, &[(a, ""), (COUNT, "3"), reset]).await;
    play(&mut second, &[("begin", ""), (a, ""), (COUNT, "3"), ("rollback", "")]).await;
    play(&mut first, &[(a, ""), (COUNT, "3")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_has_so_many_server_connections_whoever_chose_it() {
    let proxy = proxy::new()
        .pool_size(4)
        .set("max_tenant_connections = 1\nquery_wait_timeout = \"5s\"")
        .run()
        .await;
    let (mut first, mut second) =
        (service(&proxy, json!("*")).await, service(&proxy, json!("*")).await);
    let (a, b) = ("select set_tenant('a')", "select set_tenant('b')");
    play(&mut first, &[(a, ""), (COUNT, "3")]).await;
    play(&mut second, &[(b, ""), (COUNT, "5")]).await;
    // Each takes the other's place, and neither waits with its own in hand.
    first.query(b).send().await;
    second.query(a).send().await;
    first.answer().await;
    second.answer().await;
    play(&mut first, &[(COUNT, "5"), ("begin", ""), (COUNT, "5")]).await;
    play(&mut second, &[(COUNT, "3"), ("reset cloison.jwt", "")]).await;
    let mut third = Wire::tenant(&proxy, A).await;
    play(&mut third, &[(COUNT, "3"), ("begin", ""), (COUNT, "3")]).await;
    play(&mut second, &[("begin", ""), (a, "53300 C302"), ("rollback", "")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn tenants_take_turns_in_one_pool_of_clients() {
    let proxy = proxy::new().by_transaction().pool_size(2).run().await;
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut wire = service(&proxy, json!([A, B])).await;
        clients.push(tokio::spawn(async move {
            for round in 0..40 {
                let (tenant, count) = if (number + round) % 2 == 0 { (A, "3") } else { (B, "5") };
                let choose = format!("select set_tenant('{tenant}')");
                if round % 3 == 0 {
                    play(&mut wire, &[(&choose, ""), (COUNT, count)]).await;
                } else {
                    let script = [("begin", ""), (&choose, ""), (COUNT, count), ("commit", "")];
                    play(&mut wire, &script).await;
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    proxy.stop().await;
}

#[tokio::test]
async fn nothing_of_a_tenant_is_left_for_the_next_one() {
    let proxy = narrow()
        .pinning()
        .unfiltered()
        .allowing(&["activity", "temporary", "notifications", "advisory_locks"])
        .run()
        .await;
    let mut wire = service(&proxy, json!("*")).await;
    play(
        &mut wire,
        &[
            ("select set_tenant('a')", ""),
            ("set extra_float_digits = 3", ""),
            ("create temp table secret as select body from note", ""),
            ("declare c cursor with hold for select body from note", ""),
            ("listen x", ""),
            ("select pg_advisory_lock(7)", ""),
            ("select count(*) from secret", "3"),
            ("select set_tenant('b')", ""),
            ("select count(*) from secret", "42P01 -"),
            ("fetch all from c", "34000 -"),
            ("select count(*) from pg_listening_channels()", "0"),
            ("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "0"),
            ("show extra_float_digits", "3"),
            (COUNT, "5"),
        ],
    )
    .await;
    proxy.stop().await;
}

#[tokio::test]
async fn the_filter_holds_for_whoever_came_in_band() {
    let proxy = narrow().run().await;
    let mut wire = nobody(&proxy).await;
    wire.ask(&set(A)).await;
    play(&mut wire, &[("alter role it_app set jit to off", "42501 C405"), (COUNT, "3")]).await;
    play(&mut wire, &[("set cloison.context = 'x'", "42501 C406"), (COUNT, "3")]).await;
    // Where nothing is read, these still are.
    let proxy = narrow().unfiltered().run().await;
    let mut wire = nobody(&proxy).await;
    wire.ask(&set(A)).await;
    play(&mut wire, &[(COUNT, "3")]).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_driver_chooses_its_tenant() {
    let proxy = proxy::new().by_transaction().pool_size(2).run().await;
    let mut client = proxy.connect("app", &service_token(json!([A, B])), "").await.unwrap();
    let choose = client.prepare("select set_tenant($1)").await.unwrap();
    for (tenant, count) in [(A, 3_i64), ("b", 5), ("a", 3)] {
        client.query(&choose, &[&tenant]).await.unwrap();
        let found: i64 = client.query_one(COUNT, &[]).await.unwrap().get(0);
        assert_eq!(found, count);
        let other = if count == 3 { "b" } else { "a" };
        let transaction = client.transaction().await.unwrap();
        transaction.query("select set_tenant($1)", &[&other]).await.unwrap();
        let found: i64 = transaction.query_one(COUNT, &[]).await.unwrap().get(0);
        assert_eq!(found, 8 - count);
        transaction.commit().await.unwrap();
    }
    let token = tenant_token(B);
    let sql = "select set_config('cloison.jwt', $1, $2)";
    let shown: String = client.query_one(sql, &[&token, &false]).await.unwrap().get(0);
    assert_eq!(shown, "");
    let found: i64 = client.query_one(COUNT, &[]).await.unwrap().get(0);
    assert_eq!(found, 5);
    proxy.stop().await;
}
