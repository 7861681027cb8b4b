//! A JWT, taken apart and judged: pure functions of the text, a key and the time.
//!
//! The order is fixed by types: [`Token`] is what somebody wrote, [`Signed`] is what the holder of
//! a key wrote, and only `Signed` can be judged by its claims.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::{Claims, MAX_NAME, Period, TenantClaim, Tenants, VerifiedClaims, is_word};
use super::error::{Error, Instead};
use super::for_sql;
use super::json;
use super::jwk::Key;
use super::on_record::OnRecord;
use super::path::{self, Item, dotted, follow};
use super::provider;
use super::quoted::quoted;
use crate::config::{Algorithm, Issuer, TenantLookup};
use crate::types::{Access, TenantId, is_one_line};

/// Longest token that is looked at.
pub(super) const MAX_TOKEN: usize = 64 * 1024;

/// In place of a list: every tenant.
const ANY: &str = "*";

/// Most tenants that a token may list.
const MOST_TENANTS: usize = 1000;

/// 9999-12-31T23:59:59Z. A later `exp` is a mistake (milliseconds, say) or a token without end.
pub(super) const MAX_NUMERIC_DATE: u64 = 253_402_300_799;

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
        if !provider::may_sign(key.issuer(), rule, &self.issuer) {
            return Err(Error::UnknownKey { rule: rule.name.clone() });
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
        if !self.claims.get("iss").and_then(Value::as_str).is_some_and(|iss| rule.has_issued(iss)) {
            return Err(self.unknown_issuer());
        }
        provider::check_audience(self.claims, rule)?;
        let period = self.check_times(now)?;
        provider::check_particulars(self.claims, rule, now)?;
        for (path, wanted) in &rule.required_claims {
            if !holds(dotted(self.claims, path), wanted) {
                return Err(Error::RequiredClaim { rule: rule.name.clone(), claim: path.clone() });
            }
        }
        let tenants = match rule.access {
            Access::Tenant => Some(self.tenants()?),
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
            token_issuer: rule.issuer.clone(),
            subject: self.name("sub")?,
            token_id: self.name("jti")?,
            period,
            named_by: match &tenants {
                Some(Tenants::One(_)) => self.named_by(),
                Some(Tenants::Listed(_) | Tenants::Any) | None => None,
            },
            tenants,
            lookup: rule.tenant_lookup.clone(),
            for_sql: for_sql::pick(self.claims, &rule.claims_in_sql)
                .map_err(|expected| Error::ClaimsForSql { rule: rule.name.clone(), expected })?,
        }))
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

    /// The tenants that the token is for: those that it lists, or the one that it names.
    fn tenants(&self) -> Result<Tenants, Error> {
        let path = &self.rule.tenants_claim;
        let refuse = |expected| Err(self.refuse_tenant(path, expected));
        match self.at(path)?.as_slice() {
            [] => self.named(),
            items if path.iter().any(|name| name == ANY) => self.listed(path, items),
            [Item::Value(Value::String(text))] if text == ANY => Ok(Tenants::Any),
            [Item::Value(Value::Array(list))] => {
                self.listed(path, &list.iter().map(Item::Value).collect::<Vec<_>>())
            }
            [_, ..] => refuse("a list of tenants, or \"*\""),
        }
    }

    /// The one that the first path that leads anywhere leads to; several are a list to choose from.
    fn named(&self) -> Result<Tenants, Error> {
        let rule = self.rule;
        for path in &rule.tenant_claims {
            match self.at(path)?.as_slice() {
                [] => {}
                [item] => return self.tenant(path, item).map(Tenants::One),
                items => return self.listed(path, items),
            }
        }
        let paths: Vec<String> = rule.tenant_claims.iter().map(|path| path.join(".")).collect();
        let (rule, claim) = (rule.name.clone(), paths.join("\" or \""));
        Err(Error::TenantClaimMissing { rule, claim, instead: self.instead() })
    }

    /// A claim that nobody reads, and that looks as if it was to name tenants.
    fn instead(&self) -> Option<Instead> {
        let is_there = |claim: &&'static str| self.claims.get(*claim).is_some_and(|v| !v.is_null());
        let list = || ["tenants", "tenant_ids"].iter().copied().find(is_there);
        let one = || ["tenant", "tenant_id"].iter().copied().find(is_there);
        let of = |key| move |claim| Instead { claim, key };
        list().map(of("tenants_claim")).or_else(|| one().map(of("tenant_claim")))
    }

    /// Where the one tenant is named that the token is for.
    fn named_by(&self) -> Option<String> {
        let leads_somewhere = |path: &&Vec<String>| self.at(path).is_ok_and(|at| !at.is_empty());
        self.rule.tenant_claims.iter().find(leads_somewhere).map(|path| path.join("."))
    }

    fn unknown_issuer(&self) -> Error {
        let found = self.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let rules = format!("issuers.{} has {}", self.rule.name, quoted(&self.rule.issuer));
        Error::UnknownIssuer { access: self.rule.access, found: quoted(found), rules }
    }

    fn listed(&self, path: &[String], items: &[Item<'_>]) -> Result<Tenants, Error> {
        if items.len() > MOST_TENANTS {
            return Err(self.refuse_tenant(path, "a list of at most 1000 tenants"));
        }
        // A star among names could be meant in two ways.
        if items.iter().any(|item| item.text() == Some(ANY)) {
            return Err(self.refuse_tenant(path, "a list of tenants, or \"*\" without a list"));
        }
        let tenants = items.iter().map(|item| self.tenant(path, item));
        tenants.collect::<Result<_, _>>().map(Tenants::Listed)
    }

    fn at(&self, path: &[String]) -> Result<Vec<Item<'_>>, Error> {
        let uneven = |path::Uneven| self.refuse_tenant(path, "the same in each of its members");
        follow(self.claims, path).map_err(uneven)
    }

    fn refuse_tenant(&self, path: &[String], expected: &'static str) -> Error {
        Error::TenantClaimInvalid { rule: self.rule.name.clone(), claim: path.join("."), expected }
    }

    /// One tenant by the name that stands in the claim at `path`.
    fn tenant(&self, path: &[String], item: &Item<'_>) -> Result<TenantClaim, Error> {
        let refuse = |expected| Err(self.refuse_tenant(path, expected));
        let lookup = &self.rule.tenant_lookup;
        match (item, item.text()) {
            (_, Some(text)) if is_word(text) => {
                let is_id = text.parse::<TenantId>().is_ok();
                let lookup: Vec<_> = lookup
                    .iter()
                    .copied()
                    .filter(|lookup| is_id || *lookup != TenantLookup::Id)
                    .collect();
                if lookup.is_empty() {
                    return refuse("a hyphenated UUID");
                }
                Ok(TenantClaim::new(text.to_owned(), lookup))
            }
            // A number is somebody's primary key. It is never an id or a slug that looks like one.
            (Item::Value(Value::Number(number)), None)
                if (number.is_u64() || number.is_i64())
                    && lookup.contains(&TenantLookup::ExternalKey) =>
            {
                Ok(TenantClaim::new(number.to_string(), vec![TenantLookup::ExternalKey]))
            }
            (Item::Value(_) | Item::Name(_), _) => refuse("one word of at most 255 bytes"),
        }
    }

    /// A claim that names something and ends up in the audit log.
    fn name(&self, claim: &'static str) -> Result<Option<String>, Error> {
        match self.claims.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_NAME && is_one_line(text) => {
                Ok(Some(text.clone()))
            }
            Some(_) => Err(invalid(claim, "a line of at most 255 bytes")),
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

/// Whether a claim is exactly that text, or a list that contains it.
fn holds(claim: Option<&Value>, wanted: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Array(list)) => list.iter().any(|item| item.as_str() == Some(wanted)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

fn invalid(claim: &'static str, expected: &'static str) -> Error {
    Error::ClaimInvalid { claim, expected }
}
