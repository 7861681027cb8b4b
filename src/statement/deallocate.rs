//! `DEALLOCATE` and `EXECUTE`: the names of prepared statements in SQL.

use std::ops::Range;

use super::Kind;
use super::control::Reader;
use super::lexer::{Token, Tokens};

/// Which prepared statements a `DEALLOCATE` drops.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Deallocated {
    /// Every one.
    All,
    /// The one of this name.
    One(Box<[u8]>),
}

impl Reader<'_, '_> {
    /// Reads what stands behind `DEALLOCATE`.
    pub(super) fn deallocate(&mut self) -> Option<Kind> {
        let is_prepare = self.accept("prepare");
        // A statement may have that name.
        if is_prepare && self.tokens.is_at_end() {
            return Some(Kind::Deallocate(Deallocated::One((*b"prepare").into())));
        }
        if self.accept("all") {
            return Some(Kind::Deallocate(Deallocated::All));
        }
        let name = self.identifier()?;
        Some(Kind::Deallocate(Deallocated::One(name.into())))
    }
}

/// The name in an `EXECUTE`, where it stands in the text, and whether its values are constants.
/// `None`: the text is another statement.
pub fn executed(text: &[u8]) -> Option<(Vec<u8>, Range<usize>, bool)> {
    let mut tokens = Tokens::new(text);
    let mut reader = Reader { tokens: &mut tokens };
    reader.expect("execute")?;
    let start = reader.tokens.start();
    let name = reader.identifier()?;
    // Blanks and comments behind the name may go with it.
    let end = reader.tokens.start();
    let mut is_plain = true;
    while !tokens.is_at_end() {
        is_plain &= matches!(
            tokens.token(),
            Token::Open
                | Token::Close
                | Token::Comma
                | Token::Number
                | Token::String
                | Token::Symbol(b'-')
        );
        tokens.advance();
    }
    (tokens.token() != Token::Unreadable).then_some((name, start..end, is_plain))
}

#[cfg(test)]
mod tests {
    use super::super::{Lexis, Surroundings};
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let lexis = Lexis { standard_strings: true, safe_encoding: true };
        let found = super::super::next(text.as_bytes(), lexis, &Surroundings::default());
        let one = |dropped| match dropped {
            Deallocated::All => "*".to_owned(),
            Deallocated::One(name) => String::from_utf8(name.into()).unwrap(),
        };
        let kind = found.reading.kind;
        let name = if let Kind::Deallocate(dropped) = kind { Some(one(dropped)) } else { None };
        assert_eq!(name.as_deref(), expected, "{text}");
    }

    #[test]
    fn names_are_read_as_postgres_reads_them() {
        check("deallocate s", Some("s"));
        check(" /* x */ DEALLOCATE -- x\n PREPARE Find_User ; ", Some("find_user"));
        check("deallocate \"my query\"", Some("my query"));
        check("deallocate \"q\"\"x\"", Some("q\"x"));
        check("deallocate U&\"q\\0022x\"", Some("q\"x"));
        check("deallocate U&\"q!0022x\" uescape '!'", Some("q\"x"));
        check("deallocate\"a;b\"", Some("a;b"));
        check("deallocate été", Some("été"));
        check("deallocate prepare", Some("prepare"));
        check("deallocate prepare prepare", Some("prepare"));
        check("deallocate \"all\"", Some("all"));
        check("deallocate all", Some("*"));
        check("\n deallocate prepare ALL;", Some("*"));
        for text in ["deallocate", "deallocate a b", "deallocate 'a'", "deallocate a.b"] {
            check(text, None);
        }
    }

    #[test]
    fn the_name_of_execute_is_found() {
        let found = |text: &str| {
            let (name, range, is_plain) = executed(text.as_bytes())?;
            let text = format!("{}={}", String::from_utf8(name).unwrap(), &text[range]);
            Some((text, is_plain))
        };
        assert_eq!(found("execute s"), Some(("s=s".to_owned(), true)));
        assert_eq!(found(" execute \"a b\"(1, 'x')"), Some(("a b=\"a b\"".to_owned(), true)));
        assert_eq!(found("execute s(f(1))"), Some(("s=s".to_owned(), false)));
        assert_eq!(found("select 1"), None);
        assert_eq!(found("execute s('"), None);
    }
}
