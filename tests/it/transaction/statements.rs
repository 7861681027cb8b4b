//! Prepared statements: a name means something to its client alone, on any connection.

use super::{COUNT, PID, Pair, done, error, execute, pooled, refused, rows, rows_of, tags};

#[tokio::test]
async fn a_name_is_its_clients_own() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    pair.a.parse("s", "select 'of a', count(*) from note").sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "1Z");
    // Not the other's.
    assert_eq!(error(&execute(&mut pair.b, "s").await).field('C'), "26000");
    pair.b.message('D', b"Ss\0").sync().send().await;
    assert_eq!(error(&pair.b.answer().await).field('C'), "26000");
    pair.b.parse("s", "select 'of b', count(*) from note").sync().send().await;
    assert_eq!(tags(&pair.b.answer().await), "1Z");
    for _ in 0..3 {
        for (wire, of, count) in [(&mut pair.a, "of a", "3"), (&mut pair.b, "of b", "5")] {
            let answer = execute(wire, "s").await;
            assert_eq!(answer[1].columns(), [of, count]);
        }
    }
    // The same text is one statement for both, and still nobody's rows but their own.
    for wire in [&mut pair.a, &mut pair.b] {
        wire.parse("same", COUNT).sync().send().await;
        assert_eq!(tags(&wire.answer().await), "1Z");
    }
    for _ in 0..3 {
        assert_eq!(rows_of(&mut pair.a, "same").await, ["3"]);
        assert_eq!(rows_of(&mut pair.b, "same").await, ["5"]);
    }
    // Names taken are told in Postgres' words; closed, they are free.
    pair.a.parse("s", "select 1").sync().send().await;
    assert_eq!(error(&pair.a.answer().await).field('C'), "42P05");
    pair.a.message('C', b"Ss\0").parse("s", "select 'again'").sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "31Z");
    assert_eq!(rows_of(&mut pair.a, "s").await, ["again"]);
    assert_eq!(rows_of(&mut pair.b, "s").await, ["of b"]);
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn what_one_gives_up_the_other_keeps() {
    let mut pair = Pair::new().await;
    for wire in [&mut pair.a, &mut pair.b] {
        for name in ["s", "t"] {
            wire.parse(name, &format!("select '{name}'")).sync().send().await;
            wire.answer().await;
        }
    }
    for sql in ["deallocate s", "deallocate all", "discard all"] {
        pair.a.parse("u", "select 'u'").sync().send().await;
        pair.a.answer().await;
        assert_eq!(tags(&done(&mut pair.a, sql).await), "CZ", "{sql}");
        assert_eq!(error(&execute(&mut pair.a, "s").await).field('C'), "26000", "{sql}");
        if sql != "deallocate s" {
            assert_eq!(error(&execute(&mut pair.a, "u").await).field('C'), "26000", "{sql}");
        } else {
            assert_eq!(rows_of(&mut pair.a, "u").await, ["u"]);
        }
        assert_eq!(rows_of(&mut pair.b, "s").await, ["s"], "{sql}");
        assert_eq!(rows_of(&mut pair.b, "t").await, ["t"], "{sql}");
        pair.a.parse("s", "select 's'").sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "1Z", "{sql}");
        assert_eq!(rows_of(&mut pair.a, "s").await, ["s"]);
    }
    // By SQL each reaches its own, and no other's.
    for sql in ["execute t", "execute u", "deallocate nothing"] {
        assert_eq!(refused(&mut pair.a, sql).await, "26000", "{sql}");
    }
    assert_eq!(pair.b.value("execute t").await, "t");
    pair.stop().await;
}

/// Names that need quotes, as every form of the grammar writes them.
#[tokio::test]
async fn deallocate_drops_a_statement_by_any_form_of_its_name() {
    let mut pair = Pair::new().await;
    let forms = [
        ("s", " /* x */ deallocate -- y\n S;"),
        ("my query", "deallocate prepare \"my query\""),
        ("q\"x", "deallocate \"q\"\"x\""),
        ("q\"y", "deallocate u&\"q!0022y\" uescape '!'"),
        ("a;b", "select 1; deallocate \"a;b\"; select 2"),
        ("été", "deallocate \"été\""),
        ("prepare", "deallocate prepare"),
        ("t", "select 1; deallocate all"),
        ("u", "begin; deallocate u; commit"),
    ];
    for (name, sql) in forms {
        for by_query in [true, false] {
            if sql.contains("; ") && !by_query {
                continue;
            }
            pair.a.parse(name, "select 'of a'").sync().send().await;
            assert_eq!(tags(&pair.a.answer().await), "1Z", "{sql}");
            pair.b.value(COUNT).await;
            let answer = match by_query {
                true => done(&mut pair.a, sql).await,
                false => super::extended(&mut pair.a, sql).await,
            };
            let said = answer.iter().any(|it| it.tag == 'C' && it.body.starts_with(b"DEALLOCATE"));
            assert!(said, "{sql}: {}", tags(&answer));
            assert_eq!(error(&execute(&mut pair.a, name).await).field('C'), "26000", "{sql}");
            // At once, in the same pipeline, the name is free.
            pair.a.parse(name, "select 'of a'").sync().query(sql).parse(name, "select 'anew'");
            pair.a.sync().send().await;
            for _ in 0..2 {
                pair.a.answer().await;
            }
            assert_eq!(tags(&pair.a.answer().await), "1Z", "{sql}");
            assert_eq!(rows_of(&mut pair.a, name).await, ["anew"], "{sql}");
            pair.a.message('C', &[b"S", name.as_bytes(), b"\0"].concat()).sync().send().await;
            pair.a.answer().await;
        }
    }
    pair.stop().await;
}

#[tokio::test]
async fn deallocate_in_a_failed_transaction_drops_nothing() {
    let mut pair = Pair::new().await;
    for sql in ["deallocate s", "deallocate all"] {
        pair.a.message('C', b"Ss\0").parse("s", "select 'of a'").sync().send().await;
        pair.a.answer().await;
        done(&mut pair.a, "begin").await;
        refused(&mut pair.a, "select 1/0").await;
        assert_eq!(refused(&mut pair.a, sql).await, "25P02");
        done(&mut pair.a, "rollback").await;
        assert_eq!(rows_of(&mut pair.a, "s").await, ["of a"], "{sql}");
    }
    pair.stop().await;
}

#[tokio::test]
async fn execute_runs_a_statement_of_the_protocol() {
    let mut pair = Pair::new().await;
    pair.a.parse("my query", "select $1 || ' of a'").sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "1Z");
    for _ in 0..2 {
        assert_eq!(pair.a.value("execute \"my query\"('one')").await, "one of a");
        assert_eq!(pair.a.value("/* x */ EXECUTE \"my query\" (lower('TWO'))").await, "two of a");
        assert_eq!(refused(&mut pair.b, "execute \"my query\"('x')").await, "26000");
        assert_eq!(pair.b.value(COUNT).await, "5");
    }
    pair.a.parse("c", COUNT).sync().send().await;
    pair.a.answer().await;
    assert_eq!(pair.a.value("execute c").await, "3");
    pair.stop().await;
}

#[tokio::test]
async fn the_unnamed_statement_is_its_clients_own() {
    let mut pair = Pair::new().await;
    pair.a.parse("", "select 'of a'").sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "1Z");
    assert_eq!(error(&execute(&mut pair.b, "").await).field('C'), "26000");
    pair.b.message('D', b"S\0").sync().send().await;
    assert_eq!(error(&pair.b.answer().await).field('C'), "26000");
    pair.b.parse("", "select 'of b'").sync().send().await;
    pair.b.answer().await;
    for _ in 0..3 {
        assert_eq!(rows_of(&mut pair.a, "").await, ["of a"]);
        assert_eq!(rows_of(&mut pair.b, "").await, ["of b"]);
    }
    // A Query takes it away, as Postgres has it.
    done(&mut pair.a, "select 1").await;
    assert_eq!(error(&execute(&mut pair.a, "").await).field('C'), "26000");
    assert_eq!(rows_of(&mut pair.b, "").await, ["of b"]);
    pair.stop().await;
}

#[tokio::test]
async fn portals_end_with_their_transaction() {
    let mut pair = Pair::new().await;
    done(&mut pair.a, "begin").await;
    pair.a.parse("", "select generate_series(1, 9)").bind("p", "", &[]).execute("p", 2).sync();
    pair.a.send().await;
    assert_eq!(rows(&pair.a.answer().await), ["1", "2"]);
    pair.a.execute("p", 3).sync().send().await;
    assert_eq!(rows(&pair.a.answer().await), ["3", "4", "5"]);
    done(&mut pair.a, "commit").await;
    for wire in [&mut pair.b, &mut pair.a] {
        wire.execute("p", 0).sync().send().await;
        assert_eq!(error(&wire.answer().await).field('C'), "34000");
    }
    pair.stop().await;
}

#[tokio::test]
async fn more_statements_than_a_connection_holds_all_work() {
    let mut pair = Pair::of(pooled().set("max_prepared_statements = 5")).await;
    let pid = pair.a.value(PID).await;
    for i in 0..30 {
        for (wire, of) in [(&mut pair.a, "a"), (&mut pair.b, "b")] {
            // Half of the texts are the other's, too.
            let text = if i % 2 == 0 {
                format!("select 'both {i}'")
            } else {
                format!("select '{of} {i}'")
            };
            wire.parse(&format!("s{i}"), &text).sync().send().await;
            let answer = wire.answer().await;
            assert_eq!(tags(&answer), "1Z", "{:?}", String::from_utf8_lossy(&answer[0].body));
        }
    }
    for round in 0..3 {
        for i in (0..30).chain((0..30).rev().step_by(3)) {
            for (wire, of) in [(&mut pair.a, "a"), (&mut pair.b, "b")] {
                let of = if i % 2 == 0 { "both" } else { of };
                assert_eq!(rows_of(wire, &format!("s{i}")).await, [format!("{of} {i}")], "{round}");
            }
        }
        // In one pipeline.
        for i in 0..30 {
            pair.a.bind("", &format!("s{i}"), &[]).execute("", 0);
        }
        pair.a.sync().send().await;
        assert_eq!(rows(&pair.a.answer().await).len(), 30);
    }
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn a_parse_that_fails_takes_no_name() {
    let mut pair = Pair::new().await;
    for _ in 0..3 {
        for _ in 0..2 {
            pair.a.parse("s", "select nothing").sync().send().await;
            assert_eq!(error(&pair.a.answer().await).field('C'), "42703");
        }
        assert_eq!(error(&execute(&mut pair.a, "s").await).field('C'), "26000");
    }
    // Skipped by the error ahead of it.
    pair.a.run("select 1/0").parse("s", "select 'skipped'").sync().send().await;
    assert_eq!(error(&pair.a.answer().await).field('C'), "22012");
    assert_eq!(error(&execute(&mut pair.a, "s").await).field('C'), "26000");
    pair.a.parse("s", "select 'mine'").sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "1Z");
    assert_eq!(rows_of(&mut pair.a, "s").await, ["mine"]);
    assert_eq!(error(&execute(&mut pair.b, "s").await).field('C'), "26000");
    // Rolled back or not, a statement stays.
    pair.a.query("begin").parse("t", "select 't'").sync().query("rollback").send().await;
    for _ in 0..3 {
        pair.a.answer().await;
    }
    assert_eq!(rows_of(&mut pair.a, "t").await, ["t"]);
    pair.stop().await;
}

/// The names that the server knows are nothing to count up to.
#[tokio::test]
async fn nobody_guesses_the_name_of_anothers_statement() {
    let mut pair = Pair::new().await;
    pair.a.parse("s", "select 'of a'").sync().send().await;
    pair.a.answer().await;
    assert_eq!(rows_of(&mut pair.a, "s").await, ["of a"]);
    for number in 0..40 {
        for name in [format!("_cloison_{number}"), format!("_cloison_{number:016x}")] {
            // A guess that fails leads to a reset, so that it has to be prepared for the next.
            assert_eq!(rows_of(&mut pair.a, "s").await, ["of a"]);
            let answer = execute(&mut pair.b, &name).await;
            assert_eq!(error(&answer).field('C'), "26000", "{name}");
        }
    }
    for name in ["s", "_cloison_bind", "_cloison_"] {
        let answer = execute(&mut pair.b, name).await;
        assert_eq!(error(&answer).field('C'), "26000", "{name}");
    }
    assert_eq!(rows_of(&mut pair.a, "s").await, ["of a"]);
    pair.stop().await;
}

/// What one runs is never what the other has prepared last, whatever has taken the place of it on
/// the server.
#[tokio::test]
async fn an_unnamed_statement_is_not_run_for_another() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for by in ["query", "text", "extended", "error", "refused", "named", "set", "settings"] {
        pair.a.parse("", "select 'of a'").sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "1Z");
        match by {
            "query" => drop(done(&mut pair.b, "select 'of b'").await),
            "text" => drop(done(&mut pair.b, "select 'of b'; select 'of b'").await),
            "extended" => drop(super::extended(&mut pair.b, "select 'of b'").await),
            "error" => drop(super::extended(&mut pair.b, "select 'of b', nothing").await),
            "refused" => drop(refused(&mut pair.b, "listen news").await),
            "named" => {
                pair.b.parse("s", "select 'of b'").bind("", "s", &[]).execute("", 0).sync();
                pair.b.send().await;
                pair.b.answer().await;
            }
            "set" => drop(done(&mut pair.b, "set work_mem = '1MB'").await),
            // B's settings are applied, and taken back for A, who has none.
            _ => drop(pair.b.value("show work_mem").await),
        }
        assert_eq!(rows_of(&mut pair.a, "").await, ["of a"], "{by}");
        assert_eq!(rows_of(&mut pair.a, "").await, ["of a"], "{by}");
        // Without one of its own, nobody has another's.
        pair.b.message('C', b"S\0").sync().send().await;
        pair.b.answer().await;
        assert_eq!(error(&execute(&mut pair.b, "").await).field('C'), "26000", "{by}");
        assert_eq!(rows_of(&mut pair.a, "").await, ["of a"], "{by}");
    }
    // Settings are read and applied by unnamed statements, too, and B's own has a name.
    for _ in 0..2 {
        pair.a.parse("", "select 'of a'").sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "1Z");
        assert_eq!(rows_of(&mut pair.b, "s").await, ["of b"]);
        assert_eq!(rows_of(&mut pair.a, "").await, ["of a"]);
    }
    for _ in 0..2 {
        pair.a.parse("", "set work_mem = '2MB'").sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "1Z");
        for _ in 0..2 {
            assert_eq!(tags(&execute(&mut pair.a, "").await), "2CZ");
        }
    }
    pair.check(&pid).await;
    pair.stop().await;
}

/// A Parse that the server skips leaves there what was there before.
#[tokio::test]
async fn an_unnamed_statement_that_was_skipped_is_not_anothers() {
    let mut pair = Pair::new().await;
    pair.a.parse("s", "select 1/0").sync().send().await;
    pair.a.answer().await;
    for _ in 0..3 {
        pair.b.parse("", "select 'of b'").sync().send().await;
        assert_eq!(rows(&pair.b.answer().await).len(), 0);
        pair.a.bind("", "s", &[]).execute("", 0).parse("", "select 'of a'").sync().send().await;
        assert_eq!(error(&pair.a.answer().await).field('C'), "22012");
        assert_eq!(error(&execute(&mut pair.a, "").await).field('C'), "26000");
        assert_eq!(rows_of(&mut pair.b, "").await, ["of b"]);
    }
    pair.stop().await;
}

/// What the server has given up in the middle of a transaction is prepared anew in it.
#[tokio::test]
async fn what_is_deallocated_in_a_transaction_is_there_again() {
    let mut pair = Pair::new().await;
    for give_up in ["deallocate all", "deallocate prepare all"] {
        pair.a.parse("s", "select 'of a'").sync().send().await;
        pair.a.answer().await;
        assert_eq!(rows_of(&mut pair.a, "s").await, ["of a"]);
        for sql in ["begin", COUNT, give_up] {
            done(&mut pair.a, sql).await;
        }
        assert_eq!(error(&execute(&mut pair.a, "s").await).field('C'), "26000", "{give_up}");
        done(&mut pair.a, "rollback and chain").await;
        pair.a.parse("t", "select 'of a'").sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "1Z");
        assert_eq!(rows_of(&mut pair.a, "t").await, ["of a"], "{give_up}");
        // So is the statement that binds the tenant.
        assert_eq!(pair.a.value(COUNT).await, "3", "{give_up}");
        done(&mut pair.a, "commit").await;
        done(&mut pair.a, "discard all").await;
        assert_eq!(pair.b.value(COUNT).await, "5", "{give_up}");
    }
    pair.stop().await;
}
