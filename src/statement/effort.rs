//! What Postgres' grammar does with more work, or more memory, than grows with a text's length.

use crate::scan;

use super::lexer::{Token, Tokens};

/// What is costly in a text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Effort {
    /// Parts of the longest name with dots. Where the grammar takes the name of a setting, it copies
    /// what it has of the name with each part, and frees nothing before the text's end.
    pub name_parts: usize,
    /// Bytes that are counted as characters because of `GLOBAL TEMPORARY`: with each, the grammar
    /// counts those ahead of it, for the place of a warning.
    pub counted: usize,
}

/// Names of so many parts are not worth a closer look at a text.
const FEW_PARTS: usize = 16;

/// Looks for what is costly. What the grammar refuses is not looked at.
pub fn effort(text: &[u8]) -> Effort {
    let dots = text.iter().filter(|byte| **byte == b'.').count();
    scan::step(text.len());
    let mut effort = Effort::default();
    if dots < FEW_PARTS && !scan::contains_word(text, b"global") {
        return effort;
    }
    // A number in one of the newer ways to write it is no end of the text.
    let mut from = 0;
    while let Some(number) = look(text, from, &mut effort) {
        from = number + 1;
    }
    effort
}

/// Looks at the text from there on. Gives where a number stands that could not be read.
fn look(text: &[u8], from: usize, effort: &mut Effort) -> Option<usize> {
    let rest = text.get(from..).unwrap_or_default();
    let mut tokens = Tokens::new(rest);
    let (mut parts, mut is_global, mut last) = (0, false, Token::End);
    loop {
        let token = tokens.token();
        let follows_global = std::mem::take(&mut is_global);
        match token {
            Token::End => return None,
            Token::Unreadable => {
                let first = rest.get(tokens.start())?;
                return first.is_ascii_digit().then_some(from + tokens.start());
            }
            Token::Dot => parts += 1,
            Token::Word | Token::Name | Token::Escaped => {
                if last != Token::Dot {
                    parts = 0;
                }
                let is = |word: &[u8]| tokens.bytes().eq_ignore_ascii_case(word);
                is_global = is(b"global");
                if follows_global && (is(b"temp") || is(b"temporary")) {
                    effort.counted = effort.counted.saturating_add(from + tokens.start());
                }
            }
            Token::Cast
            | Token::Close
            | Token::Comma
            | Token::Number
            | Token::Open
            | Token::Parameter
            | Token::Semicolon
            | Token::String
            | Token::Symbol(_) => parts = 0,
        }
        effort.name_parts = effort.name_parts.max(parts + 1);
        last = token;
        tokens.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, name_parts: usize, counted: usize) {
        assert_eq!(effort(text.as_bytes()), Effort { name_parts, counted }, "{text}");
    }

    #[test]
    fn parts_of_names_are_counted_however_they_are_written() {
        let long = |part: &str| part.repeat(40);
        check("set a.b = 1", 0, 0);
        check(&format!("set {}a = 1", long("a.")), 41, 0);
        check(&format!("set {}a = 1", long("a . ")), 41, 0);
        check(&format!("set {}a = 1", long("\"a.b\"/*;*/.--x\n")), 41, 0);
        check(&format!("select 0x1f, 1_0; set {}a = 1", long("u&\"a\".")), 41, 0);
        check(&format!("select {}1", long("a.b, ")), 2, 0);
        check(&format!("select a from a where {}a.b", long("a.b and ")), 2, 0);
        check(&format!("select '{}'", long("a.")), 1, 0);
        check(&format!("select 1.5{}", long(" + 1.5")), 1, 0);
    }

    #[test]
    fn what_is_counted_ahead_of_a_warning_is_added_up() {
        check("create global temp table a()", 1, 14);
        check("create GLOBAL /**/ Temporary table a(); create global temp table b()", 1, 19 + 54);
        check("select 'global temp', global, temp", 1, 0);
    }
}
