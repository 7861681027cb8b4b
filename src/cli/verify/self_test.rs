//! `--self-test`: breaks each layer of a Postgres that nobody needs, and sees that the suite notices.

use std::io::{self, Write};
use std::process::ExitCode;

use super::own::{self, Mode, Without};
use super::{EXIT_FINDINGS, Error, text};
use crate::cli::serve::Running;
use crate::config;
use crate::dev::cluster::Cluster;
use crate::kit::migrate;
use crate::kit::verify::{self, ProbeRows, Report, Road, Roads, Verdict};

/// A layer, what breaks it, the check that has to go red, and what mends it.
struct Breakage {
    layer: &'static str,
    sql: &'static str,
    check: &'static str,
    cure: &'static str,
}

/// A setting of the proxy's that opens something, and the checks that have to tell of it.
struct Opening {
    lines: &'static str,
    checks: &'static [&'static str],
}

/// Runs it, in both pool modes.
pub(super) async fn run(progress: &mut dyn FnMut(&str)) -> Result<ExitCode, Error> {
    progress("starting a scratch Postgres");
    let cluster = Cluster::builder().setting("fsync", "off").start().await.map_err(scratch)?;
    let tried = try_all(&cluster, progress).await;
    progress("");
    cluster.stop().await.map_err(scratch)?;
    let (page, unnoticed) = tried?;
    io::stdout().write_all(page.as_bytes()).map_err(Error::Print)?;
    Ok(if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
}

/// What to print, and how much went unnoticed.
async fn try_all(
    cluster: &Cluster,
    progress: &mut dyn FnMut(&str),
) -> Result<(String, usize), Error> {
    let admin = cluster.connect_superuser("postgres").await.map_err(scratch)?;
    admin.batch_execute("create database scratch").await.map_err(scratch)?;
    let database = cluster.connect_superuser("scratch").await.map_err(scratch)?;
    migrate::install(&database, &[], |_| ()).await.map_err(scratch)?;
    database.batch_execute(include_str!("self_test.sql")).await.map_err(scratch)?;
    let (host, port) = (cluster.host(), cluster.port());
    let (user, password) = (cluster.superuser(), cluster.superuser_password());
    let url = format!("postgres://{user}:{password}@{host}:{port}/scratch");
    let mut page = String::new();
    let mut unnoticed = 0;
    for mode in [Mode::Session, Mode::Transaction] {
        text::line(&mut page, &format!("{mode:?} pooling"));
        let (roads, running) = start(mode, "", port, &url).await?;
        for breakage in BREAKAGES {
            progress(&format!("{mode:?} pooling, without: {}", breakage.layer));
            database.batch_execute(breakage.sql).await.map_err(scratch)?;
            let report = suite(&roads).await;
            database.batch_execute(breakage.cure).await.map_err(scratch)?;
            // All of the kit as it was: the proxy asks for its version when it starts.
            migrate::install(&database, &[], |_| ()).await.map_err(scratch)?;
            let report = report?;
            let is_noticed = is_as_expected(&report, breakage.check);
            unnoticed += usize::from(!is_noticed);
            let mark = if is_noticed { "✓" } else { "✗ NOT NOTICED:" };
            let expected = match breakage.check {
                "" => "nothing fails".to_owned(),
                check => format!("noticed by {check}"),
            };
            text::line(&mut page, &format!("  {mark} {}: {expected}", breakage.layer));
            if !is_noticed {
                for failed in failed(&report) {
                    text::line(&mut page, &format!("      failed: {failed}"));
                }
            }
        }
        running.stop().await;
        for opening in OPENINGS {
            progress(&format!("{mode:?} pooling, with {}", opening.lines));
            let (roads, running) = start(mode, opening.lines, port, &url).await?;
            let report = suite(&roads).await;
            running.stop().await;
            let report = report?;
            for check in opening.checks {
                let is_told = is_told(&report, check);
                unnoticed += usize::from(!is_told);
                let mark = if is_told { "✓" } else { "✗ NOT NOTICED:" };
                text::line(&mut page, &format!("  {mark} {}: told by {check}", opening.lines));
            }
        }
    }
    Ok((page, unnoticed))
}

/// A proxy with these lines in its configuration.
async fn start(mode: Mode, lines: &str, port: u16, url: &str) -> Result<(Roads, Running), Error> {
    let config = format!("{lines}\n{}", CONFIG.replace("PORT", &port.to_string()));
    let config = config::parse(&config, std::iter::empty()).map_err(scratch)?;
    let operator = Road::new("the operator", url)?;
    // What is broken is what lint would find, and it would keep the suite out.
    own::start(config, Some(mode), &[Without::Lint], operator).await
}

async fn suite(roads: &Roads) -> Result<Report, Error> {
    let mut silent = |_: &str| {};
    let run = verify::run(roads, ProbeRows::Without, std::future::pending(), &mut silent);
    Ok(run.await?)
}

/// Whether the check failed; without one, whether none did.
fn is_as_expected(report: &Report, check: &str) -> bool {
    let mut failed = report.outcomes.iter().filter(|o| matches!(o.verdict, Verdict::Failed { .. }));
    if check.is_empty() {
        failed.next().is_none()
    } else {
        failed.any(|outcome| outcome.check.id() == check)
    }
}

/// Whether the report tells each time that what the check is about is open.
fn is_told(report: &Report, check: &str) -> bool {
    let mut of = report.outcomes.iter().filter(|outcome| outcome.check.id() == check).peekable();
    of.peek().is_some() && of.all(|outcome| matches!(outcome.verdict, Verdict::Open { .. }))
}

fn failed(report: &Report) -> impl Iterator<Item = String> {
    report.outcomes.iter().filter_map(|outcome| match &outcome.verdict {
        Verdict::Failed { seen, .. } => {
            Some(format!("{}: {}: {seen}", outcome.subject, outcome.check.id()))
        }
        Verdict::Passed { .. } | Verdict::Open { .. } | Verdict::Skipped { .. } => None,
    })
}

fn scratch(error: impl std::fmt::Display) -> Error {
    Error::Scratch(error.to_string())
}

const PROTECT: &str = "select cloison.protect('public.note')";

const BREAKAGES: &[Breakage] = &[
    Breakage { layer: "nothing broken", sql: "", check: "", cure: "" },
    Breakage {
        layer: "row security",
        sql: "alter table public.note disable row level security",
        check: "copy_to",
        cure: PROTECT,
    },
    Breakage {
        layer: "the policy for reading",
        sql: "alter policy cloison_tenant_select on public.note using (true)",
        check: "select_spelled",
        cure: PROTECT,
    },
    Breakage {
        layer: "the policy for inserting",
        sql: "drop policy cloison_tenant_insert on public.note",
        check: "insert_on_conflict",
        cure: PROTECT,
    },
    Breakage {
        layer: "the signature of the context",
        sql: "create or replace function cloison.current_tenant_id() returns uuid stable \
              security definer language sql as $$ select pg_catalog.substr(nullif( \
              pg_catalog.current_setting('cloison.context', true), ''), 2, 36)::uuid $$",
        check: "replay",
        cure: "",
    },
    Breakage {
        layer: "the grants: TRUNCATE",
        sql: "grant truncate on public.note to cloison_tenant; \
         alter table public.note disable trigger \"!cloison_guard_truncate\"",
        check: "truncate",
        cure: "revoke truncate on public.note from cloison_tenant; \
         alter table public.note enable always trigger \"!cloison_guard_truncate\"",
    },
    Breakage {
        layer: "the grants: server files",
        sql: "grant pg_execute_server_program to scratch_tenant",
        check: "copy_program",
        cure: "revoke pg_execute_server_program from scratch_tenant",
    },
    Breakage {
        layer: "roles",
        sql: "grant scratch_owner to scratch_tenant",
        check: "set_role",
        cure: "revoke scratch_owner from scratch_tenant",
    },
    Breakage {
        layer: "the super-admin's permit to write",
        sql: "create or replace function cloison.demand_superadmin_write() returns void stable \
              security definer language sql as ''",
        check: "superadmin_permit",
        cure: "",
    },
    Breakage {
        layer: "the record of a super-admin's statements",
        sql: "create function public.forget() returns trigger language plpgsql as \
              $$ begin new.detail := new.detail - 'sha256'; return new; end $$; \
              create trigger a_forget before insert on cloison.audit_log \
              for each row execute function public.forget()",
        check: "superadmin_record",
        cure: "drop trigger a_forget on cloison.audit_log; drop function public.forget()",
    },
    Breakage {
        layer: "views of the reader",
        sql: "create view public.every_note as select * from public.note; \
              grant select on public.every_note to cloison_tenant",
        check: "view",
        cure: "drop view public.every_note",
    },
];

const OPENINGS: &[Opening] = &[Opening {
    lines: "allowed_statements = [\"explain\"]",
    checks: &["explain_plan", "plan_messages"],
}];

const CONFIG: &str = r#"
    listen_port = 1
    default_pool_size = 4
    [server]
    host = "127.0.0.1"
    port = PORT
    database = "scratch"
    [control]
    user = "scratch_control"
    password = "scratch"
    [pools.tenant]
    user = "scratch_tenant"
    password = "scratch"
    [pools.superadmin]
    user = "scratch_superadmin"
    password = "scratch"
    [issuers.tenant]
    issuer = "replaced"
    audience = "replaced"
    algorithms = ["HS256"]
    secret = "replaced before anybody is served"
    [issuers.superadmin]
    access = "superadmin"
    issuer = "replaced"
    audience = "replaced too"
    algorithms = ["HS256"]
    secret = "replaced before anybody is served"
    "#;
