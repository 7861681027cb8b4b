//! A setting belongs to the client that set it: it follows it, and nobody else sees it.

use std::collections::BTreeMap;

use super::{A, B, COUNT, PID, Pair, Wire, done, pooled, refused, tags};
use crate::support::proxy::tenant_token;
use crate::support::wire::{Message, statuses};

/// A setting, what A makes of it, and what it shows then; what B makes of it, and what it shows.
const SETTINGS: &[(&str, [&str; 2], [&str; 2])] = &[
    ("search_path", ["pg_temp", "pg_catalog, public"], ["pg_temp", "pg_catalog, public"]),
    ("statement_timeout", ["'1min'", "7000"], ["1min", "7s"]),
    ("work_mem", ["'1MB'", "'2MB'"], ["1MB", "2MB"]),
    ("datestyle", ["'SQL, DMY'", "'German'"], ["SQL, DMY", "German, DMY"]),
    ("timezone", ["'Asia/Tokyo'", "'Asia/Kolkata'"], ["Asia/Tokyo", "Asia/Kolkata"]),
    ("bytea_output", ["escape", "hex"], ["escape", "hex"]),
    ("application_name", ["'of a'", "'of b'"], ["of a", "of b"]),
    (
        "default_transaction_isolation",
        ["serializable", "default"],
        ["serializable", "read committed"],
    ),
    ("my.key", ["'of a'", "'of b'"], ["of a", "of b"]),
    ("intervalstyle", ["iso_8601", "default"], ["iso_8601", "postgres"]),
    ("extra_float_digits", ["0", "default"], ["0", "1"]),
    ("client_min_messages", ["error", "warning"], ["error", "warning"]),
];

#[tokio::test]
async fn what_is_set_follows_its_client_and_no_other() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for (name, [of_a, of_b], [a, b]) in SETTINGS {
        let show = format!("show {name}");
        let fresh = Wire::tenant(&pair.proxy, B).await.ask(&show).await;
        done(&mut pair.a, &format!("set {name} = {of_a}")).await;
        let seen = Wire::tenant(&pair.proxy, B).await.ask(&show).await;
        // Of a setting that there was not, Postgres says that it is empty.
        let rows_of =
            |answer: &[Message]| crate::support::wire::rows(answer).pop().unwrap_or_default();
        assert_eq!(rows_of(&seen), rows_of(&fresh), "{name}");
        done(&mut pair.b, &format!("set session {name} to {of_b}")).await;
        for _ in 0..2 {
            assert_eq!(pair.a.value(&show).await, *a);
            assert_eq!(pair.b.value(&show).await, *b);
        }
        // By the extended protocol, too, and given up again.
        pair.a.run(&format!("reset {name}")).sync().send().await;
        assert_eq!(tags(&pair.a.answer().await).chars().last(), Some('Z'));
        assert_eq!(pair.b.value(&show).await, *b);
        done(&mut pair.b, "reset all").await;
        assert_eq!(rows_of(&pair.a.ask(&show).await), rows_of(&fresh), "{name}");
    }
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn what_a_transaction_undoes_is_not_kept() {
    let mut pair = Pair::new().await;
    done(&mut pair.a, "set work_mem = '1MB'").await;
    for sql in [
        "begin; set work_mem = '2MB'; rollback",
        "begin; set local work_mem = '2MB'; commit",
        "begin; savepoint s; set work_mem = '2MB'; rollback to s; commit",
        "set work_mem = '2MB'; select 1/0",
    ] {
        pair.a.ask(sql).await;
        assert_eq!(pair.b.value("show work_mem").await, "4MB", "{sql}");
        assert_eq!(pair.a.value("show work_mem").await, "1MB", "{sql}");
    }
    done(&mut pair.a, "begin").await;
    done(&mut pair.a, "set work_mem = '3MB'").await;
    assert_eq!(pair.a.value("show work_mem").await, "3MB");
    done(&mut pair.a, "commit").await;
    assert_eq!(pair.b.value("show work_mem").await, "4MB");
    assert_eq!(pair.a.value("show work_mem").await, "3MB");
    pair.stop().await;
}

/// These are reported to nobody, so nothing but the statement tells of them.
#[tokio::test]
async fn what_is_discarded_does_not_come_back() {
    let mut pair = Pair::new().await;
    for reset in ["discard all", "reset all", "set work_mem = default", "begin; reset all; commit"]
    {
        for by_query in [true, false] {
            done(&mut pair.a, "set work_mem = '1MB'").await;
            assert_eq!(pair.b.value("show work_mem").await, "4MB");
            assert_eq!(pair.a.value("show work_mem").await, "1MB");
            if by_query || reset.contains(';') {
                done(&mut pair.a, reset).await;
            } else {
                super::extended(&mut pair.a, reset).await;
            }
            assert_eq!(pair.a.value("show work_mem").await, "4MB", "{reset}");
            assert_eq!(pair.b.value("show work_mem").await, "4MB", "{reset}");
            assert_eq!(pair.a.value("show work_mem").await, "4MB", "{reset}");
        }
    }
    pair.stop().await;
}

/// What Postgres reports its client counts on, whatever has changed it.
#[tokio::test]
async fn what_a_function_sets_follows_its_client_if_it_is_reported() {
    let mut pair = Pair::of(super::open()).await;
    let timezone = pair.b.value("show timezone").await;
    for sql in [
        "select set_config('timezone', 'Asia/Kabul', false)",
        "do $$ begin set timezone = 'Asia/Kabul'; end $$",
        "begin; select set_config('timezone', 'Asia/Kabul', false); commit",
    ] {
        done(&mut pair.a, sql).await;
        for _ in 0..2 {
            assert_eq!(pair.b.value("show timezone").await, timezone, "{sql}");
            assert_eq!(pair.a.value("show timezone").await, "Asia/Kabul", "{sql}");
        }
        done(&mut pair.a, "reset timezone").await;
        assert_eq!(pair.b.value("show timezone").await, timezone, "{sql}");
        assert_eq!(pair.a.value("show timezone").await, timezone, "{sql}");
    }
    pair.stop().await;
}

/// `SET` as a function, by which `pg_dump` begins: these are reported to nobody.
#[tokio::test]
async fn what_set_config_sets_follows_its_client() {
    let mut pair = Pair::new().await;
    for (name, value, shown) in [
        ("search_path", "", "\"\""),
        ("statement_timeout", "7s", "7s"),
        ("lock_timeout", "3000", "3s"),
        ("jit", "off", "off"),
        ("my.key$1", "of a", "of a"),
        ("my.select", "of a", "of a"),
    ] {
        let show = format!("select coalesce(nullif(current_setting('{name}', true), ''), '\"\"')");
        let fresh = pair.b.value(&show).await;
        let upper = name.to_ascii_uppercase();
        for sql in [
            format!("select pg_catalog.set_config('{name}', '{value}', false)"),
            format!("SELECT Set_Config('{upper}'::text, '{value}', 'f'), 1 AS x"),
            format!("with x as (select set_config($a${name}$a$, '{value}', false)) table x"),
            format!("begin; select set_config('{name}', '{value}', false); commit"),
            format!(
                "select set_config('my.other', '', false), set_config('{name}', '{value}', false)"
            ),
            "parameters".to_owned(),
            "named".to_owned(),
        ] {
            match sql.as_str() {
                "parameters" => {
                    pair.a.parse("", "select set_config($1, $2, $3::bool)");
                    pair.a.bind("", "", &[name, value, "f"]).execute("", 1).sync().send().await;
                    assert!(!tags(&pair.a.answer().await).contains('E'), "{name}");
                }
                "named" => {
                    pair.a.parse("s", "select set_config($1, $2, false)").sync().send().await;
                    pair.a.answer().await;
                    pair.b.value(COUNT).await;
                    pair.a.bind("", "s", &[name, value]).execute("", 0).sync().send().await;
                    assert!(!tags(&pair.a.answer().await).contains('E'), "{name}");
                    pair.a.message('C', b"Ss\0").sync().send().await;
                    pair.a.answer().await;
                }
                _ => drop(done(&mut pair.a, &sql).await),
            }
            for _ in 0..2 {
                assert_eq!(pair.b.value(&show).await, fresh, "{name}: {sql}");
                if name != "search_path" {
                    assert_eq!(pair.b.value(COUNT).await, "5");
                }
                assert_eq!(pair.a.value(&show).await, shown, "{name}: {sql}");
            }
            done(&mut pair.a, "reset all").await;
            assert_eq!(pair.a.value(&show).await, fresh, "{name}: {sql}");
        }
    }
    pair.stop().await;
}

#[tokio::test]
async fn what_set_config_sets_for_a_transaction_ends_with_it() {
    let mut pair = Pair::new().await;
    for sql in [
        "select set_config('jit', 'off', true)",
        "begin; select set_config('jit', 'off', false); rollback",
        "select set_config('jit', 'off', false), 1/0",
        "select set_config(name, 'off', true) from (values ('jit')) as t (name)",
    ] {
        pair.a.ask(sql).await;
        for _ in 0..2 {
            assert_eq!(pair.b.value("show jit").await, "on", "{sql}");
            assert_eq!(pair.a.value("show jit").await, "on", "{sql}");
        }
    }
    pair.stop().await;
}

/// Where the text does not name the setting, the client is told that it would be lost.
#[tokio::test]
async fn what_set_config_sets_unnamed_is_refused_or_keeps_its_connection() {
    let mut pair = Pair::new().await;
    let unnamed = [
        "select set_config(name, 'off', false) from (values ('jit')) as t (name)",
        "select set_config('j' || 'it', 'off', false)",
    ];
    for sql in unnamed {
        assert_eq!(refused(&mut pair.a, sql).await, "0A000", "{sql}");
        assert_eq!(pair.a.value("show jit").await, "on", "{sql}");
    }
    pair.a.parse("", "select set_config($1, 'x', false)").bind("", "", &["role"]);
    pair.a.execute("", 0).sync().send().await;
    assert_eq!(crate::support::wire::error(&pair.a.answer().await).field('C'), "0A000");
    pair.stop().await;
    let proxy = pooled().pinning().edit(|config| {
        config.pools.get_mut(&cloison::types::Access::Tenant).unwrap().size = 2;
    });
    let mut pair = Pair::of(proxy).await;
    for sql in unnamed {
        done(&mut pair.a, sql).await;
        assert_eq!(pair.b.value("show jit").await, "on", "{sql}");
        assert_eq!(pair.a.value("show jit").await, "off", "{sql}");
        done(&mut pair.a, "reset all").await;
    }
    pair.stop().await;
}

#[tokio::test]
async fn poison_is_for_its_owner_alone() {
    let mut pair = Pair::new().await;
    let timezone = pair.b.value("show timezone").await;
    for (poison, cure) in [
        ("set statement_timeout = 1", "reset statement_timeout"),
        ("set default_transaction_read_only = on", "reset default_transaction_read_only"),
        ("set session characteristics as transaction read only", "reset all"),
        ("set default_transaction_isolation = serializable", "reset all"),
        ("set client_encoding = 'LATIN1'", "reset client_encoding"),
        ("set client_encoding = 'SJIS'", "reset client_encoding"),
        ("set standard_conforming_strings = off", "reset standard_conforming_strings"),
        ("set search_path = pg_temp", "reset search_path"),
        ("set lock_timeout = 1", "reset lock_timeout"),
        ("set idle_in_transaction_session_timeout = 50", "discard all"),
        ("set timezone = 'Asia/Tokyo'; set datestyle = 'SQL'", "discard all"),
        ("set row_security = off", "reset row_security"),
        ("set enable_seqscan = off; set enable_indexscan = off", "reset all"),
    ] {
        pair.a.ask(poison).await;
        for _ in 0..2 {
            pair.b.value("select pg_sleep(0.01)").await;
            assert_eq!(pair.b.value("show timezone").await, timezone, "{poison}");
            assert_eq!(pair.b.value("select 'é\\'").await, "é\\", "{poison}");
            done(&mut pair.b, "update note set body = body").await;
            assert_eq!(pair.b.value(COUNT).await, "5", "{poison}");
            // Its owner may suffer from it; it must be possible to cure it.
            pair.a.ask("select 1").await;
        }
        done(&mut pair.a, cure).await;
        done(&mut pair.a, "discard all").await;
        assert_eq!(pair.a.value("select count(*) from public.note").await, "3", "{poison}");
    }
    pair.stop().await;
}

/// What a client believes of the server's settings.
struct Believer {
    wire: Wire,
    told: BTreeMap<String, String>,
}

impl Believer {
    async fn login(pair: &Pair, tenant: &str, parameters: &[(&str, &str)]) -> Self {
        let token = tenant_token(tenant);
        let (wire, answer) = Wire::login(&pair.proxy, "app", &token, parameters).await;
        Self { wire, told: statuses(&answer).into_iter().collect() }
    }

    async fn ask(&mut self, sql: &str) -> Vec<Message> {
        let answer = self.wire.ask(sql).await;
        self.told.extend(statuses(&answer));
        answer
    }

    /// What it was told is what holds.
    async fn check(&mut self) {
        for name in
            ["DateStyle", "TimeZone", "client_encoding", "application_name", "IntervalStyle"]
        {
            let answer = self.ask(&format!("show {name}")).await;
            let shown = crate::support::wire::rows(&answer);
            assert_eq!(shown, [self.told[name].clone()], "{name}");
        }
    }
}

#[tokio::test]
async fn each_client_is_told_what_holds_for_it() {
    let pair = Pair::new().await;
    let mut a = Believer::login(&pair, A, &[("application_name", "one")]).await;
    let mut b = Believer::login(&pair, B, &[]).await;
    for sql in [
        "set timezone = 'Asia/Tokyo'",
        "set datestyle = 'SQL, DMY'",
        "set client_encoding = 'LATIN1'",
        "set intervalstyle = iso_8601; set application_name = 'two'",
        "begin; set timezone = 'Asia/Kolkata'; rollback",
        "select set_config('timezone', 'Asia/Kabul', false)",
        "reset timezone",
        "discard all",
    ] {
        a.ask(sql).await;
        for _ in 0..2 {
            b.check().await;
            a.check().await;
        }
        b.ask("set datestyle = 'German'").await;
        a.check().await;
        b.check().await;
        b.ask("reset all").await;
    }
    pair.stop().await;
}

#[tokio::test]
async fn what_the_startup_asked_for_comes_back_by_reset() {
    let pair = Pair::new().await;
    let (mut a, _) =
        Wire::login(&pair.proxy, "app", &tenant_token(A), &[("application_name", "mine")]).await;
    let mut b = pair.b;
    for reset in
        ["reset application_name", "reset all", "discard all", "set application_name to default"]
    {
        done(&mut a, "set application_name = 'other'").await;
        assert_eq!(b.value("show application_name").await, "");
        assert_eq!(a.value("show application_name").await, "other");
        done(&mut a, reset).await;
        assert_eq!(b.value("show application_name").await, "");
        assert_eq!(a.value("show application_name").await, "mine", "{reset}");
    }
    drop((a, b));
    pair.proxy.stop().await;
}

#[tokio::test]
async fn a_setting_that_cannot_be_applied_ends_only_its_own_session() {
    let mut pair = Pair::of(pooled()).await;
    // A value that the next server connection refuses.
    pair.proxy
        .database
        .superuser()
        .await
        .batch_execute("create text search configuration public.mine (copy = simple)")
        .await
        .unwrap();
    done(&mut pair.a, "set default_text_search_config = 'public.mine'").await;
    let superuser = pair.proxy.database.superuser().await;
    superuser.batch_execute("drop text search configuration public.mine").await.unwrap();
    assert_eq!(pair.b.value(COUNT).await, "5");
    let answer = pair.a.ask("select 1").await;
    let ends = tags(&answer) == "E";
    assert!(ends || tags(&answer) == "TDCZ", "{}", tags(&answer));
    assert_eq!(pair.b.value(COUNT).await, "5");
    assert_eq!(pair.b.value("show default_text_search_config").await, "pg_catalog.english");
    assert_eq!(refused(&mut pair.b, "select * from nowhere").await, "42P01");
    drop((pair.a, pair.b));
    pair.proxy.stop().await;
}
