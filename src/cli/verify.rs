//! `cloison verify`: the isolation suite against a running proxy, and what it tells about it.

mod junit;
mod roads;
mod text;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{dev, serve};
use crate::dev::key;
use crate::kit::verify::{self, Conclusion, ProbeRows, Report};

/// Tries, through the proxy and as two tenants, everything that isolation forbids.
///
/// Without options it goes to the running `cloison dev`. Whatever it writes is rolled back; the
/// super-admin's session is in the audit log. Exit code 0: nothing leaks; 1: it could not be tried,
/// or too little could; 2: something leaks.
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
    /// Straight to the database, as somebody who sees all rows: counts what there is to see
    /// [default: the super-admin]
    #[arg(long, value_name = "URL", requires = "tenant_url")]
    database_url: Option<String>,
    /// Where `cloison dev` keeps its data
    #[arg(long, value_name = "DIR", conflicts_with = "tenant_url")]
    data_dir: Option<PathBuf>,
    /// Where a tenant has no rows, make one, and remove it at the end
    #[arg(long)]
    probe_rows: bool,
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
    let roads = roads::of(&args).await?;
    let probe_rows = if args.probe_rows { ProbeRows::Make } else { ProbeRows::Without };
    let is_terminal = io::stderr().is_terminal();
    let mut progress = |doing: &str| {
        if is_terminal {
            // Whether anybody sees it changes nothing.
            let _ = write!(io::stderr(), "\r\x1b[K{doing}");
        }
    };
    // Heard from now on, also while probe rows are being made.
    let signalled = tokio::spawn(serve::until_signalled());
    let stopped = async {
        // Where signals cannot be heard, nothing stops it.
        if !matches!(signalled.await, Ok(Ok(()))) {
            std::future::pending::<()>().await;
        }
    };
    let report = verify::run(&roads, probe_rows, stopped, &mut progress).await;
    if is_terminal {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let report = report?;

    if let Some(path) = &args.junit {
        write_file(path, &junit::xml(&report))?;
    }
    let mut stdout = io::stdout().lock();
    match &args.json {
        Some(path) if path == Path::new("-") => {
            writeln!(stdout, "{:#}", in_json(&report)).map_err(Error::Print)?;
        }
        Some(path) => write_file(path, &format!("{:#}\n", in_json(&report)))?,
        None => {}
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        stdout.write_all(text::page(&report).as_bytes()).map_err(Error::Print)?;
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
    value["lines"] = report.lines().map(line).collect();
    value
}

fn write_file(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Something was found.
const EXIT_FINDINGS: u8 = 2;
