//! What tenants may not send: refused as Postgres would refuse it, while the session goes on; and
//! what it would come to without the filter.

use cloison::config::{Config, PoolMode};
use cloison::observe::Event;

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Proxy, by_transaction};
use crate::support::wire::{Message, Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";

/// What one tenant could try against others, or against the proxy's own work.
const HOSTILE: &[&str] = &[
    "alter role current_user set cloison.context = 'forged'",
    "alter role current_user set search_path = pg_temp, public",
    "alter role current_user password 'mine'",
    "set role it_owner",
    "set session authorization it_owner",
    "set cloison.context = 'forged'",
    "set session_replication_role = replica",
    "listen news",
    "notify news, 'x'",
    "lock table note in share mode",
    "do $$ begin perform set_config('cloi' || 'son.context', '', false); end $$",
    "do $$ begin execute 'set role it_owner'; end $$",
    "create temp table note (tenant_id uuid, id bigint, body text)",
    "create temp view v as select * from public.note",
    "create function pg_temp.f() returns bigint language sql as 'select count(*) from public.note'",
    "select * into temp copied from public.note",
    "alter table note disable row level security",
    "drop policy cloison_tenant on note",
    "create policy all_of_it on note using (true)",
    "truncate note",
    "grant all on note to public",
    "copy note to '/tmp/note'",
    "copy note from program 'id'",
    "explain analyze select * from note",
    "explain (costs off) select * from note",
    "vacuum note",
    "prepare transaction 'x'",
];

fn field(answer: &[Message], code: char) -> String {
    error(answer).field(code).to_owned()
}

/// The status in the last `ReadyForQuery`.
fn status(answer: &[Message]) -> char {
    char::from(answer.last().unwrap().body[0])
}

#[tokio::test]
async fn hostile_statements_are_refused_and_the_session_goes_on() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for sql in HOSTILE {
        let answer = wire.ask(sql).await;
        assert_eq!((tags(&answer).as_str(), status(&answer)), ("EZ", 'I'), "{sql}");
        assert_eq!(field(&answer, 'C'), "42501", "{sql}");
        assert!(field(&answer, 'D').starts_with("cloison: C40"), "{sql}");
        assert!(!field(&answer, 'H').is_empty(), "{sql}");
        wire.run(sql).sync().send().await;
        let answer = wire.answer().await;
        assert_eq!((tags(&answer).as_str(), status(&answer)), ("EZ", 'I'), "{sql}");
        assert!(field(&answer, 'D').starts_with("cloison: C40"), "{sql}");
        assert_eq!(wire.value(COUNT).await, "3", "{sql}");
    }
    proxy.stop().await;
}

/// With the filter off the database has to do without it.
#[tokio::test]
async fn rows_stay_isolated_with_the_filter_off() {
    let proxy = proxy::new().pool_size(1).pinning().unfiltered().run().await;
    for sql in HOSTILE {
        let mut wire = Wire::tenant(&proxy, A).await;
        let was = wire.ask(sql).await;
        if !tags(&was).contains('E') {
            for look in [COUNT, "select count(*) from public.note", "select pg_temp.f()"] {
                let answer = wire.ask(look).await;
                let seen = rows(&answer);
                let is_own = seen.is_empty() || ["3", "0"].contains(&seen[0].as_str());
                assert!(is_own, "{sql}, {look}: {seen:?}");
            }
        } else {
            assert_ne!(field(&was, 'C'), "XX000", "{sql}");
        }
        drop(wire);
        // It hurts nobody but its sender.
        let mut other = Wire::tenant(&proxy, B).await;
        assert_eq!(other.value(COUNT).await, "5", "{sql}");
        drop(other);
        let superuser = proxy.database.superuser().await;
        let undo = "alter role it_app reset all; alter role it_app password 'app-secret'";
        superuser.batch_execute(undo).await.unwrap();
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_refused_text_fails_the_transaction_around_it() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for by_query in [true, false] {
        wire.ask("begin").await;
        wire.ask("insert into note (id) values (10)").await;
        let answer = if by_query {
            wire.ask("listen news").await
        } else {
            wire.run("listen news").sync().send().await;
            wire.answer().await
        };
        assert_eq!((tags(&answer).as_str(), status(&answer)), ("EZ", 'E'));
        assert_eq!(field(&answer, 'M'), "LISTEN is not available to tenants");
        assert_eq!(field(&wire.ask(COUNT).await, 'C'), "25P02");
        let ended = wire.ask("commit").await;
        assert_eq!((tags(&ended).as_str(), status(&ended)), ("CZ", 'I'));
        assert!(ended[0].body.starts_with(b"ROLLBACK"));
        assert_eq!(wire.value(COUNT).await, "3");
    }
    // A savepoint saves it.
    wire.ask("begin; insert into note (id) values (10); savepoint s").await;
    assert_eq!(status(&wire.ask("listen news").await), 'E');
    assert_eq!(status(&wire.ask("rollback to s").await), 'T');
    assert_eq!(wire.value(COUNT).await, "4");
    wire.ask("rollback").await;
    proxy.stop().await;
}

#[tokio::test]
async fn of_several_statements_none_runs_if_one_is_refused() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for text in [
        "insert into note (id) values (10); listen news",
        "insert into note (id) values (10); commit; listen news; select 1",
        "insert into note (id) values (10); commit; selec 1",
    ] {
        let answer = wire.ask(text).await;
        assert_eq!((tags(&answer).as_str(), status(&answer)), ("EZ", 'I'), "{text}");
        assert_eq!(wire.value(COUNT).await, "3", "{text}");
    }
    proxy.stop().await;
}

/// A pipeline in which `refused` stands, which must be answered as one with a syntax error.
fn pipeline(wire: &mut Wire, refused: &str) {
    wire.run("select 1").parse("named", refused).bind("", "named", &[]).execute("", 0);
    wire.run("select 2").sync();
    wire.run("select 3").flush().run(refused).run("select 4").sync();
    wire.query(refused).query("select 5").run(refused).sync().run("select 6").sync();
}

#[tokio::test]
async fn a_pipeline_goes_on_behind_the_next_sync() {
    let (on, off) = (proxy::new().run().await, proxy::new().unfiltered().run().await);
    let mut all = Vec::new();
    for (proxy, refused) in [(&on, "listen news"), (&off, "selec 1")] {
        let mut wire = Wire::tenant(proxy, A).await;
        pipeline(&mut wire, refused);
        wire.send().await;
        let mut answers = String::new();
        for _ in 0..6 {
            let answer = wire.answer().await;
            answers.push_str(&tags(&answer));
            if tags(&answer).contains('E') {
                let expected = if refused == "listen news" { "42501" } else { "42601" };
                assert_eq!(field(&answer, 'C'), expected);
            }
        }
        assert_eq!(wire.value("select 7").await, "7");
        all.push(answers);
    }
    assert_eq!(all[0], all[1]);
    on.stop().await;
    off.stop().await;
}

#[tokio::test]
async fn each_refusal_is_told_in_its_turn() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    // The first of a pipeline is what fails; what it skips is not told later.
    wire.run("select 1/0").run("listen news").run("lock note").sync();
    wire.run("select 1/0").run("checkpoint").sync().query("load 'x'").send().await;
    let codes = [wire.answer().await, wire.answer().await, wire.answer().await];
    assert_eq!(
        codes.map(|answer| field(&answer, 'M')),
        ["division by zero", "division by zero", "LOAD is not available to tenants"]
    );
    for round in 0..3000 {
        wire.query(["listen a", "lock note", "set work_mem = 1"][round % 3]);
    }
    wire.send().await;
    for round in 0..3000 {
        let told = field(&wire.answer().await, 'M');
        let expected = ["LISTEN", "LOCK", "the setting \"work_mem\""][round % 3];
        assert!(told.starts_with(expected), "{round}: {told}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_text_that_cannot_be_parsed_is_answered_as_postgres_does() {
    let (on, off) = (proxy::new().run().await, proxy::new().unfiltered().run().await);
    let (mut wire, mut past) = (Wire::tenant(&on, A).await, Wire::tenant(&off, A).await);
    for sql in ["selec 1", "select 'é' frm x y", "select 1 from", "select 'open", "select 1 +* )"]
    {
        let (told, due) = (wire.ask(sql).await, past.ask(sql).await);
        for code in ['S', 'V', 'C', 'M', 'P'] {
            assert_eq!(field(&told, code), field(&due, code), "{sql}: {code}");
        }
    }
    on.stop().await;
    off.stop().await;
}

#[tokio::test]
async fn only_tenants_are_held_to_the_list() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let everywhere = move |config: &mut Config| {
            config.pools.values_mut().for_each(|pool| pool.mode = mode);
        };
        let proxy = proxy::new().edit(everywhere).run().await;
        let superadmin = proxy.superadmin().await;
        superadmin.batch_execute("set work_mem = '4MB'; explain select 1").await.unwrap();
        let owner = proxy.owner().await;
        owner.batch_execute("create table t (i int)").await.unwrap();
        owner.batch_execute("begin; lock t; drop table t; commit").await.unwrap();
        proxy.stop().await;
    }
}

#[tokio::test]
async fn what_an_operator_gives_back_works() {
    let lines = "allowed_statements = [\"explain\", \"do\", \"lock\"]\nallowed_settings = \"work_mem, app.*\"";
    let proxy = proxy::new().set(lines).allowing(&["languages"]).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for sql in [
        "explain analyze select 1",
        "do $$ begin end $$",
        "set work_mem = '4MB'",
        "set app.reader = 'x'",
    ] {
        assert!(!tags(&wire.ask(sql).await).contains('E'), "{sql}");
    }
    for sql in ["set hash_mem_multiplier = 3", "set cloison.context = 'x'", "listen news"] {
        assert_eq!(field(&wire.ask(sql).await, 'C'), "42501", "{sql}");
    }
    proxy.stop().await;
}

/// Searching extensions' settings are an application's own; those that spend memory are not.
#[tokio::test]
async fn settings_of_searching_extensions_are_the_applications() {
    let proxy = proxy::new().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for sql in [
        "set hnsw.ef_search = 100",
        "set local HNSW.Iterative_Scan = 'relaxed_order'",
        "set ivfflat.probes = 10",
        "set pg_trgm.similarity_threshold = 0.5",
        "set pg_trgm.word_similarity_threshold to default",
    ] {
        assert!(!tags(&wire.ask(sql).await).contains('E'), "{sql}");
    }
    assert_eq!(wire.value("show hnsw.ef_search").await, "100");
    for sql in ["set hnsw.scan_mem_multiplier = 4", "set hnsw.other = 1", "set pg_trgm.other = 1"] {
        let answer = wire.ask(sql).await;
        assert_eq!((field(&answer, 'C'), field(&answer, 'D')), codes("C406"), "{sql}");
    }
    proxy.stop().await;
}

fn codes(code: &str) -> (String, String) {
    ("42501".to_owned(), format!("cloison: {code}"))
}

/// The operator sees who sends what tenants may not, and of what kind it is.
#[tokio::test]
async fn refused_statements_are_told_with_their_kind_and_without_their_text() {
    let mut proxy = proxy::new().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for (sql, code, kind) in [
        ("listen secret_channel", "C405", Some("LISTEN")),
        ("explain select 'secret'", "C405", Some("EXPLAIN")),
        ("set work_mem = '77MB'", "C406", Some("SET")),
        ("selec secret", "C407", None),
    ] {
        assert_eq!(tags(&wire.ask(sql).await), "EZ", "{sql}");
        let event = proxy
            .observed(|event| match event {
                Event::StatementRefused { .. } => Some(event.clone()),
                _ => None,
            })
            .await;
        let Event::StatementRefused { code: told, kind: of, tenant, subject, .. } = &event else {
            unreachable!()
        };
        assert_eq!((*told, *of), (code, kind), "{sql}");
        assert_eq!(tenant.map(|tenant| tenant.to_string()).as_deref(), Some(A), "{sql}");
        assert_eq!(subject.as_deref(), Some("tester"), "{sql}");
        let shown = format!("{event:?}");
        assert!(!shown.contains("secret") && !shown.contains("77MB"), "{shown}");
    }
    // What Postgres refuses by itself is no refusal of the proxy's.
    assert_eq!(field(&wire.ask("select 1/0").await, 'C'), "22012");
    wire.message('F', b"\0\0\0\0\0\0\0\0\0\0").send().await;
    wire.answer().await;
    let kind = proxy.observed(|event| match event {
        Event::StatementRefused { code: "C401", kind, .. } => Some(*kind),
        Event::StatementRefused { .. } => Some(None),
        _ => None,
    });
    assert_eq!(kind.await, Some("function call"));
    proxy.stop().await;
}

#[tokio::test]
async fn a_text_over_the_limit_is_refused() {
    let proxy = proxy::new().set("max_statement_length = 2000").run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    refuses_long_texts(&proxy, &mut wire).await;
    proxy.stop().await;
}

async fn refuses_long_texts(_: &Proxy, wire: &mut Wire) {
    for length in [2_001, 100_000, 2_000_000] {
        let sql = format!("select '{}'", "x".repeat(length - 9));
        let answer = wire.ask(&sql).await;
        assert_eq!((tags(&answer).as_str(), field(&answer, 'C').as_str()), ("EZ", "54000"));
        wire.run(&sql).sync().send().await;
        assert_eq!(field(&wire.answer().await, 'D'), "cloison: C013");
        assert_eq!(wire.value(COUNT).await, "3");
    }
    let sql = format!("select '{}'", "x".repeat(1_991));
    assert_eq!(tags(&wire.ask(&sql).await), "TDCZ");
}

/// A client encoding, and strings, whose texts Postgres reads as the filter does not.
#[tokio::test]
async fn another_reading_of_strings_is_no_way_round() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for doubt in ["set standard_conforming_strings = off", "set client_encoding = 'SJIS'"] {
        wire.ask(doubt).await;
        wire.query("select 'a\\'").query("select '表'").send().await;
        let codes = [field_of(wire.answer().await), field_of(wire.answer().await)];
        assert!(codes.contains(&"cloison: C408".to_owned()), "{doubt}: {codes:?}");
        assert!(!tags(&wire.ask("reset all").await).contains('E'));
        assert_eq!(wire.value("select '\\'").await, "\\");
    }
    proxy.stop().await;
}

/// What the server reads a text with is known when it has answered what is ahead of that.
#[tokio::test]
async fn a_setting_under_way_is_no_way_round_either() {
    let proxy = proxy::new().pool_size(2).run().await;
    let mut other = Wire::tenant(&proxy, B).await;
    other.value(COUNT).await;
    let change = "select set_config('standard_conforming_strings', 'off', false)";
    let hidden = "select 'x\\'; select 1, ' ; lock table note in access exclusive mode; -- '";
    for ahead in [vec![change], vec!["select 1", change, "select 2"]] {
        let mut wire = Wire::tenant(&proxy, A).await;
        for text in &ahead {
            wire.query(text);
        }
        wire.query(hidden).send().await;
        for _ in &ahead {
            assert_eq!(tags(&wire.answer().await).replace('S', ""), "TDCZ");
        }
        // With transaction pooling Postgres itself takes no second statement.
        let told = wire.answer().await;
        let code = if by_transaction() { "" } else { "cloison: C408" };
        assert_eq!((error(&told).field('D'), tags(&told).replace('N', "").as_str()), (code, "EZ"));
        assert_eq!(other.value(COUNT).await, "5");
        // In a pipeline there is no answer to wait for.
        wire.run(change).parse("", "select 'x\\'").sync().send().await;
        assert!(tags(&wire.answer().await).contains('E'));
        wire.run("select 1").parse("", "select 'x'").sync().send().await;
        assert!(!tags(&wire.answer().await).contains('E'));
    }
    proxy.stop().await;
}

fn field_of(answer: Vec<Message>) -> String {
    answer.iter().find(|message| message.tag == 'E').map_or("", |it| it.field('D')).to_owned()
}
