//! What is known of a pool's role and of the database, for the proof that a connection is clean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::statement;
use crate::tenant;

/// Facts of the catalogue. Until they are known, the worst is assumed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Knowledge {
    /// What the database adds to what a statement's text says.
    pub surroundings: Arc<statement::Surroundings>,
    /// The role may read the texts of the statements that its session holds, so that one tenant's
    /// must not be there for the next.
    pub reads_statements: bool,
}

impl Default for Knowledge {
    fn default() -> Self {
        let surroundings = statement::Surroundings {
            implicit_code: true,
            sequences: true,
            ..statement::Surroundings::default()
        };
        Self { surroundings: Arc::new(surroundings), reads_statements: true }
    }
}

impl From<tenant::Surroundings> for Knowledge {
    fn from(found: tenant::Surroundings) -> Self {
        let surroundings = statement::Surroundings {
            functions: found.functions,
            vouched: found.vouched,
            implicit_code: found.implicit_code,
            sequences: found.sequences,
        };
        Self { surroundings: Arc::new(surroundings), reads_statements: found.reads_statements }
    }
}

/// Tells all pools that tables may have changed.
#[derive(Debug, Default)]
pub struct Changes {
    count: AtomicU64,
    notify: Notify,
}

impl Changes {
    /// How often something has changed.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Something has changed: plans are made anew, and what is known is asked again.
    pub fn happened(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Resolves after something has changed.
    pub async fn next(&self) {
        self.notify.notified().await;
    }
}
