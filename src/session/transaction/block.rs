//! Where a client's transaction stands when its next statement will run, as far as can be told
//! from what it has sent, and so whether the tenant has to be bound ahead of it (pure).
//!
//! A wrong guess costs the client an error, never a row: without a bind Postgres shows nothing.

use crate::protocol::TransactionStatus;
use crate::statement::Kind;

/// The state in which the next statement will find the transaction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Block {
    /// Inside BEGIN … COMMIT.
    open: bool,
    /// The tenant is bound until the block ends, or, outside a block, until the next Sync.
    bound: bool,
    /// The transaction has failed: everything but its end fails.
    failed: bool,
}

impl Block {
    /// Whether the tenant has to be bound ahead of such a statement.
    pub(super) const fn lacks_bind(&self, kind: &Kind) -> bool {
        !self.bound && !self.failed && kind.needs_context()
    }

    /// Whether it stands inside BEGIN … COMMIT.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// A bind goes ahead.
    pub(super) const fn bind(&mut self) {
        self.bound = true;
    }

    /// Such a statement is executed.
    pub(super) fn execute(&mut self, kind: &Kind) {
        match kind {
            Kind::Begin => self.open = true,
            Kind::Commit { chain } | Kind::Rollback { chain } => {
                // What was bound is gone, chained or not.
                *self = Self { open: self.open && *chain, ..Self::default() };
            }
            // What was bound behind the savepoint is gone, and where that was is not looked up.
            Kind::RollbackTo => *self = Self { open: self.open, ..Self::default() },
            Kind::ResetAll | Kind::DiscardAll | Kind::Identity => self.bound = false,
            Kind::Set(names) if names.iter().any(|name| name.starts_with("cloison.")) => {
                self.bound = false;
            }
            Kind::Empty
            | Kind::Savepoint
            | Kind::SetLocal { .. }
            | Kind::Set(_)
            | Kind::Show
            | Kind::Cursor
            | Kind::Rows
            | Kind::CopyFromStdin
            | Kind::SetConfig(_)
            | Kind::Deallocate(_)
            | Kind::Alone
            | Kind::Session(_)
            | Kind::Other => {}
        }
    }

    /// A Sync ends what is not in a block.
    pub(super) const fn sync(&mut self) {
        self.bound &= self.open;
    }

    /// Everything has been answered, and the server says where the transaction stands.
    pub(super) const fn settle(&mut self, status: TransactionStatus) {
        match status {
            TransactionStatus::Idle => *self = Self { open: false, bound: false, failed: false },
            TransactionStatus::Transaction => {
                // Whoever thought that no block was open has bound nothing for it.
                self.bound &= self.open;
                self.open = true;
                self.failed = false;
            }
            TransactionStatus::Error => {
                self.open = true;
                self.failed = true;
            }
        }
    }

    /// Something went wrong in what was sent: what was bound may not be.
    pub(super) const fn doubt(&mut self) {
        self.bound = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: Kind = Kind::Rows;

    /// Words: a statement's first letter, `s` for Sync, `=I`, `=T`, `=E` for an answer. A statement
    /// that reads rows is `r`, or `R` if a bind has to go ahead of it.
    #[track_caller]
    fn check(script: &str) {
        let mut block = Block::default();
        for word in script.split_whitespace() {
            let kind = match word {
                "s" => {
                    block.sync();
                    continue;
                }
                "=I" | "=T" | "=E" => {
                    block.settle(TransactionStatus::try_from(word.as_bytes()[1]).unwrap());
                    continue;
                }
                "R" | "r" => {
                    assert_eq!(block.lacks_bind(&ROWS), word == "R", "{word} in {script}");
                    block.bind();
                    ROWS
                }
                "begin" => Kind::Begin,
                "commit" => Kind::Commit { chain: false },
                "chain" => Kind::Commit { chain: true },
                "rollback" => Kind::Rollback { chain: false },
                "to" => Kind::RollbackTo,
                "savepoint" => Kind::Savepoint,
                "reset" => Kind::ResetAll,
                "set" => Kind::Set(vec!["timezone".to_owned()]),
                "other" => Kind::Other,
                "forge" => Kind::Set(vec!["cloison.context".to_owned()]),
                other => panic!("{other}"),
            };
            assert!(kind == ROWS || !block.lacks_bind(&kind), "{word} in {script}");
            block.execute(&kind);
        }
    }

    #[test]
    fn each_transaction_is_bound_once_and_late() {
        check("R s =I R s =I");
        check("R r r s =I R");
        check("begin s =T R s =T r s =T commit s =I R");
        check("begin set R r commit R r s");
        check("R begin r s =T r commit s =I R");
        check("begin R chain R s =T r");
        check("begin R savepoint r to R r");
        check("begin R rollback s =I R");
        check("R reset R s");
        check("begin R forge R");
        // The server knows of a block that we did not see begin.
        check("R s =T R s =T r");
        // And of the end of one that we did not see end, as by PREPARE TRANSACTION.
        check("begin R other s =I R");
    }

    #[test]
    fn in_a_failed_transaction_nothing_is_bound() {
        check("begin R s =E r s =E rollback s =I R");
        check("begin savepoint R s =E to R");
    }
}
