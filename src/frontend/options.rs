//! Reads the startup parameter `options`, which holds command-line arguments for a backend.
//!
//! Manual: libpq's connection parameter `options`, and "postgres", options `-c` and `--name`.

use crate::scan;

/// Splits `options` into settings.
///
/// Words end at blanks; a backslash takes away the meaning of the character after it.
///
/// # Errors
///
/// The argument that is not a setting.
pub(super) fn parse(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or_else(|| word.clone())?
        } else if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else if let Some(short) = word.strip_prefix("-c") {
            short.to_owned()
        } else {
            return Err(word);
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(assignment);
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        scan::step(1);
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            blank if blank.is_ascii_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: &str, expected: Result<&[(&str, &str)], &str>) {
        let expected = expected
            .map(|pairs| pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect())
            .map_err(str::to_owned);
        assert_eq!(parse(options), expected, "{options:?}");
    }

    #[test]
    fn the_work_is_linear() {
        scan::tests::is_linear("options", |text| {
            let _ = parse(&String::from_utf8_lossy(text));
        });
    }

    #[test]
    fn settings_are_read_as_postgres_reads_them() {
        check("", Ok(&[]));
        check("-c a=1 -cb=2 --c-d=3", Ok(&[("a", "1"), ("b", "2"), ("c_d", "3")]));
        check(r"-c search_path=a\ b", Ok(&[("search_path", "a b")]));
        check("  -c\ta=  ", Ok(&[("a", "")]));
        check("-c", Err("-c"));
        check("-c a", Err("a"));
        check("-e", Err("-e"));
        check("x", Err("x"));
    }
}
