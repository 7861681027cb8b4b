//! Which answers are due from a server connection, and what becomes of each (pure).
//!
//! In transaction pooling everything reaches the server as extended-query messages, each of which
//! has one answer (manual: "Message Flow", section "Extended Query"). So a queue of them says
//! whose answer comes next, and an answer that does not fit is a reason to close.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::Statement;
use crate::protocol::ClientError;
use crate::statement::Kind;

/// An answer that is due.
#[derive(Debug)]
pub(super) enum Due {
    /// `BindComplete`.
    Bind(Whose),
    /// `CloseComplete`.
    Close(Whose),
    /// `RowDescription` or `NoData`; ahead of it `ParameterDescription` if of a statement.
    Describe(Whose),
    /// What one `Execute` gives.
    Execute(Execute),
    /// Nothing from the server: the client gets this frame from us when its turn comes.
    Owed(&'static [u8]),
    /// `ParseComplete`.
    Parse(Parse),
    /// `ReadyForQuery`.
    Sync(Whose),
}

/// Who asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// The client, who gets the answer.
    Clients,
    /// The proxy; the answer goes nowhere.
    Ours,
}

/// What one `Execute` gives.
#[derive(Debug)]
pub(super) struct Execute {
    pub(super) whose: Whose,
    /// What was read in the statement's text.
    pub(super) kind: Kind,
    /// The client gets this frame in place of the one that completes the command.
    pub(super) instead: Option<&'static [u8]>,
}

/// A statement that is being prepared.
#[derive(Debug)]
pub(super) enum Parse {
    /// The client's unnamed one.
    Clients,
    /// One of the client's, under our name; and the client's name if the client has just given it
    /// and gets the answer.
    Named(Arc<Statement>, Option<Box<[u8]>>),
    /// The statement that binds the tenant, without or with claims.
    LocalBind { has_claims: bool },
    /// The unnamed one, by us.
    Ours,
    /// A text that Postgres refuses, for one that we refuse: the client gets this error.
    Refused(Box<ClientError>),
}

impl Parse {
    /// Who gets the answer.
    pub(super) const fn whose(&self) -> Whose {
        match self {
            Self::Clients | Self::Named(_, Some(_)) => Whose::Clients,
            Self::LocalBind { .. } | Self::Named(_, None) | Self::Ours | Self::Refused(_) => {
                Whose::Ours
            }
        }
    }
}

/// The answers that are due, in the order in which they come.
#[derive(Debug)]
pub(super) struct Dues {
    queue: VecDeque<Due>,
    /// The server skips everything up to a Sync that has not been sent.
    skipping: bool,
    /// Messages were sent since the last Sync.
    unsynced: bool,
}

/// Answers for which there is room from the start: those of one statement and its bind.
const FIRST: usize = 16;

impl Default for Dues {
    fn default() -> Self {
        Self { queue: VecDeque::with_capacity(FIRST), skipping: false, unsynced: false }
    }
}

impl Dues {
    /// Notes that a message was sent. False: the server will skip it.
    pub(super) fn push(&mut self, due: Due) -> bool {
        if self.skipping {
            if !matches!(due, Due::Sync(_)) {
                return false;
            }
            self.skipping = false;
        }
        self.unsynced = !matches!(due, Due::Sync(_));
        self.queue.push_back(due);
        true
    }

    /// What is answered next.
    pub(super) fn front(&self) -> Option<&Due> {
        self.queue.front()
    }

    /// What is answered after that.
    pub(super) fn second(&self) -> Option<&Due> {
        self.queue.get(1)
    }

    /// Takes the refusal that is due next.
    pub(super) fn pop_refused(&mut self) -> Option<Box<ClientError>> {
        match self.queue.pop_front() {
            Some(Due::Parse(Parse::Refused(refusal))) => Some(refusal),
            Some(other) => {
                self.queue.push_front(other);
                None
            }
            None => None,
        }
    }

    /// Takes what has been answered.
    pub(super) fn pop(&mut self) -> Option<Due> {
        self.queue.pop_front()
    }

    /// Takes the next frame that the client gets from us, if its turn has come.
    pub(super) fn pop_owed(&mut self) -> Option<&'static [u8]> {
        match self.queue.front() {
            Some(&Due::Owed(frame)) => {
                self.queue.pop_front();
                Some(frame)
            }
            _ => None,
        }
    }

    /// An error was answered: takes what the server skips because of it, one after the other.
    pub(super) fn pop_skipped(&mut self) -> Option<Due> {
        match self.queue.front() {
            Some(Due::Sync(_)) => None,
            Some(_) => self.queue.pop_front(),
            None => {
                self.skipping = true;
                None
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the server skips everything up to a Sync that has not been sent.
    pub(super) const fn skipping(&self) -> bool {
        self.skipping
    }

    /// Whether messages were sent since the last Sync.
    pub(super) const fn unsynced(&self) -> bool {
        self.unsynced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind() -> Due {
        Due::Bind(Whose::Clients)
    }

    #[test]
    fn an_error_takes_everything_up_to_the_next_sync() {
        let mut dues = Dues::default();
        assert!(dues.push(bind()) && dues.push(Due::Owed(b"1")) && dues.push(bind()));
        assert!(dues.push(Due::Sync(Whose::Clients)) && dues.push(bind()));
        let mut skipped = 0;
        while dues.pop_skipped().is_some() {
            skipped += 1;
        }
        assert_eq!((skipped, dues.len(), dues.skipping()), (3, 2, false));
    }

    #[test]
    fn until_a_sync_is_sent_nothing_is_due() {
        let mut dues = Dues::default();
        assert!(!dues.unsynced());
        assert!(dues.push(bind()) && dues.unsynced());
        while dues.pop_skipped().is_some() {}
        assert!(dues.is_empty() && dues.skipping() && dues.unsynced());
        assert!(!dues.push(bind()) && dues.is_empty());
        assert!(dues.push(Due::Sync(Whose::Clients)) && !dues.skipping() && !dues.unsynced());
        assert!(dues.push(bind()) && dues.len() == 2 && dues.unsynced());
        while dues.pop().is_some() {}
        assert!(dues.unsynced(), "answered, and still open");
    }

    #[test]
    fn what_we_owe_waits_for_its_turn() {
        let mut dues = Dues::default();
        assert!(dues.push(bind()) && dues.push(Due::Owed(b"1")));
        assert_eq!(dues.pop_owed(), None);
        assert!(matches!(dues.pop(), Some(Due::Bind(_))));
        assert_eq!(dues.pop_owed(), Some(&b"1"[..]));
        assert_eq!(dues.pop_owed(), None);
    }
}
