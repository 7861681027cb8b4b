//! Everyday work of tokio-postgres, as two tenants at once, the super-admin and the owner.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Error, IsolationLevel, NoTls, Notification};
use uuid::Uuid;

use crate::stand::{A, B, Mode, stand};

/// One side: a tenant, and the one it must never see.
#[derive(Clone, Copy)]
struct Side {
    mode: Mode,
    /// As everybody has it who changes nothing.
    url: &'static str,
    /// Where tenants are given back what is tested for its own sake.
    freed: &'static str,
    /// There, where what needs a session works, too.
    session: &'static str,
    narrow: &'static str,
    own: Uuid,
    other: Uuid,
    name: &'static str,
}

const ONLY: &str = "select distinct tenant_id from projects";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres() {
    let [a, _] = both(Mode::Session).await;
    refused_logins(a).await;
    other_roads().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_with_transaction_pooling() {
    let before = stand().background.transactions();
    let sides = both(Mode::Transaction).await;
    for task in sides.map(|side| tokio::spawn(moving(side))) {
        task.await.unwrap();
    }
    let [a, _] = sides;
    refused_logins(a).await;
    stand().background.assert_well(before);
}

async fn both(mode: Mode) -> [Side; 2] {
    let side = |name: &'static str, own: &str, other: &str| {
        let of = |kind: &str| stand().url(mode, &format!("{kind}_{}_URL", name.to_uppercase()));
        Side {
            mode,
            url: of("TENANT"),
            freed: of("FREED"),
            session: of("SESSION"),
            narrow: of("NARROW"),
            own: own.parse().unwrap(),
            other: other.parse().unwrap(),
            name,
        }
    };
    let sides = [side("a", A, B), side("b", B, A)];
    for task in sides.map(|side| tokio::spawn(everyday(side))) {
        task.await.unwrap();
    }
    sides
}

async fn everyday(side: Side) {
    rows(side).await;
    transactions(side).await;
    statements(side).await;
    parameters(side).await;
    pipelining(side).await;
    copying(side).await;
    streaming(side).await;
    cancelling(side).await;
    notifications(side).await;
    errors(side).await;
    settings(side).await;
    one_server_connection(side).await;
}

async fn try_connect(url: &str) -> Result<(Client, UnboundedReceiver<Notification>), Error> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let messages = future::poll_fn(|cx| connection.poll_message(cx));
        let stream = futures_util::stream::unfold(Some(messages), |messages| async {
            let mut messages = messages?;
            let message = (&mut messages).await?;
            Some((message, Some(messages)))
        });
        pin_mut!(stream);
        while let Some(Ok(message)) = stream.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification);
            }
        }
    });
    Ok((client, receiver))
}

async fn connect(url: &str) -> Client {
    try_connect(url).await.unwrap().0
}

async fn sees(client: &Client) -> Vec<Uuid> {
    client.query(ONLY, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, expected: &SqlState) {
    match result {
        Ok(_) => panic!("accepted where {} was due", expected.code()),
        Err(error) => assert_eq!(error.code(), Some(expected), "{error:?}"),
    }
}

async fn rows(side: Side) {
    let mut client = connect(side.url).await;
    assert_eq!(sees(&client).await, [side.own]);
    let work = client.transaction().await.unwrap();
    let insert = "insert into crm_leads (full_name, email) values ($1, $2) returning tenant_id";
    let row = work.query_one(insert, &[&"Rust", &"rust@example.org"]).await.unwrap();
    assert_eq!(row.get::<_, Uuid>(0), side.own);
    let all = work.query("update crm_leads set status = 'lost' returning tenant_id", &[]).await;
    assert!(all.unwrap().iter().all(|row| row.get::<_, Uuid>(0) == side.own));
    let foreign = "delete from crm_leads where tenant_id = $1";
    assert_eq!(work.execute(foreign, &[&side.other]).await.unwrap(), 0);
    assert!(work.execute("delete from crm_leads", &[]).await.unwrap() >= 5);
    work.rollback().await.unwrap();
    let insert = "insert into crm_leads (tenant_id, full_name, email) values ($1, 'x', 'x')";
    refused(client.execute(insert, &[&side.other]).await, &SqlState::INSUFFICIENT_PRIVILEGE);
    let left = client.query("select distinct tenant_id from crm_leads", &[]).await.unwrap();
    assert_eq!((left.len(), left[0].get::<_, Uuid>(0)), (1, side.own));
}

async fn transactions(side: Side) {
    let mut client = connect(side.session).await;
    client.batch_execute("create temporary table t (n integer)").await.unwrap();
    let mut outer = client.transaction().await.unwrap();
    outer.execute("insert into t values (1)", &[]).await.unwrap();
    let inner = outer.savepoint("second").await.unwrap();
    inner.execute("insert into t values (2)", &[]).await.unwrap();
    refused(inner.execute("select 1 / 0", &[]).await, &SqlState::DIVISION_BY_ZERO);
    refused(inner.execute("select 1", &[]).await, &SqlState::IN_FAILED_SQL_TRANSACTION);
    inner.rollback().await.unwrap();
    outer.commit().await.unwrap();
    let count: i64 = client.query_one("select sum(n) from t", &[]).await.unwrap().get(0);
    assert_eq!(count, 1);
    for (level, name) in [
        (IsolationLevel::ReadCommitted, "read committed"),
        (IsolationLevel::RepeatableRead, "repeatable read"),
        (IsolationLevel::Serializable, "serializable"),
    ] {
        let work = client.build_transaction().isolation_level(level).read_only(true).start();
        let work = work.await.unwrap();
        let shown = work.query_one("show transaction_isolation", &[]).await.unwrap();
        assert_eq!(shown.get::<_, &str>(0), name);
        refused(
            work.execute("update projects set name = name", &[]).await,
            &SqlState::READ_ONLY_SQL_TRANSACTION,
        );
    }
    drop(client.transaction().await.unwrap());
    assert_eq!(sees(&client).await, [side.own], "after a transaction that was dropped");
}

/// tokio-postgres counts its statements from s0 in every connection, so both tenants' names meet.
async fn statements(side: Side) {
    let client = connect(side.url).await;
    let own = client.prepare_typed("select tenant_id, $1 from projects", &[Type::TEXT]).await;
    let own = own.unwrap();
    let text = client.prepare(&format!("select '{}' || $1::text", side.name)).await.unwrap();
    for round in 0..20 {
        for row in client.query(&own, &[&side.name]).await.unwrap() {
            assert_eq!((row.get::<_, Uuid>(0), row.get::<_, &str>(1)), (side.own, side.name));
        }
        let row = client.query_one(&text, &[&round.to_string()]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), format!("{}{round}", side.name));
    }
    drop(own);
    assert_eq!(sees(&client).await, [side.own]);
}

async fn parameters(side: Side) {
    let client = connect(side.url).await;
    let row = client
        .query_one(
            "select $1::uuid, $2::jsonb, $3::timestamptz, $4::text[], $5::bytea, $6::int8[],
                $7::float8, $8::bool, $9::int2, $10::text, $11::text",
            &[
                &side.own,
                &json!({"clé": [1, null, "é"]}),
                &std::time::UNIX_EPOCH,
                &vec![Some("un"), None, Some("{,\"")],
                &&[0_u8, 255, 92, 39][..],
                &vec![i64::MIN, 0, i64::MAX],
                &f64::MIN_POSITIVE,
                &true,
                &i16::MIN,
                &"'; drop table projects; --",
                &None::<String>,
            ],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, Uuid>(0), row.get(10)), (side.own, None::<String>));
    assert_eq!(row.get::<_, serde_json::Value>(1)["clé"][2], "é");
    assert_eq!(row.get::<_, std::time::SystemTime>(2), std::time::UNIX_EPOCH);
    assert_eq!(row.get::<_, Vec<Option<&str>>>(3), [Some("un"), None, Some("{,\"")]);
    assert_eq!(row.get::<_, &[u8]>(4), [0, 255, 92, 39]);
    assert_eq!(row.get::<_, Vec<i64>>(5), [i64::MIN, 0, i64::MAX]);
    assert_eq!(row.get::<_, &str>(9), "'; drop table projects; --");
    // A range is looked up in the catalogue by statements of the driver's own.
    let range = client.query_one("select period::text, period from pme_analyses limit 1", &[]);
    assert_eq!(range.await.unwrap().columns()[1].type_().name(), "daterange");
}

async fn pipelining(side: Side) {
    let client = connect(side.url).await;
    let statement =
        client.prepare("select $1::int4, tenant_id from projects limit 1").await.unwrap();
    let asked = (0..200).map(|n| {
        let (client, statement) = (&client, &statement);
        async move {
            if n % 50 == 7 {
                refused(client.query("select 1 / 0", &[]).await, &SqlState::DIVISION_BY_ZERO);
            }
            let row = client.query_one(statement, &[&n]).await.unwrap();
            assert_eq!((row.get::<_, i32>(0), row.get::<_, Uuid>(1)), (n, side.own));
        }
    });
    future::join_all(asked).await;
    // What comes behind a statement that undoes the settings is still the tenant's.
    let (reset, read) =
        future::join(client.batch_execute("reset all"), client.query(ONLY, &[])).await;
    reset.unwrap();
    assert_eq!(read.unwrap()[0].get::<_, Uuid>(0), side.own);
    let (discard, read) =
        future::join(client.batch_execute("discard all"), client.query(ONLY, &[])).await;
    discard.unwrap();
    assert_eq!(read.unwrap()[0].get::<_, Uuid>(0), side.own);
}

async fn copying(side: Side) {
    let client = connect(side.session).await;
    let stream = client.copy_out("copy (select tenant_id from projects) to stdout").await.unwrap();
    let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert!(!chunks.is_empty());
    assert!(chunks.iter().all(|chunk| chunk[..] == *format!("{}\n", side.own).as_bytes()));
    for (line, expected) in
        [(format!("{}\tcopied\n", side.own), true), (format!("{}\tcopied\n", side.other), false)]
    {
        let copying = client.copy_in("copy projects (tenant_id, name) from stdin").await.unwrap();
        pin_mut!(copying);
        copying.send(Bytes::from(line)).await.unwrap();
        let copied = copying.finish().await;
        if expected {
            assert_eq!(copied.unwrap(), 1);
        } else {
            refused(copied, &SqlState::INSUFFICIENT_PRIVILEGE);
        }
    }
    let taken_back = "delete from projects where name = 'copied'";
    assert_eq!(client.execute(taken_back, &[]).await.unwrap(), 1);
    client.batch_execute("create temporary table t (n integer)").await.unwrap();
    let sink = client.copy_in("copy t from stdin").await.unwrap();
    pin_mut!(sink);
    for chunk in 0..100 {
        let lines: String = (0..1000).map(|n| format!("{}\n", chunk * 1000 + n)).collect();
        sink.send(Bytes::from(lines)).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), 100_000);
    {
        let abandoned = client.copy_in("copy t from stdin").await.unwrap();
        pin_mut!(abandoned);
        abandoned.send(Bytes::from_static(b"1\n")).await.unwrap();
    }
    let count: i64 = client.query_one("select count(*) from t", &[]).await.unwrap().get(0);
    assert_eq!(count, 100_000);
}

async fn streaming(side: Side) {
    let mut client = connect(side.url).await;
    let sql = "select n, tenant_id from generate_series(1, 100000) n,
        (select tenant_id from projects limit 1) p";
    let rows = client.query_raw(sql, Vec::<i32>::new()).await.unwrap();
    pin_mut!(rows);
    let mut expected = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        expected += 1;
        assert_eq!((row.get::<_, i32>(0), row.get::<_, Uuid>(1)), (expected, side.own));
    }
    assert_eq!(expected, 100_000);
    // Two portals of one transaction, read by turns.
    let work = client.transaction().await.unwrap();
    let first = work.bind("select generate_series(1, 100)", &[]).await.unwrap();
    let second = work.bind("select tenant_id from projects, generate_series(1, 100)", &[]).await;
    let second = second.unwrap();
    for _ in 0..10 {
        assert_eq!(work.query_portal(&first, 10).await.unwrap().len(), 10);
        let rows = work.query_portal(&second, 7).await.unwrap();
        assert!(rows.iter().all(|row| row.get::<_, Uuid>(0) == side.own));
    }
}

async fn cancelling(side: Side) {
    let client = connect(side.url).await;
    let token = client.cancel_token();
    let cancel = async {
        // Until the statement runs, a request is lost, as with Postgres itself.
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            token.cancel_query(NoTls).await.unwrap();
        }
    };
    let asleep = client.batch_execute("select pg_sleep(60)");
    pin_mut!(cancel, asleep);
    match future::select(asleep, cancel).await {
        future::Either::Left((result, _)) => refused(result, &SqlState::QUERY_CANCELED),
        future::Either::Right(_) => panic!("nothing was cancelled"),
    }
    loop {
        // The last request may still be on its way.
        match client.query(ONLY, &[]).await {
            Ok(rows) => break assert_eq!(rows[0].get::<_, Uuid>(0), side.own),
            Err(error) => assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED)),
        }
    }
}

async fn notifications(side: Side) {
    let (listener, mut received) = try_connect(side.session).await.unwrap();
    let sender = connect(side.freed).await;
    let channel = format!("rust_{}", side.name);
    listener.batch_execute(&format!("listen {channel}")).await.unwrap();
    sender.execute("select pg_notify($1, 'salut')", &[&channel]).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), received.recv()).await;
    let told = told.unwrap().unwrap();
    assert_eq!((told.channel(), told.payload()), (&channel[..], "salut"));
    if side.mode == Mode::Session {
        let pid = sender.query_one("select pg_backend_pid()", &[]).await.unwrap();
        assert_eq!(told.process_id(), pid.get::<_, i32>(0));
    }
}

async fn errors(side: Side) {
    let client = connect(side.session).await;
    let error = client.batch_execute("select no_such from projects").await.unwrap_err();
    let told = error.as_db_error().unwrap();
    assert_eq!(told.code(), &SqlState::UNDEFINED_COLUMN);
    assert_eq!(told.position(), Some(&tokio_postgres::error::ErrorPosition::Original(8)));
    let twice = "create temporary table t (n integer primary key); insert into t values (1), (1)";
    let error = client.batch_execute(twice).await.unwrap_err();
    let told = error.as_db_error().unwrap();
    assert_eq!(told.code(), &SqlState::UNIQUE_VIOLATION);
    assert_eq!(told.detail(), Some("Key (n)=(1) already exists."));
    let twice = "insert into crm_leads (full_name, email) select full_name, email from crm_leads";
    let error = client.execute(twice, &[]).await.unwrap_err();
    let told = error.as_db_error().unwrap();
    // Postgres keeps the values of a table under policies to itself.
    assert_eq!((told.code(), told.detail()), (&SqlState::UNIQUE_VIOLATION, None));
    assert_eq!(told.table(), Some("crm_leads"));
    assert_eq!(sees(&client).await, [side.own]);
}

async fn settings(side: Side) {
    let mut config: tokio_postgres::Config = side.url.parse().unwrap();
    config.application_name("rust").options("-c statement_timeout=54321 -c timezone=Asia/Tokyo");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let show = async |name: &str| -> String {
        client.query_one(&format!("show {name}"), &[]).await.unwrap().get(0)
    };
    let change = "set application_name = 'other'; set statement_timeout = 0; set timezone = 'UTC'";
    for undo in ["reset application_name; reset statement_timeout; reset timezone", "discard all"] {
        client.batch_execute(change).await.unwrap();
        assert_eq!(show("timezone").await, "UTC");
        client.batch_execute(undo).await.unwrap();
        assert_eq!(show("application_name").await, "rust");
        assert_eq!(show("statement_timeout").await, "54321ms");
        assert_eq!(show("timezone").await, "Asia/Tokyo");
        assert_eq!(sees(&client).await, [side.own]);
    }
}

/// Both tenants on one server connection, by turns.
async fn one_server_connection(side: Side) {
    for _ in 0..10 {
        let client = connect(side.narrow).await;
        assert_eq!(sees(&client).await, [side.own]);
        let left: i64 = client
            .query_one(
                "select (select count(*) from pg_cursors where is_holdable) + (select count(*) from pg_locks
                        where locktype = 'advisory' and pid = pg_backend_pid())
                    + (select count(*) from pg_listening_channels())
                    + (select count(*) from pg_class where relname = 'left_behind'
                        and pg_table_is_visible(oid))",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(left, 0);
        client
            .batch_execute(
                "create temporary table left_behind (); listen left_behind;
                select pg_advisory_lock(1); set search_path = pg_catalog;
                declare c cursor with hold for select * from public.projects",
            )
            .await
            .unwrap();
    }
}

/// What a transaction finds on the next server connection.
async fn moving(side: Side) {
    let mut client = connect(side.url).await;
    let mut pids = std::collections::HashSet::new();
    for _ in 0..2000 {
        let row = client.query_one("select pg_backend_pid()", &[]).await.unwrap();
        pids.insert(row.get::<_, i32>(0));
        if pids.len() > 1 {
            break;
        }
    }
    assert!(pids.len() > 1, "the server connection changes");
    let mut freed = connect(side.freed).await;
    for statement in [
        "listen news",
        "create temporary table t (n integer)",
        "prepare p as select 1",
        "declare c cursor with hold for select 1",
        "select pg_advisory_lock(1)",
    ] {
        let error = freed.batch_execute(statement).await.unwrap_err();
        let told = error.as_db_error().unwrap();
        assert_eq!(told.code(), &SqlState::FEATURE_NOT_SUPPORTED, "{statement}");
        assert!(told.hint().unwrap().contains("session_statements"));
        refused(freed.prepare(statement).await, &SqlState::FEATURE_NOT_SUPPORTED);
        assert_eq!(sees(&freed).await, [side.own], "after {statement}");
    }
    let insert = "insert into crm_leads (full_name, email) values ($1, $2) returning id";
    let insert = client.prepare(insert).await.unwrap();
    for round in 0..20 {
        let work = client.transaction().await.unwrap();
        let email = format!("moving{round}@rust.example.org");
        let id: Uuid = work.query_one(&insert, &[&side.name, &email]).await.unwrap().get(0);
        work.commit().await.unwrap();
        let deleted = "delete from crm_leads where id = $1 returning tenant_id, full_name";
        let row = client.query_one(deleted, &[&id]).await.unwrap();
        assert_eq!((row.get::<_, Uuid>(0), row.get::<_, &str>(1)), (side.own, side.name));
    }
    let work = freed.transaction().await.unwrap();
    work.batch_execute("create temporary table t (n integer) on commit drop").await.unwrap();
    let sink = work.copy_in("copy t from stdin").await.unwrap();
    pin_mut!(sink);
    sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    work.commit().await.unwrap();
    client
        .batch_execute("set timezone = 'America/Lima'; set search_path = pg_catalog")
        .await
        .unwrap();
    for _ in 0..20 {
        let shown = "select current_setting('timezone'), current_setting('search_path')";
        let row = client.query_one(shown, &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), ("America/Lima", "pg_catalog"));
    }
}

async fn refused_logins(side: Side) {
    for url in ["FORGED_URL", "EXPIRED_URL"] {
        refused(try_connect(stand().url(side.mode, url)).await, &SqlState::INVALID_PASSWORD);
    }
    let mut config: tokio_postgres::Config = side.url.parse().unwrap();
    config.password("not a token");
    refused(config.connect(NoTls).await, &SqlState::INVALID_PASSWORD);
}

async fn other_roads() {
    let superadmin = connect(stand().url(Mode::Session, "SUPERADMIN_URL")).await;
    assert!(sees(&superadmin).await.is_empty());
    superadmin.batch_execute("select enable_superadmin_mode()").await.unwrap();
    assert_eq!(sees(&superadmin).await.len(), 3);

    let owner = connect(stand().url(Mode::Session, "OWNER_URL")).await;
    owner.batch_execute("create table rust_owned (n integer)").await.unwrap();
    let sink = owner.copy_in("copy rust_owned from stdin").await.unwrap();
    pin_mut!(sink);
    sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    owner.batch_execute("drop table rust_owned").await.unwrap();
}
