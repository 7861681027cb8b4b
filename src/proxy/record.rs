//! Who may see more than one tenant is on record before anything else.

use std::time::SystemTime;

use super::{Shared, refusal::Refusal};
use crate::auth::VerifiedClaims;
use crate::config::PoolMode;
use crate::frontend::Wishes;
use crate::tenant::{AuditRecord, TenantContext};
use crate::types::Access;

/// Commits the record of a session that may see more than one tenant. A super-admin says why, comes
/// for a time, and leaves a record of all it does.
pub(super) async fn put_on_record(
    (claims, context): (&VerifiedClaims, &mut TenantContext),
    record: AuditRecord,
    wishes: Wishes,
    shared: &Shared,
) -> Result<Option<Box<AuditRecord>>, Refusal> {
    if claims.access() != Access::Superadmin {
        shared.directory.record(&record).await?;
        return Ok(None);
    }
    let rules = shared.config.superadmin;
    if rules.needs_reason && wishes.reason.is_none() && claims.reason().is_none() {
        return Err(Refusal::no_reason());
    }
    let tenant = context.scope().tenant();
    let pool = shared.config.pools.get(&Access::Superadmin);
    if tenant.is_some() {
        // It has the tenant's own rights, which no permit of ours makes less.
        if !wishes.writes {
            return Err(Refusal::acts_for_tenant());
        }
    } else if wishes.writes {
        if pool.is_some_and(|pool| pool.mode == PoolMode::Transaction) {
            return Err(Refusal::cannot_write());
        }
        context.permit_writes();
    }
    if !rules.lifetime.is_zero() {
        context.end_by(SystemTime::now() + rules.lifetime);
    }
    let until = context.expires_at();
    let record =
        record.with_tenant(tenant).with_wishes(wishes.reason.as_deref(), wishes.writes, until);
    shared.directory.record(&record).await?;
    Ok(Some(Box::new(record)))
}
