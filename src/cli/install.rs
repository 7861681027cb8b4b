//! `cloison install`: puts the SQL kit into a database, or takes it away.

use std::process::ExitCode;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use crate::kit::harden::{self, Report};
use crate::kit::migrate::{self, PublicNames};
use crate::types::Secret;

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

    /// Also put set_tenant(), get_current_tenant(), is_superadmin(), enable_superadmin_mode() and a
    /// view `tenants` into the schema public.
    #[arg(long)]
    compat: bool,

    /// Take nothing from PUBLIC.
    #[arg(long, conflicts_with = "allow")]
    no_harden: bool,

    /// Let tenants have this in spite of hardening: the name of a function, a view or a language,
    /// or of a whole line in the report, such as temporary. It is remembered. Can be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "down")]
    allow: Vec<String>,

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
    /// Neither a URL nor the `DB_…` variables.
    #[error("which database? Give --database-url, or set DB_HOST, DB_NAME and DB_USER")]
    NoDatabase,
    /// The URL cannot be read. It is not repeated: it may hold a password.
    #[error("--database-url cannot be read")]
    Url(#[source] tokio_postgres::Error),
    /// `DB_PORT` is not a port.
    #[error("DB_PORT is not a port number: {0:?}")]
    Port(String),
    /// TLS was demanded, which this verb does not speak yet.
    #[error(
        "sslmode=require is not supported here; \
         run `cloison install --print | psql --set ON_ERROR_STOP=1 URL` instead"
    )]
    Tls,
    /// The server did not let us in.
    #[error("could not connect to the database")]
    Connect(#[source] tokio_postgres::Error),
    /// A file of the kit failed.
    #[error(transparent)]
    Migrate(#[from] migrate::Error),
    /// The kit is in, and nothing is hardened.
    #[error(transparent)]
    Harden(#[from] harden::Error),
}

/// Does what the arguments say; what was done is told on standard output.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let names = if args.compat { PublicNames::With } else { PublicNames::Without };
    if args.print {
        print!("{}", printed(&args, names));
        return Ok(ExitCode::SUCCESS);
    }

    let config = match args.database_url {
        Some(url) => url.parse().map_err(Error::Url)?,
        None => Environment::read().config()?,
    };
    if config.get_ssl_mode() == SslMode::Require {
        return Err(Error::Tls);
    }
    let (client, connection) = config.connect(NoTls).await.map_err(Error::Connect)?;
    let work = async move {
        if args.down {
            migrate::down(&client).await?;
            return Ok(Done::Gone);
        }
        migrate::install(&client, names).await?;
        if args.no_harden {
            return Ok(Done::Installed(None));
        }
        Ok::<_, Error>(Done::Installed(Some(harden::harden(&client, &args.allow).await?)))
    };
    // The connection ends when `work` drops its client. Why a connection broke is in the error
    // of the statement that it broke.
    let (done, _) = tokio::join!(work, connection);
    done?.tell();
    Ok(ExitCode::SUCCESS)
}

/// The SQL that does the same.
fn printed(args: &Args, names: PublicNames) -> String {
    if args.down {
        return migrate::print_down();
    }
    let mut sql = migrate::print(names);
    if !args.no_harden {
        sql.push_str(&harden::print(&args.allow));
    }
    sql
}

/// What was done.
enum Done {
    Gone,
    /// With what hardening reports, unless it was not wanted.
    Installed(Option<Report>),
}

impl Done {
    fn tell(&self) {
        let Self::Installed(report) = self else {
            println!("The kit is gone.");
            return;
        };
        println!("The kit is installed, version {}.", migrate::KIT_VERSION);
        let Some(report) = report else { return };
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

/// The variables that deployment scripts commonly set for a database.
#[derive(Debug, Default)]
struct Environment {
    host: Option<String>,
    port: Option<String>,
    name: Option<String>,
    user: Option<String>,
    password: Option<Secret<String>>,
}

impl Environment {
    fn read() -> Self {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            host: read("DB_HOST"),
            port: read("DB_PORT"),
            name: read("DB_NAME"),
            user: read("DB_USER"),
            password: read("DB_PASSWORD").map(Secret::new),
        }
    }

    fn config(self) -> Result<Config, Error> {
        let (Some(host), Some(name), Some(user)) = (self.host, self.name, self.user) else {
            return Err(Error::NoDatabase);
        };
        let mut config = Config::new();
        config.host(host).dbname(name).user(user);
        if let Some(port) = self.port {
            config.port(port.parse().map_err(|_| Error::Port(port))?);
        }
        if let Some(password) = self.password {
            config.password(password.expose());
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            host: Some("db".into()),
            name: Some("app".into()),
            user: Some("owner".into()),
            ..Environment::default()
        }
    }

    #[test]
    fn the_environment_is_enough_to_connect() {
        let mut environment = environment();
        environment.port = Some("5433".into());
        environment.password = Some(Secret::new("p".into()));
        let config = environment.config().unwrap();
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_dbname(), Some("app"));
        assert_eq!(config.get_password(), Some(&b"p"[..]));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        assert!(matches!(Environment::default().config(), Err(Error::NoDatabase)));
        let wrong = Environment { port: Some("x".into()), ..environment() };
        assert!(matches!(wrong.config(), Err(Error::Port(port)) if port == "x"));
    }
}
