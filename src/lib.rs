//! Cloison: a Postgres proxy that makes tenants watertight.

pub mod cli;
pub mod config;
pub mod kit;
pub mod types;
