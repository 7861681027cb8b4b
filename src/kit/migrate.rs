//! INSTALL: runs the files of `sql/` in order, each in the transaction that it opens itself.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::rights::Rights;
use super::told;

/// One file of the kit, as it was when this program was built.
#[derive(Clone, Copy, Debug)]
struct File {
    /// Its path below `sql/`.
    name: &'static str,
    /// What it holds.
    sql: &'static str,
}

macro_rules! file {
    ($name:literal) => {
        File { name: $name, sql: include_str!(concat!("../../sql/", $name)) }
    };
}

const UP: &[File] = &[
    file!("migrations/0001_schema.sql"),
    file!("migrations/0002_functions.sql"),
    file!("migrations/0003_row_level_security.sql"),
    file!("migrations/0004_surroundings.sql"),
    file!("migrations/0005_lint.sql"),
    file!("migrations/0006_harden.sql"),
    file!("migrations/0007_advisory_locks.sql"),
    file!("migrations/0008_revocations.sql"),
    file!("migrations/0009_audit.sql"),
    file!("migrations/0010_claims.sql"),
    file!("migrations/0011_api_keys.sql"),
    file!("migrations/0012_adopt.sql"),
    file!("migrations/0013_guard.sql"),
    file!("migrations/0014_copy.sql"),
];
/// What `--compat` adds, by name.
const UP_COMPAT: [(Compat, File); 2] = [
    (Compat::Public, file!("compat/public_names.sql")),
    (Compat::Supabase, file!("compat/supabase.sql")),
];

const DOWN: &[File] = &[
    file!("compat/down/supabase.sql"),
    file!("compat/down/public_names.sql"),
    file!("migrations/down/0014_copy.sql"),
    file!("migrations/down/0013_guard.sql"),
    file!("migrations/down/0012_adopt.sql"),
    file!("migrations/down/0011_api_keys.sql"),
    file!("migrations/down/0010_claims.sql"),
    file!("migrations/down/0009_audit.sql"),
    file!("migrations/down/0008_revocations.sql"),
    file!("migrations/down/0007_advisory_locks.sql"),
    file!("migrations/down/0006_harden.sql"),
    file!("migrations/down/0005_lint.sql"),
    file!("migrations/down/0004_surroundings.sql"),
    file!("migrations/down/0003_row_level_security.sql"),
    file!("migrations/down/0002_functions.sql"),
    file!("migrations/down/0001_schema.sql"),
];

/// The version of the kit in this program: what `cloison.kit_version()` returns once installed.
pub const KIT_VERSION: i32 = 8;

/// Oldest Postgres that the kit runs on, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 140_000;

/// Names outside the schema `cloison` that can be had besides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compat {
    /// `set_tenant()` and the others work unqualified.
    Public,
    /// `auth.uid()` and the others of Supabase's policies.
    Supabase,
}

/// Why the kit could not be installed or taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres refused a statement of a file; nothing of that file was kept.
    #[error("{file} failed and was rolled back{}", told(.source))]
    File {
        /// The file's path below `sql/`.
        file: &'static str,
        /// What Postgres said.
        source: tokio_postgres::Error,
    },
    /// Somebody's transaction kept a lock for too long.
    #[error(
        "{file} was rolled back {MOST_TRIES} times: a transaction that is open holds what it needs{}\n  \
         pg_stat_activity and pg_blocking_pids() say which", told(.source)
    )]
    Locked {
        /// The file's path below `sql/`.
        file: &'static str,
        /// What Postgres said last.
        source: tokio_postgres::Error,
    },
    /// The role may not install: what it lacks, and what Postgres said.
    #[error("{missing}\n  because: {file} failed and was rolled back{}", told(.source))]
    Rights {
        /// What the role lacks.
        missing: String,
        /// The file's path below `sql/`.
        file: &'static str,
        /// What Postgres said.
        source: tokio_postgres::Error,
    },
    /// Whether event triggers are allowed could not be found out.
    #[error("could not try to make an event trigger{}", told(.0))]
    Probe(#[source] tokio_postgres::Error),
    /// The server could not be asked what it is.
    #[error("could not ask the server for its version{}", told(.0))]
    Version(#[source] tokio_postgres::Error),
    /// The server is older than the kit allows.
    #[error("Postgres {0} is too old: the kit needs 14 or newer")]
    TooOld(i32),
}

/// A file waits for a lock that somebody's transaction holds.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The file's path below `sql/`.
    pub file: &'static str,
    /// How often it has been tried.
    pub tries: u32,
}

/// Installs the kit. On a database that has it already nothing changes.
///
/// It waits for no lock longer than two seconds at a time, so that nobody waits for it behind a
/// transaction that lasts; then it begins the file anew, for a minute and a half or so. `tell` hears of
/// each time.
pub async fn install(
    client: &Client,
    compat: &[Compat],
    tell: impl Fn(Waiting),
) -> Result<(), Error> {
    check_version(client).await?;
    run(client, UP, &tell).await?;
    let compat: Vec<File> = files_of(compat).copied().collect();
    run(client, &compat, &tell).await
}

fn files_of(wanted: &[Compat]) -> impl Iterator<Item = &'static File> {
    UP_COMPAT.iter().filter(|(compat, _)| wanted.contains(compat)).map(|(_, file)| file)
}

/// Takes the kit away. Protected tables keep their rows, and tenants lose their rights on them.
pub async fn down(client: &Client, tell: impl Fn(Waiting)) -> Result<(), Error> {
    run(client, DOWN, &tell).await
}

/// Whether this role may have new tables seen as they are made, which takes an event trigger: a
/// superuser may, and whoever a provider lets. One is made, and taken back.
///
/// # Errors
///
/// Fails when the kit is not installed, or the connection is lost.
pub async fn may_watch(client: &Client) -> Result<bool, Error> {
    let tried = client.batch_execute(PROBE).await;
    let _ = client.batch_execute("rollback").await;
    match tried {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(source) => Err(Error::Probe(source)),
    }
}

const PROBE: &str = "
    begin;
    create event trigger cloison_probe on ddl_command_end execute function cloison.on_new_table();
    rollback";

/// What [`install`] would run, for people who want to read it or run it with `psql`.
pub fn print(compat: &[Compat]) -> String {
    text(UP.iter().chain(files_of(compat)))
}

/// What [`down`] would run.
pub fn print_down() -> String {
    text(DOWN.iter())
}

async fn check_version(client: &Client) -> Result<(), Error> {
    let row = client
        .query_one("select pg_catalog.current_setting('server_version_num')::pg_catalog.int4", &[])
        .await
        .map_err(Error::Version)?;
    let version: i32 = row.try_get(0).map_err(Error::Version)?;
    if version < OLDEST_SERVER {
        return Err(Error::TooOld(version / 10_000));
    }
    Ok(())
}

/// How often a file is begun for a lock, and how long it rests in between.
const MOST_TRIES: u32 = 30;
const REST: Duration = Duration::from_secs(1);

async fn run(client: &Client, files: &[File], tell: &impl Fn(Waiting)) -> Result<(), Error> {
    // A setting of the caller's own is not more patient than this.
    let done = match client.batch_execute("set lock_timeout = '2s'").await {
        Ok(()) => run_each(client, files, tell).await,
        Err(error) => Err(Error::Version(error)),
    };
    let _ = client.batch_execute("reset lock_timeout").await;
    done
}

async fn run_each(client: &Client, files: &[File], tell: &impl Fn(Waiting)) -> Result<(), Error> {
    for file in files {
        let mut tries = 0;
        while let Err(source) = client.batch_execute(file.sql).await {
            // The file's own transaction is still open, in error; where the connection is lost
            // this fails too, and there is nothing left to undo.
            let _ = client.batch_execute("rollback").await;
            tries += 1;
            if !is_about_locks(&source) {
                return Err(explain(client, file.name, source).await);
            }
            if tries == MOST_TRIES {
                return Err(Error::Locked { file: file.name, source });
            }
            tell(Waiting { file: file.name, tries });
            tokio::time::sleep(REST).await;
        }
    }
    Ok(())
}

fn is_about_locks(error: &tokio_postgres::Error) -> bool {
    let code = error.code();
    code == Some(&SqlState::LOCK_NOT_AVAILABLE) || code == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

/// Says which rights are missing, where Postgres named only the one that it looked at first.
async fn explain(client: &Client, file: &'static str, source: tokio_postgres::Error) -> Error {
    let rights = match source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        true => Rights::read(client).await.ok(),
        false => None,
    };
    match rights.and_then(|rights| rights.missing()) {
        Some(missing) => Error::Rights { missing, file, source },
        None => Error::File { file, source },
    }
}

fn text<'a>(files: impl Iterator<Item = &'a File>) -> String {
    files.map(|file| format!("-- sql/{}\n\n{}\n", file.name, file.sql)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_one_transaction() {
        for file in UP.iter().chain(DOWN).chain(UP_COMPAT.iter().map(|(_, file)| file)) {
            let statements = || file.sql.lines().filter(|line| !line.starts_with("--"));
            assert_eq!(statements().filter(|line| *line == "begin;").count(), 1, "{}", file.name);
            assert_eq!(statements().next_back(), Some("commit;"), "{}", file.name);
        }
    }

    #[test]
    fn print_has_every_file_in_order() {
        let printed = print(&[Compat::Supabase, Compat::Public]);
        let files = [
            "0001_schema",
            "0002_functions",
            "0003_row_level",
            "0004_surround",
            "0005_lint",
            "0006_harden",
            "0007_advisory",
            "0008_revocations",
            "0009_audit",
            "0010_claims",
            "0011_api_keys",
            "0012_adopt",
            "public_names",
            "supabase",
        ];
        let places: Vec<_> = files.map(|name| printed.find(name)).into_iter().collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
        assert!(!print(&[]).contains("-- sql/compat"));
        assert!(!print(&[Compat::Public]).contains("supabase.sql"));
    }
}
