//! What one tenant may take of what all share, whatever it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloison::observe::Event;
use futures_util::future::select_all;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::postgres::{A, B, Database};
use crate::support::proxy::{self, by_transaction, service_token, tenant_token};
use crate::support::wire::{Message, V3_0, Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";

fn told(answer: &[Message]) -> (String, String) {
    let error = error(answer);
    (error.field('C').to_owned(), error.field('D').to_owned())
}

fn is(code: &str, detail: &str) -> (String, String) {
    (code.to_owned(), format!("cloison: {detail}"))
}

/// What is said before the proxy closes.
async fn last_words(wire: &mut Wire) -> (String, String) {
    let mut all = Vec::new();
    while let Some(message) = wire.receive().await {
        all.push(message);
    }
    told(&all)
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let proxy = proxy::new().pool_size(1).set("query_timeout = \"300ms\"").run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    // No setting of its own lifts it.
    wire.ask("set statement_timeout = 0").await;
    for by_query in [true, false] {
        let started = Instant::now();
        let sql = "select pg_sleep(60)";
        let answer = if by_query {
            wire.ask(sql).await
        } else {
            wire.run(sql).sync().send().await;
            wire.answer().await
        };
        assert_eq!(told(&answer), is("57014", "C015"), "{}", tags(&answer));
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(wire.value(COUNT).await, "3");
    }
    // Many short ones are none that takes long; nor is a client that says nothing.
    for _ in 0..8 {
        wire.value("select pg_sleep(0.1)::text").await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(wire.value(COUNT).await, "3");
    proxy.stop().await;
}

/// Postgres cannot be cancelled while it waits for somebody to read.
#[tokio::test]
async fn a_result_that_nobody_reads_frees_its_connection() {
    let proxy = proxy::new().pool_size(1).set("query_timeout = \"300ms\"").run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.query("select repeat('x', 100000) from generate_series(1, 100000)").send().await;
    let next = async { Wire::tenant(&proxy, B).await.value(COUNT).await };
    let next = tokio::time::timeout(Duration::from_secs(30), next).await;
    assert_eq!(next.expect("the connection is kept for nobody"), "5");
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_sent_away() {
    let lines = "client_write_timeout = \"400ms\"";
    let proxy = proxy::new().pool_size(1).set(lines).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.query("select repeat('x', 100000) from generate_series(1, 100000)").send().await;
    let next = async { Wire::tenant(&proxy, B).await.value(COUNT).await };
    let next = tokio::time::timeout(Duration::from_secs(30), next).await;
    assert_eq!(next.expect("the connection is kept for nobody"), "5");
    // What takes long to come, or to be asked for, is something else.
    let mut slow = Wire::tenant(&proxy, B).await;
    assert_eq!(slow.value("select 1 from pg_sleep(1)").await, "1");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(slow.value(COUNT).await, "5");
    proxy.stop().await;
}

/// The proxy reads a long text for a while; its sender's next one waits until others had their turn.
#[tokio::test]
async fn many_long_texts_of_one_client_let_the_others_through() {
    const TEXTS: usize = 500;
    let proxy = proxy::new().pool_size(2).run().await;
    let mut busy = TcpStream::connect(proxy.address).await.unwrap();
    let mut login = Wire::over(&mut busy);
    login.startup(V3_0, &[("user", "app"), ("database", &proxy.database.name)]);
    login.password(&tenant_token(A)).send().await;
    login.answer().await;
    let (answers, requests) = busy.into_split();
    let mut other = Wire::tenant(&proxy, B).await;
    assert_eq!(other.value(COUNT).await, "5");
    let text = format!("select 1 in ({}1)", "1,".repeat(5_000));
    let done = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&done);
    let sending = tokio::spawn(async move {
        let mut requests = Wire::over(tokio::io::join(tokio::io::empty(), requests));
        let mut answers = Wire::over(tokio::io::join(answers, tokio::io::sink()));
        for _ in 0..TEXTS {
            requests.parse("", &text).flush();
        }
        let read = async {
            for _ in 0..TEXTS {
                assert_eq!(answers.receive().await.unwrap().tag, '1');
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::join!(requests.send(), read);
    });
    while done.load(Ordering::Relaxed) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = done.load(Ordering::Relaxed);
    assert_eq!(other.value("select 1").await, "1");
    let after = done.load(Ordering::Relaxed);
    assert!(after - before < TEXTS / 2, "{before} to {after} of {TEXTS}");
    sending.await.unwrap();
    proxy.stop().await;
}

/// Whoever asks for nothing gives its place to somebody who does, where the operator says so.
#[tokio::test]
async fn a_client_that_asks_for_nothing_is_sent_away() {
    let lines = "client_idle_timeout = \"600ms\"";
    let proxy = proxy::new().pool_size(2).set(lines).run().await;
    let mut idle = Wire::tenant(&proxy, A).await;
    assert_eq!(idle.value(COUNT).await, "3");
    let mut busy = Wire::tenant(&proxy, B).await;
    // Neither a long statement nor a transaction is idleness of that kind.
    assert_eq!(busy.value("select 1 from pg_sleep(1)").await, "1");
    busy.ask("begin").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(busy.value(COUNT).await, "5");
    busy.ask("commit").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(busy.value(COUNT).await, "5");
    }
    for wire in [&mut idle, &mut busy] {
        let told = tokio::time::timeout(Duration::from_secs(3), wire.answer()).await;
        let told = told.expect("within the limit");
        assert_eq!(error(&told).field('C'), "57P05");
        assert!(wire.receive().await.is_none());
    }
    proxy.stop().await;
}

/// A client that has said all that it has to say to come in, and waits.
async fn waiting(proxy: &proxy::Proxy, tenant: &str) -> Wire {
    let mut wire = Wire::connect(proxy.address).await;
    wire.startup(V3_0, &[("user", "app"), ("database", &proxy.database.name)]);
    wire.password(&tenant_token(tenant)).query(COUNT).send().await;
    wire
}

/// A client that has said all, and what it is told within a moment: `None` while it waits.
async fn told_soon(proxy: &proxy::Proxy, parameters: &[(&str, &str)]) -> (Wire, Option<String>) {
    let mut wire = Wire::connect(proxy.address).await;
    let ours = [("user", "app"), ("database", &proxy.database.name)];
    wire.startup(V3_0, &[&ours, parameters].concat());
    wire.password(&tenant_token(B)).send().await;
    let answer = tokio::time::timeout(Duration::from_millis(500), wire.answer()).await;
    let code = |answer: Vec<Message>| answer.last().map(|last| last.field('D').to_owned());
    (wire, answer.ok().and_then(code))
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_leaves_its_place() {
    let lines = "max_tenant_client_connections = 2";
    let proxy = proxy::new().pool_size(1).set(lines).run().await;
    let mut holder = Wire::tenant(&proxy, A).await;
    holder.ask("begin; select 1").await;
    // Settings of their own, so that they wait at the login in both modes.
    let parameters = [("TimeZone", "Asia/Tokyo")];
    let (first, told) = told_soon(&proxy, &parameters).await;
    assert_eq!(told, None);
    let (second, told) = told_soon(&proxy, &parameters).await;
    assert_eq!(told, None);
    let (_, told) = told_soon(&proxy, &parameters).await;
    assert_eq!(told.as_deref(), Some("cloison: C016"));
    drop((first, second));
    let started = Instant::now();
    let mut third = loop {
        let (wire, told) = told_soon(&proxy, &parameters).await;
        if told.is_none() {
            break wire;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "they count still");
    };
    // What it sends while it waits is answered then.
    third.query(COUNT).send().await;
    holder.ask("commit").await;
    drop(holder);
    assert_eq!(third.until('D').await.last().unwrap().columns(), ["5"]);
    proxy.stop().await;
}

/// Nothing is set but the sizes.
#[tokio::test]
async fn by_default_one_tenant_leaves_room_for_the_others() {
    let proxy = proxy::new().set("default_pool_size = 4\nmax_client_conn = 16").run().await;
    let (mut open, mut asleep) = (Wire::tenant(&proxy, A).await, Wire::tenant(&proxy, A).await);
    open.ask("begin; select 1").await;
    asleep.query("select pg_sleep(60)").send().await;
    let mut deaf = Wire::tenant(&proxy, A).await;
    deaf.query("select repeat('x', 100000) from generate_series(1, 100000)").send().await;
    let mut others = Vec::new();
    for _ in 0..9 {
        others.push(waiting(&proxy, A).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Its share of the clients is used up as well.
    let refused = async {
        loop {
            let (_, answer) = Wire::login(&proxy, "app", &tenant_token(A), &[]).await;
            if answer.last().is_some_and(|last| last.tag == 'E') {
                return told(&answer);
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await;
    assert_eq!(refused.expect("it has all places"), is("53300", "C016"));
    for _ in 0..3 {
        let next = async { Wire::tenant(&proxy, B).await.value(COUNT).await };
        let next = tokio::time::timeout(Duration::from_secs(20), next).await;
        assert_eq!(next.expect("one tenant has it all"), "5");
    }
    // What it has, it can use.
    open.ask("commit").await;
    drop(open);
    let waits = others.iter_mut().map(|other| Box::pin(other.until('D')));
    let served = tokio::time::timeout(Duration::from_secs(20), select_all(waits)).await;
    assert_eq!(served.expect("its own place is nobody's").0.last().unwrap().tag, 'D');
    drop((asleep, deaf, others));
    proxy.stop().await;
}

/// A statement of about so many bytes.
fn long(bytes: usize, number: usize) -> String {
    format!("select {number} /* {} */", "x".repeat(bytes))
}

#[tokio::test]
async fn a_session_keeps_so_many_bytes() {
    let lines = "max_session_memory = 100000\nallowed_settings = [\"app.*\"]";
    let proxy = proxy::new().by_transaction().set(lines).run().await;
    let full = is("53400", "C017");
    let mut wire = Wire::tenant(&proxy, A).await;
    let mut kept = 0;
    let refused = loop {
        wire.parse(&format!("s{kept}"), &long(20_000, kept)).sync().send().await;
        let answer = wire.answer().await;
        if tags(&answer) != "1Z" {
            break told(&answer);
        }
        kept += 1;
    };
    assert_eq!((refused, kept), (full.clone(), 4));
    // The session goes on, with what it has.
    wire.bind("", "s3", &[]).execute("", 0).sync().send().await;
    assert_eq!(rows(&wire.answer().await), ["3"]);
    wire.message('C', b"Ss0\0").parse("s4", &long(20_000, 4)).sync().send().await;
    assert_eq!(tags(&wire.answer().await), "31Z");
    for name in ["s1", "s2", "s3", "s4"] {
        wire.message('C', format!("S{name}\0").as_bytes());
    }
    wire.sync().send().await;
    assert_eq!(tags(&wire.answer().await), "3333Z");
    // Portals, which end with their transaction.
    for _ in 0..2 {
        wire.ask("begin").await;
        wire.parse("", "select 1");
        for n in 0..20 {
            wire.bind(&format!("{n}{}", "p".repeat(7_000)), "", &[]);
        }
        wire.sync().send().await;
        let answer = wire.answer().await;
        assert_eq!(told(&answer), full, "{}", tags(&answer));
        wire.ask("rollback").await;
    }
    // Settings, which go along from one server connection to the next.
    for n in 0..4 {
        let answer = wire.ask(&format!("set app.a{n} = '{}'", "x".repeat(40_000))).await;
        match n {
            0 | 1 => assert_eq!(tags(&answer), "CZ", "{n}"),
            _ => assert_eq!(told(&answer), full, "{n}"),
        }
    }
    assert_eq!(wire.value("select length(current_setting('app.a1'))").await, "40000");
    wire.ask("reset app.a0").await;
    assert_eq!(tags(&wire.ask(&format!("set app.a9 = '{}'", "x".repeat(9_000))).await), "CZ");
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_keeps_so_many_bytes() {
    let lines = "max_tenant_memory = 300000";
    let proxy = proxy::new().by_transaction().set(lines).run().await;
    let mut first = Wire::tenant(&proxy, A).await;
    first.parse("a", &long(200_000, 1)).sync().send().await;
    assert_eq!(tags(&first.answer().await), "1Z");
    let mut second = Wire::tenant(&proxy, A).await;
    second.parse("b", &long(150_000, 2)).sync().send().await;
    assert_eq!(told(&second.answer().await), is("53400", "C018"));
    assert_eq!(second.value(COUNT).await, "3");
    let mut other = Wire::tenant(&proxy, B).await;
    other.parse("c", &long(200_000, 3)).sync().send().await;
    assert_eq!(tags(&other.answer().await), "1Z");
    // What a client kept goes with it.
    drop(first);
    let again = async {
        loop {
            second.parse("b", &long(150_000, 2)).sync().send().await;
            if tags(&second.answer().await) == "1Z" {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is counted for ever");
    proxy.stop().await;
}

#[tokio::test]
async fn a_transaction_that_lasts_too_long_ends_with_its_session() {
    let proxy = proxy::new().pool_size(1).set("transaction_timeout = \"500ms\"").run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    // Many short ones are none that lasts.
    for _ in 0..8 {
        wire.ask("begin; select pg_sleep(0.1); commit").await;
    }
    wire.ask("begin; insert into note (id) values (10)").await;
    let busy = async {
        loop {
            wire.query("select pg_sleep(0.05)").send().await;
            while let Some(message) = wire.receive().await {
                match message.tag {
                    'Z' => break,
                    'E' => return told(&[message]),
                    _ => {}
                }
            }
        }
    };
    assert_eq!(busy.await, is("25P04", "C015"));
    let mut next = Wire::tenant(&proxy, A).await;
    assert_eq!(next.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_sits_on_a_transaction_is_sent_away() {
    let proxy = proxy::new().pool_size(1).set("idle_transaction_timeout = \"300ms\"").run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.ask("set idle_in_transaction_session_timeout = 0").await;
    wire.ask("begin; insert into note (id) values (10)").await;
    // What runs is not idle.
    wire.value("select pg_sleep(0.8)::text").await;
    assert_eq!(last_words(&mut wire).await, is("25P03", "C015"));
    let mut next = Wire::tenant(&proxy, A).await;
    assert_eq!(next.value(COUNT).await, "3");
    // Idle outside a transaction is nobody's business.
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(next.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_has_so_many_clients_and_no_more() {
    let proxy = proxy::new().set("max_tenant_client_connections = 2").run().await;
    let (_one, two) = (Wire::tenant(&proxy, A).await, Wire::tenant(&proxy, A).await);
    let refused = Wire::refused(&proxy, "app", &tenant_token(A), &[]).await;
    assert_eq!((refused.field('C'), refused.field('D')), ("53300", "cloison: C016"));
    let mut other = Wire::tenant(&proxy, B).await;
    assert_eq!(other.value(COUNT).await, "5");
    drop(two);
    // Its place becomes free a moment later.
    let mut again = loop {
        if let Ok(client) = proxy.connect("app", &tenant_token(A), "").await {
            break client;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(again.transaction().await.unwrap().query(COUNT, &[]).await.unwrap().len(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_that_waits_for_its_share_is_overtaken() {
    let lines = "max_tenant_connections = 1\nquery_wait_timeout = \"400ms\"";
    let proxy = proxy::new().pool_size(4).set(lines).run().await;
    let mut holder = Wire::tenant(&proxy, A).await;
    holder.ask("begin; select 1").await;
    if by_transaction() {
        let mut waiter = Wire::tenant(&proxy, A).await;
        waiter.query(COUNT).send().await;
        let mut other = Wire::tenant(&proxy, B).await;
        assert_eq!(other.value(COUNT).await, "5");
        assert_eq!(last_words(&mut waiter).await, is("53300", "C302"));
        let mut waiter = Wire::tenant(&proxy, A).await;
        waiter.query(COUNT).send().await;
        holder.ask("commit").await;
        assert_eq!(tags(&waiter.answer().await), "TDCZ");
    } else {
        let refused = Wire::refused(&proxy, "app", &tenant_token(A), &[]).await;
        assert_eq!((refused.field('C'), refused.field('D')), ("53300", "cloison: C302"));
        let mut other = Wire::tenant(&proxy, B).await;
        assert_eq!(other.value(COUNT).await, "5");
        drop(holder);
        let mut next = Wire::tenant(&proxy, A).await;
        assert_eq!(next.value(COUNT).await, "3");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn messages_and_savepoints_are_counted() {
    let lines = "max_savepoints = 3\nmax_pipeline = 16\nmax_packet_size = 10000";
    let proxy = proxy::new().pool_size(2).set(lines).run().await;
    for repeat in 0..2 {
        let mut wire = Wire::tenant(&proxy, A).await;
        // So many in each transaction, and no more, released or not.
        for _ in 0..2 {
            wire.ask("begin; savepoint a; release a; savepoint b; savepoint c; commit").await;
        }
        wire.ask("begin").await;
        for _ in 0..4 {
            if repeat == 0 {
                wire.query("savepoint a; release a");
            } else {
                wire.run("savepoint a").sync();
            }
        }
        wire.send().await;
        assert_eq!(last_words(&mut wire).await, is("54000", "C014"));
    }
    let mut wire = Wire::tenant(&proxy, A).await;
    for _ in 0..5 {
        for _ in 0..6 {
            wire.run("select 1");
        }
        wire.sync();
    }
    wire.send().await;
    for _ in 0..5 {
        assert_eq!(tags(&wire.answer().await), "12DC12DC12DC12DC12DC12DCZ");
    }
    // A pipeline has any number of messages.
    for _ in 0..100 {
        wire.run("select 1");
    }
    wire.sync().send().await;
    assert_eq!(tags(&wire.answer().await), format!("{}Z", "12DC".repeat(100)));
    wire.parse("", "select $1").bind("", "", &[&"x".repeat(9_000)]).execute("", 0).sync();
    wire.send().await;
    assert_eq!(tags(&wire.answer().await), "12DCZ");
    // The header alone is enough.
    wire.raw(b"B\x00\x01\x00\x00").send().await;
    assert_eq!(last_words(&mut wire).await, is("54000", "C014"));
    proxy.stop().await;
}

/// Any role may change its own defaults, and who logs in next would have them.
#[tokio::test]
async fn a_new_server_connection_with_other_defaults_is_refused() {
    let mut proxy = proxy::new().pool_size(4).unfiltered().run().await;
    let mut hostile = Wire::tenant(&proxy, A).await;
    let name = proxy.database.name.clone();
    let harm = format!("alter role current_user in database {name} set search_path = pg_temp, x");
    assert!(!tags(&hostile.ask(&harm).await).contains('E'));
    // A startup parameter that no connection has yet asks for a new one.
    let new = |name| vec![("TimeZone", name)];
    let refused = Wire::refused(&proxy, "app", &tenant_token(B), &new("Asia/Tokyo")).await;
    assert_eq!((refused.field('C'), refused.field('D')), ("57P03", "cloison: C309"));
    let settings = proxy.observed(|event| match event {
        Event::ServerUnfit { role, settings, .. } => Some((role.clone(), settings.clone())),
        _ => None,
    });
    assert_eq!(settings.await, ("it_app".to_owned(), "search_path".to_owned()));
    // What is open goes on.
    assert_eq!(hostile.value(COUNT).await, "3");
    let undo = format!("alter role it_app in database {name} reset all");
    proxy.database.superuser().await.batch_execute(&undo).await.unwrap();
    let (mut next, _) = Wire::login(&proxy, "app", &tenant_token(B), &new("Asia/Tokyo")).await;
    assert_eq!(next.value(COUNT).await, "5");
    proxy.stop().await;
}

#[tokio::test]
async fn a_password_that_was_changed_is_told() {
    let database = Database::new();
    let superuser = database.superuser().await;
    let role = format!("{}_app", database.name);
    let make = format!("create role {role} login password 'first' in role cloison_tenant");
    superuser.batch_execute(&make).await.unwrap();
    let login = role.clone();
    let proxy = proxy::new().unfiltered().edit(move |config| {
        let pool = config.pools.get_mut(&cloison::types::Access::Tenant).unwrap();
        pool.login.user = login;
        pool.login.password = Some(cloison::types::Secret::new("first".to_owned()));
    });
    let mut proxy = proxy.run_on(database).await;
    let mut hostile = Wire::tenant(&proxy, A).await;
    // That is the tenant's right, as Postgres sees it.
    assert!(!tags(&hostile.ask("alter role current_user password 'mine'").await).contains('E'));
    let new = [("TimeZone", "Asia/Tokyo")];
    let refused = Wire::refused(&proxy, "app", &tenant_token(B), &new).await;
    assert_eq!((refused.field('C'), refused.field('D')), ("57P03", "cloison: C309"));
    let told = proxy.observed(|event| match event {
        Event::ServerLockedOut { role, reason, fix, .. } => {
            Some((role.clone(), reason.clone(), fix.clone()))
        }
        _ => None,
    });
    let (told, reason, fix) = told.await;
    assert_eq!(told, role);
    assert!(reason.ends_with("(28P01)"), "{reason}");
    assert_eq!(hostile.value(COUNT).await, "3");
    let fix = fix.replace("<pools.tenant.password>", "first");
    superuser.batch_execute(&fix).await.unwrap();
    let (mut next, _) = Wire::login(&proxy, "app", &tenant_token(B), &new).await;
    assert_eq!(next.value(COUNT).await, "5");
    // The roles belong to the cluster, and other tests look at them.
    superuser.batch_execute(&format!("alter role {role} nologin")).await.unwrap();
    let _ = Wire::refused(&proxy, "app", &tenant_token(B), &[("TimeZone", "Asia/Seoul")]).await;
    let told = proxy.observed(|event| match event {
        Event::ServerLockedOut { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(told.await.ends_with("(28000)"));
    proxy.stop().await;
    superuser.batch_execute(&format!("drop role {role}")).await.unwrap();
}

/// Under a limit of a millisecond, the question is answered and names what was changed.
#[tokio::test]
async fn the_role_is_asked_about_in_its_own_time() {
    let mut proxy = proxy::new().run().await;
    let name = proxy.database.name.clone();
    let harm = format!("alter role it_app in database {name} set statement_timeout = '1ms'");
    proxy.database.superuser().await.batch_execute(&harm).await.unwrap();
    let _ = Wire::refused(&proxy, "app", &tenant_token(B), &[]).await;
    let settings = proxy.observed(|event| match event {
        Event::ServerUnfit { settings, .. } => Some(settings.clone()),
        _ => None,
    });
    assert_eq!(settings.await, "statement_timeout");
    proxy.stop().await;
}

#[tokio::test]
async fn an_operator_can_give_the_role_defaults() {
    let database = Database::new();
    let give = format!("alter role it_app in database {} set lock_timeout = '7s'", database.name);
    database.superuser().await.batch_execute(&give).await.unwrap();
    let proxy = proxy::new().set("role_settings = \"lock_timeout=7s\"").run_on(database).await;
    let mut wire = Wire::tenant(&proxy, A).await;
    assert_eq!(wire.value("show lock_timeout").await, "7s");
    assert_eq!(wire.value(COUNT).await, "3");
    proxy.stop().await;
}

/// A text of so many bytes, and the first bytes of its message.
fn begun(length: usize) -> (Vec<u8>, Vec<u8>) {
    let text = format!("select 1 /*{}*/\0", " ".repeat(length));
    let size = u32::try_from(text.len() + 4).unwrap();
    let message = [b"Q", &size.to_be_bytes()[..], text.as_bytes()].concat();
    let (first, rest) = message.split_at(message.len() - 1_000);
    (first.to_vec(), rest.to_vec())
}

/// Texts that have half arrived count for their tenant, or for whose token they have.
#[tokio::test]
async fn unfinished_texts_of_many_connections_have_a_bound() {
    let proxy = proxy::new().pool_size(8).set("max_tenant_memory = 4194304").run().await;
    for token in [tenant_token(A), service_token(json!("*"))] {
        let (first, rest) = begun(1_000_000);
        let mut wires = Vec::new();
        for _ in 0..4 {
            let (mut wire, _) = Wire::login(&proxy, "app", &token, &[]).await;
            wire.raw(&first).send().await;
            wires.push(wire);
        }
        let (mut one_more, _) = Wire::login(&proxy, "app", &token, &[]).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let refused = async {
            loop {
                one_more.raw(&first).raw(&rest).send().await;
                let answer = one_more.answer().await;
                if answer.iter().any(|message| message.tag == 'E') {
                    return answer;
                }
                // Not all that the others have sent has been read yet.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(10), refused).await;
        let answer = refused.expect("a tenant may have half-read what it likes");
        assert_eq!(told(&answer), is("53400", "C018"));
        assert!(!error(&answer).field('M').contains(A));
        // Another tenant has as much as before, and what has begun can be ended.
        let mut other = Wire::tenant(&proxy, B).await;
        other.raw(&first).raw(&rest).send().await;
        assert_eq!(rows(&other.answer().await), ["1"]);
        let mut last = wires.pop().unwrap();
        last.raw(&rest).send().await;
        assert_eq!(rows(&last.answer().await), ["1"]);
        one_more.raw(&first).raw(&rest).send().await;
        assert_eq!(rows(&one_more.answer().await), ["1"]);
        // Whoever leaves takes what has begun along.
        wires.clear();
        let again = async {
            let mut wires = Vec::new();
            while wires.len() < 3 {
                last.raw(&first).raw(&rest).send().await;
                wires.push(last.answer().await);
            }
            wires
        };
        assert!(again.await.iter().all(|answer| tags(answer).starts_with('T')));
    }
    proxy.stop().await;
}

/// Each savepoint may take a lock of the server's, whose table all tenants share.
#[tokio::test]
async fn savepoints_of_all_sessions_of_a_tenant_have_a_bound() {
    let proxy = proxy::new().pool_size(5).set("max_savepoints = 3").run().await;
    let begin = |count: usize| format!("begin{}", "; savepoint s".repeat(count));
    let mut first = Wire::tenant(&proxy, A).await;
    let mut second = Wire::tenant(&proxy, A).await;
    for wire in [&mut first, &mut second] {
        assert_eq!(tags(&wire.ask(&begin(3)).await), "CCCCZ");
    }
    let mut third = Wire::tenant(&proxy, A).await;
    third.query(&begin(1)).send().await;
    assert_eq!(last_words(&mut third).await, is("54000", "C014"));
    let mut other = Wire::tenant(&proxy, B).await;
    assert_eq!(tags(&other.ask(&begin(3)).await), "CCCCZ");
    // A transaction that ends gives its savepoints back, and so does a session.
    first.ask("rollback").await;
    let mut third = Wire::tenant(&proxy, A).await;
    assert_eq!(tags(&third.ask(&begin(3)).await), "CCCCZ");
    drop(third);
    let again = async {
        loop {
            let mut wire = Wire::tenant(&proxy, A).await;
            wire.query(&begin(1)).send().await;
            if wire.receive().await.is_some_and(|message| message.tag == 'C')
                && wire.receive().await.is_some_and(|message| message.tag == 'C')
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("they are lost");
    proxy.stop().await;
}
