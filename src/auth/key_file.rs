//! Keys in a file, for networks without a way to the issuer: read again when the file changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::error::KeysError;
use super::jwk::Key;
use super::keys::{Found, Keys, lock};
use super::remote::Limits;
use crate::config::Algorithm;

/// Shortest time between two looks at a key file's date while its keys do.
const FILE_CHECK: Duration = Duration::from_secs(1);

/// What a key file holds.
#[derive(Debug)]
pub(super) enum Format {
    /// A JWK Set.
    JwkSet,
    /// One public key, for those of these algorithms that it fits. The configuration says that it
    /// is the key, so an id that a token names has no say.
    Pem(Vec<Algorithm>),
}

/// Keys in a file.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    format: Format,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the last readable version held. A broken file does not take the place of a good one.
    keys: Arc<Keys>,
    version: Option<Version>,
    checked: Instant,
}

/// What tells two contents of a file apart without reading them: date, length, and which file it
/// is, since one that is moved into place may bring an old date along.
type Version = (Option<SystemTime>, u64, u64);

impl KeyFile {
    /// Reads the file for the first time; from then on it may be broken for a while.
    pub(super) fn open(path: PathBuf, format: Format) -> Result<Self, KeysError> {
        let version = std::fs::metadata(&path).ok().as_ref().map(version_of);
        let keys = Arc::new(format.parse(std::fs::read(&path), &path)?);
        let state = State { keys, version, checked: Instant::now() };
        Ok(Self { path, format, state: Mutex::new(state) })
    }

    /// Finds a key in the file as it was a second ago at most, or if it has none, as it is now.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found {
        let id = match self.format {
            Format::JwkSet => id,
            Format::Pem(_) => None,
        };
        let (found, is_fresh) = {
            let state = lock(&self.state);
            (state.keys.find(id, algorithm), state.checked.elapsed() < FILE_CHECK)
        };
        if is_fresh && !matches!(found, Found::Nothing) {
            return found;
        }
        self.look().await.find(id, algorithm)
    }

    /// How many keys the last readable version had.
    pub(super) fn count(&self) -> usize {
        lock(&self.state).keys.count()
    }

    /// Reads the file again if it is another one than before.
    async fn look(&self) -> Arc<Keys> {
        let seen = {
            let mut state = lock(&self.state);
            state.checked = Instant::now();
            state.version
        };
        let version = tokio::fs::metadata(&self.path).await.ok().as_ref().map(version_of);
        if version.is_some() && version != seen {
            match self.format.parse(tokio::fs::read(&self.path).await, &self.path) {
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

impl KeyFile {
    /// Reads the file now, whether or not its date has changed. Returns how many keys it holds; a
    /// broken file leaves the keys of before in force.
    pub(super) async fn reread(&self) -> Result<usize, KeysError> {
        let version = tokio::fs::metadata(&self.path).await.ok().as_ref().map(version_of);
        let keys = self.format.parse(tokio::fs::read(&self.path).await, &self.path)?;
        let count = keys.count();
        let mut state = lock(&self.state);
        *state = State { keys: Arc::new(keys), version, checked: Instant::now() };
        Ok(count)
    }
}

impl Format {
    fn parse(&self, content: std::io::Result<Vec<u8>>, path: &Path) -> Result<Keys, KeysError> {
        let content = content
            .map_err(|error| KeysError::Read { path: path.to_owned(), kind: error.kind() })?;
        if content.len() > Limits::STANDARD.max_bytes {
            return Err(KeysError::TooLarge(Limits::STANDARD.max_bytes));
        }
        let keys = match self {
            Self::JwkSet => Key::from_jwk_set(&content),
            Self::Pem(algorithms) => Key::from_pem(&content, algorithms),
        };
        keys.map(Keys::from)
    }
}

fn version_of(metadata: &std::fs::Metadata) -> Version {
    (metadata.modified().ok(), metadata.len(), metadata.ino())
}
