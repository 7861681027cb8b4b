//! Cloison: a Postgres proxy that makes tenants watertight.

pub mod backend;
pub mod config;
pub mod frontend;
pub mod pool;
pub mod protocol;
pub mod session;
pub mod shutdown;
pub mod tenant;
pub mod tls;
pub mod types;
