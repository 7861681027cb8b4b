//! Long and odd conversations of the extended protocol, with the other tenant in between.

use super::{COUNT, PID, Pair, done, error, open, rows, tags};

#[tokio::test]
async fn three_hundred_messages_are_answered_in_their_order() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for round in 0..3 {
        for (wire, of) in [(&mut pair.a, 'a'), (&mut pair.b, 'b')] {
            let mut expected = Vec::new();
            let mut syncs = 1;
            for i in 0..300 {
                match i % 7 {
                    0 => {
                        wire.run(&format!("select '{of}{i}'"));
                    }
                    1 => {
                        wire.parse(&format!("{round}s{i}"), &format!("select '{of}{i}'"));
                        wire.bind("p", &format!("{round}s{i}"), &[]).execute("p", 0);
                        wire.message('C', b"Pp\0");
                    }
                    2 => {
                        wire.run(&format!("select '{of}{i}' from note limit 1")).sync();
                        syncs += 1;
                    }
                    3 => {
                        wire.sync().query(&format!("select '{of}{i}'"));
                        syncs += 2;
                    }
                    4 => {
                        wire.run(&format!("select '{of}{i}'")).flush();
                    }
                    5 => {
                        wire.sync().query(&format!("select '{of}{i}'; select 'second'"));
                        syncs += 2;
                    }
                    _ => {
                        wire.parse("", &format!("select '{of}{i}'")).message('D', b"S\0");
                        wire.bind("", "", &[]).message('D', b"P\0").execute("", 0);
                    }
                }
                expected.push(format!("{of}{i}"));
                if i % 7 == 5 {
                    expected.push("second".to_owned());
                }
            }
            wire.sync().send().await;
            let mut seen = Vec::new();
            for _ in 0..syncs {
                let answer = wire.answer().await;
                assert!(!tags(&answer).contains('E'), "{}", error(&answer).field('M'));
                seen.extend(rows(&answer));
            }
            assert_eq!(seen, expected, "{round}");
        }
    }
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn an_error_skips_to_its_sync_and_no_further() {
    let mut pair = Pair::new().await;
    for sync in [true, false] {
        let a = &mut pair.a;
        a.run("select 1").run("select 1/0").run("select 2").parse("x", "select 'x'");
        a.bind("q", "x", &[]).execute("q", 0).message('C', b"Sx\0").flush();
        if !sync {
            a.send().await;
            assert_eq!(error(&a.until('E').await).field('C'), "22012");
            a.run("select 'skipped'").message('D', b"P\0").copy_data(b"x").send().await;
        }
        a.sync().run("select 'after'").sync().send().await;
        let answer = a.answer().await;
        assert!(rows(&answer).iter().all(|row| row == "1"), "{}", tags(&answer));
        assert!(tags(&answer).ends_with(if sync { "EZ" } else { "Z" }));
        assert_eq!(rows(&a.answer().await), ["after"]);
        assert_eq!(pair.b.value(COUNT).await, "5");
        assert_eq!(pair.a.value(COUNT).await, "3");
    }
    pair.stop().await;
}

#[tokio::test]
async fn a_flush_is_answered_and_holds_the_connection() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    pair.a.run(COUNT).flush().send().await;
    assert_eq!(rows(&pair.a.until('C').await), ["3"]);
    // The transaction is open until the Sync: the other waits.
    pair.b.query(COUNT).send().await;
    pair.a.run(COUNT).flush().send().await;
    assert_eq!(rows(&pair.a.until('C').await), ["3"]);
    pair.a.sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "Z");
    assert_eq!(rows(&pair.b.answer().await), ["5"]);
    // Flush and Sync with nothing to answer need no server.
    pair.a.flush().sync().flush().sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "Z");
    assert_eq!(tags(&pair.a.answer().await), "Z");
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn portals_are_fetched_piecemeal() {
    let mut pair = Pair::new().await;
    pair.a
        .parse("a", "select body from note order by 1")
        .parse("g", "select generate_series(1, 4)");
    pair.a.bind("pa", "a", &[]).bind("pg", "g", &[]).execute("pa", 2).execute("pg", 1).flush();
    pair.a.send().await;
    assert_eq!(rows(&pair.a.until('s').await), ["a1", "a2"]);
    assert_eq!(rows(&pair.a.until('s').await), ["1"]);
    pair.a.execute("pa", 2).execute("pg", 0).sync().send().await;
    assert_eq!(rows(&pair.a.answer().await), ["a3", "2", "3", "4"]);
    assert_eq!(pair.b.value(COUNT).await, "5");
    // A cursor of SQL, in a block.
    done(&mut pair.a, "begin; declare c cursor for select body from note order by 1").await;
    assert_eq!(pair.a.value("fetch c").await, "a1");
    assert_eq!(pair.a.value("fetch c").await, "a2");
    done(&mut pair.a, "commit").await;
    assert_eq!(super::refused(&mut pair.b, "fetch c").await, "34000");
    pair.stop().await;
}

#[tokio::test]
async fn a_query_behind_an_open_pipeline_ends_it() {
    let mut pair = Pair::new().await;
    pair.a.run("select 'first'").query("select 'second'").send().await;
    let answer = pair.a.answer().await;
    assert_eq!(rows(&answer), ["first", "second"], "{}", tags(&answer));
    assert_eq!(pair.b.value(COUNT).await, "5");
    assert_eq!(pair.a.value(COUNT).await, "3");
    pair.stop().await;
}

#[tokio::test]
async fn rows_are_as_postgres_would_send_them() {
    let mut pair = Pair::of(open()).await;
    // Tags of a Query are those of a Query, though it went out as something else.
    for (sql, expected) in [
        ("select 1 where false", "TCZ"),
        ("", "IZ"),
        (";", "IZ"),
        ("-- nothing", "IZ"),
        ("select 1; select 2", "TDCTDCZ"),
        ("begin; commit", "CCZ"),
        ("update note set body = body", "CZ"),
        ("update note set body = body returning id", "TDDDCZ"),
        ("copy (select 1) to stdout", "HdcCZ"),
        ("select 1; copy (select 1) to stdout; select 2", "TDCHdcCTDCZ"),
        ("show timezone", "TDCZ"),
        ("explain select 1", "TDCZ"),
        ("do $$ begin raise notice 'n'; end $$", "NCZ"),
        ("commit", "NCZ"),
        ("selec 1", "EZ"),
        ("select 1; selec 2", "EZ"),
        ("values (1), (2)", "TDDCZ"),
    ] {
        let answer = pair.a.ask(sql).await;
        let seen = tags(&answer);
        // A text that cannot be read is refused as a whole by Postgres, and piece by piece here.
        assert!(seen == expected || sql.ends_with("selec 2") && seen == "TDCEZ", "{sql}: {seen}");
    }
    let pid = pair.b.value(PID).await;
    pair.check(&pid).await;
    pair.stop().await;
}

/// What a text would have ended, had it not failed, is open still, and what comes in the same write
/// must not wait for others to have had the connection.
#[tokio::test]
async fn a_failed_block_is_ended_by_what_was_sent_behind_it() {
    let mut pair = Pair::new().await;
    for tail in ["rollback", "commit"] {
        pair.a.query("begin; select nothing; commit; select 1").run("select 1").sync();
        pair.a.query(tail).query(COUNT).send().await;
        assert_eq!(error(&pair.a.answer().await).field('C'), "42703");
        assert_eq!(error(&pair.a.answer().await).field('C'), "25P02");
        assert_eq!(tags(&pair.a.answer().await), "CZ", "{tail}");
        assert_eq!(rows(&pair.a.answer().await), ["3"], "{tail}");
        assert_eq!(pair.b.value(COUNT).await, "5");
    }
    pair.stop().await;
}
