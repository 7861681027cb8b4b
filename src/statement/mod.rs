//! What SQL text is to a pooler: where its statements end, and what each leaves on a session.
//!
//! Isolation of rows never rests on it. Whether a server connection is still clean does, so a
//! statement is called clean only if it provably leaves nothing once its transaction has ended;
//! when in doubt it is not clean. It is written for Postgres 14 to 18.

mod control;
mod copy;
mod deallocate;
mod effort;
mod functions;
mod identifier;
pub mod identity;
mod lexer;
mod moment;
mod names;
mod rows;
mod set_config;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

pub use self::copy::CopyFrom;
pub use self::deallocate::{Deallocated, executed};
pub use self::effort::{Effort, effort};
use self::lexer::{Token, Tokens};
pub use self::moment::may_mean_a_moment;
use self::set_config::Assigned;
pub use self::set_config::{Assignment, SettingName, can_be_followed, resolve};
pub use self::settings::{bears_on_plans, keeps_settings};
use crate::scan;

/// Settings that decide where a string ends, as they are when the server reads the text.
///
/// A statement can change them for the texts after it; the server reports both.
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
    /// Triggers, rules, views, defaults, generated columns, indexes, constraints (those of domains,
    /// too), operators, casts or policies call code that nobody vouches for, or a view has
    /// `pg_settings` below it: then no statement that touches rows is clean.
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
    ///
    /// A setting that Postgres does not know, once set, even locally, reads as '' for ever after.
    pub is_clean: bool,
}

impl Reading {
    /// Notes which settings the calls of `set_config()` in its text change.
    fn assign(&mut self, text: &[u8]) {
        let is_query = matches!(self.kind, Kind::SetConfig(_));
        if !is_query && (self.kind != Kind::Other || !set_config::may_call(text)) {
            return;
        }
        let otherwise = if is_query { Kind::Rows } else { Kind::Other };
        self.kind = match set_config::read(text) {
            Assigned::Nothing => otherwise,
            Assigned::Settings(settings) => Kind::SetConfig(settings),
            Assigned::Unknown => Kind::Session(Feature::UnnamedSetting),
        };
    }
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
    /// `SET LOCAL` of anything but our own settings, `SET TRANSACTION`, `SET CONSTRAINTS`.
    SetLocal {
        /// A plan, or what a text means, may depend on it.
        bears_on_plans: bool,
    },
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
    /// Changes settings of the session by `set_config()`, whatever else it does.
    SetConfig(Arc<[Assignment]>),
    /// `DEALLOCATE`.
    Deallocate(Deallocated),
    /// Runs in no transaction but its own, and by no policy: `VACUUM`, `CLUSTER`, `REINDEX`,
    /// `COMMIT PREPARED`, `ROLLBACK PREPARED`, indexes that come and go `CONCURRENTLY`.
    Alone,
    /// Works on one session only: what it needs.
    Session(Feature),
    /// Stands in place of a statement by which the client says who it is ([`identity`]).
    Identity,
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
    /// A setting of which nobody knows that it is to follow the client.
    UnnamedSetting,
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
            Self::UnnamedSetting => {
                "set_config() of a role, or of a setting that the statement does not name, for the \
                 session"
            }
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
            | Self::SetLocal { .. }
            | Self::Set(_)
            | Self::ResetAll
            | Self::DiscardAll
            | Self::Show
            | Self::Identity
            | Self::Deallocate(_)
            | Self::Alone
            | Self::Cursor => false,
            Self::Rows
            | Self::CopyFromStdin
            | Self::SetConfig(_)
            | Self::Session(_)
            | Self::Other => true,
        }
    }

    /// Whether a plan that is made behind it, or what a text means, may depend on what it sets.
    pub fn bears_on_plans(&self) -> bool {
        match self {
            Self::SetLocal { bears_on_plans } => *bears_on_plans,
            Self::Set(names) => names.iter().any(|name| bears_on_plans(name)),
            Self::ResetAll | Self::DiscardAll => true,
            Self::Empty
            | Self::Begin
            | Self::Commit { .. }
            | Self::Rollback { .. }
            | Self::RollbackTo
            | Self::Savepoint
            | Self::Show
            | Self::Identity
            | Self::Cursor
            | Self::Rows
            | Self::CopyFromStdin
            // It leaves more than it says, and counts as that.
            | Self::SetConfig(_)
            | Self::Deallocate(_)
            | Self::Alone
            | Self::Session(_)
            | Self::Other => false,
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
            Self::SetLocal { .. } => &[b"SET"],
            Self::Set(_) => &[b"SET", b"RESET"],
            Self::Identity => &[b"SET", b"RESET", b"SELECT"],
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
            Self::Deallocate(_) => &[b"DEALLOCATE", b"UNLISTEN"],
            Self::Alone => {
                &[b"VACUUM", b"CLUSTER", b"REINDEX", b"COMMIT", b"ROLLBACK", b"CREATE", b"DROP"]
            }
            Self::Empty
            | Self::SetConfig(_)
            | Self::Session(Feature::UnnamedSetting)
            | Self::Other => return true,
        };
        words.contains(&word)
    }
}

/// Reads the first statement of `text`: bytes in the client's encoding, no zero byte at its end.
pub fn next(text: &[u8], lexis: Lexis, surroundings: &Surroundings) -> Next {
    let mut tokens = Tokens::new(text);
    let mut start = 0;
    while tokens.token() == Token::Semicolon {
        start = tokens.end();
        tokens.advance();
    }
    if tokens.token() == Token::End {
        let reading = Reading { kind: Kind::Empty, is_clean: true };
        return Next { statement: 0..start.saturating_sub(1), reading, rest: text.len() }
            .unless_unsure(text, lexis);
    }
    let mut reading = read(&mut tokens, surroundings);
    let is_readable = tokens.token() != Token::Unreadable;
    let statement = start..if is_readable { tokens.start() } else { text.len() };
    reading.assign(text.get(statement.clone()).unwrap_or_default());
    let mut rest = text.len();
    while tokens.token() == Token::Semicolon {
        rest = tokens.end();
        tokens.advance();
    }
    if tokens.token() == Token::End {
        rest = text.len();
    }
    Next { statement, reading, rest }.unless_unsure(text, lexis)
}

/// Reads from a statement's first token to its end.
fn read(tokens: &mut Tokens<'_>, surroundings: &Surroundings) -> Reading {
    let is_word = tokens.token() == Token::Word;
    let is_query = tokens.token() == Token::Open || (is_word && rows::is_verb(tokens.bytes()));
    let reading = if is_query {
        Some(rows::read(tokens, surroundings))
    } else if is_word {
        control::read(tokens, surroundings)
    } else {
        None
    };
    let mut reading = reading.unwrap_or(UNREAD);
    let rest = skip(tokens);
    if !rest.is_whole || (rest.drops && reading.kind == Kind::Session(Feature::TempTable)) {
        reading = UNREAD;
    }
    reading
}

const UNREAD: Reading = Reading { kind: Kind::Other, is_clean: false };

/// What stood in the part of a statement that nobody read.
struct Skipped {
    /// It ended where statements end.
    is_whole: bool,
    /// `ON COMMIT DROP`.
    drops: bool,
}

/// Goes to the end of the statement. A semicolon in parentheses or in a function's body ends none.
fn skip(tokens: &mut Tokens<'_>) -> Skipped {
    let mut skipped = Skipped { is_whole: true, drops: false };
    let (mut depth, mut matched, mut in_body, mut after_begin) = (0_usize, 0, false, false);
    loop {
        let token = tokens.token();
        if token == Token::Open {
            depth += 1;
        } else if token == Token::Close {
            skipped.is_whole &= depth > 0;
            depth = depth.saturating_sub(1);
        } else if tokens.is_at_end() {
            let is_inside = depth > 0 || in_body;
            skipped.is_whole &= token != Token::Unreadable && !is_inside;
            if token != Token::Semicolon || !is_inside {
                return skipped;
            }
        }
        let is_word =
            |word: &[u8]| token == Token::Word && tokens.bytes().eq_ignore_ascii_case(word);
        in_body |= after_begin && is_word(b"atomic");
        after_begin = is_word(b"begin");
        let drop: [&[u8]; 3] = [b"on", b"commit", b"drop"];
        matched = match drop.get(matched) {
            Some(word) if depth == 0 && is_word(word) => matched + 1,
            Some(_) | None => usize::from(depth == 0 && is_word(b"on")),
        };
        skipped.drops |= matched == drop.len();
        tokens.advance();
    }
}

impl Next {
    /// The whole text if a byte of what has been read may not be what it looks like.
    fn unless_unsure(self, text: &[u8], lexis: Lexis) -> Self {
        let seen = text.get(..self.rest).unwrap_or_default();
        let is_unsure = scan::contains(seen, 0)
            || (!lexis.standard_strings && scan::contains(seen, b'\\'))
            || (!lexis.safe_encoding && !scan::is_ascii(seen));
        if is_unsure {
            return Self { statement: 0..text.len(), reading: UNREAD, rest: text.len() };
        }
        self
    }
}
