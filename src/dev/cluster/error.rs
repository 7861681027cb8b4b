//! Why a cluster could not be made, started or stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::dev::binaries;
use crate::dev::setup::told;

/// Why a cluster could not be made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are no server programs.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// The server stopped instead of starting.
    #[error("Postgres did not start ({status}); its log ends with:\n{log}")]
    Ended {
        /// How the process ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A file or a folder could not be used.
    #[error("could not {doing} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the cluster running.
    #[error("the cluster in {} is in use by another cloison{}; stop that one, or choose another \
             folder with --data-dir", folder.display(), holder(owner))]
    InUse {
        /// The cluster's folder.
        folder: PathBuf,
        /// The process id of the other, if it could be read.
        owner: String,
    },
    /// `initdb` did not succeed.
    #[error("initdb could not make a cluster in {}:\n{output}", folder.display())]
    Initdb {
        /// The cluster's folder.
        folder: PathBuf,
        /// What it said.
        output: String,
    },
    /// The task that did the work was cancelled.
    #[error("the work was interrupted")]
    Interrupted,
    /// The server runs, and does not let us in.
    #[error(
        "Postgres started, but refused the superuser's login: {}; its log ends \
             with:\n{log}",
        told(source)
    )]
    Login {
        /// The end of its log.
        log: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
    /// There is nobody to run Postgres as.
    #[error(
        "you are root, which Postgres refuses to run as, and this machine has neither a user \
             postgres nor a user nobody"
    )]
    NoAccount,
    /// No TCP port could be had.
    #[error("no free port on 127.0.0.1: {source}")]
    NoPort {
        /// Why not.
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("Postgres did not answer within {patience:?}; its log ends with:\n{log}")]
    NotReady {
        /// How long it was given.
        patience: Duration,
        /// The end of its log.
        log: String,
    },
    /// The user that has to run Postgres cannot enter a folder.
    #[error("you are root, so Postgres runs as the user {account}, who may not enter {}; choose a \
             folder elsewhere with --data-dir, such as /var/lib/cloison, or allow it with `chmod \
             o+x {}`", folder.display(), folder.display())]
    OutOfReach {
        /// The folder that is in the way.
        folder: PathBuf,
        /// The user.
        account: &'static str,
    },
    /// The server could not be stopped or waited for.
    #[error("could not stop Postgres: {source}")]
    Stop {
        /// Why not.
        source: io::Error,
    },
    /// The cluster was made by another version.
    #[error("the cluster in {} was made by Postgres {made_by}, and {} is Postgres {found}; name \
             the folder of the old programs in CLOISON_PG_BIN, or choose another folder with \
             --data-dir", folder.display(), binaries.display())]
    Version {
        /// The cluster's folder.
        folder: PathBuf,
        /// The version that made it.
        made_by: u32,
        /// The programs that were found.
        binaries: PathBuf,
        /// Their version.
        found: u32,
    },
}

impl Error {
    pub(super) fn file(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { doing, path: path.to_owned(), source }
    }
}

fn holder(owner: &str) -> String {
    if owner.is_empty() { String::new() } else { format!(" (process {owner})") }
}
