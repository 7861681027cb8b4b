//! The half that faces clients, up to authentication.

pub mod listener;
mod options;
mod parameters;
mod startup;
mod wishes;

pub use parameters::StartupParams;
pub use startup::{Error, Startup, negotiate};
pub use wishes::Wishes;
