//! A server connection on loan: first a [`Checkout`], and once it acts for somebody, a [`Bound`].

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::OwnedSemaphorePermit;

use super::release::{self, Disposition, Reason, Residue};
use super::{Pool, Welcome};
use crate::backend::{Reply, ServerConnection, Target};
use crate::protocol::{self, ClientError, Violation};
use crate::tenant::bind::{self, Signer};
use crate::tenant::{Actor, Identity, Scope, SqlClaims, TenantContext};
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
    pub(super) loan: Loan,
    pub(super) scope: Scope,
    pub(super) claims: Option<Arc<SqlClaims>>,
    /// Whose a super-admin's session is.
    actor: Option<Arc<Actor>>,
    /// When the session ends.
    until: SystemTime,
    /// From when on what the session has been given is to be renewed.
    renew_at: SystemTime,
    pub(super) signer: Arc<Signer>,
}

pub(super) struct Loan {
    pub(super) pool: Arc<Pool>,
    pub(super) server: ServerConnection,
    settings: Arc<SessionSettings>,
    /// Counts the loan; given back when the connection is idle again, or closed.
    slot: OwnedSemaphorePermit,
    /// Counts it for the tenant, if anybody does.
    share: Option<OwnedSemaphorePermit>,
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
        settings: Arc<SessionSettings>,
    ) -> Self {
        Self { loan: Loan { pool, server, settings, slot, share: None } }
    }

    /// Makes the connection act for whom `context` says, and waits until Postgres confirms it.
    ///
    /// # Errors
    ///
    /// The connection is closed with the error: nobody may use it half bound.
    pub async fn bind(
        self,
        context: &TenantContext,
        signer: Arc<Signer>,
    ) -> Result<Bound, BindError> {
        let (scope, until) = (context.scope(), context.expires_at());
        let (claims, actor) = (context.claims().cloned(), context.actor().cloned());
        let renew_at = SystemTime::UNIX_EPOCH;
        let loan = self.loan;
        let mut bound = Bound { loan, scope, claims, actor, until, renew_at, signer };
        if bound.queue_session_bind(false).map_err(protocol::Error::Io)? {
            let server = &mut bound.loan.server;
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
        Ok(bound)
    }

    /// Gives back a connection on which nothing was sent, and what it told at its login.
    pub(super) fn return_unused(self) -> Welcome {
        let welcome = Welcome::of(&self.loan.server);
        self.loan.give_back();
        welcome
    }

    /// Makes the connection carry what is sent for an identity, or for nobody, each transaction bound
    /// ahead of its first statement by [`Bound::queue_local_bind`]. Until then Postgres itself
    /// shows no rows.
    pub fn bind_late(self, identity: Option<&Identity>, signer: Arc<Signer>) -> Bound {
        let (scope, until) = (Scope::Nobody, SystemTime::UNIX_EPOCH);
        let (claims, actor, loan) = (None, None, self.loan);
        let mut bound = Bound { loan, scope, claims, actor, until, renew_at: until, signer };
        bound.act_for(identity);
        bound
    }
}

impl Bound {
    /// For whom the connection acts.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// Acts for somebody else from the next bind on. Until then Postgres shows the rows of whoever
    /// is bound, which the caller has to see to. False: it is nobody else, with the same claims.
    pub fn act_for(&mut self, identity: Option<&Identity>) -> bool {
        let context = identity.map(Identity::context);
        let scope = context.map_or(Scope::Nobody, TenantContext::scope);
        let claims = context.and_then(TenantContext::claims);
        let is_same =
            scope == self.scope && claims.map(Arc::as_ptr) == self.claims.as_ref().map(Arc::as_ptr);
        if !is_same {
            (self.scope, self.claims) = (scope, claims.cloned());
        }
        !is_same
    }

    /// Whether claims go along with the tenant.
    pub const fn has_claims(&self) -> bool {
        self.claims.is_some()
    }

    /// Counts the connection for the tenant until it is given back.
    pub fn count_for_tenant(&mut self, share: OwnedSemaphorePermit) {
        self.loan.share = Some(share);
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
    pub fn target(&self) -> &Arc<Target> {
        &self.loan.pool.target
    }

    /// Queues the messages that bind the session once more, after something has undone it or before
    /// it is over; false if there is nothing to bind. The server confirms it with one answer.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn queue_bind(&mut self) -> std::io::Result<bool> {
        self.queue_session_bind(true)
    }

    /// Whether what the session has been given is to be renewed before its next transaction.
    pub fn is_renewal_due(&self, now: SystemTime) -> bool {
        let is_bound = match self.scope {
            Scope::Tenant(_) | Scope::Superadmin => true,
            Scope::Nobody | Scope::Owner => false,
        };
        // A clock that was set back must not keep it from being renewed.
        is_bound && (now >= self.renew_at || now + bind::RENEW_AFTER < self.renew_at)
    }

    /// What was renewed last may be undone: it is to be renewed again.
    pub const fn renew_soon(&mut self) {
        self.renew_at = SystemTime::UNIX_EPOCH;
    }

    fn queue_session_bind(&mut self, is_renewal: bool) -> std::io::Result<bool> {
        let now = SystemTime::now();
        let server = &mut self.loan.server;
        let (mark, times, out) = (server.mark, (self.until, now), &mut server.stream.outgoing);
        match (self.scope, &self.actor) {
            (Scope::Tenant(tenant), _) => {
                self.signer.bind(tenant, self.claims.as_deref(), times, mark, out)?;
            }
            (Scope::Superadmin, Some(actor)) => {
                self.signer.admit(actor, is_renewal, times, mark, out)?;
            }
            (Scope::Superadmin, None) | (Scope::Nobody | Scope::Owner, _) => return Ok(false),
        }
        self.renew_at = now + bind::RENEW_AFTER;
        Ok(true)
    }

    /// Offers the connection back to its pool, which takes it only when nothing can be left on it.
    pub async fn release(self, residue: Residue) -> Disposition {
        let verdict = self.verdict(residue);
        self.carry_out(verdict).await
    }

    /// As [`Self::release`], without waiting: a reset or a goodbye is said in the background.
    pub fn release_soon(self, residue: Residue) {
        match self.verdict(residue) {
            Disposition::Reuse => self.loan.give_back(),
            verdict @ (Disposition::Reset | Disposition::Discard(_)) => {
                tokio::spawn(self.carry_out(verdict));
            }
        }
    }

    fn verdict(&self, residue: Residue) -> Disposition {
        let lifetime = self.loan.pool.limits.server_lifetime;
        if !self.loan.pool.keeps_idle {
            return Disposition::Discard(Reason::OtherDatabase);
        }
        let too_old = !lifetime.is_zero() && self.loan.server.age() >= lifetime;
        Disposition::of(&Residue { too_old, ..residue })
    }

    async fn carry_out(mut self, verdict: Disposition) -> Disposition {
        let mut verdict = verdict;
        if verdict == Disposition::Reset {
            verdict = if release::reset(&mut self.loan.server).await {
                Disposition::Reuse
            } else {
                Disposition::Discard(Reason::ResetFailed)
            };
        }
        let Loan { pool, server, settings, slot, share } = self.loan;
        match verdict {
            Disposition::Reuse => Loan { pool, server, settings, slot, share }.give_back(),
            Disposition::Reset => {}
            Disposition::Discard(reason) => {
                pool.observe_discard(&server, reason);
                server.terminate().await;
                // Only now may a waiter go on: Postgres counts the connection until then.
                drop((slot, share));
            }
        }
        verdict
    }
}

impl Loan {
    /// Puts a clean connection among the idle ones.
    fn give_back(self) {
        let Self { pool, mut server, settings, slot, share } = self;
        if pool.queue.has_given(&slot) {
            pool.share_statuses(&mut server);
            server.shrink();
            pool.put_idle(server, settings);
        } else {
            // The pool has as many as it may have without this one.
            pool.observe_discard(&server, Reason::Surplus);
            drop(server);
        }
        // Only now may a waiter go on: it would find no idle connection before.
        drop((slot, share));
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
