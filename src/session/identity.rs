//! Who a session is, and how it becomes somebody else in band.

use std::sync::Arc;
use std::time::SystemTime;

use super::acting::{Acting, Lost, Who};
use super::asked::{Asked, What};
use crate::protocol::ClientError;
use crate::tenant::{Denied, Identities, Identity, Scope};
use crate::types::SessionId;

/// A verified token, and the tenant that was chosen.
pub(super) type Me = Arc<Identity>;

/// Who a session is.
#[derive(Clone)]
pub(super) struct Myself {
    pub(super) acting: Acting<Me>,
    /// Only tenants' sessions may become somebody else.
    pub(super) is_tenants: bool,
    /// A choice in a transaction outlives it.
    choice_outlives: bool,
    id: SessionId,
}

/// Whom a session will be.
pub(super) struct Become {
    pub(super) who: Who<Me>,
    pub(super) scope: Scope,
    pub(super) is_local: bool,
}

impl Myself {
    pub(super) fn new(login: &Me, choice_outlives: bool, id: SessionId) -> Self {
        let is_tenants = login.context().scope().is_tenants() && !login.is_impersonation();
        Self { acting: Acting::new(Arc::clone(login)), is_tenants, choice_outlives, id }
    }

    /// The session, for the log.
    pub(super) const fn id(&self) -> SessionId {
        self.id
    }

    /// For whom the session acts.
    pub(super) fn scope(&self) -> Scope {
        self.acting.now().map_or(Scope::Nobody, |identity| identity.context().scope())
    }

    /// The client may not be what it asked for. After a refused choice it may choose again from the
    /// same token; after a refused token it may not fall back on the one before.
    pub(super) fn refuse(&mut self, asked: &Asked, in_block: bool) {
        let chooser = match asked.what {
            What::Tenant(_) => self.token_holder(),
            What::Token(_) | What::Reset => None,
        };
        self.acting.lose(Lost::Refused, self.is_local(asked, in_block), chooser);
    }

    /// The tenant may not be served any more. The client may choose another from the same token.
    pub(super) fn lose_tenant(&mut self) {
        let chooser = self.token_holder();
        self.acting.lose(Lost::Unserved, false, chooser);
    }

    /// Notes `ROLLBACK TO SAVEPOINT`.
    pub(super) fn roll_back_to_savepoint(&mut self) {
        let login = Arc::clone(self.acting.login());
        self.acting.roll_back_to_savepoint(|identity| identity.has_token_of(&login));
    }

    /// The identity from whose token the next choice is made: the login's where it is the same
    /// token, so that the session does not count for a tenant that it does not act for.
    fn token_holder(&self) -> Option<Me> {
        let chooser = self.acting.chooser().ok()?;
        let login = self.acting.login();
        Some(Arc::clone(if chooser.has_token_of(login) { login } else { chooser }))
    }

    /// Whether SQL may read claims of somebody's, or nothing at all.
    pub(super) fn has_claims(&self, who: &Who<Me>) -> bool {
        match who {
            Who::Login => self.acting.login().context().claims().is_some(),
            Who::As(identity) => identity.context().claims().is_some(),
            Who::Nobody(..) => true,
        }
    }

    /// When the session has to end: with its login's token, or a newer one's.
    pub(super) fn ends_at(&self) -> SystemTime {
        let login = self.acting.login().context().expires_at();
        let presented = self.acting.presented().map(|identity| identity.context().expires_at());
        presented.map_or(login, |presented| presented.max(login))
    }

    /// Between transactions: whoever has expired is nobody. False: that changes nothing.
    pub(super) fn expire(&mut self) -> bool {
        if self.acting.is_plain() {
            return false;
        }
        let now = SystemTime::now();
        self.acting.expire(|identity| identity.is_good_at(now))
    }

    /// Whether what is asked ends with the transaction.
    pub(super) const fn is_local(&self, asked: &Asked, in_block: bool) -> bool {
        match asked.what {
            What::Tenant(_) => in_block && !self.choice_outlives,
            What::Token(_) | What::Reset => asked.is_local,
        }
    }

    /// Whom a statement makes of the session.
    pub(super) async fn find(
        &self,
        asked: &Asked,
        in_block: bool,
        identities: &Identities<'_>,
    ) -> Result<Become, Denied> {
        let is_local = self.is_local(asked, in_block);
        let identity = match &asked.what {
            What::Reset => Arc::clone(self.acting.login()),
            What::Token(token) => identities.present(token).await?,
            What::Tenant(name) => {
                let chooser = self.acting.chooser();
                let chooser = chooser.map_err(|lost| stays(nobody(Some(lost))))?;
                if !chooser.is_good_at(SystemTime::now()) {
                    return Err(stays(nobody(Some(Lost::Expired))));
                }
                identities.choose(chooser, name, self.id).await?
            }
        };
        let scope = identity.context().scope();
        let is_login = Arc::ptr_eq(&identity, self.acting.login());
        let who = if is_login { Who::Login } else { Who::As(identity) };
        Ok(Become { who, scope, is_local })
    }
}

/// The session stays who it is.
pub(super) const fn stays(told: ClientError) -> Denied {
    Denied { told, loses_identity: false }
}

/// The answer to a statement that found no tenant.
pub(super) fn nobody(lost: Option<Lost>) -> ClientError {
    let (message, hint) = match lost {
        None => (
            "no tenant was chosen",
            "The token allows several, or none: choose with select set_tenant('…'), or present a \
             token with SET cloison.jwt.",
        ),
        Some(Lost::Refused) => (
            "the session acts for nobody, because a token or a choice was refused",
            "Choose a tenant that the token allows with select set_tenant('…'). After a refused token \
             present another with SET cloison.jwt, or RESET cloison.jwt to be who logged in.",
        ),
        Some(Lost::Expired) => (
            "the session acts for nobody, because its token has expired",
            "Present a new token with SET cloison.jwt.",
        ),
        Some(Lost::RolledBack) => (
            "the session acts for nobody: ROLLBACK TO SAVEPOINT has undone the choice of its tenant",
            "Choose again with select set_tenant('…') or SET cloison.jwt, or end the transaction.",
        ),
        Some(Lost::Unserved) => (
            "the session acts for nobody, because its tenant is not served any more",
            "Choose another tenant of the token's with select set_tenant('…'), or ask the operator \
             of this service.",
        ),
    };
    ClientError::error("42501", "C206", message).hint(hint)
}

/// The answer to a change of the tenant where another's statements have run.
pub(super) fn moved() -> ClientError {
    let message = "the transaction acts for another tenant already";
    ClientError::error("25001", "C409", message).hint(
        "COMMIT or ROLLBACK first. In a session that keeps its server connection, choose ahead of \
         BEGIN, and send a Sync behind it.",
    )
}
