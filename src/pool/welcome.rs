//! What clients are told at login, without asking a server each time.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{ServerConnection, Statuses};
use crate::types::SessionSettings;

/// What a client is told at login, as a server connection with its settings told it.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// The settings that the server reports.
    pub statuses: Arc<Statuses>,
    /// Notices, whole frames.
    pub notices: Bytes,
}

impl Welcome {
    pub(super) fn of(server: &ServerConnection) -> Self {
        let statuses = Arc::clone(server.statuses());
        Self { statuses, notices: server.login_notices().clone() }
    }

    /// The settings that the server will report once `overrides` are applied, as far as it is
    /// known: what differs is told with the first transaction.
    pub fn statuses_with(&self, overrides: &SessionSettings) -> Arc<Statuses> {
        let mut statuses = Arc::clone(&self.statuses);
        for (name, value) in overrides.iter() {
            if self.statuses.get(name).is_some_and(|known| known != value) {
                Arc::make_mut(&mut statuses).insert(name.to_owned(), value.to_owned());
            }
        }
        statuses
    }
}
