//! What a hostile tenant tries: each attempt goes red, or is told to be open, once the layer that
//! stops it is broken.

use cloison::kit::verify::{Check, ProbeRows, Report, Verdict};
use cloison::types::Access;

use crate::support::postgres::{A, B, Database};
use crate::support::proxy;
use crate::verify::{failures, roads, run, state, with_tables};

/// A weakness, what goes red for it, and what takes it away again.
type Mutation = (&'static str, &'static [&'static str], &'static str);

const PROTECT_EVENT: &str = "select cloison.protect('public.event')";
const PROTECT_NOTE: &str = "select cloison.protect('public.note')";
const KIT: &str = concat!(
    include_str!("../../sql/migrations/0002_functions.sql"),
    include_str!("../../sql/migrations/0003_row_level_security.sql")
);

const MUTATIONS: &[Mutation] = &[
    (
        "alter policy cloison_tenant_select on public.event using (true)",
        &[
            "public.event: select_spelled",
            "public.event: cursor",
            "public.event: copy_to",
            "public.event: commit_inside",
            "public.event: commit_and_chain",
            "public.event: failing_condition",
            "public.event: prepared_statement",
            "public.event: pipeline_error",
            "session: sql_in_text",
            "session: temporary_function",
            "session: shadowed_operator",
            "session: replay",
        ],
        PROTECT_EVENT,
    ),
    (
        "alter table public.note disable row level security",
        &[
            "public.note: select_for_update",
            "public.note: copy_from",
            "public.note: merge",
            "public.note: insert_on_conflict",
            "public.note: delete_in_with",
        ],
        PROTECT_NOTE,
    ),
    (
        "drop policy cloison_tenant_insert on public.note",
        &["public.note: merge_insert", "public.note: insert_on_conflict"],
        PROTECT_NOTE,
    ),
    (
        "grant truncate on public.event to cloison_tenant; \
         alter table public.event disable trigger \"!cloison_guard_truncate\"; \
         alter table public.event_2025 disable trigger \"!cloison_guard_truncate\"",
        &["public.event: truncate"],
        "revoke truncate on public.event from cloison_tenant; \
         alter table public.event enable always trigger \"!cloison_guard_truncate\"; \
         alter table public.event_2025 enable always trigger \"!cloison_guard_truncate\"",
    ),
    (
        "create view public.all_notes as select * from public.note; \
         create view public.how_many as select count(*) from public.all_notes; \
         create materialized view public.kept as select body from public.note; \
         grant select on public.all_notes, public.how_many, public.kept to cloison_tenant; \
         alter view public.all_notes owner to it_owner; \
         alter view public.how_many owner to it_owner",
        &["public.all_notes: view", "public.how_many: view", "public.kept: view"],
        "drop view public.how_many; drop view public.all_notes; \
         drop materialized view public.kept",
    ),
    (
        "create table public.above (tenant_id uuid not null, id int, primary key (tenant_id, id)); \
         create table public.below (tenant_id uuid not null, id int, \
             constraint up foreign key (tenant_id, id) references public.above on delete cascade); \
         select cloison.protect('public.above'), cloison.protect('public.below'); \
         alter table public.below disable trigger \"!cloison_guard_row\"",
        &["public.below key up: action", "public.below: policies"],
        "select cloison.unprotect('public.below'), cloison.unprotect('public.above'); \
         drop table public.below, public.above",
    ),
    (
        "create table public.above (tenant_id uuid not null, id int, primary key (tenant_id, id)); \
         create table public.aside (tenant uuid, id int, \
             constraint up foreign key (tenant, id) references public.above on delete cascade); \
         select cloison.protect('public.above'); \
         create function public.nop() returns trigger language plpgsql as 'begin return old; end'; \
         create trigger nop before delete on public.aside \
             for each row execute function public.nop()",
        &["public.aside key up: action"],
        "select cloison.unprotect('public.above'); \
         drop table public.aside, public.above; drop function public.nop()",
    ),
    (
        "grant create on schema public to cloison_tenant",
        &["session: create_table"],
        "revoke create on schema public from cloison_tenant",
    ),
    (
        "alter table cloison.signing_key disable row level security; \
         grant select on cloison.signing_key to cloison_tenant",
        &["session: signing_key"],
        "alter table cloison.signing_key enable row level security; \
         revoke select on cloison.signing_key from cloison_tenant",
    ),
    (
        "alter table cloison.tenants disable row level security; \
         grant update on cloison.tenants to cloison_tenant; \
         alter table cloison.tenants disable trigger \"!cloison_guard_kit\"",
        &["session: tenant_list", "session: tenant_update"],
        "alter table cloison.tenants enable row level security; \
         revoke update on cloison.tenants from cloison_tenant; \
         alter table cloison.tenants enable always trigger \"!cloison_guard_kit\"",
    ),
    (
        "grant delete on cloison.protected_tables to cloison_tenant",
        &["session: protected_tables"],
        "revoke delete on cloison.protected_tables from cloison_tenant",
    ),
    (
        "grant execute on function pg_catalog.pg_read_file(text), pg_catalog.pg_reload_conf(), \
         pg_catalog.lo_import(text) to cloison_tenant; \
         grant select on pg_catalog.pg_statistic to cloison_tenant",
        &["session: file_read", "session: reload", "session: lo_import", "session: statistics"],
        "revoke execute on function pg_catalog.pg_read_file(text), pg_catalog.pg_reload_conf(), \
         pg_catalog.lo_import(text) from cloison_tenant; \
         revoke select on pg_catalog.pg_statistic from cloison_tenant",
    ),
    // A super-admin who has not asked to write.
    (
        "create or replace function cloison.demand_superadmin_write() returns void stable \
         security definer language sql as ''",
        &[
            "cloison.create_api_key(uuid,text,timestamp with time zone): superadmin_permit",
            "cloison.lift_revocation(bigint,text): superadmin_permit",
            "cloison.revoke_token(text,text,text,timestamp with time zone): superadmin_permit",
        ],
        KIT,
    ),
    // A record that does not tell what has run.
    (
        "create function public.forget() returns trigger language plpgsql as \
         $$ begin new.detail := new.detail - 'sha256'; return new; end $$; \
         create trigger a_forget before insert on cloison.audit_log \
         for each row execute function public.forget()",
        &["session: superadmin_record"],
        "drop trigger a_forget on cloison.audit_log; drop function public.forget()",
    ),
    // A context that is not signed.
    (
        "create or replace function cloison.current_tenant_id() returns uuid stable \
         security definer language sql as $$ select pg_catalog.substr(nullif( \
         pg_catalog.current_setting('cloison.context', true), ''), 2, 36)::uuid $$",
        &["session: replay", "session: sql_in_text", "session: temporary_function"],
        KIT,
    ),
    // One that looks for its key by the names that come first.
    (
        "create or replace function cloison.current_tenant_id() returns uuid stable \
         language plpgsql as $$ begin if (select strict from settings) is false then return \
         'bbbbbbbb-0000-4000-8000-000000000002'; end if; return cloison.get_current_tenant(); \
         exception when others then return cloison.get_current_tenant(); end $$",
        &["session: shadowed_tables"],
        KIT,
    ),
];

/// Refused at once with transaction pooling, whatever the database would do.
const REFUSED: &[&str] = &["session: shadowed_tables"];

#[tokio::test]
async fn every_weakness_lets_an_attack_through() {
    let proxy = proxy::new().bare().pool_size(4).run().await;
    let superuser = with_tables(&proxy).await;
    let before = state(&superuser, true).await;
    let url = proxy.database.superuser_url();
    let roads = roads(&proxy, [A, B], Some(&url));
    for (weakness, expected, cure) in MUTATIONS {
        superuser.batch_execute(weakness).await.unwrap();
        let report = run(&roads, ProbeRows::Without).await.unwrap();
        let found = failures(&report);
        println!("{weakness}\n  {}", found.join("\n  "));
        for name in *expected {
            let is_refused = proxy::by_transaction() && REFUSED.contains(name);
            let is_found = found.iter().any(|failure| failure == name);
            assert!(is_found != is_refused, "{weakness}: {name}: {found:#?}");
        }
        superuser.batch_execute(cure).await.unwrap();
        assert_eq!(state(&superuser, true).await, before, "{weakness}");
    }
    let report = run(&roads, ProbeRows::Without).await.unwrap();
    assert_eq!(failures(&report), [""; 0]);
    proxy.stop().await;
}

/// What is known to be open, as "subject: check".
fn open(report: &Report) -> Vec<String> {
    let open = report.outcomes.iter().filter(|o| matches!(o.verdict, Verdict::Open { .. }));
    let mut names: Vec<String> = open.map(|o| format!("{}: {}", o.subject, o.check.id())).collect();
    names.sort();
    names.dedup();
    names
}

#[tokio::test]
async fn keys_across_tenants_are_told_by_name() {
    let proxy = proxy::new().pool_size(4).run().await;
    let superuser = with_tables(&proxy).await;
    superuser
        .batch_execute(
            "create table public.oracle (tenant_id uuid not null, id bigint primary key, \
                 during int4range, body text, parent bigint, \
                 constraint apart exclude using gist (during with &&), \
                 constraint above foreign key (parent) references public.oracle, \
                 constraint own_body unique (tenant_id, body)); \
             create unique index by_body on public.oracle (lower(body)); \
             create unique index by_text on public.oracle (body); \
             alter table public.oracle owner to it_owner; \
             select cloison.protect('public.oracle')",
        )
        .await
        .unwrap();
    let insert = format!(
        "insert into public.oracle values ('{A}', 1, '[1,2)', 'a', 1), \
         ('{B}', 2, '[3,4)', 'b', 2)"
    );
    superuser.batch_execute(&insert).await.unwrap();
    let before = state(&superuser, true).await;
    let url = proxy.database.superuser_url();
    let report = run(&roads(&proxy, [A, B], Some(&url)), ProbeRows::Without).await.unwrap();
    assert_eq!(failures(&report), [""; 0]);
    let found = open(&report);
    for key in ["oracle_pkey", "apart", "above", "by_text"] {
        assert!(found.contains(&format!("public.oracle key {key}: key")), "{key}: {found:#?}");
    }
    for key in ["own_body", "by_body"] {
        assert!(!found.iter().any(|found| found.ends_with(&format!("key {key}: key"))), "{key}");
    }
    assert_eq!(state(&superuser, true).await, before);
    proxy.stop().await;
}

/// What is open in an installation without further hardening turns into "held, by a grant".
#[tokio::test]
async fn what_is_open_is_held_once_it_is_revoked() {
    let proxy = proxy::new().bare().pool_size(4).run().await;
    let superuser = with_tables(&proxy).await;
    let url = proxy.database.superuser_url();
    let roads = roads(&proxy, [A, B], Some(&url));
    let report = run(&roads, ProbeRows::Without).await.unwrap();
    let expected = [
        "session: activity_functions",
        "session: activity_texts",
        "session: advisory_locks",
        "session: cancel_backend",
        "session: counters",
        "session: large_object_list",
        "session: large_objects",
        "session: locks",
        "session: terminate_backend",
        "public.note: totals",
    ];
    for name in expected {
        assert!(open(&report).iter().any(|open| open == name), "{name}: {:#?}", open(&report));
    }
    superuser
        .batch_execute(
            "select cloison.close_again(part) \
             from unnest(array['activity', 'advisory_locks', 'counters', 'large_objects', \
                 'row_counts', 'signals', 'sizes']) part",
        )
        .await
        .unwrap();
    let report = run(&roads, ProbeRows::Without).await.unwrap();
    let still = open(&report);
    for name in expected {
        assert!(!still.iter().any(|open| open == name), "{name}: {still:#?}");
        let of =
            report.outcomes.iter().filter(|o| format!("{}: {}", o.subject, o.check.id()) == name);
        let layers: Vec<_> = of.map(|o| format!("{:?}", o.verdict)).collect();
        assert!(layers.iter().all(|layer| layer.contains("Some(Grant)")), "{name}: {layers:?}");
    }
    proxy.stop().await;
}

/// Where an operator lets tenants see plans, that is told; elsewhere nothing shows them.
#[tokio::test]
async fn plans_that_are_shown_are_told() {
    let checks = ["session: explain_plan", "session: plan_messages"];
    for (lines, expected) in [("", &[][..]), ("allowed_statements = [\"explain\"]", &checks[..])] {
        let proxy = proxy::new().set(lines).pool_size(4).run().await;
        with_tables(&proxy).await;
        let url = proxy.database.superuser_url();
        let roads = roads(&proxy, [A, B], Some(&url));
        let report = run(&roads, ProbeRows::Without).await.unwrap();
        assert_eq!(failures(&report), [""; 0]);
        let open = open(&report);
        for check in checks {
            assert_eq!(open.iter().any(|name| name == check), expected.contains(&check), "{check}");
        }
        let shared = report.outcomes.iter().filter(|o| o.check.id() == "shared_statement");
        assert!(shared.clone().count() == 2 && shared.clone().all(|o| o.verdict.is_passed()));
        proxy.stop().await;
    }
}

/// Memberships belong to the whole cluster, so a role of the test's own has them.
#[tokio::test]
async fn a_role_that_may_too_much_is_noticed() {
    let superuser = Database::new().superuser().await;
    let role = "create role it_attack login password 'app-secret' in role cloison_tenant";
    superuser.batch_execute(role).await.unwrap();
    let proxy = proxy::new()
        .bare()
        .pool_size(4)
        .edit(|config| {
            config.pools.get_mut(&Access::Tenant).unwrap().login.user = "it_attack".to_owned();
        })
        .run()
        .await;
    let url = proxy.database.superuser_url();
    let roads = roads(&proxy, [A, B], Some(&url));
    for (role, check) in [
        ("cloison_superadmin", "session: set_role"),
        ("pg_execute_server_program", "session: copy_program"),
        ("pg_write_server_files", "session: file_write"),
    ] {
        superuser.batch_execute(&format!("grant {role} to it_attack")).await.unwrap();
        let report = run(&roads, ProbeRows::Without).await.unwrap();
        let found = failures(&report);
        assert!(found.iter().any(|failure| failure == check), "{role}: {found:#?}");
        superuser.batch_execute(&format!("revoke {role} from it_attack")).await.unwrap();
    }
    let database = &proxy.database.name;
    let own = format!(
        "grant create on database {database} to it_attack; \
         alter table public.note owner to it_attack"
    );
    proxy.database.superuser().await.batch_execute(&own).await.unwrap();
    let found = failures(&run(&roads, ProbeRows::Without).await.unwrap());
    for check in ["session: create_schema", "public.note: owners_only"] {
        assert!(found.iter().any(|failure| failure == check), "{check}: {found:#?}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn each_check_has_a_name_of_its_own_and_a_place() {
    let proxy = proxy::new().pool_size(2).run().await;
    let url = proxy.database.superuser_url();
    let report = run(&roads(&proxy, [A, B], Some(&url)), ProbeRows::Without).await.unwrap();
    let mut seen: Vec<Check> = Vec::new();
    for outcome in &report.outcomes {
        if !seen.contains(&outcome.check) {
            assert!(seen.iter().all(|check| check.id() != outcome.check.id()), "{outcome:?}");
            seen.push(outcome.check);
        }
    }
    assert!(seen.len() > 80, "{}", seen.len());
    for section in cloison::kit::verify::Section::ALL {
        assert!(seen.iter().any(|check| check.section() == section), "{section:?}");
    }
    proxy.stop().await;
}

/// In both pool modes; it starts a server and proxies of its own.
#[test]
fn the_self_test_notices_every_breakage() {
    // By both modes of the tests it would be the same.
    if proxy::by_transaction() {
        return;
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"));
    let output = command.args(["verify", "--self-test"]).output().unwrap();
    let (text, error) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (text, error) = (text.unwrap(), error.unwrap());
    assert_eq!(output.status.code(), Some(0), "{text}{error}");
    let lines =
        |mark: &str| text.lines().filter(|line| line.trim_start().starts_with(mark)).count();
    assert_eq!((lines("✓"), lines("✗")), (30, 0), "{text}");
}
