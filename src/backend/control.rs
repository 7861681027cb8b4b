//! The proxy's own connection: reads the key and the tenants, writes the audit log.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::runtime::Handle;
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
    /// The program ends.
    #[error("the program ends")]
    Ending,
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
            Self::Ending => false,
        }
    }
}

/// One connection as the control role, opened when needed and again when lost.
pub struct Control {
    target: Target,
    client: Mutex<Option<Arc<Client>>>,
    /// Told of each notification, if anybody listens.
    wake: Option<Arc<Notify>>,
    /// Where the socket is looked after; where it is first asked for, if that is not said.
    home: Option<Handle>,
}

const LISTEN: &str = include_str!("../../sql/control/listen.sql");

impl Control {
    /// Prepares the connection; nothing is opened yet.
    pub const fn new(target: Target) -> Self {
        Self { target, client: Mutex::const_new(None), wake: None, home: None }
    }

    /// The same, and it hears of changes.
    pub fn listening(target: Target) -> Self {
        Self { wake: Some(Arc::default()), ..Self::new(target) }
    }

    /// The same, with its socket at a runtime that has time for it whatever clients do.
    #[must_use]
    pub fn at(self, home: Handle) -> Self {
        Self { home: Some(home), ..self }
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
        Self { home: self.home.clone(), ..Self::new(self.target.clone()) }
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
        let home = self.home.clone().unwrap_or_else(Handle::current);
        let (target, wake) = (self.target.clone(), self.wake.clone());
        let opened = home.spawn(async move { target.within_timeout(open(&target, wake)).await });
        let client = Arc::new(opened.await.map_err(|_| Error::Ending)??);
        *slot = Some(Arc::clone(&client));
        Ok(client)
    }
}

async fn open(target: &Target, wake: Option<Arc<Notify>>) -> Result<Client, Error> {
    let socket = target.dial().await?;
    let mut config = tokio_postgres::Config::new();
    config
        .user(target.user())
        .dbname(target.database())
        .application_name("cloison control")
        // The socket has its TLS already.
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    if let Some(password) = target.password().map(Secret::expose) {
        config.password(password);
    }
    let (client, mut connection) = config.connect_raw(socket, NoTls).await.map_err(Error::Login)?;
    let heard = wake.clone();
    tokio::spawn(async move {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(_))) => {
                    heard.iter().for_each(|wake| wake.notify_one());
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
    if wake.is_some()
        && let Err(error) = client.batch_execute(LISTEN).await
    {
        tracing::debug!(%error, "notifications cannot be heard");
    }
    Ok(client)
}
