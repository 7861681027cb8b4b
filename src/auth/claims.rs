//! What a token proved. Only this module's siblings can make these values.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::on_record::OnRecord;
use crate::config::TenantLookup;
use crate::types::Access;

/// The content of a token after every check. The only way to a tenant context.
///
/// No `Clone`, no `Default`, no `Deserialize`: a value stands for a token that was judged, now or,
/// as the cache of known tokens remembers, before.
pub struct VerifiedClaims(Arc<Claims>);

/// What [`VerifiedClaims`] tell.
pub(super) struct Claims {
    pub(super) access: Access,
    pub(super) issuer: String,
    pub(super) subject: Option<String>,
    pub(super) token_id: Option<String>,
    pub(super) period: Period,
    pub(super) tenant: Option<TenantClaim>,
    pub(super) for_sql: Option<Arc<str>>,
    pub(super) on_record: OnRecord,
}

/// When a rule accepts a token, its leeway counted in.
#[derive(Clone, Copy)]
pub(super) struct Period {
    pub(super) from: Option<SystemTime>,
    pub(super) until: SystemTime,
}

/// The tenant that a token names, not yet looked up.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct TenantClaim {
    value: String,
    lookup: Vec<TenantLookup>,
}

impl VerifiedClaims {
    pub(super) fn new(claims: Claims) -> Self {
        Self(Arc::new(claims))
    }

    /// The same claims, for another use of the same token.
    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Whether the token is good at the time `now`, as far as that is a question of time.
    pub(super) fn hold_at(&self, now: SystemTime) -> bool {
        let Period { from, until } = self.0.period;
        now < until && from.is_none_or(|from| from <= now)
    }

    /// Whether both come from one verification.
    #[cfg(test)]
    pub(super) fn are_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What the token allows: the access that was asked for, proven.
    pub fn access(&self) -> Access {
        self.0.access
    }

    /// Name of the rule that accepted the token.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The `sub` claim: at most 255 bytes, no control characters.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The `jti` claim: at most 255 bytes, no control characters.
    pub fn token_id(&self) -> Option<&str> {
        self.0.token_id.as_deref()
    }

    /// When the rule stops accepting the token: its `exp` claim plus the rule's leeway. The session
    /// ends then.
    pub fn expires_at(&self) -> SystemTime {
        self.0.period.until
    }

    /// Why the holder of a privileged token comes: a line.
    pub fn reason(&self) -> Option<&str> {
        self.0.on_record.reason.as_deref()
    }

    /// The `act` claim of a privileged token: who really asks.
    pub fn actor(&self) -> Option<&Value> {
        self.0.on_record.actor.as_ref()
    }

    /// The claims that SQL may read, as JSON in ASCII, if the rule lists any.
    pub fn for_sql(&self) -> Option<&Arc<str>> {
        self.0.for_sql.as_ref()
    }

    /// The tenant. Always there for [`Access::Tenant`], never for the others.
    pub fn tenant(&self) -> Option<&TenantClaim> {
        self.0.tenant.as_ref()
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
            .field("access", &self.0.access)
            .field("issuer", &self.0.issuer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TenantClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantClaim").field("lookup", &self.lookup).finish_non_exhaustive()
    }
}
