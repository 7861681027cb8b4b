//! What was checked, as a table for people.

use std::fmt::Write;

use crate::cli::readiness::{Check, State};

/// A line for each check, cause and cure below it, and the sum.
pub(super) fn page(checks: &[Check], has_colours: bool) -> String {
    let width = checks.iter().map(|check| check.subject.chars().count()).max().unwrap_or(0);
    let mut page = String::new();
    for Check { subject, value, state } in checks {
        let (word, colour) = word(state);
        let word = match has_colours {
            true => format!("\x1b[{colour}m{word:4}\x1b[0m"),
            false => format!("{word:4}"),
        };
        // Writing into a String cannot fail.
        let _ = writeln!(page, "{}", format!("{word}  {subject:width$}  {value}").trim_end());
        if let State::Warning(trouble) | State::Failed(trouble, _) = state {
            let cure = trouble.cure.replace('\n', "\n             ");
            let _ = writeln!(page, "      cause: {}\n      cure:  {cure}", trouble.cause);
        }
    }
    let count = |wanted: &str| checks.iter().filter(|check| word(&check.state).0 == wanted).count();
    let _ = writeln!(
        page,
        "{} ok, {} to look at, {} failed, {} not tried",
        count("ok"),
        count("warn"),
        count("FAIL"),
        count("–"),
    );
    page
}

/// The word for a state, and its colour.
const fn word(state: &State) -> (&'static str, &'static str) {
    match state {
        State::Good => ("ok", "32"),
        State::Warning(_) => ("warn", "33"),
        State::Failed(..) => ("FAIL", "1;31"),
        State::NotTried => ("–", "2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::readiness::{Stops, Trouble};

    #[test]
    fn each_check_has_a_line_and_each_trouble_its_cure() {
        let trouble =
            || Trouble { cause: "it is so".to_owned(), cure: "do this\nor that".to_owned() };
        let check = |subject: &str, state| Check {
            subject: subject.to_owned(),
            value: "value".to_owned(),
            state,
        };
        let checks = [
            check("kit", State::Good),
            check("pool tenant", State::Failed(trouble(), Stops::Start)),
            check("file", State::Warning(trouble())),
            check("lint", State::NotTried),
        ];
        assert_eq!(
            page(&checks, false),
            "ok    kit          value\n\
             FAIL  pool tenant  value\n      cause: it is so\n      cure:  do this\n             or that\n\
             warn  file         value\n      cause: it is so\n      cure:  do this\n             or that\n\
             –     lint         value\n\
             1 ok, 1 to look at, 1 failed, 1 not tried\n"
        );
        assert!(page(&checks, true).starts_with("\x1b[32mok  \x1b[0m  kit"));
    }
}
