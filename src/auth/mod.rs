//! A token becomes [`VerifiedClaims`], or nothing does.
//!
//! [`Verifier::verify`] is the flow: take the token apart, choose the rules by access and issuer,
//! find the key, verify the signature, judge the claims. The parts between are pure
//! (`token`, `json`, `jwk`, `path`, `provider`); `keys`, `key_file`, `remote` and `fetch` do the waiting. A token that was accepted before
//! and whose key is still the same is good without another look (`known`).

mod api_key;
mod claims;
mod error;
mod exchange;
mod fetch;
mod for_sql;
mod json;
mod jwk;
mod key_file;
mod keys;
mod known;
mod oauth;
mod on_record;
mod path;
mod provider;
mod quoted;
mod remote;
mod status;
mod token;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{Algorithm, Issuer, KeySource};
use crate::types::Access;

pub use self::api_key::{API_KEY_RULE, ApiKey, ApiKeys, Unavailable};
pub use self::claims::{TenantClaim, Tenants, VerifiedClaims};
pub use self::error::{Error, Instead, KeysError, Refusal};
pub use self::exchange::{Door, ExchangeError};
use self::fetch::Source;
use self::jwk::Key;
use self::key_file::{Format, KeyFile};
use self::keys::{Found, KeySet};
use self::known::{Fingerprint, Known, KnownTokens};
use self::remote::{Limits, RemoteKeys};
pub use self::status::KeyStatus;
use self::token::Token;

/// Most rules that an error tells of.
const MOST_RULES_TOLD: usize = 5;

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
        let mut refused = None;
        let mut for_good = true;
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.issuer.access != access || !rule.issuer.has_issued(token.issuer()) {
                continue;
            }
            let error = match rule.verify(&token, now).await {
                Ok((claims, key)) => {
                    // An earlier rule might accept it another time, and then comes first.
                    let tenants = claims.tenants().map_or(0, Tenants::count);
                    if for_good && tenants <= known::MOST_TENANTS {
                        let known = Known { claims: claims.share(), rule: index, key };
                        self.known.insert(fingerprint, known);
                    }
                    return Ok(claims);
                }
                Err(error) => error,
            };
            for_good &= error.is_for_good();
            if refused.as_ref().is_none_or(|refused: &Error| error.progress() > refused.progress())
            {
                refused = Some(error);
            }
        }
        Err(refused.unwrap_or_else(|| self.unknown_issuer(token.issuer(), access)))
    }

    /// Says which issuers there are in place of a token's.
    fn unknown_issuer(&self, issuer: &str, access: Access) -> Error {
        let rules = || self.rules.iter().map(|rule| &rule.issuer);
        let of_access: Vec<_> = rules().filter(|rule| rule.access == access).collect();
        let shown = of_access.iter().take(MOST_RULES_TOLD).map(|rule| {
            let little = quoted::little_difference(issuer, &rule.issuer).unwrap_or_default();
            format!("issuers.{} has {}{little}", rule.name, quoted::quoted(&rule.issuer))
        });
        let mut told: Vec<String> = shown.collect();
        if of_access.is_empty() {
            told.push("there is no rule for it".to_owned());
        }
        if of_access.len() > MOST_RULES_TOLD {
            told.push(format!("{} more have others", of_access.len() - MOST_RULES_TOLD));
        }
        // The user name chooses the access, and is easily the wrong one.
        told.extend(
            rules()
                .find(|rule| rule.access != access && rule.has_issued(issuer))
                .map(|rule| format!("issuers.{} has it, for access {}", rule.name, rule.access)),
        );
        Error::UnknownIssuer { access, found: quoted::quoted(issuer), rules: told.join("; ") }
    }

    /// Reads the key files of all rules again. Returns, for each rule that has one, how many keys
    /// it holds now, or why the keys of before stay in force.
    pub async fn reread_key_files(&self) -> Vec<(&str, Result<usize, KeysError>)> {
        let mut read = Vec::new();
        for rule in &self.rules {
            if let KeySet::File(file) = &*rule.keys {
                read.push((rule.issuer.name.as_str(), file.reread().await));
            }
        }
        read
    }

    /// Forgets the tokens whose claims are `gone`: they are not to take up room.
    pub fn forget(&self, gone: impl Fn(&VerifiedClaims) -> bool) {
        self.known.forget(gone);
    }

    /// What the token proved before, if a look at it now would end in the same.
    async fn recall(&self, token: &Fingerprint, now: SystemTime) -> Option<VerifiedClaims> {
        let known = self.known.get(token)?;
        let rule = self.rules.get(known.rule)?;
        // As a new token would, this sees to it that keys do not become too old.
        let found = rule.keys.find(known.key.id(), known.key.algorithm()).await;
        let is_same = found.is_ok_and(|found| found.holds(&known.key));
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
        let keys = match self.keys.find(token.key_id(), algorithm).await {
            Ok(Found::Key(key)) => vec![key],
            Ok(Found::Few(keys)) => keys,
            Ok(Found::Ambiguous) => return Err(Error::AmbiguousKey { rule: rule() }),
            Ok(Found::Nothing) => return Err(Error::UnknownKey { rule: rule() }),
            Err(source) => return Err(Error::KeysUnavailable { rule: rule(), source }),
        };
        let mut refused = Error::UnknownKey { rule: rule() };
        for key in keys {
            match token.verify(&key, &self.issuer) {
                Ok(signed) => return Ok((signed.check(now)?, key)),
                Err(error) if error.progress() > refused.progress() => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }
}

/// Key sets by where they come from, so that rules with one source ask it once.
struct Shared<'a> {
    limits: Limits,
    files: HashMap<&'a Path, Arc<KeySet>>,
    urls: HashMap<Remote<'a>, Arc<KeySet>>,
}

/// What tells remote key sets apart: the URL, whose document it is, and how stale they may be.
type Remote<'a> = (&'a str, Option<&'a str>, Duration);

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
            // Which algorithms a PEM file's key is for is the rule's to say, so it is its own.
            KeySource::PemFile(path) => {
                let format = Format::Pem(issuer.algorithms.clone());
                Ok(Arc::new(KeySet::File(KeyFile::open(path.clone(), format)?)))
            }
            KeySource::JwksFile(path) => {
                if let Some(keys) = self.files.get(path.as_path()) {
                    return Ok(Arc::clone(keys));
                }
                let file = KeyFile::open(path.clone(), Format::JwkSet)?;
                let keys = Arc::new(KeySet::File(file));
                self.files.insert(path, Arc::clone(&keys));
                Ok(keys)
            }
            KeySource::JwksUrl(url) => self.remote((url, None, issuer.jwks_max_stale)),
            KeySource::Discovery(url) => {
                self.remote((url, Some(&issuer.issuer), issuer.jwks_max_stale))
            }
        }
    }

    fn remote(&mut self, place: Remote<'a>) -> Result<Arc<KeySet>, KeysError> {
        if let Some(keys) = self.urls.get(&place) {
            return Ok(Arc::clone(keys));
        }
        let (url, issuer, stale) = place;
        let source = match issuer {
            None => Source::jwks(url, self.limits.max_bytes)?,
            Some(issuer) => Source::discovery(url, issuer, self.limits.max_bytes)?,
        };
        let limits = Limits { stale, ..self.limits };
        let keys = Arc::new(KeySet::Remote(RemoteKeys::new(source, limits)));
        self.urls.insert(place, Arc::clone(&keys));
        Ok(keys)
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
            && (rule.tenant_claims.iter().all(Vec::is_empty) || rule.tenant_lookup.is_empty())
        {
            return refuse(rule, "a tenant's rule needs a tenant claim and what it may hold");
        }
        // A tenant's token must not be good for more because two rules look alike.
        let is_like_another = issuers
            .iter()
            .any(|other| other.access != rule.access && rule.may_share_tokens_with(other));
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
