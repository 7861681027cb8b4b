//! Who the session acts for.

mod actor;
mod api_keys;
mod audit;
pub mod bind;
mod choice;
mod claims;
mod context;
mod directory;
mod identity;
mod look;
mod refusals;
mod revocations;
mod share;
mod stay;
mod surroundings;

pub use actor::Actor;
pub use audit::AuditRecord;
pub use choice::Selection;
pub use claims::SqlClaims;
pub use context::{Refusal, Scope, TenantContext, has_its_tenant};
pub use directory::{Directory, Error, Status, Tenant};
pub use identity::{Denied, Identities, Identity};
pub use share::{Member, Pot, Shares};
pub use stay::{BLIND_AFTER, Stay, Staying, Stays};
pub use surroundings::Surroundings;
