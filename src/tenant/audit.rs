//! What the audit log keeps of sessions that may see more than one tenant.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::auth::VerifiedClaims;
use crate::types::{Address, SessionId, TenantId};

/// Postgres cuts longer names.
const LONGEST_NAME: usize = 63;

/// A row of the audit log: who does what, and for which tenant if it is one.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) tenant: Option<TenantId>,
    pub(super) session: String,
    pub(super) detail: Value,
}

impl AuditRecord {
    /// Tells who came, by which access path, and from where. Nothing of the token itself. `None`:
    /// the token does not say who it is.
    pub fn session(claims: &VerifiedClaims, session: SessionId, client: &Address) -> Option<Self> {
        let is_name = |subject: &&str| subject.chars().any(char::is_alphanumeric);
        Some(Self {
            actor: claims.subject().filter(is_name)?.to_owned(),
            action: format!("session.{}", claims.access()),
            tenant: None,
            session: session.to_string(),
            detail: json!({
                "issuer": claims.issuer(),
                "token_id": claims.token_id(),
                "client": client.to_string(),
                "act": claims.actor(),
                "reason": claims.reason(),
            }),
        })
    }

    /// Tells on top of that in which database, where it is not the one that tenants are served in.
    #[must_use]
    pub fn with_database(mut self, database: &str) -> Self {
        self.detail["database"] = database.chars().take(LONGEST_NAME).collect::<String>().into();
        self
    }

    /// Tells on top of that for which tenant alone, who can read it and all that follows.
    #[must_use]
    pub const fn with_tenant(mut self, tenant: Option<TenantId>) -> Self {
        self.tenant = tenant;
        self
    }

    /// Tells on top of that why, whether rows may be changed, and when it ends.
    #[must_use]
    pub fn with_wishes(mut self, reason: Option<&str>, writes: bool, until: SystemTime) -> Self {
        let until = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some(reason) = reason {
            self.detail["reason"] = reason.into();
        }
        self.detail["write"] = writes.into();
        self.detail["until"] = until.into();
        self
    }

    /// A statement of that session, about to be run.
    #[must_use]
    pub fn statement(&self, detail: Value) -> Self {
        Self {
            actor: self.actor.clone(),
            action: "statement".to_owned(),
            tenant: self.tenant,
            session: self.session.clone(),
            detail,
        }
    }
}
