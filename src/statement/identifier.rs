//! Identifiers as Postgres reads them. Manual: "Identifiers and Key Words".

#![expect(clippy::wildcard_enum_match_arm, reason = "of other tokens nothing is known")]

use super::lexer::Token;
use super::names::Part;
use crate::scan;

/// Longer names are cut by Postgres.
const LONGEST: usize = 63;

/// The identifier that a token stands for: folded, without its quotes, with its escapes replaced by
/// what they stand for, and cut where Postgres cuts it. `None` if the token is no identifier, or one
/// that Postgres refuses.
///
/// `escape` is what `UESCAPE` says behind it; a backslash if nothing does.
pub(super) fn identifier(part: Part<'_>, escape: u8) -> Option<Vec<u8>> {
    scan::step(part.bytes.len());
    let mut name = match part.token {
        Token::Word => part.bytes.to_ascii_lowercase(),
        Token::Name => part.bytes.to_vec(),
        Token::Escaped => escaped(part.bytes, escape)?,
        _ => return None,
    };
    if name.len() > LONGEST {
        // Not in the middle of a character.
        let is_start = |at: &usize| name.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
        let end = (0..=LONGEST).rev().find(is_start).unwrap_or(LONGEST);
        name.truncate(end);
    }
    Some(name)
}

/// What stands between quotes, of which those inside are doubled.
fn escaped(token: &[u8], escape: u8) -> Option<Vec<u8>> {
    let (quoted, has_escapes) = match token {
        [b'u' | b'U', b'&', rest @ ..] => (rest, true),
        rest => (rest, false),
    };
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut name = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, behind)) = rest.split_first() {
        scan::step(1);
        rest = if byte == b'"' {
            name.push(byte);
            behind.strip_prefix(b"\"")?
        } else if has_escapes && byte == escape {
            unescape(behind, escape, &mut name)?
        } else {
            name.push(byte);
            behind
        };
    }
    Some(name)
}

/// Appends the character whose escape's rest `text` begins with. Gives what stands behind it.
fn unescape<'a>(text: &'a [u8], escape: u8, name: &mut Vec<u8>) -> Option<&'a [u8]> {
    if text.first() == Some(&escape) {
        name.push(escape);
        return text.get(1..);
    }
    let (digits, rest) = match text.strip_prefix(b"+") {
        Some(long) => long.split_at_checked(6)?,
        None => text.split_at_checked(4)?,
    };
    let digits = std::str::from_utf8(digits).ok()?;
    // Halves of a pair, too, are no characters here.
    let character = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
    if character == '\0' {
        return None;
    }
    name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

/// The character that a string constant behind `UESCAPE` names.
pub(super) fn escape_character(constant: &[u8]) -> Option<u8> {
    match *constant {
        [b'\'', character, b'\''] if character.is_ascii() => Some(character),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::lexer::Tokens;

    #[track_caller]
    fn check(token: &str, name: Option<&str>) {
        let tokens = Tokens::new(token.as_bytes());
        let part = Part { token: tokens.token(), bytes: tokens.bytes() };
        let found = identifier(part, b'\\').map(|name| String::from_utf8(name).unwrap());
        assert_eq!(found.as_deref(), name, "{token}");
    }

    #[test]
    fn identifiers_are_read_as_postgres_reads_them() {
        check("Abc_1$", Some("abc_1$"));
        check("\"Abc d\"", Some("Abc d"));
        check("\"a\"\"b\"", Some("a\"b"));
        check("\"\"\"\"", Some("\""));
        check("U&\"d\\0061t\\+000061\"", Some("data"));
        check("u&\"a\\\\b\"\"c\"", Some("a\\b\"c"));
        check("U&\"\\00e9t\\00E9\"", Some("été"));
        check("été", Some("été"));
        check("U&\"\\00\"", None);
        check("U&\"\\d800\\dc00\"", None);
        check("U&\"\\0000\"", None);
        check("1", None);
        check("'a'", None);
        check(&"x".repeat(70), Some(&"x".repeat(63)));
        check(&format!("\"{}é\"", "x".repeat(62)), Some(&"x".repeat(62)));
    }

    #[test]
    fn the_escape_may_be_another() {
        let part = Part { token: Token::Escaped, bytes: b"U&\"d!0061\"" };
        assert_eq!(identifier(part, b'!').as_deref(), Some(&b"da"[..]));
        assert_eq!(escape_character(b"'!'"), Some(b'!'));
        assert_eq!(escape_character(b"'ab'"), None);
    }
}
