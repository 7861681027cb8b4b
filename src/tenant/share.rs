//! How many connections a tenant's clients have, how many of the server's they hold, and how many
//! bytes are kept for them. Clients that act for no tenant count for whose token they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::context::Scope;
use crate::auth::VerifiedClaims;
use crate::config::Limits;
use crate::protocol::ClientError;
use crate::types::{Patience, TenantId};

/// The shares of all who have clients here.
pub struct Shares {
    of_tenants: Most,
    of_others: Most,
    holders: Arc<DashMap<Holder, Share>>,
}

/// The largest share; 0 is no limit.
#[derive(Clone, Copy, Debug)]
struct Most {
    clients: usize,
    /// Server connections that the clients hold at a time.
    servers: usize,
    /// Bytes that are kept for them.
    memory: usize,
    /// Savepoints in their open transactions.
    savepoints: usize,
}

/// For whom a client counts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Holder {
    Tenant(TenantId),
    /// No tenant: whoever the token was issued to, by issuer and subject.
    TokenHolder(Arc<(String, Option<String>)>),
}

#[derive(Debug)]
struct Share {
    clients: usize,
    servers: Arc<Semaphore>,
    memory: Arc<Pot>,
    savepoints: Arc<Pot>,
}

/// What is counted for all sessions of one share: bytes that are kept, or savepoints.
#[derive(Debug)]
pub struct Pot {
    /// Whose they are, for messages.
    pub whose: &'static str,
    limit: usize,
    used: AtomicUsize,
}

/// A client counts for its tenant, or for its token's holder, for as long as this lives.
#[derive(Debug)]
pub struct Member {
    holder: Holder,
    holders: Arc<DashMap<Holder, Share>>,
    servers: Option<Arc<Semaphore>>,
    memory: Arc<Pot>,
    savepoints: Arc<Pot>,
}

impl Shares {
    /// Nobody has a client yet.
    pub fn new(limits: &Limits) -> Self {
        let (tenant, other) = (limits.tenant, limits.without_tenant);
        // Each may take a lock of the server's, and some thousand fill its table.
        let savepoints = tenant.savepoints.saturating_mul(2);
        Self {
            of_tenants: Most {
                clients: tenant.client_connections,
                servers: tenant.server_connections,
                memory: tenant.memory,
                savepoints,
            },
            of_others: Most {
                clients: other.client_connections,
                servers: other.server_connections,
                memory: other.memory,
                savepoints,
            },
            holders: Arc::default(),
        }
    }

    /// Counts one more client that has these claims and acts for `scope`, if anything is to be
    /// counted.
    ///
    /// # Errors
    ///
    /// What the client is told when there are as many as may be.
    pub fn join(
        &self,
        claims: &VerifiedClaims,
        scope: Scope,
    ) -> Result<Option<Box<Member>>, ClientError> {
        let (holder, most) = match scope.tenant() {
            Some(tenant) => (Holder::Tenant(tenant), self.of_tenants),
            None => (Holder::of_token(claims), self.of_others),
        };
        self.join_as(holder, most)
    }

    fn join_as(&self, holder: Holder, most: Most) -> Result<Option<Box<Member>>, ClientError> {
        if [most.clients, most.servers, most.memory, most.savepoints] == [0; 4] {
            return Ok(None);
        }
        let new = || Share {
            clients: 0,
            servers: Arc::new(Semaphore::new(most.servers)),
            memory: Arc::new(holder.pot(most.memory)),
            savepoints: Arc::new(holder.pot(most.savepoints)),
        };
        let mut share = self.holders.entry(holder.clone()).or_insert_with(new);
        if most.clients > 0 && share.clients >= most.clients {
            return Err(holder.has_too_many(most.clients));
        }
        share.clients += 1;
        let servers = (most.servers > 0).then(|| Arc::clone(&share.servers));
        let (memory, savepoints) = (Arc::clone(&share.memory), Arc::clone(&share.savepoints));
        drop(share);
        let holders = Arc::clone(&self.holders);
        Ok(Some(Box::new(Member { holder, holders, servers, memory, savepoints })))
    }
}

impl Holder {
    fn of_token(claims: &VerifiedClaims) -> Self {
        let subject = claims.subject().map(str::to_owned);
        Self::TokenHolder(Arc::new((claims.token_issuer().to_owned(), subject)))
    }

    const fn pot(&self, limit: usize) -> Pot {
        let whose = match self {
            Self::Tenant(_) => "this tenant",
            Self::TokenHolder(_) => "this token holder that act for no tenant",
        };
        Pot { whose, limit, used: AtomicUsize::new(0) }
    }

    fn has_too_many(&self, most: usize) -> ClientError {
        let (message, hint) = match self {
            Self::Tenant(_) => (
                format!("a tenant may have {most} connections here"),
                "Close some. The operator can raise max_tenant_client_connections.",
            ),
            Self::TokenHolder(_) => (
                format!("{most} connections act for no tenant with tokens of this holder"),
                "Close some. The operator can raise max_client_conn.",
            ),
        };
        ClientError::fatal("53300", "C016", message).hint(hint)
    }

    fn has_no_place(&self, patience: Patience) -> ClientError {
        let (whose, hint) = match self {
            Self::Tenant(_) => (
                "this tenant's",
                "Hold connections for less time, or raise max_tenant_connections.",
            ),
            Self::TokenHolder(_) => (
                "this token holder's",
                "Hold connections for less time, choose a tenant, or raise default_pool_size.",
            ),
        };
        let waited = patience.limit().as_secs_f64();
        let message =
            format!("no server connection of {whose} share became free within {waited} s");
        ClientError::fatal("53300", "C302", message).hint(hint)
    }
}

impl Pot {
    /// Counts so many in place of so many. False, and nothing is counted: that is too much.
    pub fn exchange(&self, before: usize, now: usize) -> bool {
        if now <= before {
            self.used.fetch_sub(before - now, Ordering::Relaxed);
            return true;
        }
        let more = now - before;
        let used = self.used.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        let fits = self.limit == 0 || used <= self.limit;
        if !fits {
            self.used.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }

    /// Most of them.
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

impl Member {
    /// What is kept for all of the share.
    pub const fn memory(&self) -> &Arc<Pot> {
        &self.memory
    }

    /// The savepoints in the open transactions of all of the share.
    pub const fn savepoints(&self) -> &Arc<Pot> {
        &self.savepoints
    }

    /// Waits until one more server connection may be held. `None`: nobody counts them.
    ///
    /// # Errors
    ///
    /// What the client is told when it has waited for too long.
    pub async fn server(
        &self,
        patience: Patience,
    ) -> Result<Option<OwnedSemaphorePermit>, ClientError> {
        let Some(servers) = &self.servers else { return Ok(None) };
        if let Ok(free) = Arc::clone(servers).try_acquire_owned() {
            return Ok(Some(free));
        }
        let free = Box::pin(Arc::clone(servers).acquire_owned());
        // The semaphore is never closed.
        let Some(until) = patience.until() else { return Ok(free.await.ok()) };
        match Box::pin(tokio::time::timeout_at(until, free)).await {
            Ok(free) => Ok(free.ok()),
            Err(_) => Err(self.holder.has_no_place(patience)),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut share) = self.holders.get_mut(&self.holder) {
            share.clients = share.clients.saturating_sub(1);
        }
        self.holders.remove_if(&self.holder, |_, share| share.clients == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_up_to_the_limit_and_given_back() {
        let pot = Pot { whose: "this tenant", limit: 100, used: AtomicUsize::new(0) };
        assert!(pot.exchange(0, 60) && pot.exchange(0, 40));
        assert!(!pot.exchange(60, 61), "it is full");
        assert!(pot.exchange(60, 10) && pot.exchange(40, 90));
        assert!(pot.exchange(10, 0) && pot.exchange(90, 0) && pot.exchange(0, 100));
    }
}
