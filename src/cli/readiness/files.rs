//! Who may read the files that hold secrets.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Check, Stops};
use crate::cli::configuration::Source;
use crate::config;

/// The configuration if a secret stands in it, every file that it names for a secret, and the
/// environment file.
pub(in crate::cli) fn check(source: &Source) -> Vec<Check> {
    let file = source.file();
    let variables = source.variables().unwrap_or_default();
    let found = config::secret_files(file.as_deref(), variables.into_iter());
    let mut checks = Vec::new();
    for (key, path) in &found.named {
        checks.extend(one(key, path));
    }
    if let (true, Some(path)) = (found.is_inline, &file) {
        checks.extend(one("passwords or secrets in it", path));
    }
    if let Some(path) = &source.env_file {
        checks.extend(one("environment file", path));
    }
    checks
}

/// Nothing where there is no file: that was said already.
fn one(about: &str, path: &Path) -> Option<Check> {
    let metadata = fs::metadata(path).ok()?;
    let mode = metadata.mode() & 0o777;
    let value = format!("{}: {mode:04o}, {about}", path.display());
    let check = Check::good("file", value);
    let cure = format!("chmod 600 {}", crate::cli::shell_word(&path.display().to_string()));
    Some(match metadata.mode() {
        mode if mode & 0o007 != 0 => {
            check.fails(Stops::Nothing, "every user of this machine may open it", cure)
        }
        mode if mode & 0o070 != 0 && !is_for_the_service(&metadata) => {
            check.warns("its group may open it", cure)
        }
        _ => check,
    })
}

/// A file of root's that the group of the service may read, and nobody may change: as the package
/// installs it.
fn is_for_the_service(metadata: &Metadata) -> bool {
    let is_own_group = metadata.gid() == rustix::process::getegid().as_raw() && metadata.gid() != 0;
    let is_packaged = crate::cli::init::service_group() == Some(metadata.gid());
    metadata.uid() == 0 && metadata.mode() & 0o020 == 0 && (is_own_group || is_packaged)
}
