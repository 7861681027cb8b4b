//! What a `COPY … FROM STDIN` names: the table, the columns, and two of its options.
//!
//! Only so that its data can go to another place first. Where the rows may go, Postgres decides as
//! it takes them from there.

use std::ops::Range;

use super::lexer::{Token, Tokens};

/// What a `COPY … FROM STDIN` names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CopyFrom {
    /// Where the table and its columns stand in the text.
    pub target: Range<usize>,
    /// The table, as it is written, without blanks and comments.
    pub relation: Vec<u8>,
    /// The columns, as they are written.
    pub columns: Option<Vec<Vec<u8>>>,
    /// `DEFAULT`: a mark in the data stands for a column's default.
    pub fills: bool,
    /// `FREEZE`.
    pub freezes: bool,
}

impl CopyFrom {
    /// Reads one statement of this kind, without its semicolon; `None` if it is written in a way that
    /// is not known here.
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut tokens = Tokens::new(text);
        if !is_word(&tokens, b"copy") {
            return None;
        }
        tokens.advance();
        if is_word(&tokens, b"binary") {
            // As a name it could stand here in quotes only.
            tokens.advance();
        }
        let start = tokens.start();
        let mut end = tokens.end();
        let mut relation = identifier(text, &tokens)?;
        tokens.advance();
        while tokens.token() == Token::Dot {
            tokens.advance();
            relation.push(b'.');
            relation.extend(identifier(text, &tokens)?);
            end = tokens.end();
            tokens.advance();
        }
        let mut columns = None;
        if tokens.token() == Token::Open {
            columns = Some(list(text, &mut tokens)?);
            end = tokens.end();
            tokens.advance();
        }
        if !is_word(&tokens, b"from") {
            return None;
        }
        tokens.advance();
        let mut found =
            Self { target: start..end, relation, columns, fills: false, freezes: false };
        found.read_options(tokens);
        Some(found)
    }

    /// Reads on from `STDIN` to the statement's end, or to its `WHERE`.
    fn read_options(&mut self, mut tokens: Tokens<'_>) {
        let mut depth = 0_usize;
        let mut is_name = false;
        loop {
            if tokens.is_at_end() || depth == 0 && is_word(&tokens, b"where") {
                return;
            }
            let is_option = tokens.token() == Token::Word && (is_name || depth == 0);
            let is_freeze = is_option && is_word(&tokens, b"freeze");
            self.fills |= is_option && depth == 1 && is_word(&tokens, b"default");
            if tokens.token() == Token::Open {
                depth += 1;
            } else if tokens.token() == Token::Close {
                depth = depth.saturating_sub(1);
            }
            is_name = depth == 1 && matches!(tokens.token(), Token::Open | Token::Comma);
            tokens.advance();
            self.freezes |= is_freeze && !is_off(&tokens);
        }
    }
}

/// The list of names in the parentheses that `tokens` stands on; then it stands on their end.
fn list(text: &[u8], tokens: &mut Tokens<'_>) -> Option<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    loop {
        tokens.advance();
        names.push(identifier(text, tokens)?);
        tokens.advance();
        if tokens.token() == Token::Close {
            return Some(names);
        }
        if tokens.token() != Token::Comma {
            return None;
        }
    }
}

/// The identifier that `tokens` stands on, with its quotes; none with `U&`.
fn identifier(text: &[u8], tokens: &Tokens<'_>) -> Option<Vec<u8>> {
    let bytes = text.get(tokens.start()..tokens.end()).unwrap_or_default();
    let is_known = matches!(tokens.token(), Token::Word | Token::Name)
        || tokens.token() == Token::Escaped && bytes.first() == Some(&b'"');
    is_known.then(|| bytes.to_vec())
}

fn is_word(tokens: &Tokens<'_>, word: &[u8]) -> bool {
    tokens.token() == Token::Word && tokens.bytes().eq_ignore_ascii_case(word)
}

/// Whether `tokens` stands on a value that turns an option off.
fn is_off(tokens: &Tokens<'_>) -> bool {
    let off: [&[u8]; 6] = [b"false", b"off", b"0", b"'false'", b"'off'", b"'0'"];
    let is_value = matches!(tokens.token(), Token::Word | Token::Number | Token::String);
    is_value && off.iter().any(|value| tokens.bytes().eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, relation: &str, columns: Option<&[&str]>, target: &str) {
        let found = CopyFrom::read(text.as_bytes()).expect(text);
        assert_eq!(String::from_utf8_lossy(&found.relation), relation, "{text}");
        let names =
            columns.map(|names| names.iter().map(|name| name.as_bytes().to_vec()).collect());
        assert_eq!(found.columns, names, "{text}");
        assert_eq!(&text[found.target], target, "{text}");
    }

    #[test]
    fn the_target_is_found_as_it_is_written() {
        check("copy t from stdin", "t", None, "t");
        check(
            "/* a */ COPY public . \"T\"\n(a, \"b\")FROM STDIN",
            "public.\"T\"",
            Some(&["a", "\"b\""]),
            "public . \"T\"\n(a, \"b\")",
        );
        check(
            "copy binary d.s.t (\"a\"\"b\") from stdin",
            "d.s.t",
            Some(&["\"a\"\"b\""]),
            "d.s.t (\"a\"\"b\")",
        );
        check("copy t -- from x\n from stdin where a = 'from'", "t", None, "t");
        for text in [
            "copy (select 1) to stdout",
            "copy t to stdout",
            "copy u&\"t\" from stdin",
            "copy t (a b) from stdin",
            "copy t ( from stdin",
            "select 1",
            "",
        ] {
            assert_eq!(CopyFrom::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn options_are_told_from_values() {
        let read = |rest: &str| {
            let found = CopyFrom::read(format!("copy t from stdin {rest}").as_bytes()).unwrap();
            (found.freezes, found.fills)
        };
        for rest in [
            "",
            "(format csv, null 'freeze')",
            "(freeze off)",
            "(freeze 'false', header)",
            "where freeze",
            "csv null 'default'",
            "(force_null (freeze, \"default\"))",
        ] {
            assert_eq!(read(rest), (false, false), "{rest}");
        }
        for rest in ["freeze", "csv freeze", "with (format csv, freeze)", "(FREEZE true)"] {
            assert_eq!(read(rest), (true, false), "{rest}");
        }
        assert_eq!(read("(default '\\D', header)"), (false, true));
        assert_eq!(read("with (header, default 'x')"), (false, true));
    }

    #[test]
    fn the_work_is_linear() {
        crate::scan::tests::is_linear("copy", |text| {
            CopyFrom::read(&[b"copy t (", text].concat());
            CopyFrom::read(&[b"copy t from stdin ", text].concat());
        });
    }
}
