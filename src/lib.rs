//! Cloison: a Postgres proxy that makes tenants watertight.

pub mod auth;
pub mod config;
pub mod types;
