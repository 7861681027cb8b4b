//! Texts of a token, as the log may show them: quoted, on one line, and cut where they are long.

/// Most characters of one text.
const MOST: usize = 120;

/// Most texts of a list.
const MOST_ITEMS: usize = 3;

/// A text in quotes; control characters are escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut cut = text.chars();
    let start: String = cut.by_ref().take(MOST).collect();
    let more = if cut.next().is_some() { " and more" } else { "" };
    format!("{start:?}{more}")
}

/// Some texts, quoted.
pub(super) fn quoted_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut texts = texts.into_iter();
    let shown: Vec<String> = texts.by_ref().take(MOST_ITEMS).map(quoted).collect();
    match (shown.is_empty(), texts.count()) {
        (true, _) => "an empty list".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The difference of two texts, if it is easily overlooked.
pub(super) fn little_difference(one: &str, other: &str) -> Option<&'static str> {
    let plain = |text: &str| text.trim().trim_end_matches('/').to_owned();
    if one == other {
        None
    } else if one.trim_end_matches('/') == other.trim_end_matches('/') {
        Some(" (they differ only in a slash at the end)")
    } else if plain(one).eq_ignore_ascii_case(&plain(other)) {
        Some(" (they differ only in case, blanks or a slash at the end)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_short_and_on_one_line() {
        assert_eq!(quoted("a\n\"b\u{1b}"), r#""a\n\"b\u{1b}""#);
        assert_eq!(quoted(&"x".repeat(120)), format!("\"{}\"", "x".repeat(120)));
        assert_eq!(quoted(&"\0".repeat(9_000)).len(), 2 + 120 * 2 + " and more".len());
        assert_eq!(quoted_list(["a", "b", "c", "d", "e"]), r#""a", "b", "c" and 2 more"#);
        assert_eq!(quoted_list([]), "an empty list");
    }

    #[test]
    fn a_slash_is_not_overlooked() {
        let slash = Some(" (they differ only in a slash at the end)");
        assert_eq!(little_difference("https://a.io", "https://a.io/"), slash);
        assert_eq!(little_difference("https://a.io/", "https://a.io"), slash);
        assert!(little_difference("https://A.io", "https://a.io/").is_some());
        assert_eq!(little_difference("https://a.io", "https://a.io"), None);
        assert_eq!(little_difference("https://a.io", "https://b.io"), None);
    }
}
