//! Statements by which a client says who it is: a token in `cloison.jwt`, a choice by `set_tenant`.
//!
//! They are for the proxy. Postgres gets, in place of each, a statement that is answered alike and
//! does nothing but take the context away, so that order, errors and rollbacks stay its own work.
//! The reading is strict: what is written in another way is not recognised, and a text that names
//! the token's setting and is not recognised is not for Postgres.

use super::lexer::{Token, Tokens};
use super::names::Part;

/// What a text is to the session's identity.
pub enum Mention {
    /// Nothing.
    None,
    /// It names the token's setting in a way that is not known: it may hold a token.
    Unknown,
    /// It is such a statement.
    Statement(Box<Identification>),
}

/// A statement by which a client says who it is.
#[derive(Clone)]
pub struct Identification {
    /// What the client wants.
    pub wish: Wish,
    /// What Postgres gets in its place. It holds no token.
    pub text: Vec<u8>,
}

/// What the client wants. No `Debug`: it may hold a token.
#[derive(Clone)]
pub enum Wish {
    /// To be whom a token names.
    Token(Argument, Flag),
    /// To act for a tenant among those that its token allows.
    Tenant(Argument),
    /// To be whom its login made it.
    Reset(Flag),
}

/// A text in a statement.
#[derive(Clone)]
pub enum Argument {
    /// Written there.
    Text(String),
    /// The parameter of that number, from 1.
    Parameter(usize),
}

/// Whether it holds until the end of the transaction only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flag {
    /// As it says.
    Is(bool),
    /// As the parameter of that number says.
    Parameter(usize),
}

/// Whether a text may be about the session's identity: a quick look, for every text.
pub fn may_mention(text: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.iter().position(is_sign)) {
        at += found;
        let is_here = match text.get(at) {
            Some(b'_') => behind(text, at, b"_tenant") && at >= 3 && behind(text, at - 3, b"set"),
            _ => behind(text, at, b"jwt") && contains(text, b"cloison"),
        };
        if is_here {
            return true;
        }
        at += 1;
    }
    false
}

/// What no text without the words has many of.
const fn is_sign(byte: &u8) -> bool {
    matches!(byte, b'_' | b'j' | b'J')
}

fn behind(text: &[u8], at: usize, word: &[u8]) -> bool {
    text.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Reads a text of one statement, in an encoding that has ASCII for ASCII. The text is not to have
/// a second statement: then it is `Unknown` if it names the token's setting.
pub fn mention(text: &[u8]) -> Mention {
    if !may_mention(text) {
        return Mention::None;
    }
    if let Some(found) = read(text) {
        return Mention::Statement(Box::new(found));
    }
    let names_token = contains(text, b"cloison") && contains(text, b"jwt");
    if names_token && !only_asks(text) { Mention::Unknown } else { Mention::None }
}

/// `SHOW cloison.jwt` and `SELECT current_setting('cloison.jwt')`: Postgres has nothing to show.
fn only_asks(text: &[u8]) -> bool {
    let mut reader = Reader::new(text);
    let asks = if reader.word("show") {
        reader.setting()
    } else {
        let is_call = reader.word("select") && {
            reader.schema(&["pg_catalog"]);
            reader.name("current_setting") && reader.token(Token::Open) && reader.names_token()
        };
        if is_call && reader.token(Token::Comma) && !reader.word("true") {
            reader.word("false");
        }
        is_call && reader.token(Token::Close)
    };
    asks && reader.ends()
}

fn read(text: &[u8]) -> Option<Identification> {
    let mut reader = Reader::new(text);
    if reader.word("set") {
        reader.set()
    } else if reader.word("reset") {
        let text = b"reset cloison.context".to_vec();
        let is_it = reader.setting() && reader.ends();
        is_it.then_some(Identification { wish: Wish::Reset(Flag::Is(false)), text })
    } else if reader.word("select") {
        reader.select()
    } else {
        None
    }
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    text: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { tokens: Tokens::new(text), text }
    }

    fn part(&self) -> Part<'a> {
        Part { token: self.tokens.token(), bytes: self.tokens.bytes() }
    }

    fn accept(&mut self, is_next: bool) -> bool {
        if is_next {
            self.tokens.advance();
        }
        is_next
    }

    fn word(&mut self, word: &str) -> bool {
        let is_next = self.part().is_word(word);
        self.accept(is_next)
    }

    fn name(&mut self, name: &str) -> bool {
        let is_next = self.part().is(name.as_bytes());
        self.accept(is_next)
    }

    fn token(&mut self, token: Token) -> bool {
        let is_next = self.tokens.token() == token;
        self.accept(is_next)
    }

    /// Goes past a schema and its dot, if there is one of these.
    fn schema(&mut self, schemas: &[&str]) {
        if schemas.iter().any(|schema| self.name(schema)) {
            self.token(Token::Dot);
        }
    }

    fn ends(&mut self) -> bool {
        while self.token(Token::Semicolon) {}
        self.tokens.token() == Token::End
    }

    /// The token's setting, whose name Postgres compares without regard to case.
    fn setting(&mut self) -> bool {
        let is_class = self.setting_word(b"cloison") && self.token(Token::Dot);
        is_class && self.setting_word(b"jwt")
    }

    fn setting_word(&mut self, word: &[u8]) -> bool {
        let part = self.part();
        let is_name = matches!(part.token, Token::Word | Token::Name);
        self.accept(is_name && part.bytes.eq_ignore_ascii_case(word))
    }

    /// The same as a text.
    fn names_token(&mut self) -> bool {
        let is_it = self.literal().is_some_and(|name| name.eq_ignore_ascii_case("cloison.jwt"));
        self.accept(is_it)
    }

    /// What a plain string constant holds.
    fn literal(&self) -> Option<String> {
        if self.tokens.token() != Token::String {
            return None;
        }
        let quoted = std::str::from_utf8(self.tokens.bytes()).ok()?;
        let inner = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
        // Whether a backslash means itself is a setting's affair; what goes on in the next line is
        // nobody's habit.
        let is_plain = !inner.contains('\\') && !inner.replace("''", "").contains('\'');
        is_plain.then(|| inner.replace("''", "'"))
    }

    /// A text or a parameter, with or without a cast.
    fn argument(&mut self) -> Option<Argument> {
        let argument = if self.tokens.token() == Token::Parameter {
            Argument::Parameter(self.number()?)
        } else {
            Argument::Text(self.literal()?)
        };
        self.tokens.advance();
        self.cast()?;
        Some(argument)
    }

    fn number(&self) -> Option<usize> {
        std::str::from_utf8(self.tokens.bytes().get(1..)?).ok()?.parse().ok()
    }

    fn cast(&mut self) -> Option<()> {
        if !self.token(Token::Cast) {
            return Some(());
        }
        self.schema(&["pg_catalog"]);
        let types = ["text", "varchar", "uuid", "bool", "boolean", "unknown"];
        if self.word("character") {
            return self.word("varying").then_some(());
        }
        types.iter().any(|name| self.name(name)).then_some(())
    }

    fn flag(&mut self) -> Option<Flag> {
        if self.word("true") {
            return Some(Flag::Is(true));
        }
        if self.word("false") {
            return Some(Flag::Is(false));
        }
        match self.argument()? {
            Argument::Text(text) => boolean(text.as_bytes()).map(Flag::Is),
            Argument::Parameter(number) => Some(Flag::Parameter(number)),
        }
    }

    /// What stands behind `SET`.
    fn set(&mut self) -> Option<Identification> {
        let is_local = self.word("local");
        if !is_local {
            self.word("session");
        }
        let is_assigned = self.setting() && (self.token(Token::Symbol(b'=')) || self.word("to"));
        if !is_assigned {
            return None;
        }
        let (wish, value) = if self.word("default") {
            (Wish::Reset(Flag::Is(is_local)), "to default")
        } else {
            let token = self.literal()?;
            self.tokens.advance();
            (Wish::Token(Argument::Text(token), Flag::Is(is_local)), "= ''")
        };
        let local = if is_local { "local " } else { "" };
        let text = format!("set {local}cloison.context {value}").into_bytes();
        self.ends().then_some(Identification { wish, text })
    }

    /// What stands behind `SELECT`.
    fn select(&mut self) -> Option<Identification> {
        let is_table = self.token(Token::Symbol(b'*'));
        if is_table && !self.word("from") {
            return None;
        }
        self.schema(&["cloison", "public", "pg_catalog"]);
        if self.name("set_tenant") {
            return self.set_tenant(is_table);
        }
        let is_call = !is_table && self.name("set_config") && self.token(Token::Open);
        if is_call { self.set_config() } else { None }
    }

    fn set_tenant(&mut self, is_table: bool) -> Option<Identification> {
        if !self.token(Token::Open) {
            return None;
        }
        let start = self.tokens.start();
        let tenant = self.argument()?;
        let argument = self.text.get(start..self.tokens.start())?;
        if !self.token(Token::Close) {
            return None;
        }
        let alias = self.alias()?.unwrap_or(b"set_tenant");
        let from: &[u8] = if is_table { b"* from " } else { b"" };
        // Returns nothing, as the function of that name does.
        let mut text = [b"select ", from, b"pg_catalog.pg_sleep(0) as ", alias].concat();
        if let Argument::Parameter(_) = tenant {
            // The client asks for its type, and binds it.
            let cast: &[u8] = if contains(argument, b"::") { b"" } else { b"::pg_catalog.text" };
            let parts: [&[u8]; 5] = [&text, b" where (", argument, cast, b") is null or true"];
            text = parts.concat();
        }
        self.ends().then_some(Identification { wish: Wish::Tenant(tenant), text })
    }

    fn set_config(&mut self) -> Option<Identification> {
        let name = self.tokens.start()..self.tokens.end();
        if !self.names_token() || !self.token(Token::Comma) {
            return None;
        }
        let (start, end) = (self.tokens.start(), self.tokens.end());
        let token = self.argument()?;
        if !self.token(Token::Comma) {
            return None;
        }
        let local = self.flag()?;
        if !self.token(Token::Close) {
            return None;
        }
        self.alias()?;
        // An empty one is none: what pools send to take it away.
        let wish = match &token {
            Argument::Text(text) if text.is_empty() => Wish::Reset(local),
            Argument::Text(_) | Argument::Parameter(_) => Wish::Token(token, local),
        };
        let part = |from, to| self.text.get(from..to);
        let value = match &wish {
            Wish::Token(Argument::Parameter(_), _) => part(start, end)?,
            Wish::Token(..) | Wish::Tenant(_) | Wish::Reset(_) => b"''",
        };
        let before = part(0, name.start)?;
        let between = part(name.end, start)?;
        let text =
            [before, b"'cloison.context'", between, value, part(end, self.text.len())?].concat();
        self.ends().then_some(Identification { wish, text })
    }

    /// The name of the only column, if it is given one. `None`: something else stands there.
    fn alias(&mut self) -> Option<Option<&'a [u8]>> {
        let is_named = self.word("as");
        let is_name = matches!(self.tokens.token(), Token::Word | Token::Name);
        if !is_name {
            return (!is_named).then_some(None);
        }
        let name = self.text.get(self.tokens.start()..self.tokens.end());
        self.tokens.advance();
        Some(name)
    }
}

/// How Postgres reads the usual words for a truth value.
pub fn boolean(text: &[u8]) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    if is(["t", "true", "on", "yes", "1"]) {
        Some(true)
    } else if is(["f", "false", "off", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wish in few words, and what Postgres gets.
    fn seen(text: &str) -> (String, String) {
        let found = match mention(text.as_bytes()) {
            Mention::None => return ("none".to_owned(), String::new()),
            Mention::Unknown => return ("unknown".to_owned(), String::new()),
            Mention::Statement(found) => found,
        };
        let argument = |argument: &Argument| match argument {
            Argument::Text(text) => text.clone(),
            Argument::Parameter(number) => format!("${number}"),
        };
        let wish = match &found.wish {
            Wish::Token(token, local) => format!("token {} {local:?}", argument(token)),
            Wish::Tenant(tenant) => format!("tenant {}", argument(tenant)),
            Wish::Reset(local) => format!("reset {local:?}"),
        };
        (wish, String::from_utf8(found.text).unwrap())
    }

    #[track_caller]
    fn check(text: &str, wish: &str, instead: &str) {
        assert_eq!(seen(text), (wish.to_owned(), instead.to_owned()), "{text}");
    }

    #[test]
    fn a_token_is_taken_out_of_what_postgres_gets() {
        let set = "set cloison.context = ''";
        check("SET cloison.jwt = 'a.b.c'", "token a.b.c Is(false)", set);
        check("set session Cloison.JWT to 'a.b.c' ; ", "token a.b.c Is(false)", set);
        check("/* x */ set \"cloison\" . \"jwt\"='a''b'", "token a'b Is(false)", set);
        let local = "set local cloison.context = ''";
        check("SET LOCAL cloison.jwt = 'a'", "token a Is(true)", local);
        check(
            "select set_config('cloison.jwt', $1, true)",
            "token $1 Is(true)",
            "select set_config('cloison.context', $1, true)",
        );
        check(
            "SELECT pg_catalog.set_config('cloison.jwt', 'tok', $2::bool) AS x;",
            "token tok Parameter(2)",
            "SELECT pg_catalog.set_config('cloison.context', '', $2::bool) AS x;",
        );
        check(
            "select set_config('cloison.jwt', $1::text, 'f')",
            "token $1 Is(false)",
            "select set_config('cloison.context', $1::text, 'f')",
        );
    }

    #[test]
    fn an_identity_is_given_up() {
        check("reset cloison.jwt", "reset Is(false)", "reset cloison.context");
        check("set cloison.jwt to default", "reset Is(false)", "set cloison.context to default");
        check(
            "select set_config('cloison.jwt', '', false)",
            "reset Is(false)",
            "select set_config('cloison.context', '', false)",
        );
    }

    #[test]
    fn a_tenant_is_chosen() {
        let sleep = "select pg_catalog.pg_sleep(0) as set_tenant";
        check("SELECT set_tenant('acme')", "tenant acme", sleep);
        check("select public.set_tenant('acme'::uuid);", "tenant acme", sleep);
        check("select cloison.\"set_tenant\"('acme')", "tenant acme", sleep);
        let asks = " where ($1::pg_catalog.text) is null or true";
        check("select set_tenant($1)", "tenant $1", &format!("{sleep}{asks}"));
        check(
            "select set_tenant($1::VARCHAR) AS set_tenant_1",
            "tenant $1",
            "select pg_catalog.pg_sleep(0) as set_tenant_1 where ($1::VARCHAR) is null or true",
        );
        let table = "select * from pg_catalog.pg_sleep(0) as set_tenant";
        check("SELECT * FROM set_tenant('acme')", "tenant acme", table);
    }

    #[test]
    fn whatever_else_may_hold_a_token_is_not_for_postgres() {
        for text in [
            "set cloison.jwt = 'a'; select 1",
            "select set_config('cloison.jwt', 'a' || 'b', true)",
            "select set_config('cloison.jwt', 'a', true), 1",
            "with x as (select set_config('cloison.jwt', 'a', true)) select * from x",
            "do $$ begin perform set_config('cloison.jwt', 'a', true); end $$",
            "set cloison.jwt = E'a'",
            "set cloison.jwt = $$a$$",
            "set cloison.jwt = 'a\\b'",
            "set cloison.jwt = abc",
            "prepare p as select set_config('cloison.jwt', $1, true)",
            "alter role x set cloison.jwt = 'a'",
            "set cloison.jwt = 'a'\n'b'",
            "set cloison.jwt",
        ] {
            assert_eq!(seen(text).0, "unknown", "{text}");
        }
    }

    #[test]
    fn what_only_asks_passes_and_what_chooses_oddly_is_left_to_postgres() {
        for text in [
            "show cloison.jwt",
            "select current_setting('cloison.jwt', true)",
            "select 1",
            "select jwt from tokens",
            "select * from settenant",
            "select set_tenant('a'), set_tenant('b')",
            "select set_tenant((select slug from t))",
            "call set_tenant('a')",
            "select other.set_tenant('a')",
            "select set_tenant('a') from t",
        ] {
            assert_eq!(seen(text).0, "none", "{text}");
        }
    }
}
