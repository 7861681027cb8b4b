//! Statements that read or write rows: whether one leaves something on its session.
//!
//! Every token is looked at once. What decides is a name in front of a parenthesis or behind a
//! dot, where `INTO` stands, and whether anything is written.

mod clause;
mod keyword;

use self::clause::{Copy, With};
use self::keyword::Keyword;
use super::lexer::{Token, Tokens};
use super::names::{Call, Part};
use super::set_config::is_set_config;
use super::{Feature, Kind, Reading, Surroundings};
use crate::scan;

/// Reads from the token that `tokens` stands on, the first of a query, to the statement's end.
pub(super) fn read(tokens: &mut Tokens<'_>, surroundings: &Surroundings) -> Reading {
    Rows::new(surroundings, Before::Statement).read(tokens)
}

/// Reads what stands behind `COPY`.
pub(super) fn read_copy(tokens: &mut Tokens<'_>, surroundings: &Surroundings) -> Reading {
    let before = if tokens.token() == Token::Open { Before::Nothing } else { Before::Relation };
    let mut rows = Rows::new(surroundings, before);
    rows.copy = Some(Copy::Source);
    rows.read(tokens)
}

/// Whether a statement that begins with this word reads or writes rows.
pub(super) fn is_verb(word: &[u8]) -> bool {
    match Keyword::of(word) {
        Keyword::Delete
        | Keyword::Insert
        | Keyword::Select
        | Keyword::Update
        | Keyword::Values
        | Keyword::With => true,
        Keyword::As
        | Keyword::For
        | Keyword::Into
        | Keyword::Key
        | Keyword::Never
        | Keyword::No
        | Keyword::None
        | Keyword::Recursive => false,
    }
}

/// What the token before means for this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    /// `AS` or `::`: a type or an alias follows.
    Alias,
    /// A dot that follows no name: an attribute follows.
    Dot,
    /// `FOR`, of which `UPDATE` is a lock.
    For,
    ForNo,
    ForNoKey,
    /// A dot that follows a name.
    NameDot,
    /// A name: the one in `Rows::name`.
    Name,
    Nothing,
    /// `INTO` or `COPY`: a table follows, and maybe its columns.
    Relation,
    /// The end of a call or of a query in parentheses: an alias may follow, but no call.
    Rowset,
    /// The start of a statement, or a parenthesis.
    Statement,
    /// `INSERT` or `MERGE` at a statement's start.
    Verb,
    /// `WITH`: a name follows, and maybe its columns.
    With,
}

/// The name that is being read, with its last part and what stands before.
#[derive(Clone, Copy, Debug)]
struct Name<'a> {
    last: Part<'a>,
    /// The part before the last if there are two.
    schema: Option<Part<'a>>,
    /// It is behind a dot, of another part or of an expression.
    is_attribute: bool,
    /// What the only part means.
    key: Keyword,
    /// What stands before the first part.
    before: Before,
}

struct Rows<'a, 's> {
    surroundings: &'s Surroundings,
    before: Before,
    name: Option<Name<'a>>,
    with: With,
    copy: Option<Copy>,
    depth: u32,
    /// A bit for each open parenthesis, the innermost last: it is a call's or a query's.
    rowsets: u64,
    is_balanced: bool,
    is_clean: bool,
    writes: bool,
    /// It names the view whose rule sets settings.
    names_settings: bool,
    /// It calls `set_config()`.
    sets: bool,
    /// An `INTO` of a query was the token before.
    selects_into: bool,
    feature: Option<Feature>,
}

impl<'a, 's> Rows<'a, 's> {
    const fn new(surroundings: &'s Surroundings, before: Before) -> Self {
        Self {
            surroundings,
            before,
            name: None,
            with: With::Over,
            copy: None,
            depth: 0,
            rowsets: 0,
            is_balanced: true,
            is_clean: true,
            writes: false,
            names_settings: false,
            sets: false,
            selects_into: false,
            feature: None,
        }
    }

    fn read(mut self, tokens: &mut Tokens<'a>) -> Reading {
        loop {
            if tokens.is_at_end() {
                if tokens.token() != Token::Semicolon || self.depth == 0 {
                    break;
                }
                self.is_balanced = false;
            } else {
                self.take(tokens);
            }
            tokens.advance();
        }
        self.end_name(Token::End);
        self.is_balanced &= self.depth == 0 && tokens.token() != Token::Unreadable;
        self.reading()
    }

    fn reading(self) -> Reading {
        let kind = match (self.copy, self.feature) {
            _ if !self.is_balanced => Kind::Other,
            (Some(Copy::Source | Copy::From | Copy::To | Copy::Elsewhere), _) => Kind::Other,
            (Some(Copy::Stdin | Copy::Stdout) | None, Some(feature)) => Kind::Session(feature),
            (Some(Copy::Stdin), None) => Kind::CopyFromStdin,
            // Which settings, is read next.
            (Some(Copy::Stdout) | None, None) if self.sets => Kind::SetConfig([].into()),
            (Some(Copy::Stdout) | None, None) => Kind::Rows,
        };
        let writes_cleanly = !self.surroundings.sequences && !self.names_settings;
        let is_clean = matches!(kind, Kind::Rows | Kind::CopyFromStdin)
            && self.is_clean
            && !self.surroundings.implicit_code
            && (!self.writes || writes_cleanly);
        Reading { kind, is_clean }
    }

    fn take(&mut self, tokens: &Tokens<'a>) {
        let token = tokens.token();
        let part = Part { token, bytes: tokens.bytes() };
        let is_name = matches!(token, Token::Word | Token::Name | Token::Escaped);
        if !(is_name && self.before == Before::NameDot) && token != Token::Dot {
            self.end_name(token);
        }
        if self.depth == 0 {
            if self.with.is_listed() && (part.is_word("insert") || part.is_word("merge")) {
                self.before = Before::Statement;
            }
            self.with = self.with.before(part, self.before == Before::Statement);
            if !matches!(self.before, Before::Dot | Before::NameDot) {
                self.copy = self.copy.map(|copy| copy.before(part));
            }
            self.writes |= self.copy == Some(Copy::From);
        }
        match token {
            Token::Word | Token::Name | Token::Escaped => self.take_name(part),
            Token::Dot => {
                let is_name = self.before == Before::Name;
                self.before = if is_name { Before::NameDot } else { Before::Dot };
            }
            Token::Open => self.open(),
            Token::Close => self.close(),
            Token::Cast => self.before = Before::Alias,
            // The next name of the list.
            Token::Comma if self.depth == 0 && self.with.is_at_name() => {
                self.before = Before::With;
            }
            Token::Comma
            | Token::End
            | Token::Number
            | Token::Parameter
            | Token::Semicolon
            | Token::String
            | Token::Symbol(_)
            | Token::Unreadable => self.before = Before::Nothing,
        }
    }

    /// One more part of a name.
    fn take_name(&mut self, part: Part<'a>) {
        self.is_clean &= part.token != Token::Escaped;
        self.names_settings |= is_settings(part);
        if self.selects_into {
            self.select_into(part);
        }
        let before = std::mem::replace(&mut self.before, Before::Name);
        self.name = Some(match (before, self.name) {
            (Before::NameDot, Some(name)) => {
                if name.is_attribute {
                    self.is_clean &= !self.surroundings.may_call_by_attribute(name.last);
                }
                // What has three parts is no function.
                let schema = Some(name.last).filter(|_| !name.is_attribute);
                Name { last: part, schema, is_attribute: true, key: Keyword::None, ..name }
            }
            _ => {
                let is_attribute = before == Before::Dot;
                let is_key = part.token == Token::Word && !is_attribute;
                let key = if is_key { Keyword::of(part.bytes) } else { Keyword::None };
                self.take_key(key, before);
                Name { last: part, schema: None, is_attribute, key, before }
            }
        });
    }

    fn take_key(&mut self, key: Keyword, before: Before) {
        match key {
            Keyword::Insert | Keyword::Delete => self.writes = true,
            Keyword::Update => self.writes |= !matches!(before, Before::For | Before::ForNoKey),
            Keyword::Into => {
                self.selects_into = before != Before::Verb;
                self.is_clean &= !self.selects_into;
            }
            Keyword::Never => self.is_clean = false,
            // A query in parentheses.
            Keyword::Select | Keyword::With if before == Before::Statement => self.rowsets |= 1,
            Keyword::As
            | Keyword::For
            | Keyword::Key
            | Keyword::No
            | Keyword::None
            | Keyword::Recursive
            | Keyword::Select
            | Keyword::Values
            | Keyword::With => {}
        }
    }

    /// The name before is complete: `token` is what stands behind it.
    fn end_name(&mut self, token: Token) {
        let Some(name) = self.name.take() else { return };
        let is_complete = self.before == Before::Name;
        if is_complete && token == Token::Open {
            self.before = self.call(name);
            return;
        }
        if name.is_attribute {
            self.is_clean &= !self.surroundings.may_call_by_attribute(name.last);
        }
        // What follows a dot that is not a name, as in `t.*`, means nothing here.
        self.before = match (name.key, name.before) {
            _ if !is_complete => Before::Nothing,
            (Keyword::As, _) => Before::Alias,
            (Keyword::For, _) => Before::For,
            (Keyword::No, Before::For) => Before::ForNo,
            (Keyword::Key, Before::ForNo) => Before::ForNoKey,
            (Keyword::Insert, Before::Statement) => Before::Verb,
            (Keyword::Into, Before::Verb) => Before::Relation,
            (Keyword::With, _) | (Keyword::Recursive, Before::With) => Before::With,
            (_, Before::Relation) if name.last.is(b"binary") => Before::Relation,
            _ => Before::Nothing,
        };
    }

    /// A parenthesis behind a name, and what the name makes of it.
    fn call(&mut self, name: Name<'a>) -> Before {
        let call = match (name.before, name.schema) {
            (Before::Alias | Before::Relation | Before::Rowset | Before::With, _) => Call::Keyword,
            (_, Some(schema)) => self.surroundings.qualified_call(schema, name.last),
            (_, None) if name.is_attribute => Call::Unknown,
            (_, None) => self.surroundings.call(name.last),
        };
        self.is_clean &= matches!(call, Call::Harmless | Call::Keyword);
        self.sets |= call == Call::Unknown && is_set_config(name.schema, name.last);
        match call {
            Call::Harmless => return Before::Rowset,
            // `(VALUES (` makes rows; without the second one it may be a column of that name.
            Call::Keyword if name.key == Keyword::Values && name.before == Before::Statement => {
                self.rowsets |= 1;
            }
            Call::Lock => self.feature = self.feature.or(Some(Feature::AdvisoryLock)),
            Call::Keyword | Call::Unknown => {}
        }
        Before::Nothing
    }

    /// The table that the rows of a query go to.
    fn select_into(&mut self, part: Part<'a>) {
        self.selects_into = false;
        let words: [&[u8]; 5] = [b"temp", b"temporary", b"local", b"global", b"pg_temp"];
        if words.iter().any(|word| part.is(word)) {
            self.feature = Some(Feature::TempTable);
        }
    }

    fn open(&mut self) {
        self.depth += 1;
        self.is_clean &= self.depth < u64::BITS;
        // `call` has left here whether the name before was a function's.
        self.rowsets = self.rowsets << 1 | u64::from(self.before == Before::Rowset);
        self.before = Before::Statement;
    }

    fn close(&mut self) {
        let is_rowset = self.rowsets & 1 == 1;
        self.rowsets >>= 1;
        self.is_balanced &= self.depth > 0;
        self.depth = self.depth.saturating_sub(1);
        self.before = if is_rowset { Before::Rowset } else { Before::Nothing };
        if self.depth == 0 {
            self.with = self.with.behind_parenthesis();
        }
    }
}

/// Whether it may name the view whose rule sets settings when rows of it are updated.
fn is_settings(part: Part<'_>) -> bool {
    let is_exact = part.bytes.len() == SETTINGS.len() && part.bytes.eq_ignore_ascii_case(SETTINGS);
    // In some encodings Postgres folds a letter of another alphabet to one of ours.
    let may_fold = || {
        let start = part.bytes.get(..3).unwrap_or_default();
        part.token == Token::Word
            && start.eq_ignore_ascii_case(b"pg_")
            && !scan::is_ascii(part.bytes)
    };
    is_exact || may_fold()
}

const SETTINGS: &[u8] = b"pg_settings";
