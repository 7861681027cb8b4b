//! Who the session acts for.

mod audit;
pub mod bind;
mod claims;
mod context;
mod directory;
mod share;
mod surroundings;

pub use audit::AuditRecord;
pub use claims::SqlClaims;
pub use context::{Refusal, Scope, TenantContext};
pub use directory::{Directory, Error, Status, Tenant};
pub use share::{Member, Shares};
pub use surroundings::Surroundings;
