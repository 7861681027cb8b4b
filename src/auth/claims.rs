//! What a token proved. Only this module's siblings can make these values.

use std::fmt;
use std::time::SystemTime;

use crate::config::TenantLookup;
use crate::types::Access;

/// The content of a token after every check. The only way to a tenant context.
///
/// No `Clone`, no `Default`, no `Deserialize`: one verification, one value.
pub struct VerifiedClaims {
    access: Access,
    issuer: String,
    subject: Option<String>,
    token_id: Option<String>,
    expires_at: SystemTime,
    tenant: Option<TenantClaim>,
}

/// The tenant that a token names, not yet looked up.
#[derive(Eq, PartialEq)]
pub struct TenantClaim {
    value: String,
    lookup: Vec<TenantLookup>,
}

impl VerifiedClaims {
    pub(super) fn new(
        access: Access,
        issuer: String,
        expires_at: SystemTime,
        tenant: Option<TenantClaim>,
    ) -> Self {
        Self { access, issuer, subject: None, token_id: None, expires_at, tenant }
    }

    pub(super) fn with_names(mut self, subject: Option<String>, token_id: Option<String>) -> Self {
        self.subject = subject;
        self.token_id = token_id;
        self
    }

    /// What the token allows: the access that was asked for, proven.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Name of the rule that accepted the token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The `sub` claim: at most 255 bytes, no control characters.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The `jti` claim: at most 255 bytes, no control characters.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// When the rule stops accepting the token: its `exp` claim plus the rule's leeway. The session
    /// ends then.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// The tenant. Always there for [`Access::Tenant`], never for the others.
    pub fn tenant(&self) -> Option<&TenantClaim> {
        self.tenant.as_ref()
    }
}

impl TenantClaim {
    pub(super) fn new(value: String, lookup: Vec<TenantLookup>) -> Self {
        Self { value, lookup }
    }

    /// One word: not empty, at most 255 bytes, no blanks, no control characters.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What the value may be, in the order in which it is tried. Never empty. Has
    /// [`TenantLookup::Id`] only if the value is a hyphenated UUID.
    pub fn lookup(&self) -> &[TenantLookup] {
        &self.lookup
    }
}

impl fmt::Debug for VerifiedClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedClaims")
            .field("access", &self.access)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TenantClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantClaim").field("lookup", &self.lookup).finish_non_exhaustive()
    }
}
