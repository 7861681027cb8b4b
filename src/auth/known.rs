//! Tokens that were verified before: an application's pool opens many connections with one token.
//!
//! What is remembered is what was proven, under the hash of the token's bytes and the access that
//! was asked for. It is believed as long as its rule still finds the key that verified it; a key
//! set that was read again holds other keys, even if they look alike. Refusals are not remembered.

use std::sync::Arc;

use aws_lc_rs::digest;

use super::claims::VerifiedClaims;
use super::jwk::Key;
use crate::recent::Recent;
use crate::types::Access;

/// Tokens that are remembered. One is a few hundred bytes, and at most some 3.5 KiB besides the
/// tenants that it lists.
const MOST: usize = 10_000;

/// A token whose claims for SQL (`claims_in_sql`) are longer is not remembered, and verified anew.
const MOST_FOR_SQL: usize = 2 * 1024;

/// A token that lists more tenants is not remembered.
pub(super) const MOST_TENANTS: usize = 32;

/// Tells one use of a token from every other: its SHA-256, and what it was presented for.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(super) struct Fingerprint {
    hash: [u8; 32],
    access: Access,
}

/// How a token was proven to be good.
pub(super) struct Known {
    pub(super) claims: VerifiedClaims,
    /// Which rule accepted it.
    pub(super) rule: usize,
    /// The key that verified it.
    pub(super) key: Arc<Key>,
}

/// The tokens that were good when they were last seen.
pub(super) struct KnownTokens(Recent<Fingerprint, Arc<Known>>);

impl Fingerprint {
    pub(super) fn of(token: &str, access: Access) -> Self {
        let mut hash = [0; 32];
        for (byte, digest) in
            hash.iter_mut().zip(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
        {
            *byte = *digest;
        }
        Self { hash, access }
    }
}

impl KnownTokens {
    pub(super) fn new() -> Self {
        Self(Recent::new(MOST))
    }

    pub(super) fn get(&self, token: &Fingerprint) -> Option<Arc<Known>> {
        self.0.get(token)
    }

    pub(super) fn insert(&self, token: Fingerprint, known: Known) {
        if known.claims.for_sql().is_none_or(|claims| claims.len() <= MOST_FOR_SQL) {
            self.0.insert(token, Arc::new(known));
        }
    }

    pub(super) fn remove(&self, token: &Fingerprint) {
        self.0.remove(token);
    }
}

impl KnownTokens {
    /// Forgets those whose claims are `gone`.
    pub(super) fn forget(&self, gone: impl Fn(&VerifiedClaims) -> bool) {
        self.0.retain(|known| !gone(&known.claims));
    }
}

impl std::fmt::Debug for KnownTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownTokens").finish_non_exhaustive()
    }
}
