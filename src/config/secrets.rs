//! Where the secrets of a configuration are, for a look at who may read them.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

use super::environment;
use super::keys::{self, Kind};

/// The files that hold secrets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecretFiles {
    /// True if a password or a secret stands in the configuration file itself.
    pub is_inline: bool,
    /// Files that keys name, each with its key.
    pub named: Vec<(String, PathBuf)>,
}

/// Ends of the keys that name a file with a secret or a private key.
const ENDS: [&str; 3] = ["password_file", "secret_file", "tls_key_file"];

/// Reads the same file and environment as [`super::load`], which says what is wrong with them.
pub fn secret_files(
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> SecretFiles {
    let text = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let mut table: Table = text.parse().unwrap_or_default();
    let mut found = SecretFiles { is_inline: has_secret(&table, ""), named: Vec::new() };
    let variables = environment::overlay(&mut table, env, &mut Vec::new());
    name_files(&table, "", &mut found.named);
    // As the reader does: names in the file start from its folder, others from ours.
    if let Some(folder) = path.and_then(Path::parent) {
        for (key, file) in &mut found.named {
            if !variables.contains_key(key) {
                *file = folder.join(&file);
            }
        }
    }
    found
}

fn has_secret(table: &Table, path: &str) -> bool {
    table.iter().any(|(name, value)| {
        let path = format!("{path}{name}");
        if let Some(inner) = value.as_table() {
            return has_secret(inner, &format!("{path}."));
        }
        let is_written = value.as_str().is_some_and(|text| !text.is_empty());
        is_written && keys::find(&path).is_some_and(|key| key.kind == Kind::Secret)
    })
}

fn name_files(table: &Table, path: &str, found: &mut Vec<(String, PathBuf)>) {
    for (name, value) in table {
        let path = format!("{path}{name}");
        if let Some(inner) = value.as_table() {
            name_files(inner, &format!("{path}."), found);
        } else if let Some(file) = value.as_str()
            && ENDS.iter().any(|end| name.ends_with(end))
        {
            found.push((path, file.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_where_they_are() {
        let path = std::env::temp_dir().join(format!("cloison-secrets-{}", uuid::Uuid::new_v4()));
        let text = "client_tls_key_file = 'k'\n[pools.tenant]\nuser = 'u'\npassword_file = 'p'\n\
                    [issuers.app]\npublic_key_file = 'public'\n";
        fs::write(&path, text).unwrap();
        let variables = [("CLOISON_CONTROL_PASSWORD_FILE".to_owned(), "c".to_owned())];
        let found = secret_files(Some(&path), variables.into_iter());
        let named: Vec<&str> = found.named.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            named,
            ["client_tls_key_file", "control.password_file", "pools.tenant.password_file"]
        );
        assert!(!found.is_inline);
        fs::write(&path, "[issuers.app]\nsecret = 's'\n").unwrap();
        assert!(secret_files(Some(&path), std::iter::empty()).is_inline);
        fs::remove_file(&path).unwrap();
    }
}
