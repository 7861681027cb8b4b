//! Tables of texts that may pass and texts that may not.

use super::*;

const PLAIN: Lexis = Lexis { standard_strings: true, safe_encoding: true };

fn guard(statements: &[Group], settings: &[&str]) -> Guard {
    Guard::new(Policy {
        whose: Whose::Tenants,
        statements: statements.iter().copied().collect(),
        settings: settings.iter().map(|name| (*name).to_owned()).collect(),
        longest: 1 << 20,
    })
}

fn judge(text: &str) -> Result<(), Refusal> {
    guard(&[], &[]).judge(text.as_bytes(), PLAIN)
}

#[test]
fn what_applications_do_passes() {
    for text in [
        "",
        ";",
        "-- nothing\n",
        "select 1",
        "table projects",
        "values (1), (2)",
        "with gone as (delete from projects returning *) select count(*) from gone",
        "select * from projects for update skip locked",
        "insert into projects (name) values ($1) on conflict do nothing returning id",
        "update projects set name = $1 where id = $2",
        "delete from projects using tasks where tasks.project_id = projects.id",
        "merge into p using q on p.id = q.id when matched then update set a = 1",
        "copy projects to stdout",
        "copy projects (name) from stdin with (format csv)",
        "copy (select * from projects) to stdout",
        "begin isolation level serializable read only; commit and chain; rollback; abort",
        "start transaction; savepoint a; rollback to a; release a; end",
        "declare c cursor with hold for select 1; fetch 10 from c; move c; close all",
        "prepare a (int) as select $1; execute a(1); deallocate all",
        "show all; show timezone",
        "set timezone = 'UTC'; set time zone 'UTC'; set names 'utf8'; set schema 'public'",
        "set local statement_timeout = 100; SET DateStyle TO iso; set xml option document",
        "set session characteristics as transaction read only; set transaction read only",
        "set constraints all deferred",
        "reset all; reset work_mem; set work_mem to default; discard all; discard temp",
        // What pools of drivers send.
        "select pg_advisory_unlock_all(); close all; unlisten *; reset all;",
        "set session authorization default; reset session authorization; reset role",
        "set role none",
        "call monthly_report(1)",
        "select 'alter role'; select $$ do $$",
    ] {
        assert_eq!(judge(text), Ok(()), "{text}");
    }
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    match judge(text) {
        Err(Refusal::Statement { name, .. }) => assert_eq!(name, expected, "{text}"),
        Err(Refusal::Setting(name)) => assert_eq!(name, expected, "{text}"),
        Err(Refusal::Explain) => assert_eq!("EXPLAIN", expected, "{text}"),
        Err(Refusal::Unparsable { message, .. }) => assert_eq!(message, expected, "{text}"),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_reaches_beyond_the_session_is_refused() {
    for (text, expected) in [
        ("alter role current_user set search_path = evil", "ALTER ROLE"),
        ("alter role current_user password 'x'", "ALTER ROLE"),
        ("alter user app_tenant valid until 'yesterday'", "ALTER ROLE"),
        ("set role other", "SET ROLE"),
        ("set role 'none of these'", "SET ROLE"),
        ("set local role other", "SET ROLE"),
        ("set session authorization other", "SET SESSION AUTHORIZATION"),
        ("listen news", "LISTEN"),
        ("notify news, 'x'", "NOTIFY"),
        ("lock table projects", "LOCK"),
        ("prepare transaction 'x'", "PREPARE TRANSACTION"),
        ("commit prepared 'x'", "COMMIT PREPARED"),
        ("rollback prepared 'x'", "ROLLBACK PREPARED"),
        ("do $$ begin end $$", "DO"),
        ("create table t (a int)", "CREATE TABLE"),
        ("create temp table t (a int)", "CREATE TABLE"),
        ("create table t as select 1", "CREATE TABLE AS"),
        ("select 1 into t", "SELECT INTO"),
        ("select 1 into t union select 2 union select 3", "SELECT INTO"),
        ("create function f() returns int language sql as 'select 1'", "CREATE FUNCTION"),
        ("create view v as select 1", "CREATE VIEW"),
        ("drop table projects", "DROP"),
        ("alter table projects disable row level security", "ALTER TABLE"),
        ("create policy p on projects", "CREATE POLICY"),
        ("truncate projects", "TRUNCATE"),
        ("grant all on projects to public", "GRANT or REVOKE"),
        ("copy projects to '/tmp/x'", "COPY with a file of the server"),
        ("copy projects from '/tmp/x'", "COPY with a file of the server"),
        ("copy projects from program 'id'", "COPY with a program of the server"),
        ("copy (select 1) to program 'id'", "COPY with a program of the server"),
        ("vacuum", "VACUUM"),
        ("analyze", "ANALYZE"),
        ("checkpoint", "CHECKPOINT"),
        ("load 'x'", "LOAD"),
        ("alter system set work_mem = '1GB'", "ALTER SYSTEM"),
        ("create server s foreign data wrapper w", "this kind of statement"),
        ("set work_mem = '1GB'", "work_mem"),
        ("set local work_mem = '1GB'", "work_mem"),
        ("set session_replication_role = replica", "session_replication_role"),
        ("set cloison.context = ''", "cloison.context"),
        ("set \"cloison.context\" = ''", "cloison.context"),
        ("set app.owner = 'x'", "app.owner"),
        ("set transaction snapshot '1-1-1'", "SET TRANSACTION SNAPSHOT"),
        ("explain select 1", "EXPLAIN"),
        ("explain (costs off) select 1", "EXPLAIN"),
        ("explain (costs off, costs on) select 1", "EXPLAIN"),
        ("explain (verbose, costs false, format json) delete from projects", "EXPLAIN"),
        ("explain (costs off, analyze off, buffers 0) execute a", "EXPLAIN"),
        ("explain analyze select 1", "EXPLAIN"),
        ("explain (costs off, analyze) select 1", "EXPLAIN"),
        ("explain (costs off, buffers true) select 1", "EXPLAIN"),
        ("explain (costs off, newest) select 1", "EXPLAIN"),
        // Inside others, and behind others.
        ("select 1; alter role current_user set a = b", "ALTER ROLE"),
        ("/* select */ do $$ begin end $$; select 1", "DO"),
        ("selec 1", "syntax error at or near \"selec\""),
        ("select 1; selec 1", "syntax error at or near \"selec\""),
    ] {
        refused(text, expected);
    }
}

#[test]
fn no_spelling_passes() {
    for text in [
        "SeT rOlE other",
        "set/**/role--\nother",
        "/* /* select */ 1 */ set role other",
        "-- select 1\rset role other",
        "\u{b}\u{c}\t;;; set role other",
        "set \"role\" = 'other'",
        r#"set u&"\0072ole" = 'other'"#,
        r#"set local u&"!0072ole" uescape '!' to 'other'"#,
        r#"set u&"cloison\002econtext" = 'x'"#,
        r#"set u&"\0063loison".context = 'x'"#,
        "set Cloison.CONTEXT to ''",
        "LISTEN \"select\"",
        "select 1 \\; do $$ $$",
        &format!("/* {} */ set role other", "select 1; ".repeat(10_000)),
    ] {
        let start: String = text.chars().take(60).collect();
        assert!(judge(text).is_err(), "{start}");
    }
}

#[test]
fn an_operator_gives_kinds_and_settings_back() {
    let pass = |group, text: &str| {
        let given = guard(&[group], &[]).judge(text.as_bytes(), PLAIN);
        assert_eq!(given, Ok(()), "{text} with {group:?}");
        assert!(judge(text).is_err(), "{text} without");
    };
    pass(Group::Ddl, "create table t (a int)");
    pass(Group::Do, "do $$ begin end $$");
    pass(Group::Explain, "explain (analyze, buffers) select 1");
    pass(Group::Explain, "explain (costs off) select 1");
    pass(Group::Listen, "listen news; notify news");
    pass(Group::Lock, "lock table projects");
    pass(Group::Maintenance, "vacuum; analyze");
    pass(Group::PrepareTransaction, "prepare transaction 'x'");
    pass(Group::TemporaryTables, "create temp table t (a int); drop table t");
    pass(Group::TemporaryTables, "create temporary table t as select 1");
    pass(Group::TemporaryTables, "create table pg_temp.t (a int)");
    pass(Group::TemporaryTables, "select 1 into temp t");
    let all = guard(&Group::ALL, &["work_mem", "app.*", "other.one"]);
    for text in ["set work_mem = '4MB'", "set App.Owner = 'x'", "set other.one = 1"] {
        assert_eq!(all.judge(text.as_bytes(), PLAIN), Ok(()), "{text}");
    }
    for text in [
        "alter role current_user set work_mem = '4MB'",
        "set role other",
        "set cloison.context = 'x'",
        "set other.two = 1",
        "truncate projects",
        "copy projects to '/tmp/x'",
        "grant all on projects to public",
    ] {
        assert!(all.judge(text.as_bytes(), PLAIN).is_err(), "{text}");
    }
}

#[test]
fn a_text_that_may_be_read_in_another_way_is_refused() {
    let guard = guard(&[], &[]);
    let old = Lexis { standard_strings: false, safe_encoding: true };
    let sjis = Lexis { standard_strings: true, safe_encoding: false };
    let tricky = br"select '\'; alter role x; --'";
    assert_eq!(
        guard.judge(tricky, PLAIN),
        Err(Refusal::Statement { name: "ALTER ROLE", group: None })
    );
    assert_eq!(guard.judge(br"select '\\'", PLAIN), Ok(()));
    // Even though it has passed before, read in the other way.
    assert_eq!(guard.judge(br"select '\\'", old), Err(Refusal::Unreadable));
    assert_eq!(guard.judge(b"set standard_conforming_strings = on", old), Ok(()));
    assert_eq!(guard.judge("select 'é'".as_bytes(), sjis), Err(Refusal::Unreadable));
    // Latin 1 is not UTF-8, and has ASCII for ASCII.
    assert_eq!(guard.judge(b"select '\xe9' as \xe9t\xe9", PLAIN), Ok(()));
    assert!(guard.judge(b"do \xe9", PLAIN).is_err());
    let long = format!("set \"{}\" = 1", "é".repeat(100));
    assert!(matches!(guard.judge(long.as_bytes(), PLAIN), Err(Refusal::Setting(_))));
    let long = format!("set \"x{}\" = 1", "é".repeat(100));
    assert!(matches!(guard.judge(long.as_bytes(), PLAIN), Err(Refusal::Setting(_))));
}

#[test]
fn depth_and_length_do_no_harm() {
    let deep = [
        format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("select {}1{}", "(select ".repeat(50_000), ")".repeat(50_000)),
        format!("select {}true", "not ".repeat(100_000)),
        format!("select 1{}", " union select 1".repeat(50_000)),
        format!("select 1{}", "+1".repeat(100_000)),
        format!("select 1 into t{}", " union select 1".repeat(50_000)),
        "explain ".repeat(100_000),
        ";".repeat(100_000),
        "select 1;".repeat(100_000),
        "'".repeat(100_001),
        "/*".repeat(3_000),
    ];
    // The smallest stack that a thread of ours has.
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let passed =
        thread.spawn(move || deep.map(|text| judge(&text).is_ok())).unwrap().join().unwrap();
    let [.., semicolons, many, quotes, comments] = passed;
    assert_eq!((semicolons, many, quotes, comments), (true, true, false, false));
    assert!(!passed[0] && !passed[1] && !passed[2] && passed[3] && passed[4] && !passed[5]);
    // A minute, if it were parsed.
    for run in ["/*".repeat(100_000), "+".repeat(200_000)] {
        let text = format!("select 1 {run} 1");
        assert_eq!(judge(&text), Err(Refusal::Costly), "{}", run.len());
    }
    // All memory, and minutes.
    let name = "a.".repeat(100_000);
    for text in [
        format!("set {name}a = 1"),
        format!("reset {}", name.trim_end_matches('.')),
        format!("set /**/ {}\"a\" = 1", "\"a\"\n. ".repeat(1_000)),
        format!("select 0x1f; show {name}a"),
        format!("grant set on parameter {name}a to b"),
        "create global temporary table a();".repeat(10_000),
        "create GLOBAL/**/temp table a();".repeat(10_000),
    ] {
        assert_eq!(judge(&text), Err(Refusal::Costly), "{}", &text[..40]);
    }
    let many = format!("select {}1 from a", "a.b.c, 'global temporary', 1.5, ".repeat(20_000));
    assert_eq!(judge(&many), Ok(()));
    let ruler = format!("/*{}*/ select '{}'", "*".repeat(2_000), "=".repeat(2_000));
    assert_eq!(judge(&ruler), Ok(()));
    let long = format!("select '{}'", "x".repeat(1 << 20));
    assert!(matches!(judge(&long), Err(Refusal::TooLong { .. })));
}

#[test]
fn threads_do_not_disturb_each_other() {
    let guard = guard(&[], &[]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let guard = &guard;
            scope.spawn(move || {
                for number in 0..5000 {
                    let good = format!("select {thread}, {number}");
                    assert_eq!(guard.judge(good.as_bytes(), PLAIN), Ok(()));
                    assert!(guard.judge(b"do $$ $$", PLAIN).is_err());
                    assert!(guard.judge(b"selec", PLAIN).is_err());
                }
            });
        }
    });
}

#[track_caller]
fn stops(text: &str, expected: Option<usize>) {
    match judge(text) {
        Err(Refusal::Unparsable { position, .. }) => assert_eq!(position, expected, "{text}"),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_syntax_error_is_pointed_at() {
    stops("selec 1", Some(1));
    stops("select a from b whre c", Some(22));
    stops("select 1 from", Some(14));
    stops("select 'é' from x x x", Some(21));
    stops("select a a a a", Some(12));
    stops("select 'open", Some(8));
}

/// What the grammar itself does is C, and not counted: `scanning_effort` says how long its scanner
/// may be at work.
#[test]
fn the_work_is_linear() {
    let lexis = Lexis { standard_strings: true, safe_encoding: true };
    crate::scan::tests::is_linear("guard", |text| {
        // One that remembers nothing.
        let guard = Guard::new(Policy { longest: 1 << 20, ..Policy::default() });
        if guard.judge(text, lexis) != Err(Refusal::Costly) {
            assert!(super::scanning_effort(text) <= 512 * text.len() + 1_000_000);
        }
    });
}
