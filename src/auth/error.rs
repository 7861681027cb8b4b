//! Why a token was not accepted: in full for the log, in few words for the client.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::observe::Fault;
use crate::types::Access;

/// Why a token was not accepted, or why the keys that would judge it cannot be used.
///
/// No variant holds a token or key material. Its issuer, its audience and its
/// claims' names are quoted, so that they are short and on one line; they are for the log, and no
/// part of [`Error::refusal`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an API key that opens anything: unknown, revoked, expired, or not for this access.
    #[error("the API key is not good")]
    ApiKey,
    /// Nobody could say what an API key opens.
    #[error("the API key could not be looked up")]
    ApiKeysUnavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The header's algorithm is not one that the rule accepts.
    #[error("the token's algorithm is not on the list of rule {rule:?}")]
    Algorithm {
        /// The rule that was tried.
        rule: String,
    },
    /// No `kid`, and more than one key that could be meant.
    #[error("the token names no key and rule {rule:?} has several for its algorithm")]
    AmbiguousKey {
        /// The rule that was tried.
        rule: String,
    },
    /// The token was made for something else.
    #[error(
        "the token's {claim:?} is {found}, and rule {rule:?} wants one of issuers.{rule}.audience: {wanted}{hint}"
    )]
    Audience {
        /// The rule that was tried.
        rule: String,
        /// The claim that names the audience.
        claim: &'static str,
        /// The value of that claim, quoted.
        found: String,
        /// The rule's audiences, quoted.
        wanted: String,
        /// In what little they differ.
        hint: &'static str,
    },
    /// A standard claim has the wrong type or an impossible value.
    #[error("claim {claim:?} of the token is not {expected}")]
    ClaimInvalid {
        /// The claim's name.
        claim: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A standard claim is not there.
    #[error("claim {claim:?} is missing from the token")]
    ClaimMissing {
        /// The claim's name.
        claim: &'static str,
    },
    /// What SQL may read of the token cannot be handed to it.
    #[error("the claims of the token for SQL are not {expected} (rule {rule:?})")]
    ClaimsForSql {
        /// The rule that was tried.
        rule: String,
        /// What they have to be.
        expected: &'static str,
    },
    /// The token ended.
    #[error("the token expired {ago:?} ago (rule {rule:?})")]
    Expired {
        /// The rule that was tried.
        rule: String,
        /// How long ago, leeway not counted.
        ago: Duration,
    },
    /// No keys have been obtained yet, or the ones there are too old to be trusted.
    #[error("rule {rule:?} has no keys that may be used")]
    KeysUnavailable {
        /// The rule that was tried.
        rule: String,
        /// What the last attempt to obtain them ended in.
        #[source]
        source: Option<KeysError>,
    },
    /// Not a token: its form alone rules it out.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// The token's time has not come.
    #[error("the token is not valid yet (rule {rule:?})")]
    NotYetValid {
        /// The rule that was tried.
        rule: String,
    },
    /// A claim that the rule demands is missing or holds something else.
    #[error("the token does not hold what rule {rule:?} requires of claim {claim:?}")]
    RequiredClaim {
        /// The rule that was tried.
        rule: String,
        /// The claim's path.
        claim: String,
    },
    /// At start: a rule that cannot be obeyed.
    #[error("issuer rule {rule:?}: {reason}")]
    Rule {
        /// The rule's name.
        rule: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// At start: a rule's keys cannot be used.
    #[error("issuer rule {rule:?}: could not load its keys")]
    RuleKeys {
        /// The rule's name.
        rule: String,
        /// Why.
        #[source]
        source: KeysError,
    },
    /// The signature is not one of the rule's keys' over this token.
    #[error("the token's signature does not verify under rule {rule:?}")]
    Signature {
        /// The rule that was tried.
        rule: String,
    },
    /// The tenant claim does not name exactly one tenant.
    #[error("tenant claim {claim:?} of the token is not {expected} (rule {rule:?})")]
    TenantClaimInvalid {
        /// The rule that was tried.
        rule: String,
        /// The claim's path.
        claim: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// The tenant claim is not there.
    #[error("tenant claim {claim:?} is missing from the token (rule {rule:?}){}", in_its_place(rule, *instead))]
    TenantClaimMissing {
        /// The rule that was tried.
        rule: String,
        /// The claim's path.
        claim: String,
        /// A claim that looks as if it was meant, and what would have to name it.
        instead: Option<Instead>,
    },
    /// No rule of the wanted access has the token's issuer.
    #[error("no rule for access {access} has the token's issuer {found}: {rules}")]
    UnknownIssuer {
        /// The access that was asked for.
        access: Access,
        /// The token's issuer, quoted.
        found: String,
        /// The rules that there are, and their issuers.
        rules: String,
    },
    /// The key set has no key of that id for that algorithm.
    #[error("rule {rule:?} has no such key as the token names")]
    UnknownKey {
        /// The rule that was tried.
        rule: String,
    },
}

/// A claim that looks as if it was to name the tenant, and the key that does not name it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Instead {
    /// The claim's name: one of a few.
    pub claim: &'static str,
    /// `tenants_claim` or `tenant_claim`.
    pub key: &'static str,
}

fn in_its_place(rule: &str, instead: Option<Instead>) -> String {
    let Some(Instead { claim, key }) = instead else { return String::new() };
    let use_of = if key == "tenants_claim" { "makes a service token of it" } else { "reads that" };
    format!("; it has a claim {claim:?}: issuers.{rule}.{key} = {claim:?} {use_of}")
}

/// Why keys could not be read or fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeysError {
    /// The endpoint could not be asked, or its answer could not be read.
    #[error("the key set endpoint did not answer: {0}")]
    Fetch(String),
    /// The content is not a key, or not a set of keys.
    #[error("{0}")]
    Format(&'static str),
    /// The file could not be read.
    #[error("could not read {}: {kind}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The endpoint answered with something other than 200. Redirects are not followed.
    #[error("the key set endpoint answered with status {0}")]
    Status(u16),
    /// More bytes than any key set needs.
    #[error("the key set is larger than {0} bytes")]
    TooLarge(usize),
    /// Neither `https` nor `http` on loopback.
    #[error("a key set URL has to be https, or http on loopback, without a user name")]
    Url,
}

/// What the client may know of an [`Error`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// `28P01` for a token that is no good, `28000` for a good one that is not for this; `08006` if
    /// nobody can say.
    pub sqlstate: &'static str,
    /// The stable short code of the documentation's table.
    pub code: &'static str,
    /// For the person who has to act.
    pub message: Cow<'static, str>,
    /// What that person may do.
    pub hint: Option<Cow<'static, str>>,
}

impl Error {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::ApiKeysUnavailable(_) | Self::KeysUnavailable { .. } => Fault::Server,
            Self::Rule { .. } | Self::RuleKeys { .. } => Fault::Proxy,
            Self::Algorithm { .. }
            | Self::AmbiguousKey { .. }
            | Self::ApiKey
            | Self::Audience { .. }
            | Self::ClaimInvalid { .. }
            | Self::ClaimMissing { .. }
            | Self::ClaimsForSql { .. }
            | Self::Expired { .. }
            | Self::Malformed(_)
            | Self::NotYetValid { .. }
            | Self::RequiredClaim { .. }
            | Self::Signature { .. }
            | Self::TenantClaimInvalid { .. }
            | Self::TenantClaimMissing { .. }
            | Self::UnknownIssuer { .. }
            | Self::UnknownKey { .. } => Fault::Client,
        }
    }

    /// What the client may know.
    ///
    /// Whatever is found before the signature was verified reads alike, except for the token's own
    /// form, so that nobody learns which issuers, keys or algorithms would do.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Algorithm { .. }
            | Self::AmbiguousKey { .. }
            | Self::Signature { .. }
            | Self::UnknownIssuer { .. }
            | Self::UnknownKey { .. } => bad("C101", "token was not accepted"),
            Self::Malformed(_) => bad("C102", "token is not a well-formed JWT")
                .hint("The password has to be a signed JSON Web Token in compact form."),
            Self::Expired { .. } => bad("C103", "token has expired").hint("Obtain a new token."),
            Self::NotYetValid { .. } => bad("C104", "token is not valid yet")
                .hint("Compare the clocks of the token's issuer and of this proxy."),
            Self::ClaimMissing { claim } => {
                bad("C105", format!("claim \"{claim}\" is missing from the token"))
            }
            Self::ClaimInvalid { claim, expected } => {
                bad("C106", format!("claim \"{claim}\" of the token is not {expected}"))
            }
            Self::Audience { .. } => unfit("C107", "token is not valid for this proxy")
                .hint("Its audience is another, or another user name goes with it."),
            Self::RequiredClaim { claim, .. } => {
                unfit("C108", format!("claim \"{claim}\" of the token does not allow this login"))
            }
            Self::TenantClaimMissing { claim, instead, .. } => {
                let refusal = unfit("C109", format!("claim \"{claim}\" is missing from the token"));
                match instead {
                    None => refusal.hint("It has to name the tenant that the token is for."),
                    Some(Instead { claim, key }) => refusal.hint(format!(
                        "The token has a claim \"{claim}\", which the proxy reads only if the \
                         rule of the token's issuer says {key} = \"{claim}\"."
                    )),
                }
            }
            Self::TenantClaimInvalid { claim, expected, .. } => {
                unfit("C110", format!("claim \"{claim}\" of the token is not {expected}"))
            }
            Self::ClaimsForSql { expected, .. } => {
                unfit("C217", format!("claims of the token that SQL may read are not {expected}"))
            }
            Self::ApiKey => bad("C113", "API key was not accepted"),
            Self::ApiKeysUnavailable(_) => Refusal {
                sqlstate: "08006",
                code: "C114",
                message: "API key cannot be checked at the moment".into(),
                hint: Some("Try again later.".into()),
            },
            Self::KeysUnavailable { .. } => unfit("C111", "token cannot be checked at the moment")
                .hint("The keys of its issuer are out of reach. Try again later."),
            // These end the program's start and reach no client.
            Self::Rule { .. } | Self::RuleKeys { .. } => unfit("C112", "no token can be checked"),
        }
    }

    /// Whether the rule will never accept the token, whatever the time and its keys.
    pub(super) fn is_for_good(&self) -> bool {
        match self {
            Self::AmbiguousKey { .. }
            | Self::ApiKey
            | Self::ApiKeysUnavailable(_)
            | Self::Expired { .. }
            | Self::KeysUnavailable { .. }
            | Self::NotYetValid { .. }
            | Self::Signature { .. }
            | Self::UnknownKey { .. } => false,
            Self::Algorithm { .. }
            | Self::Audience { .. }
            | Self::ClaimInvalid { .. }
            | Self::ClaimMissing { .. }
            | Self::ClaimsForSql { .. }
            | Self::Malformed(_)
            | Self::RequiredClaim { .. }
            | Self::Rule { .. }
            | Self::RuleKeys { .. }
            | Self::TenantClaimInvalid { .. }
            | Self::TenantClaimMissing { .. }
            | Self::UnknownIssuer { .. } => true,
        }
    }

    /// How far the token came: of several rules' errors the furthest helps most.
    pub(super) fn progress(&self) -> u8 {
        match self {
            Self::ApiKey
            | Self::ApiKeysUnavailable(_)
            | Self::Malformed(_)
            | Self::UnknownIssuer { .. }
            | Self::Rule { .. }
            | Self::RuleKeys { .. } => 0,
            Self::Algorithm { .. } => 1,
            Self::AmbiguousKey { .. } | Self::UnknownKey { .. } => 2,
            Self::Signature { .. } => 3,
            Self::KeysUnavailable { .. } => 4,
            Self::ClaimInvalid { .. } | Self::ClaimMissing { .. } | Self::Audience { .. } => 5,
            Self::Expired { .. } | Self::NotYetValid { .. } => 6,
            Self::RequiredClaim { .. } => 7,
            Self::TenantClaimInvalid { .. } | Self::TenantClaimMissing { .. } => 8,
            Self::ClaimsForSql { .. } => 9,
        }
    }
}

impl Refusal {
    fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The token is no good.
fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal { sqlstate: "28P01", code, message: message.into(), hint: None }
}

/// The token is good, but not for this.
fn unfit(code: &'static str, message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal { sqlstate: "28000", code, message: message.into(), hint: None }
}
