//! `cloison lint`: what in a database lets tenants see each other's rows, and the SQL that mends it.

mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use super::{colour, database};
use crate::kit::lint::{self, Finding, Level, sarif};

/// Looks the database over for what lets tenants see or change each other's rows.
///
/// Connects as `cloison install` does, as the database's owner or as a member of cloison_control,
/// and changes nothing. Exit code 0: nothing at or above --fail-on that nobody has accepted; 1:
/// something; 2: it could not look.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database: postgres://user:password@host:port/name, or libpq's key=value words.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// How findings are shown
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Show what is at least so bad: critical, warning or info
    #[arg(long, value_name = "LEVEL", default_value_t = Level::Info)]
    level: Level,
    /// What it takes for exit code 1: critical, warning or info
    #[arg(long, value_name = "LEVEL", default_value_t = Level::Critical)]
    fail_on: Level,
    /// Live with the finding of this key from now on; the owner may
    #[arg(long, value_name = "KEY", requires = "reason")]
    accept: Option<String>,
    /// Why it is accepted; shown with the finding
    #[arg(long, value_name = "TEXT", requires = "accept")]
    reason: Option<String>,
    /// Print the SQL that cures what was found, for psql, and nothing else
    #[arg(long, conflicts_with_all = ["format", "accept", "list"])]
    fix: bool,
    /// List what is looked for, without looking
    #[arg(long, conflicts_with_all = ["accept", "format"])]
    list: bool,
}

/// How findings are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
    Sarif,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The database could not be looked at.
    #[error(transparent)]
    Lint(#[from] lint::Error),
    /// `--reason` without a reason.
    #[error("--reason is empty: say why the finding can stay")]
    NoReason,
    /// stdout is closed.
    #[error("could not print the findings: {0}")]
    Print(#[from] io::Error),
}

/// The exit code for an [`Error`]: 1 is for findings.
pub const EXIT_COULD_NOT_RUN: u8 = 2;

/// Looks, and tells.
///
/// # Errors
///
/// It could not look, or not tell.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let mut stdout = io::stdout().lock();
    if args.list {
        stdout.write_all(text::list().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Error::NoReason);
    }
    let (client, connection) = database::open(args.database_url.clone()).await?;
    let work = async move {
        if let (Some(key), Some(reason)) = (&args.accept, &args.reason) {
            lint::accept(&client, key, reason).await?;
        }
        Ok::<_, Error>((lint::run(&client).await?, args))
    };
    // The connection ends when `work` drops its client. Why it broke is in the error of the
    // statement that it broke.
    let (found, _) = tokio::join!(work, connection);
    let (findings, args) = found?;
    let shown: Vec<Finding> =
        findings.iter().filter(|finding| finding.level >= args.level).cloned().collect();
    if args.fix {
        stdout.write_all(text::fixes(&shown).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.format {
        Format::Table => {
            let page = colour::page(&text::table(&shown), colour::of_stdout());
            stdout.write_all(page.as_bytes())?;
        }
        Format::Json => writeln!(stdout, "{:#}", json!({ "findings": shown }))?,
        Format::Sarif => writeln!(stdout, "{:#}", sarif::log(&shown))?,
    }
    let is_bad = findings.iter().any(|finding| finding.counts(args.fail_on));
    Ok(ExitCode::from(u8::from(is_bad)))
}
