//! A server connection on loan: first a [`Checkout`], and once it acts for somebody, a [`Bound`].

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Pool;
use super::release::{self, Disposition, Reason, Residue};
use crate::backend::{Reply, ServerConnection, Target};
use crate::protocol::{self, ClientError, Violation};
use crate::tenant::bind::{self, Signer};
use crate::tenant::{Scope, TenantContext};
use crate::types::SessionSettings;

/// A server connection on loan from its pool that acts for nobody yet.
///
/// It cannot carry a client's frames. Dropping it closes the connection.
#[must_use]
pub struct Checkout {
    loan: Loan,
}

/// A server connection that acts for whom a [`TenantContext`] says.
///
/// The only type that can carry a client's frames to Postgres, and the only way back to the pool.
/// Dropping it closes the connection.
#[must_use]
pub struct Bound {
    loan: Loan,
    scope: Scope,
    signer: Arc<Signer>,
}

struct Loan {
    pool: Arc<Pool>,
    server: ServerConnection,
    settings: SessionSettings,
    /// Counts the loan; given back when the connection is idle again, or closed.
    slot: OwnedSemaphorePermit,
}

/// Why a server connection does not act for the tenant.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The connection was lost before it answered.
    #[error("the server connection was lost while the tenant context was set")]
    Lost(#[from] protocol::Error),
    /// The database did not accept the context.
    #[error("the database refused the tenant context: {message} (SQLSTATE {sqlstate})")]
    Refused {
        /// The server's SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
}

impl Checkout {
    pub(super) const fn new(
        pool: Arc<Pool>,
        slot: OwnedSemaphorePermit,
        server: ServerConnection,
        settings: SessionSettings,
    ) -> Self {
        Self { loan: Loan { pool, server, settings, slot } }
    }

    /// Makes the connection act for whom `context` says, and waits until Postgres confirms it.
    ///
    /// # Errors
    ///
    /// The connection is closed with the error: nobody may use it half bound.
    pub async fn bind(
        mut self,
        context: &TenantContext,
        signer: Arc<Signer>,
    ) -> Result<Bound, BindError> {
        let scope = context.scope();
        if let Scope::Tenant(tenant) = scope {
            let server = &mut self.loan.server;
            signer
                .bind(tenant, server.key().pid, &mut server.stream.outgoing)
                .map_err(protocol::Error::Io)?;
            match server.round_trip().await? {
                Reply::Complete { tags, .. } if tags == [bind::CONFIRMATION] => {}
                Reply::Complete { .. } => {
                    return Err(protocol::Error::from(Violation::Unexpected('C')).into());
                }
                Reply::Refused(sqlstate, message) => {
                    return Err(BindError::Refused { sqlstate, message });
                }
            }
        }
        Ok(Bound { loan: self.loan, scope, signer })
    }
}

impl Bound {
    /// For whom the connection acts.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The connection.
    pub const fn server(&self) -> &ServerConnection {
        &self.loan.server
    }

    /// The connection, to carry frames.
    pub const fn server_mut(&mut self) -> &mut ServerConnection {
        &mut self.loan.server
    }

    /// Where and as whom the connection logged in, for cancel requests.
    pub fn target(&self) -> &Target {
        &self.loan.pool.target
    }

    /// Queues the messages that bind the tenant once more, after something has undone it.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn queue_bind(&mut self) -> std::io::Result<()> {
        match self.scope {
            Scope::Tenant(tenant) => {
                let pid = self.loan.server.key().pid;
                self.signer.bind(tenant, pid, &mut self.loan.server.stream.outgoing)
            }
            Scope::Superadmin | Scope::Owner => Ok(()),
        }
    }

    /// Offers the connection back to its pool, which takes it only when nothing can be left on it.
    pub async fn release(self, residue: Residue) -> Disposition {
        let Loan { pool, mut server, settings, slot } = self.loan;
        let lifetime = pool.limits.server_lifetime;
        let too_old = !lifetime.is_zero() && server.age() >= lifetime;
        let mut verdict = Disposition::of(&Residue { too_old, ..residue });
        if verdict == Disposition::Reuse && !release::reset(&mut server).await {
            verdict = Disposition::Discard(Reason::ResetFailed);
        }
        match verdict {
            Disposition::Reuse => pool.put_idle(server, settings),
            Disposition::Discard(reason) => {
                pool.observe_discard(&server, reason);
                server.terminate().await;
            }
        }
        // Only now may a waiter go on: it would find no idle connection before.
        drop(slot);
        verdict
    }
}

impl From<&BindError> for ClientError {
    fn from(error: &BindError) -> Self {
        match error {
            BindError::Lost(_) => {
                Self::fatal("08006", "C304", "the connection to Postgres was lost")
            }
            BindError::Refused { .. } => {
                Self::fatal("28000", "C203", "the tenant context was not accepted by the database")
                    .hint("The proxy's log has the cause.")
            }
        }
    }
}
