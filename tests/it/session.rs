//! The tenant's identity through everything that a client may send.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::support::postgres::{A, B};
use crate::support::proxy;
use crate::support::wire::{Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";

/// A write that takes so long is not read by anybody.
const STUCK: Duration = Duration::from_millis(500);

/// What pools send at every release, and what else undoes settings.
const RESETS: &[&str] = &[
    "reset all",
    "RESET ALL",
    "discard all",
    "DISCARD ALL;",
    "reset role",
    "set session authorization default",
    "/* x */ reset /**/ all",
    "set cloison.context = ''",
    "set cloison.context to default",
    "reset cloison.context",
    "select set_config('cloison.context', '', false)",
    "reset session authorization",
    "do $$ begin perform set_config('cloi' || 'son.context', '', false); end $$",
    "do $$ begin execute 're' || 'set all'; end $$",
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
];

#[tokio::test]
async fn identity_survives_whatever_pools_send_on_release() {
    let proxy = proxy::new().pool_size(1).unfiltered().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for reset in RESETS {
        wire.ask(reset).await;
        // Text that hides from every reader costs one error, never a row.
        let answer = wire.ask(COUNT).await;
        if tags(&answer).contains('E') {
            assert_eq!(error(&answer).field('C'), "42501", "{reset}");
            assert!(reset.starts_with("do "), "{reset}: {}", error(&answer).field('M'));
        } else {
            assert_eq!(rows(&answer), ["3"], "{reset}");
        }
        assert_eq!(wire.value(COUNT).await, "3", "{reset}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn identity_survives_a_reset_pipelined_with_what_follows() {
    let proxy = proxy::new().pool_size(1).unfiltered().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for reset in RESETS.iter().filter(|text| !text.starts_with("do ")) {
        // Npgsql: one write.
        wire.query(reset).run(COUNT).sync().query(COUNT).send().await;
        wire.answer().await;
        for _ in 0..2 {
            let answer = wire.answer().await;
            assert_eq!(rows(&answer), ["3"], "{reset}: {}", tags(&answer));
        }
    }
    for reset in ["reset all", "discard all", "set cloison.context = ''"] {
        wire.run(reset).sync().run(COUNT).sync().send().await;
        assert_eq!(tags(&wire.answer().await), "12CZ", "{reset}");
        assert_eq!(rows(&wire.answer().await), ["3"], "{reset}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn identity_survives_a_prepared_reset() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.parse("r", "reset all").sync().send().await;
    wire.answer().await;
    for _ in 0..3 {
        wire.bind("", "r", &[]).execute("", 0).sync().send().await;
        assert_eq!(tags(&wire.answer().await), "2CZ");
        assert_eq!(wire.value(COUNT).await, "3");
    }
    wire.bind("", "r", &[]).execute("", 0).run(COUNT).sync().send().await;
    let answer = wire.answer().await;
    if proxy::by_transaction() {
        // The bind goes ahead of the statement, wherever that stands in the pipeline.
        assert_eq!(rows(&answer), ["3"], "{}", tags(&answer));
    } else {
        // In one pipeline the statement behind it finds no tenant, hence no rows.
        assert!(rows(&answer).is_empty(), "{}", tags(&answer));
        assert_eq!(error(&answer).field('C'), "42501");
    }
    assert_eq!(wire.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn identity_survives_resets_inside_transactions() {
    let proxy = proxy::new().pool_size(1).unfiltered().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    for end in ["commit", "rollback"] {
        wire.ask("begin").await;
        wire.ask("reset all").await;
        assert_eq!(wire.value(COUNT).await, "3");
        wire.ask("savepoint s").await;
        wire.ask("set local cloison.context = ''").await;
        assert_eq!(wire.value(COUNT).await, "3");
        let failed = wire.ask("reset all; select 1/0").await;
        assert_eq!(error(&failed).field('C'), "22012");
        assert_eq!(error(&wire.ask(COUNT).await).field('C'), "25P02");
        wire.ask("rollback to s").await;
        assert_eq!(wire.value(COUNT).await, "3");
        wire.ask("reset all").await;
        wire.ask(end).await;
        assert_eq!(wire.value(COUNT).await, "3", "{end}");
    }
    wire.ask("begin; reset all; select 1/0").await;
    wire.ask("rollback").await;
    assert_eq!(wire.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn no_statement_makes_another_tenant_of_this_one() {
    let proxy =
        proxy::new().pool_size(1).unfiltered().allowing(&["hidden_sql", "languages", "temporary"]);
    let proxy = proxy.run().await;
    let other = Wire::tenant(&proxy, B).await;
    drop(other);
    let mut wire = Wire::tenant(&proxy, A).await;
    let forged = format!("{B}:{}", "0".repeat(64));
    let attempts = [
        format!("set cloison.context = '{B}'"),
        format!("set cloison.context = '{forged}'"),
        format!("select set_config('cloison.context', '{forged}', false)"),
        format!(
            "select set_config('cloison.context', replace(current_setting('cloison.context'), '{A}', '{B}'), false)"
        ),
        format!("select cloison.set_tenant('{B}')"),
        format!("select cloison.set_tenant('{B}', '')"),
        format!("select cloison.set_tenant('{B}', '{}')", "0".repeat(64)),
        "select cloison.enable_superadmin_mode()".to_owned(),
        "set role it_owner".to_owned(),
        "set role cloison_superadmin".to_owned(),
        "set session authorization postgres".to_owned(),
        "select set_config('role', 'it_owner', false)".to_owned(),
        "set row_security = off".to_owned(),
        format!("do $$ begin perform set_config('cloison.context', '{forged}', false); end $$"),
        format!("do $$ begin perform cloison.set_tenant('{B}', 'x'); end $$"),
        format!(
            "create function pg_temp.f() returns bigint language plpgsql as $$ begin perform set_config('cloison.context', '{forged}', false); return (select count(*) from public.note where tenant_id = '{B}'); end $$"
        ),
        "select pg_temp.f()".to_owned(),
        format!("insert into note values ('{B}', 99, 'x')"),
        format!("update note set tenant_id = '{B}'"),
        "alter table note disable row level security".to_owned(),
        "truncate note".to_owned(),
        "table cloison.tenants".to_owned(),
        "select * from cloison.signing_material()".to_owned(),
        format!(
            "select query_to_xml('select set_config(''cloison.context'', ''{forged}'', false)', true, true, '')"
        ),
    ];
    for attempt in &attempts {
        let answer = wire.ask(attempt).await;
        for row in rows(&answer) {
            assert!(row != "5" && !row.starts_with("b1"), "{attempt}: {row}");
        }
        for look in [
            COUNT,
            "select count(*) from note where tenant_id <> 'aaaaaaaa-0000-4000-8000-000000000001'",
        ] {
            let answer = wire.ask(look).await;
            let seen = rows(&answer).pop();
            assert!(
                seen.is_none() || seen.as_deref() == Some(if look == COUNT { "3" } else { "0" }),
                "{attempt}: {seen:?}"
            );
        }
        wire.ask("reset all").await;
        wire.ask("reset role").await;
        assert_eq!(wire.value(COUNT).await, "3", "{attempt}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn the_unnamed_statement_survives_a_bind_of_ours() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.parse("", "select 'mine' || $1::text").sync().send().await;
    wire.answer().await;
    // Extended, so that the client itself does not take the unnamed statement away.
    wire.parse("r", "select set_config('cloison.context', '', false)").bind("", "r", &[]);
    wire.execute("", 0).sync().send().await;
    wire.answer().await;
    wire.bind("", "", &["!"]).execute("", 0).sync().send().await;
    assert_eq!(rows(&wire.answer().await), ["mine!"]);
    assert_eq!(wire.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_statement_by_our_name_does_not_stop_us() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.parse("_cloison_bind", "select 1").sync().send().await;
    wire.answer().await;
    wire.ask("prepare \"_cloison_bind\" as select 2").await;
    wire.ask("begin").await;
    wire.parse("q", "select 3").bind("_cloison_bind", "q", &[]).sync().send().await;
    wire.answer().await;
    wire.ask("reset all").await;
    assert_eq!(wire.value(COUNT).await, "3");
    wire.ask("commit").await;
    assert_eq!(wire.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_function_call_is_refused_and_the_session_goes_on() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    // set_config, by its OID.
    let mut call = 2077u32.to_be_bytes().to_vec();
    call.extend([0, 0, 0, 0, 0, 0]);
    wire.message('F', &call).send().await;
    let answer = wire.answer().await;
    assert_eq!(tags(&answer), "EZ");
    assert_eq!((answer[0].field('C'), answer[0].field('V')), ("0A000", "ERROR"));
    assert_eq!(answer[1].body, b"I");
    // In its turn, in a transaction, behind a statement that takes a while.
    wire.query("begin").query("select pg_sleep(0.1)").message('F', &call).query(COUNT).send().await;
    assert_eq!(tags(&wire.answer().await), "CZ");
    assert_eq!(tags(&wire.answer().await), "TDCZ");
    let answer = wire.answer().await;
    assert_eq!((&tags(&answer)[..], &answer[1].body[..]), ("EZ", &b"T"[..]));
    assert_eq!(rows(&wire.answer().await), ["3"]);
    // In the middle of a pipeline nobody can say whether it would be answered.
    wire.parse("", "select 1").message('F', &call).send().await;
    assert_eq!(error(&wire.answer().await).field('C'), "08P01");
    proxy.stop().await;
}

#[tokio::test]
async fn a_message_that_is_none_ends_the_session() {
    let proxy = proxy::new().run().await;
    for tag in ['p', 'Z', 'R', '\0', 'x', 'W', '\u{fe}'] {
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.query(COUNT).send().await;
        wire.answer().await;
        wire.raw(&[tag as u8, 0, 0, 0, 4]).send().await;
        let answer = wire.answer().await;
        assert_eq!((error(&answer).field('V'), error(&answer).field('C')), ("FATAL", "08P01"));
    }
    for tag in "QPBEDCHSdcfFX".bytes() {
        for length in [0u32, 3, 0x4000_0000, 0x8000_0000, u32::MAX] {
            let mut wire = Wire::tenant(&proxy, A).await;
            wire.raw(&[tag]).raw(&length.to_be_bytes()).raw(b"select 1").send().await;
            let answer = wire.answer().await;
            assert_eq!(error(&answer).field('V'), "FATAL", "{tag} {length}");
            assert_eq!(error(&answer).field('D'), "cloison: C006", "{tag} {length}");
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_may_copy_by_any_road_while_the_context_is_in_doubt() {
    let proxy = proxy::new().pool_size(1).pinning().unfiltered().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    let made = wire.ask("create temp table reset_list (id int)").await;
    assert_eq!(tags(&made), "CZ");
    let copy = "copy reset_list from stdin";
    // Simple; a Sync in the midst of it is ignored, as Postgres ignores it.
    wire.query(copy).send().await;
    wire.until('G').await;
    wire.copy_data(b"1\n").sync().flush().copy_data(b"2\n").copy_done().query(COUNT).send().await;
    assert_eq!(tags(&wire.answer().await), "CZ");
    assert_eq!(rows(&wire.answer().await), ["3"]);
    // Extended, the data after the server has asked for it.
    wire.run(copy).sync().send().await;
    wire.until('G').await;
    wire.copy_data(b"3\n").copy_done().sync().query(COUNT).send().await;
    assert_eq!(tags(&wire.answer().await), "CZ");
    assert_eq!(rows(&wire.answer().await), ["3"]);
    // All of it ahead.
    wire.run(copy).sync().copy_data(b"4\n").copy_done().sync().query(COUNT).send().await;
    assert_eq!(tags(&wire.answer().await), "12GCZ");
    assert_eq!(rows(&wire.answer().await), ["3"]);
    assert_eq!(wire.value("select string_agg(id::text, '') from reset_list").await, "1234");
    proxy.stop().await;
}

#[tokio::test]
async fn what_waits_for_an_answer_does_not_pile_up() {
    let proxy = proxy::new().pool_size(1).run().await;
    let call = [&2077u32.to_be_bytes()[..], &[0; 6]].concat();
    let chunk = vec![0; 1 << 16];
    for gate in ["select pg_sleep(60)", "select pg_sleep(60) /* reset */"] {
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.query(gate).message('F', &call).raw(b"Q\x04\0\0\x04").send().await;
        let mut taken = 0;
        // The proxy stops to read, and then the system's own buffers fill.
        while taken < 60 << 20 {
            let write = tokio::time::timeout(STUCK, wire.socket.write(&chunk)).await;
            let Ok(written) = write else { break };
            taken += written.unwrap();
        }
        assert!(taken < 32 << 20, "{taken} bytes were taken");
        let superuser = proxy.database.superuser().await;
        let end = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where usename = 'it_app' and datname = current_database()";
        superuser.query(end, &[]).await.unwrap();
    }
    proxy.stop().await;
}

#[tokio::test]
async fn our_own_answers_do_not_pile_up_where_nobody_reads() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut call = Wire::over(tokio::io::empty());
    call.message('F', &[0; 100]);
    let mut sync = Wire::over(tokio::io::empty());
    sync.sync();
    for message in [call.out, sync.out] {
        let mut wire = Wire::tenant(&proxy, A).await;
        let chunk = message.repeat(1 << 12);
        let mut taken = 0;
        while taken < 60 << 20 {
            let write = tokio::time::timeout(STUCK, wire.socket.write_all(&chunk)).await;
            let Ok(written) = write else { break };
            written.unwrap();
            taken += chunk.len();
        }
        assert!(taken < 32 << 20, "{taken} bytes were taken of {}", char::from(message[0]));
        drop(wire);
        assert_eq!(Wire::tenant(&proxy, A).await.value(COUNT).await, "3");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn roles_other_than_tenants_need_no_context() {
    let proxy = proxy::new().run().await;
    let admin = proxy.superadmin().await;
    admin.batch_execute("reset all").await.unwrap();
    admin.execute("select cloison.enable_superadmin_mode()", &[]).await.unwrap();
    let count: i64 = admin.query_one(COUNT, &[]).await.unwrap().get(0);
    assert_eq!(count, 8);
    proxy.stop().await;
}

/// Whoever a tenant gives its session's ticket to has it for as long as the token is good.
#[tokio::test]
async fn a_sessions_ticket_is_good_for_less_than_a_minute() {
    let proxy = proxy::new().by_session().bare().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    let second = "select substr(current_setting('cloison.context'), 38, 10)";
    for undone in ["select 1", "reset all", "reset cloison.context", "discard all"] {
        wire.ask(undone).await;
        let kind = wire.value("select left(current_setting('cloison.context'), 1)").await;
        let until: u64 = wire.value(second).await.parse().unwrap();
        let now = proxy::now();
        assert_eq!(kind, "s", "{undone}");
        assert!((now + 20..=now + 45).contains(&until), "{undone}: {until}, {now}");
        assert_eq!(wire.value("select count(*) from note").await, "3");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_choice_in_a_session_of_one_tenant_is_told_why_not() {
    let text = "this session acts for the tenant of its login, and can choose no other";
    for (mode, proxy) in
        [("session", proxy::new().by_session()), ("transaction", proxy::new().by_transaction())]
    {
        let proxy = proxy.run().await;
        let mut wire = Wire::tenant(&proxy, A).await;
        for sql in [
            "select set_tenant('globex')",
            "select cloison.set_tenant('b')",
            &format!("select set_tenant('{B}')"),
            &format!("select cloison.set_tenant('{B}'::uuid)"),
        ] {
            let answer = wire.ask(sql).await;
            let told = error(&answer);
            assert_eq!((told.field('C'), told.field('M')), ("42501", text), "{mode} {sql}");
            assert_eq!(told.field('D'), "cloison: C207");
            // The session is whose it was, on the same connection.
            assert_eq!(wire.value(COUNT).await, "3", "{mode} {sql}");
        }
        // In a transaction it fails, as any statement that fails does.
        wire.ask("begin").await;
        assert_eq!(error(&wire.ask("select set_tenant('b')").await).field('M'), text);
        assert_eq!(error(&wire.ask(COUNT).await).field('C'), "25P02");
        wire.ask("rollback").await;
        assert_eq!(wire.value(COUNT).await, "3");
        // By the extended query protocol, as drivers do.
        let client = proxy.tenant(A).await;
        let refused = client.query("select set_tenant($1::text)", &[&"b"]).await.unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert_eq!((refused.code().code(), refused.message()), ("42501", text), "{mode}");
        let count: i64 = client.query_one(COUNT, &[]).await.unwrap().get(0);
        assert_eq!(count, 3);
        drop(client);
        proxy.stop().await;
    }
}
