//! How a statement about the session's identity is written.

use super::{Argument, Flag, Identification, Wish, boolean, contains};
use crate::scan;
use crate::statement::lexer::{Token, Tokens};
use crate::statement::names::Part;

/// `SHOW cloison.jwt` and `SELECT current_setting('cloison.jwt')`: Postgres has nothing to show.
pub(super) fn only_asks(text: &[u8]) -> bool {
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

/// Reads a text as such a statement.
pub(super) fn read(text: &[u8]) -> Option<Identification> {
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
        scan::step(4 * quoted.len());
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
