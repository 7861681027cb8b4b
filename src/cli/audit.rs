//! `cloison audit verify`: whether the audit log is what was written.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use super::database;
use crate::kit::audit::{self, Hash, Report};

/// Looks after the audit log.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Walk the chain of the audit log, and prove it unbroken or name the first row that is wrong
    Verify(VerifyArgs),
}

/// Walks the chain of the audit log from its beginning.
///
/// Connects as the kit's owner, and changes nothing. Prints the head: keep it somewhere else, and
/// give it to --head the next time, because who owns the database can write a whole chain anew.
/// Exit code 0: unbroken; 1: broken; 2: it could not look.
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The database: postgres://user:password@host:port/name, or libpq's key=value words.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// A head that was printed before: it has to be in the chain
    #[arg(long, value_name = "HASH", value_parser = parse_head)]
    head: Option<Hash>,
    /// How it is told
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The log could not be read.
    #[error(transparent)]
    Audit(#[from] audit::Error),
    /// stdout is closed.
    #[error("could not print what was found: {0}")]
    Print(#[from] io::Error),
}

/// The exit code for an [`Error`]: 1 is for a broken chain.
pub const EXIT_COULD_NOT_RUN: u8 = 2;

/// Between two words of progress.
const PROGRESS: u64 = 100_000;

fn parse_head(text: &str) -> Result<Hash, &'static str> {
    Hash::parse(text).ok_or("expected the 64 hexadecimal digits that were printed as the head")
}

/// Walks, and tells.
///
/// # Errors
///
/// It could not look, or not tell.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let Verb::Verify(args) = args.verb;
    let (mut client, connection) = database::open(args.database_url).await?;
    let is_watched = io::stderr().is_terminal();
    let work = async move {
        audit::verify(&mut client, args.head, |rows| {
            if is_watched && rows % PROGRESS == 0 {
                eprintln!("{rows} rows");
            }
        })
        .await
    };
    // The connection ends when `work` drops its client.
    let (report, _) = tokio::join!(work, connection);
    let report = report?;
    let mut stdout = io::stdout().lock();
    match args.format {
        Format::Table => stdout.write_all(table(&report).as_bytes())?,
        Format::Json => writeln!(stdout, "{:#}", report.to_json())?,
    }
    Ok(ExitCode::from(u8::from(report.fault.is_some())))
}

fn table(report: &Report) -> String {
    let (place, hash) = &report.head;
    let mut text = format!("rows   {}\n", report.rows);
    match &report.fault {
        None => text.push_str(&format!("chain  unbroken\nhead   {hash}\n")),
        Some(fault) => {
            text.push_str(&format!("chain  BROKEN\nfault  {}\n", fault.kind));
            if let Some((place, id)) = fault.row {
                text.push_str(&format!("row    position {place}, id {id}\n"));
            }
            text.push_str(&format!("whole  up to position {place}, {hash}\n"));
        }
    }
    text
}
