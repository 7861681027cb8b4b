//! Who the session acts for.

pub mod bind;
mod choice;
mod context;
mod directory;
mod identity;
mod share;
mod surroundings;

pub use choice::Selection;
pub use context::{Refusal, Scope, TenantContext};
pub use directory::{Directory, Error, SessionRecord, Status, Tenant};
pub use identity::{Denied, Identities, Identity};
pub use share::{Member, Shares};
pub use surroundings::Surroundings;
