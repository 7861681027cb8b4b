//! What SQL text is to a pooler: where its statements end, and what each leaves on a session.
//!
//! Isolation of rows never rests on it. Whether a server connection is still clean does, so a
//! statement is called clean only if it provably leaves nothing once its transaction has ended;
//! when in doubt it is not clean. It is written for Postgres 14 to 18.

use std::collections::BTreeSet;
use std::ops::Range;

/// Settings that decide where a string ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lexis {
    /// `standard_conforming_strings` is on.
    pub standard_strings: bool,
    /// In the client's encoding no byte of a multi-byte character looks like ASCII: UTF8 and the
    /// single-byte ones, not SJIS, BIG5, GBK, UHC, GB18030, JOHAB, SHIFT_JIS_2004.
    pub safe_encoding: bool,
}

/// What the database itself adds to what a statement's text says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Surroundings {
    /// Functions that Postgres did not bring along, by bare lower-case name, that the role may
    /// call: a built-in of the same name may be hidden by them.
    pub functions: BTreeSet<String>,
    /// Of these, the bare names for all of whose functions the operator vouches.
    pub vouched: BTreeSet<String>,
    /// Triggers, rules, views, defaults, constraints, operators, casts or policies call code that
    /// nobody vouches for: then no statement that touches rows is clean.
    pub implicit_code: bool,
    /// The role may read sequences (`currval`, `lastval`): then no statement that writes is clean.
    pub sequences: bool,
}

/// One statement of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Next {
    /// Without its semicolon; may start with blanks and comments.
    pub statement: Range<usize>,
    /// What it is.
    pub reading: Reading,
    /// Where the next one starts; the text's length if this was the last. Blanks, comments and
    /// empty statements behind the last one belong to it.
    pub rest: usize,
}

/// What a statement is to a pooler.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    /// What it does.
    pub kind: Kind,
    /// It provably leaves nothing on the session, other than the settings that `kind` names.
    pub is_clean: bool,
}

/// What a statement does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Nothing but blanks and comments.
    Empty,
    /// `BEGIN`, `START TRANSACTION`, with any modes.
    Begin,
    /// `COMMIT`, `END`; not `COMMIT PREPARED`.
    Commit {
        /// `AND CHAIN`: the next transaction is open at once.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`; not `ROLLBACK PREPARED`.
    Rollback {
        /// `AND CHAIN`: the next transaction is open at once.
        chain: bool,
    },
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackTo,
    /// `SAVEPOINT`, `RELEASE`.
    Savepoint,
    /// `SET LOCAL`, `SET TRANSACTION`, `SET CONSTRAINTS`.
    SetLocal,
    /// `SET` and `RESET` of these settings of the session, in lower case.
    Set(Vec<String>),
    /// `RESET ALL`.
    ResetAll,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `SHOW`.
    Show,
    /// `CLOSE`, `FETCH`, `MOVE`, `UNLISTEN`.
    Cursor,
    /// Reads or writes rows: `SELECT`, `VALUES`, `TABLE`, `WITH`, `INSERT`, `UPDATE`, `DELETE`,
    /// `MERGE`, `COPY … TO STDOUT`, `DECLARE` without `HOLD`.
    Rows,
    /// `COPY … FROM STDIN`.
    CopyFromStdin,
    /// Works on one session only: what it needs.
    Session(Feature),
    /// Everything else, and every text that could not be read.
    Other,
}

/// What a statement needs that does not outlive a transaction on a pooled connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Feature {
    /// An advisory lock that is held until the session ends.
    AdvisoryLock,
    /// A cursor that outlives its transaction.
    HoldCursor,
    /// Notifications.
    Listen,
    /// A prepared statement of SQL, as opposed to the protocol's.
    PreparedStatement,
    /// A temporary table, view or sequence.
    TempTable,
}

impl Feature {
    /// For an error message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdvisoryLock => "a session-level advisory lock",
            Self::HoldCursor => "a cursor WITH HOLD",
            Self::Listen => "LISTEN",
            Self::PreparedStatement => "PREPARE",
            Self::TempTable => "a temporary table",
        }
    }
}

impl Kind {
    /// Whether the tenant's context has to be bound before it.
    pub const fn needs_context(&self) -> bool {
        match self {
            Self::Empty
            | Self::Begin
            | Self::Commit { .. }
            | Self::Rollback { .. }
            | Self::RollbackTo
            | Self::Savepoint
            | Self::SetLocal
            | Self::Set(_)
            | Self::ResetAll
            | Self::DiscardAll
            | Self::Show
            | Self::Cursor => false,
            Self::Rows | Self::CopyFromStdin | Self::Session(_) | Self::Other => true,
        }
    }

    /// Whether a `CommandComplete` tag, without its zero byte, can be the answer to such a
    /// statement. If not, the reading was wrong.
    pub fn accepts_tag(&self, tag: &[u8]) -> bool {
        let word = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
        let words: &[&[u8]] = match self {
            Self::Begin => &[b"BEGIN", b"START"],
            // A transaction that has failed is rolled back by its COMMIT.
            Self::Commit { .. } => &[b"COMMIT", b"ROLLBACK"],
            Self::Rollback { .. } | Self::RollbackTo => &[b"ROLLBACK"],
            Self::Savepoint => &[b"SAVEPOINT", b"RELEASE"],
            Self::SetLocal => &[b"SET"],
            Self::Set(_) => &[b"SET", b"RESET"],
            Self::ResetAll => &[b"RESET"],
            Self::DiscardAll => &[b"DISCARD"],
            Self::Show => &[b"SHOW"],
            Self::Cursor => &[b"CLOSE", b"FETCH", b"MOVE", b"UNLISTEN"],
            Self::Rows | Self::Session(Feature::AdvisoryLock) => {
                &[b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"MERGE", b"COPY", b"DECLARE"]
            }
            Self::CopyFromStdin => &[b"COPY"],
            Self::Session(Feature::HoldCursor) => &[b"DECLARE"],
            Self::Session(Feature::Listen) => &[b"LISTEN"],
            Self::Session(Feature::PreparedStatement) => &[b"PREPARE"],
            Self::Session(Feature::TempTable) => &[b"CREATE", b"SELECT"],
            Self::Empty | Self::Other => return true,
        };
        words.contains(&word)
    }
}

/// Reads the first statement of `text`: bytes in the client's encoding, no zero byte at its end.
pub fn next(text: &[u8], _lexis: Lexis, _surroundings: &Surroundings) -> Next {
    let reading = Reading { kind: Kind::Other, is_clean: false };
    Next { statement: 0..text.len(), reading, rest: text.len() }
}
