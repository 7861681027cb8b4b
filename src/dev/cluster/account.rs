//! The operating system's user that runs Postgres, which refuses to run as root.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// Who runs the server's programs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Account {
    /// Whoever runs Cloison.
    Ours,
    /// Another user, because Cloison runs as root.
    Other {
        /// For messages.
        name: &'static str,
        uid: u32,
        gid: u32,
    },
}

impl Account {
    /// The user to run the server as: ourselves, or for root `postgres`, or else `nobody`.
    pub(super) fn choose() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ours);
        }
        ["postgres", "nobody"].into_iter().find_map(look_up).ok_or(Error::NoAccount)
    }

    /// Makes `command` run as this user.
    pub(super) fn apply(&self, command: &mut Command) {
        match *self {
            Self::Ours => {}
            Self::Other { uid, gid, .. } => {
                command.uid(uid).gid(gid);
            }
        }
    }

    /// Gives `path`, and all below it, to this user. Does nothing when it is theirs.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        let Self::Other { uid, gid, .. } = *self else { return Ok(()) };
        let metadata = fs::symlink_metadata(path)?;
        if metadata.uid() == uid {
            return Ok(());
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give(&entry?.path())?;
            }
        }
        // The folder comes last, so that an interrupted run starts over.
        lchown(path, Some(uid), Some(gid))
    }

    /// Refuses a folder that this user cannot reach, and names the one that is in the way.
    pub(super) fn check_reach(&self, folder: &Path) -> Result<(), Error> {
        let Self::Other { name, uid, gid } = *self else { return Ok(()) };
        let folder =
            fs::canonicalize(folder).map_err(|source| Error::file("resolve", folder, source))?;
        for ancestor in folder.ancestors() {
            let metadata = fs::metadata(ancestor)
                .map_err(|source| Error::file("look at", ancestor, source))?;
            let execute = match (metadata.uid() == uid, metadata.gid() == gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if metadata.mode() & execute == 0 {
                return Err(Error::OutOfReach { folder: ancestor.to_owned(), account: name });
            }
        }
        Ok(())
    }

    /// Makes a folder that only this user may enter.
    pub(super) fn make_private_folder(&self, folder: &Path) -> Result<(), Error> {
        make_folder(folder, 0o700)
            .and_then(|()| self.give(folder))
            .map_err(|source| Error::file("create", folder, source))
    }

    /// Makes `folder` unless it exists, private, and its parents such that it can be reached.
    pub(super) fn make_reachable_folder(&self, folder: &Path) -> Result<(), Error> {
        let missing: Vec<&Path> =
            folder.ancestors().skip(1).take_while(|ancestor| !ancestor.exists()).collect();
        let mode = if *self == Self::Ours { 0o700 } else { 0o711 };
        for parent in missing.into_iter().rev().filter(|parent| *parent != Path::new("")) {
            make_folder(parent, mode).map_err(|source| Error::file("create", parent, source))?;
        }
        if !folder.exists() {
            make_folder(folder, 0o700).map_err(|source| Error::file("create", folder, source))?;
        }
        Ok(())
    }
}

fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        outcome => outcome?,
    }
    // The umask may have taken bits away.
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}

fn look_up(name: &'static str) -> Option<Account> {
    Some(Account::Other { name, uid: id("-u", name)?, gid: id("-g", name)? })
}

/// Asks `id`, which knows every directory service that this machine uses.
fn id(which: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().parse().ok()
}

/// A short folder for a Unix socket, whose path may not exceed some hundred bytes.
pub(super) fn temporary_folder() -> PathBuf {
    let mut name = uuid::Uuid::new_v4().simple().to_string();
    name.truncate(12);
    PathBuf::from("/tmp").join(format!("cloison-{name}"))
}
