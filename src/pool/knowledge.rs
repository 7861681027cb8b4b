//! What is known of a pool's role and of the database, for the proof that a connection is clean.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

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

/// What a pool knows, as of when, and whether anybody has used the pool since that was asked.
///
/// Asking takes a snapshot, and VACUUM can neither remove nor mark as visible to all what changed
/// after it. So nothing is asked while nobody uses the pool: what is known grows old, and is not
/// believed before it is asked for again.
#[derive(Debug)]
pub(super) struct Known {
    facts: RwLock<Arc<Knowledge>>,
    /// The number of changes that had happened when the facts were asked for; [`NEVER`] once they
    /// are old.
    as_of: AtomicU64,
    /// True once a connection has been taken since the last question.
    is_used: AtomicBool,
}

/// No count of changes reaches this.
const NEVER: u64 = u64::MAX;

impl Default for Known {
    fn default() -> Self {
        let (as_of, is_used) = (AtomicU64::new(NEVER), AtomicBool::new(false));
        Self { facts: RwLock::default(), as_of, is_used }
    }
}

impl Known {
    /// What is known while so many changes have happened; the worst if that was asked before the
    /// last of them.
    pub(super) fn facts(&self, changes: u64) -> Arc<Knowledge> {
        if self.as_of.load(Ordering::Acquire) != changes {
            return Arc::default();
        }
        // The lock guards one assignment, which cannot panic half-way.
        Arc::clone(&self.facts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that a connection is taken. True: what is known is old, and has to be asked for.
    pub(super) fn begin_use(&self, changes: u64) -> bool {
        if !self.is_used.load(Ordering::Acquire) {
            self.is_used.store(true, Ordering::Release);
        }
        self.as_of.load(Ordering::Acquire) != changes
    }

    /// Whether a connection was taken since the last call; if not, what is known is old from now on.
    pub(super) fn take_use(&self) -> bool {
        let is_used = self.is_used.swap(false, Ordering::AcqRel);
        if !is_used {
            self.as_of.store(NEVER, Ordering::Release);
        }
        is_used
    }

    /// Takes what is known as of so many changes; false if it was known before.
    pub(super) fn learn(&self, knowledge: Knowledge, as_of: u64) -> bool {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = **facts != knowledge;
        if is_new {
            *facts = Arc::new(knowledge);
        }
        self.as_of.store(as_of, Ordering::Release);
        is_new
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

    /// Something has changed: plans are made anew, and what is known is not believed any more.
    pub fn happened(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Somebody needs what is known of a pool, and it is old.
    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Resolves once somebody needs what is not known.
    pub async fn next(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Knowledge {
        let surroundings = Arc::new(statement::Surroundings::default());
        Knowledge { surroundings, reads_statements: false }
    }

    #[test]
    fn what_is_known_is_not_believed_after_a_change_or_once_nobody_has_asked() {
        let known = Known::default();
        assert_eq!(*known.facts(0), Knowledge::default());
        assert!(known.begin_use(0));
        assert!(known.learn(sound(), 0));
        assert_eq!(*known.facts(0), sound());
        assert!(!known.begin_use(0));
        // Tables have changed: the worst, until it is asked again.
        assert_eq!(*known.facts(1), Knowledge::default());
        assert!(known.begin_use(1));
        assert!(!known.learn(sound(), 1));
        assert_eq!(*known.facts(1), sound());
        // It was used, so it is asked for at the next look; then nobody uses it.
        assert!(known.take_use());
        assert_eq!(*known.facts(1), sound());
        assert!(!known.take_use());
        assert_eq!(*known.facts(1), Knowledge::default());
        assert!(known.begin_use(1));
    }
}
