//! The same on every database of a list, with a report.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::{Args, EXIT_UNFINISHED, Error, on_one, say};
use crate::kit::adopt::mapping::Mapping;

/// A database of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Member {
    name: String,
    url: String,
}

/// One after the other; what fails on one does not keep the others from it. The exit code is that of
/// the worst: 1 an error, 2 not finished.
pub(super) async fn run(file: &Path, args: &Args, mapping: &Mapping) -> Result<ExitCode, Error> {
    let text = fs::read_to_string(file).map_err(|source| Error::File {
        doing: "read",
        path: file.to_owned(),
        source,
    })?;
    let members = read(&text);
    if members.is_empty() {
        return Err(Error::NoFleet(file.display().to_string()));
    }
    let mut lines = Vec::new();
    let mut worst = 0;
    for member in &members {
        let (status, text) =
            match on_one(Some(member.url.clone()), args, mapping, Some(&member.name)).await {
                Ok(ended) if ended.is_finished => (0, ended.text),
                Ok(ended) => (EXIT_UNFINISHED, ended.text),
                Err(error) => (1, error.to_string()),
            };
        if args.plan.is_some() || !(args.apply || args.down) {
            say(&format!("{}:\n{text}", member.name));
        }
        worst = worse(worst, status);
        // The last line says how it ended; an error may have several, and the first says what it is.
        let mut told = text.lines().filter(|line| !line.trim().is_empty());
        let told = if status == 1 { told.next() } else { told.next_back() };
        lines.push((member.name.as_str(), status, told.unwrap_or_default().to_owned()));
    }
    say(table(&lines).trim_end());
    Ok(worst.into())
}

const fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (1, _) | (_, 1) => 1,
        (EXIT_UNFINISHED, _) | (_, EXIT_UNFINISHED) => EXIT_UNFINISHED,
        _ => 0,
    }
}

fn table(lines: &[(&str, u8, String)]) -> String {
    let width = lines.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max(8);
    let mut out = format!("{:width$}  status\n", "database");
    for (name, status, text) in lines {
        out.push_str(&format!("{name:width$}  {status:>6}  {text}\n"));
    }
    out
}

/// `URL` or `name = URL`, a line each; without a name they are numbered, because a URL may hold a
/// password.
fn read(text: &str) -> Vec<Member> {
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let member = |(index, line): (usize, &str)| {
        let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
        match line.split_once(" = ") {
            Some((name, url)) if plain(name.trim()) => {
                Member { name: name.trim().to_owned(), url: url.trim().to_owned() }
            }
            _ => Member { name: format!("database-{}", index + 1), url: line.to_owned() },
        }
    };
    lines.enumerate().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_database() {
        let members =
            read("# all of them\nnorth = host=a dbname=b\n\nhost=c dbname=d password=x = y\n");
        assert_eq!(members[0], Member { name: "north".into(), url: "host=a dbname=b".into() });
        assert_eq!(members[1].name, "database-2");
        assert_eq!(members[1].url, "host=c dbname=d password=x = y");
    }

    #[test]
    fn the_worst_counts() {
        assert_eq!(worse(0, 0), 0);
        assert_eq!(worse(0, 2), 2);
        assert_eq!(worse(2, 1), 1);
        assert_eq!(worse(1, 2), 1);
    }
}
