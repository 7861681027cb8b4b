//! `cloison verify`: the isolation suite against a running proxy, and what it tells about it.

mod chaos;
mod junit;
mod own;
mod roads;
mod sections;
mod self_test;
mod text;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::{colour, dev, serve};
use crate::dev::key;
use crate::kit::verify::{self, Conclusion, ProbeRows, Report, Roads};

/// Tries, through the proxy and as two tenants, everything that isolation forbids.
///
/// Without options it goes to the running `cloison dev`. In each table in which a tenant has no row
/// it makes one, and removes it at the end, also when it is stopped. Whatever else it writes is
/// rolled back; the super-admin's session is in the audit log. Exit code 0: nothing leaks; 1: it
/// could not be tried, or too little could; 2: something leaks.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A tenant's URL through the proxy, with its token as password
    #[arg(long, value_name = "URL", requires_all = ["other_url", "superadmin_url"])]
    tenant_url: Option<String>,
    /// Another tenant's
    #[arg(long, value_name = "URL", requires = "tenant_url")]
    other_url: Option<String>,
    /// The super-admin's
    #[arg(long, value_name = "URL", requires = "tenant_url")]
    superadmin_url: Option<String>,
    /// Straight to the database, as somebody who sees all rows: counts what there is to see, and
    /// with --chaos ends server connections [default: the super-admin]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Start a proxy of its own from this configuration, on a free port and with tokens of its own,
    /// and try that one
    #[arg(long, value_name = "FILE", requires = "database_url", conflicts_with = "tenant_url")]
    config: Option<PathBuf>,
    /// The pool mode of the proxy of its own [default: the configuration's]
    #[arg(long, value_enum, requires = "config")]
    pool_mode: Option<own::Mode>,
    /// Switch a layer of the proxy of its own off, to see that the others hold
    #[arg(long, value_enum, value_name = "LAYER", requires = "config")]
    without: Vec<own::Without>,
    /// Break each layer of a scratch server of its own, and see that the suite notices
    #[arg(long, conflicts_with_all = ["tenant_url", "config", "data_dir", "chaos"])]
    self_test: bool,
    /// Instead of the suite: let many clients work for so long, while clients and server
    /// connections are ended at any moment, and hold each row against who asked for it
    #[arg(long, value_name = "TIME", value_parser = chaos::time)]
    chaos: Option<Duration>,
    /// How many clients work at a time
    #[arg(long, value_name = "N", default_value_t = 16, requires = "chaos")]
    clients: usize,
    /// Clients write, too, in transactions that are rolled back
    #[arg(long, requires = "chaos")]
    chaos_writes: bool,
    /// Run this command once, in the middle: it has to restart Postgres
    #[arg(long, value_name = "COMMAND", requires = "chaos")]
    chaos_restart: Option<String>,
    /// Where `cloison dev` keeps its data
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tenant_url", "config"])]
    data_dir: Option<PathBuf>,
    /// Where a tenant has no rows, make none: what needs rows is then not tried there
    #[arg(long)]
    no_probe_rows: bool,
    /// Write every outcome as JSON; - is stdout, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every outcome as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Why nothing was tried, or nothing could be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A token could not be made.
    #[error("could not make a token: {0}")]
    Claims(Box<dev::Error>),
    /// Two tenants are needed.
    #[error(
        "two active tenants with rows in protected tables are needed, and there are {0}; \
         --tenant-url, --other-url and --superadmin-url choose them"
    )]
    FewTenants(usize),
    /// The scratch server of the self-test.
    #[error("the scratch server: {0}")]
    Scratch(String),
    /// The proxy of its own does not serve.
    #[error("the proxy of its own does not serve: {0}")]
    Own(String),
    /// A report cannot be written.
    #[error("could not write {}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No key to mint tokens with.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// There is no proxy to go to.
    #[error(
        "no running `cloison dev` ({}: {source}): start it, or give --tenant-url, --other-url and \
         --superadmin-url", path.display()
    )]
    NoDev {
        /// The file that it would have left.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// stdout is closed.
    #[error("could not print the table: {0}")]
    Print(#[source] io::Error),
    /// The suite itself.
    #[error(transparent)]
    Verify(#[from] verify::Error),
}

/// Runs the suite and reports.
///
/// # Errors
///
/// It could not be run, or its reports could not be written.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    if args.self_test {
        return self_test::run(&mut progress()).await;
    }
    let (roads, own) = roads::of(&args).await?;
    let code = run_on(&roads, &args).await;
    if let Some(own) = own {
        own.stop().await;
    }
    code
}

/// Tells on one line of the terminal what is being done. Whether anybody sees it changes nothing.
fn progress() -> impl FnMut(&str) {
    let is_terminal = io::stderr().is_terminal();
    move |doing| {
        if is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{doing}");
        }
    }
}

async fn run_on(roads: &Roads, args: &Args) -> Result<ExitCode, Error> {
    let mut progress = progress();
    // Heard from now on, also while probe rows are being made.
    let signalled = tokio::spawn(serve::until_signalled());
    let stopped = async {
        // Where signals cannot be heard, nothing stops it.
        if !matches!(signalled.await, Ok(Ok(()))) {
            std::future::pending::<()>().await;
        }
    };
    if let Some(time) = args.chaos {
        let outcome = verify::chaos::run(roads, chaos::plan(args, time), stopped, &mut progress);
        let outcome = outcome.await;
        progress("");
        return chaos::report(&outcome?, args);
    }
    let probe_rows = match args.no_probe_rows {
        true => ProbeRows::Without,
        false => ProbeRows::Make,
    };
    let report = verify::run(roads, probe_rows, stopped, &mut progress).await;
    progress("");
    publish(&report?, args)
}

fn publish(report: &Report, args: &Args) -> Result<ExitCode, Error> {
    if let Some(path) = &args.junit {
        write_file(path, &junit::xml(report))?;
    }
    let mut stdout = io::stdout().lock();
    match &args.json {
        Some(path) if path == Path::new("-") => {
            writeln!(stdout, "{:#}", in_json(report)).map_err(Error::Print)?;
        }
        Some(path) => write_file(path, &format!("{:#}\n", in_json(report)))?,
        None => {}
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        let page = colour::page(&text::page(report), colour::of_stdout());
        stdout.write_all(page.as_bytes()).map_err(Error::Print)?;
    }
    Ok(match report.conclusion() {
        Conclusion::Watertight => ExitCode::SUCCESS,
        Conclusion::Unproven => ExitCode::FAILURE,
        Conclusion::Leaks => ExitCode::from(EXIT_FINDINGS),
    })
}

/// Everything, for programs.
fn in_json(report: &Report) -> Value {
    let line = |(line, standing)| json!({ "line": line, "standing": standing });
    let mut value = json!(report);
    value["conclusion"] = json!(report.conclusion());
    value["summary"] = json!(report.tally());
    if let Some(outcomes) = value["outcomes"].as_array_mut() {
        for (value, outcome) in outcomes.iter_mut().zip(&report.outcomes) {
            value["section"] = json!(outcome.check.section().title());
            value["owasp"] = json!(outcome.check.owasp().title());
        }
    }
    value["lines"] = report.lines().map(line).collect();
    value
}

fn write_file(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Something was found.
const EXIT_FINDINGS: u8 = 2;
