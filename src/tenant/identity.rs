//! Whom a verified token lets its holder be, at login and in band.

use std::error::Error as _;
use std::sync::Arc;
use std::time::SystemTime;

use crate::auth::{Tenants, VerifiedClaims, Verifier};
use crate::protocol::{ClientError, Severity};
use crate::types::{Access, SessionId, TenantId};

use super::choice::Selection;
use super::context::{Refusal, TenantContext, has_its_tenant};
use super::directory::Directory;
use super::share::{Member, Shares};
use super::stay::{Stay, Staying, Stays};

/// A verified token, and for whom its holder acts.
#[derive(Debug)]
pub struct Identity {
    claims: Arc<VerifiedClaims>,
    context: TenantContext,
    /// Counts the session for its tenant, or for its token's holder.
    member: Option<Box<Member>>,
    /// Tells when it is good no more.
    staying: Box<Staying>,
}

impl Identity {
    /// Whoever has these claims, and acts for whom they lead to.
    pub fn new(
        claims: VerifiedClaims,
        context: TenantContext,
        member: Option<Box<Member>>,
        staying: Box<Staying>,
    ) -> Self {
        Self { claims: Arc::new(claims), context, member, staying }
    }

    /// The claims of its token.
    pub fn claims(&self) -> &VerifiedClaims {
        &self.claims
    }

    /// For whom the holder acts.
    pub const fn context(&self) -> &TenantContext {
        &self.context
    }

    /// Counts the session for its tenant, or for its token's holder, if anybody counts.
    pub fn member(&self) -> Option<&Member> {
        self.member.as_deref()
    }

    /// Says when it is good no more, for its token or its tenant.
    pub const fn stay(&self) -> &Arc<Stay> {
        self.staying.stay()
    }

    /// Whether its token is good at the time `now`.
    pub fn is_good_at(&self, now: SystemTime) -> bool {
        now < self.context.expires_at()
    }

    /// Whether its token lists tenants, of which one has to be chosen.
    pub fn may_choose(&self) -> bool {
        matches!(self.claims.tenants(), Some(Tenants::Any | Tenants::Listed(_)))
    }

    /// Whether both were made of one token.
    pub fn has_token_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.claims, &other.claims)
    }

    /// Whether it is a super-admin's, who acts for one tenant.
    pub fn is_impersonation(&self) -> bool {
        self.claims.access() == Access::Superadmin && self.tenant().is_some()
    }

    /// Whether its holder is a super-admin or the owner, who sees more than one tenant or could.
    pub fn is_privileged(&self) -> bool {
        self.claims.access() != Access::Tenant
    }

    /// The rule that accepted its token, and the subject or the id of that, for the log.
    pub fn token(&self) -> (String, Option<String>) {
        let holder = self.claims.subject().or_else(|| self.claims.token_id());
        (self.claims.issuer().to_owned(), holder.map(str::to_owned))
    }

    /// What its token is for.
    pub fn access(&self) -> Access {
        self.claims.access()
    }

    /// The tenant, if there is one.
    pub const fn tenant(&self) -> Option<TenantId> {
        self.context.scope().tenant()
    }
}

/// Why somebody is not who he asked to be.
#[derive(Debug)]
pub struct Denied {
    /// What the client is told. The session goes on.
    pub told: ClientError,
    /// Who the client was is not to go on: what it asked for next is meant for somebody else.
    pub loses_identity: bool,
}

/// Makes identities of tokens and of choices, in band.
pub struct Identities<'a> {
    /// Judges tokens.
    pub verifier: &'a Verifier,
    /// Knows the tenants.
    pub directory: &'a Directory,
    /// What each tenant has.
    pub shares: &'a Shares,
    /// Whom the sessions are.
    pub stays: &'a Stays,
}

impl Identities<'_> {
    /// Whom a token that was presented in band makes of its holder. It has to be a tenant's.
    ///
    /// # Errors
    ///
    /// Says why the token is not accepted, or what is the matter with its tenant.
    pub async fn present(&self, token: &str) -> Result<Arc<Identity>, Denied> {
        let claims = match self.verifier.verify(token, Access::Tenant, SystemTime::now()).await {
            Ok(claims) => claims,
            Err(error) => {
                let refusal = error.refusal();
                let told = ClientError::error(refusal.sqlstate, refusal.code, refusal.message);
                return Err(lost(match refusal.hint {
                    Some(hint) => told.hint(hint),
                    None => told,
                }));
            }
        };
        let change = self.stays.change();
        let selection = self.directory.select(&claims, None).await.map_err(cannot_ask)?;
        let context = TenantContext::resolve(&claims, selection);
        let context = context.map_err(|refusal| lost(refusal.into()))?;
        self.begin(Arc::new(claims), context, change).await
    }

    /// Chooses a tenant among those that the token of `identity` allows. What is not allowed is
    /// written to the audit log.
    ///
    /// # Errors
    ///
    /// Says why not; what is unknown looks like what is not allowed.
    pub async fn choose(
        &self,
        identity: &Arc<Identity>,
        name: &str,
        session: SessionId,
    ) -> Result<Arc<Identity>, Denied> {
        let claims = &identity.claims;
        let change = self.stays.change();
        let selection = self.directory.select(claims, Some(name)).await.map_err(cannot_ask)?;
        if selection == Selection::NotAllowed {
            let noted = self.directory.note_refused_choice(claims, session, name).await;
            if let Err(error) = noted {
                let error = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                tracing::warn!(%session, error, "a refused choice could not be recorded");
            }
        }
        let loses_identity = identity.may_choose();
        if selection == Selection::NotAllowed && !loses_identity {
            return Err(Denied { told: has_its_tenant(), loses_identity });
        }
        let denied = |refusal: Refusal| Denied {
            told: ClientError { sqlstate: refusal.sqlstate_in_band(), ..lost(refusal.into()).told },
            loses_identity,
        };
        let context = TenantContext::resolve(claims, selection).map_err(denied)?;
        if context.scope() == identity.context.scope() {
            return Ok(Arc::clone(identity));
        }
        self.begin(Arc::clone(claims), context, change).await
    }

    /// Counts a new identity, and looks after it; `change` is what there was to know of tokens and
    /// tenants before its tenant was looked up.
    async fn begin(
        &self,
        claims: Arc<VerifiedClaims>,
        context: TenantContext,
        change: i64,
    ) -> Result<Arc<Identity>, Denied> {
        let staying = self.stays.begin(&claims, context.scope()).map_err(lost)?;
        if let Some(tenant) = context.scope().tenant().filter(|_| self.stays.change() != change) {
            // It was not yet there when that was held against those who were.
            let confirmed = self.directory.confirm_now(tenant).await.map_err(cannot_ask)?;
            confirmed.map_err(|refusal| lost(refusal.into()))?;
        }
        let member = self.shares.join(&claims, context.scope()).map_err(lost)?;
        Ok(Arc::new(Identity { claims, context, member, staying }))
    }
}

fn cannot_ask(error: super::Error) -> Denied {
    tracing::warn!(error = &error as &dyn std::error::Error, "a tenant could not be looked up");
    let told = ClientError::error("08006", "C205", "the proxy cannot ask the database");
    lost(told.hint("The proxy's log has the cause."))
}

/// The session goes on, as nobody.
fn lost(told: ClientError) -> Denied {
    Denied { told: ClientError { severity: Severity::Error, ..told }, loses_identity: true }
}
