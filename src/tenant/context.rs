//! From verified claims and the tenant they name to the permission to act for it.

use std::sync::Arc;
use std::time::SystemTime;

use crate::auth::VerifiedClaims;
use crate::protocol::ClientError;
use crate::types::{Access, TenantId};

use super::actor::Actor;
use super::choice::Selection;
use super::claims::SqlClaims;
use super::directory::{Status, Tenant};

/// For whom a session acts, and until when.
///
/// Made only from [`VerifiedClaims`]; the only thing from which a `Bound` server connection is
/// made.
#[derive(Debug)]
pub struct TenantContext {
    scope: Scope,
    expires_at: SystemTime,
    claims: Option<Arc<SqlClaims>>,
    /// A super-admin's.
    actor: Option<Arc<Actor>>,
}

/// For whom a session acts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// One tenant, whose signed context goes ahead of everything that the client sends.
    Tenant(TenantId),
    /// A tenant that nobody has chosen yet: no context is bound, so Postgres shows no rows, and
    /// what holds for tenants holds.
    Nobody,
    /// Every tenant, by policies of the super-admin's own role.
    Superadmin,
    /// The owner of the tables, for migrations.
    Owner,
}

impl Scope {
    /// Whose rows the session sees, if it acts for one tenant.
    pub const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Nobody | Self::Superadmin | Self::Owner => None,
        }
    }

    /// Whether it is a tenant's session, and so held to what tenants are held to.
    pub const fn is_tenants(self) -> bool {
        match self {
            Self::Tenant(_) | Self::Nobody => true,
            Self::Superadmin | Self::Owner => false,
        }
    }
}

/// Why verified claims do not lead to a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The claims name a tenant that is not in `cloison.tenants`.
    #[error("the token names a tenant that does not exist")]
    Unknown,
    /// The tenant exists and may not be served.
    #[error("tenant {0} is {1}")]
    NotActive(TenantId, Status),
    /// The claims do not allow the tenant that was chosen, or there is none.
    #[error("the token does not allow the tenant that was chosen, or there is none of that name")]
    NotAllowed,
    /// The claims allow every tenant, and there is none of the name that was chosen.
    #[error("there is no tenant of the name that was chosen")]
    NoneOfThatName,
}

impl Refusal {
    /// The SQLSTATE of an error in a session, which is one about rights and not about a login.
    pub(super) const fn sqlstate_in_band(self) -> &'static str {
        match self {
            Self::NotAllowed | Self::NoneOfThatName => "42501",
            Self::Unknown | Self::NotActive(..) => "28000",
        }
    }
}

impl TenantContext {
    /// Decides for whom the holder of `claims` acts; `selection` is what the directory found.
    ///
    /// # Errors
    ///
    /// Refuses a tenant that is unknown, suspended or archived, and a choice that is not allowed.
    pub fn resolve(claims: &VerifiedClaims, selection: Selection) -> Result<Self, Refusal> {
        let scope = match (claims.access(), selection) {
            (_, Selection::NotAllowed) if claims.allows_every_tenant() => {
                return Err(Refusal::NoneOfThatName);
            }
            (_, Selection::NotAllowed) => return Err(Refusal::NotAllowed),
            (Access::Tenant, Selection::Found(tenant)) => Scope::Tenant(admit(tenant)?),
            (Access::Tenant, Selection::Nobody) => Scope::Nobody,
            (Access::Superadmin, Selection::Found(tenant)) => Scope::Tenant(admit(tenant)?),
            (Access::Superadmin, Selection::Nobody) => Scope::Superadmin,
            (Access::Owner, _) => Scope::Owner,
        };
        let expires_at = claims.expires_at();
        let actor = (scope == Scope::Superadmin).then(|| Arc::new(Actor::of(claims)));
        let claims =
            claims.for_sql().map(|json| SqlClaims::new(json.clone(), expires_at)).map(Arc::new);
        Ok(Self { scope, expires_at, claims, actor })
    }

    /// For whom the session acts.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// When the token, and with it the session, ends.
    pub const fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// The session ends at that time if it does not end before.
    pub fn end_by(&mut self, latest: SystemTime) {
        self.expires_at = self.expires_at.min(latest);
    }

    /// Lets a super-admin's session change rows; it is on record that it may.
    pub fn permit_writes(&mut self) {
        if let Some(actor) = &mut self.actor {
            Arc::make_mut(actor).permit_writes();
        }
    }

    /// Whose a super-admin's session is that sees every tenant.
    pub const fn actor(&self) -> Option<&Arc<Actor>> {
        self.actor.as_ref()
    }

    /// What SQL may read of the token, if anything.
    pub const fn claims(&self) -> Option<&Arc<SqlClaims>> {
        self.claims.as_ref()
    }
}

pub(super) fn admit(tenant: Option<Tenant>) -> Result<TenantId, Refusal> {
    match tenant {
        None => Err(Refusal::Unknown),
        Some(Tenant { id, status: Status::Active }) => Ok(id),
        Some(Tenant { id, status }) => Err(Refusal::NotActive(id, status)),
    }
}

/// The answer to the choice of a tenant in a session whose token names one.
pub fn has_its_tenant() -> ClientError {
    let message = "this session acts for the tenant of its login, and can choose no other";
    ClientError::error("42501", "C207", message).hint(
        "It needs no set_tenant(). To choose among several tenants, log in with a token that \
         lists them.",
    )
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Whoever holds a verified token may know of its own tenant's state, but whether a
            // tenant never was or is no more is not told apart.
            Refusal::Unknown | Refusal::NotActive(_, Status::Archived) => {
                Self::fatal("28000", "C201", "the token's tenant does not exist")
            }
            Refusal::NotActive(_, Status::Suspended) => {
                Self::fatal("28000", "C202", "the token's tenant is suspended")
                    .hint("Ask the operator of this service.")
            }
            Refusal::NotAllowed => {
                Self::fatal("28000", "C207", "the token does not allow this tenant")
                    .hint("It has to be one that the token lists, by its id or its slug.")
            }
            Refusal::NoneOfThatName => {
                Self::fatal("28000", "C207", "there is no tenant of this name")
                    .hint("The token allows every tenant: name one by its id or its slug.")
            }
            Refusal::NotActive(_, Status::Active) => Self::fatal("XX000", "C900", "internal error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_active_tenants_are_admitted() {
        let id = TenantId::new(uuid::Uuid::nil());
        let tenant = |status| Some(Tenant { id, status });
        assert_eq!(admit(tenant(Status::Active)), Ok(id));
        assert_eq!(admit(None), Err(Refusal::Unknown));
        for status in [Status::Suspended, Status::Archived] {
            assert_eq!(admit(tenant(status)), Err(Refusal::NotActive(id, status)));
        }
    }

    #[test]
    fn an_archived_tenant_looks_like_none() {
        let id = TenantId::new(uuid::Uuid::nil());
        let unknown = ClientError::from(Refusal::Unknown);
        assert_eq!(unknown, ClientError::from(Refusal::NotActive(id, Status::Archived)));
    }
}
