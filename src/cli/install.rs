//! `cloison install`: puts the SQL kit into a database, or takes it away.

use std::process::ExitCode;

use tokio_postgres::Client;

use super::database;
use crate::kit::harden::{self, Report};
use crate::kit::migrate::{self, Compat};

/// Installs the SQL kit: roles, tables, functions and policies in the schema `cloison`.
///
/// Without --database-url it connects as DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD say.
/// Run it as a role that owns the database and has CREATEROLE, or as a superuser. Where the kit is
/// installed already, nothing changes.
///
/// Then it hardens the database: it takes from everybody, and so from tenants, what leads to the
/// sessions of others or tells of their rows. Most of that only a superuser may; what could not be
/// done is listed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database: postgres://user:password@host:port/name, or libpq's key=value words.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,

    #[command(flatten)]
    options: Options,

    /// Print the SQL and change nothing. Pipe it into psql to install without this program.
    #[arg(long)]
    print: bool,

    /// Take the kit away. Protected tables keep their rows, and tenants lose their rights on them.
    #[arg(long, conflicts_with = "allow")]
    down: bool,
}

/// What is installed besides the kit, and how far the database is hardened.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Other names besides. `public`, or nothing: set_tenant(), get_current_tenant(),
    /// is_superadmin(), enable_superadmin_mode() and a view `tenants` in the schema public.
    /// `supabase`: auth.uid(), auth.jwt(), auth.role() and auth.email() for policies.
    #[arg(
        long,
        value_enum,
        value_name = "NAMES",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_value = "public"
    )]
    compat: Vec<Names>,

    /// Take nothing from PUBLIC.
    #[arg(long, conflicts_with = "allow")]
    no_harden: bool,

    /// Let tenants have this in spite of hardening: the name of a function, a view or a language,
    /// or of a whole line in the report, such as temporary. It is remembered. Can be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow: Vec<String>,
}

/// What an installation did.
#[derive(Debug)]
pub struct Installed {
    /// True where this role may have new tables seen as they are made.
    pub may_watch: bool,
    /// What hardening reports, unless it was not wanted.
    pub hardening: Option<Report>,
}

impl Options {
    fn names(&self) -> Vec<Compat> {
        self.compat.iter().map(|names| (*names).into()).collect()
    }

    /// Installs the kit and hardens the database.
    ///
    /// # Errors
    ///
    /// The role may not, or a name in `--allow` is unknown.
    pub async fn install(&self, client: &Client) -> Result<Installed, Error> {
        migrate::install(client, &self.names(), tell).await?;
        let may_watch = migrate::may_watch(client).await?;
        let hardening = match self.no_harden {
            true => None,
            false => Some(harden::harden(client, &self.allow).await?),
        };
        Ok(Installed { may_watch, hardening })
    }
}

/// Long work shows that it goes on.
fn tell(waiting: migrate::Waiting) {
    eprintln!(
        "{}: waiting for a lock that another transaction holds (tried {} times)",
        waiting.file, waiting.tries
    );
}

/// What `--compat` takes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Names {
    /// Those of the kit, without its schema.
    Public,
    /// Those of Supabase's policies.
    Supabase,
}

impl From<Names> for Compat {
    fn from(names: Names) -> Self {
        match names {
            Names::Public => Self::Public,
            Names::Supabase => Self::Supabase,
        }
    }
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
    /// The kit is in, and nothing is hardened.
    #[error(transparent)]
    Harden(#[from] harden::Error),
}

/// Does what the arguments say; what was done is told on standard output.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    if args.print {
        print!("{}", printed(&args));
        return Ok(ExitCode::SUCCESS);
    }

    let (client, connection) = database::open(args.database_url).await?;
    let work = async move {
        if args.down {
            migrate::down(&client, tell).await?;
            return Ok(Done::Gone);
        }
        args.options.install(&client).await.map(Done::Installed)
    };
    // The connection ends when `work` drops its client. Why a connection broke is in the error
    // of the statement that it broke.
    let (done, _) = tokio::join!(work, connection);
    done?.tell();
    Ok(ExitCode::SUCCESS)
}

/// The SQL that does the same.
fn printed(args: &Args) -> String {
    if args.down {
        return migrate::print_down();
    }
    let mut sql = migrate::print(&args.options.names());
    if !args.options.no_harden {
        sql.push_str(&harden::print(&args.options.allow));
    }
    sql
}

/// What was done.
enum Done {
    Gone,
    Installed(Installed),
}

impl Done {
    fn tell(&self) {
        let Self::Installed(Installed { may_watch, hardening }) = self else {
            println!("The kit is gone.");
            return;
        };
        println!("The kit is installed, version {}.", migrate::KIT_VERSION);
        println!("{}", if *may_watch { WATCH } else { NO_WATCH });
        let Some(report) = hardening else { return };
        print!("\n{report}");
        let open = report.open();
        if open > 0 {
            println!(
                "\n{open} rights stay open to tenants. A superuser closes them with: \
                 select * from cloison.harden()"
            );
        }
    }
}

const WATCH: &str = "New tables: this role may make event triggers. \
    select cloison.watch_schema('public', 'protect') has them protected as they are made.";

const NO_WATCH: &str = "New tables: this role may not make event triggers, which takes a superuser. \
    They are found when lint runs next: `cloison lint`, and `cloison serve` every lint_interval.";
