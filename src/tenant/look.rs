//! Looks whether a session has to end: the proxy reads the tables itself, whoever wakes it.

use std::time::Instant;

use tokio_postgres::types::Type;

use super::directory::{Directory, Error};
use super::revocations::Revocations;
use super::stay::{Served, Stays};
use crate::types::TenantId;

impl Directory {
    /// Reads what has changed since the last look, if anything has, and ends the sessions that it
    /// concerns. Says how many that were; `None`: nothing has changed.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does, and when the kit is older than this program.
    pub async fn look(&self, stays: &Stays) -> Result<Option<usize>, Error> {
        let asked_at = Instant::now();
        let client = self.control().client().await?;
        let statement = include_str!("../../sql/control/session_change.sql");
        // Without parameters to ask about there is one round trip.
        let change: i64 = client.query_typed_one(statement, &[]).await?.try_get(0)?;
        if change == stays.change() {
            stays.saw(asked_at);
            return Ok(None);
        }
        let mut revocations = Revocations::default();
        let statement = include_str!("../../sql/control/revocations.sql");
        for row in client.query_typed(statement, &[]).await? {
            let (kind, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            revocations.add(kind, name, row.try_get(2)?, row.try_get(3)?);
        }
        let asked = stays.tenants();
        let ids: Vec<_> = asked.iter().map(|tenant| tenant.as_uuid()).collect();
        let statement = include_str!("../../sql/control/active_tenants.sql");
        let rows = client.query_typed(statement, &[(&ids, Type::UUID_ARRAY)]).await?;
        let active = rows.iter().map(|row| Ok(TenantId::new(row.try_get(0)?)));
        let active = active.collect::<Result<_, Error>>()?;
        self.forget();
        let ended = stays.take(change, revocations, &Served { asked, active });
        stays.saw(asked_at);
        Ok(Some(ended))
    }

    /// Resolves when the database has said that something may have changed.
    pub async fn woken(&self) {
        self.control().woken().await;
    }
}
