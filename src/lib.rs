//! Cloison: a Postgres proxy that makes tenants watertight.

pub mod config;
pub mod frontend;
pub mod protocol;
pub mod tls;
pub mod types;
