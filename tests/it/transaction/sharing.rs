//! A statement that clients share is the same statement: what it means, and how it is planned, is
//! not what another client's settings have made of it.

use super::{COUNT, Database, PID, Pair, done, execute, open, rows_of, tags};
use crate::support::wire::{Wire, rows};

/// A setting, a text whose meaning depends on it, and what it is with and without.
const MEANINGS: &[(&str, &str, &str, &str)] = &[
    ("datestyle = 'SQL, DMY'", "to_char('01/02/2026'::date, 'MM-DD')", "02-01", "01-02"),
    (
        "timezone = 'Asia/Tokyo'",
        "extract(epoch from '1970-01-02 00:00'::timestamptz)::bigint",
        "54000",
        "86400",
    ),
    (
        "intervalstyle = 'sql_standard'",
        "extract(epoch from '-1 0:00:01'::interval)::bigint",
        "-86401",
        "-86399",
    ),
    ("array_nulls = off", "(('{NULL}'::text[])[1]) is null", "f", "t"),
    ("transform_null_equals = on", "(null::int = null) is true", "t", "f"),
    ("extra_float_digits = 0", "(0.1::float8 + 0.2::float8)::text", "0.3", "0.30000000000000004"),
    ("bytea_output = 'escape'", "('a'::bytea)::text", "a", "\\x61"),
    ("search_path = 'pg_catalog'", "to_regclass('note') is null", "t", "f"),
];

async fn prepare_and_run(wire: &mut Wire, name: &str, sql: &str) -> Vec<String> {
    wire.message('C', format!("S{name}\0").as_bytes()).parse(name, sql);
    wire.bind("", name, &[]).execute("", 0).sync().send().await;
    let answer = wire.answer().await;
    assert_eq!(tags(&answer).replace('N', ""), "312DCZ", "{sql}");
    rows(&answer)
}

async fn utc(pair: &mut Pair) {
    // What the server has by itself depends on where it was made.
    for wire in [&mut pair.a, &mut pair.b] {
        done(wire, "set timezone = 'UTC'").await;
    }
}

#[tokio::test]
async fn what_a_text_means_is_its_clients_own() {
    let mut pair = Pair::new().await;
    utc(&mut pair).await;
    for (index, (setting, meaning, with, without)) in MEANINGS.iter().enumerate() {
        for (round, local) in [true, false].into_iter().enumerate() {
            let sql = format!("select {meaning} as x{index}{round}");
            // Whoever prepares it first.
            if index % 2 == 0 {
                assert_eq!(prepare_and_run(&mut pair.b, "s", &sql).await, [*without], "{sql}");
            }
            let scope = if local { "local" } else { "session" };
            if local {
                done(&mut pair.a, "begin").await;
            }
            done(&mut pair.a, &format!("set {scope} {setting}")).await;
            assert_eq!(prepare_and_run(&mut pair.a, "s", &sql).await, [*with], "{sql} {scope}");
            if local {
                done(&mut pair.a, "commit").await;
            }
            for _ in 0..2 {
                assert_eq!(prepare_and_run(&mut pair.b, "s", &sql).await, [*without], "{sql}");
                assert_eq!(rows_of(&mut pair.b, "s").await, [*without], "{sql} {scope}");
            }
            let again = if local { without } else { with };
            assert_eq!(prepare_and_run(&mut pair.a, "s", &sql).await, [*again], "{sql} {scope}");
            if !local {
                done(&mut pair.a, "reset all").await;
                done(&mut pair.a, "set timezone = 'UTC'").await;
            }
        }
    }
    let pid = pair.b.value(PID).await;
    pair.check(&pid).await;
    pair.stop().await;
}

/// A constant that means the moment at which a text is parsed is not an earlier client's.
#[tokio::test]
async fn a_moment_is_its_clients_own() {
    let mut pair = Pair::new().await;
    let sql = "select extract(epoch from 'now'::timestamptz)::text";
    let first = prepare_and_run(&mut pair.a, "s", sql).await;
    assert_ne!(prepare_and_run(&mut pair.b, "s", sql).await, first);
    pair.stop().await;
}

/// In the same bytes two encodings see two texts.
#[tokio::test]
async fn a_text_is_shared_only_by_those_who_read_it_alike() {
    let mut pair = Pair::new().await;
    let sql = "select length('\u{e9}')";
    done(&mut pair.a, "set client_encoding = 'LATIN1'").await;
    for _ in 0..2 {
        assert_eq!(prepare_and_run(&mut pair.a, "s", sql).await, ["2"]);
        assert_eq!(prepare_and_run(&mut pair.b, "s", sql).await, ["1"]);
        assert_eq!(rows_of(&mut pair.a, "s").await, ["2"]);
        assert_eq!(rows_of(&mut pair.b, "s").await, ["1"]);
    }
    // One that was prepared in another encoding is not read anew as something else.
    done(&mut pair.a, "set client_encoding = 'UTF8'").await;
    done(&mut pair.b, "discard all").await;
    let answer = execute(&mut pair.a, "s").await;
    assert!(tags(&answer).contains('E') || rows(&answer) == ["2"], "{}", tags(&answer));
    assert_eq!(prepare_and_run(&mut pair.a, "s", sql).await, ["1"]);
    done(&mut pair.a, "set standard_conforming_strings = off").await;
    let sql = r"select length('\\')";
    assert_eq!(prepare_and_run(&mut pair.a, "s", sql).await, ["1"]);
    assert_eq!(prepare_and_run(&mut pair.b, "s", sql).await, ["2"]);
    pair.stop().await;
}

/// Rows from the end of the table first: in the order of its index they come by another plan.
const TABLE: &str = "create table public.t (id int primary key);
    insert into public.t select 1000 - n from generate_series(1, 300) n;
    analyze public.t;
    grant select on public.t to public;
    create function public.meant() returns text stable language plpgsql as
        $$ begin return to_char('01/02/2026'::date, 'MM-DD'); end $$;
    create function public.first_id() returns int stable language plpgsql as
        $$ begin return (select id from public.t where id > 0 limit 1); end $$;";

async fn pair_with_table() -> Pair {
    let database = Database::new();
    database.superuser().await.batch_execute(TABLE).await.unwrap();
    let vouched = "harmless_functions = [\"public.meant\", \"public.first_id\"]";
    Pair::on(open().set(vouched).run_on(database).await).await
}

async fn first(wire: &mut Wire, name: &str) -> Vec<String> {
    wire.bind("", name, &["0"]).execute("", 0).sync().send().await;
    rows(&wire.answer().await)
}

#[tokio::test]
async fn nobody_runs_by_plans_of_anothers_making() {
    let mut pair = pair_with_table().await;
    let sql = "select id from public.t where id > $1::int limit 1";
    for wire in [&mut pair.a, &mut pair.b] {
        wire.parse("s", sql).sync().send().await;
        assert_eq!(tags(&wire.answer().await), "1Z");
    }
    assert_eq!(first(&mut pair.b, "s").await, ["999"], "in the table's own order");
    for set in ["set local enable_seqscan = off", "set enable_seqscan = off"] {
        done(&mut pair.a, "begin").await;
        done(&mut pair.a, set).await;
        done(&mut pair.a, "set local enable_bitmapscan = off").await;
        for _ in 0..8 {
            assert_eq!(first(&mut pair.a, "s").await, ["700"], "{set}");
        }
        assert_eq!(pair.a.value("select public.first_id()").await, "700");
        done(&mut pair.a, "commit").await;
        for _ in 0..8 {
            assert_eq!(first(&mut pair.b, "s").await, ["999"], "{set}");
        }
        assert_eq!(pair.b.value("select public.first_id()").await, "999", "{set}");
    }
    pair.stop().await;
}

#[tokio::test]
async fn what_a_function_says_is_not_what_anothers_settings_made_of_it() {
    let mut pair = pair_with_table().await;
    for set in ["set local datestyle = 'SQL, DMY'", "set datestyle = 'SQL, DMY'"] {
        let answer = pair.a.ask(&format!("begin; {set}; select public.meant(); commit")).await;
        assert_eq!(rows(&answer), ["02-01"], "{set}");
        assert_eq!(pair.b.value("select public.meant()").await, "01-02", "{set}");
    }
    pair.stop().await;
}

/// Limits of time are set in every transaction by many: they take nobody's statements away.
#[tokio::test]
async fn what_bears_on_no_plan_costs_nothing() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for wire in [&mut pair.a, &mut pair.b] {
        wire.parse("same", COUNT).sync().send().await;
        wire.answer().await;
    }
    for (wire, count) in [(&mut pair.a, "3"), (&mut pair.b, "5")] {
        let answer = wire.ask("begin; set local statement_timeout = '1min'; select 1").await;
        assert_eq!(tags(&answer), "CCTDCZ");
        assert_eq!(rows_of(wire, "same").await, [count]);
        done(wire, "commit").await;
    }
    pair.check(&pid).await;
    pair.stop().await;
}
