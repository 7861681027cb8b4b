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
