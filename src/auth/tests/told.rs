//! The log's words about a token that is not accepted, and what the client must not see of them.

use serde_json::{Value, json};

use super::support::{AUDIENCE, ISSUER, SIGNERS, now, verify, with};
use crate::auth::{Error, Verifier};
use crate::config::{Algorithm, Issuer};
use crate::types::Access;

/// The log's line and the client's message and hint.
async fn said(rules: &[Issuer], claims: &Value) -> (String, String) {
    let token = SIGNERS.of(Algorithm::Es256).token(claims);
    let error = verify(rules, &token).await.expect_err("it is not to be accepted");
    told(&error)
}

fn told(error: &Error) -> (String, String) {
    let refusal = error.refusal();
    (error.to_string(), format!("{} {}", refusal.message, refusal.hint.unwrap_or_default()))
}

fn rule() -> Issuer {
    SIGNERS.of(Algorithm::Es256).rule()
}

#[tokio::test]
async fn both_issuers_are_told_and_a_slash_is_pointed_at() {
    let (log, client) = said(&[rule()], &with("iss", json!(format!("{ISSUER}/")))).await;
    assert_eq!(
        log,
        format!(
            "no rule for access tenant has the token's issuer \"{ISSUER}/\": issuers.main has \
             \"{ISSUER}\" (they differ only in a slash at the end)"
        )
    );
    assert_eq!(client, "token was not accepted ");

    // Many rules, and what an attacker wrote, do not make the line long.
    let rules: Vec<Issuer> = (0..40).map(|n| Issuer { name: format!("r{n}"), ..rule() }).collect();
    let hostile = format!("{}\n\u{1b}[31m", "x".repeat(9_000));
    let (log, _) = said(&rules, &with("iss", json!(hostile))).await;
    assert!(log.len() < 700 && log.contains("; 35 more have others"), "{log}");
    assert!(!log.chars().any(char::is_control), "{log}");
}

#[tokio::test]
async fn a_rule_for_another_access_is_pointed_at() {
    let owner = Issuer { access: Access::Owner, name: "owner".to_owned(), ..rule() };
    let owner = Issuer { audiences: vec!["o".to_owned()], ..owner };
    let other = Issuer { issuer: "https://else.example".to_owned(), ..rule() };
    let verifier = Verifier::new(&[other, owner]).unwrap();
    let token = SIGNERS.of(Algorithm::Es256).token(&with("aud", json!("o")));
    let error = verifier.verify(&token, Access::Tenant, now()).await.err().unwrap();
    let (log, _) = told(&error);
    assert!(log.ends_with("; issuers.owner has it, for access owner"), "{log}");
    let error = verifier.verify(&token, Access::Superadmin, now()).await.err().unwrap();
    assert!(told(&error).0.contains("there is no rule for it"), "{error}");
}

#[tokio::test]
async fn both_audiences_are_told() {
    let (log, client) = said(&[rule()], &with("aud", json!(format!("{AUDIENCE}/")))).await;
    assert_eq!(
        log,
        format!(
            "the token's \"aud\" is \"{AUDIENCE}/\", and rule \"main\" wants one of \
             issuers.main.audience: \"{AUDIENCE}\", \"second\" (they differ only in a slash at the \
             end)"
        )
    );
    assert!(!client.contains(AUDIENCE) && !client.contains("main"), "{client}");
    let (log, _) = said(&[rule()], &with("aud", json!(["a", "b", "c", "d"]))).await;
    assert!(log.contains(r#"is "a", "b", "c" and 1 more, and rule"#), "{log}");
}

#[tokio::test]
async fn a_claim_that_was_perhaps_meant_is_named_with_the_key_that_reads_it() {
    for (extra, key) in [
        (json!({"tenants": ["a", "b"]}), "tenants_claim"),
        (json!({"tenants": "*"}), "tenants_claim"),
        (json!({"tenant_ids": []}), "tenants_claim"),
        (json!({"tenant": "a"}), "tenant_claim"),
    ] {
        let (name, value) = extra.as_object().unwrap().iter().next().unwrap();
        let mut claims = with("tenant_id", Value::Null);
        claims[name] = value.clone();
        let (log, client) = said(&[rule()], &claims).await;
        assert!(log.contains(&format!("it has a claim {name:?}: issuers.main.{key}")), "{log}");
        assert!(client.contains(&format!("{key} = {name:?}")), "{client}");
        assert!(!client.contains("main"), "the client does not see rules: {client}");
    }
    let (log, client) = said(&[rule()], &with("tenant_id", Value::Null)).await;
    assert_eq!(log, r#"tenant claim "tenant_id" is missing from the token (rule "main")"#);
    assert!(client.ends_with("It has to name the tenant that the token is for."), "{client}");
}
