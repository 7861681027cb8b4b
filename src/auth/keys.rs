//! Key sets: fixed, in a file, or behind a URL.
//!
//! A URL is asked by one task at a time, and never more often than the limits say, whatever clients
//! present. Keys that were fetched once outlive an outage of the endpoint, but not by more than
//! [`Limits::stale`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::KeysError;
use super::fetch::Endpoint;
use super::jwk::Key;
use crate::config::Algorithm;

/// How often an endpoint is asked and for how long its answer is good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Keys of this age are fetched anew in the background; of twice this age, before they are used.
    pub(super) renew_after: Duration,
    /// Shortest time between two attempts, so that unknown key ids cannot make us flood the issuer.
    pub(super) cooldown: Duration,
    /// The same while there are no keys at all.
    pub(super) first_cooldown: Duration,
    /// How old keys may become while the endpoint does not answer.
    pub(super) stale: Duration,
    /// Longest time that one answer may take, to its last byte.
    pub(super) timeout: Duration,
    /// Most bytes of an answer or a file.
    pub(super) max_bytes: usize,
}

impl Limits {
    /// What the program uses; tests use shorter times.
    pub(super) const STANDARD: Self = Self {
        renew_after: Duration::from_secs(5 * 60),
        cooldown: Duration::from_secs(30),
        first_cooldown: Duration::from_secs(1),
        stale: Duration::from_secs(24 * 60 * 60),
        timeout: Duration::from_secs(5),
        max_bytes: 256 * 1024,
    };
}

/// Shortest time between two looks at a key file's date.
const FILE_CHECK: Duration = Duration::from_secs(1);

/// Keys that were known at one time.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Arc<Key>>);

/// What a look into [`Keys`] ends in.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The one key that is meant.
    Key(Arc<Key>),
    /// Several could be meant.
    Ambiguous,
    /// None is.
    Nothing,
}

impl From<Vec<Key>> for Keys {
    fn from(keys: Vec<Key>) -> Self {
        Self(keys.into_iter().map(Arc::new).collect())
    }
}

impl Keys {
    /// The key for `algorithm` with that id; without an id, the only key for `algorithm`.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithm() == algorithm && (id.is_none() || key.id() == id));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::Key(Arc::clone(key)),
            (Some(_), Some(_)) => Found::Ambiguous,
            (None, _) => Found::Nothing,
        }
    }
}

/// The keys of one source. Rules that name the same source share it.
#[derive(Debug)]
pub(super) enum KeySet {
    /// One secret or one public key. The configuration says that it is the key, so an id that a
    /// token names has no say.
    Fixed(Keys),
    /// A JWK Set in a file.
    File(KeyFile),
    /// A JWK Set behind a URL.
    Remote(Arc<RemoteKeys>),
}

impl KeySet {
    /// Finds a key, if need be after renewing the set. An error if there is no set to look into.
    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Found, Option<KeysError>> {
        match self {
            Self::Fixed(keys) => Ok(keys.find(None, algorithm)),
            Self::File(file) => Ok(file.current().await.find(id, algorithm)),
            Self::Remote(remote) => remote.find(id, algorithm).await,
        }
    }
}

/// A JWK Set in a file, read again when the file's date or length changes.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    state: Mutex<FileState>,
}

#[derive(Debug)]
struct FileState {
    /// What the last readable version held. A broken file does not take the place of a good one.
    keys: Arc<Keys>,
    version: Option<Version>,
    checked: Instant,
}

/// What tells two contents of a file apart without reading them.
type Version = (Option<SystemTime>, u64);

impl KeyFile {
    /// Reads the file for the first time; from then on it may be broken for a while.
    pub(super) fn open(path: PathBuf) -> Result<Self, KeysError> {
        let version = std::fs::metadata(&path).ok().as_ref().map(version_of);
        let keys = parse_file(std::fs::read(&path), &path)?;
        let state = FileState { keys: Arc::new(keys), version, checked: Instant::now() };
        Ok(Self { path, state: Mutex::new(state) })
    }

    async fn current(&self) -> Arc<Keys> {
        let seen = {
            let mut state = lock(&self.state);
            if state.checked.elapsed() < FILE_CHECK {
                return Arc::clone(&state.keys);
            }
            state.checked = Instant::now();
            state.version
        };
        let version = tokio::fs::metadata(&self.path).await.ok().as_ref().map(version_of);
        if version.is_some() && version != seen {
            match parse_file(tokio::fs::read(&self.path).await, &self.path) {
                Ok(keys) => {
                    let mut state = lock(&self.state);
                    state.keys = Arc::new(keys);
                    state.version = version;
                }
                Err(error) => tracing::debug!(%error, "key file kept as it was"),
            }
        }
        Arc::clone(&lock(&self.state).keys)
    }
}

fn version_of(metadata: &std::fs::Metadata) -> Version {
    (metadata.modified().ok(), metadata.len())
}

fn parse_file(
    content: std::io::Result<Vec<u8>>,
    path: &std::path::Path,
) -> Result<Keys, KeysError> {
    let content =
        content.map_err(|error| KeysError::Read { path: path.to_owned(), kind: error.kind() })?;
    if content.len() > Limits::STANDARD.max_bytes {
        return Err(KeysError::TooLarge(Limits::STANDARD.max_bytes));
    }
    Key::from_jwk_set(&content).map(Keys::from)
}

/// A JWK Set behind a URL.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    endpoint: Endpoint,
    limits: Limits,
    state: Mutex<Renewal>,
    /// Counts the attempts that have ended.
    ended: watch::Sender<u64>,
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
    /// Begin an attempt and wait for it.
    RenewAndWait,
}

impl RemoteKeys {
    pub(super) fn new(url: &str, limits: Limits) -> Result<Arc<Self>, KeysError> {
        Ok(Arc::new(Self {
            endpoint: Endpoint::new(url, limits.timeout, limits.max_bytes)?,
            limits,
            state: Mutex::default(),
            ended: watch::Sender::new(0),
        }))
    }

    async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Found, Option<KeysError>> {
        if let Some(mut ended) = self.look(id, algorithm) {
            // The sender lives in `self`, so this ends only with the attempt.
            let _ = ended.changed().await;
        }
        let state = lock(&self.state);
        match state.usable(Instant::now(), &self.limits) {
            Some((keys, _)) => Ok(keys.find(id, algorithm)),
            None => Err(state.failure.clone()),
        }
    }

    /// Takes the step that is due; returns what to wait for, if anything.
    fn look(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<watch::Receiver<u64>> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let known = state
            .usable(now, &self.limits)
            .is_some_and(|(keys, _)| !matches!(keys.find(id, algorithm), Found::Nothing));
        let step = state.step(known, now, &self.limits);
        if matches!(step, Step::AnswerAndRenew | Step::RenewAndWait) {
            state.attempted = Some(now);
            state.running = true;
            tokio::spawn(Arc::clone(self).renew());
        }
        // Subscribed under the lock that the attempt needs to end, so its end cannot be missed.
        matches!(step, Step::Wait | Step::RenewAndWait).then(|| self.ended.subscribe())
    }

    async fn renew(self: Arc<Self>) {
        let outcome = self.endpoint.fetch().await.and_then(|body| Key::from_jwk_set(&body));
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

impl Renewal {
    /// The keys, unless they are too old to be trusted.
    fn usable(&self, now: Instant, limits: &Limits) -> Option<&(Arc<Keys>, Instant)> {
        self.keys.as_ref().filter(|(_, fetched)| now.duration_since(*fetched) < limits.stale)
    }

    /// Decides what is due when a key is wanted, which is `known` or not among the usable ones.
    pub(super) fn step(&self, known: bool, now: Instant, limits: &Limits) -> Step {
        let cooldown = match self.usable(now, limits) {
            Some(_) => limits.cooldown,
            None => limits.first_cooldown,
        };
        let may_renew = !self.running
            && self.attempted.is_none_or(|began| now.duration_since(began) >= cooldown);
        let age = self.keys.as_ref().map(|(_, fetched)| now.duration_since(*fetched));
        let is_fresh = age.is_some_and(|age| age < limits.renew_after);
        // Past twice the age a key may have been revoked long ago; but while the endpoint is down,
        // nobody waits for it.
        let may_be_used = self.failure.is_some()
            || age.is_some_and(|age| age < limits.renew_after.saturating_mul(2));
        match (known, may_renew) {
            (true, _) if is_fresh => Step::Answer,
            (true, true) if may_be_used => Step::AnswerAndRenew,
            (true, false) if may_be_used => Step::Answer,
            (_, true) => Step::RenewAndWait,
            (_, false) if self.running => Step::Wait,
            (_, false) => Step::Answer,
        }
    }
}

/// Locks for a few lines. Whoever panicked meanwhile left whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
