//! Startup and token: what a tenant can say before it has a session.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::{Foray, attack};
use crate::kit::verify::check::{Attack, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Lost, Wire};

/// The user names of the roads that are not for tenants.
const ROADS: [&str; 2] = ["cloison_superadmin", "cloison_owner"];

pub(super) async fn all(foray: &mut Foray<'_>) {
    let mut verdict = Ok(Verdict::HELD);
    for user in ROADS {
        verdict = knock(foray, Some(user), None, &[]).await;
        if !verdict.as_ref().is_ok_and(Verdict::is_passed) {
            break;
        }
    }
    foray.put(&OTHER_ROADS, "token", verdict);
    for (attack, token) in forged_tokens(foray) {
        let verdict = match token {
            Some(token) => knock(foray, None, Some(&token), &[]).await,
            None => Ok(Verdict::skipped("the password is no token with three parts")),
        };
        foray.put(attack, "token", verdict);
    }
    let forged = format!("s{}{}", foray.other.id, "0".repeat(64));
    let option = format!("-c cloison.context={forged}");
    let starts: [(_, &[(&str, &str)]); 6] = [
        (&CONTEXT_AT_STARTUP, &[("cloison.context", &forged)]),
        (&CONTEXT_IN_OPTIONS, &[("options", &option)]),
        (&ROLE_AT_STARTUP, &[("options", "-c role=cloison_superadmin")]),
        (&SESSION_ROLE, &[("session_authorization", "postgres")]),
        (&REPLICATION, &[("replication", "database")]),
        (&OTHER_DATABASE, &[("database", "postgres")]),
    ];
    for (attack, parameters) in starts {
        let verdict = knock(foray, None, None, parameters).await;
        foray.put(attack, "startup", verdict);
    }
}

/// Nobody opens. A session that is opened nevertheless has failed, unless it is the tenant's own
/// and sees nothing more.
async fn knock(
    foray: &Foray<'_>,
    user: Option<&str>,
    token: Option<&[u8]>,
    parameters: &[(&str, &str)],
) -> Result<Verdict, Lost> {
    let (mut wire, answer) = Wire::login(foray.road, user, token, parameters).await?;
    if let Some(error) = answer.error() {
        return Ok(Verdict::by(error.layer()));
    }
    // A name that no pool claims is a tenant's like any other.
    let who = wire.ask(WHO).await?;
    let is_itself = user.is_some() && who.value() == Some(&foray.own.id);
    wire.close().await;
    if is_itself {
        return Ok(Verdict::HELD);
    }
    Ok(Verdict::failed("it was let in", "a bug of the proxy, or a rule in [issuers] too many"))
}

/// The tenant's own token, changed.
fn forged_tokens(foray: &Foray<'_>) -> Vec<(&'static Attack, Option<Vec<u8>>)> {
    let password = foray.road.config.get_password().unwrap_or_default();
    let token = String::from_utf8_lossy(password).into_owned();
    let parts: Option<[&str; 3]> = token.split('.').collect::<Vec<_>>().try_into().ok();
    let with = |change: fn(&Foray<'_>, [&str; 3]) -> Option<String>| {
        change(foray, parts?).map(String::into_bytes)
    };
    vec![
        (&NO_TOKEN, Some(b"x".to_vec())),
        (&NO_SIGNATURE, with(|_, [header, claims, _]| Some(format!("{header}.{claims}.")))),
        (
            &NO_ALGORITHM,
            with(|_, [_, claims, _]| {
                let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
                Some(format!("{header}.{claims}."))
            }),
        ),
        (&OTHER_CLAIMS, with(for_the_other)),
    ]
}

/// The other's names in the place of the own ones, under the signature of before.
fn for_the_other(foray: &Foray<'_>, [header, claims, signature]: [&str; 3]) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims = String::from_utf8(claims).ok()?;
    let (own, other) = (foray.own, foray.other);
    let names = [
        (Some(&own.id), Some(&other.id)),
        (Some(&own.name.slug), Some(&other.name.slug)),
        (own.external_key.as_ref(), other.external_key.as_ref()),
    ];
    let pairs = names.into_iter().filter_map(|(own, other)| own.zip(other));
    let changed = pairs.fold(claims.clone(), |claims, (own, other)| {
        claims.replace(&format!("\"{own}\""), &format!("\"{other}\""))
    });
    let claims = (changed != claims).then(|| BASE64_URL_SAFE_NO_PAD.encode(changed))?;
    Some(format!("{header}.{claims}.{signature}"))
}

/// The tenant, unless the session is above it.
const WHO: &str = "select cloison.get_current_tenant()::text where not cloison.is_superadmin()";

use Owasp::{Context, Database, Requests};
use Section::Door;

static OTHER_ROADS: Attack =
    attack("other_roads", Door, Context, "a tenant's token opens no road but the tenants'");
static NO_TOKEN: Attack = attack("no_token", Door, Requests, "no token, no session");
static NO_SIGNATURE: Attack = attack("no_signature", Door, Context, "no signature, no session");
static NO_ALGORITHM: Attack =
    attack("no_algorithm", Door, Context, "a token does not choose how it is verified");
static OTHER_CLAIMS: Attack =
    attack("other_claims", Door, Context, "a signature holds for its own claims only");
static CONTEXT_AT_STARTUP: Attack =
    attack("startup_context", Door, Context, "no startup parameter sets the context");
static CONTEXT_IN_OPTIONS: Attack =
    attack("startup_options", Door, Context, "no startup option sets the context");
static ROLE_AT_STARTUP: Attack =
    attack("startup_role", Door, Context, "no startup option sets the role");
static SESSION_ROLE: Attack =
    attack("startup_session_role", Door, Context, "no startup parameter sets the session's role");
static REPLICATION: Attack =
    attack("startup_replication", Door, Database, "no tenant has a replication connection");
static OTHER_DATABASE: Attack =
    attack("startup_database", Door, Database, "no tenant reaches another database");
