//! Who the session acts for.

pub mod bind;
mod context;
mod directory;

pub use context::{Refusal, Scope, TenantContext};
pub use directory::{Directory, Error, SessionRecord, Status, Tenant};
