//! The database that a verb of the kit works on, straight and not through the proxy.

use tokio_postgres::{Client, Config, Connection, Socket};

use crate::kit::place;
use crate::tls::{self, Encrypted, Tls};
use crate::types::Secret;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a URL nor the `DB_…` variables.
    #[error("which database? Give --database-url, or set DB_HOST, DB_NAME and DB_USER")]
    NoDatabase,
    /// The URL cannot be read. It is not repeated: it may hold a password.
    #[error("--database-url cannot be read")]
    Url(#[source] tls::UrlError),
    /// `DB_SSLMODE` and what belongs to it.
    #[error("DB_SSLMODE, DB_SSLROOTCERT, DB_SSLCERT and DB_SSLKEY cannot be used")]
    Tls(#[source] tls::UrlError),
    /// `DB_PORT` is not a port.
    #[error("DB_PORT is not a port number: {0:?}")]
    Port(String),
    /// The server was not reached, or did not let us in: where, and why.
    #[error("{0}")]
    Connect(String),
}

/// A database as the URL or the environment names it.
#[derive(Debug)]
pub struct Target {
    /// How the driver connects. Holds the password.
    pub config: Config,
    /// How TLS is begun.
    pub tls: Tls,
}

impl Target {
    /// Reads the URL or, without one, the environment.
    ///
    /// # Errors
    ///
    /// Says what is missing or wrong.
    pub fn read(url: Option<String>) -> Result<Self, Error> {
        let (config, tls) = match url {
            Some(url) => tls::parse_url(&url).map_err(Error::Url)?,
            None => Environment::read().config()?,
        };
        Ok(Self { config, tls })
    }

    /// Connects. The connection has to be polled.
    ///
    /// # Errors
    ///
    /// The server did not answer as hoped.
    pub async fn open(&self) -> Result<(Client, Connection<Socket, Encrypted>), Error> {
        let connected = self.config.connect(self.tls.clone()).await;
        connected.map_err(|error| Error::Connect(place::cannot_connect(&self.config, &error)))
    }
}

/// Connects as the URL says or, without one, the environment. The connection has to be polled.
///
/// # Errors
///
/// Says what is missing, or that the server did not answer as hoped.
pub async fn open(url: Option<String>) -> Result<(Client, Connection<Socket, Encrypted>), Error> {
    Target::read(url)?.open().await
}

/// What the server or the system said, in one line.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    place::cause(error)
}

/// The variables that deployment scripts commonly set for a database.
#[derive(Debug, Default)]
struct Environment {
    host: Option<String>,
    port: Option<String>,
    name: Option<String>,
    user: Option<String>,
    password: Option<Secret<String>>,
    tls: tls::Options,
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
            tls: tls::Options {
                mode: read("DB_SSLMODE"),
                authorities: read("DB_SSLROOTCERT"),
                certificate: read("DB_SSLCERT"),
                key: read("DB_SSLKEY"),
            },
        }
    }

    fn config(self) -> Result<(Config, Tls), Error> {
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
        let tls = self.tls.apply(&mut config).map_err(Error::Tls)?;
        Ok((config, tls))
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

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
        environment.tls.mode = Some("require".into());
        let (config, _) = environment.config().unwrap();
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_dbname(), Some("app"));
        assert_eq!(config.get_password(), Some(&b"p"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        assert!(matches!(Environment::default().config(), Err(Error::NoDatabase)));
        let wrong = Environment { port: Some("x".into()), ..environment() };
        assert!(matches!(wrong.config(), Err(Error::Port(port)) if port == "x"));
        let mut wrong = environment();
        wrong.tls.mode = Some("on".into());
        assert!(matches!(wrong.config(), Err(Error::Tls(_))));
    }
}
