//! Tokens by SASL OAUTHBEARER, on a port of its own.

use std::net::SocketAddr;

use bytes::BufMut;
use cloison::config::Oauth;
use serde_json::{Value, json};

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Proxy, now, tenant_token, token};
use crate::support::wire::{Message, V3_0, Wire, error, tags};

const ISSUER: &str = "https://auth.example.com/";

/// A proxy with both ports; the second is where OAUTHBEARER is spoken.
async fn start() -> (Proxy, SocketAddr) {
    let oauth = Oauth { port: 0, issuer: ISSUER.to_owned(), scope: "openid sql".to_owned() };
    let proxy = proxy::new().edit(|config| config.oauth = Some(oauth)).run().await;
    let address = proxy.tcp_addresses()[1];
    (proxy, address)
}

/// A client that has said who it is, and been asked for a token by OAUTHBEARER.
async fn asked(proxy: &Proxy, address: SocketAddr, user: &str) -> Wire {
    let mut wire = Wire::connect(address).await;
    wire.startup(V3_0, &[("user", user), ("database", &proxy.database.name)]).send().await;
    let request = wire.receive().await.unwrap();
    assert_eq!((request.tag, &*request.body), ('R', &b"\0\0\0\x0aOAUTHBEARER\0\0"[..]));
    wire
}

fn initial(message: &str) -> Vec<u8> {
    let mut body = b"OAUTHBEARER\0".to_vec();
    body.put_i32(message.len() as i32);
    body.put_slice(message.as_bytes());
    body
}

fn bearer(token: &str) -> Vec<u8> {
    initial(&format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}"))
}

/// What a client is told that has no good token: first where to get one, then why.
async fn refused(proxy: &Proxy, address: SocketAddr, user: &str, first: &[u8]) -> Message {
    let mut wire = asked(proxy, address, user).await;
    wire.message('p', first).send().await;
    let told = wire.receive().await.unwrap();
    assert_eq!((told.tag, &told.body[..4]), ('R', &[0, 0, 0, 11][..]), "{told:?}");
    let told: Value = serde_json::from_slice(&told.body[4..]).unwrap();
    assert_eq!(
        told,
        json!({
            "status": "invalid_token",
            "openid-configuration": "https://auth.example.com/.well-known/openid-configuration",
            "scope": "openid sql",
        })
    );
    wire.message('p', b"\x01").send().await;
    let last = wire.receive().await.unwrap();
    assert_eq!((last.tag, last.field('V')), ('E', "FATAL"));
    assert!(wire.receive().await.is_none());
    last
}

#[tokio::test]
async fn a_token_opens_its_tenants_session() {
    let (proxy, address) = start().await;
    for tenant in [A, B] {
        let mut wire = asked(&proxy, address, "app").await;
        wire.message('p', &bearer(&tenant_token(tenant))).send().await;
        let answer = wire.answer().await;
        assert_eq!(answer[0], Message { tag: 'R', body: vec![0; 4] });
        assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
        assert_eq!(wire.value("select distinct tenant_id from note").await, tenant);
    }
    let mut admin = asked(&proxy, address, "cloison_superadmin").await;
    admin.message('p', &bearer(&token("superadmin", json!({})))).send().await;
    assert_eq!(admin.answer().await.last().unwrap().tag, 'Z');
    // At the other port a token is a password, as ever.
    assert_eq!(Wire::tenant(&proxy, A).await.value("select 1").await, "1");
    proxy.stop().await;
}

#[tokio::test]
async fn without_a_good_token_a_client_is_told_where_to_get_one() {
    let (proxy, address) = start().await;
    let told = refused(&proxy, address, "app", &initial("n,,\u{1}auth=\u{1}\u{1}")).await;
    assert_eq!((told.field('C'), told.field('D')), ("28000", "cloison: C115"));
    let expired = token("tenant", json!({"tenant_id": A, "exp": now() - 1}));
    for (token, user, sqlstate, code) in [
        (expired, "app", "28P01", "cloison: C103"),
        ("nonsense".to_owned(), "app", "28P01", "cloison: C102"),
        (token("tenant", json!({})), "app", "28000", "cloison: C109"),
        (tenant_token(A), "cloison_superadmin", "28000", "cloison: C107"),
        (tenant_token(A), "cloison_owner", "28000", "cloison: C107"),
    ] {
        let told = refused(&proxy, address, user, &bearer(&token)).await;
        assert_eq!((told.field('C'), told.field('D')), (sqlstate, code), "{user}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn whatever_else_is_sent_ends_the_connection() {
    let (proxy, address) = start().await;
    let good = tenant_token(A);
    let mut scram = b"SCRAM-SHA-256\0\0\0\0\x20".to_vec();
    scram.extend_from_slice(b"n,,n=,r=abcdefghijklmnopqrstuvwx");
    let two = format!("n,,\u{1}auth=Bearer {good}\u{1}auth=Bearer {good}\u{1}\u{1}");
    for (tag, body, code) in [
        ('p', [good.as_bytes(), b"\0"].concat(), "cloison: C116"),
        ('p', scram, "cloison: C116"),
        ('p', initial(&two), "cloison: C116"),
        ('p', initial(&format!("n,a=b,\u{1}auth=Bearer {good}\u{1}\u{1}")), "cloison: C116"),
        ('p', initial(&format!("p=x,,\u{1}auth=Bearer {good}\u{1}\u{1}")), "cloison: C116"),
        ('Q', b"select 1\0".to_vec(), "cloison: C008"),
    ] {
        let mut wire = asked(&proxy, address, "app").await;
        wire.message(tag, &body).send().await;
        let told = wire.receive().await.unwrap();
        assert_eq!((told.tag, told.field('C'), told.field('D')), ('E', "08P01", code));
        assert!(wire.receive().await.is_none());
    }
    // Every other type there could be, in either step.
    for tag in (0..=u8::MAX).filter(|tag| *tag != b'p').map(char::from) {
        for is_second in [false, true] {
            let mut wire = asked(&proxy, address, "app").await;
            if is_second {
                wire.message('p', &bearer("nonsense")).send().await;
                assert_eq!(wire.receive().await.unwrap().tag, 'R');
            }
            wire.message(tag, &bearer(&good)).message('p', &bearer(&good)).send().await;
            let told = wire.answer().await;
            assert_eq!((tags(&told).as_str(), error(&told).field('C')), ("E", "08P01"), "{tag:?}");
        }
    }
    // Nor is there a second try in the same exchange.
    for second in
        [bearer(&good), b"\x01\x01".to_vec(), Vec::new(), [good.as_bytes(), b"\0"].concat()]
    {
        let mut wire = asked(&proxy, address, "app").await;
        wire.message('p', &bearer("nonsense")).send().await;
        assert_eq!(wire.receive().await.unwrap().tag, 'R');
        wire.message('p', &second).send().await;
        assert_eq!(error(&wire.answer().await).field('D'), "cloison: C116");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_token_of_64_kib_fits_and_a_longer_one_does_not() {
    let (proxy, address) = start().await;
    for (length, sqlstate, code) in
        [(64 * 1024, "28P01", "cloison: C102"), (70 * 1024, "28P01", "cloison: C100")]
    {
        let mut wire = asked(&proxy, address, "app").await;
        wire.message('p', &bearer(&"x".repeat(length))).send().await;
        let mut told = wire.receive().await.unwrap();
        if told.tag == 'R' {
            wire.message('p', b"\x01").send().await;
            told = wire.receive().await.unwrap();
        }
        assert_eq!((told.field('C'), told.field('D')), (sqlstate, code), "{length}");
    }
    proxy.stop().await;
}
