//! CHECKOUT and RELEASE: server connections that may stand in for each other.

mod checkout;
mod door;
mod error;
mod fitness;
mod knowledge;
mod late;
mod pools;
mod queue;
mod reap;
mod release;
mod welcome;

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::{ServerConnection, Statuses, Target};
use crate::config::{self, PoolMode};
use crate::observe::{Event, Observer};
use crate::recent::Recent;
use crate::tenant::bind::LocalBind;
use crate::types::{Access, Patience, SessionSettings};

pub use checkout::{BindError, Bound, Checkout};
pub use door::{Door, Opening};
pub use error::{Error, OpenError};
pub use fitness::try_login;
use knowledge::Known;
pub use knowledge::{Changes, Knowledge};
pub use late::{LocalBindQueued, SettingsError};
pub use pools::Pools;
pub use release::{Disposition, Reason, Residue};
pub use welcome::Welcome;

use queue::Places;

/// What makes server connections alike: the login and the database.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PoolKey {
    /// Which login.
    pub access: Access,
    /// Which database.
    pub database: String,
}

/// Server connections of one login to one database.
pub struct Pool {
    key: PoolKey,
    target: Arc<Target>,
    limits: config::Limits,
    /// What the tenants' role may have been given as defaults, as `name=value`.
    role_settings: Vec<String>,
    mode: PoolMode,
    /// False for a pool whose connections are closed when their clients leave.
    keeps_idle: bool,
    size: usize,
    /// Where clients wait for a place.
    queue: Places,
    /// A permit for each login at Postgres that is under way.
    logins: Semaphore,
    /// Whether Postgres has accepted the login before.
    has_logged_in: AtomicBool,
    /// What is known of the role and the database, for the proof that a connection is clean.
    known: Known,
    /// What servers have told of themselves, one copy of equal ones.
    statuses: Mutex<Vec<Arc<Statuses>>>,
    /// What a client that starts with these settings is told at login.
    welcomes: Recent<Arc<SessionSettings>, Welcome>,
    /// Counts what makes plans stale, for all pools.
    changes: Arc<Changes>,
    /// Shut while tenants are not to be served; nobody shuts the other pools'.
    door: Arc<Door>,
    /// Names the statement by which transactions are bound.
    local_bind: LocalBind,
    /// Clean connections, the longest unused first.
    idle: Mutex<VecDeque<Idle>>,
    observer: Observer,
}

/// A clean connection that waits for a client.
struct Idle {
    server: ServerConnection,
    /// What it was started with, and so what its client must have asked for.
    settings: Arc<SessionSettings>,
    since: Instant,
}

/// Logins of one pool at the same time. Postgres forks a process for each.
const CONCURRENT_LOGINS: usize = 8;

/// Welcomes and statuses that are remembered. More different ones are asked for again.
const REMEMBERED: usize = 256;

/// 64 random bits in hex, for a name that nobody can guess.
///
/// # Errors
///
/// Fails when the system has none.
pub fn random_name() -> Result<String, OpenError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| OpenError::NoRandomness)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

impl Pool {
    /// A pool of sessions that nothing shuts.
    fn new(
        key: PoolKey,
        target: Arc<Target>,
        (limits, size): (config::Limits, usize),
        changes: Arc<Changes>,
        queue: Places,
        observer: &Observer,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            key,
            target,
            limits,
            role_settings: Vec::new(),
            mode: PoolMode::Session,
            keeps_idle: true,
            size,
            queue,
            logins: Semaphore::new(CONCURRENT_LOGINS),
            has_logged_in: AtomicBool::new(false),
            known: Known::default(),
            statuses: Mutex::default(),
            welcomes: Recent::new(REMEMBERED),
            changes,
            door: Arc::default(),
            local_bind: LocalBind::new(format!("_cloison_{}", random_name()?)),
            idle: Mutex::new(VecDeque::new()),
            observer: observer.clone(),
        })
    }

    /// Waits for a free slot, then takes an idle connection or opens one, for a client with a token
    /// for `access`.
    ///
    /// # Errors
    ///
    /// Says whether waiting or connecting failed.
    pub async fn checkout(
        self: &Arc<Self>,
        settings: &Arc<SessionSettings>,
        patience: Patience,
        access: Access,
    ) -> Result<Checkout, Error> {
        let slot = self.queue.wait(patience, access).await?;
        if !self.door.admits_transactions() {
            return Err(Error::Shut);
        }
        if self.needs_facts() && self.known.begin_use(self.changes.count()) {
            self.changes.wake();
        }
        while let Some(mut server) = self.take_idle(settings) {
            if server.is_quiet() && self.has_fresh_plans(&mut server).await {
                server.uses = server.uses.saturating_add(1);
                return Ok(Checkout::new(Arc::clone(self), slot, server, Arc::clone(settings)));
            }
            self.observe_discard(&server, Reason::Lost);
        }
        // Seldom, and large: who is served from an idle connection does not have to make room for it.
        Box::pin(self.connect(slot, settings)).await
    }

    /// How long a client may wait that begins to do so now.
    pub fn patience(&self) -> Patience {
        Patience::new(self.limits.query_wait_timeout)
    }

    /// Refuses a session that would only be refused its first statement.
    ///
    /// # Errors
    ///
    /// The door is shut.
    pub fn admit(&self) -> Result<(), Error> {
        if self.door.admits_sessions() { Ok(()) } else { Err(Error::Shut) }
    }

    /// Whether no statement of the connection was planned for tables that have changed since; if
    /// one was, all are dropped, and that has to be confirmed.
    async fn has_fresh_plans(&self, server: &mut ServerConnection) -> bool {
        let plans = self.changes.count();
        let is_fresh = server.plans == plans || server.prepared.is_empty();
        server.plans = plans;
        is_fresh || Box::pin(release::reset(server)).await
    }

    /// Closes every idle connection, after one of them turned out to be lost.
    pub async fn drop_idle(&self) {
        let idle: Vec<_> = lock(&self.idle).drain(..).map(|entry| entry.server).collect();
        for server in idle {
            self.observe_discard(&server, Reason::Lost);
            server.terminate().await;
        }
    }

    /// Opens a connection, whatever is idle.
    async fn connect(
        self: &Arc<Self>,
        slot: OwnedSemaphorePermit,
        settings: &Arc<SessionSettings>,
    ) -> Result<Checkout, Error> {
        for surplus in self.take_surplus() {
            self.observe_discard(&surplus, Reason::OtherSettings);
            surplus.terminate().await;
        }
        // The semaphore is never closed.
        let login = self.logins.acquire().await;
        let started = Instant::now();
        let mut server = self.judge_login(self.target.connect(settings).await)?;
        drop(login);
        match self.key.access {
            Access::Tenant => self.demand_fit(&mut server).await?,
            Access::Superadmin => self.ask_mark(&mut server).await?,
            Access::Owner => {}
        }
        server.plans = self.changes.count();
        self.share_statuses(&mut server);
        self.remember_welcome(settings, &server);
        self.observer.observe(Event::ServerConnected {
            pool: self.key.access,
            pid: server.pid(),
            duration: started.elapsed(),
        });
        Ok(Checkout::new(Arc::clone(self), slot, server, Arc::clone(settings)))
    }

    /// When a server connection goes back.
    pub const fn mode(&self) -> PoolMode {
        self.mode
    }

    /// Whether somebody may be waiting for a server connection.
    pub fn is_scarce(&self) -> bool {
        self.queue.is_full()
    }

    /// Where and as whom its connections log in.
    pub const fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Tables may have changed: every statement is prepared anew.
    pub fn tables_changed(&self) {
        self.changes.happened();
    }

    /// What is known of the role and the database.
    pub fn knowledge(&self) -> Arc<Knowledge> {
        self.known.facts(self.changes.count())
    }

    /// Whether its connections may pass from one client to another without a reset, so that what
    /// is known of the role and the database counts. With session pooling only tenants' may.
    pub fn needs_facts(&self) -> bool {
        self.mode == PoolMode::Transaction || self.key.access == Access::Tenant
    }

    /// Whether a connection was taken since this was last asked. If not, what is known may be old
    /// when the next one is: until it is asked for again, the worst is assumed.
    pub fn take_use(&self) -> bool {
        self.known.take_use()
    }

    /// Takes what is known as of so many changes; false if it was known before.
    pub fn learn(&self, knowledge: Knowledge, as_of: u64) -> bool {
        self.known.learn(knowledge, as_of)
    }

    /// Which login it is.
    pub const fn key(&self) -> &PoolKey {
        &self.key
    }

    /// What a client that starts with `settings` is told at login, if it is known.
    pub fn welcome(&self, settings: &Arc<SessionSettings>) -> Option<Welcome> {
        self.welcomes.get(settings)
    }

    /// Opens a server connection, or uses an idle one, to learn what it tells at login.
    ///
    /// # Errors
    ///
    /// As [`Self::checkout`].
    pub async fn meet(
        self: &Arc<Self>,
        settings: &Arc<SessionSettings>,
        patience: Patience,
        access: Access,
    ) -> Result<Welcome, Error> {
        let checkout = self.checkout(settings, patience, access).await?;
        Ok(checkout.return_unused())
    }

    fn remember_welcome(&self, settings: &Arc<SessionSettings>, server: &ServerConnection) {
        if self.mode == PoolMode::Session {
            return;
        }
        self.welcomes.insert(Arc::clone(settings), Welcome::of(server));
    }

    /// Lets the connection's statuses be the copy that all with equal ones share.
    fn share_statuses(&self, server: &mut ServerConnection) {
        if self.mode == PoolMode::Session {
            return;
        }
        let mut known = lock(&self.statuses);
        match known.iter().find(|known| *known == server.statuses()) {
            Some(shared) => server.share_statuses(Arc::clone(shared)),
            None => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.push(Arc::clone(server.statuses()));
            }
        }
    }

    /// The most recently used idle connection that was started with `settings`.
    fn take_idle(&self, settings: &Arc<SessionSettings>) -> Option<ServerConnection> {
        let mut idle = lock(&self.idle);
        let is_alike =
            |entry: &Idle| Arc::ptr_eq(&entry.settings, settings) || entry.settings == *settings;
        let is_near = |entry: &Idle| is_alike(entry) && entry.server.is_at_home();
        let position =
            idle.iter().rposition(is_near).or_else(|| idle.iter().rposition(is_alike))?;
        idle.remove(position).map(|entry| entry.server)
    }

    /// Takes back a connection that a confirmed reset has made clean.
    fn put_idle(&self, server: ServerConnection, settings: Arc<SessionSettings>) {
        if !self.keeps_idle {
            return;
        }
        lock(&self.idle).push_back(Idle { server, settings, since: Instant::now() });
    }

    fn observe_discard(&self, server: &ServerConnection, reason: Reason) {
        self.observer.observe(Event::ServerDiscarded {
            pool: self.key.access,
            pid: server.pid(),
            reason: reason.as_str(),
        });
    }
}

/// Locks what a panic of its holder leaves as it should be: each is changed by one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
