//! Who the session acts for.

pub mod bind;
mod context;
mod directory;
mod look;
mod revocations;
mod share;
mod stay;
mod surroundings;

pub use context::{Refusal, Scope, TenantContext};
pub use directory::{Directory, Error, SessionRecord, Status, Tenant};
pub use share::{Member, Shares};
pub use stay::{BLIND_AFTER, Stay, Staying, Stays};
pub use surroundings::Surroundings;
