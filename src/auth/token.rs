//! A JWT, taken apart and judged: pure functions of the text, a key and the time.
//!
//! The order is fixed by types: [`Token`] is what somebody wrote, [`Signed`] is what the holder of
//! a key wrote, and only `Signed` can be judged by its claims.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::{Claims, Period, TenantClaim, VerifiedClaims};
use super::error::Error;
use super::for_sql;
use super::json;
use super::jwk::Key;
use super::on_record::OnRecord;
use crate::config::{Algorithm, Issuer, TenantLookup};
use crate::types::{Access, TenantId};

/// Longest token that is looked at.
pub(super) const MAX_TOKEN: usize = 64 * 1024;

/// Longest tenant name, subject and token id, in bytes.
const MAX_NAME: usize = 255;

/// 9999-12-31T23:59:59Z. A later `exp` is a mistake (milliseconds, say) or a token without end.
const MAX_NUMERIC_DATE: u64 = 253_402_300_799;

/// A token as it was written, nothing proven.
#[derive(Debug)]
pub(super) struct Token<'a> {
    algorithm: Option<Algorithm>,
    key_id: Option<String>,
    issuer: String,
    claims: Map<String, Value>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// A token whose signature was verified with a rule's key.
pub(super) struct Signed<'a> {
    claims: &'a Map<String, Value>,
    rule: &'a Issuer,
}

impl<'a> Token<'a> {
    /// Takes a token in compact form apart (RFC 7515, section 7.1).
    ///
    /// Of the header only `alg`, `kid`, `typ` and `crit` mean anything: keys and addresses of keys
    /// that the token brings along are not looked at.
    pub(super) fn parse(text: &'a str) -> Result<Self, Error> {
        if text.len() > MAX_TOKEN {
            return Err(Error::Malformed("longer than 64 KiB"));
        }
        let Some((signed, signature)) = text.rsplit_once('.') else {
            return Err(Error::Malformed("not three parts"));
        };
        let Some((header, payload)) = signed.split_once('.') else {
            return Err(Error::Malformed("not three parts"));
        };
        // A dot inside the payload is not base64, so more than three parts end here as well.
        let signature = decode(signature)?;
        if signature.is_empty() {
            return Err(Error::Malformed("not signed"));
        }
        let header = parse_object(header)?;
        let claims = parse_object(payload)?;
        let (algorithm, key_id) = read_header(&header)?;
        let issuer = match claims.get("iss") {
            Some(Value::String(issuer)) => issuer.clone(),
            Some(_) => return Err(invalid("iss", "a text")),
            None => return Err(Error::ClaimMissing { claim: "iss" }),
        };
        Ok(Self { algorithm, key_id, issuer, claims, signed: signed.as_bytes(), signature })
    }

    /// The `iss` claim, unproven: good for choosing the rules to try.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The header's `kid`, unproven: good for finding a key in a map.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The header's algorithm, if the rule accepts it.
    pub(super) fn algorithm(&self, rule: &Issuer) -> Result<Algorithm, Error> {
        match self.algorithm {
            Some(algorithm) if rule.algorithms.contains(&algorithm) => Ok(algorithm),
            Some(_) | None => Err(Error::Algorithm { rule: rule.name.clone() }),
        }
    }

    /// Verifies the signature with a key, which knows its one algorithm itself.
    pub(super) fn verify(&'a self, key: &Key, rule: &'a Issuer) -> Result<Signed<'a>, Error> {
        if self.algorithm(rule)? != key.algorithm() {
            return Err(Error::Algorithm { rule: rule.name.clone() });
        }
        if !key.verifies(self.signed, &self.signature) {
            return Err(Error::Signature { rule: rule.name.clone() });
        }
        Ok(Signed { claims: &self.claims, rule })
    }
}

impl Signed<'_> {
    /// Judges the claims by the rule at the time `now`.
    pub(super) fn check(&self, now: SystemTime) -> Result<VerifiedClaims, Error> {
        let rule = self.rule;
        // The rule was chosen by this claim; said again here so that no caller can get it wrong.
        if self.claims.get("iss").and_then(Value::as_str) != Some(&rule.issuer) {
            return Err(Error::UnknownIssuer);
        }
        self.check_audience()?;
        let period = self.check_times(now)?;
        for (path, wanted) in &rule.required_claims {
            if !holds(dotted(self.claims, path), wanted) {
                return Err(Error::RequiredClaim { rule: rule.name.clone(), claim: path.clone() });
            }
        }
        let tenant = match rule.access {
            Access::Tenant => Some(self.tenant()?),
            Access::Superadmin | Access::Owner => None,
        };
        let on_record = match rule.access {
            Access::Tenant => OnRecord::default(),
            Access::Superadmin | Access::Owner => OnRecord::of(self.claims)?,
        };
        Ok(VerifiedClaims::new(Claims {
            on_record,
            access: rule.access,
            issuer: rule.name.clone(),
            subject: self.name("sub")?,
            token_id: self.name("jti")?,
            period,
            tenant,
            for_sql: for_sql::pick(self.claims, &rule.claims_in_sql)
                .map_err(|expected| Error::ClaimsForSql { rule: rule.name.clone(), expected })?,
        }))
    }

    fn check_audience(&self) -> Result<(), Error> {
        let ours = |audience: &str| self.rule.audiences.iter().any(|ours| ours == audience);
        let fits = match self.claims.get("aud") {
            Some(Value::String(audience)) => ours(audience),
            Some(Value::Array(list)) => {
                // Every entry is typed before any is compared.
                let list: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
                list.ok_or_else(|| invalid("aud", "a text or a list of texts"))?
                    .into_iter()
                    .any(ours)
            }
            Some(_) => return Err(invalid("aud", "a text or a list of texts")),
            None => return Err(Error::ClaimMissing { claim: "aud" }),
        };
        if fits { Ok(()) } else { Err(Error::Audience { rule: self.rule.name.clone() }) }
    }

    /// Checks `exp`, `nbf` and `iat`, and returns when the rule accepts the token.
    fn check_times(&self, now: SystemTime) -> Result<Period, Error> {
        let rule = self.rule;
        let Some(end) = self.date("exp")? else {
            return Err(Error::ClaimMissing { claim: "exp" });
        };
        let start = self.date("nbf")?;
        self.date("iat")?;
        let until = end.checked_add(rule.leeway).unwrap_or(end);
        let from = start.map(|start| start.checked_sub(rule.leeway).unwrap_or(start));
        if until <= now {
            let ago = now.duration_since(end).unwrap_or_default();
            return Err(Error::Expired { rule: rule.name.clone(), ago });
        }
        if from.is_some_and(|from| from > now) {
            return Err(Error::NotYetValid { rule: rule.name.clone() });
        }
        Ok(Period { from, until })
    }

    /// A NumericDate (RFC 7519, section 2): seconds since 1970, whole or with a fraction.
    fn date(&self, claim: &'static str) -> Result<Option<SystemTime>, Error> {
        let refuse = || invalid(claim, "a number of seconds since 1970");
        let since = match self.claims.get(claim) {
            None => return Ok(None),
            Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
                (Some(whole), _) => Duration::from_secs(whole),
                (None, Some(decimal)) => {
                    Duration::try_from_secs_f64(decimal).map_err(|_| refuse())?
                }
                (None, None) => return Err(refuse()),
            },
            Some(_) => return Err(refuse()),
        };
        if since.as_secs() > MAX_NUMERIC_DATE {
            return Err(refuse());
        }
        UNIX_EPOCH.checked_add(since).map(Some).ok_or_else(refuse)
    }

    /// The one tenant that the token is for.
    fn tenant(&self) -> Result<TenantClaim, Error> {
        let rule = self.rule;
        let claim = || rule.tenant_claim.join(".");
        let refuse = |expected| Error::TenantClaimInvalid {
            rule: rule.name.clone(),
            claim: claim(),
            expected,
        };
        let lookup = &rule.tenant_lookup;
        match walk(self.claims, rule.tenant_claim.iter().map(String::as_str)) {
            None => Err(Error::TenantClaimMissing { rule: rule.name.clone(), claim: claim() }),
            Some(Value::String(text)) if is_word(text) => {
                let is_id = text.parse::<TenantId>().is_ok();
                let lookup: Vec<_> = lookup
                    .iter()
                    .copied()
                    .filter(|lookup| is_id || *lookup != TenantLookup::Id)
                    .collect();
                if lookup.is_empty() {
                    return Err(refuse("a hyphenated UUID"));
                }
                Ok(TenantClaim::new(text.clone(), lookup))
            }
            // A number is somebody's primary key. It is never an id or a slug that looks like one.
            Some(Value::Number(number))
                if (number.is_u64() || number.is_i64())
                    && lookup.contains(&TenantLookup::ExternalKey) =>
            {
                Ok(TenantClaim::new(number.to_string(), vec![TenantLookup::ExternalKey]))
            }
            Some(_) => Err(refuse("one word of at most 255 bytes")),
        }
    }

    /// A claim that names something and ends up in the audit log.
    fn name(&self, claim: &'static str) -> Result<Option<String>, Error> {
        match self.claims.get(claim) {
            None => Ok(None),
            Some(Value::String(text))
                if text.len() <= MAX_NAME && !text.chars().any(char::is_control) =>
            {
                Ok(Some(text.clone()))
            }
            Some(_) => Err(invalid(claim, "a text of at most 255 bytes")),
        }
    }
}

/// Reads what the header may say (RFC 7515, section 4.1).
fn read_header(header: &Map<String, Value>) -> Result<(Option<Algorithm>, Option<String>), Error> {
    // We understand no extension, so whatever is critical is more than we understand.
    if header.contains_key("crit") {
        return Err(Error::Malformed("its header has critical extensions"));
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) if is_access_token(kind) => {}
        Some(_) => return Err(Error::Malformed("its header's typ is not that of a JWT")),
    }
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err(Error::Malformed("its header's kid is not a text")),
    };
    let algorithm = match header.get("alg") {
        Some(Value::String(name)) => algorithm_of(name),
        Some(_) | None => return Err(Error::Malformed("its header names no algorithm")),
    };
    Ok((algorithm, key_id))
}

/// `JWT`, or an access token's type (RFC 9068) with a vendor's prefix. Logout tokens, DPoP proofs
/// and security events are signed by the same keys and are no tickets.
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind == "jwt" || kind == "application/jwt" || kind.ends_with("at+jwt")
}

/// Exact names only (RFC 7518, section 3.1); `none` is not among them.
pub(super) fn algorithm_of(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::Hs256),
        "RS256" => Some(Algorithm::Rs256),
        "PS256" => Some(Algorithm::Ps256),
        "ES256" => Some(Algorithm::Es256),
        "EdDSA" => Some(Algorithm::EdDsa),
        _ => None,
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Error> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed("not base64url"))
}

fn parse_object(part: &str) -> Result<Map<String, Value>, Error> {
    json::object(&decode(part)?)
        .map_err(|_| Error::Malformed("not a JSON object with distinct names and sane depth"))
}

/// Follows a path of names through objects, and through nothing else.
fn walk<'a, 'p>(
    claims: &'a Map<String, Value>,
    mut path: impl Iterator<Item = &'p str>,
) -> Option<&'a Value> {
    let first = claims.get(path.next()?)?;
    path.try_fold(first, |value, name| value.as_object()?.get(name))
}

/// Follows a dotted path. A name that is a URL, such as `https://example.com/roles`, is one name.
fn dotted<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if path.contains("://") { claims.get(path) } else { walk(claims, path.split('.')) }
}

/// Whether a claim is exactly that text, or a list that contains it.
fn holds(claim: Option<&Value>, wanted: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Array(list)) => list.iter().any(|item| item.as_str() == Some(wanted)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

/// Not empty, not long, no blanks, no control characters.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn invalid(claim: &'static str, expected: &'static str) -> Error {
    Error::ClaimInvalid { claim, expected }
}
