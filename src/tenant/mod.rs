//! Who the session acts for.

pub mod bind;
mod context;
mod directory;
mod surroundings;

pub use context::{Refusal, Scope, TenantContext};
pub use directory::{Directory, Error, SessionRecord, Status, Tenant};
pub use surroundings::Surroundings;
