//! A token becomes [`VerifiedClaims`], or nothing does.
//!
//! [`Verifier::verify`] is the flow: take the token apart, choose the rules by access and issuer,
//! find the key, verify the signature, judge the claims. The parts between are pure
//! (`token`, `json`, `jwk`); `keys` and `fetch` do the waiting. A token that was accepted before
//! and whose key is still the same is good without another look (`known`).

mod claims;
mod error;
mod exchange;
mod fetch;
mod for_sql;
mod json;
mod jwk;
mod keys;
mod known;
mod on_record;
mod token;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::{Algorithm, Issuer, KeySource};
use crate::types::Access;

pub use self::claims::{TenantClaim, VerifiedClaims};
pub use self::error::{Error, KeysError, Refusal};
pub use self::exchange::{ExchangeError, authenticate};
use self::jwk::Key;
use self::keys::{Found, KeyFile, KeySet, Limits, RemoteKeys};
use self::known::{Fingerprint, Known, KnownTokens};
use self::token::Token;

/// Judges tokens by the rules of the configuration.
#[derive(Debug)]
pub struct Verifier {
    rules: Vec<Rule>,
    known: KnownTokens,
}

#[derive(Debug)]
struct Rule {
    issuer: Issuer,
    keys: Arc<KeySet>,
}

impl Verifier {
    /// Loads the keys of every rule. Those behind a URL are fetched when they are first wanted, or
    /// by [`Verifier::warm`].
    pub fn new(issuers: &[Issuer]) -> Result<Self, Error> {
        Self::with_limits(issuers, Limits::STANDARD)
    }

    fn with_limits(issuers: &[Issuer], limits: Limits) -> Result<Self, Error> {
        check_rules(issuers)?;
        let mut shared = Shared::new(limits);
        let rules = issuers.iter().map(|issuer| {
            let keys = shared
                .load(issuer)
                .map_err(|source| Error::RuleKeys { rule: issuer.name.clone(), source })?;
            Ok(Rule { issuer: issuer.clone(), keys })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, known: KnownTokens::new() })
    }

    /// Fetches every key set that is behind a URL, so that no client has to wait for it.
    /// An endpoint that does not answer now is asked again when a client comes.
    pub async fn warm(&self) {
        let fetches = self.rules.iter().map(|rule| rule.keys.find(None, Algorithm::Es256));
        futures_util::future::join_all(fetches).await;
    }

    /// Proves that `token` allows `access` at the time `now`.
    ///
    /// Only rules of that access are tried, and the first that accepts the token wins. If none
    /// does, the error is that of the rule under which the token came furthest.
    ///
    /// Waits for a key set's endpoint at times. Cancellation safe: a fetch goes on without us.
    pub async fn verify(
        &self,
        token: &str,
        access: Access,
        now: SystemTime,
    ) -> Result<VerifiedClaims, Error> {
        let fingerprint = Fingerprint::of(token, access);
        if let Some(claims) = self.recall(&fingerprint, now).await {
            return Ok(claims);
        }
        let token = Token::parse(token)?;
        let mut refused = Error::UnknownIssuer;
        let mut for_good = true;
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.issuer.access != access || rule.issuer.issuer != token.issuer() {
                continue;
            }
            let error = match rule.verify(&token, now).await {
                Ok((claims, key)) => {
                    // An earlier rule might accept it another time, and then comes first.
                    if for_good {
                        let known = Known { claims: claims.share(), rule: index, key };
                        self.known.insert(fingerprint, known);
                    }
                    return Ok(claims);
                }
                Err(error) => error,
            };
            for_good &= error.is_for_good();
            if error.progress() > refused.progress() {
                refused = error;
            }
        }
        Err(refused)
    }

    /// What the token proved before, if a look at it now would end in the same.
    async fn recall(&self, token: &Fingerprint, now: SystemTime) -> Option<VerifiedClaims> {
        let known = self.known.get(token)?;
        let rule = self.rules.get(known.rule)?;
        // As a new token would, this sees to it that keys do not become too old.
        let found = rule.keys.find(known.key.id(), known.key.algorithm()).await;
        let is_same = matches!(found, Ok(Found::Key(key)) if Arc::ptr_eq(&key, &known.key));
        if is_same && known.claims.hold_at(now) {
            return Some(known.claims.share());
        }
        self.known.remove(token);
        None
    }
}

impl Rule {
    async fn verify(
        &self,
        token: &Token<'_>,
        now: SystemTime,
    ) -> Result<(VerifiedClaims, Arc<Key>), Error> {
        let rule = || self.issuer.name.clone();
        let algorithm = token.algorithm(&self.issuer)?;
        let key = match self.keys.find(token.key_id(), algorithm).await {
            Ok(Found::Key(key)) => key,
            Ok(Found::Ambiguous) => return Err(Error::AmbiguousKey { rule: rule() }),
            Ok(Found::Nothing) => return Err(Error::UnknownKey { rule: rule() }),
            Err(source) => return Err(Error::KeysUnavailable { rule: rule(), source }),
        };
        let claims = token.verify(&key, &self.issuer)?.check(now)?;
        Ok((claims, key))
    }
}

/// Key sets by where they come from, so that rules with one source ask it once.
struct Shared<'a> {
    limits: Limits,
    files: HashMap<&'a Path, Arc<KeySet>>,
    urls: HashMap<&'a str, Arc<KeySet>>,
}

impl<'a> Shared<'a> {
    fn new(limits: Limits) -> Self {
        Self { limits, files: HashMap::new(), urls: HashMap::new() }
    }

    fn load(&mut self, issuer: &'a Issuer) -> Result<Arc<KeySet>, KeysError> {
        match &issuer.keys {
            KeySource::Secret(secret) => {
                let key = Key::secret(secret.expose())?;
                Ok(Arc::new(KeySet::Fixed(vec![key].into())))
            }
            KeySource::PemFile(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| KeysError::Read { path: path.clone(), kind: error.kind() })?;
                let keys = Key::from_pem(&pem, &issuer.algorithms)?;
                Ok(Arc::new(KeySet::Fixed(keys.into())))
            }
            KeySource::JwksFile(path) => {
                if let Some(keys) = self.files.get(path.as_path()) {
                    return Ok(Arc::clone(keys));
                }
                let keys = Arc::new(KeySet::File(KeyFile::open(path.clone())?));
                self.files.insert(path, Arc::clone(&keys));
                Ok(keys)
            }
            KeySource::JwksUrl(url) => {
                if let Some(keys) = self.urls.get(url.as_str()) {
                    return Ok(Arc::clone(keys));
                }
                let keys = Arc::new(KeySet::Remote(RemoteKeys::new(url, self.limits)?));
                self.urls.insert(url, Arc::clone(&keys));
                Ok(keys)
            }
        }
    }
}

/// Refuses rules under which a token could prove more than was meant.
fn check_rules(issuers: &[Issuer]) -> Result<(), Error> {
    let refuse = |rule: &Issuer, reason| Err(Error::Rule { rule: rule.name.clone(), reason });
    for rule in issuers {
        let is_secret = matches!(rule.keys, KeySource::Secret(_));
        if rule.algorithms.is_empty() || rule.audiences.is_empty() {
            return refuse(rule, "algorithms and audiences may not be empty");
        }
        if rule.algorithms.iter().any(|algorithm| (*algorithm == Algorithm::Hs256) != is_secret) {
            return refuse(
                rule,
                "HS256 goes with a secret, and every other algorithm with a public key",
            );
        }
        if rule.access == Access::Tenant
            && (rule.tenant_claim.is_empty() || rule.tenant_lookup.is_empty())
        {
            return refuse(rule, "a tenant's rule needs a tenant claim and what it may hold");
        }
        // A tenant's token must not be good for more because two rules look alike.
        let is_like_another = issuers.iter().any(|other| {
            other.access != rule.access
                && other.issuer == rule.issuer
                && other.audiences.iter().any(|audience| rule.audiences.contains(audience))
        });
        if rule.access != Access::Tenant && is_like_another && rule.required_claims.is_empty() {
            return refuse(
                rule,
                "it needs an issuer, an audience or a required claim of its own, \
                 since a rule for another access would accept the same tokens",
            );
        }
    }
    Ok(())
}
