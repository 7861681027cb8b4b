//! Which answers are due from a server connection, and what becomes of each (pure).
//!
//! In transaction pooling everything reaches the server as extended-query messages, each of which
//! has one answer (manual: "Message Flow", section "Extended Query"). So a queue of them says
//! whose answer comes next, and an answer that does not fit is a reason to close.

use std::collections::VecDeque;
use std::sync::Arc;

use super::memory::OVERHEAD;
use super::told::Known;
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
    Describe(Describe),
    /// What one `Execute` gives.
    Execute(Execute),
    /// Nothing from the server: the client gets this frame from us when its turn comes.
    Owed(&'static [u8]),
    /// `ParseComplete`.
    Parse(Parse),
    /// What a whole `Query` gives, whose text nobody has read. A Sync stands behind it.
    Query,
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

/// A description.
#[derive(Debug)]
pub(super) struct Describe {
    pub(super) whose: Whose,
    /// The client's statement that it describes, or of whose portal it is.
    pub(super) of: Option<Arc<Known>>,
}

impl Describe {
    /// That of the portal of a simple query, which goes on if there are rows.
    pub(super) const QUERY: Self = Self { whose: Whose::Ours, of: None };
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
    /// Bytes that are kept for them.
    bytes: usize,
    /// Most of them.
    most: usize,
    /// There were so many, or so many bytes, and half of them have to be answered first.
    is_full: bool,
    /// The server skips everything up to a Sync that has not been sent.
    skipping: bool,
    /// Messages were sent since the last Sync.
    unsynced: bool,
}

/// So many bytes may be kept for them; one more is taken by whoever has kept less.
const MOST_BYTES: usize = 256 * 1024;

impl Due {
    /// Bytes that are kept for it beyond its own size. A statement that others have, too, counts for
    /// each of them.
    fn bytes(&self) -> usize {
        match self {
            Self::Parse(Parse::Named(statement, name)) => {
                statement.definition().len() + name.as_ref().map_or(0, |name| name.len())
            }
            Self::Parse(Parse::Refused(refusal)) => refusal.bytes(),
            Self::Execute(Execute { kind: Kind::SetConfig(settings), .. }) => {
                settings.len() * OVERHEAD
            }
            Self::Bind(_)
            | Self::Close(_)
            | Self::Describe(_)
            | Self::Execute(_)
            | Self::Owed(_)
            | Self::Parse(_)
            | Self::Query
            | Self::Sync(_) => 0,
        }
    }
}

/// Answers for which there is room from the start: those of one statement and its bind.
const FIRST: usize = 16;

impl Dues {
    /// None is due; at most so many are to be.
    pub(super) fn new(most: usize) -> Self {
        let queue = VecDeque::with_capacity(FIRST);
        Self { queue, bytes: 0, most, is_full: false, skipping: false, unsynced: false }
    }

    /// Whether more may be asked before some answers have come.
    pub(super) fn has_room(&mut self) -> bool {
        let share = if self.is_full { 2 } else { 1 };
        self.is_full = self.queue.len() >= self.most / share || self.bytes > MOST_BYTES / share;
        !self.is_full
    }

    /// Whether there is room no more.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Notes that a message was sent. False: the server will skip it.
    pub(super) fn push(&mut self, due: Due) -> bool {
        if self.skipping {
            if !matches!(due, Due::Sync(_)) {
                return false;
            }
            self.skipping = false;
        }
        self.unsynced = !matches!(due, Due::Sync(_));
        self.bytes = self.bytes.saturating_add(due.bytes());
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
            Some(Due::Parse(Parse::Refused(refusal))) => {
                self.bytes -= refusal.bytes();
                Some(refusal)
            }
            Some(other) => {
                self.queue.push_front(other);
                None
            }
            None => None,
        }
    }

    /// Takes what has been answered.
    pub(super) fn pop(&mut self) -> Option<Due> {
        let due = self.queue.pop_front();
        self.bytes -= due.as_ref().map_or(0, Due::bytes);
        due
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
            Some(_) => self.pop(),
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
        let mut dues = Dues::new(100);
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
        let mut dues = Dues::new(100);
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
    fn when_there_are_too_many_half_of_them_are_awaited() {
        let mut dues = Dues::new(4);
        for _ in 0..4 {
            assert!(dues.has_room() && dues.push(bind()));
        }
        for _ in 0..2 {
            assert!(!dues.has_room() && dues.is_full());
            assert!(dues.pop().is_some());
        }
        assert!(!dues.has_room() && dues.pop().is_some());
        assert!(dues.has_room() && !dues.is_full());
    }

    #[test]
    fn what_keeps_many_bytes_is_awaited_as_well() {
        let refused = || {
            let error = ClientError::error("XX000", "C000", "x".repeat(100_000));
            Due::Parse(Parse::Refused(Box::new(error)))
        };
        let mut dues = Dues::new(100);
        for _ in 0..3 {
            assert!(dues.has_room() && dues.push(refused()));
        }
        assert!(!dues.has_room() && dues.is_full());
        assert!(dues.pop_refused().is_some() && !dues.has_room());
        assert!(dues.pop_skipped().is_some() && dues.has_room());
        assert!(dues.pop().is_some());
        assert_eq!(dues.bytes, 0);
    }

    #[test]
    fn what_we_owe_waits_for_its_turn() {
        let mut dues = Dues::new(100);
        assert!(dues.push(bind()) && dues.push(Due::Owed(b"1")));
        assert_eq!(dues.pop_owed(), None);
        assert!(matches!(dues.pop(), Some(Due::Bind(_))));
        assert_eq!(dues.pop_owed(), Some(&b"1"[..]));
        assert_eq!(dues.pop_owed(), None);
    }
}
