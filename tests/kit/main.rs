//! The SQL kit on every supported major of Postgres.

mod context;
mod findings;
mod install;
mod protect;
mod support;
mod tables;
