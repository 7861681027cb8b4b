//! Key sets: fixed, in a file, or behind a URL.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::KeysError;
use super::jwk::Key;
use super::key_file::KeyFile;
use super::remote::RemoteKeys;
use crate::config::Algorithm;

/// Most keys that are tried on a token that may mean any of them: a set in which a key is being
/// replaced holds two or three.
const MOST_TRIED: usize = 4;

/// Keys that were known at one time.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Arc<Key>>);

/// What a look into [`Keys`] ends in.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The one key that is meant.
    Key(Arc<Key>),
    /// A few that may be meant: the token names none, or the set has the name twice.
    Few(Vec<Arc<Key>>),
    /// Too many could be meant.
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
    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }

    /// The keys for `algorithm` with that id; without an id, all for `algorithm`.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithm() == algorithm && (id.is_none() || key.id() == id));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::Key(Arc::clone(key)),
            (Some(first), Some(second)) => {
                let all = [first, second].into_iter().chain(fitting);
                let few: Vec<_> = all.take(MOST_TRIED + 1).map(Arc::clone).collect();
                if few.len() > MOST_TRIED { Found::Ambiguous } else { Found::Few(few) }
            }
            (None, _) => Found::Nothing,
        }
    }
}

impl Found {
    /// Whether this key is among them.
    pub(super) fn holds(&self, wanted: &Arc<Key>) -> bool {
        match self {
            Self::Key(key) => Arc::ptr_eq(key, wanted),
            Self::Few(keys) => keys.iter().any(|key| Arc::ptr_eq(key, wanted)),
            Self::Ambiguous | Self::Nothing => false,
        }
    }
}

/// The keys of one source. Rules that name the same source share it.
#[derive(Debug)]
pub(super) enum KeySet {
    /// One secret. The configuration says that it is the key, so an id that a token names has no
    /// say.
    Fixed(Keys),
    /// Keys in a file.
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
            Self::File(file) => Ok(file.find(id, algorithm).await),
            Self::Remote(remote) => remote.find(id, algorithm).await,
        }
    }
}

impl KeySet {
    /// How many keys there are at this moment.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Fixed(keys) => keys.count(),
            Self::File(file) => file.count(),
            Self::Remote(remote) => remote.count(),
        }
    }
}

/// Locks for a few lines. Whoever panicked meanwhile left whole values behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
