//! What the clients of one tenant, or of one token, hold of the pool, however they have come to it.

use std::time::Duration;

use serde_json::json;

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Proxy, service_token, tenant_token, token};
use crate::support::wire::{Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";
const PID: &str = "select pg_backend_pid()";

async fn service(proxy: &Proxy) -> Wire {
    let (wire, answer) = Wire::login(proxy, "app", &service_token(json!("*")), &[]).await;
    assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
    wire
}

/// A client of another tenant is served, in much less time than somebody may wait.
async fn is_served(proxy: &Proxy, tenant: &str, count: &str) {
    let served = async { Wire::tenant(proxy, tenant).await.value(COUNT).await };
    let served = tokio::time::timeout(Duration::from_secs(15), served).await;
    assert_eq!(served.expect("others have it all"), count);
}

#[tokio::test]
async fn nobody_waits_for_a_share_with_a_server_connection_in_hand() {
    let proxy = proxy::new().set("default_pool_size = 4").run().await;
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.ask("begin; select 1").await;
        holders.push(wire);
    }
    let mut chooser = service(&proxy).await;
    chooser.ask("begin").await;
    chooser.query("select set_tenant('a')").send().await;
    let told = tokio::time::timeout(Duration::from_secs(10), chooser.answer()).await;
    let told = told.expect("it waits with a connection in hand");
    assert_eq!((error(&told).field('C'), error(&told).field('D')), ("53300", "cloison: C302"));
    // The session goes on, with whoever has room.
    assert_eq!(tags(&chooser.ask("rollback").await), "CZ");
    assert_eq!(tags(&chooser.ask("begin").await), "CZ");
    assert_eq!(tags(&chooser.ask("select set_tenant('b')").await), "TDCZ");
    assert_eq!(chooser.value(COUNT).await, "5");
    assert_eq!(tags(&chooser.ask("commit").await), "CZ");
    drop(chooser);
    is_served(&proxy, B, "5").await;
    proxy.stop().await;
}

#[tokio::test]
async fn who_acts_for_no_tenant_has_no_more_than_a_share() {
    let proxy = proxy::new().set("default_pool_size = 4\nmax_client_conn = 16").run().await;
    let mut sessions = Vec::new();
    for number in 0..4 {
        let mut wire = Wire::connect(proxy.address).await;
        let parameters = [("user", "app"), ("database", &proxy.database.name)];
        wire.startup(crate::support::wire::V3_0, &parameters);
        wire.password(&service_token(json!("*"))).query("begin; select 1").send().await;
        if number < 3 {
            wire.until('D').await;
            wire.answer().await;
        }
        sessions.push(wire);
    }
    is_served(&proxy, B, "5").await;
    // Whoever is chosen counts in place of nobody.
    let mut chosen = sessions.remove(0);
    assert_eq!(tags(&chosen.ask("select set_tenant('a')").await), "TDCZ");
    let mut waited = sessions.pop().unwrap();
    let served = tokio::time::timeout(Duration::from_secs(15), waited.until('D')).await;
    assert_eq!(rows(&served.expect("the place is free")), ["1"]);
    // The fourth place was left to others, and somebody who was chosen needs it now.
    waited.answer().await;
    waited.ask("rollback").await;
    if !proxy::by_transaction() {
        // Each login waits for a place as well.
        return proxy.stop().await;
    }
    // The same of clients.
    let last_words = loop {
        let (wire, answer) = Wire::login(&proxy, "app", &service_token(json!("*")), &[]).await;
        let last = answer.last().unwrap();
        if last.tag == 'E' {
            break (last.field('C').to_owned(), last.field('D').to_owned());
        }
        sessions.push(wire);
        assert!(sessions.len() < 16, "all clients may act for no tenant");
    };
    assert_eq!(last_words, ("53300".to_owned(), "cloison: C016".to_owned()));
    is_served(&proxy, B, "5").await;
    proxy.stop().await;
}

#[tokio::test]
async fn logins_with_settings_of_their_own_leave_others_their_connections() {
    let proxy = proxy::new().by_transaction().set("default_pool_size = 4").run().await;
    let mut other = Wire::tenant(&proxy, B).await;
    let mut pid = other.value(PID).await;
    for _ in 0..10 {
        pid = other.value(PID).await;
    }
    for number in 0..8 {
        let value = (1_000_000 + number).to_string();
        let own = [("statement_timeout", value.as_str())];
        let (mut wire, answer) = Wire::login(&proxy, "app", &tenant_token(A), &own).await;
        assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
        assert_eq!(wire.value(COUNT).await, "3");
    }
    assert_eq!(other.value(PID).await, pid);
    // A connection that a login needs counts as any other.
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.ask("begin; select 1").await;
        holders.push(wire);
    }
    let mut waits = Wire::connect(proxy.address).await;
    let (name, own) = (proxy.database.name.as_str(), "2000000");
    let parameters = [("user", "app"), ("database", name), ("statement_timeout", own)];
    waits.startup(crate::support::wire::V3_0, &parameters);
    waits.password(&tenant_token(A)).send().await;
    let told = tokio::time::timeout(Duration::from_secs(1), waits.answer()).await;
    assert!(told.is_err(), "it does not wait for its share");
    drop(holders);
    assert_eq!(waits.answer().await.last().unwrap().tag, 'Z');
    proxy.stop().await;
}

/// Two tenants together take every client connection and every server connection of their pool.
#[tokio::test]
async fn tenants_leave_places_to_superadmins_and_the_owner() {
    let proxy = proxy::new()
        .set("default_pool_size = 2\nmax_client_conn = 4\nreserved_client_conn = 3")
        .run()
        .await;
    let mut holders = Vec::new();
    for tenant in [A, B] {
        let mut wire = Wire::tenant(&proxy, tenant).await;
        assert_eq!(tags(&wire.ask("begin; select 1").await), "CTDCZ");
        holders.push(wire);
    }
    // With session pooling these wait for a server connection.
    for _ in 0..2 {
        let mut wire = Wire::connect(proxy.address).await;
        let parameters = [("user", "app"), ("database", &proxy.database.name)];
        wire.startup(crate::support::wire::V3_0, &parameters);
        wire.password(&tenant_token(A)).send().await;
        wire.until('R').await;
        holders.push(wire);
    }
    let told = Wire::refused(&proxy, "app", &tenant_token(B), &[]).await;
    assert_eq!((told.field('C'), told.field('D')), ("53300", "cloison: C010"));

    let in_time = |login| tokio::time::timeout(Duration::from_secs(10), login);
    let (superadmin, owner) = (token("superadmin", json!({})), token("owner", json!({})));
    let acting = [("options", "-c cloison.tenant=a -c cloison.write=on")];
    let logins = [
        ("cloison_superadmin", &superadmin, 0),
        ("cloison_owner", &owner, 0),
        ("cloison_superadmin", &superadmin, acting.len()),
    ];
    let mut privileged = Vec::new();
    for (user, token, count) in logins {
        let login = in_time(Wire::login(&proxy, user, token, &acting[..count])).await;
        let (mut wire, answer) = login.expect("it waits for what tenants hold");
        let last = answer.last().unwrap();
        assert_eq!(last.tag, 'Z', "{user}: {}", last.field('M'));
        assert_eq!(wire.value("select 1").await, "1");
        privileged.push(wire);
    }
    assert_eq!(privileged[2].value(COUNT).await, "3");
    // These places are counted, too, and only a token of that kind keeps one.
    let told = Wire::refused(&proxy, "cloison_superadmin", &superadmin, &[]).await;
    assert_eq!(told.field('D'), "cloison: C010");
    drop(privileged.pop());
    for _ in 0..3 {
        let (_, answer) = Wire::login(&proxy, "cloison_owner", &tenant_token(A), &[]).await;
        assert_eq!(answer.last().map(|told| told.tag), Some('E'));
    }
    let again = async {
        loop {
            let (wire, answer) = Wire::login(&proxy, "cloison_owner", &owner, &[]).await;
            match answer.last() {
                Some(last) if last.tag == 'Z' => return wire,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(10), again).await.expect("no place is free"));
    proxy.stop().await;
}
