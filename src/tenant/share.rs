//! How many connections a tenant's clients have, how many of the server's they hold, and how many
//! bytes are kept for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::protocol::ClientError;
use crate::types::TenantId;

/// The shares of all tenants that have clients here.
pub struct Shares {
    /// Most clients of a tenant; 0 is no limit.
    clients: usize,
    /// Most server connections that they hold at a time; 0 is no limit.
    servers: usize,
    /// So long may one of them wait for one; 0 is for ever.
    patience: Duration,
    /// Most bytes that are kept for them; 0 is no limit.
    memory: usize,
    tenants: Arc<DashMap<TenantId, Share>>,
}

#[derive(Debug)]
struct Share {
    clients: usize,
    servers: Arc<Semaphore>,
    memory: Arc<Pot>,
}

/// The bytes that are kept for one tenant.
#[derive(Debug)]
pub struct Pot {
    limit: usize,
    used: AtomicUsize,
}

/// A client counts for its tenant for as long as this lives.
#[derive(Debug)]
pub struct Member {
    tenant: TenantId,
    tenants: Arc<DashMap<TenantId, Share>>,
    servers: Option<Arc<Semaphore>>,
    patience: Duration,
    memory: Arc<Pot>,
}

impl Shares {
    /// No tenant has a client yet.
    pub fn new(limits: &Limits) -> Self {
        let (clients, servers) =
            (limits.tenant.client_connections, limits.tenant.server_connections);
        let (patience, memory) = (limits.query_wait_timeout, limits.tenant.memory);
        Self { clients, servers, patience, memory, tenants: Arc::default() }
    }

    /// Counts one more client of a tenant, if anything is to be counted.
    ///
    /// # Errors
    ///
    /// What the client is told when the tenant has as many as it may.
    pub fn join(&self, tenant: TenantId) -> Result<Option<Box<Member>>, ClientError> {
        if self.clients == 0 && self.servers == 0 && self.memory == 0 {
            return Ok(None);
        }
        let new = || Share {
            clients: 0,
            servers: Arc::new(Semaphore::new(self.servers)),
            memory: Arc::new(Pot { limit: self.memory, used: AtomicUsize::new(0) }),
        };
        let mut share = self.tenants.entry(tenant).or_insert_with(new);
        if self.clients > 0 && share.clients >= self.clients {
            let message = format!("a tenant may have {} connections here", self.clients);
            return Err(ClientError::fatal("53300", "C016", message)
                .hint("Close some. The operator can raise max_tenant_client_connections."));
        }
        share.clients += 1;
        let servers = (self.servers > 0).then(|| Arc::clone(&share.servers));
        let memory = Arc::clone(&share.memory);
        drop(share);
        let (tenants, patience) = (Arc::clone(&self.tenants), self.patience);
        Ok(Some(Box::new(Member { tenant, tenants, servers, patience, memory })))
    }
}

impl Pot {
    /// Counts so many bytes in place of so many. False, and nothing is counted: that is too much.
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

    /// Most bytes.
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

impl Member {
    /// What is kept for the tenant.
    pub const fn memory(&self) -> &Arc<Pot> {
        &self.memory
    }

    /// Waits until the tenant may hold one more server connection. `None`: nobody counts them.
    ///
    /// # Errors
    ///
    /// What the client is told when it has waited for too long.
    pub async fn server(&self) -> Result<Option<OwnedSemaphorePermit>, ClientError> {
        let Some(servers) = &self.servers else { return Ok(None) };
        if let Ok(free) = Arc::clone(servers).try_acquire_owned() {
            return Ok(Some(free));
        }
        let free = Box::pin(Arc::clone(servers).acquire_owned());
        // The semaphore is never closed.
        if self.patience.is_zero() {
            return Ok(free.await.ok());
        }
        match Box::pin(tokio::time::timeout(self.patience, free)).await {
            Ok(free) => Ok(free.ok()),
            Err(_) => {
                let waited = self.patience.as_secs_f64();
                let message = format!(
                    "no server connection of this tenant's share became free within {waited} s"
                );
                Err(ClientError::fatal("53300", "C302", message)
                    .hint("Hold connections for less time, or raise max_tenant_connections."))
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut share) = self.tenants.get_mut(&self.tenant) {
            share.clients = share.clients.saturating_sub(1);
        }
        self.tenants.remove_if(&self.tenant, |_, share| share.clients == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_up_to_the_limit_and_given_back() {
        let pot = Pot { limit: 100, used: AtomicUsize::new(0) };
        assert!(pot.exchange(0, 60) && pot.exchange(0, 40));
        assert!(!pot.exchange(60, 61), "it is full");
        assert!(pot.exchange(60, 10) && pot.exchange(40, 90));
        assert!(pot.exchange(10, 0) && pot.exchange(90, 0) && pot.exchange(0, 100));
    }
}
