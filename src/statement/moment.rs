//! Texts that mean the moment at which they were parsed.

use crate::scan;

/// Input of dates and times that stands for a moment (manual: "Special Values" of date and time).
const MOMENTS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// Whether a text may hold a constant such as `'now'` or `'today 12:00'`, which Postgres turns into
/// a time when it parses the text: it means another one for whoever parses it later.
pub fn may_mean_a_moment(text: &[u8]) -> bool {
    if !scan::contains(text, b'\'') && !scan::contains(text, b'$') {
        return false;
    }
    let mut rest = text;
    while let Some(at) = scan::position(rest, is_letter) {
        let word = rest.get(at..).unwrap_or_default();
        let end = scan::position(word, |byte| !is_letter(byte)).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        let is_moment = MOMENTS.iter().any(|moment| word.eq_ignore_ascii_case(moment));
        // now() is the beginning of its transaction, whoever has parsed it.
        if is_moment && behind.first() != Some(&b'(') {
            return true;
        }
        rest = behind;
    }
    false
}

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_that_mean_a_moment_are_found() {
        for text in [
            "select 'now'::timestamptz",
            "select date 'Today'",
            "select ' tomorrow 12:00'::timestamp",
            "select $$yesterday$$::date",
            "insert into t values ($1, 'NOW')",
        ] {
            assert!(may_mean_a_moment(text.as_bytes()), "{text}");
        }
        for text in [
            "select now()",
            "select now(), 'a'",
            "select 'nowhere', 'is_today', 'know'",
            "select today from t",
        ] {
            assert!(!may_mean_a_moment(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_work_is_linear() {
        scan::tests::is_linear("moment", |text| _ = may_mean_a_moment(text));
    }
}
