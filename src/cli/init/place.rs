//! The folder that `cloison init` writes to, and who may read what is in it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::files::Staged;

/// Where the package has its configuration.
const PACKAGED: &str = "/etc/cloison";

/// The group that the package's service runs as.
const GROUP: &str = "cloison";

/// The folder, and the names of the files.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As it was given, for what is printed.
    given: PathBuf,
    /// Absolute.
    folder: PathBuf,
    /// The group that may read the files, too.
    group: Option<u32>,
}

/// The files of an initialisation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum File {
    Configuration,
    Environment,
    Secret,
}

impl File {
    pub(super) const ALL: [Self; 3] = [Self::Configuration, Self::Environment, Self::Secret];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "cloison.toml",
            Self::Environment => "cloison.env",
            Self::Secret => "jwt.secret",
        }
    }
}

impl Place {
    /// Makes the folder unless it is there.
    pub(super) fn open(given: &Path) -> io::Result<Self> {
        if !given.exists() {
            DirBuilder::new().mode(0o755).create(given)?;
        }
        let folder = given.canonicalize()?;
        let is_packaged = folder == Path::new(PACKAGED) && rustix::process::geteuid().is_root();
        let group = if is_packaged { service_group() } else { None };
        Ok(Self { given: given.to_owned(), folder, group })
    }

    pub(super) fn path(&self, file: File) -> PathBuf {
        self.folder.join(file.name())
    }

    /// The path as it is printed: short where the folder was given so.
    pub(super) fn shown(&self, file: File) -> String {
        self.given.join(file.name()).display().to_string()
    }

    /// Whether this is where the package's service looks.
    pub(super) fn is_packaged(&self) -> bool {
        self.folder == Path::new(PACKAGED)
    }

    pub(super) fn exists(&self, file: File) -> bool {
        // A link that leads nowhere is there, too.
        fs::symlink_metadata(self.path(file)).is_ok()
    }

    pub(super) fn stage(&self, file: File, content: &str) -> io::Result<Staged> {
        Staged::new(&self.path(file), content.as_bytes(), self.group)
    }
}

/// The number of the group that the package's service runs as, if the package is installed.
pub(in crate::cli) fn service_group() -> Option<u32> {
    fs::read_to_string("/etc/group").ok().and_then(|groups| group_id(&groups))
}

/// The number of the service's group.
fn group_id(groups: &str) -> Option<u32> {
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut found = fields.filter(|fields| fields.first() == Some(&GROUP));
    found.next()?.get(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_name() {
        let groups = "root:x:0:\nxcloison:x:7:\ncloison:x:998:ada\n";
        assert_eq!(group_id(groups), Some(998));
        assert_eq!(group_id("root:x:0:\ncloison:x\n"), None);
    }
}
