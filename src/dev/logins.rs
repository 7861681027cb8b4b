//! The roles that the proxy logs in as, with passwords chosen on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::kit::logins::random_password;
use crate::types::Secret;

/// What tenants' sessions run as: a member of `cloison_tenant`.
pub const TENANT: &str = "cloison_app";

/// What super-admins' sessions run as: a member of `cloison_superadmin`.
pub const SUPERADMIN: &str = "cloison_admin";

/// The proxy's own: a member of `cloison_control`.
pub const CONTROL: &str = "cloison_proxy";

/// The owner of the sample database.
pub const OWNER: &str = "app_owner";

/// A role and the password that it has on this machine.
#[derive(Clone, Debug)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password; none where Postgres does not ask for one.
    pub password: Option<Secret<String>>,
}

/// The four roles.
#[derive(Clone, Debug)]
pub struct Logins {
    /// What tenants' sessions run as.
    pub tenant: Login,
    /// What super-admins' sessions run as.
    pub superadmin: Login,
    /// The proxy's own.
    pub control: Login,
    /// The owner of the database.
    pub owner: Login,
}

/// Why the passwords are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("could not {doing} the passwords in {}: {source}", path.display())]
    File {
        /// Read or write.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold the passwords of `cloison dev`; remove it and they are chosen anew",
            path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Logins {
    /// The passwords in the file, which is made, for the owner's eyes only, if it is missing.
    pub fn load_or_choose(path: &Path) -> Result<Self, Error> {
        let mut passwords = read(path)?;
        let known = passwords.len();
        let mut login = |user: &str| {
            let password = passwords
                .entry(user.to_owned())
                .or_insert_with(|| random_password().expose().clone());
            Login { user: user.to_owned(), password: Some(Secret::new(password.clone())) }
        };
        let logins = Self {
            tenant: login(TENANT),
            superadmin: login(SUPERADMIN),
            control: login(CONTROL),
            owner: login(OWNER),
        };
        if passwords.len() > known {
            write(path, &passwords)?;
        }
        Ok(logins)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|source| Error::Format { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(source) => Err(Error::File { doing: "read", path: path.to_owned(), source }),
    }
}

fn write(path: &Path, passwords: &BTreeMap<String, String>) -> Result<(), Error> {
    let failed = |source| Error::File { doing: "write", path: path.to_owned(), source };
    let text = serde_json::to_string_pretty(passwords).map_err(|error| failed(error.into()))?;
    files::write_private(path, format!("{text}\n").as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn passwords_stay_and_are_private() {
        let folder = std::env::temp_dir().join(format!("cloison-logins-{}", Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("logins.json");
        let first = Logins::load_or_choose(&path).unwrap();
        let second = Logins::load_or_choose(&path).unwrap();
        assert_eq!(first.tenant.password, second.tenant.password);
        assert_ne!(first.tenant.password, first.owner.password);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&path, "precious").unwrap();
        assert!(matches!(Logins::load_or_choose(&path), Err(Error::Format { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(folder).unwrap();
    }
}
