//! The messages of a COPY: in which order they come, and what follows on the wrong ones.

use serde_json::json;

use super::*;
use crate::support::wire::cancel_key;

const COUNT: &str = "select count(*) from item";

#[tokio::test]
async fn a_pipeline_is_answered_as_by_postgres() {
    let proxy = proxy().await;
    let mut a = Wire::tenant(&proxy, A).await;
    let copy = "copy item(n) from stdin";
    // As libpq does it: a Sync with the COPY, one after the data.
    a.parse("", copy).bind("", "", &[]).message('D', b"P\0").execute("", 0).sync().send().await;
    let asked = a.until('G').await;
    assert_eq!(tags(&asked), "12nG");
    // Text, of one column.
    assert_eq!(asked[3].body, [0, 0, 1, 0, 0]);
    a.copy_data(b"1\n").copy_done().sync().send().await;
    assert_eq!(tags(&a.answer().await), "CZ");
    // All of it at once, behind and ahead of other statements.
    a.run("select 1").run(copy).copy_data(b"2\n").copy_done().run("select 2").sync().send().await;
    assert_eq!(tags(&a.answer().await), "12DC12GC12DCZ");
    a.query(copy).copy_data(b"3\n").copy_done().query("select 1").send().await;
    assert_eq!(tags(&a.answer().await), "GCZ");
    assert_eq!(tags(&a.answer().await), "TDCZ");
    // A statement with a name, used again; and another of the same name.
    a.parse("s", copy).sync().send().await;
    assert_eq!(tags(&a.answer().await), "1Z");
    for _ in 0..2 {
        a.bind("p", "s", &[]).execute("p", 0).sync().send().await;
        assert_eq!(tags(&a.until('G').await), "2G");
        a.copy_data(b"4\n").copy_done().sync().send().await;
        assert_eq!(tags(&a.answer().await), "CZ");
    }
    a.message('C', b"Ss\0").parse("s", "select 7").bind("", "s", &[]).execute("", 0).sync();
    a.send().await;
    assert_eq!(rows(&a.answer().await), ["7"]);
    // What failed ahead of it keeps it from running, and it what comes behind.
    a.run("select 1/0").run(copy).sync().send().await;
    assert_eq!(tags(&a.answer().await), "1EZ");
    a.run("copy item(nope) from stdin").run("select 1").sync().send().await;
    assert_eq!(tags(&a.answer().await), "12EZ");
    a.run(copy).sync().send().await;
    a.until('G').await;
    a.copy_data(b"x\n").copy_done().sync().send().await;
    assert_eq!(tags(&a.answer().await), "EZ");
    // The statement of no name is still the client's own.
    a.parse("", copy).bind("", "", &[]).execute("", 0).flush().send().await;
    a.until('G').await;
    a.copy_data(b"5\n").copy_done().bind("", "", &[]).execute("", 0).flush().send().await;
    assert_eq!(tags(&a.until('G').await), "C2G");
    a.copy_data(b"5\n").copy_done().sync().send().await;
    assert_eq!(tags(&a.answer().await), "CZ");
    assert_eq!(a.value(COUNT).await, "7");
    // As asyncpg does it: behind a pipeline without a Sync, and refused by a policy.
    a.parse("looked", "select n from item").message('D', b"Slooked\0").flush().send().await;
    assert_eq!(tags(&a.until('T').await), "1tT");
    let foreign = format!("{B}\t1\n");
    starts(
        &super::copy(&mut a, "copy item(tenant_id, n) from stdin", foreign.as_bytes()).await,
        "42501",
    );
    // In a block, by a portal of the round trip before.
    a.ask("begin").await;
    a.parse("", copy).bind("p", "", &[]).sync().send().await;
    assert_eq!(tags(&a.answer().await), "12Z");
    a.execute("p", 0).sync().send().await;
    assert_eq!(tags(&a.until('G').await), "G");
    a.copy_data(b"6\n").copy_done().sync().send().await;
    assert_eq!(tags(&a.answer().await), "CZ");
    a.ask("commit").await;
    assert_eq!(a.value(COUNT).await, "8");
    proxy.stop().await;
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let proxy = proxy().await;
    let (mut a, answer) = Wire::login(&proxy, "app", &proxy::tenant_token(A), &[]).await;
    let key = cancel_key(&answer);
    let copy = "copy item(n) from stdin";
    for is_extended in [false, true] {
        if is_extended { a.run(copy).sync() } else { a.query(copy) }.send().await;
        a.until('G').await;
        a.copy_data(b"1\n").message('f', b"changed my mind\0");
        if is_extended { a.sync() } else { &mut a }.send().await;
        let answer = a.answer().await;
        assert_eq!((tags(&answer).as_str(), error(&answer).field('C')), ("EZ", "57014"));
        assert!(error(&answer).field('M').ends_with("changed my mind"));
        // Cancelled while the server waits for data.
        if is_extended { a.run(copy).sync() } else { a.query(copy) }.send().await;
        a.until('G').await;
        a.copy_data(b"1\n").send().await;
        Wire::connect(proxy.address).await.raw(&cancel_request(&key)).send().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Postgres looks for it when it has read something.
        a.copy_data(b"2\n").send().await;
        let mut answer = a.until('E').await;
        if is_extended {
            a.copy_data(b"2\n").copy_done().sync().send().await;
        }
        answer.extend(a.answer().await);
        assert_eq!((tags(&answer).as_str(), error(&answer).field('C')), ("EZ", "57014"));
    }
    assert_eq!(a.value(COUNT).await, "0");
    // Gone in the middle.
    for begin in [copy, "begin; copy item(n) from stdin"] {
        let mut dying = Wire::tenant(&proxy, A).await;
        dying.query(begin).send().await;
        dying.until('G').await;
        dying.copy_data(b"1\n").send().await;
        drop(dying);
    }
    let mut leaving = Wire::tenant(&proxy, A).await;
    leaving.query(copy).send().await;
    leaving.until('G').await;
    leaving.copy_data(b"1\n").message('X', b"").send().await;
    drop(leaving);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(a.value(COUNT).await, "0");
    assert_eq!(super::copy(&mut a, copy, b"1\n").await, "COPY 1");
    // What does not belong into it ends its session, and no other.
    a.query(copy).send().await;
    a.until('G').await;
    a.query("select 1").send().await;
    let last = a.until('E').await;
    assert_eq!(error(&last).field('C'), "08P01");
    let mut b = Wire::tenant(&proxy, B).await;
    assert_eq!(b.value(COUNT).await, "0");
    proxy.stop().await;
}

/// What the proxy calls for it is open to tenants, and leads nowhere.
#[tokio::test]
async fn its_functions_give_a_tenant_nothing() {
    let proxy = proxy::new().pool_size(1).run_on({
        let database = crate::support::postgres::Database::new();
        database.superuser().await.batch_execute(TABLES).await.unwrap();
        database
    });
    let proxy = proxy.await;
    let mut a = Wire::tenant(&proxy, A).await;
    a.ask("begin").await;
    let stage = "select cloison.stage_copy('item'::regclass, null, false, false) is not null";
    assert_eq!(a.value(stage).await, "t");
    let own = "insert into pg_temp.\"~cloison_copy\"(n) values (1)";
    assert_eq!(tags(&a.ask(own).await), "CZ");
    for sql in [
        "alter table pg_temp.\"~cloison_copy\" add x int",
        "create index on pg_temp.\"~cloison_copy\" (n)",
        "create table pg_temp.another (n int)",
    ] {
        a.ask("savepoint s").await;
        assert_eq!(error(&a.ask(sql).await).field('C'), "42501", "{sql}");
        a.ask("rollback to s").await;
    }
    a.ask("commit").await;
    drop(a);
    let mut b = Wire::tenant(&proxy, B).await;
    assert_eq!(error(&b.ask("table pg_temp.\"~cloison_copy\"").await).field('C'), "42P01");
    assert_eq!(super::copy(&mut b, "copy item(n) from stdin", b"1\n").await, "COPY 1");
    proxy.stop().await;
}

#[tokio::test]
async fn a_super_admin_copies_on_the_record() {
    let proxy = proxy().await;
    let claims = json!({ "reason": "import" });
    let options = [("options", "-c cloison.write=on")];
    let token = token("superadmin", claims);
    let (mut wire, _) = Wire::login(&proxy, "cloison_superadmin", &token, &options).await;
    let copy = "copy item(tenant_id, n) from stdin";
    let data = format!("{A}\t1\n{B}\t2\n{B}\t3\n");
    starts(&super::copy(&mut wire, copy, data.as_bytes()).await, "42501");
    wire.value("select cloison.enable_superadmin_mode() is null").await;
    assert_eq!(super::copy(&mut wire, copy, data.as_bytes()).await, "COPY 3");
    wire.run(copy).sync().send().await;
    wire.until('G').await;
    wire.copy_data(data.as_bytes()).copy_done().sync().send().await;
    assert_eq!(tags(&wire.answer().await), "CZ");
    let mut b = Wire::tenant(&proxy, B).await;
    assert_eq!(b.value(COUNT).await, "4");
    let superuser = proxy.database.superuser().await;
    let recorded = "select count(*) from cloison.audit_log where detail::text like '%copy item%'";
    assert!(superuser.query_one(recorded, &[]).await.unwrap().get::<_, i64>(0) >= 3);
    proxy.stop().await;
}
