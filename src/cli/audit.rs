//! `cloison audit`: whether the audit log is what was written, and what is old of it in files.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
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
    /// Move old rows of the audit log to a file, and sign where the chain goes on
    Archive(ArchiveArgs),
    /// Walk the chain through files that `archive` has written, without a database
    Check(CheckArgs),
}

/// Walks the chain of the audit log from its beginning.
///
/// Connects as the kit's owner, and changes nothing. Where rows have been archived, it begins at the
/// newest checkpoint, or with --archive at the first file. Prints the head: keep it somewhere else, and
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
    /// A file that `archive` has written; all of them, oldest first, by as many of these
    #[arg(long, value_name = "FILE")]
    archive: Vec<PathBuf>,
    /// How it is told
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Moves rows that are older than a time to a new file.
///
/// Walks the chain first, and moves nothing of a broken one. Each row is a line of JSON, with all that
/// its hash is made of, so that the file proves itself (`cloison audit check`); in the log a checkpoint
/// takes their place, signed with the kit's key, and a record of who did it. Connects as the kit's
/// owner. Exit code 0: done, or nothing is that old; 1: the chain is broken; 2: it could not be done.
#[derive(Debug, clap::Args)]
struct ArchiveArgs {
    /// The database: postgres://user:password@host:port/name, or libpq's key=value words.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Rows from before this time go, such as 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    before: String,
    /// The file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Walks the chain through files. Exit code 0: unbroken; 1: broken; 2: it could not look.
#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Files that `archive` has written, oldest first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
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
    /// A file could not be written or read, or the log not changed.
    #[error(transparent)]
    Archive(#[from] audit::ArchiveError),
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

/// Does it, and tells.
///
/// # Errors
///
/// It could not look, or not tell.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    match args.verb {
        Verb::Verify(args) => verify(args).await,
        Verb::Archive(args) => archive(args).await,
        Verb::Check(args) => tell(&audit::check_files(&args.files)?, args.format),
    }
}

async fn verify(args: VerifyArgs) -> Result<ExitCode, Error> {
    let behind = match &args.archive[..] {
        [] => None,
        files => Some(audit::check_files(files)?),
    };
    if let Some(broken) = behind.as_ref().filter(|report| report.fault.is_some()) {
        return tell(broken, args.format);
    }
    let (mut client, connection) = database::open(args.database_url).await?;
    let is_watched = io::stderr().is_terminal();
    let work = async move {
        audit::verify(&mut client, args.head, behind.as_ref(), |rows| {
            if is_watched && rows % PROGRESS == 0 {
                eprintln!("{rows} rows");
            }
        })
        .await
    };
    // The connection ends when `work` drops its client.
    let (report, _) = tokio::join!(work, connection);
    tell(&report?, args.format)
}

async fn archive(args: ArchiveArgs) -> Result<ExitCode, Error> {
    let (mut client, connection) = database::open(args.database_url).await?;
    let work = async move { audit::archive(&mut client, &args.before, &args.to).await };
    let (done, _) = tokio::join!(work, connection);
    let mut stdout = io::stdout().lock();
    match done? {
        Ok(None) => writeln!(stdout, "nothing is that old")?,
        Ok(Some(archived)) => {
            let (first, last) = archived.places;
            writeln!(stdout, "rows   {}", last - first + 1)?;
            writeln!(stdout, "places {first} to {last}")?;
            writeln!(stdout, "head   {}", archived.hash)?;
            writeln!(stdout, "file   SHA-256 {}", archived.file_hash)?;
        }
        Err(fault) => {
            writeln!(stdout, "chain  BROKEN, nothing was moved\nfault  {}", fault.kind)?;
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(report: &Report, format: Format) -> Result<ExitCode, Error> {
    let mut stdout = io::stdout().lock();
    match format {
        Format::Table => stdout.write_all(table(report).as_bytes())?,
        Format::Json => writeln!(stdout, "{:#}", report.to_json())?,
    }
    Ok(ExitCode::from(u8::from(report.fault.is_some())))
}

fn table(report: &Report) -> String {
    let (place, hash) = &report.head;
    let mut text = format!("rows   {}\n", report.rows);
    if report.pending > 0 {
        text.push_str(&format!("       and {} that have no place yet\n", report.pending));
    }
    if report.start.0 > 0 {
        text.push_str(&format!(
            "from   position {}, behind {}\n",
            report.start.0 + 1,
            report.start.1
        ));
    }
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
