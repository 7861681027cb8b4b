//! `cloison install`: puts the SQL kit into a database, or takes it away.

use std::process::ExitCode;

use super::database;
use crate::kit::migrate::{self, PublicNames};

/// Installs the SQL kit: roles, tables, functions and policies in the schema `cloison`.
///
/// Without --database-url it connects as DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD say.
/// Run it as a role that owns the database and has CREATEROLE, or as a superuser. Where the kit is
/// installed already, nothing changes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database: postgres://user:password@host:port/name, or libpq's key=value words.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,

    /// Also put set_tenant(), get_current_tenant(), is_superadmin(), enable_superadmin_mode() and a
    /// view `tenants` into the schema public.
    #[arg(long)]
    compat: bool,

    /// Print the SQL and change nothing. Pipe it into psql to install without this program.
    #[arg(long)]
    print: bool,

    /// Take the kit away. Protected tables keep their rows, and tenants lose their rights on them.
    #[arg(long)]
    down: bool,
}

/// Why `cloison install` gave up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// A file of the kit failed.
    #[error(transparent)]
    Migrate(#[from] migrate::Error),
}

/// Does what the arguments say; what was done is told on standard output.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let names = if args.compat { PublicNames::With } else { PublicNames::Without };
    if args.print {
        let sql = if args.down { migrate::print_down() } else { migrate::print(names) };
        print!("{sql}");
        return Ok(ExitCode::SUCCESS);
    }

    let (client, connection) = database::open(args.database_url).await?;
    let work = async move {
        if args.down {
            migrate::down(&client).await.map(|()| None)
        } else {
            migrate::install(&client, names).await?;
            migrate::may_watch(&client).await.map(Some)
        }
    };
    // The connection ends when `work` drops its client. Why a connection broke is in the error
    // of the statement that it broke.
    let (done, _) = tokio::join!(work, connection);
    let Some(may_watch) = done? else {
        println!("The kit is gone.");
        return Ok(ExitCode::SUCCESS);
    };
    println!("The kit is installed, version {}.", migrate::KIT_VERSION);
    println!("{}", if may_watch { WATCH } else { NO_WATCH });
    Ok(ExitCode::SUCCESS)
}

const WATCH: &str = "New tables: this role may make event triggers. \
    select cloison.watch_schema('public', 'protect') has them protected as they are made.";

const NO_WATCH: &str = "New tables: this role may not make event triggers, which takes a superuser. \
    They are found when lint runs next: `cloison lint`, and `cloison serve` every lint_interval.";
