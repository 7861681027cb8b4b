//! Keys that are where the issuer's own document says, and documents that lie.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::*;
use super::support::*;
use crate::auth::fetch::Source;
use crate::auth::remote::Limits;
use crate::auth::{Error, Verifier};
use crate::config::{Algorithm, Issuer, KeySource};
use crate::types::Access;

const DOCUMENT: &str = "/.well-known/openid-configuration";

fn signer() -> &'static Signer {
    SIGNERS.of(Algorithm::Es256)
}

/// A provider with a document about itself, which may be changed, and a key set.
async fn provider(changes: Value) -> Server {
    let server = Server::start(ok(&jwks(&[signer().jwk("k1")]))).await;
    describe(&server, changes);
    server
}

fn describe(server: &Server, changes: Value) {
    let mut document = json!({
        "issuer": ISSUER,
        "jwks_uri": server.url(),
        "authorization_endpoint": format!("{}/auth", server.base),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    for (name, value) in changes.as_object().unwrap() {
        document[name] = value.clone();
    }
    server.answers_at(DOCUMENT, ok(&document.to_string()));
}

fn rule_of(server: &Server) -> Issuer {
    let keys = KeySource::Discovery(format!("{}{DOCUMENT}", server.base));
    rule(keys, vec![Algorithm::Es256])
}

fn verifier(server: &Server, limits: Limits) -> Verifier {
    Verifier::with_limits(&[rule_of(server)], limits).unwrap()
}

async fn outcome(verifier: &Verifier, id: &str) -> String {
    let token = signer().token_of_key(id);
    match verifier.verify(&token, Access::Tenant, now()).await {
        Err(Error::KeysUnavailable { source: Some(source), .. }) => source.to_string(),
        other => kind(&other),
    }
}

#[tokio::test]
async fn keys_are_found_where_the_document_says() {
    let server = provider(json!({})).await;
    let verifier = verifier(&server, Limits::STANDARD);
    for _ in 0..3 {
        assert_eq!(outcome(&verifier, "k1").await, "Ok");
    }
    assert_eq!(server.requests(), 2, "the document, and the keys");
}

#[tokio::test]
async fn a_document_that_is_not_this_issuers_is_not_believed() {
    let elsewhere = Server::start(ok(&jwks(&[signer().jwk("k1")]))).await;
    let another = "the discovery document is another issuer's";
    for (changes, reason) in [
        (json!({"issuer": format!("{ISSUER}/")}), another),
        (json!({"issuer": "https://issuer.example.evil"}), another),
        (json!({ "issuer": [ISSUER] }), another),
        (json!({ "issuer": null }), another),
        (json!({ "jwks_uri": null }), "the discovery document has no jwks_uri"),
        (json!({"jwks_uri": "http://issuer.example/jwks"}), "has to be https"),
        (json!({"jwks_uri": "http://127.0.0.1.evil.example/"}), "has to be https"),
        (json!({"jwks_uri": "file:///etc/passwd"}), "has to be https"),
        (json!({"jwks_uri": "https://me:secret@issuer.example/"}), "has to be https"),
        (json!({"jwks_uri": "/jwks"}), "has to be https"),
    ] {
        let server = provider(changes.clone()).await;
        let outcome = outcome(&verifier(&server, Limits::STANDARD), "k1").await;
        assert!(outcome.contains(reason), "{changes}: {outcome}");
        assert_eq!(server.requests(), 1, "{changes}: the keys were not asked for");
    }
    // Neither is a redirect, a page, a document without an end or one that is too long.
    let redirect = format!("302 Found\r\nLocation: {}{DOCUMENT}", elsewhere.base);
    let slow = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{".to_owned();
    for (answer, reason) in [
        (status(&redirect), "status 302"),
        (status("404 Not Found"), "status 404"),
        (ok("<html>"), "not a JSON object"),
        (ok(&format!("{{}}{}", " ".repeat(256 * 1024))), "larger than"),
        (slow, "no answer within"),
    ] {
        let server = provider(json!({})).await;
        server.answers_at(DOCUMENT, answer);
        let limits = Limits { timeout: Duration::from_millis(300), ..Limits::STANDARD };
        let outcome = outcome(&verifier(&server, limits), "k1").await;
        assert!(outcome.contains(reason), "{reason}: {outcome}");
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_document_from_outside_does_not_lead_inside() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let inside = Server::start(ok(&jwks(&[signer().jwk("k1")]))).await;
    for (document, may) in [("https://issuer.example/doc", false), ("http://127.0.0.1:1/doc", true)]
    {
        let Ok(Source::Discovery { document, .. }) = Source::discovery(document, ISSUER, 1024)
        else {
            panic!("{document}")
        };
        assert_eq!(document.leading_to(&inside.url()).is_ok(), may, "{document:?}");
    }
}

#[tokio::test]
async fn the_document_is_read_again_as_keys_are() {
    let server = provider(json!({})).await;
    let eager = Limits {
        unknown: Duration::ZERO,
        cooldown: Duration::ZERO,
        first_cooldown: Duration::ZERO,
        ..Limits::STANDARD
    };
    let verifier = verifier(&server, eager);
    assert_eq!(outcome(&verifier, "k1").await, "Ok");
    // The keys move to another place, and the old one says so.
    server.answers(status("410 Gone"));
    server.answers_at("/elsewhere", ok(&jwks(&[signer().jwk("k2")])));
    describe(&server, json!({"jwks_uri": format!("{}/elsewhere", server.base)}));
    assert_eq!(outcome(&verifier, "k2").await, "Ok");
    // An outage of the document is an outage of the keys: they serve while they may.
    server.answers_at(DOCUMENT, status("503 Service Unavailable"));
    assert_eq!(outcome(&verifier, "k3").await, "UnknownKey");
    assert_eq!(outcome(&verifier, "k2").await, "Ok");
}

#[tokio::test]
async fn two_issuers_behind_one_url_have_keys_of_their_own() {
    let server = provider(json!({})).await;
    let other = Issuer {
        name: "other".to_owned(),
        issuer: "https://other.example".to_owned(),
        ..rule_of(&server)
    };
    let verifier = Verifier::new(&[rule_of(&server), other]).unwrap();
    assert_eq!(outcome(&verifier, "k1").await, "Ok");
    // The document is the first one's, so the second has no keys.
    let token = signer().token(&with("iss", json!("https://other.example")));
    let refused = verifier.verify(&token, Access::Tenant, now()).await;
    assert_eq!(kind(&refused), "KeysUnavailable");
}
