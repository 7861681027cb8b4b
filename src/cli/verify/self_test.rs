//! `--self-test`: breaks each layer of a Postgres that nobody needs, and sees that the suite notices.

use std::io::{self, Write};
use std::process::ExitCode;

use tokio_postgres::Client;

use super::own::{self, Mode, Without};
use super::{EXIT_FINDINGS, Error, text};
use crate::cli::serve::Running;
use crate::config;
use crate::dev::cluster::Cluster;
use crate::kit::verify::{self, ProbeRows, Report, Road, Roads, Verdict};
use crate::kit::{harden, migrate};

/// A layer, what breaks it, the check that has to go red, and what mends it.
struct Breakage {
    layer: &'static str,
    sql: &'static str,
    check: &'static str,
    cure: &'static str,
}

/// A layer of the proxy's, and the check that has to go red in either pool mode; "" where nothing
/// rests on it.
struct Switch {
    layer: &'static str,
    without: &'static [Without],
    session: &'static str,
    transaction: &'static str,
}

/// A setting of the proxy's that opens something, and the checks that have to tell of it.
struct Opening {
    lines: &'static str,
    checks: &'static [&'static str],
}

/// What is printed, and how much went unnoticed.
#[derive(Default)]
struct Told {
    page: String,
    unnoticed: usize,
}

impl Told {
    /// One line; what else failed stands below one that was not noticed.
    fn put(&mut self, report: &Report, layer: &str, check: &str) {
        let is_noticed = is_as_expected(report, check);
        let expected = match check {
            "" => "nothing fails".to_owned(),
            check => format!("noticed by {check}"),
        };
        self.line(is_noticed, &format!("{layer}: {expected}"));
        if !is_noticed {
            for failed in failed(report) {
                text::line(&mut self.page, &format!("      failed: {failed}"));
            }
        }
    }

    fn line(&mut self, is_noticed: bool, line: &str) {
        self.unnoticed += usize::from(!is_noticed);
        let mark = if is_noticed { "✓" } else { "✗ NOT NOTICED:" };
        text::line(&mut self.page, &format!("  {mark} {line}"));
    }
}

/// A scratch server with its database, and how to get there.
struct Scratch<'a> {
    database: &'a Client,
    port: u16,
    url: String,
}

/// Runs it, in both pool modes.
pub(super) async fn run(progress: &mut dyn FnMut(&str)) -> Result<ExitCode, Error> {
    progress("starting a scratch Postgres");
    let cluster = Cluster::builder().setting("fsync", "off").start().await.map_err(scratch)?;
    let tried = try_all(&cluster, progress).await;
    progress("");
    cluster.stop().await.map_err(scratch)?;
    let told = tried?;
    io::stdout().write_all(told.page.as_bytes()).map_err(Error::Print)?;
    Ok(if told.unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
}

async fn try_all(cluster: &Cluster, progress: &mut dyn FnMut(&str)) -> Result<Told, Error> {
    let admin = cluster.connect_superuser("postgres").await.map_err(scratch)?;
    admin.batch_execute("create database scratch").await.map_err(scratch)?;
    let database = cluster.connect_superuser("scratch").await.map_err(scratch)?;
    migrate::install(&database, &[], |_| ()).await.map_err(scratch)?;
    database.batch_execute(include_str!("self_test.sql")).await.map_err(scratch)?;
    harden::harden(&database, &[]).await.map_err(scratch)?;
    let (host, port) = (cluster.host(), cluster.port());
    let (user, password) = (cluster.superuser(), cluster.superuser_password());
    let url = format!("postgres://{user}:{password}@{host}:{port}/scratch");
    let server = Scratch { database: &database, port, url };
    let mut told = Told::default();
    for mode in [Mode::Session, Mode::Transaction] {
        text::line(&mut told.page, &format!("{mode:?} pooling"));
        server.break_database(mode, &mut told, progress).await?;
        server.break_proxy(mode, &mut told, progress).await?;
        server.open(mode, &mut told, progress).await?;
    }
    Ok(told)
}

impl Scratch<'_> {
    /// The statement filter is off: it would refuse some attempts before what is broken is asked.
    async fn break_database(
        &self,
        mode: Mode,
        told: &mut Told,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let (roads, running) = self.start(mode, "", &[Without::Filter]).await?;
        for breakage in BREAKAGES {
            progress(&format!("{mode:?} pooling, without: {}", breakage.layer));
            self.database.batch_execute(breakage.sql).await.map_err(scratch)?;
            let report = suite(&roads).await;
            self.database.batch_execute(breakage.cure).await.map_err(scratch)?;
            // All of the kit as it was: the proxy asks for its version when it starts.
            migrate::install(self.database, &[], |_| ()).await.map_err(scratch)?;
            told.put(&report?, breakage.layer, breakage.check);
        }
        running.stop().await;
        Ok(())
    }

    async fn break_proxy(
        &self,
        mode: Mode,
        told: &mut Told,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        for switch in SWITCHES {
            progress(&format!("{mode:?} pooling, without: {}", switch.layer));
            let (roads, running) = self.start(mode, "", switch.without).await?;
            let report = suite(&roads).await;
            running.stop().await;
            let check = match mode {
                Mode::Session => switch.session,
                Mode::Transaction => switch.transaction,
            };
            told.put(&report?, switch.layer, check);
        }
        Ok(())
    }

    async fn open(
        &self,
        mode: Mode,
        told: &mut Told,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        for opening in OPENINGS {
            progress(&format!("{mode:?} pooling, with {}", opening.lines));
            let (roads, running) = self.start(mode, opening.lines, &[]).await?;
            let report = suite(&roads).await;
            running.stop().await;
            let report = report?;
            for check in opening.checks {
                let line = format!("{}: told by {check}", opening.lines);
                told.line(is_told(&report, check), &line);
            }
        }
        Ok(())
    }

    /// A proxy with these lines in its configuration.
    async fn start(
        &self,
        mode: Mode,
        lines: &str,
        without: &[Without],
    ) -> Result<(Roads, Running), Error> {
        let config = format!("{lines}\n{}", CONFIG.replace("PORT", &self.port.to_string()));
        let config = config::parse(&config, std::iter::empty()).map_err(scratch)?;
        let operator = Road::new("the operator", &self.url)?;
        // What is broken is what lint would find, and it would keep the suite out.
        let without = [without, &[Without::Lint]].concat();
        own::start(config, Some(mode), &without, operator).await
    }
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

const SWITCHES: &[Switch] = &[
    Switch { layer: "nothing switched off", without: &[], session: "", transaction: "" },
    Switch {
        layer: "plans under each client's own settings",
        without: &[Without::Settling],
        // Nobody shares a statement there.
        session: "",
        transaction: "shared_statement",
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
