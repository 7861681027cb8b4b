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

/// Prepares a statement and asks what it looks like.
async fn told(proxy: &Proxy, tenant: &str, sql: &str) -> Wire {
    let mut wire = Wire::tenant(proxy, tenant).await;
    wire.parse("s", sql).message('D', b"Ss\0").sync().send().await;
    assert!(!tags(&wire.answer().await).contains('E'), "{sql}");
    wire
}

const STALE: &str = "cached plan must not change result type";

/// What Postgres says, as drivers know it.
#[track_caller]
fn is_stale(answer: &[crate::support::wire::Message]) {
    let error = error(answer);
    assert_eq!((error.field('C'), error.field('M')), ("0A000", STALE));
    assert_eq!(error.field('R'), "RevalidateCachedQuery");
    assert!(rows(answer).is_empty());
}

/// Whoever was told what the rows look like hears of a change, whichever way it comes, until it
/// prepares its statement again; whoever was told nothing does not.
#[tokio::test]
async fn each_client_hears_of_a_change_if_it_was_told_otherwise() {
    let proxy = pooled().run().await;
    let sql = "select * from note order by id";
    let owner = proxy.owner().await;
    let superuser = proxy.database.superuser().await;
    let mut untold = Wire::tenant(&proxy, A).await;
    untold.parse("s", sql).sync().send().await;
    untold.answer().await;
    execute(&mut untold, "s").await;
    for (way, column, columns) in
        [("owner", "one", 4), ("superuser", "two", 5), ("owner", "three", 6)]
    {
        let mut old = Vec::new();
        for tenant in [A, B, A] {
            old.push(told(&proxy, tenant, sql).await);
            execute(old.last_mut().unwrap(), "s").await;
        }
        let change = format!("alter table note add column {column} int");
        if way == "owner" {
            owner.batch_execute(&change).await.unwrap();
        } else {
            superuser.batch_execute(&change).await.unwrap();
        }
        assert_eq!(rows(&execute(&mut untold, "s").await).len(), 3, "{column}");
        for wire in &mut old {
            for _ in 0..2 {
                is_stale(&execute(wire, "s").await);
                // In a transaction, too, which has failed then.
                super::done(wire, "begin").await;
                is_stale(&execute(wire, "s").await);
                assert_eq!(super::refused(wire, "select 1").await, "25P02");
                super::done(wire, "rollback").await;
            }
        }
        prepares_anew(&proxy, columns, "t").await;
        for wire in &mut old {
            wire.message('C', b"Ss\0").parse("s", sql).message('D', b"Ss\0").sync().send().await;
            assert_eq!(tags(&wire.answer().await), "31tTZ");
            let answer = execute(wire, "s").await;
            let row = answer.iter().find(|message| message.tag == 'D').unwrap();
            assert_eq!(row.columns().len(), columns);
        }
    }
    proxy.stop().await;
}

/// Types, names and the order of columns are what a client was told.
#[tokio::test]
async fn rows_are_never_of_another_type_than_the_client_was_told() {
    let proxy = pooled().run().await;
    let superuser = proxy.database.superuser().await;
    let changes = [
        ("select id, body as x from note", "alter table note alter body type varchar(20)", true),
        ("select * from note", "alter table note rename body to text", true),
        ("select id from note", "alter table note add column more int", false),
        ("update note set text = text returning *", "alter table note drop column more", true),
    ];
    for (sql, change, hears) in changes {
        {
            let mut a = told(&proxy, A, sql).await;
            let mut b = told(&proxy, B, sql).await;
            // Described by the portal alone.
            let mut portal = Wire::tenant(&proxy, A).await;
            portal.parse("s", sql).bind("", "s", &[]).message('D', b"P\0").execute("", 0).sync();
            portal.send().await;
            assert!(!tags(&portal.answer().await).contains('E'), "{sql}");
            // By the unnamed statement.
            let mut unnamed = Wire::tenant(&proxy, B).await;
            unnamed.parse("", sql).message('D', b"S\0").sync().send().await;
            assert!(!tags(&unnamed.answer().await).contains('E'), "{sql}");
            proxy.owner().await.batch_execute(change).await.unwrap();
            for wire in [&mut a, &mut b, &mut portal] {
                let answer = execute(wire, "s").await;
                if hears {
                    is_stale(&answer);
                } else {
                    assert!(
                        !tags(&answer).contains('E'),
                        "{change}: {}",
                        error(&answer).field('M')
                    );
                }
            }
            let answer = execute(&mut unnamed, "").await;
            assert_eq!(tags(&answer).contains('E'), hears, "{change}");
            // Who asks again hears of it once, and need not prepare.
            portal.bind("", "s", &[]).message('D', b"P\0").execute("", 0).sync().send().await;
            assert_eq!(tags(&portal.answer().await).contains('E'), hears, "{change}");
            portal.bind("", "s", &[]).message('D', b"P\0").execute("", 0).sync().send().await;
            assert!(!tags(&portal.answer().await).contains('E'), "{change}");
        }
    }
    drop(superuser);
    proxy.stop().await;
}

/// A value is written by the type that the client was told, whatever its column has become.
#[tokio::test]
async fn parameters_keep_the_type_that_the_client_was_told() {
    let database = crate::support::postgres::Database::new();
    let sql = "create table public.shape (v float8); grant all on public.shape to it_app; \
               insert into cloison.accepted_findings (key, reason) \
               values ('table_unprotected:public.shape', 'a test')";
    database.superuser().await.batch_execute(sql).await.unwrap();
    let proxy = pooled().run_on(database).await;
    let insert = "insert into shape values ($1)";
    let mut wires = [told(&proxy, A, insert).await, told(&proxy, B, insert).await];
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute("alter table public.shape alter v type bigint").await.unwrap();
    proxy.owner().await.batch_execute("alter table note add column one int").await.unwrap();
    // Others are told the new type, and both live on one connection.
    let mut new = told(&proxy, A, insert).await;
    for _ in 0..2 {
        for wire in &mut wires {
            write(wire, &7.0_f64.to_be_bytes()).await;
        }
        write(&mut new, &7_i64.to_be_bytes()).await;
    }
    let found = superuser.query_one("select array_agg(distinct v) from public.shape", &[]).await;
    assert_eq!(found.unwrap().get::<_, Vec<i64>>(0), [7]);
    proxy.stop().await;
}

/// Binds one binary value to `s`, and runs it.
async fn write(wire: &mut Wire, value: &[u8; 8]) {
    let body: &[&[u8]] = &[b"\0s\0\0\x01\0\x01\0\x01\0\0\0\x08", value, b"\0\0"];
    wire.message('B', &body.concat()).execute("", 0).sync().send().await;
    let answer = wire.answer().await;
    assert_eq!(tags(&answer), "2CZ");
}

/// What ends in a Flush is sent again, too, where nothing was told.
#[tokio::test]
async fn a_pipeline_that_ends_in_a_flush_is_sent_again() {
    let proxy = pooled().run().await;
    let mut wire = Wire::tenant(&proxy, A).await;
    wire.parse("s", "select * from note order by id").sync().send().await;
    wire.answer().await;
    execute(&mut wire, "s").await;
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute("alter table note add column one int").await.unwrap();
    wire.bind("", "s", &[]).message('D', b"P\0").flush().send().await;
    assert_eq!(tags(&wire.until('T').await), "2T");
    wire.execute("", 0).sync().send().await;
    assert_eq!(tags(&wire.answer().await), "DDDCZ");
    superuser.batch_execute("alter table note add column two int").await.unwrap();
    wire.message('D', b"Ss\0").flush().send().await;
    assert_eq!(tags(&wire.until('T').await), "tT");
    wire.sync().send().await;
    assert_eq!(tags(&wire.answer().await), "Z");
    proxy.stop().await;
}

/// Who asks for the rows' description with the rows may count on the one before all the same, as
/// PHP's PDO does, which reads values of one column as those of another. It hears of a change once,
/// if it was told otherwise, and then gets its rows.
#[tokio::test]
async fn who_asks_what_the_rows_look_like_hears_of_a_change_once() {
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
            // It was told nothing yet, at first.
            if column == "two" {
                wire.bind("", "s", &[]).message('D', b"P\0").execute("", 0).sync().send().await;
                is_stale(&wire.answer().await);
            }
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

/// Whoever names a format for each column counts on the columns, and is told so that it prepares its
/// statement again: Postgres would say that the formats are too few, for ever (08P01).
#[tokio::test]
async fn a_format_for_each_column_counts_on_the_columns() {
    let proxy = pooled().run().await;
    let superuser = proxy.database.superuser().await;
    let sql = "select * from note where $1 order by id";
    let [three, four]: [&[u16]; 2] = [&[0, 0, 0], &[0, 0, 0, 0]];
    let mut wires = [told(&proxy, A, sql).await, told(&proxy, B, sql).await];
    for (wire, count) in wires.iter_mut().zip([3, 5]) {
        assert_eq!(rows(&with_formats(wire, three).await).len(), count);
    }
    superuser.batch_execute("alter table note add column one int").await.unwrap();
    for (wire, count) in wires.iter_mut().zip([3, 5]) {
        is_stale(&with_formats(wire, three).await);
        super::done(wire, "begin").await;
        is_stale(&with_formats(wire, three).await);
        super::done(wire, "rollback").await;
        wire.message('C', b"Ss\0").parse("s", sql).message('D', b"Ss\0").sync().send().await;
        assert_eq!(tags(&wire.answer().await), "31tTZ");
        assert_eq!(rows(&with_formats(wire, four).await).len(), count);
    }
    // One format is for however many there are.
    superuser.batch_execute("alter table note drop column one").await.unwrap();
    for (wire, count) in wires.iter_mut().zip([3, 5]) {
        is_stale(&with_formats(wire, &[0]).await);
        assert_eq!(rows(&with_formats(wire, &[0]).await).len(), count);
    }
    proxy.stop().await;
}

/// Runs `s` with a value, its rows in these formats, and asks what they look like.
async fn with_formats(wire: &mut Wire, formats: &[u16]) -> Vec<crate::support::wire::Message> {
    let mut body = b"\0s\0\0\0\0\x01\0\0\0\x04true".to_vec();
    body.extend_from_slice(&u16::try_from(formats.len()).unwrap().to_be_bytes());
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    wire.message('B', &body).message('D', b"P\0").execute("", 0).sync().send().await;
    wire.answer().await
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
    // Where the proxy has heard of the change by then, it prepares the statement again.
    if tags(&answer) != "2TDDDCZ" {
        assert_eq!(tags(&answer), "EZ");
        assert_eq!(error(&answer).field('M'), "cached plan must not change result type");
    }
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
