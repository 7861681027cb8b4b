//! Tokens that come again: what is remembered of them, and what it is not good for.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::support::*;
use crate::auth::{Tenants, VerifiedClaims, Verifier};
use crate::config::{Algorithm, Issuer, KeySource};
use crate::types::Access;

fn signer() -> &'static Signer {
    SIGNERS.of(Algorithm::Es256)
}

fn in_seconds(seconds: u64) -> SystemTime {
    now() + Duration::from_secs(seconds)
}

async fn accepted(verifier: &Verifier, token: &str) -> VerifiedClaims {
    verifier.verify(token, Access::Tenant, now()).await.unwrap()
}

async fn kind_at(verifier: &Verifier, token: &str, now: SystemTime) -> String {
    kind(&verifier.verify(token, Access::Tenant, now).await)
}

#[tokio::test]
async fn a_token_is_verified_once_and_every_token_for_itself() {
    let verifier = Verifier::new(&[signer().rule()]).unwrap();
    let token = signer().token(&good_claims());
    let other = signer().token(&with("sub", json!("somebody")));
    let first = accepted(&verifier, &token).await;
    for _ in 0..3 {
        let again = accepted(&verifier, &token).await;
        assert!(again.are_shared_with(&first));
        assert_eq!(again.tenants().and_then(Tenants::only).unwrap().value(), TENANT);
    }
    let somebody = accepted(&verifier, &other).await;
    assert!(!somebody.are_shared_with(&first));
    assert_eq!((first.subject(), somebody.subject()), (None, Some("somebody")));
}

#[tokio::test]
async fn a_known_token_has_its_time_as_every_other() {
    let rule = Issuer { leeway: Duration::from_secs(5), ..signer().rule() };
    let verifier = Verifier::new(&[rule]).unwrap();
    let token = signer().token(&with("nbf", json!(NOW - 10)));
    accepted(&verifier, &token).await;
    for (time, expected) in [
        (in_seconds(64), "Ok"),
        (in_seconds(65), "Expired"),
        (now(), "Ok"),
        // A clock that was set back.
        (now() - Duration::from_secs(15), "Ok"),
        (now() - Duration::from_secs(16), "NotYetValid"),
        (now(), "Ok"),
    ] {
        assert_eq!(kind_at(&verifier, &token, time).await, expected, "{time:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_not_remembered() {
    let verifier = Verifier::new(&[signer().rule()]).unwrap();
    let token = signer().token(&with("nbf", json!(NOW + 40)));
    assert_eq!(kind_at(&verifier, &token, now()).await, "NotYetValid");
    assert_eq!(kind_at(&verifier, &token, in_seconds(20)).await, "Ok");
}

#[tokio::test]
async fn what_a_token_proved_for_tenants_proves_nothing_else() {
    let mut admin = signer().rule();
    admin.access = Access::Superadmin;
    admin.required_claims.insert("role".to_owned(), "admin".to_owned());
    let verifier = Verifier::new(&[signer().rule(), admin]).unwrap();
    let token = signer().token(&good_claims());
    accepted(&verifier, &token).await;
    for (access, expected) in
        [(Access::Superadmin, "RequiredClaim"), (Access::Owner, "UnknownIssuer")]
    {
        assert_eq!(kind(&verifier.verify(&token, access, now()).await), expected);
    }
}

#[tokio::test]
async fn a_token_that_only_looks_like_a_known_one_is_refused() {
    let verifier = Verifier::new(&[signer().rule()]).unwrap();
    let token = signer().token(&good_claims());
    accepted(&verifier, &token).await;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let strange = STRANGERS.of(Algorithm::Es256).token(&good_claims());
    let (_, strange_signature) = strange.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other_claims = encode(with("tenant_id", json!("another")).to_string());
    for forged in
        [format!("{signed}.{strange_signature}"), format!("{header}.{other_claims}.{signature}")]
    {
        assert_eq!(kind_at(&verifier, &forged, now()).await, "Signature", "{forged}");
    }
    for mangled in [format!("{token} "), format!("{token}."), token[..token.len() - 1].to_owned()] {
        assert_ne!(kind_at(&verifier, &mangled, now()).await, "Ok", "{mangled}");
    }
}

#[tokio::test]
async fn a_token_of_a_key_that_was_withdrawn_or_replaced_is_refused() {
    let stranger = STRANGERS.of(Algorithm::Es256);
    let file = TempFile::new(&jwks(&[signer().jwk("k1")]));
    let rule = rule(KeySource::JwksFile(file.0.clone()), vec![Algorithm::Es256]);
    let verifier = Verifier::new(&[rule]).unwrap();
    let named = signer().token_of_key("k1");
    let unnamed = signer().token(&good_claims());
    tokio::time::pause();
    for (keys, of_named, of_unnamed) in [
        (vec![signer().jwk("k1")], "Ok", "Ok"),
        (vec![signer().jwk("k1"), stranger.jwk("k2")], "Ok", "Ok"),
        (vec![stranger.jwk("k2")], "UnknownKey", "Signature"),
        (vec![stranger.jwk("k2"), signer().jwk("k1")], "Ok", "Ok"),
        (vec![stranger.jwk("k1")], "Signature", "Signature"),
        (vec![signer().jwk("k1")], "Ok", "Ok"),
    ] {
        // Contents of one length, written within a tick of the clock, would look unchanged.
        let padding = " ".repeat(1 + usize::from(of_named == "Ok"));
        std::fs::write(&file.0, jwks(&keys) + &padding).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(kind_at(&verifier, &named, now()).await, of_named, "{keys:?}");
        assert_eq!(kind_at(&verifier, &unnamed, now()).await, of_unnamed, "{keys:?}");
    }
}

#[tokio::test]
async fn an_earlier_rule_comes_first_once_it_accepts_the_token() {
    let named = |name: &str, leeway: u64| Issuer {
        name: name.to_owned(),
        leeway: Duration::from_secs(leeway),
        ..signer().rule()
    };
    let verifier = Verifier::new(&[named("strict", 0), named("lenient", 30)]).unwrap();
    let token = signer().token(&with("nbf", json!(NOW + 10)));
    for (time, rule) in [(now(), "lenient"), (in_seconds(10), "strict"), (now(), "lenient")] {
        let claims = verifier.verify(&token, Access::Tenant, time).await.unwrap();
        assert_eq!(claims.issuer(), rule);
    }
    // Where the earlier one never will, the token is known.
    let other = Issuer { audiences: vec!["other".to_owned()], ..named("other", 0) };
    let verifier = Verifier::new(&[other, named("own", 0)]).unwrap();
    let token = signer().token(&good_claims());
    let first = accepted(&verifier, &token).await;
    assert!(accepted(&verifier, &token).await.are_shared_with(&first));
    assert_eq!(first.issuer(), "own");
}
