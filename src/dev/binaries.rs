//! Finds the programs of a Postgres server, or gets Debian's package.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version that Cloison serves.
pub const OLDEST: u32 = 14;

/// A folder that holds `initdb` and `postgres` of one version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

/// Why there are no server programs to run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The installation was tried and did not succeed.
    #[error("`{command}` did not succeed ({reason}); {}", instructions())]
    Install {
        /// What was run.
        command: String,
        /// How it ended.
        reason: String,
    },
    /// Nothing was found in any of the usual places.
    #[error(
        "no Postgres server (version {OLDEST} or newer) was found on this machine; {}",
        instructions()
    )]
    Missing,
    /// The folder that was named does not hold a server that is new enough.
    #[error("{} does not hold initdb and postgres of version {OLDEST} or newer: {reason}", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Binaries {
    /// The programs in `folder`, after asking `postgres` for its version.
    pub fn at(folder: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { folder: folder.to_owned(), reason };
        let initdb = folder.join("initdb");
        if !initdb.is_file() {
            return Err(unusable("there is no initdb".to_owned()));
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| unusable(format!("postgres does not run: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match major_version(&text) {
            Some(major) if major >= OLDEST => Ok(Self { folder: folder.to_owned(), major }),
            Some(major) => Err(unusable(format!("it is version {major}"))),
            None => Err(unusable(format!(
                "`postgres --version` answered {:?}{}",
                text.trim(),
                String::from_utf8_lossy(&output.stderr).trim(),
            ))),
        }
    }

    /// The folder of the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The major version, such as 17.
    pub const fn major(&self) -> u32 {
        self.major
    }
}

/// The newest server on this machine; what `CLOISON_PG_BIN` names goes before all others.
pub fn find() -> Result<Binaries, Error> {
    match named()? {
        Some(binaries) => Ok(binaries),
        None => newest(installed()).ok_or(Error::Missing),
    }
}

/// The newest server of exactly this major version, for a cluster that was made by it.
pub fn find_major(major: u32) -> Option<Binaries> {
    match named() {
        Ok(Some(binaries)) => Some(binaries).filter(|binaries| binaries.major == major),
        Ok(None) | Err(_) => installed().into_iter().find(|binaries| binaries.major == major),
    }
}

/// As [`find`], and where nothing is found on Debian or a relative, installs the package.
///
/// For `cloison dev` alone: a test must not change the machine that it runs on.
pub fn find_or_install() -> Result<Binaries, Error> {
    match find() {
        Err(Error::Missing) if may_install() => {
            install()?;
            find()
        }
        found => found,
    }
}

fn named() -> Result<Option<Binaries>, Error> {
    match env::var_os("CLOISON_PG_BIN").filter(|folder| !folder.is_empty()) {
        Some(folder) => Binaries::at(Path::new(&folder)).map(Some),
        None => Ok(None),
    }
}

fn installed() -> Vec<Binaries> {
    candidates().iter().filter_map(|folder| Binaries::at(folder).ok()).collect()
}

fn newest(mut found: Vec<Binaries>) -> Option<Binaries> {
    // The sort is stable, so of two equal versions the one on PATH stays ahead.
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found.into_iter().next()
}

/// Every folder that may hold a server, the likelier first, none twice.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        // Debian and others put links on PATH. Postgres finds its files from where it really is.
        let program = fs::canonicalize(folder.join("postgres"));
        folders.extend(program.ok().and_then(|program| Some(program.parent()?.to_owned())));
    }
    folders.extend(pg_config_bindir());
    for (parent, prefix, rest) in USUAL_PLACES {
        folders.extend(versions_below(Path::new(parent), prefix).map(|found| found.join(rest)));
    }
    let mut seen = BTreeSet::new();
    folders.retain(|folder| folder.join("postgres").is_file() && seen.insert(folder.clone()));
    folders
}

fn pg_config_bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    fs::canonicalize(text.trim()).ok()
}

/// The entries of `parent` whose name starts with `prefix`.
fn versions_below(parent: &Path, prefix: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
}

/// The number in `postgres (PostgreSQL) 15.18 (Debian 15.18-1)` or `… 19beta1`.
fn major_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL)")?;
    let digits: String = version.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn may_install() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").is_file()
}

fn install() -> Result<(), Error> {
    eprintln!("No Postgres server found: installing Debian's package `postgresql` …");
    run("apt-get", &["update", "-q"])?;
    // Debian would start a cluster of its own, which nobody asked for.
    run("apt-get", &["install", "-q", "-y", "--no-install-recommends", "postgresql-common"])?;
    keep_debian_from_making_a_cluster().map_err(|error| Error::Install {
        command: "write /etc/postgresql-common/createcluster.d".to_owned(),
        reason: error.to_string(),
    })?;
    run("apt-get", &["install", "-q", "-y", "--no-install-recommends", "postgresql"])
}

fn keep_debian_from_making_a_cluster() -> io::Result<()> {
    let folder = Path::new("/etc/postgresql-common/createcluster.d");
    fs::create_dir_all(folder)?;
    fs::write(folder.join("cloison.conf"), "create_main_cluster = false\n")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Error> {
    let command = format!("{program} {}", arguments.join(" "));
    // Standard output may be promised to one line of JSON.
    let status = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Install { command, reason: status.to_string() }),
        Err(error) => Err(Error::Install { command, reason: error.to_string() }),
    }
}

fn instructions() -> &'static str {
    "install one and run this again:
    Debian, Ubuntu:  sudo apt-get install postgresql
    Fedora, RHEL:    sudo dnf install postgresql-server
    macOS:           brew install postgresql@17
or name the folder of initdb and postgres in CLOISON_PG_BIN, \
or use a Postgres that runs already with --database-url"
}

/// Parent folder, start of the entry's name, and the way from there to the programs.
const USUAL_PLACES: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_postgres_prints_them() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-1.pgdg)\n", Some(15)),
            ("postgres (PostgreSQL) 19beta1", Some(19)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("postgres: no such thing", None),
            ("", None),
        ] {
            assert_eq!(major_version(text), major, "{text:?}");
        }
    }

    #[test]
    fn newest_wins_and_of_equals_the_first() {
        let at = |folder: &str, major| Binaries { folder: folder.into(), major };
        let found = vec![at("/a", 15), at("/b", 17), at("/c", 17)];
        assert_eq!(newest(found), Some(at("/b", 17)));
        assert_eq!(newest(Vec::new()), None);
    }

    #[test]
    fn an_empty_folder_is_refused_by_name() {
        let error = Binaries::at(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere does not hold"), "{error}");
    }

    #[test]
    fn a_missing_server_comes_with_what_to_install() {
        let text = Error::Missing.to_string();
        for words in ["apt-get install postgresql", "dnf install", "brew install", "CLOISON_PG_BIN"]
        {
            assert!(text.contains(words), "{text}");
        }
    }
}
