//! Cancel keys of our own, and the server connection that each one's session holds now.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Mutex;

use super::cancel_limit::{CancelLimit, PerSession};
use crate::backend::{self, Target, forward_cancel};
use crate::protocol::message::PROTOCOL_3_2;
use crate::types::{Address, CancelKey, SessionId};

/// Bytes of the secret from protocol 3.2 on, where a longer one is allowed.
const SECRET_LEN_3_2: usize = 32;
/// Bytes of the secret before.
const SECRET_LEN_3_0: usize = 4;

/// So long may it take to cancel what a client has left behind.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Which key cancels on which server connection.
pub struct Cancels {
    holders: Arc<DashMap<CancelKey, Arc<Holder>>>,
    limit: CancelLimit,
}

/// What became of a cancel request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// There were too many, or too many wrong keys from there: nobody was asked.
    Dropped,
    /// What the session is doing was cancelled.
    Forwarded(SessionId),
    /// The key is nobody's, or its session does nothing.
    Nothing,
}

/// A session, and the server connection that it holds now.
struct Holder {
    session: SessionId,
    target: Arc<Target>,
    /// The key of the server connection, as long as the session holds one. Locked while a request
    /// is carried out, so that none can arrive after the connection was given back.
    held: Mutex<Option<Arc<CancelKey>>>,
    /// What a request finds while the session holds none.
    waiting: AtomicU8,
    requests: PerSession,
}

/// The session has asked for nothing.
const QUIET: u8 = 0;
/// Its statement waits for a server connection.
const WAITING: u8 = 1;
/// And has to be cancelled as soon as it runs.
const CANCELLED: u8 = 2;

/// So long after a statement was sent it is running, or over.
const STARTED_AFTER: Duration = Duration::from_millis(20);

/// Keeps a session's key valid; dropped, the key means nothing any more.
pub(super) struct Registration {
    holders: Arc<DashMap<CancelKey, Arc<Holder>>>,
    holder: Arc<Holder>,
    key: CancelKey,
}

impl Default for Cancels {
    fn default() -> Self {
        Self { holders: Arc::default(), limit: CancelLimit::new() }
    }
}

impl Cancels {
    /// Makes a key for a session whose server connections come from `target`.
    ///
    /// With session pooling the process id is the server's own, which clients compare with
    /// notifications and hand to `pg_terminate_backend`; with transaction pooling there is no one
    /// server, and it is random. The secret is ours, and random. Without randomness there is no
    /// key, and nothing of this session can be cancelled.
    pub(super) fn register(
        &self,
        target: Arc<Target>,
        server: Option<Arc<CancelKey>>,
        session: SessionId,
        version: u32,
    ) -> Registration {
        let length = if version >= PROTOCOL_3_2 { SECRET_LEN_3_2 } else { SECRET_LEN_3_0 };
        let mut secret = vec![0; length];
        let mut random_pid = [0; 4];
        let random = aws_lc_rs::rand::fill(&mut secret).is_ok()
            && aws_lc_rs::rand::fill(&mut random_pid).is_ok();
        let random_pid = i32::from_be_bytes(random_pid) & i32::MAX;
        let pid = server.as_ref().map_or(random_pid, |key| key.pid);
        let key = CancelKey { pid, secret };
        let holder = Arc::new(Holder {
            session,
            target,
            held: Mutex::new(server),
            waiting: AtomicU8::new(QUIET),
            requests: PerSession::default(),
        });
        if random {
            self.holders.insert(key.clone(), Arc::clone(&holder));
        }
        Registration { holders: Arc::clone(&self.holders), holder, key }
    }

    /// Cancels what the session of `key` is doing, if there is one, and the sender may ask.
    ///
    /// # Errors
    ///
    /// Fails when Postgres cannot be reached.
    pub async fn forward(
        &self,
        key: &CancelKey,
        from: &Address,
    ) -> Result<Outcome, backend::Error> {
        let now = Instant::now();
        if !self.limit.hears(from, now) {
            return Ok(Outcome::Dropped);
        }
        let holder = self.holders.get(key).map(|entry| Arc::clone(entry.value()));
        let Some(holder) = holder else {
            self.limit.count_guess(from, now);
            return Ok(Outcome::Nothing);
        };
        let Some(_turn) = self.limit.turn(&holder.requests).await else {
            return Ok(Outcome::Dropped);
        };
        let held = holder.held.lock().await;
        match held.as_ref() {
            Some(server_key) => forward_cancel(&holder.target, server_key).await?,
            None => {
                let wait = (WAITING, CANCELLED);
                if holder.waiting.compare_exchange(wait.0, wait.1, AcqRel, Acquire).is_err() {
                    return Ok(Outcome::Nothing);
                }
            }
        }
        Ok(Outcome::Forwarded(holder.session))
    }
}

impl Registration {
    pub(super) const fn key(&self) -> &CancelKey {
        &self.key
    }

    /// From now on a statement of the session waits for a server connection.
    pub(super) fn wait(&self) {
        self.holder.waiting.store(WAITING, Release);
    }

    /// From now on the session holds this server connection. Its statement goes out next; if it
    /// was cancelled while it waited, it is cancelled once it runs.
    pub(super) async fn hold(&self, server: &Arc<CancelKey>) {
        let mut held = self.holder.held.lock().await;
        *held = Some(Arc::clone(server));
        if self.holder.waiting.swap(QUIET, AcqRel) != CANCELLED {
            return;
        }
        let (holder, meant) = (Arc::clone(&self.holder), Arc::clone(server));
        tokio::spawn(async move {
            tokio::time::sleep(STARTED_AFTER).await;
            let held = holder.held.lock().await;
            if held.as_ref().is_some_and(|server| Arc::ptr_eq(server, &meant)) {
                // Nobody waits for the outcome.
                let _ = forward_cancel(&holder.target, &meant).await;
            }
        });
    }

    /// The session holds none any more; waits for a request that is under way.
    pub(super) async fn let_go(&self) {
        self.holder.held.lock().await.take();
    }

    /// Cancels what is running, unless it has ended meanwhile.
    pub(super) fn cancel_soon(&self) {
        let holder = Arc::clone(&self.holder);
        tokio::spawn(async move {
            let held = holder.held.lock().await;
            if let Some(server) = held.as_ref() {
                // If it fails, the session ends a little later.
                let _ = forward_cancel(&holder.target, server).await;
            }
        });
    }

    /// As [`Self::let_go`]; before that, cancels what is still running if `running`.
    pub(super) async fn end_hold(&self, running: bool) {
        let mut held = self.holder.held.lock().await;
        if let (true, Some(server_key)) = (running, held.as_ref()) {
            // The connection is closed next in any case; this only saves the server some work.
            let cancel = Box::pin(forward_cancel(&self.holder.target, server_key));
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, cancel).await;
        }
        held.take();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.holders.remove(&self.key);
    }
}
