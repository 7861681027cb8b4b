//! `DEALLOCATE`, by which older drivers drop what they have prepared by the protocol.

use super::from_client::Parts;
use crate::statement::Kind;

/// Whether a statement is `DEALLOCATE` of a name that the client gave by the protocol: as it was
/// not given to the server, the server is not asked to take it back.
pub(super) fn deallocate(kind: &Kind, text: &[u8], parts: &mut Parts<'_>) -> bool {
    const PREFIX: &[u8] = b"deallocate";
    let is_one = *kind == Kind::Other
        && text.get(..PREFIX.len()).is_some_and(|word| word.eq_ignore_ascii_case(PREFIX));
    let Some(words) = is_one.then_some(text).and_then(|text| std::str::from_utf8(text).ok()) else {
        return false;
    };
    let mut words = words.trim_end_matches(';').split_ascii_whitespace().skip(1).peekable();
    words.next_if(|word| word.eq_ignore_ascii_case("prepare"));
    let (Some(name), None) = (words.next(), words.next()) else { return false };
    let folded = name.to_ascii_lowercase();
    if folded == "all" {
        // The server may hold some that SQL has prepared.
        parts.names.clear();
        parts.in_band.asking.clear();
        return false;
    }
    let name = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted,
        None => folded.as_str(),
    };
    parts.in_band.asking.forget(name.as_bytes());
    parts.names.remove(name.as_bytes()).is_some()
}
