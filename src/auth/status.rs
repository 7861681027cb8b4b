//! What is known of the keys of every rule: for `cloison check` and the start of `cloison serve`.

use futures_util::future::join_all;

use super::Verifier;
use super::keys::KeySet;
use crate::config::{Algorithm, KeySource};
use crate::types::Access;

/// The keys of one rule.
#[derive(Clone, Debug)]
pub struct KeyStatus {
    /// The rule's name.
    pub rule: String,
    /// What its tokens allow.
    pub access: Access,
    /// Where the keys are, without what may be a secret.
    pub place: String,
    /// How many there are, or why there are none. Only keys behind a URL may be away.
    pub keys: Result<usize, String>,
}

impl Verifier {
    /// Fetches every key set that is behind a URL, unless it has been fetched, and says how all
    /// stand. An endpoint that did not answer a moment ago is not asked again.
    pub async fn status(&self) -> Vec<KeyStatus> {
        let statuses = self.rules.iter().map(|rule| async move {
            KeyStatus {
                rule: rule.issuer.name.clone(),
                access: rule.issuer.access,
                place: place(&rule.issuer.keys),
                keys: count(&rule.keys).await,
            }
        });
        join_all(statuses).await
    }
}

async fn count(keys: &KeySet) -> Result<usize, String> {
    // Whichever key is looked for: the set is fetched if it is not there.
    if let Err(failure) = keys.find(None, Algorithm::Es256).await {
        return Err(failure.map_or("there are none yet".to_owned(), |error| error.to_string()));
    }
    Ok(keys.count())
}

/// A URL's query may hold a secret.
fn place(keys: &KeySource) -> String {
    match keys {
        KeySource::Secret(_) => "the secret in the configuration".to_owned(),
        KeySource::PemFile(path) | KeySource::JwksFile(path) => path.display().to_string(),
        KeySource::JwksUrl(url) | KeySource::Discovery(url) => {
            url.split(['?', '#']).next().unwrap_or_default().to_owned()
        }
    }
}
