//! Where the file says what: the line of every key, and the folder that file names start from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::Error;

/// The file that a configuration was read from; empty where there is none.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The file's name, as it was given.
    file: Option<String>,
    /// The folder that it is in, from the root.
    folder: Option<PathBuf>,
    /// The line of each key and section, by its path.
    lines: BTreeMap<String, usize>,
}

impl Places {
    /// The places of a file, whose text has been read as TOML before.
    pub(super) fn of(file: &Path, text: &str) -> Self {
        let mut lines = BTreeMap::new();
        if let Ok(table) = DeTable::parse(text) {
            // Spans are offsets, and come in the order of names.
            let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
            let line = |at: usize| ends.partition_point(|end| *end < at) + 1;
            collect(table.get_ref(), "", &line, &mut lines);
        }
        let folder = std::path::absolute(file).ok();
        let folder = folder.and_then(|file| file.parent().map(Path::to_owned));
        Self { file: Some(file.display().to_string()), folder, lines }
    }

    /// A file that the configuration names: its folder is where a relative name starts from.
    pub(super) fn resolve(&self, name: &str) -> PathBuf {
        match &self.folder {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        }
    }

    /// Says where an error about the key at `path` is: at the key, or at the section that it is
    /// missing from.
    pub(super) fn locate(&self, error: Error) -> Error {
        let Some(file) = &self.file else { return error };
        let mut path = error.path().to_owned();
        loop {
            if let Some(line) = self.lines.get(&path) {
                return error.at(format!("{file}:{line}"));
            }
            match path.rfind('.') {
                Some(dot) => path.truncate(dot),
                None => return error.at(file.clone()),
            }
        }
    }
}

fn collect(
    table: &DeTable<'_>,
    prefix: &str,
    line: &impl Fn(usize) -> usize,
    lines: &mut BTreeMap<String, usize>,
) {
    for (name, value) in table {
        let path = format!("{prefix}{}", name.get_ref());
        lines.insert(path.clone(), line(name.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect(inner, &format!("{path}."), line, lines);
        }
    }
}
