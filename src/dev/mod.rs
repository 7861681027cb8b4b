//! Everything on one machine: a Postgres, sample tenants, a key, and the names that `dev`, `token`
//! and `verify` agree on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub mod binaries;
pub mod cluster;
pub mod key;
pub mod logins;
mod proxy;
pub mod setup;
pub mod signer;
pub mod state;

pub use proxy::{Wishes, proxy_config};

/// The `iss` of development tokens.
pub const ISSUER: &str = "https://cloison.localhost/dev";

/// The `aud` of development tokens for a tenant.
pub const AUDIENCE: &str = "cloison-dev";

/// The `aud` of development tokens for the super-admin.
pub const SUPERADMIN_AUDIENCE: &str = "cloison-dev-superadmin";

/// The `aud` of development tokens for the owner.
pub const OWNER_AUDIENCE: &str = "cloison-dev-owner";

/// File name of the signing key in the data folder.
pub const SIGNING_KEY: &str = "signing-key.pem";

/// File name of the JWK Set in the data folder.
pub const JWKS: &str = "jwks.json";

/// File name, in the data folder, of what a running `cloison dev` tells other verbs.
pub const STATE: &str = "dev.json";

/// Where `cloison dev` keeps its cluster and its key: `CLOISON_DATA_DIR`, else
/// `/var/lib/cloison/dev` for root, else `cloison/dev` in the user's data folder.
pub fn default_data_dir() -> PathBuf {
    let is_root = rustix::process::geteuid().is_root();
    data_dir(|name| std::env::var_os(name), is_root, std::env::home_dir().as_deref())
}

fn data_dir(
    variable: impl Fn(&str) -> Option<OsString>,
    is_root: bool,
    home: Option<&Path>,
) -> PathBuf {
    if let Some(chosen) = variable("CLOISON_DATA_DIR").filter(|chosen| !chosen.is_empty()) {
        return chosen.into();
    }
    if is_root {
        return "/var/lib/cloison/dev".into();
    }
    // The XDG Base Directory Specification has relative paths ignored.
    let shared = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let shared = shared.unwrap_or_else(|| home.unwrap_or(Path::new("")).join(".local/share"));
    shared.join("cloison/dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], is_root: bool, expected: &str) {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        let found = data_dir(variable, is_root, Some(Path::new("/home/ada")));
        assert_eq!(found, PathBuf::from(expected));
    }

    #[test]
    fn the_data_dir_follows_the_environment_then_the_user() {
        check(&[("CLOISON_DATA_DIR", "here")], true, "here");
        check(&[("CLOISON_DATA_DIR", "")], true, "/var/lib/cloison/dev");
        check(&[("XDG_DATA_HOME", "/data")], true, "/var/lib/cloison/dev");
        check(&[("XDG_DATA_HOME", "/data")], false, "/data/cloison/dev");
        check(&[("XDG_DATA_HOME", "data")], false, "/home/ada/.local/share/cloison/dev");
        check(&[], false, "/home/ada/.local/share/cloison/dev");
    }
}
