//! Why there is no server connection.

use std::time::Duration;

use super::PoolKey;
use crate::backend;
use crate::protocol::ClientError;

/// Why no server connection was handed out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such pool.
    #[error("no pool for {} in database {:?}", .0.access, .0.database)]
    NoPool(PoolKey),
    /// The database is known not to keep tenants apart.
    #[error("tenants are not served while lint has a critical finding")]
    Shut,
    /// Every connection was taken for too long.
    #[error("no server connection became free within {0:?}")]
    WaitTimeout(Duration),
    /// Postgres refuses a login that it has accepted before.
    #[error(
        "Postgres does not let role {0:?} in any more: its password is perhaps not the configured \
         one, changed by somebody who has the role"
    )]
    LockedOut(String),
    /// Postgres could not be reached or refused the login.
    #[error("no server connection could be opened")]
    Connect(#[from] backend::Error),
    /// Its role has defaults that nobody is known to have given it: their names, or why they could
    /// not be asked for.
    #[error("the role of new server connections has changed defaults: {0}")]
    Unfit(String),
    /// The database does not say what stands for the server process.
    #[error(
        "the database did not say which process a new server connection has: is the kit of this \
         version installed (`cloison install`)? {0}"
    )]
    NoMark(String),
}

/// Why there are no pools.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A certificate cannot be used.
    #[error("TLS")]
    Tls(#[from] crate::tls::Error),
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    NoRandomness,
}

impl From<&Error> for ClientError {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoPool(key) => {
                let message = format!("this proxy serves no {} sessions here", key.access);
                Self::fatal("3D000", "C301", message)
            }
            // What is found is the operator's to know.
            Error::Shut => Self::fatal("57P03", "C308", "tenants are not served at the moment")
                .hint("The operator finds the reason in the proxy's log, or with `cloison lint`."),
            Error::WaitTimeout(waited) => {
                let message =
                    format!("no server connection became free within {} s", waited.as_secs_f64());
                Self::fatal("53300", "C302", message)
                    .hint("Raise default_pool_size or query_wait_timeout, or hold connections for less time.")
            }
            Error::Unfit(_) | Error::LockedOut(_) | Error::NoMark(_) => {
                let message = "new connections to the database are not as they should be";
                Self::fatal("57P03", "C309", message).hint("The proxy's log has the cause.")
            }
            Error::Connect(_) => {
                Self::fatal("08006", "C303", "the proxy cannot open a connection to Postgres")
                    .hint("The proxy's log has the cause.")
            }
        }
    }
}
