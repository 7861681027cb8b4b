//! What a connection may open with, and what it is answered.

use std::net::SocketAddr;
use std::time::Duration;

use cloison::observe::Event;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::postgres::A;
use crate::support::proxy::{self, Proxy, tenant_token, token};
use crate::support::wire::{
    GSSENC_REQUEST, Message, SSL_REQUEST, V3_0, Wire, cancel_key, error, rows, statuses, tags,
};

async fn opened(address: SocketAddr, version: u32, parameters: &[(&str, &str)]) -> Vec<Message> {
    let mut wire = Wire::connect(address).await;
    wire.startup(version, parameters).password(&tenant_token(A)).send().await;
    wire.answer().await
}

async fn is_closed_unheard(proxy: &Proxy, bytes: &[u8]) -> bool {
    let mut wire = Wire::connect(proxy.address).await;
    wire.raw(bytes).send().await;
    wire.receive_byte().await.is_none()
}

#[tokio::test]
async fn requests_for_encryption_are_answered_once_each() {
    let proxy = proxy::new().run().await;
    for order in [[GSSENC_REQUEST, SSL_REQUEST], [SSL_REQUEST, GSSENC_REQUEST]] {
        let mut wire = Wire::connect(proxy.address).await;
        for request in order {
            wire.raw(&request).send().await;
            assert_eq!(wire.receive_byte().await, Some(b'N'));
        }
        let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
        wire.startup(V3_0, &parameters).password(&tenant_token(A)).send().await;
        assert_eq!(wire.answer().await.last().unwrap().tag, 'Z');
    }
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut wire = Wire::connect(proxy.address).await;
        wire.raw(&request).send().await;
        assert_eq!(wire.receive_byte().await, Some(b'N'));
        wire.raw(&request).send().await;
        assert_eq!(wire.receive_byte().await, None);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn protocol_3_0_has_a_key_of_four_bytes_and_3_2_of_thirty_two() {
    let proxy = proxy::new().run().await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    for (version, length) in [(V3_0, 4), (0x0003_0002, 32)] {
        let answer = opened(proxy.address, version, &parameters).await;
        assert!(!tags(&answer).contains('v'), "{version:x}");
        assert_eq!(cancel_key(&answer).len(), 4 + length, "{version:x}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn newer_protocols_and_unknown_options_are_negotiated() {
    let proxy = proxy::new().run().await;
    let name = proxy.database.name.clone();
    let parameters = [("user", "app"), ("database", &name[..]), ("_pq_.x", "1")];
    for (version, agreed, count) in [(0x0003_270f, 0x0003_0002, 2), (V3_0, V3_0, 3)] {
        let answer = opened(proxy.address, version, &parameters[..count]).await;
        assert_eq!(answer[0].tag, 'v');
        let mut expected = Vec::from(agreed.to_be_bytes());
        let options: &[u8] = if count == 3 { b"\0\0\0\x01_pq_.x\0" } else { b"\0\0\0\0" };
        expected.extend(options);
        assert_eq!(answer[0].body, expected);
        assert_eq!(answer.last().unwrap().tag, 'Z');
    }
    proxy.stop().await;
}

#[tokio::test]
async fn reset_goes_back_to_what_the_client_started_with() {
    let proxy = proxy::new().pool_size(1).set("allowed_settings = [\"my.*\"]").run().await;
    let own = [
        ("DateStyle", "SQL, DMY"),
        ("application_name", "mine"),
        ("options", r"-c search_path=pg_temp,\ public --statement-timeout=7s -cmy.key=v"),
        ("TimeZone", "Asia/Kolkata"),
    ];
    let (mut wire, answer) = Wire::login(&proxy, "app", &tenant_token(A), &own).await;
    for told in [("DateStyle", "SQL, DMY"), ("application_name", "mine")] {
        let told = (told.0.to_owned(), told.1.to_owned());
        assert!(statuses(&answer).contains(&told), "{told:?}");
    }
    for (setting, other, expected) in [
        ("datestyle", "ISO, YMD", "SQL, DMY"),
        ("application_name", "x", "mine"),
        ("search_path", "public", "pg_temp, public"),
        ("statement_timeout", "1min", "7s"),
        ("my.key", "w", "v"),
        ("timezone", "UTC", "Asia/Kolkata"),
    ] {
        for reset in [&format!("reset {setting}")[..], "reset all", "discard all"] {
            wire.ask(&format!("set {setting} = '{other}'")).await;
            assert_eq!(wire.value(&format!("show {setting}")).await, other);
            assert!(!tags(&wire.ask(reset).await).contains('E'), "{reset}");
            assert_eq!(wire.value(&format!("show {setting}")).await, expected, "{reset}");
        }
    }
    assert_eq!(wire.value("select count(*) from note").await, "3");
    drop(wire);
    // The next client did not ask for any of it.
    let (mut other, answer) = Wire::login(&proxy, "app", &tenant_token(A), &[]).await;
    assert!(statuses(&answer).contains(&("DateStyle".to_owned(), "ISO, MDY".to_owned())));
    assert_eq!(other.value("show statement_timeout").await, "0");
    proxy.stop().await;
}

#[tokio::test]
async fn dangerous_parameters_are_refused_by_name() {
    let proxy = proxy::new().run().await;
    for (name, value, named) in [
        ("replication", "database", "replication"),
        ("role", "postgres", "role"),
        ("Session_Authorization", "postgres", "Session_Authorization"),
        ("row_security", "off", "row_security"),
        ("cloison.context", "x", "cloison.context"),
        ("options", "-c session_replication_role=replica", "session_replication_role"),
        ("options", "--role=postgres", "role"),
        ("options", "-ccloison.context=x", "cloison.context"),
        ("no_such_parameter", "1", "no_such_parameter"),
    ] {
        let told = Wire::refused(&proxy, "app", &tenant_token(A), &[(name, value)]).await;
        assert_eq!(told.field('C'), "0A000", "{name}");
        assert!(told.field('M').contains(&format!("\"{named}\"")), "{}", told.field('M'));
    }
    // Nothing of what follows asks for anything.
    let replication = [("replication", "false")];
    let (_, answer) = Wire::login(&proxy, "app", &tenant_token(A), &replication).await;
    assert_eq!(answer.last().unwrap().tag, 'Z');
    proxy.stop().await;
}

#[tokio::test]
async fn a_refused_parameter_is_refused_before_the_token_is_asked_for() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::connect(proxy.address).await;
    let name = &proxy.database.name[..];
    wire.startup(V3_0, &[("user", "app"), ("database", name), ("role", "x")]).send().await;
    assert_eq!(wire.receive().await.unwrap().tag, 'E');
    proxy.stop().await;
}

#[tokio::test]
async fn a_parameter_given_twice_is_refused() {
    let proxy = proxy::new().run().await;
    for name in ["user", "USER", "database"] {
        let twice = [("user", "a"), ("database", "x"), (name, "b")];
        let answer = opened(proxy.address, V3_0, &twice).await;
        assert!(!tags(&answer).contains(['R', 'Z']), "{name}: {}", tags(&answer));
    }
    proxy.stop().await;
}

#[tokio::test]
async fn an_unknown_database_is_told_as_postgres_tells_it() {
    let proxy = proxy::new().run().await;
    let answer = opened(proxy.address, V3_0, &[("user", "app"), ("database", "postgres")]).await;
    assert_eq!(error(&answer).field('C'), "3D000");
    assert_eq!(error(&answer).field('M'), "database \"postgres\" does not exist");
    // Without a token nobody learns which databases there are.
    let mut wire = Wire::connect(proxy.address).await;
    wire.startup(V3_0, &[("user", "app"), ("database", "no")]).password("x").send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "28P01");
    proxy.stop().await;
}

#[tokio::test]
async fn an_invalid_value_gets_the_servers_own_words() {
    let proxy = proxy::new().run().await;
    let own = [("DateStyle", "nonsense")];
    let told = Wire::refused(&proxy, "app", &tenant_token(A), &own).await;
    assert_eq!(told.field('C'), "22023");
    assert_eq!(told.field('M'), "invalid value for parameter \"DateStyle\": \"nonsense\"");
    // Drivers try again after class 08, as after an outage.
    let own = [("client_encoding", "MULE_INTERNAL")];
    let told = Wire::refused(&proxy, "app", &tenant_token(A), &own).await;
    assert_eq!(told.field('C'), "0A000");
    assert!(told.field('M').contains("MULE_INTERNAL"), "{}", told.field('M'));
    // The slot of the connection that failed is free again.
    assert_eq!(proxy.tenant(A).await.query("select * from note", &[]).await.unwrap().len(), 3);
    proxy.stop().await;
}

#[tokio::test]
async fn nothing_but_the_password_is_heard_before_the_password() {
    let proxy = proxy::new().run().await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    // Every type that there could be, those of SASL's answers and of GSSAPI's among them: they are
    // a password's.
    for tag in (0..=u8::MAX).map(char::from).filter(|tag| *tag != 'p') {
        let mut wire = Wire::connect(proxy.address).await;
        wire.startup(V3_0, &parameters).message(tag, b"select 1\0");
        wire.password(&tenant_token(A)).send().await;
        let answer = wire.answer().await;
        assert_eq!(tags(&answer), "RE", "{tag:?}");
        assert_eq!(error(&answer).field('D'), "cloison: C008", "{tag:?}");
    }
    for length in [0u32, 3, 0x8000_0000, u32::MAX, 0x3fff_ffff] {
        let mut wire = Wire::connect(proxy.address).await;
        wire.startup(V3_0, &parameters).raw(b"p").raw(&length.to_be_bytes()).send().await;
        let code = if (4..0x4000_0000).contains(&length) { "C100" } else { "C009" };
        let answer = wire.answer().await;
        assert_eq!(tags(&answer), "RE", "{length}");
        assert_eq!(error(&answer).field('D'), format!("cloison: {code}"), "{length}");
    }
    for body in [&b""[..], b"x", b"x\0y\0", b"\xff\xfe\0"] {
        let mut wire = Wire::connect(proxy.address).await;
        wire.startup(V3_0, &parameters).message('p', body).send().await;
        assert_eq!(error(&wire.answer().await).field('C'), "08P01", "{body:?}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_message_behind_the_password_waits_for_the_session() {
    let proxy = proxy::new().run().await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    let mut wire = Wire::connect(proxy.address).await;
    wire.startup(V3_0, &parameters).password(&tenant_token(A));
    wire.query("select count(*) from note").send().await;
    assert!(!tags(&wire.answer().await).contains('D'));
    assert_eq!(rows(&wire.answer().await), ["3"]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_password_of_64_kib_is_heard_and_a_longer_one_is_told_so() {
    let proxy = proxy::new().run().await;
    let padded = token("tenant", json!({"tenant_id": A, "pad": "x".repeat(45_000)}));
    assert!((60_000..65_536).contains(&padded.len()), "{}", padded.len());
    let (_, answer) = Wire::login(&proxy, "app", &padded, &[]).await;
    assert_eq!(answer.last().unwrap().tag, 'Z');
    for length in [65_537, 1_000_000] {
        let told = Wire::refused(&proxy, "app", &"x".repeat(length), &[]).await;
        assert_eq!((told.field('C'), told.field('D')), ("28P01", "cloison: C100"), "{length}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn odd_packets_close_the_connection() {
    let proxy = proxy::new().run().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0, 0, 7, 0, 3, 0],
        &[0, 0, 0x27, 0x11, 0, 3, 0, 0],
        &[0xff; 64],
        &[0; 64],
        &[0, 0, 0, 9, 0, 2, 0, 0, 0],
        &[0, 0, 0, 9, 4, 0xd2, 0x16, 0x2f, 0],
        &[0, 0, 0, 12, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1],
        &[&[0, 0, 0, 14, 0, 3, 0, 0], &b"user\0x"[..]].concat(),
        &[&[0, 0, 0, 16, 0, 3, 0, 0], &b"user\0\xff\0\0"[..]].concat(),
        &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0],
    ] {
        assert!(is_closed_unheard(&proxy, bytes).await, "{bytes:?}");
    }
    let mut wire = Wire::connect(proxy.address).await;
    wire.startup(V3_0, &[("database", "x")]).send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "28000");
    assert_eq!(proxy.tenant(A).await.query("select * from note", &[]).await.unwrap().len(), 3);
    proxy.stop().await;
}

#[tokio::test]
async fn a_startup_packet_may_come_byte_by_byte() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::connect(proxy.address).await;
    wire.socket.set_nodelay(true).unwrap();
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    wire.startup(V3_0, &parameters).password(&tenant_token(A)).query("select 1");
    for byte in wire.out.split() {
        wire.socket.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(wire.answer().await.last().unwrap().tag, 'Z');
    assert_eq!(rows(&wire.answer().await), ["1"]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_shown_out() {
    let proxy = proxy::new().set("client_login_timeout = \"300ms\"").run().await;
    let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
    let mut silent = Wire::connect(proxy.address).await;
    let mut half = Wire::connect(proxy.address).await;
    half.raw(&[0, 0, 0]).send().await;
    let mut mute = Wire::connect(proxy.address).await;
    mute.startup(V3_0, &parameters).send().await;
    assert_eq!(silent.receive_byte().await, None);
    assert_eq!(half.receive_byte().await, None);
    assert_eq!(tags(&mute.answer().await), "R");
    // The time is one for all of it: a byte now and then does not make it longer.
    let mut slow = Wire::connect(proxy.address).await;
    let began = std::time::Instant::now();
    slow.startup(V3_0, &parameters).message('p', &[b'x'; 1000]);
    for byte in slow.out.split() {
        if slow.socket.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    proxy.stop().await;
}

#[tokio::test]
async fn the_session_is_not_bound_by_the_login_timeout() {
    let proxy = proxy::new().set("client_login_timeout = \"300ms\"").run().await;
    let client = proxy.tenant(A).await;
    client.query("select pg_sleep(0.5)", &[]).await.unwrap();
    proxy.stop().await;
}

#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let mut proxy = proxy::new().set("max_client_conn = 2").run().await;
    let first = Wire::tenant(&proxy, A).await;
    let _second = Wire::connect(proxy.address).await;
    let mut connected = 0;
    proxy
        .observed(|event| {
            connected += usize::from(matches!(event, Event::ClientConnected { .. }));
            (connected == 2).then_some(())
        })
        .await;
    let told = Wire::refused(&proxy, "app", &tenant_token(A), &[]).await;
    assert_eq!(told.field('C'), "53300");
    assert_eq!(told.field('M'), "sorry, too many clients already");
    drop(first);
    proxy.session_ended().await;
    proxy.stop().await;
}

#[tokio::test]
async fn the_client_encoding_is_told_in_the_servers_words() {
    let proxy = proxy::new().run().await;
    for text in ["'utf-8'", "UTF8", "unicode"] {
        let own = [("client_encoding", text)];
        let (_, answer) = Wire::login(&proxy, "app", &tenant_token(A), &own).await;
        let told = ("client_encoding".to_owned(), "UTF8".to_owned());
        assert!(statuses(&answer).contains(&told), "{text}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn the_notice_about_a_long_application_name_arrives() {
    let proxy = proxy::new().run().await;
    for _ in 0..2 {
        let name = "n".repeat(100);
        let own = [("application_name", &name[..])];
        let (_, answer) = Wire::login(&proxy, "app", &tenant_token(A), &own).await;
        assert!(answer.iter().any(|m| m.tag == 'N' && m.field('C') == "42622"));
    }
    proxy.stop().await;
}

/// The limit is one on sockets, and not only on those that are served.
#[tokio::test]
async fn connections_beyond_the_limit_are_not_heard_without_end() {
    const MANY: usize = 400;
    const BEYOND: usize = 64;
    let mut proxy = proxy::new().set("max_client_conn = 2").run().await;
    let mut first = Wire::tenant(&proxy, A).await;
    let _second = Wire::connect(proxy.address).await;
    let (mut heard, mut closed) = (Vec::new(), 0);
    for _ in 0..MANY {
        heard.push(Wire::connect(proxy.address).await);
    }
    // Whoever is heard has a second to say something.
    let mut still_open = 0;
    for wire in &mut heard {
        let waited = Duration::from_millis(if closed + still_open == 0 { 300 } else { 1 });
        match tokio::time::timeout(waited, wire.receive_byte()).await {
            Ok(None) => closed += 1,
            Ok(Some(byte)) => panic!("{byte}"),
            Err(_) => still_open += 1,
        }
    }
    assert!(still_open <= BEYOND && still_open > 0 && closed >= MANY - 2 * BEYOND, "{still_open}");
    let beyond = |event: &Event| matches!(event, Event::ClientsDropped { .. }).then_some(());
    proxy.observed(beyond).await;
    assert_eq!(first.value("select count(*) from note").await, "3");
    // Once they have had their time, one more is told why.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let told = Wire::refused(&proxy, "app", &tenant_token(A), &[]).await;
    assert_eq!(told.field('M'), "sorry, too many clients already");
    proxy.stop().await;
}

#[tokio::test]
async fn what_set_refuses_no_session_starts_with() {
    let proxy = proxy::new().set("allowed_settings = [\"shop.*\"]").run().await;
    let refused = |name: &'static str, value: &'static str| {
        let proxy = &proxy;
        async move { Wire::refused(proxy, "app", &tenant_token(A), &[(name, value)]).await }
    };
    for (name, value) in [
        ("work_mem", "1GB"),
        ("WORK_MEM", "1GB"),
        ("hash_mem_multiplier", "100"),
        ("max_parallel_workers_per_gather", "32"),
        ("sort_mem", "1GB"),
        ("app.user", "7"),
        ("options", "-c work_mem=1GB"),
        ("options", "-cwork_mem=1GB"),
        ("options", "--work-mem=1GB"),
        ("options", "--Hash-Mem-Multiplier=100 -c search_path=public"),
        ("options", "-c app.user=7"),
    ] {
        let told = refused(name, value).await;
        assert_eq!(
            (told.field('C'), told.field('D')),
            ("0A000", "cloison: C004"),
            "{name} {value}"
        );
    }
    let parameters =
        [("shop.user", "7"), ("DateStyle", "ISO"), ("options", "-c search_path=public")];
    let (mut wire, _) = Wire::login(&proxy, "app", &tenant_token(A), &parameters).await;
    assert_eq!(wire.value("select current_setting('shop.user')").await, "7");
    proxy.stop().await;
    // Who may SET anything may start with anything, but for what is ours.
    let proxy = proxy::new().unfiltered().run().await;
    let parameters = [("work_mem", "1MB"), ("options", "--app.user=7")];
    let (mut wire, _) = Wire::login(&proxy, "app", &tenant_token(A), &parameters).await;
    assert_eq!(wire.value("show work_mem").await, "1MB");
    assert_eq!(wire.value("select current_setting('app.user')").await, "7");
    for name in ["role", "session_authorization", "replication", "cloison.context"] {
        let told = Wire::refused(&proxy, "app", &tenant_token(A), &[(name, "1")]).await;
        assert_eq!(told.field('D'), "cloison: C003", "{name}");
    }
    proxy.stop().await;
}
