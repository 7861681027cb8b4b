//! Whatever a client sends, the proxy lives, answers others, and gives its connections back.

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Proxy, tenant_token};
use crate::support::wire::{V3_0, Wire};

/// Bytes of a session that is in order.
fn valid() -> Vec<u8> {
    let mut wire = Wire::over(tokio::io::empty());
    wire.query("select 1").query("reset all; select 2").run("select 3").sync();
    wire.run("copy (select 4) to stdout").sync().query("begin").run("discard all").flush();
    wire.sync().message('F', &[0; 10]).query("copy t from stdin").copy_data(b"1\n").copy_done();
    wire.parse("s", "set cloison.context = ''").bind("", "s", &[]).execute("", 1).sync();
    wire.message('C', b"Ss\0").sync().query("rollback").message('X', b"");
    wire.out.to_vec()
}

/// Changes of single bytes, cuts, repetitions.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..12);
    edits.prop_map(|edits| {
        let mut bytes = valid();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes.truncate(1 << 14);
        bytes
    })
}

/// Whole messages in any order.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        Just("Q"),
        Just("P"),
        Just("B"),
        Just("E"),
        Just("D"),
        Just("S"),
        Just("H"),
        Just("C"),
        Just("d"),
        Just("c"),
        Just("f"),
        Just("F"),
        Just("copy"),
        Just("reset"),
        Just("begin"),
    ];
    prop::collection::vec(one, 1..24).prop_map(|names| {
        let mut wire = Wire::over(tokio::io::empty());
        for name in names {
            match name {
                "Q" => wire.query("select count(*) from note"),
                "P" => wire.parse("", "select count(*) from note"),
                "B" => wire.bind("", "", &[]),
                "E" => wire.execute("", 1),
                "D" => wire.message('D', b"S\0"),
                "S" => wire.sync(),
                "H" => wire.flush(),
                "C" => wire.message('C', b"S\0"),
                "d" => wire.copy_data(b"1\n"),
                "c" => wire.copy_done(),
                "f" => wire.message('f', b"no\0"),
                "F" => wire.message('F', &[0, 0, 8, 0x1d, 0, 0, 0, 0, 0, 0]),
                "copy" => wire.run("copy fuzz_reset from stdin"),
                "reset" => wire.parse("", "reset all"),
                _ => wire.query("begin"),
            };
        }
        wire.out.to_vec()
    })
}

/// Sends `bytes`, closes, and reads what comes: to its end, which must come.
async fn play(proxy: &Proxy, login: bool, bytes: &[u8]) {
    let mut wire = Wire::connect(proxy.address).await;
    if login {
        let parameters = [("user", "app"), ("database", &proxy.database.name[..])];
        wire.startup(V3_0, &parameters).password(&tenant_token(B)).send().await;
        wire.answer().await;
    }
    wire.out = BytesMut::from(bytes);
    // A client that breaks the protocol may keep its server connection for the relay's PATIENCE,
    // which is what limits the number of cases. The proxy may have closed already.
    let _ = wire.socket.write_all_buf(&mut wire.out).await;
    let _ = wire.socket.shutdown().await;
    let mut answer = Vec::new();
    let end = wire.socket.read_to_end(&mut answer);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(20), end).await.expect("it hangs");
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("internal error"), "{text}");
}

/// The same cases every time, so that a change is what turns it red; FUZZ=1 draws others.
fn run(cases: u32, bytes: impl Strategy<Value = Vec<u8>>, check: impl Fn(Vec<u8>)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = match std::env::var_os("FUZZ") {
        Some(_) => TestRunner::new(config),
        None => {
            let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            TestRunner::new_with_rng(config, rng)
        }
    };
    let result = runner.run(&bytes, |bytes| {
        check(bytes);
        Ok(())
    });
    result.unwrap();
}

fn fuzz(login: bool, cases: u32, bytes: impl Strategy<Value = Vec<u8>>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let lines = "query_wait_timeout = \"20s\"\nclient_login_timeout = \"5s\"";
    let proxy = runtime.block_on(proxy::new().pool_size(1).set(lines).run());
    run(cases, bytes, |bytes| {
        runtime.block_on(async {
            play(&proxy, login, &bytes).await;
            let mut good = Wire::tenant(&proxy, A).await;
            assert_eq!(good.value("select count(*) from note").await, "3");
        });
    });
    runtime.block_on(proxy.stop());
}

#[test]
fn random_bytes_ahead_of_a_session_harm_nobody() {
    fuzz(false, 60, prop::collection::vec(any::<u8>(), 0..200));
}

#[test]
fn random_bytes_in_a_session_harm_nobody() {
    fuzz(true, 60, prop::collection::vec(any::<u8>(), 0..400));
}

#[test]
fn a_mutated_session_harms_nobody() {
    fuzz(true, 30, mutated());
}

#[test]
fn messages_in_any_order_harm_nobody() {
    fuzz(true, 12, messages());
}

/// What a tenant that means harm would put into its statements.
const HARM: &[&str] = &[
    "select count(*) from note",
    "begin",
    "commit",
    "rollback",
    "commit and chain",
    "savepoint s",
    "rollback to s",
    "reset all",
    "discard all",
    "deallocate all",
    "select 1/0",
    "set work_mem = '1MB'",
    "set local work_mem = '1MB'",
    "select set_config('work_mem', '1MB', false)",
    "set search_path = pg_temp",
    "set statement_timeout = 1",
    "set standard_conforming_strings = off",
    r"select 'a\'' , set_config($$work_mem$$, $$1024$$, false) --'",
    "set session characteristics as transaction read only",
    "do $$ begin create temp table note (tenant_id uuid, id bigint, body text); end $$",
    "do $$ begin perform pg_advisory_lock(7); end $$",
    "prepare s as select 1",
    "declare c cursor with hold for select 1",
    "declare c cursor for select * from note",
    "fetch c",
    "select set_config('cloison.context', '', false)",
    "update note set body = body",
    "copy (select * from note) to stdout",
    "copy note from stdin",
    "set role cloison_tenant",
    "begin; select count(*) from note; commit; select count(*) from note",
    "discard all; set work_mem = '1MB'",
    "",
];

/// Messages in any order with any of these texts, under two names and none.
fn harmful() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(HARM);
    let name = prop::sample::select(&["", "s", "t"][..]);
    let one = (0..12u8, text, name);
    prop::collection::vec(one, 1..16).prop_map(|messages| {
        let mut wire = Wire::over(tokio::io::empty());
        for (kind, text, name) in messages {
            match kind {
                0..=2 => wire.query(text),
                3 => wire.run(text),
                4 => wire.parse(name, text),
                5 => wire.bind(name, name, &[]),
                6 => wire.execute(name, 1),
                7 => wire.message('D', &[b"S", name.as_bytes(), b"\0"].concat()),
                8 => wire.message('C', &[b"S", name.as_bytes(), b"\0"].concat()),
                9 => wire.flush(),
                10 => wire.copy_data(b"1\n").copy_done(),
                _ => wire.sync(),
            };
        }
        wire.out.to_vec()
    })
}

#[test]
fn whatever_one_tenant_sends_the_next_finds_itself_alone() {
    const LOOK: &str = "select concat_ws(' ', count(*), min(body), current_setting('work_mem'), \
                        current_setting('search_path'), current_setting('statement_timeout'), \
                        current_setting('transaction_read_only'), current_user, \
                        to_regclass('pg_temp.note')) from note";
    const ALONE: &str = "3 a1 4MB \"$user\", public 0 off it_app";
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let line = "query_wait_timeout = \"20s\"";
    let proxy = proxy::new().by_transaction().pool_size(1).set(line);
    let proxy = proxy.allowing(&["advisory_locks", "languages", "temporary"]);
    let proxy = runtime.block_on(proxy.run());
    // One that stays, beside one for each case.
    let stays = tokio::sync::Mutex::new(runtime.block_on(Wire::tenant(&proxy, A)));
    run(80, harmful(), |bytes| {
        runtime.block_on(async {
            play(&proxy, true, &bytes).await;
            let mut stays = stays.lock().await;
            assert_eq!(stays.value(LOOK).await, ALONE);
            assert_eq!(Wire::tenant(&proxy, A).await.value(LOOK).await, ALONE);
            assert_eq!(stays.value("select pg_try_advisory_xact_lock(7)").await, "t");
        });
    });
    drop(stays);
    runtime.block_on(proxy.stop());
}
