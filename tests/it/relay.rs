//! Bytes pass as they are, in any amount, in any order that the protocol allows.

use bytes::Bytes;
use cloison::observe::Event;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::AsyncMessage;

use crate::support::postgres::A;
use crate::support::proxy::{self, Proxy, token};
use crate::support::wire::{Message, Wire, error, rows, tags};

/// The most that may come on top of what the process had before: far less than what passes.
const MEMORY: usize = 40 << 20;
const BULK: usize = 200 << 20;

/// Who measures the memory of the process, or takes much of it, does so alone.
static LARGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The memory that this process occupies now.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Reads `total` bytes, some of the time slowly, and says how much memory that took.
async fn read_bulk(wire: &mut Wire, total: usize) -> usize {
    let before = resident();
    let mut peak = before;
    let mut buffer = vec![0; 1 << 16];
    let mut read = 0;
    while read < total {
        let count = wire.socket.read(&mut buffer).await.unwrap();
        assert!(count > 0);
        read += count;
        peak = peak.max(resident());
    }
    peak - before
}

async fn owner(proxy: &Proxy) -> Wire {
    let token = token("owner", serde_json::json!({}));
    let (wire, answer) = Wire::login(proxy, "cloison_owner", &token, &[]).await;
    assert_eq!(answer.last().unwrap().tag, 'Z');
    wire
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gigabytes_pass_in_constant_memory() {
    let _alone = LARGE.lock().await;
    let proxy = proxy::new().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for sql in [
        "select repeat('x', 100000), generate_series(1, 2200)",
        "copy (select repeat('x', 100000), generate_series(1, 2200)) to stdout",
        // One row, one frame.
        "select repeat('x', 220000000)",
    ] {
        wire.query(sql).send().await;
        let memory = read_bulk(&mut wire, BULK).await;
        assert!(memory < MEMORY, "{sql}: {} MiB", memory >> 20);
        wire = Wire::tenant(&proxy, A).await;
    }
    // The other direction.
    let mut wire = owner(&proxy).await;
    wire.ask("create temp table bulk (t text)").await;
    wire.query("copy bulk from stdin").send().await;
    wire.until('G').await;
    let (before, mut peak) = (resident(), 0);
    let line = [&vec![b'x'; 1 << 16][..], b"\n"].concat();
    for _ in 0..BULK >> 16 {
        wire.copy_data(&line).send().await;
        peak = peak.max(resident());
    }
    wire.copy_done().send().await;
    assert_eq!(tags(&wire.answer().await), "CZ");
    assert!(peak.saturating_sub(before) < MEMORY, "{} MiB", (peak - before) >> 20);
    assert_eq!(wire.value("select count(*) from bulk").await, (BULK >> 16).to_string());
    // One parameter, one frame.
    let before = resident();
    wire.parse("", "select length($1::text)").raw(b"B");
    let size = 100u32 << 20;
    wire.raw(&(4 + 2 + 2 + 2 + 4 + size + 2).to_be_bytes()).raw(&[0, 0, 0, 0, 0, 1]);
    wire.raw(&size.to_be_bytes()).send().await;
    for _ in 0..size >> 16 {
        wire.socket.write_all(&line[..1 << 16]).await.unwrap();
        peak = peak.max(resident());
    }
    wire.raw(&[0, 0]).execute("", 0).sync().send().await;
    assert_eq!(rows(&wire.answer().await), [size.to_string()]);
    assert!(peak.saturating_sub(before) < MEMORY, "{} MiB", (peak - before) >> 20);
    proxy.stop().await;
}

#[tokio::test]
async fn copy_from_stdin_works_by_every_road() {
    let proxy = proxy::new().run().await;
    let mut wire = owner(&proxy).await;
    wire.ask("create table plain (i int)").await;
    let copy = "copy plain from stdin";
    wire.query(copy).send().await;
    wire.until('G').await;
    wire.copy_data(b"1\n2\n").copy_done().send().await;
    assert_eq!(tags(&wire.answer().await), "CZ");
    // Ahead of the answer.
    wire.query(copy).copy_data(b"3\n").copy_done().query("select 1").send().await;
    assert_eq!(tags(&wire.answer().await), "GCZ");
    assert_eq!(tags(&wire.answer().await), "TDCZ");
    // As libpq does it: a Sync with the COPY, one after the data.
    wire.run(copy).sync().send().await;
    wire.until('G').await;
    wire.copy_data(b"4\n").copy_done().sync().send().await;
    assert_eq!(tags(&wire.answer().await), "CZ");
    wire.run(copy).sync().copy_data(b"5\n").copy_done().sync().query("select 1").send().await;
    assert_eq!(tags(&wire.answer().await), "12GCZ");
    assert_eq!(tags(&wire.answer().await), "TDCZ");
    // Given up by the client, refused by the server; the session goes on either way.
    wire.query(copy).send().await;
    wire.until('G').await;
    wire.message('f', b"changed my mind\0").send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "57014");
    wire.query(copy).send().await;
    wire.until('G').await;
    wire.copy_data(b"not a number\n").send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "22P02");
    wire.copy_data(b"6\n").copy_done().send().await;
    wire.run(copy).sync().copy_data(b"7\n").copy_done().sync().send().await;
    assert_eq!(tags(&wire.answer().await), "12GCZ");
    wire.run("copy no_such_table from stdin").sync().copy_data(b"8\n").copy_done().sync();
    wire.query("select 1").send().await;
    assert_eq!(tags(&wire.answer().await), "12EZ");
    assert_eq!(tags(&wire.answer().await), "Z");
    assert_eq!(tags(&wire.answer().await), "TDCZ");
    assert_eq!(wire.value("select string_agg(i::text, '' order by i) from plain").await, "123457");
    proxy.stop().await;
}

#[tokio::test]
async fn a_driver_copies_both_ways() {
    let proxy = proxy::new().run().await;
    let mut client = proxy.owner().await;
    client.batch_execute("create table plain (i int)").await.unwrap();
    let sink = client.copy_in("copy plain from stdin").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    for i in 0..1000 {
        sink.send(Bytes::from(format!("{i}\n"))).await.unwrap();
    }
    assert_eq!(sink.as_mut().finish().await.unwrap(), 1000);
    let stream = client.copy_out("copy plain to stdout").await.unwrap();
    assert_eq!(stream.count().await, 1000);
    // And DDL, savepoints, cursors: the owner has all of SQL.
    let transaction = client.transaction().await.unwrap();
    transaction
        .batch_execute("alter table plain add column t text; create index on plain (t)")
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    client.batch_execute("drop table plain").await.unwrap();
    proxy.stop().await;
}

#[tokio::test]
async fn long_pipelines_are_answered_in_order() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for i in 0..500 {
        wire.parse("", "select $1::text").bind("", "", &[&i.to_string()]).execute("", 0);
        if i % 7 == 0 {
            wire.sync().query(&format!("select 'q{i}'"));
        }
        if i % 5 == 4 {
            wire.sync();
        }
    }
    wire.sync().query("select 'end'").send().await;
    let answer = {
        let mut all = Vec::new();
        while rows(&all).last().is_none_or(|row| row != "end") {
            all.extend(wire.answer().await);
        }
        rows(&all)
    };
    let mut expected = Vec::new();
    for i in 0..500 {
        expected.push(i.to_string());
        if i % 7 == 0 {
            expected.push(format!("q{i}"));
        }
    }
    expected.push("end".to_owned());
    assert_eq!(answer, expected);
    proxy.stop().await;
}

#[tokio::test]
async fn an_error_in_a_pipeline_skips_to_its_sync() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.run("select 1").run("select 1/0").run("select 2").sync().run("select 3").sync();
    wire.query("select 4; select 1/0; select 5").query("select 6").send().await;
    assert_eq!(tags(&wire.answer().await), "12DC1EZ");
    assert_eq!(tags(&wire.answer().await), "12DCZ");
    assert_eq!(tags(&wire.answer().await), "TDCEZ");
    assert_eq!(rows(&wire.answer().await), ["6"]);
    proxy.stop().await;
}

#[tokio::test]
async fn portals_are_fetched_piecemeal_and_by_turns() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.parse("a", "select 'a' || generate_series(1, 5)")
        .parse("b", "select 'b' || generate_series(1, 5)");
    wire.bind("pa", "a", &[]).bind("pb", "b", &[]).execute("pa", 2).flush().send().await;
    assert_eq!(rows(&wire.until('s').await), ["a1", "a2"]);
    wire.execute("pb", 1).flush().send().await;
    assert_eq!(rows(&wire.until('s').await), ["b1"]);
    wire.execute("pa", 2).flush().send().await;
    assert_eq!(rows(&wire.until('s').await), ["a3", "a4"]);
    wire.execute("pb", 0).execute("pa", 0).sync().send().await;
    assert_eq!(rows(&wire.answer().await), ["b2", "b3", "b4", "b5", "a5"]);
    assert_eq!(wire.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_simple_query_may_follow_a_close_without_a_sync() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    let pid = wire.value("select pg_backend_pid()").await;
    wire.message('C', b"Ss1\0").query("reset all").query("select count(*) from note").send().await;
    assert_eq!(tags(&wire.answer().await), "3CZ");
    assert_eq!(rows(&wire.answer().await), ["3"]);
    wire.flush().send().await;
    drop(wire);
    proxy.session_ended().await;
    assert_eq!(Wire::tenant(&proxy, A).await.value("select pg_backend_pid()").await, pid);
    proxy.stop().await;
}

#[tokio::test]
async fn notifications_reach_a_listening_owner() {
    let proxy = proxy::new().run().await;
    let mut wire = owner(&proxy).await;
    wire.ask("listen news").await;
    let superuser = proxy.database.superuser().await;
    for i in 0..3 {
        superuser.batch_execute(&format!("notify news, 'n{i}'")).await.unwrap();
        let message = wire.receive().await.unwrap();
        assert_eq!(message.tag, 'A');
        assert!(message.body.ends_with(format!("news\0n{i}\0").as_bytes()));
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_driver_hears_notices_and_notifications() {
    let proxy = proxy::new().run().await;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(proxy.address.port()).dbname(&proxy.database.name);
    config.user("cloison_owner").password(token("owner", serde_json::json!({})));
    let (client, mut connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let mut heard = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx)).boxed();
    let listen =
        client.batch_execute("listen n; notify n, 'x'; do $$ begin raise notice 'y'; end $$");
    let mut seen = Vec::new();
    let mut listen = std::pin::pin!(listen);
    while seen.len() < 2 {
        tokio::select! {
            done = &mut listen, if seen.is_empty() => done.unwrap(),
            message = heard.next() => seen.push(match message.unwrap().unwrap() {
                AsyncMessage::Notification(told) => told.payload().to_owned(),
                AsyncMessage::Notice(told) => told.message().to_owned(),
                _ => unreachable!(),
            }),
        }
    }
    seen.sort();
    assert_eq!(seen, ["x", "y"]);
    proxy.stop().await;
}

/// What Postgres itself says, message by message.
async fn told(wire: &mut Wire, sql: &str) -> Vec<Message> {
    wire.query(sql).run(sql).sync().send().await;
    let mut all = wire.answer().await;
    all.extend(wire.answer().await);
    all
}

#[tokio::test]
async fn errors_and_notices_arrive_as_postgres_wrote_them() {
    let proxy = proxy::new().unfiltered().run().await;
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute("grant usage on language plpgsql to it_app").await.unwrap();
    let mut past = direct(&proxy).await;
    let mut wire = Wire::tenant(&proxy, A).await;
    let long = "do $$ begin raise exception '%', repeat('x', 100000); end $$";
    for sql in [
        "select 1/0",
        "select * from nowhere",
        "selec 1",
        "do $$ begin raise exception 'é' using errcode = 'P1234', detail = 'd', hint = 'h', column = 'c', constraint = 'k', datatype = 't', table = 'b', schema = 's'; end $$",
        "do $$ begin raise notice 'one'; raise warning 'two'; end $$",
        "update note set id = 'x'",
        long,
        "",
        "select null, '', 'ü', array[1, null]",
    ] {
        let (through, past) = (told(&mut wire, sql).await, told(&mut past, sql).await);
        assert!(through == past, "{sql}: {through:?} where {past:?} was due");
    }
    proxy.stop().await;
}

/// The same session without a proxy between.
pub(crate) async fn direct(proxy: &Proxy) -> Wire {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    let mut wire = Wire::connect(([127, 0, 0, 1], proxy.database.port()).into()).await;
    wire.startup(0x0003_0000, &[("user", "it_app"), ("database", &proxy.database.name)]);
    wire.send().await;
    wire.until('R').await;
    let mut scram = ScramSha256::new(b"app-secret", ChannelBinding::unsupported());
    let first = scram.message().to_vec();
    let length = (first.len() as u32).to_be_bytes();
    wire.message('p', &[&b"SCRAM-SHA-256\0"[..], &length, &first].concat()).send().await;
    scram.update(&wire.receive().await.unwrap().body[4..]).unwrap();
    let last = scram.message().to_vec();
    wire.message('p', &last).send().await;
    assert_eq!(wire.answer().await.last().unwrap().tag, 'Z');
    wire
}

#[tokio::test]
async fn the_servers_own_farewell_reaches_the_client() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let superuser = proxy.database.superuser().await;
    // An idle client has no server connection with transaction pooling, and is told nothing.
    let idle = if proxy::by_transaction() { "begin; select 1" } else { "select 1" };
    for sql in [idle, "begin", "select pg_sleep(3600)"] {
        let mut wire = Wire::tenant(&proxy, A).await;
        let pid: i32 = wire.value("select pg_backend_pid()").await.parse().unwrap();
        wire.query(sql).send().await;
        if !sql.contains("sleep") {
            wire.answer().await;
        }
        superuser.query("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
        let answer = wire.answer().await;
        let said = error(&answer);
        assert_eq!((said.field('V'), said.field('C')), ("FATAL", "57P01"));
        assert_eq!(said.field('M'), "terminating connection due to administrator command");
        assert!(!said.field('D').contains("cloison"));
        assert_eq!(answer.len(), answer.iter().position(|m| m.tag == 'E').unwrap() + 1);
        assert_eq!(proxy.session_ended().await, "server_lost");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_server_that_vanishes_is_told_by_us() {
    // A relay between proxy and server, which the test can cut.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cut, _) = tokio::sync::broadcast::channel::<()>(1);
    let database = crate::support::postgres::Database::new();
    let server = database.port();
    let cutter = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cut = cutter.subscribe();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.recv() => {}
                }
            });
        }
    });
    let mut proxy = proxy::new()
        .edit(move |config| {
            config.server.address = cloison::config::ServerAddress::Tcp("127.0.0.1".into(), port);
        })
        .pool_size(2)
        .run_on(database)
        .await;
    for sql in ["begin", "select pg_sleep(3600)"] {
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.query(sql).send().await;
        if sql == "begin" {
            wire.answer().await;
        } else {
            // It has been sent on once a second session has started and been answered.
            Wire::tenant(&proxy, A).await.value("select 1").await;
        }
        cut.send(()).unwrap();
        let answer = wire.answer().await;
        assert_eq!(tags(&answer), "E");
        assert_eq!((answer[0].field('V'), answer[0].field('C')), ("FATAL", "08006"));
        proxy
            .observed(|event| {
                // Ended by us where the control connection was missed first.
                matches!(event, Event::SessionEnded { reason: "server_lost" | "ended", .. })
                    .then_some(())
            })
            .await;
    }
    // The control connection was lost as well, and comes back.
    assert_eq!(Wire::tenant(&proxy, A).await.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn any_number_of_messages_has_one_sync() {
    const ROWS: usize = 12_000;
    let proxy = proxy::new().set("max_pipeline = 16").run().await;
    for described in [false, true] {
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.parse("a", "select $1");
        for row in 0..ROWS {
            wire.bind("", "a", &[&row.to_string()]);
            if described {
                wire.message('D', b"P\0");
            }
            wire.execute("", 0);
        }
        let mut out = wire.sync().out.split();
        let (mut reading, mut writing) = wire.socket.split();
        let send = async { writing.write_all_buf(&mut out).await.unwrap() };
        let receive = async {
            let (mut found, mut body) = (0, Vec::new());
            loop {
                let tag = reading.read_u8().await.unwrap();
                body.resize(reading.read_u32().await.unwrap() as usize - 4, 0);
                reading.read_exact(&mut body).await.unwrap();
                match tag {
                    b'D' => found += 1,
                    b'Z' => break found,
                    b'E' => panic!("{}", String::from_utf8_lossy(&body)),
                    _ => {}
                }
            }
        };
        let both = async { tokio::join!(send, receive).1 };
        let found = tokio::time::timeout(std::time::Duration::from_secs(60), both).await;
        assert_eq!(found.expect("it waits for ever"), ROWS);
    }
    proxy.stop().await;
}

/// What is answered by the proxy itself makes no room, and Postgres says what it has when it likes.
#[tokio::test]
async fn a_pipeline_that_is_mostly_answered_by_the_proxy_goes_on() {
    let proxy = proxy::new().set("max_pipeline = 16").run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.run("select 1");
    for _ in 0..500 {
        wire.message('C', b"Snone\0");
    }
    wire.run("select 2").sync().send().await;
    let expected = format!("12DC{}12DCZ", "3".repeat(500));
    assert_eq!(tags(&wire.answer().await), expected);
    proxy.stop().await;
}

/// Everything up to the end of the connection, as whole messages; what is left over at the end.
async fn to_the_end(wire: &mut Wire) -> (Vec<u8>, Vec<u8>) {
    let mut raw = Vec::new();
    let _ = wire.socket.read_to_end(&mut raw).await;
    let (mut at, mut tags) = (0, Vec::new());
    while let Some(header) = raw.get(at..at + 5) {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some(end) = Some(at + 1 + length).filter(|end| length >= 4 && *end <= raw.len()) else {
            break;
        };
        tags.push(header[0]);
        at = end;
    }
    (tags, raw.split_off(at))
}

#[tokio::test]
async fn no_last_word_stands_in_a_message() {
    let _alone = LARGE.lock().await;
    let lines = ["", "transaction_timeout = \"500ms\"", "client_write_timeout = \"500ms\""];
    for lines in lines {
        let proxy = proxy::new().set(lines).run().await;
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.ask("begin").await;
        wire.query("select repeat('x', 900000) from generate_series(1, 60)").send().await;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        if lines.is_empty() {
            wire.message('~', b"no such message").send().await;
        } else {
            tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        }
        let (tags, rest) = to_the_end(&mut wire).await;
        let known = tags.iter().all(|tag| b"TDCEZNS".contains(tag));
        let word = rest.windows(6).any(|part| part == b"SFATAL");
        assert!(known && !word && tags.len() < 60, "{lines}: {}", String::from_utf8_lossy(&tags));
        proxy.stop().await;
    }
}

#[tokio::test]
async fn nobody_is_sent_away_for_the_length_of_a_statement() {
    let _alone = LARGE.lock().await;
    let by_transaction = |config: &mut cloison::config::Config| {
        for pool in config.pools.values_mut() {
            pool.mode = cloison::config::PoolMode::Transaction;
        }
    };
    let long = format!("select length('{}')::text", "x".repeat(20 << 20));
    let length = [(20_usize << 20).to_string()];
    let proxy = proxy::new().edit(by_transaction).run().await;
    // A tenant is refused, and goes on.
    let mut wire = Wire::tenant(&proxy, A).await;
    for _ in 0..2 {
        let answer = wire.ask(&long).await;
        assert_eq!(
            (error(&answer).field('C'), error(&answer).field('D')),
            ("54000", "cloison: C013")
        );
        wire.parse("named", &long).bind("", "named", &[]).execute("", 0).sync().send().await;
        let answer = wire.answer().await;
        assert_eq!((error(&answer).field('D'), tags(&answer)), ("cloison: C013", "EZ".to_owned()));
        assert_eq!(wire.value("select count(*) from note").await, "3");
    }
    // Whom no list holds is not.
    let mut wire = owner(&proxy).await;
    assert_eq!(rows(&wire.ask(&long).await), length);
    let several =
        format!("create table l (n text); insert into l {long}; select n from l; drop table l");
    assert_eq!(rows(&wire.ask(&several).await), length);
    wire.run(&long).sync().send().await;
    assert_eq!(rows(&wire.answer().await), length);
    assert!(error(&wire.ask(&format!("{long} nonsense(")).await).field('C') == "42601");
    wire.parse("named", &long).sync().send().await;
    assert_eq!(error(&wire.answer().await).field('D'), "cloison: C017");
    assert_eq!(wire.value("select 1::text").await, "1");
    wire.ask("begin").await;
    assert_eq!(rows(&wire.ask(&long).await), length);
    assert_eq!(tags(&wire.ask("commit").await), "CZ");
    proxy.stop().await;
    let proxy = proxy::new().unfiltered().edit(by_transaction).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    assert_eq!(rows(&wire.ask(&long).await), length);
    wire.run(&long).sync().send().await;
    assert_eq!(rows(&wire.answer().await), length);
    let rows_too =
        format!("select count(*)::text from note where '' <> '{}'", "x".repeat(20 << 20));
    assert_eq!(rows(&wire.ask(&rows_too).await), ["3"]);
    assert_eq!(wire.value("select count(*) from note").await, "3");
    proxy.stop().await;
}
