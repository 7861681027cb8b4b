//! Tables change under prepared statements.

use super::{A, B, Wire, error, execute, pooled, rows, tags};
use crate::support::proxy::Proxy;

/// Whoever prepares after a change never hears that a plan does not fit.
async fn prepares_anew(proxy: &Proxy, columns: usize, name: &str) {
    for tenant in [A, B] {
        let mut wire = Wire::tenant(proxy, tenant).await;
        wire.parse(name, "select * from note order by id").sync().send().await;
        wire.answer().await;
        for _ in 0..3 {
            let answer = execute(&mut wire, name).await;
            let failed = answer.iter().find(|message| message.tag == 'E');
            assert!(failed.is_none(), "{}", failed.unwrap().field('M'));
            let row = answer.iter().find(|message| message.tag == 'D').unwrap();
            assert_eq!(row.columns().len(), columns);
        }
    }
}

#[tokio::test]
async fn who_prepares_after_the_owners_change_sees_the_new_table() {
    let proxy = pooled().run().await;
    let mut old = Wire::tenant(&proxy, A).await;
    old.parse("s", "select * from note order by id").sync().send().await;
    old.answer().await;
    execute(&mut old, "s").await;
    let owner = proxy.owner().await;
    for (i, sql) in [
        "alter table note add column one int",
        "alter table note add column two int default 2",
        "alter table note alter column one type text",
    ]
    .iter()
    .enumerate()
    {
        owner.batch_execute(sql).await.unwrap();
        let columns = [4, 5, 5][i];
        prepares_anew(&proxy, columns, &format!("s{i}")).await;
        // Who had prepared before may be told, but no more than that, and works on.
        let answer = execute(&mut old, "s").await;
        if tags(&answer).contains('E') {
            assert_eq!(error(&answer).field('C'), "0A000", "{sql}");
        }
        old.message('C', b"Ss\0").parse("s", "select * from note order by id").sync().send().await;
        assert_eq!(tags(&old.answer().await), "31Z");
        assert_eq!(rows(&execute(&mut old, "s").await).len(), 3, "{sql}");
    }
    proxy.stop().await;
}

/// Past the proxy nobody tells it of a change, and texts are prepared once for all: the first to
/// meet the old plan hears of it, and nobody after.
#[tokio::test]
async fn a_change_past_the_proxy_is_heard_of_once() {
    let proxy = pooled().run().await;
    let mut old = Wire::tenant(&proxy, A).await;
    old.parse("s", "select * from note order by id").sync().send().await;
    old.answer().await;
    execute(&mut old, "s").await;
    let superuser = proxy.database.superuser().await;
    for (column, columns) in [("one", 4), ("two", 5)] {
        let sql = format!("alter table note add column {column} int");
        superuser.batch_execute(&sql).await.unwrap();
        let answer = execute(&mut old, "s").await;
        assert_eq!(error(&answer).field('M'), "cached plan must not change result type");
        assert!(rows(&answer).is_empty());
        prepares_anew(&proxy, columns, "t").await;
        assert_eq!(rows(&execute(&mut old, "s").await).len(), 3);
    }
    proxy.stop().await;
}

/// Who asks for the rows' description with the rows does not count on the one before.
#[tokio::test]
async fn who_asks_what_the_rows_look_like_does_not_hear_of_a_change() {
    let proxy = pooled().run().await;
    let mut wires = Vec::new();
    for tenant in [A, B] {
        let mut wire = Wire::tenant(&proxy, tenant).await;
        wire.parse("s", "select * from note order by id").sync().send().await;
        wire.answer().await;
        execute(&mut wire, "s").await;
        wires.push(wire);
    }
    let superuser = proxy.database.superuser().await;
    for (column, columns) in [("one", 4), ("two", 5)] {
        let sql = format!("alter table note add column {column} int");
        for (wire, rows) in wires.iter_mut().zip([3, 5]) {
            superuser
                .batch_execute(&sql.replace("column ", "column if not exists "))
                .await
                .unwrap();
            wire.bind("", "s", &[]).message('D', b"P\0").execute("", 0).sync().send().await;
            let answer = wire.answer().await;
            assert_eq!(tags(&answer), format!("2T{}CZ", "D".repeat(rows)), "{column}");
            assert!(answer.iter().all(|m| m.tag != 'D' || m.columns().len() == columns));
        }
        // The description of the statement, and its rows, in one go.
        superuser.batch_execute(&format!("alter table note drop column {column}")).await.unwrap();
        let wire = &mut wires[0];
        wire.message('D', b"Ss\0").bind("", "s", &[]).execute("", 0).sync().send().await;
        assert_eq!(tags(&wire.answer().await), "tT2DDDCZ");
        superuser.batch_execute(&sql).await.unwrap();
        wires[1].message('D', b"Ss\0").sync().send().await;
        assert_eq!(tags(&wires[1].answer().await), "tTZ");
    }
    proxy.stop().await;
}

/// What has been done is not done twice, and a transaction that is open not begun anew.
#[tokio::test]
async fn in_a_transaction_a_change_is_heard_of() {
    let proxy = pooled().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.parse("s", "select * from note order by id").sync().send().await;
    wire.answer().await;
    execute(&mut wire, "s").await;
    let superuser = proxy.database.superuser().await;
    super::done(&mut wire, "begin").await;
    superuser.batch_execute("alter table note add column one int").await.unwrap();
    wire.bind("", "s", &[]).message('D', b"P\0").execute("", 0).sync().send().await;
    let answer = wire.answer().await;
    assert_eq!(tags(&answer), "EZ");
    assert_eq!(error(&answer).field('M'), "cached plan must not change result type");
    super::done(&mut wire, "rollback").await;
    assert_eq!(rows(&execute(&mut wire, "s").await).len(), 3);
    proxy.stop().await;
}

#[tokio::test]
async fn a_search_path_decides_anew_for_each_client() {
    let database = crate::support::postgres::Database::new();
    let sql = "create schema one; create schema two; \
               create table one.t as select 'one' as x; create table two.t as select 'two' as x; \
               grant usage on schema one, two to it_app; \
               grant select on one.t, two.t to it_app; \
               insert into cloison.accepted_findings (key, reason) \
               values ('table_unprotected:one.t', 'a test'), ('table_unprotected:two.t', 'a test')";
    database.superuser().await.batch_execute(sql).await.unwrap();
    let proxy = pooled().run_on(database).await;
    let mut a = Wire::tenant(&proxy, A).await;
    let mut b = Wire::tenant(&proxy, B).await;
    for (wire, path) in [(&mut a, "one"), (&mut b, "two")] {
        super::done(wire, &format!("set search_path = {path}")).await;
        wire.parse("s", "select x from t").sync().send().await;
        assert_eq!(tags(&wire.answer().await), "1Z");
    }
    for _ in 0..8 {
        assert_eq!(super::rows_of(&mut a, "s").await, ["one"]);
        assert_eq!(super::rows_of(&mut b, "s").await, ["two"]);
    }
    proxy.stop().await;
}
