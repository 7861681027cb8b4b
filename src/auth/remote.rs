//! A JWK Set behind a URL: asked by one task at a time, and never more often than the limits say,
//! whatever clients present.
//!
//! A client whose token names a key that the set does not have waits for the set to be fetched
//! anew, so that an issuer may change its keys at any moment; an id that was missing from a set
//! that was just fetched is remembered for a while, so that the same token costs no second fetch.
//! Keys that were fetched once outlive an outage of the endpoint, but not by more than
//! [`Limits::stale`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::KeysError;
use super::fetch::Source;
use super::jwk::Key;
use super::keys::{Found, Keys, lock};
use crate::config::Algorithm;
use crate::recent::Recent;

/// How often an endpoint is asked and for how long its answer is good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Keys of this age are fetched anew in the background; of twice this age, before they are used.
    pub(super) renew_after: Duration,
    /// Shortest time between two attempts because of a key id that the set does not have. Whoever
    /// has one to offer waits for its turn, so that ids made up by others cannot keep out a new key.
    pub(super) unknown: Duration,
    /// Shortest time between two attempts otherwise, and for which an id that is not there is
    /// known not to be.
    pub(super) cooldown: Duration,
    /// The same while there are no keys at all.
    pub(super) first_cooldown: Duration,
    /// How old keys may become while the endpoint does not answer.
    pub(super) stale: Duration,
    /// Longest time that one attempt may take, to its last byte.
    pub(super) timeout: Duration,
    /// Most bytes of an answer or a file.
    pub(super) max_bytes: usize,
}

impl Limits {
    /// What the program uses; tests use shorter times.
    pub(super) const STANDARD: Self = Self {
        renew_after: Duration::from_secs(5 * 60),
        unknown: Duration::from_secs(3),
        cooldown: Duration::from_secs(30),
        first_cooldown: Duration::from_secs(1),
        stale: Duration::from_secs(24 * 60 * 60),
        timeout: Duration::from_secs(5),
        max_bytes: 256 * 1024,
    };
}

/// Key ids that are remembered for not being there.
const MOST_MISSING: usize = 1_000;

/// The longest key id that is remembered; any longer one is nobody's.
const LONGEST_ID: usize = 256;

/// A JWK Set behind a URL.
pub(super) struct RemoteKeys {
    source: Source,
    limits: Limits,
    state: Mutex<Renewal>,
    /// Counts the attempts that have ended.
    ended: watch::Sender<u64>,
    /// Ids that the set did not have, and when it was fetched last without them.
    missing: Recent<String, Instant>,
}

/// What is known of a remote key set, and when it was learnt.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// The last keys, and when they were fetched.
    pub(super) keys: Option<(Arc<Keys>, Instant)>,
    /// When the last attempt began.
    pub(super) attempted: Option<Instant>,
    /// Whether an attempt is going on.
    pub(super) running: bool,
    /// What the last attempt failed with.
    pub(super) failure: Option<KeysError>,
}

/// What to do about a key that is wanted now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Answer from what is there.
    Answer,
    /// Answer from what is there, and begin an attempt.
    AnswerAndRenew,
    /// Wait for the attempt that is going on.
    Wait,
    /// Wait until an attempt may begin, and look again.
    WaitUntil(Instant),
    /// Begin an attempt and wait for it.
    RenewAndWait,
}

/// What the one who wants a key has to wait for.
enum Due {
    Nothing,
    Attempt {
        ended: watch::Receiver<u64>,
        /// It began after the question: what it brings does not come too early for it.
        is_ours: bool,
    },
    Time(Instant),
}

impl RemoteKeys {
    pub(super) fn new(source: Source, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            source,
            limits,
            state: Mutex::default(),
            ended: watch::Sender::new(0),
            missing: Recent::new(MOST_MISSING),
        })
    }

    pub(super) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Found, Option<KeysError>> {
        let asked = Instant::now();
        loop {
            match self.look(id, algorithm, asked) {
                Due::Nothing => break,
                Due::Attempt { mut ended, is_ours } => {
                    // The sender lives in `self`, so this ends only with the attempt.
                    let _ = ended.changed().await;
                    if is_ours {
                        break;
                    }
                }
                // Others may have begun the attempt by then.
                Due::Time(time) => tokio::time::sleep_until(time).await,
            }
        }
        let state = lock(&self.state);
        match state.usable(Instant::now(), &self.limits) {
            Some((keys, fetched)) => {
                let found = keys.find(id, algorithm);
                if let (Some(id), Found::Nothing) = (id, &found)
                    && id.len() <= LONGEST_ID
                {
                    self.missing.insert(id.to_owned(), *fetched);
                }
                Ok(found)
            }
            None => Err(state.failure.clone()),
        }
    }

    /// How many keys were fetched last.
    pub(super) fn count(&self) -> usize {
        lock(&self.state).keys.as_ref().map_or(0, |(keys, _)| keys.count())
    }

    /// Takes the step that is due; returns what to wait for, if anything.
    fn look(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm, asked: Instant) -> Due {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let known = match state.usable(now, &self.limits) {
            None => false,
            Some((keys, _)) if !matches!(keys.find(id, algorithm), Found::Nothing) => true,
            // What is known to be missing is as good as there: nothing is fetched for it.
            Some(_) => self.is_missing(id, now),
        };
        let step = state.step(known, now, &self.limits);
        if matches!(step, Step::AnswerAndRenew | Step::RenewAndWait) {
            state.attempted = Some(now);
            state.running = true;
            tokio::spawn(Arc::clone(self).renew());
        }
        match step {
            Step::Answer | Step::AnswerAndRenew => Due::Nothing,
            // Subscribed under the lock that the attempt needs to end, so its end cannot be missed.
            Step::Wait | Step::RenewAndWait => Due::Attempt {
                ended: self.ended.subscribe(),
                is_ours: state.attempted.is_some_and(|began| began >= asked),
            },
            Step::WaitUntil(time) => Due::Time(time),
        }
    }

    fn is_missing(&self, id: Option<&str>, now: Instant) -> bool {
        id.is_some_and(|id| {
            id.len() > LONGEST_ID
                || self
                    .missing
                    .get(id)
                    .is_some_and(|since| now.duration_since(since) < self.limits.cooldown)
        })
    }

    async fn renew(self: Arc<Self>) {
        let timeout = self.limits.timeout;
        let outcome = match tokio::time::timeout(timeout, self.source.fetch()).await {
            Ok(body) => body.and_then(|body| Key::from_jwk_set(&body)),
            Err(_) => Err(KeysError::Fetch(format!("no answer within {timeout:?}"))),
        };
        {
            let mut state = lock(&self.state);
            state.running = false;
            match outcome {
                Ok(keys) => {
                    state.keys = Some((Arc::new(keys.into()), Instant::now()));
                    state.failure = None;
                }
                Err(error) => {
                    tracing::debug!(%error, "key set not renewed");
                    state.failure = Some(error);
                }
            }
        }
        self.ended.send_modify(|count| *count += 1);
    }
}

impl std::fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteKeys").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Renewal {
    /// The keys, unless they are too old to be trusted.
    fn usable(&self, now: Instant, limits: &Limits) -> Option<&(Arc<Keys>, Instant)> {
        self.keys.as_ref().filter(|(_, fetched)| now.duration_since(*fetched) < limits.stale)
    }

    /// Decides what is due when a key is wanted, which is `known` or not among the usable ones.
    pub(super) fn step(&self, known: bool, now: Instant, limits: &Limits) -> Step {
        let is_down = self.failure.is_some();
        let pause = match self.usable(now, limits) {
            Some(_) if !known && !is_down => limits.unknown,
            Some(_) => limits.cooldown,
            None => limits.first_cooldown,
        };
        let due = self.attempted.map(|began| began + pause).filter(|due| *due > now);
        let may_renew = !self.running && due.is_none();
        let age = self.keys.as_ref().map(|(_, fetched)| now.duration_since(*fetched));
        let is_fresh = age.is_some_and(|age| age < limits.renew_after);
        // Past twice the age a key may have been revoked long ago; but while the endpoint is down,
        // nobody waits for it.
        let may_be_used =
            is_down || age.is_some_and(|age| age < limits.renew_after.saturating_mul(2));
        match (known, may_renew) {
            (true, _) if is_fresh => Step::Answer,
            (true, true) if may_be_used => Step::AnswerAndRenew,
            (true, false) if may_be_used => Step::Answer,
            (_, true) => Step::RenewAndWait,
            (_, false) if self.running => Step::Wait,
            (_, false) => match due {
                Some(due) if !is_down => Step::WaitUntil(due),
                Some(_) | None => Step::Answer,
            },
        }
    }
}
