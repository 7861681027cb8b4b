//! Where in a text a syntax error is, so that `psql` can point at it.
//!
//! The binding tells the parser's message and not its position. The message quotes the token at
//! which it stopped; the right one of its occurrences is the first up to which the text is a
//! beginning of something.

use crate::scan;

/// Of a longer text, or of a token that stands in it more often, nobody is told.
const LONGEST: usize = 16 * 1024;
const MOST_OCCURRENCES: usize = 16;

/// So many bytes may be parsed for it.
const MOST_PARSED: usize = 64 * 1024;

const AT: &str = " at or near \"";
const AT_END: &str = " at end of input";

/// In characters from 1.
pub(super) fn position(text: &str, message: &str) -> Option<usize> {
    if text.len() > LONGEST {
        return None;
    }
    if message.ends_with(AT_END) {
        return Some(text.chars().count() + 1);
    }
    let (_, token) = message.split_once(AT)?;
    let token = token.strip_suffix('"')?;
    let occurrences = || text.match_indices(token).map(|(at, _)| at);
    let is_alone = occurrences().count() == 1;
    let at = occurrences()
        .take(MOST_OCCURRENCES.min(MOST_PARSED / text.len().max(1)))
        .find(|at| is_alone || stops_at(text, at + token.len(), message))?;
    Some(text.get(..at)?.chars().count() + 1)
}

/// Whether the parser stops with the same message when the text ends there.
fn stops_at(text: &str, end: usize, message: &str) -> bool {
    let beginning = text.get(..end).unwrap_or_default();
    scan::step(beginning.len());
    match pg_raw_parse::parse(beginning) {
        Err(pg_raw_parse::Error::Parse(error)) => error.to_string() == message,
        _ => false,
    }
}
