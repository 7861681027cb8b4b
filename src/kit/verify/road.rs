//! A way into the database, by its URL.

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::Error;
use crate::tls::{self, Tls, UrlError};

/// A way into the database.
#[derive(Clone, Debug)]
pub struct Road {
    pub(super) who: String,
    pub(super) config: Config,
    pub(super) tls: Tls,
}

impl Road {
    /// Reads the URL of a road through the proxy; `who` names it in messages.
    ///
    /// # Errors
    ///
    /// It is no URL, or demands TLS.
    pub fn new(who: &str, url: &str) -> Result<Self, Error> {
        let mut road = Self::straight(who, url)?;
        if road.config.get_ssl_mode() == SslMode::Require {
            return Err(Error::Tls);
        }
        // Single messages go there, too, and both in the same way.
        road.config.ssl_mode(SslMode::Disable);
        Ok(road)
    }

    /// Reads the URL of a road straight to the database, over TLS if it says so.
    ///
    /// # Errors
    ///
    /// It is no URL, or has options that cannot be used.
    pub fn straight(who: &str, url: &str) -> Result<Self, Error> {
        let (mut config, tls) = tls::parse_url(url).map_err(|error| match error {
            UrlError::Config(_) => Error::Url(who.to_owned()),
            other @ (UrlError::Mode(_)
            | UrlError::Weak(_)
            | UrlError::Identity
            | UrlError::Files(_)) => Error::Options(who.to_owned(), other),
        })?;
        config.application_name("cloison verify");
        Ok(Self { who: who.to_owned(), config, tls })
    }
}
