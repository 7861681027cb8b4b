//! When a server connection goes to another tenant without a reset, and when it must not.

use cloison::observe::Event;

use super::{A, B, COUNT, PID, Wire, done, execute, extended, pooled, rows_of, tags};
use crate::support::postgres::Database;
use crate::support::proxy::Proxy;
use crate::support::tap::Tap;

const RESET: &str = "DISCARD ALL";

struct Tapped {
    proxy: Proxy,
    tap: Tap,
    a: Wire,
    b: Wire,
}

impl Tapped {
    async fn with(sql: &str, lines: &str) -> Self {
        let database = Database::new();
        database.superuser().await.batch_execute(sql).await.unwrap();
        let (proxy, tap) = Tap::run_on(pooled().set(lines), database).await;
        let (a, b) = (Wire::tenant(&proxy, A).await, Wire::tenant(&proxy, B).await);
        let mut tapped = Self { proxy, tap, a, b };
        tapped.resets().await;
        tapped
    }

    /// How many resets there have been since the last call. A statement of B's comes after any
    /// that A's last one has led to, for there is no other connection; and then one of A's.
    async fn resets(&mut self) -> usize {
        let before = self.tap.count(RESET);
        assert_eq!(self.b.value("select count(*) from note where id < 50").await, "5");
        assert_eq!(self.a.value("select count(*) from note where id < 50").await, "3");
        before + self.tap.count(RESET)
    }

    /// As [`Self::resets`], where every statement on rows leads to one: these are about none, and
    /// leave A's unnamed statement as it is.
    async fn resets_so_far(&mut self) -> usize {
        for _ in 0..2 {
            assert_eq!(self.b.value("show work_mem").await, "4MB");
        }
        self.tap.count(RESET)
    }

    async fn stop(self) {
        drop((self.a, self.b));
        self.proxy.stop().await;
    }
}

/// Statements that leave nothing.
const CLEAN: &[&str] = &[
    COUNT,
    "select body, lower(body), now() from note where id = 1 order by body limit 1",
    "update note set body = upper(body) where id = 1",
    "insert into note (tenant_id, id, body) values (cloison.get_current_tenant(), 99, 'x')",
    "delete from note where id = 99 returning *",
    "begin; select count(*) from note; commit",
    "begin; savepoint s; select 1; rollback to s; commit",
    "show timezone",
    "set local work_mem = '1MB'",
    "begin; set local work_mem = '1MB'; select 1; commit",
    "copy (select * from note) to stdout",
    "select 1/0",
    "select * from nowhere",
    "",
    "select pg_backend_pid(), current_setting('work_mem')",
    "with x as (select * from note) select count(*) from x join note using (id)",
    "begin; declare c cursor for select * from note; fetch all from c; commit",
    "select pg_advisory_xact_lock(7)",
    "select cloison.advisory_xact_lock(7), cloison.try_advisory_xact_lock('seven')",
    "set timezone = 'Asia/Tokyo'",
    "set session characteristics as transaction read write",
];

/// Statements that may.
const DIRTY: &[&str] = &[
    "do $$ begin end $$",
    "select unheard_of()",
    "select public.mine()",
    "select setseed(0.5)",
    "select set_config('work_mem', '1MB', false)",
    "select nextval('no_such_sequence')",
    "set role none",
    "explain select 1",
    "analyze note",
];

#[tokio::test]
async fn clean_statements_lead_to_no_reset_and_others_do() {
    let mine = "create function mine() returns int language sql as 'select 1'; \
                select cloison.harden(array[\
                    'advisory_locks', 'languages', 'notifications', 'random_seed', 'settings', 'temporary'])";
    let mut tapped = Tapped::with(mine, "").await;
    let pid = tapped.a.value(PID).await;
    for sql in CLEAN {
        tapped.a.ask(sql).await;
        assert_eq!(tapped.resets().await, 0, "{sql}");
        extended(&mut tapped.a, sql.split(';').next().unwrap()).await;
        tapped.a.ask("rollback").await;
        assert_eq!(tapped.resets().await, 0, "{sql}");
    }
    for sql in DIRTY {
        tapped.a.ask(sql).await;
        assert_eq!(tapped.resets().await, 1, "{sql}");
        extended(&mut tapped.a, sql).await;
        assert_eq!(tapped.resets().await, 1, "{sql}");
    }
    // By name, as often as it likes.
    tapped.a.parse("s", COUNT).sync().send().await;
    tapped.a.answer().await;
    tapped.b.parse("s", COUNT).sync().send().await;
    tapped.b.answer().await;
    for _ in 0..3 {
        assert_eq!(rows_of(&mut tapped.a, "s").await, ["3"]);
        assert_eq!(rows_of(&mut tapped.b, "s").await, ["5"]);
    }
    assert_eq!(tapped.resets().await, 0);
    tapped.a.parse("d", "select mine()").sync().send().await;
    tapped.a.answer().await;
    for _ in 0..2 {
        execute(&mut tapped.a, "d").await;
        assert_eq!(tapped.resets().await, 1);
    }
    assert_eq!(tapped.a.value(PID).await, pid);
    tapped.stop().await;
}

/// What makes every statement on rows a doubtful one.
const IMPLICIT: &[&str] = &[
    "create function public.f() returns trigger language plpgsql as $$ begin return new; end $$; \
     create trigger t before update on note for each row execute function public.f()",
    "create function public.f() returns text language sql as 'select ''x'''; \
     alter table note alter body set default public.f()",
    "create function public.f(text) returns boolean immutable language sql as 'select true'; \
     alter table note add check (public.f(body))",
    "create function public.f(text) returns text immutable language sql as 'select $1'; \
     create index on note (public.f(body))",
    "create view v as select set_config('work_mem', '1MB', false)",
    "create rule r as on update to note do also select 1",
    "create function public.note(text) returns int language sql as 'select 1'; \
     create function public.f(note) returns int language sql as 'select 1'",
];

#[tokio::test]
async fn code_that_no_text_names_keeps_every_connection_in_doubt() {
    for sql in IMPLICIT {
        let mut tapped = Tapped::with(sql, "").await;
        tapped.a.ask("select count(*) from note").await;
        // Each of the two statements that are asked to count, and the one above.
        assert!(tapped.resets().await > 0, "{sql}");
        tapped.stop().await;
    }
    // Vouched for, it is as harmless as anything.
    let mut tapped = Tapped::with(IMPLICIT[0], "harmless_functions = [\"public.f\"]").await;
    done(&mut tapped.a, "update note set body = body").await;
    assert_eq!(tapped.resets().await, 0);
    tapped.stop().await;
}

#[tokio::test]
async fn where_tenants_may_read_statements_those_of_others_are_dropped() {
    let allow = "select cloison.allow_back('pg_prepared_statements')";
    let mut tapped = Tapped::with(allow, "").await;
    tapped.a.parse("s", "select 'secret of a'").sync().send().await;
    tapped.a.answer().await;
    let look = "select count(*) from pg_prepared_statements where statement like '%secret of%' \
                and statement not like '%pg_prepared%'";
    assert_eq!(tapped.b.value(look).await, "0");
    assert_eq!(rows_of(&mut tapped.a, "s").await, ["secret of a"]);
    assert_eq!(tapped.b.value(look).await, "0");
    tapped.stop().await;
}

/// A client can make the reset fail: the connection is closed then, with all that is on it.
#[tokio::test]
async fn a_reset_that_fails_takes_the_connection_along() {
    let mut proxy = pooled().pinning().run().await;
    let mut a = Wire::tenant(&proxy, A).await;
    let pid = a.value(PID).await;
    // The clock of DISCARD ALL starts before it has undone the limit, and the table that it has to
    // drop is locked by somebody.
    done(&mut a, "create temp table left_behind (i int)").await;
    done(&mut a, "set statement_timeout = 50").await;
    let superuser = proxy.database.superuser().await;
    let find = "select oid::regclass::text from pg_class where relname = 'left_behind'";
    let table: String = superuser.query_one(find, &[]).await.unwrap().get(0);
    superuser.batch_execute(&format!("begin; lock table {table}")).await.unwrap();
    drop(a);
    let told = proxy.observed(|event| match event {
        Event::ServerDiscarded { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(told.await, "reset_failed");
    superuser.batch_execute("commit").await.unwrap();
    let mut b = Wire::tenant(&proxy, B).await;
    assert_ne!(b.value(PID).await, pid);
    assert_eq!(b.value("select to_regclass('pg_temp.left_behind') is null").await, "t");
    assert_eq!(b.value("show statement_timeout").await, "0");
    assert_eq!(b.value(COUNT).await, "5");
    proxy.stop().await;
}

/// What was clean when it was prepared may not be so after a change of the schema.
#[tokio::test]
async fn what_was_read_before_a_change_is_read_anew() {
    let mut tapped = Tapped::with("", "").await;
    let write = "update note set body = body where id = 1";
    tapped.a.parse("s", write).parse("", write).sync().send().await;
    assert_eq!(tags(&tapped.a.answer().await), "11Z");
    for name in ["", "s"] {
        execute(&mut tapped.a, name).await;
        assert_eq!(tapped.resets_so_far().await, 0, "{name:?}");
    }
    tapped.proxy.owner().await.batch_execute(IMPLICIT[0]).await.unwrap();
    tapped.resets_so_far().await;
    // It is known a moment later.
    loop {
        done(&mut tapped.b, "select count(*) from note").await;
        if tapped.resets_so_far().await > 0 {
            break;
        }
    }
    for name in ["", "s", "s"] {
        execute(&mut tapped.a, name).await;
        assert_eq!(tapped.resets_so_far().await, 1, "{name:?}");
    }
    tapped.stop().await;
}
