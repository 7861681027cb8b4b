//! Takes values out of the table, one key at a time, and keeps every error until the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use crate::types::Secret;

use super::duration;
use super::error::Error;
use super::keys::{self, Kind};
use super::places::Places;

/// What `cloison check` prints in the place of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// The file and the environment as one table, and the errors found in it so far.
///
/// A value that is wrong leaves an error and reads as its type's nothing, so that reading goes on
/// and finds the next error. Whoever builds something from the values must look at the errors last.
pub(super) struct Reader {
    table: Table,
    variables: BTreeMap<String, String>,
    places: Places,
    errors: RefCell<Vec<Error>>,
    /// Families of the keys that were asked for; a test compares them with the list.
    asked: RefCell<BTreeSet<&'static str>>,
}

impl Reader {
    /// Refuses at once what is not on the list of keys.
    pub(super) fn new(
        table: Table,
        variables: BTreeMap<String, String>,
        places: Places,
        mut errors: Vec<Error>,
    ) -> Self {
        let mut unknown = Vec::new();
        refuse_unknown(&table, "", &mut unknown);
        errors.extend(unknown.into_iter().map(|error| places.locate(error)));
        Self { table, variables, places, errors: RefCell::new(errors), asked: RefCell::default() }
    }

    /// The errors so far, or nothing.
    pub(super) fn finish(self) -> Vec<Error> {
        self.errors.into_inner()
    }

    pub(super) fn error(&self, error: Error) {
        self.errors.borrow_mut().push(self.places.locate(error));
    }

    /// The keys outside every section.
    pub(super) fn top(&self) -> Section<'_> {
        Section { reader: self, path: String::new(), table: Some(&self.table) }
    }

    /// The keys of one section, which may be absent.
    pub(super) fn section(&self, path: &str) -> Section<'_> {
        let table = path
            .split('.')
            .try_fold(&self.table, |table, name| table.get(name).and_then(Value::as_table));
        Section { reader: self, path: format!("{path}."), table }
    }

    /// The names of a section's sections.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let table = self.section(path).table;
        table.into_iter().flat_map(|table| table.keys().cloned()).collect()
    }

    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<&'static str> {
        self.asked.borrow().clone()
    }
}

fn refuse_unknown(table: &Table, path: &str, errors: &mut Vec<Error>) {
    for (name, value) in table {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_section = match path.split('.').count() {
            1 => keys::SECTIONS.contains(&name.as_str()),
            2 => path.starts_with("pools.") || path.starts_with("issuers."),
            _ => false,
        };
        match value.as_table() {
            // A dot in a name can only come from quotes, and would be taken for two names.
            _ if name.contains('.') => {
                let problem = "unknown key: names in quotes may hold no dots";
                errors.push(Error::new(path, problem));
            }
            Some(_) if path.starts_with("pools.") && is_section && !is_pool(name) => {
                let problem = "unknown pool: expected tenant, superadmin or owner";
                errors.push(Error::new(path, problem));
            }
            Some(inner) if is_section => refuse_unknown(inner, &path, errors),
            None if is_section => {
                errors.push(Error::new(&path, format!("expected a section: [{path}]")));
            }
            _ if keys::find(&path).is_some() => {}
            _ => {
                let problem = format!("unknown key{}", keys::suggestion(&path));
                errors.push(Error::new(path, problem));
            }
        }
    }
}

fn is_pool(name: &str) -> bool {
    crate::types::Access::ALL.iter().any(|access| access.as_str() == name)
}

/// The keys of one section.
#[derive(Clone)]
pub(super) struct Section<'a> {
    reader: &'a Reader,
    /// Empty, or ends in a dot.
    path: String,
    table: Option<&'a Table>,
}

impl Section<'_> {
    /// Whether the file or the environment has this section.
    pub(super) const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether a key was given, and not as empty text.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether a key was given, whatever its default.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Reads a key, or nothing if it is absent or wrong.
    pub(super) fn read<T>(
        &self,
        key: &str,
        allowed: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.refuse(key, format!("expected {allowed}"));
        }
        parsed
    }

    /// Leaves an error if a key is absent.
    pub(super) fn require(&self, key: &str, allowed: &str) -> bool {
        let present = self.has(key);
        if !present {
            self.refuse(key, format!("required: {allowed}"));
        }
        present
    }

    /// Text, empty if absent.
    pub(super) fn text(&self, key: &str) -> String {
        self.optional_text(key).unwrap_or_default()
    }

    pub(super) fn optional_text(&self, key: &str) -> Option<String> {
        self.read(key, "text", |value| value.as_str().map(str::to_owned))
            .filter(|text| !text.is_empty() || self.refuse_empty(key))
    }

    pub(super) fn boolean(&self, key: &str) -> bool {
        self.read(key, "true or false", Value::as_bool).unwrap_or_default()
    }

    pub(super) fn duration(&self, key: &str) -> Duration {
        self.read(key, duration::ALLOWED, duration::parse).unwrap_or_default()
    }

    /// A duration for what counts in seconds.
    pub(super) fn whole_seconds(&self, key: &str) -> Duration {
        self.read(key, duration::ALLOWED_WHOLE, duration::parse_whole).unwrap_or_default()
    }

    /// A whole number within `range`, or nothing if absent or wrong.
    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &allowed, |value| {
            let number = value.as_integer().filter(|number| range.contains(number))?;
            T::try_from(number).ok()
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let allowed = one_of(words);
        self.read(key, &allowed, |value| find_word(words, value.as_str()?))
    }

    /// A list with commas, or a TOML array of texts.
    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        self.read(key, "a list with commas or an array of texts", as_list)
    }

    /// A list of words out of a few.
    pub(super) fn choices<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<Vec<T>> {
        let allowed = format!("a list of {}", one_of(words));
        self.read(key, &allowed, |value| {
            as_list(value)?.iter().map(|word| find_word(words, word)).collect()
        })
    }

    /// The name of a file or folder. A relative one starts from the configuration's folder, unless
    /// a variable holds it.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        let name = self.optional_text(key)?;
        let is_from_variable = self.reader.variables.contains_key(&self.path_of(key));
        Some(if is_from_variable { name.into() } else { self.reader.places.resolve(&name) })
    }

    /// A file that is there; nothing if it is not.
    pub(super) fn file(&self, key: &str) -> Option<PathBuf> {
        let path = self.path(key)?;
        let problem = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return Some(path),
            Ok(_) => "expected a file".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        // Shown as it was written, which is half of a relative name.
        let is_relative = Path::new(&self.text(key)).is_relative();
        let place = if is_relative { format!(" ({})", path.display()) } else { String::new() };
        self.refuse(key, format!("{problem}{place}"));
        None
    }

    /// A file that only its owner and group may read.
    pub(super) fn private_file(&self, key: &str) -> Option<PathBuf> {
        let path = self.file(key)?;
        if fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0) {
            let path = path.display();
            self.refuse(key, format!("every user of this machine may open it: chmod 600 {path}"));
        }
        Some(path)
    }

    /// The secret in the key `name`, or in the file that `name_file` names.
    pub(super) fn secret(&self, name: &str) -> Option<Secret<Vec<u8>>> {
        let in_file = format!("{name}_file");
        if self.has(name) && self.has(&in_file) {
            self.refuse(name, format!("give {name} or {in_file}, not both"));
        }
        if let Some(secret) = self.read(name, "text", |value| value.as_str().map(str::to_owned)) {
            if secret == REDACTED {
                let problem = "this is what `cloison check` prints for a secret; write the secret";
                self.refuse(name, problem);
            }
            return Some(Secret::new(secret.into_bytes()));
        }
        match read_secret(&self.private_file(&in_file)?) {
            Ok(secret) if secret.expose().is_empty() => self.refuse(&in_file, "the file is empty"),
            Ok(secret) => return Some(secret),
            Err(error) => self.refuse(&in_file, format!("cannot be read: {error}")),
        }
        None
    }

    /// Leaves an error at a key, with its value unless that is a secret.
    pub(super) fn refuse(&self, key: &str, problem: impl Into<String>) {
        let path = self.path_of(key);
        let shown = self
            .table
            .and_then(|table| table.get(key))
            .filter(|_| keys::find(&path).is_some_and(|key| key.kind != Kind::Secret))
            .map(Value::to_string);
        let mut error = Error::new(&path, problem).variable(self.reader.variables.get(&path));
        if let Some(value) = shown {
            error = error.value(value);
        }
        self.reader.error(error);
    }

    /// Leaves an error at a key whose value may hold a secret by mistake, such as a URL.
    pub(super) fn refuse_unseen(&self, key: &str, problem: &str) {
        let path = self.path_of(key);
        let variable = self.reader.variables.get(&path);
        self.reader.error(Error::new(&path, problem).variable(variable));
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// What was written, or else the default. Empty text means "absent" for a key without default.
    fn value(&self, key: &str) -> Option<Value> {
        let known = keys::find(&self.path_of(key))?;
        self.reader.asked.borrow_mut().insert(known.path);
        let written = self.table.and_then(|table| table.get(key));
        if known.default.is_empty() {
            return written.filter(|value| value.as_str() != Some("")).cloned();
        }
        written.cloned().or_else(|| default_value(known.default))
    }

    fn refuse_empty(&self, key: &str) -> bool {
        self.refuse(key, "expected text that is not empty");
        false
    }
}

/// Reads a default of the list of keys; a test reads them all.
pub(super) fn default_value(default: &str) -> Option<Value> {
    format!("value = {default}").parse::<Table>().ok()?.remove("value")
}

/// Reads a secret from its file. One newline at the end belongs to the file, not to the secret.
///
/// # Errors
///
/// The file cannot be read.
pub fn read_secret(path: &Path) -> io::Result<Secret<Vec<u8>>> {
    let mut bytes = fs::read(path)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(Secret::new(bytes))
}

/// The items of a list; none of them empty.
fn as_list(value: &Value) -> Option<Vec<String>> {
    if let Some(text) = value.as_str() {
        if text.trim().is_empty() {
            return Some(Vec::new());
        }
        let items = text.split(',').map(|item| item.trim().to_owned());
        return items.map(|item| (!item.is_empty()).then_some(item)).collect();
    }
    let items = value.as_array()?.iter();
    items.map(|item| item.as_str().filter(|item| !item.is_empty()).map(str::to_owned)).collect()
}

fn find_word<T: Copy>(words: &[(&str, T)], word: &str) -> Option<T> {
    words.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}
