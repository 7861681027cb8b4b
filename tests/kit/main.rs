//! The SQL kit on every supported major of Postgres.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets something unexpected should stop there"
)]

mod adopt;
mod api_keys;
mod audit;
mod claims;
mod context;
mod exits;
mod findings;
mod guard;
mod harden;
mod init;
mod install;
mod lint;
mod locks;
mod oracles;
mod permits;
mod pipeline;
mod protect;
mod readiness;
mod revocations;
mod support;
mod surroundings;
mod tables;
mod watch;
mod wire;
