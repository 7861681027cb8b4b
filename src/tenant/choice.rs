//! Which tenant a token's holder acts for: the one that the token names, or one that was chosen
//! among those that it allows.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::{TenantClaim, Tenants, VerifiedClaims};
use crate::types::TenantId;

use super::directory::{Directory, Error, REMEMBERED_FOR, Status, Tenant};

/// What claims and a choice lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selection {
    /// This tenant, if it is there.
    Found(Option<Tenant>),
    /// The choice means nobody that the claims allow, or nobody at all.
    NotAllowed,
    /// Nobody, because nobody was chosen, or because the claims are not a tenant's.
    Nobody,
}

impl Directory {
    /// Finds the tenant that `claims` are for, or the one among theirs that `choice` means: an id,
    /// a slug, or an external key where the claims' rule looks for these. A super-admin may choose
    /// any.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does.
    pub async fn select(
        &self,
        claims: &VerifiedClaims,
        choice: Option<&str>,
    ) -> Result<Selection, Error> {
        let tenants = claims.tenants();
        let Some(choice) = choice else {
            return match tenants.and_then(Tenants::only) {
                Some(claim) => Ok(Selection::Found(self.find(claim).await?)),
                None => Ok(Selection::Nobody),
            };
        };
        let tenants = if claims.allows_every_tenant() { Some(&Tenants::Any) } else { tenants };
        let (Some(tenants), Some(choice)) = (tenants, claims.choice(choice)) else {
            return Ok(Selection::NotAllowed);
        };
        let Some(tenant) = self.find(&choice).await? else {
            return Ok(Selection::NotAllowed);
        };
        // Whether one never was or is no more is not told apart.
        if tenant.status == Status::Archived {
            return Ok(Selection::NotAllowed);
        }
        let is_allowed = match tenants {
            Tenants::Any => true,
            Tenants::One(claim) => self.is(claim, tenant.id).await?,
            Tenants::Listed(list) => Box::pin(self.lists(list, tenant.id)).await?,
        };
        Ok(if is_allowed { Selection::Found(Some(tenant)) } else { Selection::NotAllowed })
    }

    /// Whether a list has a tenant, by whichever of its names. An entry is believed as it is looked
    /// up, so that a slug is not taken for another tenant's external key.
    async fn lists(&self, list: &[TenantClaim], tenant: TenantId) -> Result<bool, Error> {
        let id = tenant.to_string();
        let names = self.names(tenant).await?;
        for claim in list {
            let value = claim.value();
            let may_be = value == id || names.iter().any(|name| name == value);
            if may_be && self.is(claim, tenant).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is(&self, claim: &TenantClaim, tenant: TenantId) -> Result<bool, Error> {
        Ok(self.find(claim).await?.is_some_and(|found| found.id == tenant))
    }

    /// What a tenant is called besides its id, as of a few seconds ago at most.
    async fn names(&self, tenant: TenantId) -> Result<Arc<[String]>, Error> {
        if let Some((names, since)) = self.names.get(&tenant)
            && since.elapsed() < REMEMBERED_FOR
        {
            return Ok(names);
        }
        let asked = Instant::now();
        let client = self.control().client().await?;
        let statement = include_str!("../../sql/control/tenant_names.sql");
        let row = client.query_opt(statement, &[&tenant.as_uuid()]).await?;
        let names = match row {
            Some(row) => [row.try_get::<_, Option<String>>(0)?, row.try_get(1)?],
            None => [None, None],
        };
        let names: Arc<[String]> = names.into_iter().flatten().collect();
        self.names.insert(tenant, (Arc::clone(&names), asked));
        Ok(names)
    }
}
