//! What a token proved. Only this module's siblings can make these values.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::on_record::OnRecord;
use crate::config::TenantLookup;
use crate::types::{Access, TenantId};

/// The content of a token after every check. The only way to a tenant context.
///
/// No `Clone`, no `Default`, no `Deserialize`: a value stands for a token that was judged, now or,
/// as the cache of known tokens remembers, before.
pub struct VerifiedClaims(Arc<Claims>);

/// What [`VerifiedClaims`] tell.
pub(super) struct Claims {
    pub(super) access: Access,
    pub(super) issuer: String,
    pub(super) token_issuer: String,
    pub(super) subject: Option<String>,
    pub(super) token_id: Option<String>,
    pub(super) period: Period,
    pub(super) tenants: Option<Tenants>,
    /// The path of the claim that names the one tenant.
    pub(super) named_by: Option<String>,
    /// What a tenant may be named by.
    pub(super) lookup: Vec<TenantLookup>,
    pub(super) for_sql: Option<Arc<str>>,
    pub(super) on_record: OnRecord,
}

/// When a rule accepts a token, its leeway counted in.
#[derive(Clone, Copy)]
pub(super) struct Period {
    pub(super) from: Option<SystemTime>,
    pub(super) until: SystemTime,
}

/// Which tenants a tenant's token allows.
#[derive(Clone, Eq, PartialEq)]
pub enum Tenants {
    /// The one that it names: nothing has to be chosen.
    One(TenantClaim),
    /// These, and nobody until one of them is chosen: a service token. There may be none.
    Listed(Vec<TenantClaim>),
    /// Every one, and nobody until one is chosen: a service token.
    Any,
}

/// The tenant that a token names, or that its holder chooses; not yet looked up.
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

    /// The `iss` claim.
    pub fn token_issuer(&self) -> &str {
        &self.0.token_issuer
    }

    /// The `sub` claim: a line of at most 255 bytes.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The `jti` claim: a line of at most 255 bytes.
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

    /// The tenants that it allows. Always there for [`Access::Tenant`], never for the others.
    pub fn tenants(&self) -> Option<&Tenants> {
        self.0.tenants.as_ref()
    }

    /// True for claims whose holder may act for any tenant: those that say so, and a super-admin's.
    pub fn allows_every_tenant(&self) -> bool {
        match self.access() {
            Access::Superadmin => true,
            Access::Tenant | Access::Owner => matches!(self.tenants(), Some(Tenants::Any)),
        }
    }

    /// The path of the claim that names the one tenant that the token is for.
    pub fn named_by(&self) -> Option<&str> {
        self.0.named_by.as_deref()
    }

    /// The names of a tenant that the rule allows, in the order in which they are tried.
    pub fn lookup(&self) -> &[TenantLookup] {
        &self.0.lookup
    }

    /// What the token's holder may mean by `name`: never proof that the token allows it.
    pub fn choice(&self, name: &str) -> Option<TenantClaim> {
        if self.0.access == Access::Owner || !is_word(name) {
            return None;
        }
        let mut lookup = vec![TenantLookup::Slug];
        if name.parse::<TenantId>().is_ok() {
            lookup.insert(0, TenantLookup::Id);
        }
        if self.0.lookup.contains(&TenantLookup::ExternalKey) {
            lookup.push(TenantLookup::ExternalKey);
        }
        Some(TenantClaim::new(name.to_owned(), lookup))
    }
}

impl Tenants {
    /// How many tenants it names.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Listed(list) => list.len(),
            Self::Any => 0,
        }
    }

    /// The only tenant, where nothing has to be chosen.
    pub const fn only(&self) -> Option<&TenantClaim> {
        match self {
            Self::One(claim) => Some(claim),
            Self::Listed(_) | Self::Any => None,
        }
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

/// Longest tenant name, subject and token id, in bytes.
pub(super) const MAX_NAME: usize = 255;

/// Not empty, not long, no blanks, no control characters.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(_) => f.write_str("One"),
            Self::Listed(list) => write!(f, "Listed({})", list.len()),
            Self::Any => f.write_str("Any"),
        }
    }
}
