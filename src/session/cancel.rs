//! Cancel keys of our own, and the server connection that each one's session holds now.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Mutex;

use crate::backend::{self, Target, forward_cancel};
use crate::pool::Bound;
use crate::protocol::message::PROTOCOL_3_2;
use crate::types::{CancelKey, SessionId};

/// Bytes of the secret from protocol 3.2 on, where a longer one is allowed.
const SECRET_LEN_3_2: usize = 32;
/// Bytes of the secret before.
const SECRET_LEN_3_0: usize = 4;

/// So long may it take to cancel what a client has left behind.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Which key cancels on which server connection.
#[derive(Default)]
pub struct Cancels {
    holders: Arc<DashMap<CancelKey, Arc<Holder>>>,
}

/// A session's hold on a server connection.
struct Holder {
    session: SessionId,
    target: Target,
    server_key: CancelKey,
    /// True until the session gives the connection back. Locked while a request is carried out,
    /// so that none can arrive after that.
    holds: Mutex<bool>,
}

/// Keeps a session's key valid; dropped, the key means nothing any more.
pub(super) struct Registration {
    holders: Arc<DashMap<CancelKey, Arc<Holder>>>,
    holder: Arc<Holder>,
    key: CancelKey,
}

impl Cancels {
    /// Makes a key for the session that holds `bound`.
    ///
    /// The process id is the server's own, which clients compare with notifications and hand to
    /// `pg_terminate_backend`; the secret is ours, and random. Without randomness there is no
    /// key, and nothing of this session can be cancelled.
    pub(super) fn register(&self, bound: &Bound, session: SessionId, version: u32) -> Registration {
        let server_key = bound.server().key().clone();
        let length = if version >= PROTOCOL_3_2 { SECRET_LEN_3_2 } else { SECRET_LEN_3_0 };
        let mut secret = vec![0; length];
        let random = aws_lc_rs::rand::fill(&mut secret).is_ok();
        let key = CancelKey { pid: server_key.pid, secret };
        let holder = Arc::new(Holder {
            session,
            target: bound.target().clone(),
            server_key,
            holds: Mutex::new(true),
        });
        if random {
            self.holders.insert(key.clone(), Arc::clone(&holder));
        }
        Registration { holders: Arc::clone(&self.holders), holder, key }
    }

    /// Cancels what the session of `key` is doing, and says which it was; there may be none.
    ///
    /// # Errors
    ///
    /// Fails when Postgres cannot be reached.
    pub async fn forward(&self, key: &CancelKey) -> Result<Option<SessionId>, backend::Error> {
        let holder = self.holders.get(key).map(|entry| Arc::clone(entry.value()));
        let Some(holder) = holder else {
            return Ok(None);
        };
        let holds = holder.holds.lock().await;
        if *holds {
            forward_cancel(&holder.target, &holder.server_key).await?;
        }
        Ok(holds.then_some(holder.session))
    }
}

impl Registration {
    pub(super) const fn key(&self) -> &CancelKey {
        &self.key
    }

    /// Ends the hold, after the request that may be under way; before that, cancels what is
    /// still running if `running`.
    pub(super) async fn close(self, running: bool) {
        let mut holds = self.holder.holds.lock().await;
        if running {
            // The connection is closed next in any case; this only saves the server some work.
            let cancel = forward_cancel(&self.holder.target, &self.holder.server_key);
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, cancel).await;
        }
        *holds = false;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.holders.remove(&self.key);
    }
}
