//! Whether tenants are let in: shut while the database is known not to keep them apart.

use std::sync::atomic::{AtomicU8, Ordering};

/// What tenants may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// Sessions and transactions.
    Open,
    /// No new session; those that are there go on.
    NoSessions,
    /// Neither a session nor, with transaction pooling, another transaction.
    Shut,
}

/// One for all of the tenants' server connections. Asking costs one read.
#[derive(Debug, Default)]
pub struct Door {
    shut: AtomicU8,
}

impl Door {
    /// What tenants may have from now on.
    pub fn set(&self, opening: Opening) {
        let shut = match opening {
            Opening::Open => 0,
            Opening::NoSessions => 1,
            Opening::Shut => 2,
        };
        self.shut.store(shut, Ordering::Release);
    }

    /// Whether a client may begin a session.
    pub fn admits_sessions(&self) -> bool {
        self.shut.load(Ordering::Acquire) < 1
    }

    /// Whether a session may have a server connection.
    pub fn admits_transactions(&self) -> bool {
        self.shut.load(Ordering::Acquire) < 2
    }
}
