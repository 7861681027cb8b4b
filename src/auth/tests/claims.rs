//! What the claims have to be, once the signature is right.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::support::*;
use crate::auth::Tenants;
use crate::config::{Algorithm, Issuer, TenantLookup};

#[test]
fn standard_claims_are_required_and_typed() {
    let cases = [
        ("exp", Value::Null, "ClaimMissing"),
        ("exp", json!("1900000000"), "ClaimInvalid"),
        ("exp", json!("Infinity"), "ClaimInvalid"),
        ("exp", json!([NOW + 60]), "ClaimInvalid"),
        ("exp", json!(true), "ClaimInvalid"),
        ("exp", json!(-1), "ClaimInvalid"),
        ("exp", json!(1e300), "ClaimInvalid"),
        ("exp", json!(u64::MAX), "ClaimInvalid"),
        ("exp", json!(253_402_300_800_u64), "ClaimInvalid"),
        ("exp", json!(NOW * 1000), "ClaimInvalid"),
        ("exp", json!(0), "Expired"),
        ("exp", json!(NOW - 31), "Expired"),
        ("exp", json!(NOW - 30), "Expired"),
        ("exp", json!(NOW - 29), "Ok"),
        ("exp", json!(NOW as f64 + 0.5), "Ok"),
        ("nbf", json!(NOW), "Ok"),
        ("nbf", json!(NOW + 30), "Ok"),
        ("nbf", json!(NOW + 31), "NotYetValid"),
        ("nbf", json!("0"), "ClaimInvalid"),
        ("nbf", json!({}), "ClaimInvalid"),
        ("iat", json!(NOW), "Ok"),
        ("iat", json!("now"), "ClaimInvalid"),
        ("iss", Value::Null, "ClaimMissing"),
        ("iss", json!([ISSUER]), "ClaimInvalid"),
        ("iss", json!(format!("{ISSUER}/")), "UnknownIssuer"),
        ("iss", json!(ISSUER.to_uppercase()), "UnknownIssuer"),
        ("aud", Value::Null, "ClaimMissing"),
        ("aud", json!("other"), "Audience"),
        ("aud", json!("cloison-superadmin"), "Audience"),
        ("aud", json!(""), "Audience"),
        ("aud", json!([]), "Audience"),
        ("aud", json!(["other", AUDIENCE]), "Ok"),
        ("aud", json!("second"), "Ok"),
        ("aud", json!([AUDIENCE, 1]), "ClaimInvalid"),
        ("aud", json!([[AUDIENCE]]), "ClaimInvalid"),
        ("aud", json!({AUDIENCE: true}), "ClaimInvalid"),
        ("sub", json!("ada"), "Ok"),
        ("sub", json!(7), "ClaimInvalid"),
        ("sub", json!("a\u{0}b"), "ClaimInvalid"),
        ("sub", json!("x".repeat(256)), "ClaimInvalid"),
        ("jti", json!(["x"]), "ClaimInvalid"),
        ("role", json!("superadmin"), "Ok"),
    ];
    for signer in SIGNERS.all() {
        for (name, value, expected) in &cases {
            let token = signer.token(&with(name, value.clone()));
            check(&signer.rule(), &token, expected, &format!("{name}: {value}"));
        }
        // A null is a value, and not one of these types.
        for name in ["exp", "nbf", "iat", "iss", "aud", "sub"] {
            let mut claims = good_claims();
            claims[name] = Value::Null;
            check(&signer.rule(), &signer.token(&claims), "ClaimInvalid", name);
        }
    }
}

#[test]
fn the_tenant_claim_is_exactly_one_tenant() {
    let invalid = "TenantClaimInvalid";
    let cases = [
        (Value::Null, "TenantClaimMissing"),
        (json!(TENANT), "Ok"),
        (json!([TENANT]), invalid),
        (json!([TENANT, TENANT]), invalid),
        (json!({"id": TENANT}), invalid),
        (json!(7), invalid),
        (json!(true), invalid),
        (json!(""), invalid),
        (json!(" "), invalid),
        (json!(format!(" {TENANT}")), invalid),
        (json!(format!("{TENANT}\n")), invalid),
        (json!(format!("{TENANT}\u{0}")), invalid),
        (json!(format!("{TENANT},{TENANT}")), invalid),
        (json!(format!("{{{TENANT}}}")), invalid),
        (json!(TENANT.replace('-', "")), invalid),
        (json!("*"), invalid),
        (json!("'; drop table tenants; --"), invalid),
        (json!("'or'1'='1"), invalid),
        (json!("acme"), invalid),
    ];
    for signer in SIGNERS.all() {
        for (value, expected) in &cases {
            let token = signer.token(&with("tenant_id", value.clone()));
            check(&signer.rule(), &token, expected, &value.to_string());
        }
        let mut claims = good_claims();
        claims["tenant_id"] = Value::Null;
        check(&signer.rule(), &signer.token(&claims), invalid, "null");
    }
}

#[tokio::test]
async fn a_list_of_tenants_makes_a_service_token() {
    let signer = SIGNERS.of(Algorithm::Es256);
    let rule = Issuer {
        tenants_claim: vec!["tenants".to_owned()],
        ..looking_up(signer, &[TenantLookup::Id, TenantLookup::Slug])
    };
    let tenants = async |value: &Value| {
        verify(std::slice::from_ref(&rule), &signer.token(&with("tenants", value.clone()))).await
    };
    for (value, expected) in [
        (json!("*"), "Any"),
        (json!([]), "Listed(0)"),
        // One tenant in a list has to be chosen as well; the plain claim is no default.
        (json!([TENANT]), "Listed(1)"),
        (json!(["acme", TENANT, "acme"]), "Listed(3)"),
        (json!(vec!["acme"; 1000]), "Listed(1000)"),
        // Without the claim it is a token of one tenant.
        (Value::Null, "One"),
    ] {
        let claims = tenants(&value).await.unwrap();
        let found = claims.tenants().unwrap();
        assert_eq!(format!("{found:?}"), expected, "{value}");
        assert_eq!(found.only().is_some(), expected == "One", "{value}");
    }
    for value in [
        json!(["*"]),
        json!(["acme", "*"]),
        json!("acme"),
        json!(""),
        json!(["a b"]),
        json!([7]),
        json!([["acme"]]),
        json!({"acme": true}),
        json!(true),
        json!(vec!["acme"; 1001]),
    ] {
        assert_eq!(kind(&tenants(&value).await), "TenantClaimInvalid", "{value}");
    }
    // A rule without the key does not look at the claim.
    let token = signer.token(&with("tenants", json!("*")));
    let claims = verify(&[signer.rule()], &token).await.unwrap();
    assert!(claims.tenants().and_then(Tenants::only).is_some());
}

/// A rule whose tenant claim may hold these.
fn looking_up(signer: &Signer, lookup: &[TenantLookup]) -> Issuer {
    Issuer { tenant_lookup: lookup.to_vec(), ..signer.rule() }
}

#[tokio::test]
async fn the_tenant_is_looked_up_only_as_what_it_can_be() {
    use TenantLookup::{ExternalKey, Id, Slug};
    let signer = SIGNERS.of(Algorithm::Es256);
    let all = [Id, Slug, ExternalKey];
    for (value, lookup, expected) in [
        (json!(TENANT), &all[..], Some((TENANT, &all[..]))),
        (json!("acme"), &all, Some(("acme", &[Slug, ExternalKey]))),
        (json!(7), &all, Some(("7", &[ExternalKey]))),
        (json!(-7), &[ExternalKey], Some(("-7", &[ExternalKey]))),
        (json!(7), &[Id, Slug], None),
        (json!(7.0), &all, None),
        (json!(1e30), &all, None),
        (json!("a b"), &all, None),
        (json!("a\u{a0}b"), &all, None),
        (json!("a\u{1b}b"), &all, None),
        (json!("x".repeat(256)), &all, None),
    ] {
        let token = signer.token(&with("tenant_id", value.clone()));
        let outcome = verify(&[looking_up(signer, lookup)], &token).await;
        match expected {
            None => assert_eq!(kind(&outcome), "TenantClaimInvalid", "{value}"),
            Some(expected) => {
                let claims = outcome.unwrap();
                let tenant = claims.tenants().and_then(Tenants::only).unwrap();
                assert_eq!((tenant.value(), tenant.lookup()), expected, "{value}");
            }
        }
    }
}

#[test]
fn the_tenant_claim_lies_on_a_path_of_names() {
    let signer = SIGNERS.of(Algorithm::EdDsa);
    let path = |names: &[&str]| Issuer {
        tenant_claims: vec![names.iter().map(|name| (*name).to_owned()).collect()],
        ..signer.rule()
    };
    let nested = with("app_metadata", json!({"org": {"id": TENANT}}));
    let check = |names: &[&str], claims: &Value, expected: &str| {
        check(&path(names), &signer.token(claims), expected, &format!("{names:?}"));
    };
    check(&["app_metadata", "org", "id"], &nested, "Ok");
    check(&["app_metadata", "org"], &nested, "TenantClaimInvalid");
    check(&["app_metadata", "org", "id", "x"], &nested, "TenantClaimMissing");
    check(&["app_metadata.org.id"], &nested, "TenantClaimMissing");
    let url = with("https://example.com/tenant", json!(TENANT));
    check(&["https://example.com/tenant"], &url, "Ok");
    check(&["app_metadata", "0"], &with("app_metadata", json!([TENANT])), "TenantClaimMissing");
}

#[test]
fn required_claims_are_matched_exactly() {
    let signer = SIGNERS.of(Algorithm::Es256);
    for (path, claims, expected) in [
        ("role", with("role", json!("admin")), "Ok"),
        ("role", with("role", json!(["user", "admin"])), "Ok"),
        ("role", with("role", json!("Admin")), "RequiredClaim"),
        ("role", with("role", json!("admin ")), "RequiredClaim"),
        ("role", with("role", json!(["user"])), "RequiredClaim"),
        ("role", with("role", json!([["admin"]])), "RequiredClaim"),
        ("role", with("role", json!({"admin": true})), "RequiredClaim"),
        ("role", with("role", json!(true)), "RequiredClaim"),
        ("role", good_claims(), "RequiredClaim"),
        ("app.role", with("app", json!({"role": "admin"})), "Ok"),
        ("app.role", with("app.role", json!("admin")), "RequiredClaim"),
        ("https://example.com/role", with("https://example.com/role", json!("admin")), "Ok"),
    ] {
        let mut rule = signer.rule();
        rule.required_claims.insert(path.to_owned(), "admin".to_owned());
        check(&rule, &signer.token(&claims), expected, &format!("{path}: {claims}"));
    }
}

#[tokio::test]
async fn what_was_proven_can_be_read() {
    let signer = SIGNERS.of(Algorithm::Rs256);
    let mut claims = good_claims();
    claims["sub"] = json!("ada");
    claims["jti"] = json!("t-1");
    let proven = verify(&[signer.rule()], &signer.token(&claims)).await.unwrap();
    assert_eq!((proven.subject(), proven.token_id()), (Some("ada"), Some("t-1")));
    assert_eq!((proven.issuer(), proven.access().as_str()), ("main", "tenant"));
    // Leeway included: the session ends when the rule stops accepting the token.
    assert_eq!(proven.expires_at(), UNIX_EPOCH + Duration::from_secs(NOW + 60 + 30));
    assert!(!format!("{proven:?}").contains(TENANT));
}
