//! What one client leaves on a server connection, and what the next one finds: nothing.

use std::time::Duration;

use cloison::observe::Event;
use cloison::types::Access;

use crate::support::postgres::{A, B, until_any, until_none};
use crate::support::proxy::{self, Proxy, pool_mode, tenant_token};
use crate::support::wire::{Wire, error, rows, statuses, tags};

const PID: &str = "select pg_backend_pid()";
const COUNT: &str = "select count(*) from note";

/// Plays `residue` as A, looks as B on the same server connection.
async fn leave_and_look(residue: &[&str], looks: &[(&str, &str)]) {
    let proxy =
        proxy::new().pool_size(1).pinning().unfiltered().allowing(&["temporary"]).run().await;
    let mut a = Wire::tenant(&proxy, A).await;
    let pid = a.value(PID).await;
    for sql in residue {
        let answer = a.ask(sql).await;
        assert!(!tags(&answer).contains('E'), "{sql}: {}", error(&answer).field('M'));
    }
    drop(a);
    let mut b = Wire::tenant(&proxy, B).await;
    assert_eq!(b.value(PID).await, pid, "the connection was not reused");
    for (look, expected) in looks {
        let answer = b.ask(look).await;
        match expected.strip_prefix('!') {
            Some(sqlstate) => assert_eq!(error(&answer).field('C'), sqlstate, "{look}"),
            None => assert_eq!(rows(&answer), [*expected], "{look}"),
        }
    }
    assert_eq!(b.value(COUNT).await, "5");
    proxy.stop().await;
}

/// Plays `residue` as A, which makes the connection unfit; B gets another one.
async fn leave_and_be_discarded(
    proxy: &mut Proxy,
    mut a: Wire,
    reason: &str,
    residue: impl AsyncFnOnce(&mut Wire),
) {
    let pid = a.value(PID).await;
    residue(&mut a).await;
    drop(a);
    let told = proxy.observed(|event| match event {
        Event::ServerDiscarded { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(told.await, reason);
    let mut b = Wire::tenant(proxy, B).await;
    assert_ne!(b.value(PID).await, pid);
    assert_eq!(b.value(COUNT).await, "5");
}

#[tokio::test]
async fn a_temporary_table_is_gone() {
    let residue = [
        "create temp table note (tenant_id uuid, id bigint, body text)",
        "insert into note values (null, 1, 'trap')",
        "create temp table t (i int)",
    ];
    let looks = [("select to_regclass('pg_temp.note') is null", "t"), ("table t", "!42P01")];
    leave_and_look(&residue, &looks).await;
}

#[tokio::test]
async fn a_statement_prepared_in_sql_is_gone() {
    let residue = ["prepare s as select 'of a'"];
    let looks = [("execute s", "!26000")];
    leave_and_look(&residue, &looks).await;
}

#[tokio::test]
async fn a_statement_prepared_by_protocol_is_gone() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut a = Wire::tenant(&proxy, A).await;
    let pid = a.value(PID).await;
    for name in ["s1", ""] {
        a.parse(name, "select 'of a'").sync().send().await;
        assert_eq!(tags(&a.answer().await), "1Z");
    }
    drop(a);
    let mut b = Wire::tenant(&proxy, B).await;
    for name in ["s1", ""] {
        b.bind("", name, &[]).execute("", 0).sync().send().await;
        let answer = b.answer().await;
        assert_eq!(error(&answer).field('C'), "26000", "{name:?}");
    }
    b.parse("s1", "select 'of b'").bind("", "s1", &[]).execute("", 0).sync().send().await;
    assert_eq!(rows(&b.answer().await), ["of b"]);
    assert_eq!(b.value(PID).await, pid);
    proxy.stop().await;
}

#[tokio::test]
async fn a_held_cursor_is_gone() {
    let residue = ["declare c cursor with hold for select body from note"];
    leave_and_look(
        &residue,
        &[("fetch c", "!34000"), ("select count(*) from pg_cursors where name <> ''", "0")],
    )
    .await;
}

#[tokio::test]
async fn an_advisory_lock_is_free() {
    let proxy = proxy::new().pool_size(1).pinning().allowing(&["advisory_locks"]).run().await;
    let mut a = Wire::tenant(&proxy, A).await;
    let pid = a.value(PID).await;
    let answer = a.ask("select pg_advisory_lock(7)").await;
    assert_eq!(tags(&answer), "TDCZ");
    drop(a);
    let mut b = Wire::tenant(&proxy, B).await;
    assert_eq!(b.value(PID).await, pid);
    let superuser = proxy.database.superuser().await;
    let free = superuser.query_one("select pg_try_advisory_lock(7)", &[]).await.unwrap();
    assert!(free.get::<_, bool>(0));
    proxy.stop().await;
}

#[tokio::test]
async fn nothing_is_listened_to() {
    let proxy = proxy::new().pool_size(1).run().await;
    let mut a = Wire::tenant(&proxy, A).await;
    let pid = a.value(PID).await;
    a.ask("listen news").await;
    drop(a);
    let mut b = Wire::tenant(&proxy, B).await;
    assert_eq!(b.value(PID).await, pid);
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute("notify news, 'for a'").await.unwrap();
    assert_eq!(tags(&b.ask("select 1").await), "TDCZ");
    assert_eq!(tags(&b.ask("select 1").await), "TDCZ");
    assert_eq!(tags(&b.ask("select pg_listening_channels()").await), "TCZ");
    proxy.stop().await;
}

#[tokio::test]
async fn settings_are_back() {
    let residue = [
        "set search_path = pg_temp",
        "set statement_timeout = '1min'",
        "select set_config('work_mem', '1MB', false)",
        "select set_config('my.key', 'of a', false)",
        "set default_transaction_read_only = on",
        "set session characteristics as transaction isolation level serializable",
        "set bytea_output = escape",
        "set application_name = 'of a'",
        "set datestyle = 'SQL, DMY'",
        "set standard_conforming_strings = off",
        "set client_encoding = 'LATIN1'",
    ];
    let looks = [
        ("show search_path", "\"$user\", public"),
        ("show statement_timeout", "0"),
        ("show work_mem", "4MB"),
        (
            "select current_setting('my.key', true) is null or current_setting('my.key', true) = ''",
            "t",
        ),
        ("show default_transaction_read_only", "off"),
        ("show transaction_isolation", "read committed"),
        ("show bytea_output", "hex"),
        ("show application_name", ""),
        ("show datestyle", "ISO, MDY"),
        ("show standard_conforming_strings", "on"),
        ("show client_encoding", "UTF8"),
    ];
    leave_and_look(&residue, &looks).await;
}

#[tokio::test]
async fn the_reported_settings_are_those_of_the_new_session() {
    let proxy = proxy::new().pool_size(1).run().await;
    let (mut a, first) = Wire::login(&proxy, "app", &tenant_token(A), &[]).await;
    let pid = a.value(PID).await;
    for sql in ["set application_name = 'a'", "set timezone = 'Asia/Tokyo'", "set datestyle = SQL"]
    {
        assert!(tags(&a.ask(sql).await).contains('S'), "{sql}");
    }
    drop(a);
    let (mut b, second) = Wire::login(&proxy, "app", &tenant_token(B), &[]).await;
    assert_eq!(b.value(PID).await, pid);
    assert_eq!(statuses(&first), statuses(&second));
    proxy.stop().await;
}

#[tokio::test]
async fn sequence_state_is_gone() {
    let residue = ["create temp sequence q", "select nextval('q')", "select lastval()"];
    leave_and_look(&residue, &[("select lastval()", "!55000")]).await;
}

#[tokio::test]
async fn the_context_of_the_former_tenant_is_gone() {
    // Behind the ticket's kind stands its tenant.
    let mine = "select substr(current_setting('cloison.context', true), 2, 36)";
    let residue = [COUNT];
    leave_and_look(&residue, &[(mine, B)]).await;
}

#[tokio::test]
async fn an_open_transaction_is_discarded() {
    for (reason, statements) in [
        ("in_transaction", &["begin", "update note set body = 'x'"][..]),
        ("in_transaction", &["begin", "select 1/0"]),
    ] {
        let mut proxy = proxy::new().pool_size(1).run().await;
        let a = Wire::tenant(&proxy, A).await;
        leave_and_be_discarded(&mut proxy, a, reason, async |a| {
            for sql in statements {
                a.ask(sql).await;
            }
        })
        .await;
        let superuser = proxy.database.superuser().await;
        let changed = "select count(*) from note where body = 'x'";
        assert_eq!(superuser.query_one(changed, &[]).await.unwrap().get::<_, i64>(0), 0);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_dies_in_mid_result_takes_its_connection_along() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let a = Wire::tenant(&proxy, A).await;
    leave_and_be_discarded(&mut proxy, a, "pending_replies", async |a| {
        let endless = "select repeat('x', 1000), generate_series(1, 1000000000)";
        a.query(endless).send().await;
        a.until('D').await;
    })
    .await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_dies_in_mid_statement_has_it_cancelled() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let a = Wire::tenant(&proxy, A).await;
    let superuser = proxy.database.superuser().await;
    let running = "select count(*) from pg_stat_activity where query like '%3600%' \
                   and wait_event = 'PgSleep' and usename = 'it_app' and datname = current_database()";
    leave_and_be_discarded(&mut proxy, a, "pending_replies", async |a| {
        a.query("select pg_sleep(3600)").send().await;
        until_any(&superuser, running).await;
    })
    .await;
    // The backend ends by itself once its statement is cancelled.
    let left = "select count(*) from pg_stat_activity where query like '%3600%' \
                and usename = 'it_app' and datname = current_database()";
    until_none(&superuser, left).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_dies_in_copy_takes_its_connection_along() {
    for sql in [
        "copy t from stdin",
        "copy (select repeat('x', 1000), generate_series(1, 1000000000)) to stdout",
    ] {
        let mut proxy =
            proxy::new().pool_size(1).pinning().unfiltered().allowing(&["temporary"]).run().await;
        let mut a = Wire::tenant(&proxy, A).await;
        a.ask("create temp table t (i int)").await;
        leave_and_be_discarded(&mut proxy, a, "pending_replies", async |a| {
            a.query(sql).send().await;
            let begun = if sql.ends_with("stdin") { 'G' } else { 'd' };
            a.until(begun).await;
        })
        .await;
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_pipeline_without_its_sync_is_discarded() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let a = Wire::tenant(&proxy, A).await;
    leave_and_be_discarded(&mut proxy, a, "unfinished_pipeline", async |a| {
        a.run("update note set body = 'x'").flush().send().await;
        a.until('C').await;
    })
    .await;
    let superuser = proxy.database.superuser().await;
    let changed = "select count(*) from note where body = 'x'";
    assert_eq!(superuser.query_one(changed, &[]).await.unwrap().get::<_, i64>(0), 0);
    proxy.stop().await;
}

#[tokio::test]
async fn half_a_message_is_discarded() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let a = Wire::tenant(&proxy, A).await;
    if proxy::by_transaction() {
        // Of most messages nothing goes out before all of it is there; a `Bind` may be long, and
        // answers are due for what stands before it.
        leave_and_be_discarded(&mut proxy, a, "pending_replies", async |a| {
            let long = [&b"B\0\x10\0\0\0\0\0\0\0\x01"[..], &[0; 20_000]].concat();
            a.parse("", "select $1").flush().send().await;
            a.until('1').await;
            a.raw(&long).flush().send().await;
            // The session has read it before it hears of the end.
        })
        .await;
    } else {
        leave_and_be_discarded(&mut proxy, a, "unread_bytes", async |a| {
            a.raw(b"d\0\0\x10\0abc").send().await;
        })
        .await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_poisoned_timeout_does_not_reach_the_next_client() {
    let proxy = proxy::new().pool_size(1).run().await;
    for _ in 0..5 {
        let mut a = Wire::tenant(&proxy, A).await;
        a.ask("set statement_timeout = 1").await;
        drop(a);
        let mut b = Wire::tenant(&proxy, B).await;
        assert_eq!(b.value("show statement_timeout").await, "0");
        assert_eq!(b.value(COUNT).await, "5");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn different_startup_parameters_get_different_connections() {
    let proxy = proxy::new().pool_size(2).run().await;
    let mut pids = Vec::new();
    for name in ["Asia/Tokyo", "Asia/Kolkata", "Asia/Tokyo", "Asia/Kolkata"] {
        let own = [("timezone", name)];
        let (mut wire, _) = Wire::login(&proxy, "app", &tenant_token(A), &own).await;
        assert_eq!(wire.value("show timezone").await, name);
        pids.push(wire.value(PID).await);
        wire.message('X', b"").send().await;
        assert!(wire.receive().await.is_none());
        drop(wire);
    }
    assert_ne!(pids[0], pids[1]);
    proxy.stop().await;
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_other_settings() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let mut first = Wire::tenant(&proxy, A).await;
    let pid = first.value(PID).await;
    drop(first);
    let own = [("timezone", "Asia/Tokyo")];
    let (mut second, _) = Wire::login(&proxy, "app", &tenant_token(A), &own).await;
    assert_ne!(second.value(PID).await, pid);
    let reason = proxy.observed(|event| match event {
        Event::ServerDiscarded { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(reason.await, "other_settings");
    proxy.stop().await;
}

#[tokio::test]
async fn clients_wait_in_the_order_in_which_they_came() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let holder = Wire::tenant(&proxy, A).await;
    let mut waiting = Vec::new();
    for name in ["1", "2", "3", "4"] {
        let mut wire = Wire::connect(proxy.address).await;
        let parameters = [("user", name), ("database", &proxy.database.name[..])];
        wire.startup(0x0003_0000, &parameters).send().await;
        assert_eq!(wire.receive().await.unwrap().tag, 'R');
        wire.password(&tenant_token(B)).send().await;
        // There is no event of waiting; the tenant's lookup is over when the control role is idle.
        tokio::task::yield_now().await;
        proxy::settled(&proxy).await;
        waiting.push(wire);
    }
    drop(holder);
    let mut order = Vec::new();
    for wire in waiting {
        let user = proxy.observed(|event| match event {
            Event::SessionStarted { user, .. } if user != "app" => Some(user.clone()),
            _ => None,
        });
        order.push(user.await);
        drop(wire);
    }
    assert_eq!(order, ["1", "2", "3", "4"]);
    proxy.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_for_how_long() {
    let mut proxy = proxy::new().pool_size(1).set("query_wait_timeout = \"250ms\"").run().await;
    let mut holder = Wire::tenant(&proxy, A).await;
    let told = if proxy::by_transaction() {
        holder.ask("begin").await;
        let mut waiting = Wire::tenant(&proxy, B).await;
        waiting.query(COUNT).send().await;
        let answer = waiting.answer().await;
        assert_eq!((tags(&answer).as_str(), answer[0].field('V')), ("E", "FATAL"));
        answer[0].clone()
    } else {
        Wire::refused(&proxy, "app", &tenant_token(B), &[]).await
    };
    assert_eq!(told.field('C'), "53300");
    assert_eq!(told.field('M'), "no server connection became free within 0.25 s");
    let waited = proxy.observed(|event| match event {
        Event::CheckoutTimedOut { waited, .. } => Some(*waited),
        _ => None,
    });
    assert_eq!(waited.await, Duration::from_millis(250));
    drop(holder);
    let mut next = Wire::tenant(&proxy, B).await;
    assert_eq!(next.value(COUNT).await, "5");
    proxy.stop().await;
}

#[tokio::test]
async fn a_full_pool_is_told_with_how_many_wait_and_once_it_is_over() {
    let mut proxy = proxy::new().pool_size(1).run().await;
    let mut holder = Wire::tenant(&proxy, A).await;
    holder.ask("begin").await;
    let waits = |proxy: &Proxy| {
        let (address, name) = (proxy.address, proxy.database.name.clone());
        tokio::spawn(async move {
            let mut config = tokio_postgres::Config::new();
            config.host(address.ip().to_string()).port(address.port()).dbname(name);
            config.user("app").password(tenant_token(B));
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.query_one(COUNT, &[]).await.unwrap().get::<_, i64>(0)
        })
    };
    let waiters: Vec<_> = (0..3).map(|_| waits(&proxy)).collect();
    let told = proxy.observed(|event| match event {
        Event::PoolFull { pool, waiting, lasted } => Some((*pool, *waiting, *lasted)),
        Event::CheckoutTimedOut { .. } => panic!("it is not to come to that"),
        _ => None,
    });
    let (pool, waiting, lasted) = told.await;
    assert_eq!((pool, waiting), (Access::Tenant, 3));
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(20), "{lasted:?}");
    // Three clients that wait are one line, and the next is half a minute away.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    holder.ask("commit").await;
    drop(holder);
    let mut more = 0;
    let over = proxy.observed(|event| match event {
        Event::PoolFull { .. } => {
            more += 1;
            None
        }
        Event::PoolRelieved { lasted, .. } => Some(*lasted),
        _ => None,
    });
    assert!(over.await >= Duration::from_millis(3_500));
    assert_eq!(more, 0);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), 5);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_unseen() {
    let proxy = proxy::new().pool_size(1).run().await;
    let superuser = proxy.database.superuser().await;
    for _ in 0..10 {
        let mut a = Wire::tenant(&proxy, A).await;
        let pid: i32 = a.value(PID).await.parse().unwrap();
        a.message('X', b"").send().await;
        assert!(a.receive().await.is_none());
        // At whatever moment of its reset or its rest.
        superuser.query("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
        if pool_mode() == "transaction" {
            // A statement that meets the end of its server is told so, as by Postgres itself.
            let there = "select count(*) from pg_stat_activity where pid = $1";
            while superuser.query_one(there, &[&pid]).await.unwrap().get::<_, i64>(0) > 0 {}
        }
        let mut b = Wire::tenant(&proxy, B).await;
        assert_eq!(b.value(COUNT).await, "5");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let mut proxy = proxy::new().pool_size(1).set("server_idle_timeout = \"100ms\"").run().await;
    drop(Wire::tenant(&proxy, A).await);
    let reason = proxy.observed(|event| match event {
        Event::ServerDiscarded { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(reason.await, "age");
    proxy.stop().await;
}

#[tokio::test]
async fn an_old_connection_is_closed_on_release() {
    let mut proxy = proxy::new().pool_size(1).set("server_lifetime = \"1ms\"").run().await;
    let a = Wire::tenant(&proxy, A).await;
    leave_and_be_discarded(&mut proxy, a, "age", async |_| {}).await;
    proxy.stop().await;
}

/// What once let a tenant's leftovers pass to the next: a Sync near a COPY that fails may be
/// answered or skipped, so the count of answers is one short while the last is still to come.
#[tokio::test]
async fn a_connection_whose_answers_cannot_be_counted_is_not_reused() {
    let mut proxy =
        proxy::new().pool_size(1).pinning().unfiltered().allowing(&["temporary"]).run().await;
    let mut a = Wire::tenant(&proxy, A).await;
    a.ask("create temp table t (i int)").await;
    let residue = async |a: &mut Wire| {
        // So long a text is not looked at: the proxy does not run it step by step.
        let copy = format!("copy t from stdin -- {}", "x".repeat(1 << 16));
        a.run(&copy).copy_data(b"bad\n").sync().copy_done();
        a.query("select pg_sleep(0.2)").send().await;
        assert_eq!(error(&a.until('Z').await).field('C'), "22P02");
    };
    if proxy::by_transaction() {
        // There the Sync is the proxy's own, sent when it is due, so that all can be counted.
        residue(&mut a).await;
        drop(a);
        proxy.session_ended().await;
        let mut b = Wire::tenant(&proxy, B).await;
        assert_eq!(b.value("select 'b'").await, "b");
        assert_eq!(b.value(COUNT).await, "5");
    } else {
        leave_and_be_discarded(&mut proxy, a, "unaccountable", residue).await;
    }
    proxy.stop().await;
}
