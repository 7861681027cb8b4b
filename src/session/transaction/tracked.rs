//! What on its way to the server, and what comes back, changes who the client is.

use super::relay::Lent;
use crate::protocol::{ClientError, TransactionStatus};
use crate::session::identity::nobody;
use crate::statement::Kind;
use crate::tenant::Scope;

const FLUSH: &[u8] = b"H\0\0\0\x04";

/// How much of the identity depends on what is on its way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Tracked {
    /// It is the login's.
    #[default]
    Login,
    /// It was named in band.
    InBand,
    /// And changes with the end of the transaction.
    Pending,
}

/// What a statement, or a transaction, has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    Commit,
    /// Everything is answered, no transaction is open; whether what was in it failed.
    Idle {
        failed: bool,
    },
    Identity,
    /// Every setting was undone.
    Reset,
    Rollback,
    RollbackTo,
    Savepoint,
}

impl Ended {
    /// What the completion of such a statement means.
    pub(super) fn by(kind: &Kind, tag: &[u8]) -> Option<Self> {
        match kind {
            Kind::Commit { .. } if tag == b"COMMIT" => Some(Self::Commit),
            // A transaction that has failed is rolled back by its COMMIT.
            Kind::Commit { .. } | Kind::Rollback { .. } => Some(Self::Rollback),
            Kind::RollbackTo => Some(Self::RollbackTo),
            Kind::ResetAll | Kind::DiscardAll => Some(Self::Reset),
            Kind::Identity => Some(Self::Identity),
            Kind::Savepoint if tag == b"SAVEPOINT" => Some(Self::Savepoint),
            Kind::Savepoint
            | Kind::Empty
            | Kind::Begin
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
            | Kind::Other => None,
        }
    }
}

impl Lent {
    /// Lets what comes next wait until the server has answered everything.
    pub(super) fn wait_for_answers(&mut self) {
        if !self.holds {
            self.holds = true;
            self.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
        }
    }

    /// Whether it stays the client's when nothing is open.
    pub(super) const fn is_kept(&self) -> bool {
        self.pinned || self.keeps
    }

    /// Whether it may hold what another tenant has left.
    pub(super) fn has_served_another(&self, scope: Scope) -> bool {
        let is_anothers = self.served.is_some() && self.served != scope.tenant();
        let has_left = is_anothers && (self.dirty || self.holds_texts());
        self.is_kept() && (has_left || self.holds_assigned_of_another(scope))
    }

    /// Whether a function has set something here for another tenant.
    pub(super) fn holds_assigned_of_another(&self, scope: Scope) -> bool {
        self.assigned_for.is_some() && self.assigned_for != scope.tenant()
    }

    /// Whether it holds texts of statements that whoever comes next may read.
    pub(super) fn holds_texts(&self) -> bool {
        self.knowledge.reads_statements && !self.bound.server().prepared.is_empty()
    }

    /// What has been left here is not for whom the client is now: it goes back, and is reset.
    pub(super) fn leave(&mut self) {
        (self.pinned, self.keeps, self.dirty) = (false, false, true);
        self.leaves = true;
    }

    /// Whether nothing more may run here. In a transaction that is open whoever has become nobody
    /// may still end it.
    pub(super) const fn has_left(&self) -> bool {
        self.leaves && !self.block.is_open()
    }

    /// A statement has run for a tenant.
    pub(super) fn note_bound(&mut self) {
        let tenant = self.bound.scope().tenant();
        self.ran_as = self.ran_as.or(tenant);
        self.served = tenant.or(self.served);
        self.ran_with_claims |= self.bound.has_claims();
    }

    /// Such a statement goes out: lets what comes next wait if it changes who the client is.
    pub(super) fn hold_behind(&mut self, kind: &Kind) {
        let ends = matches!(kind, Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo);
        let resets = matches!(kind, Kind::ResetAll | Kind::DiscardAll);
        let is_pending = self.tracked == Tracked::Pending;
        if ends && is_pending || resets && self.tracked != Tracked::Login {
            self.wait_for_answers();
        }
    }

    /// A Sync goes out. What comes behind it may count on what was prepared ahead of it.
    pub(super) fn hold_behind_sync(&mut self) {
        self.holds |= self.tracked == Tracked::Pending && !self.block.is_open();
        self.holds |= std::mem::take(&mut self.prepares);
    }

    /// Notes what a statement has come to.
    pub(super) fn note_ended(&mut self, ended: Option<Ended>) {
        match ended {
            Some(Ended::Commit | Ended::Rollback) => {
                self.begin_anew();
            }
            Some(Ended::Savepoint) => self.has_savepoint = true,
            Some(Ended::Idle { .. } | Ended::Identity | Ended::Reset | Ended::RollbackTo)
            | None => {}
        }
        self.ended = ended;
    }

    /// Everything up to a Sync was answered.
    pub(super) fn note_ready(&mut self, status: TransactionStatus) {
        let failed = std::mem::take(&mut self.failed);
        if status == TransactionStatus::Idle {
            self.begin_anew();
            self.ended = Some(Ended::Idle { failed });
        }
    }

    fn begin_anew(&mut self) {
        (self.ran_as, self.ran_with_claims, self.has_savepoint) = (None, false, false);
    }

    /// The error for a statement that found no tenant, where there is a reason to tell.
    pub(super) fn nobody(&self) -> Option<Box<ClientError>> {
        (self.bound.scope() == Scope::Nobody).then(|| Box::new(nobody(self.lost)))
    }
}
