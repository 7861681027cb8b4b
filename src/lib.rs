//! Cloison: a Postgres proxy that makes tenants watertight.

pub mod auth;
pub mod backend;
pub mod cli;
pub mod config;
pub mod dev;
pub mod frontend;
pub mod kit;
pub mod observe;
pub mod pool;
pub mod protocol;
pub mod proxy;
pub mod session;
pub mod shutdown;
pub mod tenant;
pub mod tls;
pub mod types;
