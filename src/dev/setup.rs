//! Prepares a database for the proxy: logins, the kit, the sample application.
//!
//! Everything here may be repeated: what is there already stays, and passwords are set again.

use std::error::Error as StdError;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, NoTls};

use super::cluster::Cluster;
use super::logins::{Login, Logins};
use crate::config::ServerAddress;
use crate::kit::logins::set_password;
use crate::kit::place;
use crate::tls;
use crate::types::{Secret, TenantId};

/// A database that is ready for the proxy.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where Postgres is.
    pub address: ServerAddress,
    /// The database's name.
    pub name: String,
    /// How the proxy is to connect, in the configuration's word.
    pub tls_mode: &'static str,
}

/// A tenant that can be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
}

/// Whether the sample application is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sample {
    /// The kit alone.
    Without,
    /// The sample's tables, tenants and rows too.
    With,
}

/// Why the database could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server did not let us in.
    #[error("could not connect to the database as {user}: {}", told(source))]
    Connect {
        /// As whom.
        user: String,
        /// Why not.
        source: tokio_postgres::Error,
    },
    /// The server of `--database-url` was not reached, or did not let us in: where, and why.
    #[error("{0}")]
    Unreachable(String),
    /// Hardening failed as a whole.
    #[error("{0}")]
    Harden(BoxError),
    /// The kit's own files failed.
    #[error("could not install the kit: {0}")]
    Kit(BoxError),
    /// Something that the set-up needs is missing in the URL.
    #[error("--database-url has to name {0}")]
    Incomplete(&'static str),
    /// Postgres refused a statement.
    #[error("could not {doing}: {}", told(source))]
    Statement {
        /// What was tried, as a verb.
        doing: &'static str,
        /// Postgres' answer.
        source: tokio_postgres::Error,
    },
    /// TLS was demanded, which this verb does not speak.
    #[error(
        "TLS is for servers elsewhere, and `cloison dev` is for this machine: \
             prepare the database with `cloison install`, and use `cloison serve`"
    )]
    Tls,
    /// The URL cannot be read. It is not repeated: it may hold a password.
    #[error("--database-url cannot be read")]
    Url(#[source] tls::UrlError),
}

/// What the installer of the kit, and what hardens the database, may answer.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Prepares the database `app` of a private cluster, with the sample application. Answers a
/// connection of the owner too. The owner installs; the superuser hardens, who alone may.
pub async fn private(
    cluster: &Cluster,
    logins: &Logins,
    install: impl AsyncFn(&Client) -> Result<(), BoxError>,
    harden: impl AsyncFn(&Client) -> Result<(), BoxError>,
) -> Result<(Database, Client), Error> {
    let server = connect_superuser(cluster, "postgres").await?;
    run(&server, "create the owner's login", &login_sql(&logins.owner, "createrole")).await?;
    let exists = "select from pg_catalog.pg_database where datname = 'app'";
    let exists = server.query_opt(exists, &[]).await;
    if exists.map_err(|source| Error::statement("look for the database app", source))?.is_none() {
        let create = format!("create database app owner {}", logins.owner.user);
        run(&server, "create the database app", &create).await?;
    }

    let superuser = connect_superuser(cluster, "app").await?;
    // Up to version 14 everybody may create there, and the database's owner does not own it.
    let public = format!(
        "revoke create on schema public from public; grant all on schema public to {}",
        logins.owner.user
    );
    run(&superuser, "close the schema public", &public).await?;

    let password = logins.owner.password.as_ref().map_or("", |password| password.expose());
    let owner = cluster
        .connect("app", &logins.owner.user, password)
        .await
        .map_err(|source| Error::Connect { user: logins.owner.user.clone(), source })?;
    install(&owner).await.map_err(Error::Kit)?;
    install_sample(&owner).await?;
    create_logins(&superuser, logins).await?;
    harden(&superuser).await.map_err(Error::Harden)?;
    let address = ServerAddress::Tcp(cluster.host().to_owned(), cluster.port());
    Ok((Database { address, name: "app".to_owned(), tls_mode: "disable" }, owner))
}

/// Prepares the database behind `url`, whose user is a superuser, or owns it and has CREATEROLE.
/// That user becomes the owner among `logins`; the connection is theirs.
pub async fn existing(
    url: &str,
    logins: &mut Logins,
    sample: Sample,
    install: impl AsyncFn(&Client) -> Result<(), BoxError>,
    harden: impl AsyncFn(&Client) -> Result<(), BoxError>,
) -> Result<(Database, Client), Error> {
    let (config, _) = tls::parse_url(url).map_err(Error::Url)?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(Error::Tls);
    }
    let user = config.get_user().ok_or(Error::Incomplete("a user"))?.to_owned();
    let name = config.get_dbname().unwrap_or(&user).to_owned();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let address = match config.get_hosts().first().ok_or(Error::Incomplete("a host"))? {
        Host::Tcp(host) => ServerAddress::Tcp(host.clone(), port),
        Host::Unix(folder) => ServerAddress::Unix(folder.clone(), port),
    };
    let password = config
        .get_password()
        .map(|password| Secret::new(String::from_utf8_lossy(password).into_owned()));

    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(|error| Error::Unreachable(place::cannot_connect(&config, &error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the database ended");
        }
    });
    install(&client).await.map_err(Error::Kit)?;
    match sample {
        Sample::With => install_sample(&client).await?,
        Sample::Without => {}
    }
    create_logins(&client, logins).await?;
    harden(&client).await.map_err(Error::Harden)?;
    logins.owner = Login { user, password };
    Ok((Database { address, name, tls_mode: "disable" }, client))
}

/// The tenants that can be served, besides the one that stands for none.
pub async fn tenants(client: &Client) -> Result<Vec<Tenant>, Error> {
    let rows = client
        .query(
            "select id, slug, name from cloison.tenants \
             where status = 'active' and slug <> 'system-default' order by created_at, slug",
            &[],
        )
        .await
        .map_err(|source| Error::statement("list the tenants", source))?;
    let tenants = rows.iter().map(|row| {
        let id = TenantId::new(row.try_get(0)?);
        Ok(Tenant { id, slug: row.try_get(1)?, name: row.try_get(2)? })
    });
    tenants.collect::<Result<_, _>>().map_err(|source| Error::statement("read the tenants", source))
}

async fn connect_superuser(cluster: &Cluster, database: &str) -> Result<Client, Error> {
    cluster
        .connect_superuser(database)
        .await
        .map_err(|source| Error::Connect { user: cluster.superuser().to_owned(), source })
}

async fn install_sample(client: &Client) -> Result<(), Error> {
    run(client, "create the sample's tables", include_str!("../../sql/sample/schema.sql")).await?;
    run(client, "write the sample's rows", include_str!("../../sql/sample/rows.sql")).await
}

/// Logins for the proxy, each a member of exactly one of the kit's groups.
async fn create_logins(client: &Client, logins: &Logins) -> Result<(), Error> {
    for (login, group) in [
        (&logins.tenant, "cloison_tenant"),
        (&logins.superadmin, "cloison_superadmin"),
        (&logins.control, "cloison_control"),
    ] {
        run(client, "create the proxy's logins", &login_sql(login, "")).await?;
        // Granting twice is a notice on some versions.
        let grant = format!(
            "set client_min_messages = warning; grant {group} to {user}; \
             reset client_min_messages",
            user = login.user
        );
        run(client, "make the proxy's logins members of the kit's groups", &grant).await?;
    }
    Ok(())
}

/// Creates the role unless it exists, and sets its password, of which only the verifier travels.
///
/// The names are constants of ours, so they need no escaping.
fn login_sql(login: &Login, options: &str) -> String {
    let user = &login.user;
    let password = login.password.as_ref().map_or("", |password| password.expose());
    let set_password = set_password(user, options, password);
    format!(
        "do $$ begin
            if not exists (select from pg_catalog.pg_roles where rolname = '{user}') then
                create role {user};
            end if;
        end $$;
        {set_password}"
    )
}

async fn run(client: &Client, doing: &'static str, sql: &str) -> Result<(), Error> {
    client.batch_execute(sql).await.map_err(|source| Error::statement(doing, source))
}

impl Error {
    fn statement(doing: &'static str, source: tokio_postgres::Error) -> Self {
        Self::Statement { doing, source }
    }
}

/// The server's own words, which `tokio_postgres::Error` keeps to itself when displayed.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    if let Some(told) = error.as_db_error() {
        let hint = told.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        return format!("{}{hint} [{}]", told.message(), told.code().code());
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
