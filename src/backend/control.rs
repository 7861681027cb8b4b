//! The proxy's own connection: reads the key and the tenants, writes the audit log.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::{Mutex, Notify};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::connect::{Error as ConnectError, Target, is_away};
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

impl Error {
    /// Whether Postgres is away for now.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_away(),
            Self::Login(error) => is_away(error),
        }
    }
}

/// One connection as the control role, opened when needed and again when lost.
pub struct Control {
    target: Target,
    client: Mutex<Option<Arc<Client>>>,
    /// Told of each notification, if anybody listens.
    wake: Option<Arc<Notify>>,
}

const LISTEN: &str = include_str!("../../sql/control/listen.sql");

impl Control {
    /// Prepares the connection; nothing is opened yet.
    pub const fn new(target: Target) -> Self {
        Self { target, client: Mutex::const_new(None), wake: None }
    }

    /// The same, and it hears of changes.
    pub fn listening(target: Target) -> Self {
        Self { wake: Some(Arc::default()), ..Self::new(target) }
    }

    /// Resolves when there was a notification, whoever sent it. What it says is not looked at.
    pub async fn woken(&self) {
        match &self.wake {
            Some(wake) => wake.notified().await,
            None => std::future::pending().await,
        }
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
        let (client, mut connection) =
            config.connect_raw(socket, NoTls).await.map_err(Error::Login)?;
        let wake = self.wake.clone();
        tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => {
                        wake.iter().for_each(|wake| wake.notify_one());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "control connection lost");
                        return;
                    }
                    None => return,
                }
            }
        });
        // Whoever cannot be told asks a little later.
        if self.wake.is_some()
            && let Err(error) = client.batch_execute(LISTEN).await
        {
            tracing::debug!(%error, "notifications cannot be heard");
        }
        Ok(client)
    }
}
