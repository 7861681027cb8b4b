//! What API keys open, as the database knows at this moment.

use std::time::SystemTime;

use tokio_postgres::types::Type;

use crate::auth::{ApiKey, ApiKeys, Unavailable};
use crate::types::TenantId;

use super::directory::{Directory, Error};

/// Keys that are looked up at a time. Who presents one has proven nothing yet, and everybody's
/// logins use the same control connection.
pub(super) const AT_A_TIME: usize = 8;

impl Directory {
    async fn find_api_key(&self, hash: &[u8]) -> Result<Option<ApiKey>, Error> {
        // Never closed, so a permit always comes.
        let _permit = self.key_checks.acquire().await.ok();
        let client = self.control().client().await?;
        let statement = include_str!("../../sql/control/find_api_key.sql");
        let row = client.query_typed_opt(statement, &[(&hash, Type::BYTEA)]).await?;
        row.map(|row| {
            let expires_at: Option<SystemTime> = row.try_get("expires_at")?;
            let tenant = TenantId::new(row.try_get("tenant_id")?);
            Ok(ApiKey { id: row.try_get("id")?, tenant, expires_at })
        })
        .transpose()
    }

    /// Makes sure that keys can be looked up, before anybody presents one.
    ///
    /// # Errors
    ///
    /// The kit is older than its version 5, or as the control connection does.
    pub async fn demand_api_keys(&self) -> Result<(), Error> {
        // No key's hash.
        self.find_api_key(&[]).await.map(|_| ())
    }
}

impl ApiKeys for Directory {
    async fn find(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, Unavailable> {
        Ok(self.find_api_key(hash).await?)
    }
}
