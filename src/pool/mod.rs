//! CHECKOUT and RELEASE: server connections that may stand in for each other.

mod checkout;
mod release;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::{self, ServerConnection, Target};
use crate::config;
use crate::observe::{Event, Observer};
use crate::protocol::ClientError;
use crate::types::{Access, SessionSettings};

pub use checkout::{BindError, Bound, Checkout};
pub use release::{Disposition, Reason, Residue};

/// What makes server connections alike: the login and the database.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PoolKey {
    /// Which login.
    pub access: Access,
    /// Which database.
    pub database: String,
}

/// Every pool.
pub struct Pools {
    pools: DashMap<PoolKey, Arc<Pool>>,
}

/// Server connections of one login to one database.
pub struct Pool {
    key: PoolKey,
    target: Target,
    limits: config::Limits,
    size: usize,
    /// A permit for each connection that is checked out; waiters queue here, first come, first
    /// served.
    slots: Arc<Semaphore>,
    /// Clean connections, the longest unused first.
    idle: Mutex<VecDeque<Idle>>,
    observer: Observer,
}

/// A clean connection that waits for a client.
struct Idle {
    server: ServerConnection,
    /// What it was started with, and so what its client must have asked for.
    settings: SessionSettings,
    since: Instant,
}

/// Why no server connection was handed out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such pool.
    #[error("no pool for {} in database {:?}", .0.access, .0.database)]
    NoPool(PoolKey),
    /// Every connection was taken for too long.
    #[error("no server connection became free within {0:?}")]
    WaitTimeout(Duration),
    /// Postgres could not be reached or refused the login.
    #[error("no server connection could be opened")]
    Connect(#[from] backend::Error),
}

impl Pools {
    /// Makes the pools that the configuration names; connections are opened when needed.
    ///
    /// # Errors
    ///
    /// Fails when a certificate cannot be used.
    pub fn new(config: &config::Config, observer: &Observer) -> Result<Self, crate::tls::Error> {
        let pools = DashMap::new();
        for (&access, pool) in &config.pools {
            let timeout = config.limits.server_connect_timeout;
            let target = Target::new(&config.server, &pool.login, timeout)?;
            let key = PoolKey { access, database: config.server.database.clone() };
            let pool = Pool {
                key: key.clone(),
                target,
                limits: config.limits,
                size: pool.size,
                slots: Arc::new(Semaphore::new(pool.size)),
                idle: Mutex::new(VecDeque::new()),
                observer: observer.clone(),
            };
            pools.insert(key, Arc::new(pool));
        }
        Ok(Self { pools })
    }

    /// The pool of `key`.
    ///
    /// # Errors
    ///
    /// There may be none.
    pub fn find(&self, key: &PoolKey) -> Result<Arc<Pool>, Error> {
        let pool = self.pools.get(key).map(|entry| Arc::clone(entry.value()));
        pool.ok_or_else(|| Error::NoPool(key.clone()))
    }

    /// Closes idle connections that are past their time, in every pool.
    ///
    /// Safe to call at any time: nobody holds an idle connection.
    pub async fn reap(&self) {
        let pools: Vec<_> = self.pools.iter().map(|entry| Arc::clone(entry.value())).collect();
        for pool in pools {
            pool.reap().await;
        }
    }
}

impl Pool {
    /// Waits for a free slot, then takes an idle connection or opens one.
    ///
    /// # Errors
    ///
    /// Says whether waiting or connecting failed.
    pub async fn checkout(self: &Arc<Self>, settings: &SessionSettings) -> Result<Checkout, Error> {
        let slot = self.wait_for_slot().await?;
        while let Some(mut server) = self.take_idle(settings) {
            if server.is_quiet() {
                return Ok(Checkout::new(Arc::clone(self), slot, server, settings.clone()));
            }
            self.observe_discard(&server, Reason::Lost);
        }
        self.connect(slot, settings).await
    }

    /// Closes every idle connection, after one of them turned out to be lost.
    pub async fn drop_idle(&self) {
        let idle: Vec<_> = self.lock_idle().drain(..).map(|entry| entry.server).collect();
        for server in idle {
            self.observe_discard(&server, Reason::Lost);
            server.terminate().await;
        }
    }

    /// Opens a connection, whatever is idle.
    async fn connect(
        self: &Arc<Self>,
        slot: OwnedSemaphorePermit,
        settings: &SessionSettings,
    ) -> Result<Checkout, Error> {
        for surplus in self.take_surplus() {
            self.observe_discard(&surplus, Reason::OtherSettings);
            surplus.terminate().await;
        }
        let started = Instant::now();
        let server = self.target.connect(settings).await?;
        self.observer.observe(Event::ServerConnected {
            pool: self.key.access,
            pid: server.pid(),
            duration: started.elapsed(),
        });
        Ok(Checkout::new(Arc::clone(self), slot, server, settings.clone()))
    }

    async fn wait_for_slot(&self) -> Result<OwnedSemaphorePermit, Error> {
        let limit = self.limits.query_wait_timeout;
        let slot = Arc::clone(&self.slots).acquire_owned();
        let acquired = if limit.is_zero() {
            slot.await
        } else {
            let Ok(acquired) = tokio::time::timeout(limit, slot).await else {
                let pool = self.key.access;
                self.observer.observe(Event::CheckoutTimedOut { pool, waited: limit });
                return Err(Error::WaitTimeout(limit));
            };
            acquired
        };
        // The semaphore is never closed; if it were, there would be nothing to wait for.
        acquired.map_err(|_| Error::WaitTimeout(Duration::ZERO))
    }

    /// The most recently used idle connection that was started with `settings`.
    fn take_idle(&self, settings: &SessionSettings) -> Option<ServerConnection> {
        let mut idle = self.lock_idle();
        let position = idle.iter().rposition(|entry| entry.settings == *settings)?;
        idle.remove(position).map(|entry| entry.server)
    }

    /// Idle connections that have to make room for one more.
    fn take_surplus(&self) -> Vec<ServerConnection> {
        let mut idle = self.lock_idle();
        let in_use = self.size - self.slots.available_permits().min(self.size);
        let surplus = (in_use + idle.len()).saturating_sub(self.size).min(idle.len());
        idle.drain(..surplus).map(|entry| entry.server).collect()
    }

    /// Takes back a connection that a confirmed reset has made clean.
    fn put_idle(&self, server: ServerConnection, settings: SessionSettings) {
        self.lock_idle().push_back(Idle { server, settings, since: Instant::now() });
    }

    async fn reap(&self) {
        let (idle_limit, age_limit) =
            (self.limits.server_idle_timeout, self.limits.server_lifetime);
        let is_past = |entry: &Idle| {
            let too_idle = !idle_limit.is_zero() && entry.since.elapsed() >= idle_limit;
            let too_old = !age_limit.is_zero() && entry.server.age() >= age_limit;
            too_idle || too_old
        };
        let past: Vec<_> = {
            let mut idle = self.lock_idle();
            let (past, kept) = idle.drain(..).partition(is_past);
            *idle = kept;
            VecDeque::into_iter(past).map(|entry| entry.server).collect()
        };
        for server in past {
            self.observe_discard(&server, Reason::Age);
            server.terminate().await;
        }
    }

    fn observe_discard(&self, server: &ServerConnection, reason: Reason) {
        self.observer.observe(Event::ServerDiscarded {
            pool: self.key.access,
            pid: server.pid(),
            reason: reason.as_str(),
        });
    }

    fn lock_idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        // A panic while the lock is held leaves a queue that is still a queue.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&Error> for ClientError {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoPool(key) => {
                let message = format!("this proxy serves no {} sessions here", key.access);
                Self::fatal("3D000", "C301", message)
            }
            Error::WaitTimeout(waited) => {
                let message =
                    format!("no server connection became free within {} s", waited.as_secs_f64());
                Self::fatal("53300", "C302", message)
                    .hint("Raise default_pool_size or query_wait_timeout, or hold connections for less time.")
            }
            Error::Connect(_) => {
                Self::fatal("08006", "C303", "the proxy cannot open a connection to Postgres")
                    .hint("The proxy's log has the cause.")
            }
        }
    }
}
