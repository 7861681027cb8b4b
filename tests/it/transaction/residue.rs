//! What one tenant leaves on the server connection, and what the other finds: nothing.

use super::{B, COUNT, PID, Pair, Wire, done, error, extended, open, pooled, refused, rows, tags};

/// What needs a session of its own, and says so.
const REFUSED: &[&str] = &[
    "create temp table t (i int)",
    "create temporary view v as select 1",
    "create temp sequence q",
    "create local temporary table t as select 1",
    "select 1 as i into temp t",
    "prepare s as select 'of a'",
    "declare c cursor with hold for select body from note",
    "listen news",
    "select pg_advisory_lock(7)",
    "select pg_try_advisory_lock_shared(7)",
];

#[tokio::test]
async fn what_outlives_a_transaction_is_refused_by_either_protocol() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for sql in REFUSED {
        let simple = pair.a.ask(sql).await;
        let told = error(&simple);
        assert_eq!((told.field('C'), told.field('D')), ("0A000", "cloison: C402"), "{sql}");
        assert_eq!(tags(&simple), "EZ", "{sql}");
        assert_eq!(error(&extended(&mut pair.a, sql).await).field('C'), "0A000", "{sql}");
        // As any error, it fails its transaction.
        done(&mut pair.a, "begin").await;
        done(&mut pair.a, "update note set body = 'lost'").await;
        assert_eq!(refused(&mut pair.a, sql).await, "0A000", "{sql}");
        assert_eq!(refused(&mut pair.a, COUNT).await, "25P02", "{sql}");
        assert!(tags(&done(&mut pair.a, "commit").await) == "CZ");
        assert_eq!(pair.b.value(COUNT).await, "5", "{sql}");
        let answer = pair.a.ask(&format!("update note set body = 'lost'; {sql}")).await;
        assert_eq!(tags(&answer), "CEZ", "{sql}");
    }
    assert_eq!(pair.a.value("select count(*) from note where body = 'lost'").await, "0");
    pair.check(&pid).await;
    pair.stop().await;
}

/// That a setting of this name was ever made stays to be seen, after any reset; its value does not.
const MY_KEY: &str = "select coalesce(current_setting('my.key', true), '') = ''";

/// What a tenant leaves where no reader of texts sees it, and where the other would find it.
const HIDDEN: &[(&str, &str, &str)] = &[
    (
        "do $$ begin create temp table note (id int); insert into note values (1); end $$",
        "select to_regclass('pg_temp.note') is null",
        "t",
    ),
    ("do $$ begin execute 'prepare s as select 1'; end $$", "execute s", "!26000"),
    ("do $$ begin execute 'declare c cursor with hold for select 1'; end $$", "fetch c", "!34000"),
    (
        "do $$ begin execute 'listen news'; end $$",
        "select count(*) from pg_listening_channels()",
        "0",
    ),
    (
        "do $$ begin execute 'create temp sequence q'; perform nextval('q'); end $$",
        "select lastval()",
        "!55000",
    ),
    (
        "do $$ begin perform set_config('search_path', 'pg_temp', false); end $$",
        "show search_path",
        "\"$user\", public",
    ),
    (
        "do $$ begin perform set_config('statement_timeout', '7000', false); end $$",
        "show statement_timeout",
        "0",
    ),
    (
        "do $$ begin execute 'set session characteristics as transaction read only'; end $$",
        "show transaction_read_only",
        "off",
    ),
    ("do $$ begin execute 'set role cloison_tenant'; end $$", "select current_user", "it_app"),
    (
        "do $$ begin execute 'set session authorization default'; set role none; end $$",
        "select current_user",
        "it_app",
    ),
    ("do $$ begin perform set_config('my.key', 'of a', false); end $$", MY_KEY, "t"),
    ("set role cloison_tenant", "select current_user", "it_app"),
    ("select set_config('role', 'cloison_tenant', false)", "select current_user", "it_app"),
    ("select set_config('work_mem', '1MB', false)", "show work_mem", "4MB"),
    ("select set_config('my.key', 'of a', false)", MY_KEY, "t"),
    ("select set_config('session_replication_role', 'replica', false)", "select 1", "1"),
    ("set session authorization default", "select session_user", "it_app"),
    (
        "create or replace function pg_temp.f() returns int language sql as 'select 1'",
        "select pg_temp.f()",
        "!42883",
    ),
    (
        "select set_config(name, '1MB', false) from pg_settings where name = 'work_mem'",
        "show work_mem",
        "4MB",
    ),
    ("update pg_settings set setting = '1024' where name = 'work_mem'", "show work_mem", "4MB"),
    ("explain analyze select set_config('work_mem', '1MB', false)", "show work_mem", "4MB"),
    ("values (set_config('work_mem', '1MB', false))", "show work_mem", "4MB"),
    ("copy (select set_config('work_mem', '1MB', false)) to stdout", "show work_mem", "4MB"),
    ("declare c cursor for select set_config('work_mem', '1MB', false)", "show work_mem", "4MB"),
    (
        "begin; declare c cursor for select set_config('work_mem', '1MB', false); fetch c; commit",
        "show work_mem",
        "4MB",
    ),
    (
        "select query_to_xml('select set_config(''work_mem'', ''1MB'', false)', true, true, '')",
        "show work_mem",
        "4MB",
    ),
    ("load 'plpgsql'", "show work_mem", "4MB"),
    ("set \"work_mem\" = '1MB'", "show work_mem", "4MB"),
    ("set/**/work_mem/*;*/= '1MB'; select 1", "show work_mem", "4MB"),
    ("SET U&\"\\0077ork_mem\" = '1MB'", "show work_mem", "4MB"),
    ("set time zone 'Asia/Tokyo'", "show timezone", "Etc/UTC"),
    ("set names 'LATIN1'", "show client_encoding", "UTF8"),
    ("set seed to 0.5", "select 1", "1"),
    ("set session work_mem = '1MB'", "show work_mem", "4MB"),
];

#[tokio::test]
async fn what_hides_from_a_reader_is_gone_all_the_same() {
    let mut pair = Pair::of(open()).await;
    let pid = pair.a.value(PID).await;
    let timezone = pair.b.value("show timezone").await;
    for (residue, look, expected) in HIDDEN {
        let expected = expected.replace("Etc/UTC", &timezone);
        let answer = pair.a.ask(residue).await;
        println!("{residue}: {}", tags(&answer));
        let answer = pair.b.ask(look).await;
        match expected.strip_prefix('!') {
            Some(code) => assert_eq!(error(&answer).field('C'), code, "{residue}"),
            None => assert_eq!(rows(&answer), [expected], "{residue}"),
        }
        assert_eq!(pair.b.value(COUNT).await, "5", "{residue}");
        pair.a.ask("discard all").await;
    }
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn an_advisory_lock_from_a_function_is_released_before_the_next_tenant() {
    let locks = "create function take() returns void language sql as \
                 'select pg_catalog.pg_advisory_lock(7)'";
    let mut pair = Pair::with(locks).await;
    let pid = pair.a.value(PID).await;
    let superuser = pair.proxy.database.superuser().await;
    for sql in ["do $$ begin perform pg_advisory_lock(7); end $$", "select take()"] {
        done(&mut pair.a, sql).await;
        assert_eq!(pair.b.value(COUNT).await, "5");
        let free = superuser.query_one("select pg_try_advisory_lock(7)", &[]).await.unwrap();
        assert!(free.get::<_, bool>(0), "{sql}");
        superuser.batch_execute("select pg_advisory_unlock_all()").await.unwrap();
    }
    // One of the transaction's own is as good as ever.
    done(&mut pair.a, "select pg_advisory_xact_lock(7)").await;
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn notifications_for_one_do_not_reach_the_other() {
    let mut pair = Pair::of(open()).await;
    done(&mut pair.a, "do $$ begin execute 'listen news'; end $$").await;
    let superuser = pair.proxy.database.superuser().await;
    superuser.batch_execute("notify news, 'for a'").await.unwrap();
    for _ in 0..2 {
        assert_eq!(tags(&pair.b.ask("select 1").await), "TDCZ");
        assert_eq!(tags(&pair.a.ask("select 1").await), "TDCZ");
    }
    pair.stop().await;
}

#[tokio::test]
async fn what_a_sequence_gave_is_not_told_to_the_next() {
    let sql = "create table t (q int generated always as identity, x int); \
               grant insert on t to it_app; grant usage on sequence t_q_seq to it_app";
    let mut pair = Pair::with(sql).await;
    let pid = pair.a.value(PID).await;
    for sql in [
        "select nextval('t_q_seq')",
        "do $$ begin perform nextval('t_q_seq'); end $$",
        "insert into t (x) values (1)",
    ] {
        done(&mut pair.a, sql).await;
        for look in ["select lastval()", "select currval('t_q_seq')"] {
            assert_eq!(refused(&mut pair.b, look).await, "55000", "{sql}");
        }
    }
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn random_numbers_are_not_chosen_by_the_one_before() {
    const BY_SETTING: [&str; 2] = ["set seed = 0.25", "select set_config('seed', '0.25', false)"];
    const BY_FUNCTION: [&str; 2] =
        ["select setseed(0.25)", "do $$ begin perform setseed(0.25); end $$"];
    // Hardening takes the function, and nothing can take the setting.
    for (builder, ways) in
        [(pooled(), &BY_SETTING[..]), (open(), &[BY_SETTING, BY_FUNCTION].concat())]
    {
        let mut pair = Pair::of(builder).await;
        let pid = pair.a.value(PID).await;
        let superuser = pair.proxy.database.superuser().await;
        superuser.batch_execute("select setseed(0.25)").await.unwrap();
        let known: f64 = superuser.query_one("select random()", &[]).await.unwrap().get(0);
        for sql in ways {
            done(&mut pair.a, sql).await;
            let seen: f64 = pair.b.value("select random()").await.parse().unwrap();
            assert!((seen - known).abs() > 1e-12, "{sql}: {seen}");
        }
        pair.check(&pid).await;
        pair.stop().await;
    }
}

#[tokio::test]
async fn a_query_cut_in_half_keeps_nobody_waiting() {
    let mut pair = Pair::new().await;
    let pid = pair.b.value(PID).await;
    pair.a.raw(b"Q\0\0\x10\0select 'half of it").send().await;
    // Of a Query nothing goes out before all of it is there.
    assert_eq!(pair.b.value(COUNT).await, "5");
    pair.a = Wire::tenant(&pair.proxy, super::A).await;
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn a_client_that_dies_leaves_nothing_to_the_next() {
    for (what, bytes) in deaths() {
        let proxy = pooled().run().await;
        let mut a = Wire::tenant(&proxy, super::A).await;
        a.value(COUNT).await;
        a.raw(&bytes).send().await;
        a.receive().await.unwrap();
        drop(a);
        let mut b = Wire::tenant(&proxy, B).await;
        assert_eq!(b.value(COUNT).await, "5", "{what}");
        assert_eq!(b.value("select 'b'").await, "b", "{what}");
        assert_eq!(b.value("select count(*) from note where body = 'x'").await, "0");
        let superuser = proxy.database.superuser().await;
        let written = "select count(*) from note where body = 'x'";
        let written: i64 = superuser.query_one(written, &[]).await.unwrap().get(0);
        assert_eq!(written, 0, "{what}");
        proxy.stop().await;
    }
}

/// What was sent last, of which the first answer is read.
fn deaths() -> Vec<(&'static str, Vec<u8>)> {
    let endless = "select repeat('x', 1000), generate_series(1, 1000000000)";
    let write = "update note set body = 'x'";
    let mut all = Vec::new();
    let mut death = |what, write: &dyn Fn(&mut Wire<tokio::io::Empty>)| {
        let mut wire = Wire::over(tokio::io::empty());
        write(&mut wire);
        all.push((what, wire.out.to_vec()));
    };
    death("an open transaction", &|w| {
        w.query("begin").query(write);
    });
    death("a failed transaction", &|w| {
        w.query("begin").query(write).query("select 1/0");
    });
    death("in mid-result", &|w| {
        w.query(endless);
    });
    death("in mid-result of a pipeline", &|w| {
        w.run(write).run(endless).sync();
    });
    death("in COPY out", &|w| {
        w.query(&format!("copy ({endless}) to stdout"));
    });
    death("a pipeline without Sync", &|w| {
        w.run(write).flush();
    });
    death("a failed pipeline without Sync", &|w| {
        w.run(write).run("select 1/0").flush();
    });
    death("half of a Bind", &|w| {
        let half = [&b"B\0\x10\0\0\0\0\0\0\0\0\x01"[..], &[0; 20_000]].concat();
        w.run(write).parse("", "select $1").flush().raw(&half);
    });
    death("a script in a transaction", &|w| {
        w.query(&format!("begin; {write}; select 1"));
    });
    death("a script in its middle", &|w| {
        w.query("select 1; select pg_sleep(1); select 2");
    });
    all
}

/// Texts in which what is left comes behind something that makes it look otherwise.
const DISGUISED: &[&str] = &[
    "discard all; set work_mem = '1MB'",
    "discard all; set session work_mem to '1MB'; select 1",
    "set standard_conforming_strings = off; \
     select 'a\\'' , set_config('work_mem','1024',false) --'",
    "begin; set local standard_conforming_strings = off; \
     select 'a\\'' , set_config('work_mem','1024',false) --'; commit",
    "set client_encoding = 'SJIS'; select '\u{83}\\', set_config($$work_mem$$, $$1MB$$, false) --'",
    "begin; set work_mem = '1MB'; commit; select 1; begin; rollback",
    "begin; savepoint s; set work_mem = '1MB'; release s; commit",
    "set work_mem = '1MB'; commit; select 1/0",
    "begin; set work_mem = '1MB'; commit; select 1/0",
    "reset all; set work_mem = '1MB'",
    "set work_mem = '1MB'; reset timezone",
];

#[tokio::test]
async fn what_is_disguised_is_gone_all_the_same() {
    // Two connections, so that a pipeline is not held up for others; the last one used comes first.
    let proxy = pooled()
        .edit(|config| {
            config.pools.get_mut(&cloison::types::Access::Tenant).unwrap().size = 2;
        })
        .run()
        .await;
    for text in DISGUISED {
        for apart in [false, true] {
            let mut a = Wire::tenant(&proxy, super::A).await;
            let pid = a.value(PID).await;
            let mut answers = 1;
            if apart {
                answers = text.split("; ").count();
                for piece in text.split("; ") {
                    a.query(piece);
                }
            } else {
                a.query(text);
            }
            a.send().await;
            let mut all = Vec::new();
            for _ in 0..answers {
                all.extend(a.answer().await);
            }
            println!("{text}: {}", tags(&all));
            // Whoever comes next has to wait for nothing that is left to be done.
            let mut b = Wire::tenant(&proxy, B).await;
            let mut other = Wire::tenant(&proxy, B).await;
            for wire in [&mut b, &mut other] {
                done(wire, "begin").await;
                let _ = &pid;
                assert_eq!(wire.value("show work_mem").await, "4MB", "{text}: {apart}");
                assert_eq!(wire.value(COUNT).await, "5", "{text}");
            }
            for wire in [&mut b, &mut other] {
                done(wire, "commit").await;
            }
        }
    }
    proxy.stop().await;
}

/// One string where backslashes are characters, and something else where they escape.
const TWO_FACED: &str = r"select 'a\'' , set_config($$work_mem$$, $$1024$$, false) --'";

#[tokio::test]
async fn what_was_read_in_one_way_and_runs_in_another_is_gone() {
    let mut pair = Pair::new().await;
    let mut second = Wire::tenant(&pair.proxy, super::A).await;
    for name in ["s", ""] {
        pair.a.parse(name, TWO_FACED).sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "1Z");
        let answer = super::execute(&mut pair.a, name).await;
        assert_eq!(answer[1].columns().len(), 1);
        // By another client of the same text, and by the same client later.
        second.run("set standard_conforming_strings = off").sync().send().await;
        second.answer().await;
        second.parse(name, TWO_FACED).sync().send().await;
        second.answer().await;
        super::execute(&mut second, name).await;
        assert_eq!(pair.b.value("show work_mem").await, "4MB", "{name:?}");
        // By a Query, too.
        let answer = done(&mut second, TWO_FACED).await;
        let row = answer.iter().find(|message| message.tag == 'D').unwrap();
        assert_eq!(row.columns().len(), 2);
        assert_eq!(pair.b.value("show work_mem").await, "4MB", "{name:?}");
        pair.a.run("set standard_conforming_strings = off").sync().send().await;
        pair.a.answer().await;
        super::execute(&mut pair.a, name).await;
        assert_eq!(pair.b.value("show work_mem").await, "4MB", "{name:?}");
        pair.a.run("reset standard_conforming_strings").sync().send().await;
        pair.a.answer().await;
    }
    pair.stop().await;
}
