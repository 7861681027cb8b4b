//! The isolation suite: green where isolation stands, red for each thing that weakens it, and the
//! database as it was before.

use std::process::Command;

use cloison::kit::verify::{
    self, Check, Conclusion, Error, ProbeRows, Report, Road, Roads, Verdict,
};
use cloison::types::Access;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::postgres::{A, B, Database};
use crate::support::proxy::{self, Proxy, tenant_token, token};

pub(crate) async fn with_tables(proxy: &Proxy) -> Client {
    let superuser = proxy.database.superuser().await;
    let sql = include_str!("verify.sql").replace(":database", &proxy.database.name);
    superuser.batch_execute(&sql).await.unwrap();
    superuser
}

pub(crate) fn url(proxy: &Proxy, token: &str) -> String {
    format!("postgres://app:{token}@{}/{}", proxy.address, proxy.database.name)
}

fn superadmin_url(proxy: &Proxy) -> String {
    let token = token("superadmin", json!({}));
    format!("postgres://cloison_superadmin:{token}@{}/{}", proxy.address, proxy.database.name)
}

pub(crate) fn roads(proxy: &Proxy, tenants: [&str; 2], operator: Option<&str>) -> Roads {
    let tenant = |who, tenant| Road::new(who, &url(proxy, &tenant_token(tenant))).unwrap();
    Roads {
        tenants: [tenant("tenant A", tenants[0]), tenant("tenant B", tenants[1])],
        superadmin: Road::new("the super-admin", &superadmin_url(proxy)).unwrap(),
        operator: operator.map(|url| Road::new("the operator", url).unwrap()),
    }
}

pub(crate) async fn run(roads: &Roads, probe_rows: ProbeRows) -> Result<Report, Error> {
    verify::run(roads, probe_rows, std::future::pending(), &mut |_| {}).await
}

async fn verified(proxy: &Proxy) -> Report {
    let superuser = proxy.database.superuser_url();
    run(&roads(proxy, [A, B], Some(&superuser)), ProbeRows::Without).await.unwrap()
}

/// What failed, as "subject: check", without repetition.
pub(crate) fn failures(report: &Report) -> Vec<String> {
    let failed = report.outcomes.iter().filter(|o| matches!(o.verdict, Verdict::Failed { .. }));
    let mut names: Vec<String> =
        failed.map(|o| format!("{}: {}", o.subject, o.check.title())).collect();
    names.sort();
    names.dedup();
    names
}

pub(crate) fn skips(report: &Report) -> Vec<String> {
    let skipped = report.outcomes.iter().filter_map(|o| match &o.verdict {
        Verdict::Skipped { reason } => {
            Some(format!("{}: {}: {reason}", o.subject, o.check.title()))
        }
        Verdict::Passed { .. } | Verdict::Open { .. } | Verdict::Failed { .. } => None,
    });
    skipped.collect()
}

/// Rows and checksum of every table but the audit log, and where every sequence stands.
pub(crate) async fn state(superuser: &Client, with_sequences: bool) -> Vec<String> {
    let mut state = Vec::new();
    let tables = "select c.oid::regclass::text, c.relkind::text from pg_class c \
                  join pg_namespace n on n.oid = c.relnamespace \
                  where c.relkind in ('r', 'p', 'S') and n.nspname not like 'pg\\_%' \
                    and n.nspname <> 'information_schema' \
                    and c.relname not in ('audit_log', 'audit_head', 'audit_written') order by 1";
    for row in superuser.query(tables, &[]).await.unwrap() {
        let (name, kind): (String, String) = (row.get(0), row.get(1));
        let sql = if kind != "S" {
            format!(
                "select count(*)::text || ' ' || md5(coalesce(string_agg(t::text, E'\\n' \
                 order by t::text), '')) from {name} t"
            )
        } else if with_sequences && !name.contains("audit_log") && !name.contains("revocations") {
            format!("select last_value || ' ' || is_called from {name}")
        } else {
            continue;
        };
        let content: String = superuser.query_one(&sql, &[]).await.unwrap().get(0);
        state.push(format!("{name} {content}"));
    }
    state
}

#[tokio::test]
async fn isolation_that_stands_is_confirmed_and_nothing_is_left_behind() {
    // One connection for all tenants: the suite must not hold two.
    let proxy = proxy::new().pool_size(1).run().await;
    let superuser = with_tables(&proxy).await;
    let before = state(&superuser, true).await;
    let url = proxy.database.superuser_url();
    for operator in [Some(&url[..]), None] {
        let report = run(&roads(&proxy, [A, B], operator), ProbeRows::Without).await.unwrap();
        assert_eq!(failures(&report), [""; 0]);
        assert_eq!(report.conclusion(), Conclusion::Watertight, "{operator:?}");
        assert_eq!(
            report.tables,
            [
                r#""Odd names"."we""ird; table""#,
                "public.country",
                "public.event",
                "public.event_2025",
                "public.note",
                "public.secret",
                "public.ticket",
                "public.visit",
            ]
        );
        for table in ["public.note", "public.visit", "public.event", "public.ticket"] {
            for check in Check::OF_TABLES {
                let passed = report.of(table, check).filter(|o| o.verdict.is_passed());
                let both = !matches!(check, Check::Superadmin | Check::Policies);
                assert_eq!(passed.count(), 1 + usize::from(both), "{table} {check:?}");
            }
        }
        let skipped = skips(&report);
        // A row without a day has no partition to be refused in.
        let of_part = |skip: &String| {
            skip.starts_with("public.event_2025: ")
                || skip.starts_with("public.event: ") && skip.contains("no partition")
        };
        // Whether the pool hands the same connection on, and has two, is not the suite's to say.
        let of_pool = |skip: &String| skip.contains("the pool ");
        let is_known = |skip: &String| of_part(skip) || of_pool(skip);
        assert!(skipped.iter().all(is_known) || operator.is_none(), "{skipped:#?}");
        assert_eq!(state(&superuser, true).await, before, "{operator:?}");
    }
    proxy.stop().await;
}

/// A weakness, what has to go red for it, and what takes it away again.
type Mutation = (&'static str, &'static [&'static str], &'static str);

const PROTECT: &str = "select cloison.protect('public.note')";

const MUTATIONS: &[Mutation] = &[
    (
        "drop policy cloison_tenant_select on public.note",
        &["public.note: read", "public.note: forge", "public.note: policies"],
        PROTECT,
    ),
    (
        "drop policy cloison_tenant_insert on public.note",
        &["public.note: insert", "public.note: policies"],
        PROTECT,
    ),
    (
        "drop policy cloison_tenant_update on public.note",
        &["public.note: update", "public.note: move", "public.note: policies"],
        PROTECT,
    ),
    (
        "drop policy cloison_tenant_delete on public.note",
        &["public.note: delete", "public.note: policies"],
        PROTECT,
    ),
    ("alter table public.note no force row level security", &["public.note: policies"], PROTECT),
    (
        "alter table public.note disable row level security",
        &[
            "public.note: read",
            "public.note: insert",
            "public.note: update",
            "public.note: move",
            "public.note: delete",
            "public.note: no context",
            "public.note: forge",
            "public.note: super-admin",
            "public.note: policies",
        ],
        PROTECT,
    ),
    (
        "create policy lax on public.note to public using (true) with check (true)",
        &["public.note: policies"],
        "drop policy lax on public.note",
    ),
    (
        "alter policy cloison_tenant_select on public.note using (true)",
        &["public.note: read", "public.note: policies"],
        PROTECT,
    ),
    (
        "alter policy cloison_tenant_update on public.note with check (true)",
        &["public.note: move", "public.note: policies"],
        PROTECT,
    ),
    (
        "alter policy cloison_tenant_update on public.note using (true)",
        &["public.note: update", "public.note: policies"],
        PROTECT,
    ),
    (
        "drop policy cloison_tenant_delete on public.note; \
         create policy cloison_tenant_delete on public.note as permissive for delete \
         to cloison_tenant using (tenant_id = (select cloison.current_tenant_id()))",
        &["public.note: delete", "public.note: policies"],
        PROTECT,
    ),
    (
        "create policy hidden on public.note as restrictive to cloison_tenant using (id > 1)",
        &["public.note: own"],
        "drop policy hidden on public.note",
    ),
    (
        "grant truncate on public.note to cloison_tenant",
        &["public.note: policies"],
        "revoke truncate on public.note from cloison_tenant",
    ),
    (
        "drop policy cloison_superadmin on public.note",
        &["public.note: super-admin", "public.note: policies"],
        PROTECT,
    ),
    (
        "alter policy cloison_superadmin on public.note using (true)",
        &["public.note: super-admin", "public.note: policies"],
        PROTECT,
    ),
    (
        "alter policy cloison_tenant_select on public.visit using (organisation_id > 0)",
        &["public.visit: read", "public.visit: policies"],
        "select cloison.protect('public.visit', 'tenant', 'organisation_id')",
    ),
    (
        "drop policy cloison_tenant_insert on public.event",
        &["public.event: insert", "public.event: policies"],
        "select cloison.protect('public.event')",
    ),
    (
        "alter table public.event_2025 disable row level security; \
         grant select, insert, update, delete on public.event_2025 to cloison_tenant",
        &[
            "public.event_2025: read",
            "public.event_2025: insert",
            "public.event_2025: update",
            "public.event_2025: delete",
            "public.event_2025: policies",
        ],
        "select cloison.protect('public.event')",
    ),
    (
        "grant insert, update, delete on public.country to cloison_tenant; \
         alter table public.country disable row level security",
        &[
            "public.country: insert",
            "public.country: update",
            "public.country: delete",
            "public.country: policies",
        ],
        "select cloison.protect('public.country', 'shared')",
    ),
    (
        "grant select on public.secret to cloison_tenant; \
         create policy lax on public.secret using (true)",
        &["public.secret: read", "public.secret: forge", "public.secret: policies"],
        "drop policy lax on public.secret; select cloison.protect('public.secret', 'global')",
    ),
    (
        "grant execute on function cloison.enable_superadmin_mode() to cloison_tenant",
        &["session: forge", "cloison.enable_superadmin_mode(): policies"],
        "revoke execute on function cloison.enable_superadmin_mode() from cloison_tenant",
    ),
    (
        "grant execute on function cloison.set_tenant(uuid) to cloison_tenant",
        &["session: forge", "public.note: forge", "cloison.set_tenant(uuid): policies"],
        "revoke execute on function cloison.set_tenant(uuid) from cloison_tenant",
    ),
    // A context that is not signed: nothing in the catalogue of policies tells of it.
    (
        "create or replace function cloison.current_tenant_id() returns uuid stable \
         security definer language sql as $$ select pg_catalog.substr(nullif( \
         pg_catalog.current_setting('cloison.context', true), ''), 2, 36)::uuid $$",
        &["public.note: forge", "public.event: forge"],
        include_str!("../../sql/migrations/0002_functions.sql"),
    ),
    // A tenant for those who have none.
    (
        "create or replace function cloison.current_tenant_id() returns uuid stable \
         security definer language sql as $$ select coalesce(cloison.get_current_tenant(), \
         'aaaaaaaa-0000-4000-8000-000000000001') $$",
        &["public.note: no context"],
        concat!(
            include_str!("../../sql/migrations/0002_functions.sql"),
            include_str!("../../sql/migrations/0003_row_level_security.sql")
        ),
    ),
];

#[tokio::test]
async fn every_weakness_turns_it_red() {
    let proxy = proxy::new().unwatched().run().await;
    let superuser = with_tables(&proxy).await;
    let before = state(&superuser, true).await;
    for (weakness, expected, cure) in MUTATIONS {
        superuser.batch_execute(weakness).await.unwrap();
        let report = verified(&proxy).await;
        assert_eq!(report.conclusion(), Conclusion::Leaks, "{weakness}");
        let found = failures(&report);
        println!("{weakness}\n  {}", found.join("\n  "));
        for name in *expected {
            assert!(found.iter().any(|failure| failure == name), "{weakness}: {name}: {found:#?}");
        }
        superuser.batch_execute(cure).await.unwrap();
        assert_eq!(state(&superuser, true).await, before, "{weakness}");
    }
    let report = verified(&proxy).await;
    assert_eq!(failures(&report), [""; 0]);
    assert_eq!(report.conclusion(), Conclusion::Watertight);
    proxy.stop().await;
}

#[tokio::test]
async fn a_role_that_bypasses_row_security_and_a_tenant_against_itself_are_refused() {
    let superuser = Database::new().superuser().await;
    let role = "create role it_verify login password 'app-secret' in role cloison_tenant";
    superuser.batch_execute(role).await.unwrap();
    let other_login = |config: &mut cloison::config::Config| {
        config.pools.get_mut(&Access::Tenant).unwrap().login.user = "it_verify".to_owned();
    };
    let proxy = proxy::new().unwatched().edit(other_login).run().await;
    let report = verified(&proxy).await;
    assert_eq!(failures(&report), [""; 0]);

    for (weakness, cure, why) in [
        ("bypassrls", "nobypassrls", "has BYPASSRLS"),
        ("superuser", "nosuperuser", "is a superuser"),
    ] {
        superuser.batch_execute(&format!("alter role it_verify {weakness}")).await.unwrap();
        let refused = run(&roads(&proxy, [A, B], None), ProbeRows::Without).await.unwrap_err();
        assert!(matches!(refused, Error::Bypasses { .. }), "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
        assert!(!refused.to_string().contains("nosuperuser"), "it may be the server's: {refused}");
        superuser.batch_execute(&format!("alter role it_verify {cure}")).await.unwrap();
    }

    superuser.batch_execute("alter role it_verify createrole").await.unwrap();
    let report = verified(&proxy).await;
    let found = failures(&report);
    assert!(found.contains(&"login it_verify: policies".to_owned()), "{found:?}");
    superuser.batch_execute("alter role it_verify nocreaterole").await.unwrap();

    let refused = run(&roads(&proxy, [A, "a"], None), ProbeRows::Without).await.unwrap_err();
    assert!(matches!(refused, Error::SameTenant(_)), "{refused}");
    let elsewhere = Database::new().superuser_url();
    let roads = roads(&proxy, [A, B], Some(&elsewhere));
    let refused = run(&roads, ProbeRows::Without).await.unwrap_err();
    assert!(matches!(refused, Error::NoTables | Error::DifferentDatabases), "{refused}");
    proxy.stop().await;
}

#[tokio::test]
async fn rows_that_are_missing_are_said_or_made_and_removed() {
    let proxy = proxy::new().run().await;
    let superuser = with_tables(&proxy).await;
    superuser
        .batch_execute("select cloison.protect('public.nothing'); delete from public.visit")
        .await
        .unwrap();
    let before = state(&superuser, false).await;
    let roads = roads(&proxy, [A, B], None);

    let report = run(&roads, ProbeRows::Without).await.unwrap();
    let needs_rows = [Check::Own, Check::Read, Check::Update, Check::Move, Check::Delete];
    for table in ["public.nothing", "public.visit"] {
        for check in needs_rows {
            let mut of = report.of(table, check);
            assert!(of.all(|o| matches!(o.verdict, Verdict::Skipped { .. })), "{table} {check:?}");
        }
        assert!(report.of(table, Check::Insert).all(|o| o.verdict.is_passed()));
    }

    let report = run(&roads, ProbeRows::Make).await.unwrap();
    for table in ["public.nothing", "public.visit"] {
        for check in needs_rows {
            assert!(report.of(table, check).all(|o| o.verdict.is_passed()), "{check:?}");
        }
    }
    assert_eq!(state(&superuser, false).await, before);

    // Stopped in the middle, it still tidies up.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let stopped = async {
        let _ = stopped.await;
    };
    let mut progress = |doing: &str| {
        if doing.starts_with("tenant B") {
            stop.take();
        }
    };
    let outcome = verify::run(&roads, ProbeRows::Make, stopped, &mut progress).await;
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert!(stop.is_none());
    assert_eq!(state(&superuser, false).await, before);
    proxy.stop().await;
}

#[tokio::test]
async fn the_verb_reports_to_people_and_programs_and_keeps_tokens_to_itself() {
    let proxy = proxy::new().unwatched().run().await;
    let superuser = with_tables(&proxy).await;
    let json = std::env::temp_dir().join(format!("cloison-{}.json", proxy.database.name));
    let junit = json.with_extension("xml");
    let (a, b, superadmin) =
        (url(&proxy, &tenant_token(A)), url(&proxy, &tenant_token(B)), superadmin_url(&proxy));
    let verify = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
        command.args(["verify", "--tenant-url", &a, "--other-url", &b]);
        command.args(["--superadmin-url", &superadmin, "--json"]).arg(&json);
        command.arg("--junit").arg(&junit);
        // The proxy runs on this thread's runtime.
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        async { output.await.unwrap() }
    };

    let output = verify().await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("RLS ISOLATION TESTS COMPLETE"), "{text}");
    assert!(text.contains("ISOLATION ÉTANCHE CONFIRMÉE"), "{text}");
    assert_eq!(text.matches("║  ✓ ").count(), 7, "{text}");
    let written: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(written["conclusion"], "watertight");
    check_xml(&std::fs::read_to_string(&junit).unwrap());

    let weakness = "alter policy cloison_tenant_select on public.note using (true)";
    superuser.batch_execute(weakness).await.unwrap();
    let output = verify().await;
    let (text, error) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (text, error) = (text.unwrap(), error.unwrap());
    assert_eq!(output.status.code(), Some(2), "{text}{error}");
    assert!(text.contains("✗ public.note, as tenant A: cross-tenant reads are blocked"), "{text}");
    assert!(text.contains("5 rows of others are visible"), "{text}");
    assert!(
        text.contains("select cloison.protect('public.note', 'tenant', 'tenant_id')"),
        "{text}"
    );
    assert!(text.contains("║  ✗ Cross-tenant reads blocked"), "{text}");
    assert!(!text.contains("CONFIRMÉE"), "{text}");
    let written: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(written["conclusion"], "leaks");
    let junit_text = std::fs::read_to_string(&junit).unwrap();
    check_xml(&junit_text);
    assert!(junit_text.contains("<failure message=\"5 rows of others are visible\""));

    superuser
        .batch_execute(
            "select cloison.unprotect(relation) from cloison.protected_tables \
        where part_of is null",
        )
        .await
        .unwrap();
    let output = verify().await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("no table is protected"), "{error}");
    for said in [&text, &error, &written.to_string(), &junit_text] {
        assert!(!said.contains("eyJ"), "a token was printed: {said}");
    }
    std::fs::remove_file(json).unwrap();
    std::fs::remove_file(junit).unwrap();
    proxy.stop().await;
}

/// Every tag is closed in its turn, every attribute is quoted, and nothing is bare.
#[track_caller]
fn check_xml(xml: &str) {
    let body = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").expect(xml);
    let mut open = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect(piece);
        assert!(!text.contains('>'), "{piece}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{piece}");
        for reference in piece.split('&').skip(1) {
            let (name, _) = reference.split_once(';').expect(piece);
            let known = ["amp", "lt", "gt", "quot", "apos", "#10", "#9"];
            assert!(known.contains(&name), "{piece}");
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{piece}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn tables_that_are_gone_or_out_of_reach_are_no_error() {
    let proxy = proxy::new().unwatched().run().await;
    let superuser = with_tables(&proxy).await;
    superuser
        .batch_execute(
            "create schema hidden; \
             create table hidden.away (tenant_id uuid not null, id int, primary key (tenant_id, id)); \
             create table public.gone (tenant_id uuid not null, id int, primary key (tenant_id, id)); \
             select cloison.protect('hidden.away'), cloison.protect('public.gone'); \
             drop table public.gone; revoke all on schema hidden from public",
        )
        .await
        .unwrap();
    let roads = roads(&proxy, [A, B], None);
    let report = run(&roads, ProbeRows::Make).await.unwrap();
    assert!(!failures(&report).iter().any(|failure| failure.contains("hidden.away: ")));
    assert!(report.of("hidden.away", Check::Own).count() > 0);
    proxy.stop().await;
}
