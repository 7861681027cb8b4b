//! What one tenant may take of what all share.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Limits;
use super::reader::Section;

/// Of connections, messages and savepoints, more is no limit at all.
const MOST_COUNTED: i64 = 1_000_000_000;

/// A message that waits for its answer takes some hundred bytes.
const MOST_PIPELINE: i64 = 1_000_000;

/// What is kept for a session: less would not do for a driver's own statements.
const LEAST_MEMORY: RangeInclusive<i64> = 65_536..=1 << 40;

/// What the protocol itself allows.
const LONGEST_PACKET: i64 = 0x3fff_ffff;

/// What one tenant may take of what all share. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TenantLimits {
    /// Most client connections of a tenant.
    pub client_connections: usize,
    /// Most server connections that a tenant's clients hold at a time; others of it wait.
    pub server_connections: usize,
    /// Longest wait for the answer to what was asked.
    pub query: Duration,
    /// Longest transaction.
    pub transaction: Duration,
    /// Longest wait for a client inside a transaction.
    pub idle_transaction: Duration,
    /// Longest wait for a client outside a transaction.
    pub client_idle: Duration,
    /// Longest message of an established session, in bytes.
    pub packet: usize,
    /// Longest wait for a client to take something of what it has been sent.
    pub client_write: Duration,
    /// Messages of a client whose answers may be due before it is read on.
    pub pipeline: usize,
    /// Most bytes that are kept for a session of anybody's.
    pub session_memory: usize,
    /// Most bytes that are kept for all sessions of a tenant.
    pub memory: usize,
    /// Most savepoints in a transaction.
    pub savepoints: usize,
}

/// What the sessions of one token holder may take together that act for no tenant. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WithoutTenant {
    /// Most client connections.
    pub client_connections: usize,
    /// Most server connections that they hold at a time.
    pub server_connections: usize,
    /// Most bytes that are kept for them.
    pub memory: usize,
}

/// Reads them.
pub(super) fn of_tenants(top: &Section<'_>) -> TenantLimits {
    let count = |key: &str| top.number(key, 0..=MOST_COUNTED).unwrap_or_default();
    TenantLimits {
        client_connections: count("max_tenant_client_connections"),
        server_connections: count("max_tenant_connections"),
        query: top.duration("query_timeout"),
        transaction: top.duration("transaction_timeout"),
        idle_transaction: top.duration("idle_transaction_timeout"),
        client_idle: top.duration("client_idle_timeout"),
        packet: top.number("max_packet_size", 1_024..=LONGEST_PACKET).unwrap_or_default(),
        client_write: top.duration("client_write_timeout"),
        pipeline: top.number("max_pipeline", 16..=MOST_PIPELINE).unwrap_or_default(),
        session_memory: top.number("max_session_memory", LEAST_MEMORY).unwrap_or_default(),
        memory: count("max_tenant_memory"),
        savepoints: count("max_savepoints"),
    }
}

/// Where it is not said how much of what all share one tenant may have, a quarter of it is left to
/// the others, and one at least.
pub(super) fn leave_room(top: &Section<'_>, limits: &mut Limits, pool_size: usize) {
    let most = |all: usize| all - (all / 4).max(1).min(all.saturating_sub(1));
    let (clients, servers) = (most(limits.max_client_conn), most(pool_size));
    if !top.is_written("max_tenant_client_connections") {
        limits.tenant.client_connections = clients;
    }
    if !top.is_written("max_tenant_connections") {
        limits.tenant.server_connections = servers;
    }
    // A service serves many tenants, so what is set for one of them is not meant for it.
    let unless_lifted = |tenants: usize, most: usize| if tenants == 0 { 0 } else { most };
    limits.without_tenant = WithoutTenant {
        client_connections: unless_lifted(limits.tenant.client_connections, clients),
        server_connections: unless_lifted(limits.tenant.server_connections, servers),
        memory: limits.tenant.memory,
    };
}
