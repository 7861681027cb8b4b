//! What is known of a pool's role and of the database, for the proof that a connection is clean.

use std::sync::Arc;

use crate::statement::Surroundings;

/// Facts of the catalogue. Until they are known, the worst is assumed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Knowledge {
    /// What the database adds to what a statement's text says.
    pub surroundings: Arc<Surroundings>,
    /// The role may read the texts of the statements that its session holds, so that one tenant's
    /// must not be there for the next.
    pub reads_statements: bool,
    /// The role may choose the seed of `random()`, so that it has to be chosen anew.
    pub may_set_seed: bool,
}

impl Default for Knowledge {
    fn default() -> Self {
        let surroundings = Surroundings {
            implicit_code: true,
            sequences: true,
            ..Surroundings::default()
        };
        Self {
            surroundings: Arc::new(surroundings),
            reads_statements: true,
            // Whoever may not is refused, and then the connection is closed instead of reset.
            may_set_seed: false,
        }
    }
}
