//! Which sessions there are, and which of them must end: their token was revoked, or their tenant is
//! not served any more.
//!
//! Changes are seldom, so each is held against every session.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use futures_util::task::AtomicWaker;

use super::context::Scope;
use super::revocations::{Identity, Revocations};
use crate::auth::VerifiedClaims;
use crate::protocol::ClientError;
use crate::types::TenantId;

/// After so long without an answer from the database nobody knows who may still be here, and nobody
/// is. A restart of Postgres takes less.
pub const BLIND_AFTER: Duration = Duration::from_secs(30);

/// The sessions, and what they are held against.
pub struct Stays {
    sessions: Arc<DashMap<u64, Arc<Stay>>>,
    /// The number of the last one.
    last: AtomicU64,
    revocations: RwLock<Arc<Revocations>>,
    /// `cloison.session_change()`, as of when the rest was read.
    change: AtomicI64,
    /// When the database was last known to have nothing newer.
    seen_at: Mutex<Instant>,
}

/// One session's leave to stay.
#[derive(Debug)]
pub struct Stay {
    identity: Identity,
    tenant: Option<TenantId>,
    end: AtomicU8,
    waker: AtomicWaker,
}

/// Keeps a session among those that are looked at; dropped, it is not any more.
#[derive(Debug)]
pub struct Staying {
    number: u64,
    stay: Arc<Stay>,
    sessions: Arc<DashMap<u64, Arc<Stay>>>,
}

/// Why a session must end. The first reason stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reason {
    Revoked = 1,
    NotServed = 2,
    Unknown = 3,
}

/// What a look at the database told about the tenants that have sessions.
#[derive(Debug)]
pub(super) struct Served {
    /// Those that were asked about.
    pub(super) asked: HashSet<TenantId>,
    /// Those of them that may be served.
    pub(super) active: HashSet<TenantId>,
}

impl Default for Stays {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            last: AtomicU64::new(0),
            revocations: RwLock::default(),
            change: AtomicI64::new(i64::MIN),
            seen_at: Mutex::new(Instant::now()),
        }
    }
}

impl Stays {
    /// Adds whom a session is; it may be several, one after the other.
    ///
    /// # Errors
    ///
    /// What the client is told whose token was revoked, or while nobody knows.
    pub fn begin(
        &self,
        claims: &VerifiedClaims,
        scope: Scope,
    ) -> Result<Box<Staying>, ClientError> {
        let stay = Arc::new(Stay {
            identity: Identity::of(claims),
            tenant: scope.tenant(),
            end: AtomicU8::new(0),
            waker: AtomicWaker::new(),
        });
        // Whoever reads a newer list from now on finds the session; we read what there is by now.
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.sessions.insert(number, Arc::clone(&stay));
        let staying = Staying { number, stay, sessions: Arc::clone(&self.sessions) };
        if self.is_blind() {
            return Err(Reason::Unknown.told());
        }
        if self.list().cover(&staying.stay.identity, SystemTime::now()) {
            return Err(ClientError::fatal("28P01", "C213", "the token was revoked")
                .hint("Connect again with a new token."));
        }
        Ok(Box::new(staying))
    }

    /// Whether a token is known to be revoked.
    pub fn has_revoked(&self, claims: &VerifiedClaims) -> bool {
        self.list().cover(&Identity::of(claims), SystemTime::now())
    }

    /// The number of the last change that was read.
    pub fn change(&self) -> i64 {
        self.change.load(Ordering::Acquire)
    }

    /// The tenants that have sessions.
    pub(super) fn tenants(&self) -> HashSet<TenantId> {
        self.sessions.iter().filter_map(|session| session.tenant).collect()
    }

    /// At `at`, the database had nothing newer.
    pub(super) fn saw(&self, at: Instant) {
        *self.seen_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Takes what the database told, and ends whom it concerns; says how many that were. Unless a
    /// session has come meanwhile whose tenant was not asked about, `change` is done with.
    pub(super) fn take(&self, change: i64, revocations: Revocations, served: &Served) -> usize {
        let list = Arc::new(revocations);
        *self.revocations.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&list);
        let now = SystemTime::now();
        let (mut ended, mut is_complete) = (0, true);
        for session in self.sessions.iter() {
            if list.cover(&session.identity, now) {
                ended += usize::from(session.end(Reason::Revoked));
            }
            match session.tenant {
                Some(tenant) if !served.asked.contains(&tenant) => is_complete = false,
                Some(tenant) if !served.active.contains(&tenant) => {
                    ended += usize::from(session.end(Reason::NotServed));
                }
                Some(_) | None => {}
            }
        }
        if is_complete {
            self.change.store(change, Ordering::Release);
        }
        ended
    }

    /// Ends everybody if the database has not answered for too long; says how many that were.
    pub fn end_if_blind(&self) -> usize {
        if !self.is_blind() {
            return 0;
        }
        self.sessions.iter().filter(|session| session.end(Reason::Unknown)).count()
    }

    fn is_blind(&self) -> bool {
        let seen_at = *self.seen_at.lock().unwrap_or_else(PoisonError::into_inner);
        seen_at.elapsed() > BLIND_AFTER
    }

    fn list(&self) -> Arc<Revocations> {
        // The lock guards one assignment, which cannot panic half-way.
        Arc::clone(&self.revocations.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stay {
    /// Ready when the session has to end as soon as nothing is open, with what its client is told.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<ClientError> {
        if let Some(reason) = self.reason() {
            return Poll::Ready(reason.told());
        }
        self.waker.register(cx.waker());
        // It may have come in between.
        self.reason().map_or(Poll::Pending, |reason| Poll::Ready(reason.told()))
    }

    /// False if that was said before.
    fn end(&self, reason: Reason) -> bool {
        let said = self.end.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake();
        said.is_ok()
    }

    fn reason(&self) -> Option<Reason> {
        let said = self.end.load(Ordering::Acquire);
        let reasons = [Reason::Revoked, Reason::NotServed, Reason::Unknown];
        reasons.into_iter().find(|reason| *reason as u8 == said)
    }
}

impl Staying {
    /// What the session waits for.
    pub const fn stay(&self) -> &Arc<Stay> {
        &self.stay
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        self.sessions.remove(&self.number);
    }
}

impl Reason {
    fn told(self) -> ClientError {
        match self {
            Self::Revoked => {
                let message = "terminating connection because the token was revoked";
                ClientError::fatal("57P01", "C213", message).hint("Connect again with a new token.")
            }
            Self::NotServed => {
                let message = "terminating connection because the tenant is not served any more";
                ClientError::fatal("57P01", "C214", message)
                    .hint("Ask the operator of this service.")
            }
            Self::Unknown => {
                let message = "the proxy cannot ask the database who may still be connected";
                ClientError::fatal("08006", "C205", message).hint("The proxy's log has the cause.")
            }
        }
    }
}
