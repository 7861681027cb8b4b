//! Statements about transactions, settings, cursors and what else a session has.
//!
//! Each is read to its end or not at all: what has one token more than is known here is not known.

use super::identifier::{self, identifier};
use super::lexer::{Token, Tokens};
use super::names::Part;
use super::rows;
use super::{Feature, Kind, Reading, Surroundings};

/// Reads a statement whose first token is a word; nothing if it is none of these, or not quite.
pub(super) fn read(tokens: &mut Tokens<'_>, surroundings: &Surroundings) -> Option<Reading> {
    let verb = Verb::of(tokens.bytes())?;
    tokens.advance();
    let mut reader = Reader { tokens };
    let kind = match verb {
        Verb::Copy => return Some(rows::read_copy(reader.tokens, surroundings)),
        Verb::Commit | Verb::Rollback if reader.accept("prepared") => return Some(ALONE),
        Verb::Create if reader.index() => return Some(ALONE),
        Verb::Create => reader.create(),
        Verb::Deallocate => reader.deallocate(),
        Verb::Declare => return reader.declare(surroundings),
        Verb::Set => return reader.set(),
        Verb::Reset => return reader.reset(),
        Verb::Begin => reader.begin(),
        Verb::Start => reader.start(),
        Verb::Commit => reader.commit(),
        Verb::Rollback => reader.rollback(true),
        Verb::Abort => reader.rollback(false),
        Verb::Savepoint => reader.name(Kind::Savepoint),
        Verb::Release => {
            reader.accept("savepoint");
            reader.name(Kind::Savepoint)
        }
        Verb::Close => reader.name(Kind::Cursor),
        Verb::Unlisten => {
            reader.accept_symbol(b'*').then_some(Kind::Cursor).or_else(|| reader.name(Kind::Cursor))
        }
        Verb::Fetch => reader.words(Kind::Cursor),
        Verb::Show => reader.words(Kind::Show),
        Verb::Alone => return Some(ALONE),
        Verb::Drop => return reader.index().then_some(ALONE),
        Verb::Discard => reader.expect("all").map(|()| Kind::DiscardAll),
        Verb::Listen => reader.name(Kind::Session(Feature::Listen)),
        Verb::Prepare => reader.prepare(),
    }?;
    let is_session = matches!(kind, Kind::Session(_));
    let is_clean = !is_session && !matches!(kind, Kind::Deallocate(_));
    // Those may have more to say, which is somebody else's to read.
    (is_session || reader.tokens.is_at_end()).then_some(Reading { kind, is_clean })
}

const ALONE: Reading = Reading { kind: Kind::Alone, is_clean: false };

/// The first word of a statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verb {
    Abort,
    /// `CLUSTER`, `REINDEX`, `VACUUM`.
    Alone,
    Begin,
    Close,
    Commit,
    Copy,
    Create,
    Deallocate,
    Declare,
    Discard,
    Drop,
    /// `FETCH`, `MOVE`.
    Fetch,
    Listen,
    Prepare,
    Release,
    Reset,
    Rollback,
    Savepoint,
    Set,
    Show,
    Start,
    Unlisten,
}

impl Verb {
    fn of(word: &[u8]) -> Option<Self> {
        static VERBS: [(&[u8], Verb); 26] = [
            (b"abort", Verb::Abort),
            (b"begin", Verb::Begin),
            (b"close", Verb::Close),
            (b"cluster", Verb::Alone),
            (b"commit", Verb::Commit),
            (b"copy", Verb::Copy),
            (b"create", Verb::Create),
            (b"deallocate", Verb::Deallocate),
            (b"declare", Verb::Declare),
            (b"discard", Verb::Discard),
            (b"drop", Verb::Drop),
            (b"end", Verb::Commit),
            (b"fetch", Verb::Fetch),
            (b"listen", Verb::Listen),
            (b"move", Verb::Fetch),
            (b"prepare", Verb::Prepare),
            (b"reindex", Verb::Alone),
            (b"release", Verb::Release),
            (b"reset", Verb::Reset),
            (b"rollback", Verb::Rollback),
            (b"savepoint", Verb::Savepoint),
            (b"set", Verb::Set),
            (b"show", Verb::Show),
            (b"start", Verb::Start),
            (b"unlisten", Verb::Unlisten),
            (b"vacuum", Verb::Alone),
        ];
        let first = word.first()? | 0x20;
        let mut verbs = VERBS.iter().filter(|(name, _)| name.first() == Some(&first));
        let found = verbs.find(|(name, _)| word.eq_ignore_ascii_case(name));
        found.map(|(_, verb)| *verb)
    }
}

/// Reads on from the token behind the verb.
pub(super) struct Reader<'t, 'a> {
    pub(super) tokens: &'t mut Tokens<'a>,
}

impl<'a> Reader<'_, 'a> {
    pub(super) fn part(&self) -> Part<'a> {
        Part { token: self.tokens.token(), bytes: self.tokens.bytes() }
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.part().is_word(word)
    }

    /// Goes past a word if it is the next token.
    pub(super) fn accept(&mut self, word: &str) -> bool {
        let is_next = self.is_word(word);
        if is_next {
            self.tokens.advance();
        }
        is_next
    }

    pub(super) fn accept_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.accept(word))
    }

    pub(super) fn accept_symbol(&mut self, symbol: u8) -> bool {
        let is_next = self.tokens.token() == Token::Symbol(symbol);
        if is_next {
            self.tokens.advance();
        }
        is_next
    }

    pub(super) fn accept_token(&mut self, token: Token) -> bool {
        let is_next = self.tokens.token() == token;
        if is_next {
            self.tokens.advance();
        }
        is_next
    }

    pub(super) fn expect(&mut self, word: &str) -> Option<()> {
        self.accept(word).then_some(())
    }

    /// One name.
    fn name(&mut self, kind: Kind) -> Option<Kind> {
        if matches!(self.tokens.token(), Token::Word | Token::Name) {
            self.tokens.advance();
        } else {
            self.identifier()?;
        }
        Some(kind)
    }

    /// One name as Postgres reads it, with its `UESCAPE`.
    pub(super) fn identifier(&mut self) -> Option<Vec<u8>> {
        let part = self.part();
        self.tokens.advance();
        if part.token != Token::Escaped || !self.accept("uescape") {
            return identifier(part, b'\\');
        }
        let escape = identifier::escape_character(self.part().bytes)?;
        self.accept_token(Token::String).then(|| identifier(part, escape)).flatten()
    }

    /// Words, names and numbers up to the end, at least one.
    fn words(&mut self, kind: Kind) -> Option<Kind> {
        let start = self.tokens.start();
        while matches!(
            self.tokens.token(),
            Token::Word
                | Token::Name
                | Token::Escaped
                | Token::Dot
                | Token::Number
                | Token::Symbol(b'-' | b'+')
        ) {
            self.tokens.advance();
        }
        (self.tokens.start() > start).then_some(kind)
    }

    fn begin(&mut self) -> Option<Kind> {
        self.accept_any(&["work", "transaction"]);
        self.modes().then_some(Kind::Begin)
    }

    fn start(&mut self) -> Option<Kind> {
        self.expect("transaction")?;
        self.modes().then_some(Kind::Begin)
    }

    /// The modes of a transaction, and nothing else, up to the end.
    pub(super) fn modes(&mut self) -> bool {
        while self.accept_any(MODES) || self.accept_token(Token::Comma) {}
        self.tokens.is_at_end()
    }

    fn commit(&mut self) -> Option<Kind> {
        self.accept_any(&["work", "transaction"]);
        self.chain().map(|chain| Kind::Commit { chain })
    }

    fn rollback(&mut self, may_be_partial: bool) -> Option<Kind> {
        self.accept_any(&["work", "transaction"]);
        if may_be_partial && self.accept("to") {
            self.accept("savepoint");
            return self.name(Kind::RollbackTo);
        }
        self.chain().map(|chain| Kind::Rollback { chain })
    }

    /// An index that is made or dropped concurrently.
    fn index(&mut self) -> bool {
        self.accept("unique");
        self.accept("index") && self.accept("concurrently")
    }

    fn chain(&mut self) -> Option<bool> {
        if !self.accept("and") {
            return Some(false);
        }
        let chain = !self.accept("no");
        self.accept("chain").then_some(chain)
    }

    fn prepare(&mut self) -> Option<Kind> {
        let is_transaction = self.is_word("transaction");
        self.name(Kind::Session(Feature::PreparedStatement))?;
        // A statement may have that name.
        let is_transaction = is_transaction && self.tokens.token() == Token::String;
        (!is_transaction).then_some(Kind::Session(Feature::PreparedStatement))
    }

    /// What is temporary, unless it goes with its transaction.
    fn create(&mut self) -> Option<Kind> {
        if self.accept("or") {
            self.expect("replace")?;
        }
        self.accept_any(&["global", "local"]);
        let is_temporary = self.accept_any(&["temp", "temporary"]);
        self.accept_any(&["recursive", "unlogged"]);
        if !self.accept_any(&["table", "view", "sequence"]) {
            return None;
        }
        if self.accept("if") {
            self.expect("not")?;
            self.expect("exists")?;
        }
        if !is_temporary && !self.part().is(b"pg_temp") {
            return None;
        }
        Some(Kind::Session(Feature::TempTable))
    }

    fn declare(&mut self, surroundings: &Surroundings) -> Option<Reading> {
        self.name(Kind::Cursor)?;
        while self.accept_any(&["binary", "asensitive", "insensitive", "no", "scroll"]) {}
        self.expect("cursor")?;
        let is_held = self.accept("with");
        if is_held || self.accept("without") {
            self.expect("hold")?;
        }
        self.expect("for")?;
        let mut reading = rows::read(self.tokens, surroundings);
        if is_held && reading.kind == Kind::Rows {
            reading = Reading { kind: Kind::Session(Feature::HoldCursor), is_clean: false };
        }
        Some(reading)
    }
}

/// The words of a transaction's modes.
const MODES: &[&str] = &[
    "committed",
    "deferrable",
    "isolation",
    "level",
    "not",
    "only",
    "read",
    "repeatable",
    "serializable",
    "uncommitted",
    "write",
];
