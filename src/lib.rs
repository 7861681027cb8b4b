//! Cloison: a Postgres proxy that makes tenants watertight. A JWT in, one tenant's rows out.
//!
//! # The flow
//!
//! ```text
//! TcpStream ─listener─▶ Socket ─startup─▶ FrameStream + StartupParams ─auth─▶ VerifiedClaims
//!    ─tenant::context─▶ TenantContext ─▶ session
//!       session: Frame ─filter, exchange─▶ relay ─▶ Postgres
//!                pool::checkout ─▶ Checkout ─bind(context)─▶ Bound ─release─▶ pool or closed
//! ```
//!
//! [`proxy`] composes these steps, and nothing else does.
//!
//! # The layers
//!
//! A module imports from the lines above its own (`tests/layering.rs` holds the exact table):
//!
//! ```text
//! types · statement · recent · files
//! guard
//! protocol · config · observe
//! tls · shutdown · workers
//! frontend · auth · backend · kit
//! tenant
//! pool
//! session
//! proxy
//! dev
//! cli
//! ```
//!
//! # What holds everywhere
//!
//! - Permission is a value: only [`auth`] makes `VerifiedClaims`, only they make a
//!   [`tenant::TenantContext`], only that makes a [`pool::Bound`], and only a `Bound` carries a
//!   client's frames to Postgres.
//! - Every failure closes: a `Checkout` or a `Bound` that is dropped is a closed connection.
//! - What decides does no IO and reads no clock: frames, startup packets, tokens, contexts, the
//!   exchange, the filter, statements, the verdict on a release.
//! - Nothing about rows rests on reading SQL text. Postgres' policies believe a context that only
//!   the proxy can sign; the filter is a courtesy.

pub mod auth;
pub mod backend;
pub mod cli;
pub mod config;
pub mod dev;
pub mod files;
pub mod frontend;
pub mod guard;
pub mod kit;
pub mod observe;
pub mod pool;
pub mod protocol;
pub mod proxy;
pub mod recent;
pub mod scan;
pub mod session;
pub mod shutdown;
pub mod statement;
pub mod tenant;
pub mod tls;
pub mod types;
pub mod workers;
