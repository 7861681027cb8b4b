//! Who is asking, inside SQL: the claims of the token that a client came with.

use serde_json::{Value, json};

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Builder, Proxy, by_transaction, token};
use crate::support::wire::{Wire, error, rows, tags};

const WHO: &str = "select coalesce(cloison.current_user_id(), 'nobody')";
const PLAN: &str = "select coalesce(cloison.claim('app_metadata.plan'), 'none')";

/// One server connection for everybody, and claims on it.
fn with_claims() -> Builder {
    proxy::new().pool_size(1).unwatched().unfiltered().edit(|config| {
        for issuer in config.issuers.iter_mut().filter(|issuer| issuer.name == "tenant") {
            issuer.claims_in_sql = ["sub", "role", "app_metadata"].map(str::to_owned).to_vec();
        }
    })
}

/// A client with such claims. In session mode the one before has to be gone.
async fn user(proxy: &Proxy, tenant: &str, claims: Value) -> Wire {
    let mut all = json!({"tenant_id": tenant});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let (wire, answer) = Wire::login(proxy, "app", &token("tenant", all), &[]).await;
    assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
    wire
}

#[tokio::test]
async fn each_client_has_the_claims_of_its_own_token() {
    let proxy = with_claims().run().await;
    for _ in 0..2 {
        for (tenant, name, plan) in
            [(A, "ada", "gold"), (A, "Zoë \u{1F600}", "iron"), (B, "ada", "tin"), (A, "bob", "x")]
        {
            let claims = json!({"sub": name, "app_metadata": {"plan": plan}, "email": "hidden"});
            let mut wire = user(&proxy, tenant, claims).await;
            for _ in 0..2 {
                assert_eq!(wire.value(WHO).await, name);
                assert_eq!(wire.value(PLAN).await, plan);
                wire.run(WHO).run(PLAN).sync().send().await;
                assert_eq!(rows(&wire.answer().await), [name, plan]);
                let answer = wire.ask(&format!("begin; {WHO}; commit; {WHO}; {PLAN}")).await;
                assert_eq!(rows(&answer), [name, name, plan]);
            }
            // What the rule does not list is not there.
            assert_eq!(wire.value("select (cloison.claim('email') is null)::text").await, "true");
            assert!(!wire.value("select cloison.claims()::text").await.contains("exp"));
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn claims_stay_with_their_client_whatever_it_resets() {
    let proxy = with_claims().run().await;
    let mut ada = user(&proxy, A, json!({"sub": "ada"})).await;
    for text in [
        "reset all",
        "discard all",
        "set cloison.claims = ''",
        "reset cloison.claims",
        "select set_config('cloison.claims', '', false)",
        "begin; reset all; rollback",
        "set cloison.context = 'x'",
    ] {
        let answer = ada.ask(text).await;
        assert!(!tags(&answer).contains('E'), "{text}: {}", error(&answer).field('M'));
        assert_eq!(ada.value(WHO).await, "ada", "{text}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn nobody_is_somebody_else() {
    let proxy = with_claims().run().await;
    let mut ada = user(&proxy, A, json!({"sub": "ada"})).await;
    let kept = ada.value("select current_setting('cloison.claims')").await;
    let context = ada.value("select current_setting('cloison.context')").await;
    assert!(kept.contains("ada") && !kept.contains(&context), "{kept}");
    for forged in [
        kept.replace("ada", "bob"),
        r#"{"sub":"bob"}"#.to_owned(),
        format!("p9999999999{}", &kept[11..]),
    ] {
        for local in ["true", "false"] {
            let set = format!("select set_config('cloison.claims', $f${forged}$f$, {local})");
            let answer = ada.ask(&format!("begin; {set}; {WHO}")).await;
            assert_eq!(error(&answer).field('C'), "42501", "{forged}");
            ada.ask("rollback").await;
            assert_eq!(ada.value(WHO).await, "ada");
        }
    }
    drop(ada);
    // Another tenant's are worth nothing, on the same connection and in time.
    let mut bob = user(&proxy, B, json!({"sub": "bob"})).await;
    let set = format!("select set_config('cloison.claims', $f${kept}$f$, true)");
    let answer = bob.ask(&format!("begin; {set}; {WHO}")).await;
    assert_eq!(error(&answer).field('C'), "42501");
    bob.ask("rollback").await;
    assert_eq!(bob.value(WHO).await, "bob");
    proxy.stop().await;
}

#[tokio::test]
async fn without_listed_claims_there_are_none_and_no_second_setting() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = user(&proxy, A, json!({"sub": "ada"})).await;
    assert_eq!(wire.value(WHO).await, "nobody");
    assert_eq!(
        wire.value("select coalesce(current_setting('cloison.claims', true), 'x')").await,
        "x"
    );
    assert_eq!(wire.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn claims_that_sql_cannot_have_are_refused_at_the_door() {
    let proxy = with_claims().run().await;
    for claims in [json!({"role": "x".repeat(8192)}), json!({"role": "a\0b"})] {
        let mut all = claims;
        all["tenant_id"] = json!(A);
        let told = Wire::refused(&proxy, "app", &token("tenant", all), &[]).await;
        assert_eq!(told.field('C'), "28000");
        assert!(told.field('D').contains("C217"), "{}", told.field('D'));
    }
    // What is not listed may be long.
    let long = json!({"tenant_id": A, "other": "x".repeat(9000)});
    let (_, answer) = Wire::login(&proxy, "app", &token("tenant", long), &[]).await;
    assert_eq!(answer.last().unwrap().tag, 'Z');
    proxy.stop().await;
}

/// Statements of a client are prepared once for all, and the claims are each one's own.
#[tokio::test]
async fn two_users_of_a_tenant_share_a_connection_and_no_claims() {
    if !by_transaction() {
        return;
    }
    let proxy = with_claims().run().await;
    let mut ada = user(&proxy, A, json!({"sub": "ada"})).await;
    let mut bob = user(&proxy, A, json!({"sub": "bob"})).await;
    ada.parse("who", WHO);
    bob.parse("who", WHO);
    for _ in 0..5 {
        for (wire, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
            wire.bind("", "who", &[]).execute("", 0).sync().send().await;
            assert_eq!(rows(&wire.answer().await), [name]);
            let local =
                "select coalesce(nullif(current_setting('cloison.claims', true), ''), 'gone')";
            assert!(wire.value(local).await.contains(name));
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn claims_in_band_are_those_of_the_token_that_was_given_last() {
    let proxy = proxy::new()
        .by_transaction()
        .pool_size(1)
        .unwatched()
        .unfiltered()
        .edit(|config| {
            let tenants = config.issuers.iter_mut().find(|issuer| issuer.name == "tenant").unwrap();
            let mut without = tenants.clone();
            tenants.claims_in_sql = vec!["sub".to_owned()];
            (without.name, without.audiences) = ("without".to_owned(), vec!["without".to_owned()]);
            config.issuers.push(without);
        })
        .run()
        .await;
    let set = |audience: &str, tenant: &str, name: &str| {
        let token = token(audience, json!({"tenant_id": tenant, "sub": name}));
        format!("set cloison.jwt = '{token}'")
    };
    let mut wire = user(&proxy, A, json!({"sub": "login"})).await;
    for (audience, tenant, name, seen) in [
        ("tenant", A, "ada", "ada"),
        ("tenant", A, "bob", "bob"),
        ("without", A, "eve", "nobody"),
        ("tenant", B, "ada", "ada"),
    ] {
        assert_eq!(tags(&wire.ask(&set(audience, tenant, name)).await), "CZ");
        assert_eq!(wire.value(WHO).await, seen);
    }
    // Who has none does not get those of whom the transaction has run for.
    wire.ask(&set("tenant", A, "ada")).await;
    let (bob, eve) = (set("tenant", A, "bob"), set("without", A, "eve"));
    let answer = wire.ask(&format!("begin; {WHO}; {bob}; {WHO}; {eve}; {WHO}")).await;
    assert_eq!(rows(&answer), ["ada", "bob"]);
    assert_eq!(error(&answer).field('C'), "25001");
    wire.ask("rollback").await;
    assert_eq!(wire.value(WHO).await, "ada");
    proxy.stop().await;
}
