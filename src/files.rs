//! Files that appear whole or not at all, with their mode from the first moment.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A file that was written beside its place. Dropped, it is removed.
#[derive(Debug)]
pub struct Staged {
    beside: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// Writes `content` beside `path`, for its owner alone; for a group, too, if one is given.
    ///
    /// # Errors
    ///
    /// Fails as the system does; nothing is left behind.
    pub fn new(path: &Path, content: &[u8], group: Option<u32>) -> io::Result<Self> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.new", Uuid::new_v4().simple()));
        let beside = path.with_file_name(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        // From here on it is removed if anything fails.
        let staged = Self { beside, path: path.to_owned() };
        file.write_all(content)?;
        if let Some(group) = group {
            fchown(&file, None, Some(group))?;
            file.set_permissions(Permissions::from_mode(0o640))?;
        }
        file.sync_all()?;
        Ok(staged)
    }

    /// Moves it to its place, over what may be there.
    ///
    /// # Errors
    ///
    /// Fails as the system does; what was there is still there.
    pub fn place(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)
    }

    /// Where it goes to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already once it is in its place.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Writes a file for its owner alone.
///
/// # Errors
///
/// Fails as the system does; what was there is still there.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    Staged::new(path, content, None)?.place()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_appears_at_once() {
        let folder = std::env::temp_dir().join(format!("cloison-files-{}", Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("secret");
        let staged = Staged::new(&path, b"one", None).unwrap();
        assert!(!path.exists());
        let entry = fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        staged.place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");

        drop(Staged::new(&path, b"two", None).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_private(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
