//! Where a command finds its configuration: a file, an environment file, the environment.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{self, Config};

use super::environment;

/// The options by which a command finds its configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Source {
    /// The configuration file. Without it: $CLOISON_CONFIG, ./cloison.toml,
    /// /etc/cloison/cloison.toml.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A file of NAME=value lines, such as cloison.env, for variables that the environment does not
    /// have
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is there is wrong.
    #[error("{0}")]
    Wrong(#[from] config::Errors),
    /// There is none at all, or too little of one: where it was looked for.
    #[error("{}{NOWHERE}", .0.as_ref().map(|errors| format!("{errors}\n")).unwrap_or_default())]
    Nowhere(Option<config::Errors>),
    /// The environment file cannot be read.
    #[error("cannot read the environment file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A line of the environment file is no assignment. It is not shown: it may hold a password.
    #[error("{}:{line}: expected NAME=value", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

const NOWHERE: &str = "\
no configuration file: --config is not given, CLOISON_CONFIG is not set, and there is neither \
./cloison.toml nor /etc/cloison/cloison.toml. `cloison init` writes one; `cloison check --keys` \
prints every key";

impl Source {
    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(default_file)
    }

    /// Reads it, with the variables of both environments over it.
    ///
    /// # Errors
    ///
    /// Says everything that is wrong or, where there is nothing, where it looked.
    pub fn load(&self) -> Result<Config, Error> {
        let file = self.file();
        let variables = self.variables()?;
        let says_something = variables.iter().any(|(name, _)| is_ours(name));
        if file.is_none() && !says_something {
            return Err(Error::Nowhere(None));
        }
        config::load(file.as_deref(), variables.into_iter()).map_err(|errors| match file {
            Some(_) => Error::Wrong(errors),
            None => Error::Nowhere(Some(errors)),
        })
    }

    /// The variables of the environment and, for those that it does not have, of the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn variables(&self) -> Result<Vec<(String, String)>, Error> {
        let mut variables: Vec<(String, String)> = environment().collect();
        if let Some(path) = &self.env_file {
            let more = read_file(path)?.into_iter();
            let has = |name: &str| variables.iter().any(|(known, _)| known == name);
            let more: Vec<_> = more.filter(|(name, _)| !has(name)).collect();
            variables.extend(more);
        }
        Ok(variables)
    }
}

/// `$CLOISON_CONFIG`, else `./cloison.toml`, else `/etc/cloison/cloison.toml`. The last two only if
/// they exist; without any, the environment has to say everything.
fn default_file() -> Option<PathBuf> {
    if let Some(file) = env::var_os("CLOISON_CONFIG").filter(|file| !file.is_empty()) {
        return Some(file.into());
    }
    ["cloison.toml", "/etc/cloison/cloison.toml"]
        .map(PathBuf::from)
        .into_iter()
        .find(|f| f.exists())
}

/// Whether a variable says something about the configuration.
fn is_ours(name: &str) -> bool {
    let is_other = matches!(name, "CLOISON_CONFIG" | "CLOISON_DATA_DIR");
    name.starts_with("CLOISON_") && !is_other && !name.starts_with("CLOISON_PG_BIN")
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let assignment = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        match assignment.filter(|(name, _)| is_name(name)) {
            Some((name, value)) => variables.push((name.to_owned(), unquoted(value))),
            None => return Err(Error::Line { path: path.to_owned(), line: index + 1 }),
        }
    }
    Ok(variables)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A value as a shell and systemd read it: in quotes or without.
fn unquoted(value: &str) -> String {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(text) = inner('\'') {
        return text.to_owned();
    }
    let Some(text) = inner('"') else { return value.to_owned() };
    let mut chars = text.chars().peekable();
    let mut plain = String::new();
    while let Some(c) = chars.next() {
        let escaped = chars.next_if(|next| c == '\\' && "\\\"$`".contains(*next));
        plain.push(escaped.unwrap_or(c));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_read_as_shells_do() {
        let path = env::temp_dir().join(format!("cloison-env-{}", uuid::Uuid::new_v4()));
        fs::write(&path, "# c\n; c\n\nA=1\nexport B='x\"y'\nC=\"a\\\"b\\$c\\n\"\nD=\n").unwrap();
        let found = read_file(&path).unwrap();
        let expected = [("A", "1"), ("B", "x\"y"), ("C", "a\"b$c\\n"), ("D", "")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        fs::write(&path, "A=1\nse cret\n").unwrap();
        let error = read_file(&path).unwrap_err().to_string();
        assert!(error.ends_with(":2: expected NAME=value"), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(read_file(&path), Err(Error::File { .. })));
    }

    #[test]
    fn where_it_looked_is_said_once() {
        let text = Error::Nowhere(None).to_string();
        for place in ["--config", "CLOISON_CONFIG", "./cloison.toml", "/etc/cloison/cloison.toml"] {
            assert!(text.contains(place), "{text}");
        }
        assert!(is_ours("CLOISON_LISTEN_PORT") && !is_ours("CLOISON_CONFIG") && !is_ours("HOME"));
    }
}
