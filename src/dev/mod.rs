//! Everything on one machine: a Postgres, sample tenants and the keys to try them with.

pub mod binaries;
pub mod cluster;
