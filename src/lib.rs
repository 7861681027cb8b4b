//! Cloison: a Postgres proxy that makes tenants watertight.

pub mod auth;
pub mod cli;
pub mod config;
pub mod dev;
pub mod types;
