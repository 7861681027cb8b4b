//! `CLOISON_…` variables laid over the file's table. The environment wins.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::types::Access;

use super::error::{Error, did_you_mean};
use super::keys::{self, ALTERNATIVES, KEYS, Kind};
use super::pgbouncer;

const PREFIX: &str = "CLOISON_";

/// Puts the value of every `CLOISON_…` variable into `table`. Answers which keys came from which
/// variable.
pub(super) fn overlay(
    table: &mut Table,
    env: impl Iterator<Item = (String, String)>,
    errors: &mut Vec<Error>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    // Sorted, because the order of an environment is nobody's choice.
    let env: BTreeMap<String, String> = env
        .filter(|(variable, _)| variable.starts_with(PREFIX) && !is_used_elsewhere(variable))
        .collect();
    for (variable, text) in env {
        let Some((path, kind)) = resolve(&variable, table) else {
            let name = variable.strip_prefix(PREFIX).unwrap_or_default().to_lowercase();
            let problem = match pgbouncer::instead(&name) {
                Some(instead) => format!("unknown variable{instead}"),
                None => {
                    format!("unknown variable{}", did_you_mean(&variable, candidates(&variable)))
                }
            };
            errors.push(Error::new(variable, problem));
            continue;
        };
        match to_value(kind, text) {
            Ok(value) => {
                insert(table, &path, value, &variables);
                variables.insert(path, variable);
            }
            Err(problem) => errors.push(Error::new(path, problem).variable(Some(&variable))),
        }
    }
    variables
}

/// Variables that say where things are rather than what the proxy does.
fn is_used_elsewhere(variable: &str) -> bool {
    matches!(variable, "CLOISON_CONFIG" | "CLOISON_DATA_DIR")
        || variable.starts_with("CLOISON_PG_BIN")
}

/// The concrete path that a variable sets.
fn resolve(variable: &str, table: &Table) -> Option<(String, Kind)> {
    let direct = KEYS.iter().find_map(|key| {
        concrete(key.path)
            .into_iter()
            .find(|path| variable_of(path) == variable)
            .map(|p| (p, key.kind))
    });
    if direct.is_some() {
        return direct;
    }
    let rest = variable.strip_prefix("CLOISON_ISSUERS_")?;
    // At most one fits: no key ends in another one, which a test keeps so.
    let (key, name, kind) = issuer_keys().find_map(|(key, kind)| {
        let name = rest.strip_suffix(&key.to_uppercase())?.strip_suffix('_')?;
        (!name.is_empty() && name == name.to_uppercase()).then_some((key, name, kind))
    })?;
    let written = table
        .get("issuers")
        .and_then(Value::as_table)
        .and_then(|issuers| issuers.keys().find(|written| in_variable(written) == name).cloned());
    Some((format!("issuers.{}.{key}", written.unwrap_or_else(|| name.to_lowercase())), kind))
}

/// Names near which a mistyped variable may lie.
fn candidates(variable: &str) -> Vec<String> {
    let mut all: Vec<String> =
        KEYS.iter().flat_map(|key| concrete(key.path)).map(|path| variable_of(&path)).collect();
    if let Some(rest) = variable.strip_prefix("CLOISON_ISSUERS_") {
        for (at, _) in rest.match_indices('_') {
            all.extend(
                issuer_keys().map(|(key, _)| {
                    format!("CLOISON_ISSUERS_{}_{}", &rest[..at], key.to_uppercase())
                }),
            );
        }
    }
    all
}

/// The paths of a family whose names are known beforehand: all but the issuers.
fn concrete(pattern: &str) -> Vec<String> {
    if pattern.starts_with("issuers.") {
        return Vec::new();
    }
    if !pattern.contains('*') {
        return vec![pattern.to_owned()];
    }
    Access::ALL
        .iter()
        .map(|access| pattern.replace('*', access.as_str()))
        .filter(|path| keys::find(path).is_some())
        .collect()
}

fn issuer_keys() -> impl Iterator<Item = (&'static str, Kind)> {
    KEYS.iter().filter_map(|key| Some((key.path.strip_prefix("issuers.*.")?, key.kind)))
}

fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", in_variable(path))
}

/// A path as a part of a variable's name.
pub(super) fn in_variable(path: &str) -> String {
    path.replace(['.', '-'], "_").to_uppercase()
}

/// Gives a variable's text the type that the key has in a file. Text that does not fit stays text,
/// which the reader then refuses in the same words as it does for a file.
fn to_value(kind: Kind, text: String) -> Result<Value, &'static str> {
    let value = match kind {
        Kind::Boolean => text.parse().ok().map(Value::Boolean),
        Kind::Integer => text.parse().ok().map(Value::Integer),
        Kind::Duration | Kind::Secret | Kind::Text => None,
        Kind::List if !text.trim_start().starts_with('[') => None,
        Kind::List => Some(inline(&text).ok_or("expected a list with commas or a TOML array")?),
        Kind::Table if text.is_empty() => None,
        Kind::Table => {
            Some(inline(&text).ok_or(r#"expected a TOML table such as { role = "admin" }"#)?)
        }
    };
    Ok(value.unwrap_or(Value::String(text)))
}

fn inline(text: &str) -> Option<Value> {
    let mut table: Table = format!("value = {text}").parse().ok()?;
    let value = table.remove("value")?;
    // More than one key means that the text held a line of its own.
    table.is_empty().then_some(value)
}

/// Puts a value where its path leads, and takes away what the file says instead of it: a password
/// from the environment is meant to replace the file's `password_file`.
fn insert(table: &mut Table, path: &str, value: Value, variables: &BTreeMap<String, String>) {
    let Some((section, name)) = path.rsplit_once('.') else {
        table.insert(path.to_owned(), value);
        return;
    };
    let mut table = table;
    for part in section.split('.') {
        let entry = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
        // The file has a plain value where a section belongs: the reader will say so.
        let Some(inner) = entry.as_table_mut() else { return };
        table = inner;
    }
    for group in ALTERNATIVES.iter().filter(|group| group.contains(&name)) {
        table.retain(|other, _| {
            !group.contains(&other) || variables.contains_key(&format!("{section}.{other}"))
        });
    }
    table.insert(name.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_issuer_key_ends_in_another() {
        for (long, _) in issuer_keys() {
            for (short, _) in issuer_keys() {
                assert!(!long.ends_with(&format!("_{short}")), "{long} {short}");
            }
        }
    }
}
