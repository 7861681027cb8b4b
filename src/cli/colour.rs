//! Whether what people read is coloured, and how: one place decides for every verb.
//!
//! Colour is added last, to text that is laid out already, and never to what a program reads.

use std::env;
use std::io::{self, IsTerminal, Write};

/// Whether standard output is coloured.
pub fn of_stdout() -> bool {
    is_wanted(io::stdout().is_terminal(), |name| env::var_os(name).map(|v| v.len()))
}

/// Whether standard error is coloured.
pub fn of_stderr() -> bool {
    is_wanted(io::stderr().is_terminal(), |name| env::var_os(name).map(|v| v.len()))
}

/// On a terminal that can show it, and unless `NO_COLOR` is set to anything (no-color.org).
fn is_wanted(is_terminal: bool, length_of: impl Fn(&str) -> Option<usize>) -> bool {
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    is_terminal && !is_dumb && length_of("NO_COLOR").is_none_or(|length| length == 0)
}

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Signs of a check, wherever they stand.
const SIGNS: &[(&str, &str)] = &[("✓", GREEN), ("✗", RED), ("○", YELLOW)];

/// Beginnings of lines, and their colours.
const BEGINNINGS: &[(&str, &str)] = &[
    ("LEVEL ", BOLD),
    ("critical", RED),
    ("warning", YELLOW),
    ("info", DIM),
    ("accepted", DIM),
    ("stage ", BOLD),
    ("fix:", GREEN),
    ("remedy:", GREEN),
    ("key:", DIM),
    ("error:", RED),
    ("Usage:", BOLD),
    ("Commands:", BOLD),
    ("Arguments:", BOLD),
    ("Options:", BOLD),
];

/// Prints what clap says of the command line, on the stream that it belongs on.
///
/// # Errors
///
/// The stream is closed.
pub fn print_help(text: &str, is_error: bool) -> io::Result<()> {
    if is_error {
        io::stderr().write_all(page(text, of_stderr()).as_bytes())
    } else {
        io::stdout().write_all(page(text, of_stdout()).as_bytes())
    }
}

/// The same text with colours, if they are wanted.
pub fn page(text: &str, is_wanted: bool) -> String {
    if !is_wanted {
        return text.to_owned();
    }
    text.split_inclusive('\n').map(line).collect()
}

fn line(line: &str) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let (space, rest) = line.split_at(indent);
    let begins = BEGINNINGS.iter().find(|(word, _)| rest.starts_with(word));
    let rest = match begins {
        Some((word, colour)) => {
            format!("{colour}{word}{PLAIN}{}", rest.strip_prefix(word).unwrap_or_default())
        }
        None => rest.to_owned(),
    };
    let coloured = SIGNS
        .iter()
        .fold(rest, |rest, (sign, colour)| rest.replace(sign, &format!("{colour}{sign}{PLAIN}")));
    format!("{space}{coloured}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_gets_colour_and_only_if_it_is_wanted() {
        for (is_terminal, no_color, expected) in [
            (true, None, true),
            (true, Some(0), true),
            (true, Some(1), false),
            (false, None, false),
            (false, Some(0), false),
        ] {
            let length_of = |name: &str| no_color.filter(|_| name == "NO_COLOR");
            assert_eq!(is_wanted(is_terminal, length_of), expected, "{is_terminal} {no_color:?}");
        }
    }

    #[test]
    fn colour_changes_no_other_character() {
        let text = "LEVEL     LINT\ncritical  rls_off ✓ ✗ –\n          fix: x;\n║  ○ y  ║\nplain\n";
        assert_eq!(page(text, false), text);
        let coloured = page(text, true);
        assert!(coloured.starts_with("\x1b[1mLEVEL \x1b[0m"), "{coloured:?}");
        assert!(coloured.contains("\x1b[31mcritical\x1b[0m"), "{coloured:?}");
        let codes = [RED, GREEN, YELLOW, BOLD, DIM, PLAIN];
        let bare = codes.iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(bare, text);
    }
}
