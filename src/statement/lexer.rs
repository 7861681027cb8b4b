//! Cuts SQL text into tokens as Postgres' own lexer does.
//!
//! Where majors disagree, or Postgres would refuse the text, the token is `Unreadable`. Manual:
//! "Lexical Structure".

use crate::scan;

/// What a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// `::`
    Cast,
    Close,
    Comma,
    Dot,
    /// The text is over.
    End,
    /// A quoted identifier whose content is not what stands between the quotes.
    Escaped,
    /// A quoted identifier; its bytes are without the quotes.
    Name,
    Number,
    Open,
    /// `$1`
    Parameter,
    Semicolon,
    /// A string constant of any sort.
    String,
    /// A single character of an operator, or another one that means something to the grammar.
    Symbol(u8),
    /// What Postgres refuses, or does not read the same in every major, or does not end.
    Unreadable,
    /// A keyword or an identifier without quotes.
    Word,
}

/// Reads one token after another, and stands on one.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    token: Token,
    /// Where the token starts.
    start: usize,
    /// Behind the token.
    end: usize,
}

impl<'a> Tokens<'a> {
    /// Stands on the text's first token.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut tokens = Self { text, token: Token::End, start: 0, end: 0 };
        tokens.advance();
        tokens
    }

    /// Goes to the next token. Behind the end, and behind what is unreadable, there is none.
    pub(super) fn advance(&mut self) {
        let Some(start) = self.skip_blanks() else {
            return self.give_up();
        };
        self.start = start;
        let Some(first) = self.byte(start) else {
            (self.token, self.end) = (Token::End, start);
            return;
        };
        match CLASSES.get(usize::from(first)).copied().unwrap_or(Class::Invalid) {
            Class::Letter => self.word(first),
            Class::Digit => self.number(),
            Class::Single => self.single(first),
            Class::Quote => self.string(start + 1, false),
            Class::DoubleQuote => self.name(start + 1, Token::Name),
            Class::Dollar => self.dollar(),
            Class::Blank | Class::Invalid => self.give_up(),
        }
    }

    pub(super) const fn token(&self) -> Token {
        self.token
    }

    /// Where the token starts.
    pub(super) const fn start(&self) -> usize {
        self.start
    }

    /// Behind the token.
    pub(super) const fn end(&self) -> usize {
        self.end
    }

    /// The token's text; of a `Name` what stands between the quotes.
    pub(super) fn bytes(&self) -> &'a [u8] {
        let cut = usize::from(self.token == Token::Name);
        self.text.get(self.start + cut..self.end - cut).unwrap_or_default()
    }

    /// Whether the token ends a statement.
    pub(super) const fn is_at_end(&self) -> bool {
        matches!(self.token, Token::Semicolon | Token::End | Token::Unreadable)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        scan::step(1);
        self.text.get(at).copied()
    }

    /// Everything from here on is one token that nobody can read.
    fn give_up(&mut self) {
        self.token = Token::Unreadable;
        self.end = self.text.len();
    }

    fn found(&mut self, token: Token, end: usize) {
        self.token = token;
        self.end = end;
    }

    /// Where the next token starts, or nothing if a comment does not end.
    fn skip_blanks(&mut self) -> Option<usize> {
        let mut at = self.end;
        loop {
            match self.byte(at) {
                Some(b' ') => at += 1,
                Some(byte) if is_blank(byte) => at += 1,
                Some(b'-') if self.byte(at + 1) == Some(b'-') => at = self.line_end(at),
                Some(b'/') if self.byte(at + 1) == Some(b'*') => at = self.comment_end(at)?,
                Some(_) | None => return Some(at),
            }
        }
    }

    fn line_end(&self, from: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        let length = scan::position(rest, |byte| matches!(byte, b'\n' | b'\r'));
        length.map_or(self.text.len(), |length| from + length)
    }

    /// Behind the comment that starts here. Comments nest.
    fn comment_end(&mut self, from: usize) -> Option<usize> {
        let (mut at, mut depth) = (from + 2, 1_usize);
        while depth > 0 {
            match (self.byte(at), self.byte(at + 1)) {
                (Some(b'/'), Some(b'*')) => (at, depth) = (at + 2, depth + 1),
                (Some(b'*'), Some(b'/')) => (at, depth) = (at + 2, depth - 1),
                (Some(_), _) => at += 1,
                (None, _) => {
                    self.start = from;
                    return None;
                }
            }
        }
        Some(at)
    }

    /// An identifier, or a string or a quoted identifier with a letter before it.
    fn word(&mut self, first: u8) {
        let (second, third) = (self.byte(self.start + 1), self.byte(self.start + 2));
        match (first | 0x20, second, third) {
            (b'e', Some(b'\''), _) => self.string(self.start + 2, true),
            (b'b' | b'n' | b'x', Some(b'\''), _) => self.string(self.start + 2, false),
            (b'u', Some(b'&'), Some(b'\'')) => self.string(self.start + 3, false),
            (b'u', Some(b'&'), Some(b'"')) => self.name(self.start + 3, Token::Escaped),
            _ => self.found(Token::Word, self.word_end(self.start + 1)),
        }
    }

    fn word_end(&self, from: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        let length = scan::position(rest, |byte| !continues_word(byte));
        length.map_or(self.text.len(), |length| from + length)
    }

    /// A number without the majors' newer ways to write one: before 15, `1x` was two tokens.
    fn number(&mut self) {
        let mut at = self.digits_end(self.start);
        // `1..2` is a range, and no SQL.
        if self.byte(at) == Some(b'.') && self.byte(at + 1) != Some(b'.') {
            at = self.digits_end(at + 1);
        }
        if matches!(self.byte(at), Some(b'e' | b'E')) {
            let signed = matches!(self.byte(at + 1), Some(b'+' | b'-'));
            let digits = at + 1 + usize::from(signed);
            let end = self.digits_end(digits);
            if end == digits {
                return self.give_up();
            }
            at = end;
        }
        self.found_unless_glued(Token::Number, at);
    }

    fn digits_end(&self, from: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        let length = scan::position(rest, |byte| !byte.is_ascii_digit());
        length.map_or(self.text.len(), |length| from + length)
    }

    /// A number or a parameter, unless a name or another number is glued to it.
    fn found_unless_glued(&mut self, token: Token, end: usize) {
        match self.byte(end) {
            Some(byte) if continues_word(byte) => self.give_up(),
            Some(_) | None => self.found(token, end),
        }
    }

    fn single(&mut self, first: u8) {
        let next = self.byte(self.start + 1);
        let token = match first {
            b'(' => Token::Open,
            b')' => Token::Close,
            b',' => Token::Comma,
            b';' => Token::Semicolon,
            b':' if next == Some(b':') => return self.found(Token::Cast, self.start + 2),
            b'.' if next.is_some_and(|byte| byte.is_ascii_digit()) => return self.number(),
            b'.' => Token::Dot,
            symbol => Token::Symbol(symbol),
        };
        self.found(token, self.start + 1);
    }

    /// A string constant whose content starts at `at`.
    fn string(&mut self, mut at: usize, escapes: bool) {
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let stop = scan::position(rest, |byte| matches!(byte, b'\'' | b'\\'));
            let Some(stop) = stop.map(|length| at + length) else {
                return self.give_up();
            };
            at = match (self.byte(stop), self.byte(stop + 1)) {
                (Some(b'\\'), _) if escapes => stop + 2,
                (Some(b'\''), Some(b'\'')) => stop + 2,
                (Some(b'\''), _) => match self.continuation(stop + 1) {
                    Some(content) if escapes => content,
                    Some(_) | None => return self.found(Token::String, stop + 1),
                },
                _ => stop + 1,
            };
        }
    }

    /// The content of a string that goes on behind a line break, as the same sort of string.
    fn continuation(&self, mut at: usize) -> Option<usize> {
        let mut has_break = false;
        loop {
            match self.byte(at)? {
                b'\n' | b'\r' => has_break = true,
                b'\'' => return has_break.then_some(at + 1),
                b'-' if self.byte(at + 1) == Some(b'-') => {
                    at = self.line_end(at);
                    continue;
                }
                byte if is_blank(byte) => {}
                _ => return None,
            }
            at += 1;
        }
    }

    /// A quoted identifier whose content starts at `at`.
    fn name(&mut self, mut at: usize, mut token: Token) {
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let stop = scan::position(rest, |byte| byte == b'"');
            let Some(stop) = stop.map(|length| at + length) else {
                return self.give_up();
            };
            if self.byte(stop + 1) != Some(b'"') {
                return self.found(token, stop + 1);
            }
            (at, token) = (stop + 2, Token::Escaped);
        }
    }

    /// A parameter or a dollar-quoted string.
    fn dollar(&mut self) {
        let after = self.start + 1;
        let digits = self.digits_end(after);
        if digits > after {
            return self.found_unless_glued(Token::Parameter, digits);
        }
        let rest = self.text.get(after..).unwrap_or_default();
        let tag = scan::position(rest, |byte| !continues_word(byte) || byte == b'$');
        let Some(open) = tag.filter(|tag| rest.get(*tag) == Some(&b'$')) else {
            return self.give_up();
        };
        let content = after + open + 1;
        let quote = self.text.get(self.start..content).unwrap_or_default();
        let mut at = content;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let Some(length) = scan::position(rest, |byte| byte == b'$') else {
                return self.give_up();
            };
            at += length;
            if self.text.get(at..).is_some_and(|rest| scan::starts_with(rest, quote)) {
                return self.found(Token::String, at + quote.len());
            }
            at += 1;
        }
    }
}

/// What a byte can begin.
#[derive(Clone, Copy)]
enum Class {
    Blank,
    Digit,
    Dollar,
    DoubleQuote,
    Invalid,
    Letter,
    Quote,
    Single,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Invalid; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        classes[at] = match byte {
            byte if is_blank(byte) => Class::Blank,
            b'0'..=b'9' => Class::Digit,
            b'$' => Class::Dollar,
            b'"' => Class::DoubleQuote,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Class::Letter,
            b'\'' => Class::Quote,
            b'(' | b')' | b'[' | b']' | b',' | b';' | b':' | b'.' => Class::Single,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' => Class::Single,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Single,
            _ => Class::Invalid,
        };
        at += 1;
    }
    classes
};

/// Blank to any major: a vertical tab is since 16, and before is refused outside of quotes.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Whether a byte goes on with an identifier.
fn continues_word(byte: u8) -> bool {
    let class = CLASSES.get(usize::from(byte));
    matches!(class, Some(Class::Letter | Class::Digit | Class::Dollar))
}
