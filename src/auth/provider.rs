//! What a token is for, and what its provider wants looked at besides; see `config::Provider` for
//! the documents that say so.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::error::Error;
use super::quoted::{little_difference, quoted_list};
use crate::config::{Issuer, Provider};
use crate::types::TenantId;

/// Checks that a token is meant for us, by the claim in which its provider says so.
pub(super) fn check_audience(claims: &Map<String, Value>, rule: &Issuer) -> Result<(), Error> {
    let claim = match (rule.provider, claims.get("aud")) {
        // Access tokens name their client and no audience; ID tokens are as everybody's.
        (Some(Provider::Cognito), _) => match claims.get("token_use").and_then(Value::as_str) {
            Some("access") => "client_id",
            Some("id") => "aud",
            Some(_) | None => return Err(required(rule, "token_use")),
        },
        // Session tokens name the origin they were made for, and no audience unless a template
        // gives them one.
        (Some(Provider::Clerk), None) => "azp",
        // Session tokens name nobody: the keys are the client's own, which is how they are asked
        // for. What is named has to be ours all the same.
        (Some(Provider::Workos), None) if !claims.contains_key("client_id") => return Ok(()),
        (Some(Provider::Workos), None) => "client_id",
        (
            None
            | Some(
                Provider::Auth0
                | Provider::Clerk
                | Provider::Entra
                | Provider::Firebase
                | Provider::Keycloak
                | Provider::Okta
                | Provider::Supabase
                | Provider::Workos
                | Provider::Zitadel,
            ),
            _,
        ) => "aud",
    };
    let ours = |audience: &str| rule.audiences.iter().any(|ours| ours == audience);
    let invalid = || Error::ClaimInvalid { claim, expected: "a text or a list of texts" };
    let fits = match claims.get(claim) {
        Some(Value::String(audience)) => ours(audience),
        Some(Value::Array(list)) if claim == "aud" => {
            // Every entry is typed before any is compared.
            let list: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            list.ok_or_else(invalid)?.into_iter().any(ours)
        }
        Some(_) => return Err(invalid()),
        None => return Err(Error::ClaimMissing { claim }),
    };
    if fits { Ok(()) } else { Err(another_audience(claims, rule, claim)) }
}

/// Says what both sides have.
fn another_audience(claims: &Map<String, Value>, rule: &Issuer, claim: &'static str) -> Error {
    let found: Vec<&str> = match claims.get(claim) {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(value) => value.as_str().into_iter().collect(),
        None => Vec::new(),
    };
    let pairs =
        found.iter().flat_map(|found| rule.audiences.iter().map(move |ours| (*found, ours)));
    let hint = pairs.filter_map(|(found, ours)| little_difference(found, ours)).next();
    Error::Audience {
        rule: rule.name.clone(),
        claim,
        found: quoted_list(found.iter().copied()),
        wanted: quoted_list(rule.audiences.iter().map(String::as_str)),
        hint: hint.unwrap_or_default(),
    }
}

/// Checks what a provider's documents tell verifiers to check beyond the standard claims.
pub(super) fn check_particulars(
    claims: &Map<String, Value>,
    rule: &Issuer,
    now: SystemTime,
) -> Result<(), Error> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    match rule.provider {
        // A session with something left to do, such as a second factor, is not signed in yet.
        Some(Provider::Clerk) if text("sts").is_some_and(|status| status != "active") => {
            Err(required(rule, "sts"))
        }
        // The directory that signed is the one that the token speaks of.
        Some(Provider::Entra) => {
            let iss = text("iss").unwrap_or_default();
            let is_other = |directory: &str| text("tid") != Some(directory);
            match rule.directory_of(iss) {
                Some(directory) if is_other(directory) => Err(required(rule, "tid")),
                Some(_) | None => Ok(()),
            }
        }
        Some(Provider::Firebase) => {
            if text("sub").is_none_or(str::is_empty) {
                return Err(required(rule, "sub"));
            }
            let began = claims.get("auth_time").and_then(Value::as_u64).map(Duration::from_secs);
            let began = began.and_then(|began| UNIX_EPOCH.checked_add(began));
            let latest = now.checked_add(rule.leeway).unwrap_or(now);
            if began.is_some_and(|began| began <= latest) {
                Ok(())
            } else {
                Err(required(rule, "auth_time"))
            }
        }
        None
        | Some(
            Provider::Auth0
            | Provider::Clerk
            | Provider::Cognito
            | Provider::Keycloak
            | Provider::Okta
            | Provider::Supabase
            | Provider::Workos
            | Provider::Zitadel,
        ) => Ok(()),
    }
}

/// Whether a key that names an issuer of its own may sign for this one: Entra's common key set
/// holds keys of one directory alone beside those of all.
pub(super) fn may_sign(key_issuer: Option<&str>, rule: &Issuer, iss: &str) -> bool {
    let (Some(Provider::Entra), Some(named)) = (rule.provider, key_issuer) else { return true };
    let of_any = || {
        let (before, after) = named.split_once("{tenantid}")?;
        iss.strip_prefix(before)?.strip_suffix(after)?.parse::<TenantId>().ok()
    };
    named == iss || of_any().is_some()
}

fn required(rule: &Issuer, claim: &str) -> Error {
    Error::RequiredClaim { rule: rule.name.clone(), claim: claim.to_owned() }
}
