//! `cloison init`: makes a database and a folder ready for `cloison serve`.
//!
//! Files are staged beside their places, roles are made in one transaction, and the files are moved
//! into place once that is committed: what fails before leaves neither roles nor files.

mod choices;
mod next;
mod place;
mod questions;
mod roles;
mod rotate;
mod text;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config as Driver, Error as Postgres};

use super::database::{self, Target};
use super::install;
use crate::config;
use crate::files::Staged;
use crate::kit::logins::{Found, Login, random_password};
use crate::kit::rights::Rights;
use crate::types::{Access, Secret};
use choices::{Answers, Choices};
use place::{File, Place};
use roles::make;
use text::{Account, Server};

pub(super) use place::service_group;

/// Makes a database and this folder ready for `cloison serve`.
///
/// Installs the kit as `cloison install` does, makes the proxy's roles with random passwords, and
/// writes cloison.toml, cloison.env with the passwords, and jwt.secret. Run it as the owner of the
/// database, a role with CREATEROLE, or as a superuser. It asks on a terminal; with options, or
/// without a terminal, it does not. Nothing that is there is replaced, unless --force or --rotate
/// says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database: postgres://user:password@host:port/name, or libpq's key=value words. Without
    /// it: DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The folder for the files. In /etc/cloison, the group cloison may read them, too
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Ask nothing: take the defaults
    #[arg(long)]
    yes: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Give roles that init made new passwords. With a cloison.toml, nothing else is changed but
    /// the passwords in cloison.env
    #[arg(long)]
    rotate: bool,
    /// How the roles' names begin [default: the database's name]: shop_tenant, shop_proxy
    #[arg(long, value_name = "NAME")]
    role_prefix: Option<String>,
    /// Super-admins connect, too: makes a role for them
    #[arg(long)]
    superadmin: bool,
    /// Migrations go through the proxy, too: as the role of --database-url, whose password is then
    /// in cloison.env
    #[arg(long)]
    owner: bool,
    #[command(flatten)]
    answers: Answers,
    #[command(flatten)]
    options: install::Options,
}

/// Why `cloison init` gave up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// An option is missing, or does not go with another.
    #[error("{0}")]
    Options(String),
    /// The configuration that the options make is refused.
    #[error("these options make no usable configuration:\n{0}")]
    Config(config::Errors),
    /// The folder cannot be used.
    #[error("cannot use the folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Files are there already.
    #[error(
        "there already: {0}. Nothing was changed. --force replaces them, --rotate gives the roles \
         new passwords and keeps the rest, --dir chooses another folder"
    )]
    Exists(String),
    /// A role of that name is there, and not ours.
    #[error(
        "the role {0} is there, and cloison init did not make it for this database: it is left as \
         it is. --role-prefix chooses other names"
    )]
    Foreign(String),
    /// A role is there that init made before.
    #[error(
        "cloison init has made the role {0} before. --rotate gives it a new password, which a \
         proxy that is running needs to be told"
    )]
    Made(String),
    /// The role lacks rights.
    #[error("{0}")]
    Rights(String),
    /// The questions were not answered.
    #[error("the questions were not answered: {0}. Nothing was changed")]
    Asking(#[source] io::Error),
    /// It stopped on the way.
    #[error("could not {doing}: {why}\n{done}")]
    Stopped {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The reason.
        why: String,
        /// What was done before, and what a second run does.
        done: &'static str,
    },
}

impl Error {
    /// Whether other options are the cure.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Options(_) | Self::Config(_))
    }
}

/// Nothing but the kit was touched.
const ONLY_KIT: &str =
    "The kit is installed; no role was made and no file written. Run the same command again.";

/// Nothing was touched.
const NOTHING: &str = "Nothing was changed.";

/// The roles are there, the files perhaps not.
const ROLES: &str = "The roles are made, and their passwords may be lost: not every file is in its place. Run the \
     same command again with --force --rotate.";

/// Does what the arguments say; what was done is told on standard output.
///
/// # Errors
///
/// Says what was done before it stopped.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let target = Target::read(args.database_url.clone())?;
    let place = Place::open(&args.dir)
        .map_err(|source| Error::Folder { folder: args.dir.clone(), source })?;
    let keeps_configuration = args.rotate && !args.force && place.exists(File::Configuration);
    if !keeps_configuration {
        refuse_existing(&args, &place)?;
    }
    let (client, connection) = target.open().await?;
    let connection = tokio::spawn(connection);
    let done = match keeps_configuration {
        true => rotate::run(&client, &target, &place).await,
        false => Init { args, target, place }.run(&client).await,
    };
    drop(client);
    // Why it broke is in the error of the statement that it broke.
    let _ = connection.await;
    // Whether somebody reads it changes nothing.
    let _ = io::stdout().write_all(done?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Nothing that is there is replaced by accident.
fn refuse_existing(args: &Args, place: &Place) -> Result<(), Error> {
    let replaced = |file: &File| match file {
        // The passwords in it are replaced, and nothing else.
        File::Environment => args.force || args.rotate,
        File::Configuration | File::Secret => args.force,
    };
    let there = File::ALL.into_iter().filter(|file| place.exists(*file) && !replaced(file));
    let there: Vec<String> = there.map(|file| place.shown(file)).collect();
    if there.is_empty() { Ok(()) } else { Err(Error::Exists(there.join(", "))) }
}

/// An initialisation from the start.
struct Init {
    args: Args,
    target: Target,
    place: Place,
}

impl Init {
    async fn run(self, client: &Client) -> Result<String, Error> {
        let rights = Rights::read(client).await.map_err(stopped("ask for rights", NOTHING))?;
        if let Some(missing) = rights.missing() {
            return Err(Error::Rights(missing));
        }
        let logins = self.find_logins(client, &rights.database).await?;
        let answers = self.answers(&rights.database)?;
        let choices = Choices::new(answers, &rights.database).map_err(Error::Options)?;
        let accounts = self.accounts(&logins, &rights);
        let server = server(&self.target, &rights.database)?;
        check(&server, &accounts, &choices)?;
        let staged = self.stage(&server, &accounts, &choices)?;

        let installed = self.args.options.install(client).await;
        let installed = installed.map_err(|error| Error::Stopped {
            doing: "install the kit",
            why: super::report(&error),
            done: "No role was made and no file written. Run the same command again.",
        })?;
        let made = make(client, &rights, &logins, &accounts, choices.tenant.as_deref());
        let public = match made.await {
            Ok(public) => public,
            Err(error) => {
                // Where the connection is lost there is nothing left to undo.
                let _ = client.batch_execute("rollback").await;
                return Err(error);
            }
        };
        for staged in staged {
            staged.place().map_err(stopped("move a file into its place", ROLES))?;
        }
        let tenants = crate::dev::setup::tenants(client).await.unwrap_or_default();
        Ok(next::report(&next::Done {
            place: &self.place,
            server: &server,
            accounts: &accounts,
            choices: &choices,
            installed: &installed,
            public,
            tenant: tenants.first().map(|tenant| tenant.slug.clone()),
        }))
    }

    /// The roles to make, each with what is there already.
    async fn find_logins(
        &self,
        client: &Client,
        database: &str,
    ) -> Result<Vec<(Login, Found)>, Error> {
        let prefix = self.args.role_prefix.clone().unwrap_or_else(|| prefix_of(database));
        let mut wanted = vec![
            Login { role: format!("{prefix}_proxy"), access: None },
            Login { role: format!("{prefix}_tenant"), access: Some(Access::Tenant) },
        ];
        if self.args.superadmin {
            let role = format!("{prefix}_superadmin");
            wanted.push(Login { role, access: Some(Access::Superadmin) });
        }
        let mut logins = Vec::new();
        for login in wanted {
            let found = login.find(client, database).await;
            let found = found.map_err(stopped("look for roles", NOTHING))?;
            match found {
                Found::Foreign => return Err(Error::Foreign(login.role)),
                Found::Ours if !self.args.rotate => return Err(Error::Made(login.role)),
                Found::Ours | Found::Nothing => logins.push((login, found)),
            }
        }
        Ok(logins)
    }

    fn answers(&self, database: &str) -> Result<Answers, Error> {
        let given = self.args.answers.clone();
        let is_watched = io::stdin().is_terminal() && io::stdout().is_terminal();
        if self.args.yes || given.is_any_given() || !is_watched {
            return Ok(given);
        }
        questions::ask(database, &mut io::stdin().lock(), &mut io::stdout().lock())
            .map_err(Error::Asking)
    }

    fn accounts(&self, logins: &[(Login, Found)], rights: &Rights) -> Vec<Account> {
        let account = |(login, _): &(Login, Found)| Account {
            access: login.access,
            role: login.role.clone(),
            password: Some(random_password()),
        };
        let mut accounts: Vec<Account> = logins.iter().map(account).collect();
        if self.args.owner {
            let password = self.target.config.get_password();
            let password = password.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            accounts.push(Account {
                access: Some(Access::Owner),
                role: rights.user.clone(),
                password: password.map(Secret::new),
            });
        }
        accounts
    }

    fn stage(
        &self,
        server: &Server,
        accounts: &[Account],
        choices: &Choices,
    ) -> Result<Vec<Staged>, Error> {
        let failed = || stopped::<io::Error>("write the files", NOTHING);
        let secret_line = text::secret_file(&self.place.path(File::Secret));
        let configuration = text::configuration(server, accounts, choices, &secret_line);
        let environment = text::environment(None, accounts);
        let mut staged = vec![
            self.place.stage(File::Configuration, &configuration).map_err(failed())?,
            self.place.stage(File::Environment, &environment).map_err(failed())?,
        ];
        if choices.uses_secret() {
            let secret = format!("{}\n", random_password().expose());
            staged.push(self.place.stage(File::Secret, &secret).map_err(failed())?);
        }
        Ok(staged)
    }
}

/// Whether the configuration would be accepted; asked before anything is changed.
fn check(server: &Server, accounts: &[Account], choices: &Choices) -> Result<(), Error> {
    let some_secret = format!("secret = \"{}\"", random_password().expose());
    let text = text::configuration(server, accounts, choices, &some_secret);
    config::parse(&text, std::iter::empty()).map(drop).map_err(Error::Config)
}

/// The database as the proxy will reach it: as this program did.
fn server(target: &Target, database: &str) -> Result<Server, Error> {
    let driver: &Driver = &target.config;
    let host = match driver.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => return Err(Error::Options("the database's URL has to name a host".to_owned())),
    };
    let ca_file = target.tls.ca_file().map(|file| {
        let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        file.display().to_string()
    });
    Ok(Server {
        host,
        port: driver.get_ports().first().copied().unwrap_or(5432),
        database: database.to_owned(),
        tls_mode: target.tls.mode(),
        ca_file,
    })
}

fn stopped<E: Told>(doing: &'static str, done: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Stopped { doing, why: error.told(), done }
}

/// An error in one line.
trait Told {
    fn told(&self) -> String;
}

impl Told for Postgres {
    fn told(&self) -> String {
        database::told(self)
    }
}

impl Told for io::Error {
    fn told(&self) -> String {
        self.to_string()
    }
}

/// A role's name begins like this: as the database's, with nothing that needs quotes.
fn prefix_of(database: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    // Postgres cuts names at 63 bytes.
    let name: String = database.chars().map(plain).take(40).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("db_{name}"),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_need_no_quotes() {
        for (database, expected) in
            [("shop", "shop"), ("Shop-EU", "shop_eu"), ("2go", "db_2go"), ("é", "_")]
        {
            assert_eq!(prefix_of(database), expected);
        }
        assert_eq!(prefix_of(&"x".repeat(63)).len(), 40);
    }
}
