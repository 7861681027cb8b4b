//! The proxy against a real Postgres, with a real driver and with raw messages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod actions;
mod api_keys;
mod attack;
mod auth;
mod backend;
mod basics;
mod cancel;
mod chaos;
mod claims;
mod copy_in;
mod ends;
mod freshness;
mod fuzz;
mod guard;
mod idle_transactions;
mod inband;
mod inband_session;
mod limits;
mod lint;
mod notify;
mod oauth;
mod owner;
mod plans;
mod pool;
mod probe_rows;
mod ready;
mod relay;
mod service;
mod session;
mod shares;
mod shutdown;
mod startup;
mod states;
mod superadmin;
mod support;
mod tls;
mod transaction;
mod verify;
