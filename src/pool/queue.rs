//! Clients that wait for a server connection: first come, first served, and not in silence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, lock};
use crate::config;
use crate::observe::{Event, Observer};
use crate::types::{Access, Patience};

/// A wait of this length is worth a line of the log.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Lines of one pool are at least so far apart.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// The places for clients of a pool.
#[derive(Clone)]
pub(super) struct Places {
    own: Arc<Queue>,
    /// Where super-admins find a place who act for a tenant, once tenants have all of their pool's:
    /// their own pool's.
    reserve: Option<Arc<Queue>>,
}

/// The places of a pool, and who waits for one.
struct Queue {
    pool: Access,
    /// A permit for each connection that is checked out.
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    observer: Observer,
}

#[derive(Default)]
struct State {
    waiting: usize,
    /// Since when somebody has been waiting.
    since: Option<Instant>,
    /// When a line was last written.
    told: Option<Instant>,
    /// The log says that clients wait, and not yet that they do not any more.
    is_told: bool,
}

/// One client that waits. Leaves the queue when it is dropped, whether it was served or went away.
struct Waiting<'a>(&'a Queue);

impl Places {
    /// Those of a single pool, without a reserve.
    pub(super) fn of_one(pool: Access, size: usize, observer: &Observer) -> Self {
        Self { own: Arc::new(Queue::new(pool, size, observer)), reserve: None }
    }

    /// Those of each pool, in the same order.
    pub(super) fn of_pools(
        pools: &BTreeMap<Access, config::Pool>,
        observer: &Observer,
    ) -> Vec<Self> {
        let queue = |(&access, pool): (&Access, &config::Pool)| {
            (access, Arc::new(Queue::new(access, pool.size, observer)))
        };
        let queues: BTreeMap<Access, Arc<Queue>> = pools.iter().map(queue).collect();
        let reserve = |access| match access {
            Access::Tenant => queues.get(&Access::Superadmin).cloned(),
            Access::Superadmin | Access::Owner => None,
        };
        let places = |(&access, own)| Self { own: Arc::clone(own), reserve: reserve(access) };
        queues.iter().map(places).collect()
    }

    /// Whether every place is taken.
    pub(super) fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// Places that nobody has taken.
    pub(super) fn free(&self) -> usize {
        self.own.slots.available_permits()
    }

    /// Whether the place is one of the pool's own.
    pub(super) fn has_given(&self, slot: &OwnedSemaphorePermit) -> bool {
        Arc::ptr_eq(slot.semaphore(), &self.own.slots)
    }

    /// Waits for a place, for a client with a token for `access`.
    ///
    /// # Errors
    ///
    /// The time is over.
    pub(super) async fn wait(
        &self,
        patience: Patience,
        access: Access,
    ) -> Result<OwnedSemaphorePermit, Error> {
        match &self.reserve {
            Some(reserve) if access != Access::Tenant && self.is_full() => {
                reserve.wait(patience).await
            }
            Some(_) | None => self.own.wait(patience).await,
        }
    }
}

impl Queue {
    fn new(pool: Access, size: usize, observer: &Observer) -> Self {
        let slots = Arc::new(Semaphore::new(size));
        Self { pool, slots, state: Mutex::default(), observer: observer.clone() }
    }

    /// Waits for a place.
    ///
    /// # Errors
    ///
    /// The time is over.
    async fn wait(&self, patience: Patience) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(free) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(free);
        }
        // Seldom, and large.
        Box::pin(self.wait_in_line(patience)).await
    }

    async fn wait_in_line(&self, patience: Patience) -> Result<OwnedSemaphorePermit, Error> {
        let _waiting = self.join();
        // One future for all of the wait, so that the client keeps its place in the line.
        let mut slot = std::pin::pin!(Arc::clone(&self.slots).acquire_owned());
        loop {
            let next = tokio::time::Instant::now() + TELL_AFTER;
            let next = patience.until().map_or(next, |until| until.min(next));
            if let Ok(acquired) = tokio::time::timeout_at(next, slot.as_mut()).await {
                // The semaphore is never closed; if it were, there would be nothing to wait for.
                return acquired.map_err(|_| Error::WaitTimeout(Duration::ZERO));
            }
            if patience.until().is_some_and(|until| tokio::time::Instant::now() >= until) {
                let (pool, limit) = (self.pool, patience.limit());
                self.observer.observe(Event::CheckoutTimedOut { pool, waited: limit });
                return Err(Error::WaitTimeout(limit));
            }
            self.tell();
        }
    }

    fn join(&self) -> Waiting<'_> {
        let mut state = lock(&self.state);
        state.waiting += 1;
        state.since.get_or_insert_with(Instant::now);
        Waiting(self)
    }

    /// Says that clients wait, unless that was said a moment ago.
    fn tell(&self) {
        let mut state = lock(&self.state);
        if state.told.is_some_and(|told| told.elapsed() < TELL_AGAIN) {
            return;
        }
        (state.told, state.is_told) = (Some(Instant::now()), true);
        let (pool, waiting) = (self.pool, state.waiting);
        let lasted = state.since.map_or(Duration::ZERO, |since| since.elapsed());
        drop(state);
        self.observer.observe(Event::PoolFull { pool, waiting, lasted });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self(queue) = *self;
        let mut state = lock(&queue.state);
        state.waiting -= 1;
        if state.waiting > 0 {
            return;
        }
        let lasted = state.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let was_told = std::mem::take(&mut state.is_told);
        drop(state);
        if was_told {
            queue.observer.observe(Event::PoolRelieved { pool: queue.pool, lasted });
        }
    }
}
