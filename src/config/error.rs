//! What is wrong with a configuration: every error at once, each with its key's path.

use std::fmt;

/// Everything that is wrong with a configuration. Prints one error a line. Never empty.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub struct Errors(Vec<Error>);

impl Errors {
    pub(super) const fn new(errors: Vec<Error>) -> Self {
        Self(errors)
    }

    /// The errors in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.0.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Error {
    /// The file, and the line in it, if a file is where it stands.
    at: Option<String>,
    /// The key's path, the variable's name or the place in the file.
    place: String,
    /// What was written there, unless it may be a secret.
    value: Option<String>,
    /// The variable that the value came from, if it was not the file.
    variable: Option<String>,
    /// What is wrong, and what is allowed.
    problem: String,
}

impl Error {
    pub(super) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        let (place, problem) = (place.into(), problem.into());
        Self { at: None, place, value: None, variable: None, problem }
    }

    /// The key's path, if it is one.
    pub(super) fn path(&self) -> &str {
        &self.place
    }

    /// Says where it stands in the file, unless a variable is to blame.
    pub(super) fn at(mut self, at: String) -> Self {
        self.at = self.variable.is_none().then_some(at);
        self
    }

    pub(super) fn value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(value.to_string());
        self
    }

    pub(super) fn variable(mut self, variable: Option<&String>) -> Self {
        self.variable = variable.cloned();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.place)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// `; did you mean …?` for the candidate nearest to what was written, if one is near enough.
pub(super) fn did_you_mean(
    written: &str,
    candidates: impl IntoIterator<Item = impl AsRef<str>>,
) -> String {
    let near = |candidate: &str| {
        let distance = edit_distance(written, candidate);
        (distance <= (written.len().min(candidate.len()) / 4).clamp(1, 3)).then_some(distance)
    };
    candidates
        .into_iter()
        .filter_map(|candidate| {
            near(candidate.as_ref()).map(|far| (far, candidate.as_ref().to_owned()))
        })
        .min()
        .map(|(_, candidate)| format!("; did you mean {candidate}?"))
        .unwrap_or_default()
}

/// Levenshtein's distance, where two neighbours that changed places count as one edit.
fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        for (left, right, expected) in [
            ("port", "port", 0),
            ("prot", "port", 1),
            ("port", "ports", 1),
            ("host", "port", 2),
            ("", "port", 4),
            ("port", "", 4),
        ] {
            assert_eq!(edit_distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let keys = ["listen_addr", "listen_port"];
        assert_eq!(did_you_mean("listen_prot", keys), "; did you mean listen_port?");
        assert_eq!(did_you_mean("timezone", keys), "");
    }
}
