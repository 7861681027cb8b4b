//! What lies in a cluster's folder.
//!
//! ```text
//! data/                 Postgres' own data folder
//! run/                  the Unix socket, unless the path is too long for one
//! lock                  held while the cluster is in use; says by whom
//! port                  the port of the last start
//! postgres.log          since the last start; the one before has .old
//! superuser.password    for the owner's eyes only
//! ```

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use super::Error;
use super::account::{self, Account};
use crate::dev::binaries::Binaries;
use crate::types::Secret;

/// The folder of a cluster, locked as long as this value lives.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    socket_dir: PathBuf,
    account: Account,
    /// Folders that go when the cluster stops.
    passing: Vec<PathBuf>,
    _lock: File,
}

impl Files {
    /// Locks `folder`, or a temporary one; makes it if need be.
    pub(super) fn open(folder: Option<PathBuf>) -> Result<Self, Error> {
        let account = Account::choose()?;
        let is_temporary = folder.is_none();
        let folder = folder.unwrap_or_else(account::temporary_folder);
        account.make_reachable_folder(&folder)?;
        let folder =
            fs::canonicalize(&folder).map_err(|error| Error::file("resolve", &folder, error))?;
        let parent = folder.parent().unwrap_or(&folder);
        account.check_reach(parent)?;
        let lock = lock(&folder)?;
        account.give(&folder).map_err(|error| Error::file("hand over", &folder, error))?;

        let mut passing = Vec::new();
        if is_temporary {
            passing.push(folder.clone());
        }
        let mut socket_dir = folder.join("run");
        if !is_socket_dir(&socket_dir) {
            socket_dir = account::temporary_folder();
            passing.push(socket_dir.clone());
        }
        account.make_private_folder(&socket_dir)?;
        Ok(Self { folder, socket_dir, account, passing, _lock: lock })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Postgres' own data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Folders that have to go when the cluster stops.
    pub(super) fn passing_folders(&self) -> &[PathBuf] {
        &self.passing
    }

    /// The major version that made the cluster, if there is one.
    pub(super) fn made_by(&self) -> Result<Option<u32>, Error> {
        let path = self.data().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &path, error)),
        }
    }

    /// The superuser's password, chosen the first time.
    pub(super) fn superuser_password(&self) -> Result<Secret<String>, Error> {
        let path = self.folder.join(PASSWORD);
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(Secret::new(text.trim().to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", &path, error)),
        }
        let password = format!("{}{}", simple_uuid(), simple_uuid());
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{password}"))
            .and_then(|()| self.account.give(&path));
        written.map_err(|error| Error::file("write", &path, error))?;
        Ok(Secret::new(password))
    }

    /// Makes the cluster unless it exists. Leaves no half of one behind.
    pub(super) fn make_cluster(
        &self,
        binaries: &Binaries,
        superuser: &str,
        without_sync: bool,
    ) -> Result<(), Error> {
        if let Some(made_by) = self.made_by()? {
            if made_by == binaries.major() {
                return Ok(());
            }
            return Err(Error::Version {
                folder: self.folder.clone(),
                made_by,
                binaries: binaries.folder().to_owned(),
                found: binaries.major(),
            });
        }
        let mut output = String::new();
        // Not every machine has the first locale; every Postgres has the second.
        for locale in ["C.UTF-8", "C"] {
            output = match self.initdb(binaries, superuser, locale, without_sync)? {
                Ok(()) => return Ok(()),
                Err(output) => output,
            };
        }
        Err(Error::Initdb { folder: self.folder.clone(), output })
    }

    fn initdb(
        &self,
        binaries: &Binaries,
        superuser: &str,
        locale: &str,
        without_sync: bool,
    ) -> Result<Result<(), String>, Error> {
        let unfinished = self.folder.join("data.new");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &unfinished, error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut command = self.command(binaries, "initdb");
        command.arg("-D").arg(&unfinished).args(["-U", superuser, "-E", "UTF8"]);
        command.args(["-A", "scram-sha-256", "--pwfile"]).arg(self.folder.join(PASSWORD));
        command.arg(format!("--locale={locale}"));
        if without_sync {
            command.arg("--no-sync");
        }
        self.account.apply(&mut command);
        let output = command
            .output()
            .map_err(|error| Error::file("run initdb in", binaries.folder(), error))?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        fs::rename(&unfinished, self.data())
            .map_err(|error| Error::file("rename", &unfinished, error))?;
        Ok(Ok(()))
    }

    /// A command of the server's programs that nothing in our environment can mislead.
    pub(super) fn command(&self, binaries: &Binaries, program: &str) -> Command {
        let mut command = Command::new(binaries.folder().join(program));
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PG") || text.starts_with("LC_") || text == "LANG" {
                command.env_remove(&name);
            }
        }
        command.env("LC_ALL", "C").current_dir(&self.folder);
        command
    }

    /// Removes what a crashed server left in the socket's folder, which is ours alone.
    pub(super) fn clear_sockets(&self) {
        for entry in fs::read_dir(&self.socket_dir).into_iter().flatten().flatten() {
            // What cannot be removed, Postgres will tell about in better words.
            let _ = fs::remove_file(entry.path());
        }
    }

    /// An empty log for a new start.
    pub(super) fn new_log(&self) -> Result<File, Error> {
        let path = self.folder.join(LOG);
        if path.exists() {
            fs::rename(&path, self.folder.join(format!("{LOG}.old")))
                .map_err(|error| Error::file("rename", &path, error))?;
        }
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        opened
            .and_then(|file| self.account.give(&path).map(|()| file))
            .map_err(|error| Error::file("write", &path, error))
    }

    /// The last lines of the log, or nothing if it cannot be read.
    pub(super) fn log_tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.folder.join(LOG))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// The port of the last start.
    pub(super) fn remembered_port(&self) -> Option<u16> {
        fs::read_to_string(self.folder.join(PORT)).ok()?.trim().parse().ok()
    }

    /// Keeps the port, so that what people wrote down stays true.
    pub(super) fn remember_port(&self, port: u16) -> Result<(), Error> {
        let path = self.folder.join(PORT);
        fs::write(&path, format!("{port}\n")).map_err(|error| Error::file("write", &path, error))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for folder in &self.passing {
            // It lies in /tmp, where what stays behind does no harm.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let failed = |error| Error::file("lock", &path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut owner);
            return Err(Error::InUse { folder: folder.to_owned(), owner: owner.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(failed)?;
    Ok(file)
}

/// Whether Postgres can have its socket there: the path is short enough, and needs no quotes in
/// the setting that names it.
fn is_socket_dir(folder: &Path) -> bool {
    let longest = folder.join(".s.PGSQL.65535");
    match longest.to_str() {
        Some(text) => text.len() <= LONGEST_SOCKET && !text.contains([',', '"', ' ']),
        None => false,
    }
}

fn simple_uuid() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

const LOG: &str = "postgres.log";
const PASSWORD: &str = "superuser.password";
const PORT: &str = "port";
/// `sun_path` holds 104 bytes on macOS and 108 on Linux, the last of them a zero.
const LONGEST_SOCKET: usize = 103;
