//! The proxy's own connection: reads the key and the tenants, writes the audit log.

use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

use std::sync::Arc;

use super::connect::{Error as ConnectError, Target};
use crate::types::Secret;

/// Why the proxy's own statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error("the control connection cannot be opened")]
    Connect(#[from] ConnectError),
    /// Postgres did not let the control role in.
    #[error("the control role cannot log in")]
    Login(#[source] tokio_postgres::Error),
}

/// One connection as the control role, opened when needed and again when lost.
pub struct Control {
    target: Target,
    client: Mutex<Option<Arc<Client>>>,
}

impl Control {
    /// Prepares the connection; nothing is opened yet.
    pub const fn new(target: Target) -> Self {
        Self { target, client: Mutex::const_new(None) }
    }

    /// Another connection of the same role.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(self.target.clone())
    }

    /// The connection, opened again if it was lost.
    ///
    /// # Errors
    ///
    /// Fails when Postgres cannot be reached or refuses the login.
    pub async fn client(&self) -> Result<Arc<Client>, Error> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.target.within_timeout(self.open()).await?);
        *slot = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn open(&self) -> Result<Client, Error> {
        let socket = self.target.dial().await?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(self.target.user())
            .dbname(self.target.database())
            .application_name("cloison control")
            // The socket has its TLS already.
            .ssl_mode(tokio_postgres::config::SslMode::Disable);
        if let Some(password) = self.target.password().map(Secret::expose) {
            config.password(password);
        }
        let (client, connection) = config.connect_raw(socket, NoTls).await.map_err(Error::Login)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "control connection lost");
            }
        });
        Ok(client)
    }
}
