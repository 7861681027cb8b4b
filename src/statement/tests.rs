//! What is clean, what is not, and where statements end.

use proptest::prelude::*;

use super::*;

const PLAIN: Lexis = Lexis { standard_strings: true, safe_encoding: true };

const SET_LOCAL: Kind = Kind::SetLocal { bears_on_plans: false };

fn read_all(text: &[u8], lexis: Lexis) -> Vec<(String, Reading)> {
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let rest = &text[from..];
        let next = next(rest, lexis, &Surroundings::default());
        let statement = &rest[next.statement.clone()];
        found.push((String::from_utf8_lossy(statement).into_owned(), next.reading));
        from += next.rest;
        if from == text.len() {
            return found;
        }
    }
}

#[track_caller]
fn one_in(text: &str, surroundings: &Surroundings) -> Reading {
    let next = next(text.as_bytes(), PLAIN, surroundings);
    assert_eq!(next.rest, text.len(), "{text}");
    next.reading
}

#[track_caller]
fn check(text: &str, kind: Kind, is_clean: bool) {
    assert_eq!(one_in(text, &Surroundings::default()), Reading { kind, is_clean }, "{text}");
}

fn set(names: &[&str]) -> Kind {
    Kind::Set(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Queries that leave nothing.
const CLEAN: &[&str] = &[
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
    "select",
    "table t",
    "values (1, 2), (3, 4)",
    "(select 1) union all ((select 2))",
    "select count(*), max(a.x) from t a join u b using (id) where a.x in (1, 2) and not (b.y)",
    "select exists (select 1 from v where v.a = any (array[1, 2])), coalesce(a, b), case when (a) then (b) end from t",
    "select pg_catalog.now(), pg_catalog /* */ . /* */ now (), \"pg_catalog\".\"now\"(), \"count\"(*) from t",
    "select left('a', 1), right('a', 1), current_timestamp(3), extract(year from x), trim(both from x) from t",
    "select x::numeric(10,2), y::character varying(10), cast(z as pg_catalog.varchar(3)), w::app.money(1) from t",
    "select t.*, (t).*, t.a, \"t\".\"A b\", s.t.a from s.t",
    "select * from generate_series(1, 10) g(i), (values (1, 2)) v(a, b), (select 1) s(x)",
    "select * from jsonb_to_recordset('[]') as r(a int, b numeric(10,2)), rows from (unnest(a), unnest(b)) as u(x, y)",
    "select sum(a) filter (where a > 1) over (partition by (b) order by (c)), sum(a) over w from t window w as (order by a)",
    "select percentile_cont(0.5) within group (order by a), grouping (a) from t group by grouping sets ((a), rollup (a), cube (a))",
    "select 'it''s' || E'it\\'s; select set_config(''a.b'', ''c'', false)' || $$;$$ || $a$ $$ ; $b$ $a$ || U&'\\0041'",
    "select 'set_config(' as \"set_config\", \"set_config\" from t -- set_config(",
    "select a set_config from t /* set_config( /* */ ( */",
    "select 1 from t for update of t nowait",
    "select 1 from t for no key update skip locked",
    "select a from t where b in (select c from u for share) limit (1) offset (2)",
    "select a, now() at time zone ('utc'), a like ('x') escape ('y') from t order by 1 desc nulls last",
    "select json_object('a' value 1), json_value(j, '$.a' returning int), xmlelement(name a, b) from t",
    "select x.a from json_table('[]', '$[*]' columns (a int path '$')) x",
    "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(hashtext('a')), pg_advisory_unlock_all()",
    "select cloison.current_tenant_id(), cloison.get_current_tenant()",
    "select current_setting('cloison.context', true), pg_typeof(1), pg_get_viewdef('v'::regclass)",
    "select * from pg_settings",
    "insert into t values (default)",
    "INSERT INTO app.t (a, b) VALUES ($1, now()) ON CONFLICT (lower(a)) DO UPDATE SET (b) = (select excluded.b) RETURNING *",
    "insert into set_config (a) select 1",
    "insert into a.t as set_config (a) select 1",
    "update only t as x set a = 1, (b, c) = (1, 2) from u where x.a = u.a returning x.*",
    "delete from t using u where t.a = u.a",
    "merge into t (a) using s on (s.a = t.a) when matched then update set a = 1 when not matched then insert (a) values (1)",
    "with recursive a (x) as (select 1), b(y) as materialized (select 2) insert into t (x) select x from a, b",
    "with a as not materialized (insert into t values (1) returning x), b as (select 1) merge into t using a on (true) when matched then delete",
    "copy t to stdout",
    "COPY t (a, b) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (a))",
    "copy (select a from t where (b)) to stdout csv",
    "copy (insert into t values (1) returning a) to stdout",
    "declare c cursor for select lower(x) from t",
    "declare \"with hold\" binary insensitive no scroll cursor without hold for with a as (select 1) table a",
];

/// Expressions that leave something, or may.
const UNCLEAN_EXPRESSIONS: &[&str] = &[
    "set_config('a.b', 'c', false)",
    "SET_CONFIG('a.b', 'c', false)",
    "set_config/* */('a.b', 'c', false)",
    "set_config -- '\n('a.b', 'c', false)",
    "set_config\x0b('a.b', 'c', false)",
    "\"set_config\"('a.b', 'c', false)",
    "U&\"set_config\"('a.b', 'c', false)",
    "u&\"set!005fconfig\" uescape '!' ('a.b', 'c', false)",
    "pg_catalog.set_config('a.b', 'c', false)",
    "pg_catalog . /* /* */ ' */ set_config /* ( */ ('a.b', 'c', false)",
    "\"pg_catalog\".\"set_config\"('a.b', 'c', false)",
    "U&\"pg_catalog\".now()",
    "db.pg_catalog.now()",
    "app.now()",
    "pg_temp.now()",
    "cloison.enable_superadmin_mode()",
    "CLOISON.set_tenant(a)",
    "1+set_config('a.b', 'c', false)",
    "1+--\nset_config('a.b', 'c', false)",
    "1*/**/set_config('a.b', 'c', false)",
    "'a'||set_config('a.b', 'c', false)",
    "E'\\\\'||set_config('a.b', 'c', false)||'\\'",
    "E'\\''\n'\\'' || nextval('s') || '\\''",
    "$$'$$||nextval('s')||$$'$$",
    "$a$ $b$ $a$||nextval('s')",
    "'/*'||nextval('s')||'*/'",
    "\"--\"||nextval('s')",
    "nextval('s')",
    "lastval()",
    "setseed(0.5)",
    "random()",
    "query_to_xml('select 1', true, true, '')",
    "lo_create(0)",
    "pg_notify('a', 'b')",
    "pg_terminate_backend(1)",
    "nosuch(1)",
    "\"NOW\"()",
    "\"now\"\"\"()",
    "\"values\"(1)",
    "\"in\"(1)",
    "n\u{f6}w()",
    "(1::bigint).pg_advisory_lock",
    "('s'::regclass).nextval",
    "('s'::regclass).\"nextval\"",
    "('s'::regclass) /* */ . -- \n NEXTVAL",
    "('s'::regclass).U&\"nextval\"",
    "g.pg_advisory_lock",
    "a[1].nextval",
    "$1.nextval",
    "s.t.nextval",
    "t.nextval.a",
    "pg_catalog.t.nextval",
    "t.*, g.nextval",
    "g.pg_adv\u{130}sory_lock",
    "treat(1 as pg_advisory_lock)",
    "treat (1 as int)",
    "1::int, set_config('a.b', 'c', false)",
    "(a) operator(pg_catalog.+) set_config('a.b', 'c', false)",
    "1 as x, nextval('s')",
    "1 as as, nextval('s')",
    "1from", // Two tokens before Postgres 15.
    "0x1F",
    "1_000",
    "$1a",
    "1e",
];

/// Statements that leave something, or may.
const UNCLEAN: &[&str] = &[
    "select 1 into x",
    "select 1 as insert into x",
    "select 1 insert into x",
    "select t.insert into x from t",
    "select insert into x from t",
    "select (1) insert into x",
    "with a as (select 1) select 1 insert into x",
    "with insert as (select 1) select 1 into x",
    "with a as (select 1), insert as (select 1) select 1 merge into x",
    "select distinct on (values) set_config('a.b', 'c', false) from t",
    "select distinct on (a) set_config('a.b', 'c', false) from t",
    "select distinct on (now) nextval('s') from t",
    "with x as (select 1) (select 2) order by 1, set_config('a.b', 'c', false)",
    "with x as (select 1) search depth first by a set b (select 2) order by 1, set_config('a.b', 'c', false)",
    "with x as (select 1) search depth first by a set now (select 2) order by 1, set_config('a.b', 'c', false)",
    "insert into t values (1) returning with (old as o) set_config('a.b', 'c', false)",
    "update pg_settings set setting = '1MB' where name = 'work_mem'",
    "update Pg_Settings set setting = '1MB'",
    "update pg_catalog . \"pg_settings\" as x set setting = '1MB'",
    "update U&\"pg_settings\" set setting = '1MB'",
    "update pg_sett\u{130}ngs set setting = '1MB'",
    "with x as (update pg_settings set setting = '1MB') select 1",
    "copy t from stdin where nextval('s') > 1",
    "copy (select nextval('s')) to stdout",
    "declare c cursor for select nextval('s')",
    "select 1) union (select 2",
    "select ((1)",
    "explain select 1",
    "explain analyze select nextval('s')",
    "execute x",
    "deallocate x",
    "deallocate all",
    "call f()",
    "do $$ begin end $$",
    "lock t",
    "notify a",
    "load 'x'",
    "discard temp",
    "discard all x",
    "reset all x",
    "create table t (a int)",
    "create function f() returns int begin atomic select 1; select 2; end",
    "create rule r as on insert to t do also (select 1; select 2)",
    "alter role r set work_mem = '1MB'",
    "vacuum",
    "refresh materialized view v",
    "prepare transaction 'x'",
    "commit prepared 'x'",
    "rollback prepared 'x'",
    "begin atomic",
    "begin 'x'",
    "commit and",
    "set",
    "set a",
    "set a to",
    "set a from current",
    "set session",
    "set \"a.b\" = 1",
    "show",
    "show 'a'",
    "fetch (1)",
    "close",
    "savepoint",
    "copy t to 'x'",
    "copy t from program 'x'",
    "copy t to program 'x'",
    "copy t from \"stdin\"",
    "copy (select 1)",
    "'x'",
    "1",
    "\\d",
    "select \\",
    "select {",
    "select 'x",
    "select \"x",
    "select $$x",
    "select $a$ $b$",
    "select /* /* */",
    "select E'\\'",
    "select 'a\0b'",
    "select 1; select nextval('s') /*",
];

#[test]
fn clean_queries_are_called_clean() {
    for text in CLEAN {
        check(text, Kind::Rows, true);
    }
    check("copy app.t(a) from stdin", Kind::CopyFromStdin, true);
    check("COPY BINARY t FROM STDIN WITH (FORMAT csv)", Kind::CopyFromStdin, true);
    check("copy t from stdout where a > (1)", Kind::CopyFromStdin, true);
}

#[test]
fn what_may_leave_something_is_not_clean() {
    for text in UNCLEAN {
        let statements = read_all(text.as_bytes(), PLAIN);
        assert!(statements.iter().any(|(_, reading)| !reading.is_clean), "{text}");
    }
    let frames = [
        "select {}",
        "select {} from t",
        "select coalesce(1, {})",
        "select now() as a, {}",
        "select 'a', {}",
        "select $$'$$, {}, $$'$$",
        "select (select {})",
        "select * from t, lateral (select {}) x(a)",
        "select a from t where {} group by 1",
        "select a from t order by now(), {}",
        "select case when ({}) then 1 end",
        "values ({})",
        "(select {})",
        "insert into t values (1, {})",
        "insert into t (a) select {}",
        "update t set a = {}",
        "with x as (select {}) select 1",
        "with x(a) as (select 1) select {}",
        "with x(a) as (select 1), y(b) as (select 1) insert into t (a) select 1, {}",
        "declare c cursor for select {}",
        "copy (select {}) to stdout",
        "copy t from stdin where {}",
        "select row(1, (2, ({})))",
    ];
    for expression in UNCLEAN_EXPRESSIONS {
        for frame in frames {
            let text = frame.replace("{}", expression);
            let statements = read_all(text.as_bytes(), PLAIN);
            assert!(statements.iter().any(|(_, reading)| !reading.is_clean), "{text}");
        }
    }
}

#[test]
fn kinds_are_told_apart() {
    for text in ["", " \t\n\r\x0b\x0c", "-- x", "/* /* */ */", ";", " ; -- \n ;"] {
        check(text, Kind::Empty, true);
    }
    for text in ["begin", "BEGIN WORK", "start transaction read only, isolation level serializable"]
    {
        check(text, Kind::Begin, true);
    }
    check("commit", Kind::Commit { chain: false }, true);
    check("/* */ END transaction and no chain -- x", Kind::Commit { chain: false }, true);
    check("commit and chain;", Kind::Commit { chain: true }, true);
    check("abort", Kind::Rollback { chain: false }, true);
    check("rollback work and chain", Kind::Rollback { chain: true }, true);
    check("rollback to x", Kind::RollbackTo, true);
    check("rollback transaction to savepoint \"x\"", Kind::RollbackTo, true);
    for text in ["savepoint x", "release x", "release savepoint \"X\""] {
        check(text, Kind::Savepoint, true);
    }
    for text in [
        "fetch 1 from c",
        "close \"a\"\"b\"",
        "fetch U&\"c\"",
        "move backward all in c",
        "close all",
        "unlisten *",
        "unlisten x",
    ] {
        check(text, Kind::Cursor, true);
    }
    for text in ["show all", "show time zone", "show a.b", "show transaction isolation level"] {
        check(text, Kind::Show, true);
    }
    check("discard all", Kind::DiscardAll, true);
    check("discard temp", Kind::Other, false);
    for text in [
        "vacuum (analyze) t",
        "cluster",
        "reindex (verbose) table concurrently t",
        "commit prepared 'x'",
        "/* */ rollback prepared 'x'",
        "create unique index concurrently on t (a)",
        "drop index concurrently i",
    ] {
        check(text, Kind::Alone, false);
    }
    check("create index on t (a)", Kind::Other, false);
    check("drop table t", Kind::Other, false);
    check("copy t from '/x'", Kind::Other, false);
}

#[test]
fn settings_are_named() {
    for text in [
        "set local work_mem = '1MB'",
        "set local time zone 'utc'",
        "set transaction isolation level repeatable read, not deferrable",
        "set transaction snapshot 'x'",
        "set constraints all deferred",
        "set constraints a.b, c immediate",
    ] {
        let bears_on_plans = !text.starts_with("set transaction") && !text.contains("constraints");
        check(text, Kind::SetLocal { bears_on_plans }, true);
    }
    let harmless = Kind::SetLocal { bears_on_plans: false };
    check("set local statement_timeout = 100", harmless.clone(), true);
    check("SET LOCAL Lock_Timeout TO '1s'", harmless.clone(), true);
    check("set local role x", Kind::SetLocal { bears_on_plans: true }, false);
    check("set local seed = 1", harmless, false);
    check("set local cloison.context = ''", set(&["cloison.context"]), false);
    check("SET Work_Mem = '1MB'", set(&["work_mem"]), true);
    check("set session \"Work_Mem\" to 4", set(&["work_mem"]), true);
    check("set search_path = a, \"b\", 'c'", set(&["search_path"]), true);
    check("set a . b to -1", set(&["a.b"]), true);
    check("set u&\"search\\005fpath\" = \"a\"\"b\", U&\"c\"", set(&["search_path"]), true);
    check("set a to default", set(&["a"]), true);
    check("set time zone interval '1' hour to minute", set(&["timezone"]), true);
    check("set session time zone local", set(&["timezone"]), true);
    // Texts that follow in the same pipeline would be read as if it had not changed.
    check("set names 'utf8'", set(&["client_encoding"]), false);
    check("set names", set(&["client_encoding"]), false);
    let kind = Kind::SetLocal { bears_on_plans: true };
    check("set local standard_conforming_strings = off", kind, false);
    check("set schema 'x'", set(&["search_path"]), true);
    check("set xml option document", set(&["xmloption"]), true);
    check(
        "set session characteristics as transaction read only",
        set(&[
            "default_transaction_isolation",
            "default_transaction_read_only",
            "default_transaction_deferrable",
        ]),
        true,
    );
    check("reset work_mem", set(&["work_mem"]), true);
    check("reset time zone", set(&["timezone"]), true);
    check("reset all", Kind::ResetAll, true);
    for text in
        ["set role x", "set session role none", "set Role = 'x'", "reset role", "set \"role\" to x"]
    {
        check(text, set(&["role"]), false);
    }
    for text in [
        "set session authorization x",
        "set session session authorization default",
        "reset session authorization",
        "set session_authorization = 'x'",
    ] {
        check(text, set(&["session_authorization"]), false);
    }
    check("set seed = 0.5", set(&["seed"]), false);
    check("set cloison.context = ''", set(&["cloison.context"]), false);
    check("set \"CLOISON\" . \"Context\" = ''", set(&["cloison.context"]), false);
    check("set transaction_read_only = off", set(&["transaction_read_only"]), false);
    check("set session transaction read only", Kind::Other, false);
}

#[test]
fn what_needs_a_session_is_named() {
    let check = |text: &str, feature| check(text, Kind::Session(feature), false);
    for text in [
        "select pg_advisory_lock(1)",
        "select pg_try_advisory_lock_shared(1, 2) from t",
        "select \"pg_catalog\".\"pg_advisory_unlock\"(1)",
        "with x as (select pg_catalog.pg_advisory_lock_shared(1)) table x",
        "copy (select pg_advisory_lock(1)) to stdout",
    ] {
        check(text, Feature::AdvisoryLock);
    }
    check("declare c scroll cursor with hold for select 1", Feature::HoldCursor);
    check("listen x", Feature::Listen);
    check("listen \"a\"\"b\"", Feature::Listen);
    check("listen u&\"d!0061\" uescape '!'", Feature::Listen);
    check("prepare \"a\"\"b\" as select 1", Feature::PreparedStatement);
    check("select set_config(n, v, false) from t", Feature::UnnamedSetting);
    check("prepare x (int) as select $1", Feature::PreparedStatement);
    check("prepare transaction as select 1", Feature::PreparedStatement);
    for text in [
        "create temp table x (a int)",
        "create temporary table if not exists x as select (1)",
        "create or replace local temp recursive view x as select 1",
        "create temp sequence x",
        "create table pg_temp.x (a int) on commit delete rows",
        "select 1 into temp x",
        "select * into temporary table x from t",
        "select 1 into pg_temp.x",
    ] {
        check(text, Feature::TempTable);
    }
    for text in [
        "create temp table x (a int) on commit drop",
        "create temp table x on commit drop as select 1",
        "create table x (a int)",
        "create function pg_temp.f() returns int return 1",
    ] {
        super::tests::check(text, Kind::Other, false);
    }
}

#[test]
fn the_database_can_make_a_statement_unclean() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let plain = Surroundings::default();
    let is_clean = |text: &str, surroundings: &Surroundings| one_in(text, surroundings).is_clean;

    let hidden =
        Surroundings { functions: names(&["now", "total", "like", "sets"]), ..plain.clone() };
    for text in ["select now()", "select \"now\"()", "select t.total from t", "select like(a, b)"] {
        assert!(!is_clean(text, &hidden), "{text}");
    }
    assert!(!is_clean("select 1 from t group by grouping sets (a)", &hidden));
    assert!(is_clean("select pg_catalog.now(), total from t", &hidden));

    let functions: BTreeSet<String> = names(&["now", "total", "set_config"]);
    let vouched = Surroundings { vouched: functions.clone(), functions, ..Surroundings::default() };
    for text in ["select total(1), app.total(2), t.total, now() from t", "select app.now()"] {
        assert!(is_clean(text, &vouched), "{text}");
    }
    // The name may still mean the built-in one.
    for text in
        ["select set_config('a', 'b', true)", "select pg_temp.total()", "select \"TOTAL\"()"]
    {
        assert!(!is_clean(text, &vouched), "{text}");
    }

    let implicit = Surroundings { implicit_code: true, ..plain.clone() };
    for text in [
        "select 1",
        "insert into t values (1)",
        "copy t from stdin",
        "declare c cursor for select 1",
    ] {
        assert!(!is_clean(text, &implicit), "{text}");
    }
    assert!(is_clean("begin", &implicit) && is_clean("set a = 1", &implicit));

    let sequences = Surroundings { sequences: true, ..plain };
    for text in [
        "insert into t values (1)",
        "update t set a = 1",
        "with x as (delete from t returning a) select 1",
        "with x as (select 1) search depth first by a set key update t set a = 1",
        "merge into t using s on (true) when matched then delete",
        "copy t from stdin",
    ] {
        assert!(!is_clean(text, &sequences), "{text}");
    }
    for text in
        ["select 1 from t for update", "select 1 from t for no key update", "copy t to stdout"]
    {
        assert!(is_clean(text, &sequences), "{text}");
    }
}

#[track_caller]
fn splits(text: &str, expected: &[&str]) {
    let found: Vec<String> =
        read_all(text.as_bytes(), PLAIN).into_iter().map(|(text, _)| text).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn statements_end_where_they_do_for_postgres() {
    splits("select 1", &["select 1"]);
    splits("select 1;", &["select 1"]);
    splits(" select 1 ; /* */ ; -- x", &[" select 1 "]);
    splits(";; select 1;; ;select 2; ", &[" select 1", "select 2"]);
    splits(
        "select ';', \";\", $$;$$, $a$;$a$, E'\\';' ; select 2 -- ;",
        &["select ';', \";\", $$;$$, $a$;$a$, E'\\';' ", " select 2 -- ;"],
    );
    splits("select 1 /* ; /* ; */ ; */; select 2", &["select 1 /* ; /* ; */ ; */", " select 2"]);
    splits("select E'a'\n'\\';' ; select 2", &["select E'a'\n'\\';' ", " select 2"]);
    splits(
        "select E'a' -- '\n -- x\n '\\';' ; select 2",
        &["select E'a' -- '\n -- x\n '\\';' ", " select 2"],
    );
    // Not a continuation: the backslash is one.
    splits("select E'a' '\\'; select 2", &["select E'a' '\\'", " select 2"]);
    splits("select fe'\\'; select 2", &["select fe'\\'", " select 2"]);
    splits("select a$$;$$; select 2", &["select a$$", "$$; select 2"]);
    splits("select (1; 2); select 3", &["select (1; 2)", " select 3"]);
    splits("select 1); select 2", &["select 1)", " select 2"]);
    splits(
        "create rule r as on insert to t do also (select 1; select 2); select 3",
        &["create rule r as on insert to t do also (select 1; select 2)", " select 3"],
    );
    let body = "create function f() returns int begin atomic select 1; end; select 2";
    splits(body, &[body]);
    for rest in ["select 'x; select 2", "/* x; select 2", "select 1a; select 2", "select 1 \\; x"] {
        splits(&format!("select 1;{rest}"), &["select 1", rest]);
    }
}

#[test]
fn what_may_not_be_what_it_looks_like_is_not_read() {
    let check = |text: &[u8], standard_strings, safe_encoding, expected: usize| {
        let lexis = Lexis { standard_strings, safe_encoding };
        let found = read_all(text, lexis);
        assert_eq!(found.len(), expected, "{found:?}");
        found.into_iter().next_back().unwrap().1
    };
    assert!(check(b"select '\\'; select 2; --'", true, true, 2).is_clean);
    assert_eq!(check(b"select '\\'; select 2; --'", false, true, 1), UNREAD);
    assert!(check(b"select ''; select 2; --'", false, true, 2).is_clean);
    assert!(check(b"select '\x83\x5c'; select 2", true, true, 2).is_clean);
    assert_eq!(check(b"select '\x83\x5c'; select 2", true, false, 1), UNREAD);
    assert_eq!(check(b"select 1; select '\x83\x5c'; select 2", true, false, 2), UNREAD);
    assert_eq!(check(b"select 1\0; select 2", true, true, 1), UNREAD);
}

#[test]
fn tags_belong_to_kinds() {
    let rows = [&b"SELECT 5"[..], b"INSERT 0 1", b"UPDATE 0", b"DELETE 1", b"MERGE 1", b"COPY 1"];
    for tag in rows {
        assert!(Kind::Rows.accepts_tag(tag) && Kind::Other.accepts_tag(tag));
        assert!(!Kind::Begin.accepts_tag(tag) && !SET_LOCAL.accepts_tag(tag));
    }
    assert!(Kind::Rows.accepts_tag(b"DECLARE CURSOR") && !Kind::Rows.accepts_tag(b"SET"));
    assert!(!Kind::Rows.accepts_tag(b"") && !Kind::Rows.accepts_tag(b"SELECTED"));
    assert!(Kind::Begin.accepts_tag(b"START TRANSACTION"));
    assert!(Kind::Commit { chain: false }.accepts_tag(b"ROLLBACK"));
    assert!(!Kind::Rollback { chain: false }.accepts_tag(b"COMMIT"));
    assert!(
        SET_LOCAL.accepts_tag(b"SET CONSTRAINTS") && Kind::Cursor.accepts_tag(b"CLOSE CURSOR ALL")
    );
    assert!(Kind::Session(Feature::TempTable).accepts_tag(b"CREATE TABLE AS"));
}

#[test]
fn lists_are_sorted_and_apart() {
    let lists = [functions::HARMLESS, functions::LOCKS, functions::DOUBTFUL];
    let words = [names::RESERVED, names::UNRESERVED];
    for list in lists.iter().chain(&words) {
        assert!(list.is_sorted_by(|a, b| a < b));
        assert!(list.iter().all(|name| name.to_ascii_lowercase() == **name && name.len() < 64));
    }
    for name in functions::HARMLESS.iter().chain(names::UNRESERVED) {
        assert!(!functions::LOCKS.contains(name) && !functions::DOUBTFUL.contains(name), "{name}");
    }
    for name in names::RESERVED {
        assert!(!names::UNRESERVED.contains(name), "{name}");
    }
}

/// Pieces of text that are apt to be read wrongly.
const PIECES: &[&str] = &[
    "select",
    "insert into",
    "with",
    "as",
    "(",
    ")",
    ",",
    ";",
    ".",
    "::",
    "x",
    "set_config",
    "now",
    "'",
    "''",
    "E'",
    "\\",
    "\"",
    "U&\"",
    "$$",
    "$a$",
    "$1",
    "$",
    "--",
    "\n",
    "/*",
    "*/",
    "*",
    "+",
    "1",
    "1.",
    "e",
    "[",
    "]",
    " ",
    "\x0b",
    "values",
    "begin",
    "atomic",
    "copy",
    "from",
    "stdin",
    "set",
    "into",
    "temp",
    "\u{e9}",
    "\0",
    "commit",
    "for",
    "update",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

/// A clean or an unclean query as tokens, and its reading.
fn words() -> impl Strategy<Value = (Vec<String>, Reading)> {
    let texts: Vec<&str> = CLEAN
        .iter()
        .chain(UNCLEAN)
        .copied()
        .filter(|text| text.is_ascii() && !text.contains(['\'', '"', '$', '/', '-', '\0', '\\']))
        .filter(|text| !text.contains("::"))
        .collect();
    prop::sample::select(texts).prop_map(|text| {
        let mut words = vec![String::new()];
        for c in text.chars() {
            let is_word = c.is_ascii_alphanumeric() || c == '_';
            let last = words.last().and_then(|word| word.chars().last());
            let goes_on = last.is_none_or(|last| last.is_ascii_alphanumeric() || last == '_');
            match (c == ' ', is_word && goes_on) {
                (true, _) => words.push(String::new()),
                (false, true) => words.last_mut().unwrap().push(c),
                (false, false) => words.push(c.to_string()),
            }
        }
        words.retain(|word| !word.is_empty());
        (words, one_in(text, &Surroundings::default()))
    })
}

const BLANKS: &[&str] = &[" ", "\n", "\t\r", "/* ' */", "-- \" \n", " /* /* ( */ ; */ ", "\x0c"];

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(
        text in prop::collection::vec(any::<u8>(), 0..60),
        standard_strings in any::<bool>(),
        safe_encoding in any::<bool>(),
    ) {
        read_all(&text, Lexis { standard_strings, safe_encoding });
    }

    #[test]
    fn any_soup_is_read_to_its_end(text in soup(), standard_strings in any::<bool>()) {
        let lexis = Lexis { standard_strings, safe_encoding: true };
        let mut from = 0;
        while from < text.len() {
            let rest = &text.as_bytes()[from..];
            let next = next(rest, lexis, &Surroundings::default());
            prop_assert!(next.rest > 0 && next.rest <= rest.len());
            prop_assert!(next.statement.start <= next.statement.end);
            prop_assert!(next.statement.end <= next.rest);
            // What a statement is does not depend on what stands behind its semicolon.
            let alone = super::next(&rest[next.statement.clone()], lexis, &Surroundings::default());
            prop_assert_eq!(alone.reading, next.reading);
            from += next.rest;
        }
    }

    #[test]
    fn statements_are_found_again(texts in prop::collection::vec(prop::sample::select(CLEAN), 1..5)) {
        let text = texts.iter().map(|text| format!("{text}\n")).collect::<Vec<_>>().join(";");
        let found: Vec<String> =
            read_all(text.as_bytes(), PLAIN).into_iter().map(|(text, _)| text).collect();
        let expected: Vec<String> = texts.iter().map(|text| format!("{text}\n")).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn blanks_comments_and_case_mean_nothing(
        (words, reading) in words(),
        blanks in prop::collection::vec(prop::sample::select(BLANKS), 80),
        upper in prop::collection::vec(any::<bool>(), 80),
    ) {
        prop_assume!(words.len() < 80);
        let mut text = String::new();
        for ((word, blank), upper) in words.iter().zip(blanks).zip(upper) {
            text += blank;
            text += &if upper { word.to_ascii_uppercase() } else { word.clone() };
        }
        prop_assert_eq!(one_in(&text, &Surroundings::default()), reading, "{}", text);
    }
}

#[test]
fn the_work_of_every_reader_is_linear() {
    let functions: BTreeSet<String> = (0..50).map(|n| format!("f{n}")).collect();
    let vouched = functions.clone();
    let surroundings = Surroundings { functions, vouched, implicit_code: false, sequences: true };
    for standard_strings in [true, false] {
        let lexis = Lexis { standard_strings, safe_encoding: standard_strings };
        crate::scan::tests::is_linear("statements", |text| {
            let mut from = 0;
            while from < text.len() {
                from += next(&text[from..], lexis, &surroundings).rest.max(1);
            }
        });
    }
    crate::scan::tests::is_linear("identity", |text| drop(identity::mention(text)));
    crate::scan::tests::is_linear("mention", |text| {
        identity::may_mention(text);
    });
}

#[test]
fn what_is_kept_of_a_statement_is_short() {
    for text in crate::scan::tests::texts(1 << 11) {
        if let Kind::Set(names) = next(&text, PLAIN, &Surroundings::default()).reading.kind {
            let kept: usize = names.iter().map(String::len).sum();
            assert!(kept < 1000, "{kept} bytes");
        }
    }
}
