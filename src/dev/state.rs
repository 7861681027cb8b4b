//! What a running `cloison dev` tells the other verbs: where it listens and what is behind it.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::write_private;

/// The content of `dev.json` in the data folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    /// Address and port of the proxy.
    pub listen: String,
    /// Name of the database.
    pub database: String,
    /// The direct connection. It holds a password, so the file is for its owner's eyes only.
    pub postgres_url: String,
}

impl State {
    /// What the file says.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Writes the file, whole and private.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write_private(path, format!("{}\n", serde_json::to_string_pretty(self)?).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_state_is_private_and_comes_back() {
        let path = std::env::temp_dir().join(format!("cloison-state-{}", uuid::Uuid::new_v4()));
        let state = State {
            listen: "127.0.0.1:6432".to_owned(),
            database: "app".to_owned(),
            postgres_url: "postgres://u:p@h/app".to_owned(),
        };
        for _ in 0..2 {
            state.save(&path).unwrap();
            let loaded = State::load(&path).unwrap();
            assert_eq!(loaded.postgres_url, state.postgres_url);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::remove_file(path).unwrap();
    }
}
