//! TLS towards clients, asked for and direct, and what is refused without it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::certificate::Authority;
use crate::support::postgres::A;
use crate::support::proxy::{self, Proxy, tenant_token};
use crate::support::wire::{
    GSSENC_REQUEST, SSL_REQUEST, V3_0, Wire, cancel_key, cancel_request, error, tags,
};

async fn run(authority: &Authority, mode: &str) -> Proxy {
    cloison::tls::install_provider();
    proxy::new().set(&authority.sign("localhost").client_tls(mode)).run().await
}

async fn handshake(
    authority: &Authority,
    tcp: TcpStream,
    alpn: &[&[u8]],
) -> std::io::Result<Wire<TlsStream<TcpStream>>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    Ok(Wire::over(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
}

/// `SSLRequest`, then the handshake.
async fn asked(authority: &Authority, proxy: &Proxy, alpn: &[&[u8]]) -> Wire<TlsStream<TcpStream>> {
    let mut wire = Wire::connect(proxy.address).await;
    wire.raw(&SSL_REQUEST).send().await;
    assert_eq!(wire.receive_byte().await, Some(b'S'));
    handshake(authority, wire.socket, alpn).await.unwrap()
}

async fn logs_in(proxy: &Proxy, mut wire: Wire<TlsStream<TcpStream>>) -> Vec<u8> {
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    wire.startup(V3_0, &parameters).password(&tenant_token(A)).send().await;
    let key = cancel_key(&wire.answer().await);
    assert_eq!(wire.value("select count(*) from note").await, "3");
    key
}

#[tokio::test]
async fn tls_is_given_to_who_asks_with_or_without_alpn() {
    let authority = Authority::new("asked");
    let proxy = run(&authority, "allow").await;
    for alpn in [&[] as &[&[u8]], &[b"postgresql".as_slice()]] {
        logs_in(&proxy, asked(&authority, &proxy, alpn).await).await;
    }
    // Loopback may go without.
    assert_eq!(Wire::tenant(&proxy, A).await.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn direct_tls_demands_alpn() {
    let authority = Authority::new("direct");
    let proxy = run(&authority, "allow").await;
    let dial = || TcpStream::connect(proxy.address);
    let wire = handshake(&authority, dial().await.unwrap(), &[b"postgresql"]).await.unwrap();
    logs_in(&proxy, wire).await;
    if let Ok(mut wire) = handshake(&authority, dial().await.unwrap(), &[]).await {
        assert_eq!(wire.receive_byte().await, None);
    }
    assert!(match handshake(&authority, dial().await.unwrap(), &[b"h2"]).await {
        Ok(mut wire) => wire.receive_byte().await.is_none(),
        Err(_) => true,
    });
    // TLS inside TLS is no more than asking twice.
    let mut wire = handshake(&authority, dial().await.unwrap(), &[b"postgresql"]).await.unwrap();
    wire.raw(&SSL_REQUEST).send().await;
    assert_eq!(wire.receive_byte().await, None);
    proxy.stop().await;
}

#[tokio::test]
async fn bytes_ahead_of_the_handshake_are_refused() {
    let authority = Authority::new("stuffed");
    let proxy = run(&authority, "allow").await;
    for stuffing in [&b"x"[..], &SSL_REQUEST, b"\0\0\0\x08\0\x03\0\0"] {
        let mut wire = Wire::connect(proxy.address).await;
        wire.raw(&SSL_REQUEST).raw(stuffing).send().await;
        assert_eq!(wire.receive_byte().await, None);
        // Ahead of a No it is no better: the client may take what follows for the answer to it.
        let mut wire = Wire::connect(proxy.address).await;
        wire.raw(&GSSENC_REQUEST).raw(stuffing).send().await;
        assert_eq!(wire.receive_byte().await, None);
    }
    // What comes behind the Yes has to be TLS.
    let mut wire = Wire::connect(proxy.address).await;
    wire.raw(&SSL_REQUEST).send().await;
    assert_eq!(wire.receive_byte().await, Some(b'S'));
    wire.startup(V3_0, &[("user", "app")]).send().await;
    assert!(!tags(&wire.answer().await).contains('R'));
    proxy.stop().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended() {
    let authority = Authority::new("handshake");
    let files = authority.sign("localhost").client_tls("allow");
    let proxy = proxy::new().set(&files).set("client_login_timeout = \"300ms\"").run().await;
    for hello in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut asked = Wire::connect(proxy.address).await;
        asked.raw(&SSL_REQUEST).send().await;
        assert_eq!(asked.receive_byte().await, Some(b'S'));
        let mut direct = Wire::connect(proxy.address).await;
        for wire in [&mut asked, &mut direct] {
            wire.raw(hello).send().await;
        }
        let began = std::time::Instant::now();
        for wire in [&mut asked, &mut direct] {
            while wire.receive_byte().await.is_some() {}
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{hello:?}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn require_refuses_clear_text_before_the_token_is_asked_for() {
    let authority = Authority::new("required");
    let proxy = run(&authority, "require").await;
    let mut wire = Wire::connect(proxy.address).await;
    wire.startup(V3_0, &[("user", "app"), ("database", &proxy.database.name)]).send().await;
    let answer = wire.answer().await;
    assert_eq!(tags(&answer), "E");
    assert_eq!((answer[0].field('C'), answer[0].field('V')), ("28000", "FATAL"));
    logs_in(&proxy, asked(&authority, &proxy, &[]).await).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_cancel_request_may_come_through_tls() {
    let authority = Authority::new("cancel");
    let proxy = run(&authority, "require").await;
    let mut wire = asked(&authority, &proxy, &[]).await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    wire.startup(V3_0, &parameters).password(&tenant_token(A)).send().await;
    let key = cancel_key(&wire.answer().await);
    let superuser = proxy.database.superuser().await;
    let running = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' \
                   and usename = 'it_app' and datname = current_database() and query like '%3600%'";
    for half_closes in [false, true] {
        wire.query("select pg_sleep(3600)").send().await;
        while superuser.query_one(running, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
        let mut sender = asked(&authority, &proxy, &[b"postgresql"]).await;
        sender.raw(&cancel_request(&key)).send().await;
        if half_closes {
            sender.socket.shutdown().await.unwrap();
        }
        assert_eq!(error(&wire.answer().await).field('C'), "57014");
        assert_eq!(sender.receive_byte().await, None);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn large_results_pass_through_tls() {
    let authority = Authority::new("large");
    let proxy = run(&authority, "allow").await;
    let mut wire = asked(&authority, &proxy, &[]).await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    wire.startup(V3_0, &parameters).password(&tenant_token(A)).send().await;
    wire.answer().await;
    let answer = wire.ask("select repeat('x', 100000) from generate_series(1, 100)").await;
    assert_eq!(answer.iter().filter(|m| m.tag == 'D' && m.body.len() == 100_006).count(), 100);
    proxy.stop().await;
}

/// An address of this machine that is not loopback, if it has one: nothing is sent to find out.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[tokio::test]
async fn a_token_in_clear_text_stays_on_this_machine() {
    let Some(ip) = outer_address() else {
        return eprintln!("this machine has no address but loopback: nothing tested");
    };
    for (line, expected) in [("", "E"), ("allow_cleartext_token = true", "R")] {
        let proxy = proxy::new()
            .set(line)
            .edit(move |config| config.listen.addresses = vec![ip])
            .run()
            .await;
        let mut wire = Wire::connect(proxy.address).await;
        wire.startup(V3_0, &[("user", "app"), ("database", &proxy.database.name)]).send().await;
        let first = wire.receive().await.unwrap();
        assert_eq!(first.tag.to_string(), expected);
        if first.tag == 'E' {
            assert_eq!(first.field('C'), "28000");
            assert!(first.field('H').contains("sslmode=require"));
        }
        proxy.stop().await;
    }
}
