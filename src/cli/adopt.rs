//! `cloison adopt`: brings tables that are in use under isolation, and back.

mod fleet;
mod progress;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio_postgres::Client;

use super::{colour, database};
use crate::kit::adopt::mapping::{self, ColumnType, Mapping};
use crate::kit::adopt::plan::{Plan, Stage};
use crate::kit::adopt::run::{self, Options, Outcome, Stop};
use crate::kit::adopt::{self, infer, record, text, verify};
use progress::Bar;

/// Adds the tenant column to tables that are in use, fills it in, widens keys, and protects them;
/// or takes all of that back.
///
/// Without an action it prints the plan and changes nothing. Connects as `cloison install` does, as
/// the owner of the kit and of the tables, or as a superuser. It can be stopped and killed at any
/// moment: run it again, and it goes on. Exit code 0: done, or nothing to do; 1: it stopped with an
/// error; 2: stopped where --stop-after says, or --verify found something.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database: postgres://user:password@host:port/name, or libpq's key=value words.
    #[arg(long, value_name = "URL", conflicts_with = "fleet")]
    database_url: Option<String>,
    /// The same for every database of a file: a line each, `URL` or `name = URL`.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,

    /// Print the plan; with a folder, write it there as files to review: up, down, verify.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, conflicts_with_all = ["apply", "down", "verify"])]
    plan: Option<Option<PathBuf>>,
    /// Print a mapping, to review, for the tables that lead by foreign keys to this one, whose rows are
    /// the application's tenants
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["apply", "down", "verify", "plan", "mapping", "fleet"])]
    root: Option<String>,
    /// Print every step of the plan, too: what, why, under which lock, for how long.
    #[arg(long, conflicts_with_all = ["apply", "down", "verify"])]
    verbose: bool,
    /// Do it, or go on with it.
    #[arg(long, conflicts_with_all = ["down", "verify"])]
    apply: bool,
    /// Take the last adoption back: the schema is as it was.
    #[arg(long, conflicts_with = "verify")]
    down: bool,
    /// Ask whether every table of it is filled and protected.
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    wanted: Wanted,

    /// Stop behind this stage (expand, contract, protect), or behind so many steps of the plan.
    #[arg(long, value_name = "STAGE|N", value_parser = stop)]
    stop_after: Option<Stop>,
    /// How many milliseconds to wait for a lock before others come first; less than Postgres'
    /// deadlock_timeout, so that no writer is what a deadlock ends
    #[arg(long, value_name = "MS", default_value_t = 500)]
    lock_timeout: u32,
    /// How often to try for a lock
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    lock_tries: u32,
    /// With --down: leave out old keys that the rows no longer fit.
    #[arg(long, requires = "down")]
    force: bool,
}

/// What is wanted: a mapping, or options for the simple case.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// A file that says all of this, and whose the rows of each table are.
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// All tables of this schema. Can be repeated, as can those below.
    #[arg(long, value_name = "NAME")]
    schema: Vec<String>,
    /// This table, as SQL writes it.
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Leave this table as it is; `unsupported`: all that cannot be adopted.
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
    /// Every tenant reads this table, and none writes it.
    #[arg(long, value_name = "NAME")]
    shared: Vec<String>,
    /// No tenant sees this table.
    #[arg(long, value_name = "NAME")]
    global: Vec<String>,
    /// The tenant column; tenant_id if nothing else is said.
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Its type: uuid (the tenant's id), bigint, integer, smallint, text, varchar (its external_key).
    #[arg(long = "type", value_name = "TYPE")]
    column_type: Option<ColumnType>,
    /// The tenant whose the rows are: as the column names it, or its slug.
    #[arg(long, value_name = "TENANT")]
    default_tenant: Option<String>,
    /// Add the tenants that rows go to and that are not there.
    #[arg(long)]
    create_tenants: bool,
    /// Keys that stay as they are, by name; `primary` is every primary key.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    keep_keys: Vec<String>,
    /// Fill in rows though it fires the application's own triggers.
    #[arg(long)]
    fire_triggers: bool,
}

/// Why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error("{}", with_cause(.0))]
    Database(#[from] database::Error),
    /// The adoption did not happen, or stopped.
    #[error(transparent)]
    Adopt(#[from] adopt::Error),
    /// The mapping is none.
    #[error(transparent)]
    Mapping(#[from] mapping::Error),
    /// A file could not be read or written.
    #[error("could not {doing} {}: {source}", path.display())]
    File {
        /// Read or write it.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in the fleet's file.
    #[error("{0} names no database")]
    NoFleet(String),
}

/// The exit code where it stopped before the end, or found something.
const EXIT_UNFINISHED: u8 = 2;

/// How it went on one database.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Ended {
    is_finished: bool,
    text: String,
}

/// Does what the arguments say.
///
/// # Errors
///
/// The database is out of reach, or says no, or rows stand in the way.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let mapping = args.wanted.mapping()?;
    if let Some(file) = &args.fleet {
        return fleet::run(file, &args, &mapping).await;
    }
    let ended = on_one(args.database_url.clone(), &args, &mapping, None).await?;
    say(&ended.text);
    Ok(if ended.is_finished { ExitCode::SUCCESS } else { EXIT_UNFINISHED.into() })
}

/// On standard output; who reads it may have seen enough, as `head` has.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{}", colour::page(text, colour::of_stdout()));
}

/// On one database; of a fleet, by this name.
async fn on_one(
    url: Option<String>,
    args: &Args,
    mapping: &Mapping,
    name: Option<&str>,
) -> Result<Ended, Error> {
    let (client, connection) = database::open(url).await?;
    let work = async move { act(&client, args, mapping, name).await };
    // The connection ends when `work` drops its client. Why it broke is in the error of the
    // statement that it broke.
    let (ended, _) = tokio::join!(work, connection);
    ended
}

async fn act(
    client: &Client,
    args: &Args,
    mapping: &Mapping,
    name: Option<&str>,
) -> Result<Ended, Error> {
    if args.apply {
        return apply(client, args, mapping, name).await;
    }
    if args.down {
        return down(client, args, name).await;
    }
    if args.verify {
        return verified(client).await;
    }
    if let Some(root) = &args.root {
        let public = vec!["public".to_owned()];
        let schemas = if mapping.schemas.is_empty() { &public } else { &mapping.schemas };
        let text = infer::infer(client, schemas, root).await?;
        return Ok(Ended { is_finished: true, text });
    }
    let Some(plan) = run::propose(client, mapping).await? else { return Ok(nothing()) };
    if let Some(Some(folder)) = &args.plan {
        let folder = name.map_or_else(|| folder.clone(), |name| folder.join(name));
        write(&folder, &plan, mapping)?;
    }
    let steps = if args.verbose { text::steps(&plan) } else { String::new() };
    let text = format!("{}{steps}", text::page(&plan));
    Ok(Ended { is_finished: true, text })
}

async fn apply(
    client: &Client,
    args: &Args,
    mapping: &Mapping,
    name: Option<&str>,
) -> Result<Ended, Error> {
    run::open(client).await?;
    let Some(mut adoption) = run::start(client, mapping).await? else { return Ok(nothing()) };
    let outcome = run::apply(client, &mut adoption, &args.options(), &mut Bar::new(name)).await?;
    match outcome {
        Outcome::Done(steps) => {
            let report = verify::ask(client, adoption.plan()).await?;
            let text = format!(
                "{}{}\nAdoption {} is done, {steps} steps of it now. `cloison adopt --down` takes it back.",
                answers(&report),
                text::for_application(adoption.plan()),
                adoption.id()
            );
            Ok(Ended { is_finished: report.is_good(), text })
        }
        Outcome::Stopped(left) => Ok(stopped(left, "--apply")),
    }
}

async fn down(client: &Client, args: &Args, name: Option<&str>) -> Result<Ended, Error> {
    run::open(client).await?;
    let Some(mut adoption) = record::last(client).await? else {
        let text = "No adoption stands in this database: nothing to take back.".to_owned();
        return Ok(Ended { is_finished: true, text });
    };
    let outcome = run::down(client, &mut adoption, &args.options(), &mut Bar::new(name)).await?;
    match outcome {
        Outcome::Done(steps) => {
            let text = format!("Adoption {} is taken back, by {steps} steps.", adoption.id());
            Ok(Ended { is_finished: true, text })
        }
        Outcome::Stopped(left) => Ok(stopped(left, "--down")),
    }
}

async fn verified(client: &Client) -> Result<Ended, Error> {
    record::check_kit(client).await?;
    let mut ended = Ended { is_finished: true, text: String::new() };
    for adoption in record::standing(client).await? {
        let report = verify::ask(client, adoption.plan()).await?;
        ended.is_finished &= report.is_good();
        ended.text.push_str(&answers(&report));
    }
    if ended.text.is_empty() {
        return Ok(Ended {
            is_finished: false,
            text: "No adoption stands in this database.".into(),
        });
    }
    Ok(ended)
}

fn nothing() -> Ended {
    let text = "Every one of these tables is protected: nothing to do.".to_owned();
    Ended { is_finished: true, text }
}

fn stopped(left: usize, action: &str) -> Ended {
    let text =
        format!("Stopped as asked, with {left} steps to go: `cloison adopt {action}` goes on.");
    Ended { is_finished: false, text }
}

/// The seed's questions, a line a table.
fn answers(report: &verify::Report) -> String {
    let width = report.tables.iter().map(|answer| answer.table.chars().count()).max();
    let width = width.unwrap_or(0).max(5);
    let mut out = format!(
        "{:width$}  columns  {:>10}  {:>10}  forced  policies\n",
        "table", "rows", "filled"
    );
    for answer in &report.tables {
        let forced = if answer.forced { "yes" } else { "NO" };
        let [columns, total, filled] = if answer.class == "tenant" {
            [answer.columns, answer.total, answer.filled].map(|number| number.to_string())
        } else {
            [String::new(), answer.class.clone(), String::new()]
        };
        out.push_str(&format!(
            "{:width$}  {columns:>7}  {total:>10}  {filled:>10}  {forced:>6}  {:>8}{}\n",
            answer.table,
            answer.policies,
            if answer.is_good() { "" } else { "  <- wrong" },
        ));
        for finding in &answer.findings {
            out.push_str(&format!("{:width$}  {finding}\n", ""));
        }
    }
    out.push_str(&format!("{} tenants\n", report.tenants));
    out
}

fn write(folder: &Path, plan: &Plan, mapping: &Mapping) -> Result<(), Error> {
    let fail = |path: &Path, source| Error::File { doing: "write", path: path.to_owned(), source };
    fs::create_dir_all(folder).map_err(|source| fail(folder, source))?;
    for file in text::files(plan, mapping)? {
        let path = folder.join(&file.name);
        fs::write(&path, &file.text).map_err(|source| fail(&path, source))?;
    }
    Ok(())
}

impl Args {
    fn options(&self) -> Options {
        Options {
            lock_timeout: Duration::from_millis(self.lock_timeout.into()),
            lock_tries: self.lock_tries,
            stop_after: self.stop_after,
            force: self.force,
        }
    }
}

impl Wanted {
    /// The file, and what the options say beside it.
    fn mapping(&self) -> Result<Mapping, Error> {
        let mut mapping = match &self.mapping {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|source| Error::File {
                    doing: "read",
                    path: path.clone(),
                    source,
                })?;
                Mapping::parse(&text)?
            }
            None => Mapping::default(),
        };
        mapping.schemas.extend(self.schema.iter().cloned());
        mapping.tables.extend(self.table.iter().cloned());
        mapping.skip.extend(self.skip.iter().cloned());
        mapping.shared.extend(self.shared.iter().cloned());
        mapping.global.extend(self.global.iter().cloned());
        mapping.keep_keys.extend(self.keep_keys.iter().cloned());
        if let Some(column) = &self.column {
            mapping.column.clone_from(column);
        }
        if let Some(column_type) = self.column_type {
            mapping.column_type = column_type;
        }
        if self.default_tenant.is_some() {
            mapping.default_tenant.clone_from(&self.default_tenant);
        }
        mapping.create_tenants |= self.create_tenants;
        mapping.fire_triggers |= self.fire_triggers;
        Ok(mapping)
    }
}

fn stop(text: &str) -> Result<Stop, String> {
    if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.as_str() == text) {
        return Ok(Stop::Stage(stage));
    }
    text.parse().map(Stop::Steps).map_err(|_| "a stage, or a number of steps".to_owned())
}

fn with_cause(error: &database::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
