//! `provider = "…"`: what the tokens of a known identity provider look like, so that nobody has to
//! find it out. A key that is written wins over what the provider fills in.
//!
//! The tenant is looked up by what users cannot change: an organisation's id, never its slug or its
//! name, which its own administrators may edit, so that one could take the name another gave up.

use crate::types::TenantId;

use super::{Algorithm, Issuer, TenantLookup};

/// Identity providers whose tokens are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Provider {
    /// Auth0, with Organizations.
    Auth0,
    /// Clerk, session tokens of version 2 and 1.
    Clerk,
    /// Amazon Cognito user pools.
    Cognito,
    /// Microsoft Entra ID.
    Entra,
    /// Firebase Authentication and Google Cloud Identity Platform.
    Firebase,
    /// Keycloak 26 or newer, with organizations.
    Keycloak,
    /// Okta, with a custom authorization server.
    Okta,
    /// Supabase Auth.
    Supabase,
    /// WorkOS AuthKit.
    Workos,
    /// ZITADEL.
    Zitadel,
}

pub(super) const PROVIDERS: &[(&str, Provider)] = &[
    ("auth0", Provider::Auth0),
    ("clerk", Provider::Clerk),
    ("workos", Provider::Workos),
    ("keycloak", Provider::Keycloak),
    ("supabase", Provider::Supabase),
    ("cognito", Provider::Cognito),
    ("okta", Provider::Okta),
    ("entra", Provider::Entra),
    ("firebase", Provider::Firebase),
    ("zitadel", Provider::Zitadel),
];

/// Stands in Entra's `iss` for the customer's directory, as in its own discovery document.
pub(super) const DIRECTORY: &str = "{tenantid}";

/// What a provider fills in.
pub(super) struct Preset {
    pub(super) algorithms: &'static [Algorithm],
    /// Paths, each from the outside in.
    pub(super) tenant_claims: &'static [&'static [&'static str]],
    pub(super) tenant_lookup: TenantLookup,
    pub(super) required_claims: &'static [(&'static str, &'static str)],
}

impl Provider {
    /// The words for all of them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROVIDERS.iter().map(|(name, _)| *name)
    }

    pub(super) const fn preset(self) -> Preset {
        use Algorithm::{EdDsa, Es256, Hs256, Ps256, Rs256};
        use TenantLookup::{ExternalKey, Id};
        match self {
            // https://auth0.com/docs/manage-users/organizations/using-tokens
            Self::Auth0 => preset(&[Rs256], &[&["org_id"]], ExternalKey, &[]),
            // https://clerk.com/docs/guides/sessions/session-tokens
            Self::Clerk => preset(&[Rs256], &[&["o", "id"], &["org_id"]], ExternalKey, &[]),
            // https://workos.com/docs/reference/authkit/session-tokens
            Self::Workos => preset(&[Rs256], &[&["org_id"]], ExternalKey, &[]),
            // https://www.keycloak.org/docs/latest/server_admin/, "Mapping organization claims".
            // An alias cannot be changed. ID and logout tokens have another `typ` claim.
            Self::Keycloak => preset(
                &[Rs256, Ps256, Es256, EdDsa],
                &[&["organization", "*", "id"], &["organization", "*"]],
                ExternalKey,
                &[("typ", "Bearer")],
            ),
            // https://supabase.com/docs/guides/auth/jwt-fields: app_metadata is written by servers
            // only. `anon` and `service_role` keys are nobody's tickets.
            Self::Supabase => preset(
                &[Es256, Rs256, Hs256],
                &[&["app_metadata", "tenant_id"]],
                Id,
                &[("role", "authenticated")],
            ),
            // https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html
            // In an access token by a trigger (pre token generation), in an ID token by itself.
            Self::Cognito => preset(&[Rs256], &[&["tenant_id"], &["custom:tenant_id"]], Id, &[]),
            // https://developer.okta.com/docs/concepts/auth-servers/: a claim that the custom
            // authorization server adds.
            Self::Okta => preset(&[Rs256], &[&["tenant_id"]], Id, &[]),
            // https://learn.microsoft.com/entra/identity-platform/claims-validation
            Self::Entra => preset(&[Rs256], &[&["tid"]], ExternalKey, &[]),
            // https://firebase.google.com/docs/auth/admin/verify-id-tokens
            Self::Firebase => preset(&[Rs256], &[&["firebase", "tenant"]], ExternalKey, &[]),
            // https://zitadel.com/docs/apis/openidoauth/claims
            Self::Zitadel => preset(
                &[Rs256, Es256, EdDsa],
                &[&["urn:zitadel:iam:user:resourceowner:id"]],
                ExternalKey,
                &[],
            ),
        }
    }

    /// What is wrong with an `issuer` that no token of this provider has.
    pub(super) fn objection(self, issuer: &str, audiences: &[String]) -> Option<&'static str> {
        match self {
            Self::Auth0 if !issuer.ends_with('/') => {
                Some("Auth0's issuer ends in a slash, such as https://acme.eu.auth0.com/")
            }
            // The tokens of the other kind are for Okta's own API, and not to be verified.
            Self::Okta if !issuer.contains("/oauth2/") => Some(
                "expected the issuer of a custom authorization server, \
                 such as https://acme.okta.com/oauth2/default",
            ),
            Self::Firebase
                if !issuer.strip_prefix("https://securetoken.google.com/").is_some_and(
                    |project| audiences.iter().all(|audience| audience == project),
                ) =>
            {
                Some(
                    "expected https://securetoken.google.com/ and the project, which is the audience",
                )
            }
            Self::Auth0
            | Self::Clerk
            | Self::Cognito
            | Self::Entra
            | Self::Firebase
            | Self::Keycloak
            | Self::Okta
            | Self::Supabase
            | Self::Workos
            | Self::Zitadel => None,
        }
    }
}

const fn preset(
    algorithms: &'static [Algorithm],
    tenant_claims: &'static [&'static [&'static str]],
    tenant_lookup: TenantLookup,
    required_claims: &'static [(&'static str, &'static str)],
) -> Preset {
    Preset { algorithms, tenant_claims, tenant_lookup, required_claims }
}

impl Issuer {
    /// Whether a token with this `iss` claim is one of this rule's.
    pub fn has_issued(&self, iss: &str) -> bool {
        if self.is_of_any_directory() {
            return self.directory_of(iss).is_some();
        }
        self.issuer == iss
    }

    /// Entra's directory in an `iss` claim, if the rule's issuer leaves it open.
    pub fn directory_of<'a>(&self, iss: &'a str) -> Option<&'a str> {
        let (before, after) = self.issuer.split_once(DIRECTORY)?;
        let directory = iss.strip_prefix(before)?.strip_suffix(after)?;
        directory.parse::<TenantId>().is_ok().then_some(directory)
    }

    fn is_of_any_directory(&self) -> bool {
        self.provider == Some(Provider::Entra) && self.issuer.contains(DIRECTORY)
    }

    /// Whether the same token might be accepted by both rules, as far as their texts tell.
    pub fn may_share_tokens_with(&self, other: &Self) -> bool {
        let same_issuer = !self.issuer.is_empty()
            && (self.issuer == other.issuer
                || self.has_issued(&other.issuer)
                || other.has_issued(&self.issuer));
        // Who reads the audience from different claims, or from none, cannot compare it.
        let is_comparable =
            self.provider == other.provider && self.provider != Some(Provider::Workos);
        let same_audience = !is_comparable
            || self.audiences.iter().any(|audience| other.audiences.contains(audience));
        same_issuer && same_audience
    }
}

/// The name in a claim's path by which users tell of themselves what they like.
///
/// Supabase's and Auth0's `user_metadata`, Supabase's `raw_user_meta_data`, Clerk's
/// `unsafe_metadata`, in any spelling and below any namespace.
pub(super) fn user_editable(path: &[String]) -> Option<&str> {
    path.iter().map(String::as_str).find(|name| {
        let last = name.rsplit(['/', ':']).next().unwrap_or(name);
        let letters: String = last.chars().filter(char::is_ascii_alphanumeric).collect();
        ["usermetadata", "rawusermetadata", "unsafemetadata"]
            .contains(&letters.to_ascii_lowercase().as_str())
    })
}
