//! Which rules are tried, what they may be, and what is told about a failure.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::support::*;
use crate::auth::{Error, KeysError, Verifier};
use crate::config::{Algorithm, Issuer, KeySource};
use crate::observe::Fault;
use crate::types::{Access, Secret};

/// The tenants' rule, and the super-admin's with an audience of its own.
fn both(signer: &Signer) -> [Issuer; 2] {
    let superadmin = Issuer {
        name: "admins".to_owned(),
        access: Access::Superadmin,
        audiences: vec!["cloison-superadmin".to_owned()],
        ..signer.rule()
    };
    [signer.rule(), superadmin]
}

#[tokio::test]
async fn a_token_is_good_for_its_own_access_alone() {
    for signer in SIGNERS.all() {
        let verifier = Verifier::new(&both(signer)).unwrap();
        let mut tenants = good_claims();
        // Whatever a tenant's token says about itself.
        for (name, value) in [
            ("role", json!("superadmin")),
            ("is_admin", json!(true)),
            ("access", json!("superadmin")),
            ("tenants", json!(["*"])),
        ] {
            tenants[name] = value;
        }
        let tenants = signer.token(&tenants);
        let admins = signer.token(&with("aud", json!("cloison-superadmin")));
        for (token, access, expected) in [
            (&tenants, Access::Tenant, "Ok"),
            (&tenants, Access::Superadmin, "Audience"),
            (&tenants, Access::Owner, "UnknownIssuer"),
            (&admins, Access::Superadmin, "Ok"),
            (&admins, Access::Tenant, "Audience"),
            (&admins, Access::Owner, "UnknownIssuer"),
        ] {
            let outcome = verifier.verify(token, access, now()).await;
            assert_eq!(kind(&outcome), expected, "{access}");
            if let Ok(claims) = outcome {
                assert_eq!(claims.access(), access);
                assert_eq!(claims.tenants().is_some(), access == Access::Tenant);
            }
        }
    }
}

#[tokio::test]
async fn the_first_rule_that_accepts_wins_and_the_furthest_error_is_told() {
    let (es, ed) = (SIGNERS.of(Algorithm::Es256), SIGNERS.of(Algorithm::EdDsa));
    let second = Issuer { name: "second".to_owned(), ..ed.rule() };
    let rules = [es.rule(), second];
    let accepted = verify(&rules, &ed.token(&good_claims())).await.unwrap();
    assert_eq!(accepted.issuer(), "second");
    let expired = verify(&rules, &ed.token(&with("exp", json!(0)))).await;
    assert_eq!(kind(&expired), "Expired", "not the first rule's complaint about the algorithm");
    let reversed = [rules[1].clone(), rules[0].clone()];
    let expired = verify(&reversed, &ed.token(&with("exp", json!(0)))).await;
    assert_eq!(kind(&expired), "Expired", "whatever the order");
}

#[track_caller]
fn refused(rule: Issuer, reason: &str) {
    let error = Verifier::new(&[rule]).unwrap_err();
    assert_eq!(error.fault(), Fault::Proxy);
    let text = format!(
        "{error}: {}",
        std::error::Error::source(&error).map_or(String::new(), |e| e.to_string())
    );
    assert!(text.contains(reason), "{text}");
}

#[test]
fn rules_that_prove_too_much_are_refused_at_start() {
    let (hs, rs) = (SIGNERS.of(Algorithm::Hs256), SIGNERS.of(Algorithm::Rs256));
    let with_hs = vec![Algorithm::Rs256, Algorithm::Hs256];
    refused(Issuer { algorithms: with_hs.clone(), ..rs.rule() }, "HS256 goes with a secret");
    refused(Issuer { algorithms: with_hs, ..hs.rule() }, "HS256 goes with a secret");
    refused(Issuer { algorithms: vec![], ..rs.rule() }, "may not be empty");
    refused(Issuer { audiences: vec![], ..rs.rule() }, "may not be empty");
    refused(Issuer { tenant_claims: vec![], ..rs.rule() }, "needs a tenant claim");
    refused(Issuer { algorithms: vec![Algorithm::Es256], ..rs.rule() }, "fits none");
    let short = KeySource::Secret(Secret::new(vec![b'x'; 31]));
    refused(Issuer { keys: short, ..hs.rule() }, "shorter than 32 bytes");
    let alike = [rs.rule(), Issuer { access: Access::Superadmin, ..rs.rule() }];
    assert!(matches!(Verifier::new(&alike), Err(Error::Rule { .. })), "same audience for both");
    for url in
        ["http://issuer.example/jwks", "ftp://127.0.0.1/", "https://u:p@issuer.example/", "x"]
    {
        refused(
            rule(KeySource::JwksUrl(url.to_owned()), vec![Algorithm::Es256]),
            "has to be https",
        );
    }
}

#[test]
fn key_sets_are_read_by_what_their_keys_say() {
    let rs = SIGNERS.of(Algorithm::Rs256);
    let changed = |name: &str, value: serde_json::Value| {
        let mut jwk = rs.jwk("k1");
        jwk[name] = value;
        jwk
    };
    for (what, key) in [
        ("for encryption", changed("use", json!("enc"))),
        ("for signing only", changed("key_ops", json!(["sign"]))),
        ("for another algorithm", changed("alg", json!("RS512"))),
        ("for an algorithm of another type", changed("alg", json!("ES256"))),
        ("alg is no text", changed("alg", json!(1))),
        ("kid is no text", changed("kid", json!(1))),
        ("private half published", changed("d", json!("AAAA"))),
        ("a secret", SIGNERS.of(Algorithm::Hs256).jwk("k1")),
        ("short modulus", changed("n", json!(encode([0xc1; 128])))),
        ("other curve", changed("kty", json!("EC"))),
    ] {
        let file = TempFile::new(&jwks(&[key]));
        refused(
            rule(KeySource::JwksFile(file.0.clone()), vec![Algorithm::Rs256]),
            "no key that can be used",
        );
        assert!(file.0.exists(), "{what}");
    }
    let mut open = changed("use", json!("sig"));
    open["key_ops"] = json!(["verify"]);
    open.as_object_mut().unwrap().remove("alg");
    let file = TempFile::new(&jwks(&[open, json!({"kty": "AKP"}), json!("not a key")]));
    let both = vec![Algorithm::Rs256, Algorithm::Ps256];
    let rule = rule(KeySource::JwksFile(file.0.clone()), both);
    check(&rule, &rs.token_of_key("k1"), "Ok", "use, key_ops");
    check(&rule, &SIGNERS.of(Algorithm::Ps256).token_of_key("k1"), "Ok", "no alg: both paddings");
}

#[test]
fn a_kid_says_which_key_is_meant() {
    let (es, other) = (SIGNERS.of(Algorithm::Es256), STRANGERS.of(Algorithm::Es256));
    let ed = SIGNERS.of(Algorithm::EdDsa);
    let one = TempFile::new(&jwks(&[es.jwk("k1"), ed.jwk("k2")]));
    let two = TempFile::new(&jwks(&[es.jwk("k1"), other.jwk("k2")]));
    let by = |file: &TempFile| rule(KeySource::JwksFile(file.0.clone()), vec![Algorithm::Es256]);
    check(&by(&one), &es.token(&good_claims()), "Ok", "one for the algorithm");
    check(&by(&one), &other.token(&good_claims()), "Signature", "of none of them");
    check(&by(&two), &es.token(&good_claims()), "Ok", "one of two for the algorithm");
    check(&by(&two), &other.token_of_key("k2"), "Ok", "named");
    check(&by(&two), &other.token_of_key("k1"), "Signature", "the other one named");
}

#[test]
fn an_attacker_cannot_tell_unknown_from_wrong() {
    let rule = || "main".to_owned();
    let alike = [
        Error::Algorithm { rule: rule() },
        Error::AmbiguousKey { rule: rule() },
        Error::Signature { rule: rule() },
        Error::UnknownIssuer {
            access: Access::Tenant,
            found: "\"x\"".to_owned(),
            rules: "issuers.main has \"y\"".to_owned(),
        },
        Error::UnknownKey { rule: rule() },
    ];
    let told: HashSet<_> = alike.iter().map(|error| format!("{:?}", error.refusal())).collect();
    assert_eq!(told.len(), 1);
    let logged: HashSet<_> = alike.iter().map(ToString::to_string).collect();
    assert_eq!(logged.len(), alike.len(), "the log says which");
    assert!(alike.iter().all(|error| error.fault() == Fault::Client));
    let down = Error::KeysUnavailable { rule: rule(), source: Some(KeysError::Status(503)) };
    assert_eq!((down.fault(), down.refusal().code), (Fault::Server, "C111"));
    let ago = Duration::from_secs(1);
    assert_eq!(Error::Expired { rule: rule(), ago }.refusal().message, "token has expired");
}
