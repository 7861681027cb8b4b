//! Whether tenants may be served still, asked again from time to time while their clients stay.

use std::time::{Duration, Instant};

use super::context::Refusal;
use super::directory::{Directory, Error, Status};
use crate::auth::TenantClaim;
use crate::types::TenantId;

/// So long may it take until a suspension is noticed by clients that are there already.
pub const CONFIRMED_FOR: Duration = Duration::from_secs(5);

impl Directory {
    /// Whether `tenant` is active, as of [`CONFIRMED_FOR`] ago at most.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does.
    pub async fn confirm(&self, tenant: TenantId) -> Result<Result<(), Refusal>, Error> {
        let is_recent = |at: Instant| at.elapsed() < CONFIRMED_FOR;
        if self.confirmed().get(&tenant).is_some_and(|entry| is_recent(*entry.value())) {
            return Ok(Ok(()));
        }
        let asked = Instant::now();
        let found = self.find(&TenantClaim::id(tenant)).await?;
        match found.map(|tenant| tenant.status) {
            Some(Status::Active) => {
                self.confirmed().insert(tenant, asked);
                Ok(Ok(()))
            }
            None => Ok(Err(Refusal::Unknown)),
            Some(status) => {
                self.confirmed().remove(&tenant);
                Ok(Err(Refusal::NotActive(tenant, status)))
            }
        }
    }
}
