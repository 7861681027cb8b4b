//! STYLE's rules that a machine can hold: who may import whom, how long files and functions are,
//! and where SQL is written.
//!
//! The sources are read as text, with comments and test modules taken out. That is rough, but it
//! errs towards seeing too much.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may import from the crate besides itself: always from lower levels.
///
/// Exceptions to "all lower levels" are what a layer must not know: the kit serves no clients, the
/// tenant layer has no sockets, pools know no clients, sessions know no tokens. `observe` takes the
/// log's settings from `config` and nothing else.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("scan", &[]),
    ("statement", &["scan"]),
    ("recent", &[]),
    ("files", &[]),
    ("guard", &["scan", "statement", "recent"]),
    ("protocol", &["types", "scan"]),
    ("config", &["types", "guard"]),
    ("observe", &["types", "config"]),
    ("tls", &["types", "config", "observe"]),
    ("shutdown", &["types", "config", "observe"]),
    ("workers", &[]),
    (
        "frontend",
        &["types", "scan", "guard", "protocol", "config", "observe", "tls", "shutdown", "workers"],
    ),
    ("auth", &["types", "scan", "recent", "protocol", "config", "observe", "tls", "shutdown"]),
    ("backend", &["types", "statement", "protocol", "config", "observe", "tls", "shutdown"]),
    ("kit", &["types", "config", "observe", "tls"]),
    // The directory asks the database through the control connection, and nothing else.
    (
        "tenant",
        &["types", "statement", "recent", "protocol", "config", "observe", "auth", "backend"],
    ),
    (
        "pool",
        &[
            "types",
            "statement",
            "recent",
            "protocol",
            "config",
            "observe",
            "tls",
            "shutdown",
            "backend",
            "tenant",
        ],
    ),
    (
        "session",
        &[
            "types",
            "scan",
            "statement",
            "recent",
            "guard",
            "protocol",
            "config",
            "observe",
            "shutdown",
            "backend",
            "tenant",
            "pool",
        ],
    ),
    ("admin", &["types", "protocol", "config", "observe", "shutdown", "tenant", "pool", "session"]),
    (
        "proxy",
        &[
            "types",
            "statement",
            "guard",
            "protocol",
            "config",
            "observe",
            "tls",
            "shutdown",
            "frontend",
            "auth",
            "backend",
            "tenant",
            "pool",
            "session",
            "admin",
        ],
    ),
    ("dev", &["types", "files", "config", "observe", "tls", "auth", "kit"]),
    (
        "cli",
        &[
            "types",
            "files",
            "statement",
            "guard",
            "protocol",
            "config",
            "observe",
            "tls",
            "shutdown",
            "workers",
            "frontend",
            "auth",
            "backend",
            "kit",
            "tenant",
            "pool",
            "session",
            "admin",
            "proxy",
            "dev",
        ],
    ),
];

/// Where SQL may be written in Rust.
const SQL_PLACES: &[&str] =
    // The guard and the filter know commands by their names.
    &[
        "src/guard",
        "src/session/filter.rs",
        "src/tenant/bind.rs",
        "src/pool/release.rs",
        // What stands in place of statements that are the proxy's.
        "src/statement/identity/reader.rs",
        "src/pool/late.rs",
        "src/kit",
        "src/cli",
        "src/dev",
    ];

const SQL_VERBS: &[&str] =
    &["select", "insert", "update", "delete", "create", "alter", "drop", "set", "discard"];

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 80;

#[test]
fn sources_keep_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    assert!(!files.is_empty());
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().display().to_string();
        found.extend(check(&path, &fs::read_to_string(&file).unwrap()));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Everything in one source that breaks a rule.
fn check(path: &str, source: &str) -> Vec<String> {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return Vec::new();
    }
    let source = without_tests(source);
    let lines = source.lines().count();
    let mut found = Vec::new();
    if lines > LONGEST_FILE {
        found.push(format!("{path}: {lines} lines, at most {LONGEST_FILE}"));
    }
    let text = Text::of(&source);
    let modules: Vec<&str> =
        path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    let module = modules[0];
    if !matches!(module, "lib" | "main") {
        let depth = modules.iter().filter(|name| **name != "mod").count();
        found.extend(wrong_imports(path, module, depth, &text.code));
    }
    found.extend(long_functions(path, &text.code));
    if !SQL_PLACES.iter().any(|place| path.starts_with(place)) {
        let sql = text.strings.iter().filter(|(_, string)| is_sql(string));
        found.extend(sql.map(|(line, string)| {
            let start: String = string.chars().take(40).collect();
            format!("{path}:{line}: SQL outside sql/: {start:?}")
        }));
    }
    found
}

/// The source without its test module, which ends at the first brace of a line's first column.
fn without_tests(source: &str) -> String {
    let start = source.match_indices("#[cfg(test)]").find(|(at, mark)| {
        let next = source[at + mark.len()..].trim_start();
        next.starts_with("mod ") && next.lines().next().is_some_and(|line| line.ends_with('{'))
    });
    let Some((start, _)) = start else { return source.to_owned() };
    let end = source[start..].find("\n}").map_or(source.len(), |end| start + end + 2);
    format!("{}{}", &source[..start], &source[end..])
}

/// A source taken apart.
struct Text {
    /// The code alone: comments and what strings hold are blanks, lines stay where they were.
    code: String,
    /// Every string literal, and its line.
    strings: Vec<(usize, String)>,
}

impl Text {
    fn of(source: &str) -> Self {
        let mut text = Self { code: String::new(), strings: Vec::new() };
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            let end = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |at| at + 2)
            } else if let Some((open, close)) = text.string(rest) {
                let line = text.code.matches('\n').count() + 1;
                text.strings.push((line, rest[open..close].to_owned()));
                // The closing quote and its hashes, as many as the opening has.
                let hashes = rest[..open].matches('#').count();
                (close + 1 + hashes).min(rest.len())
            } else if let Some(length) = character(rest) {
                length
            } else {
                text.code.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            };
            text.code.extend(rest[..end].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[end..];
        }
        text
    }

    /// Where the content of the string literal at the start of `rest` begins and ends.
    fn string(&self, rest: &str) -> Option<(usize, usize)> {
        let in_name = self.code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r');
        let prefix = rest.len() - raw.map_or(rest.len(), str::len);
        if let Some(raw) = raw.filter(|_| !in_name) {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            if raw[hashes..].starts_with('"') {
                let open = prefix + hashes + 1;
                let close = format!("\"{}", "#".repeat(hashes));
                return Some((open, open + rest[open..].find(&close)?));
            }
        }
        let content = rest.strip_prefix('"')?;
        let mut escaped = false;
        let close = content.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        Some((1, 1 + close))
    }
}

/// The length of the character literal at the start of `rest`, as opposed to a lifetime.
fn character(rest: &str) -> Option<usize> {
    let content = rest.strip_prefix('\'')?;
    if let Some(escape) = content.strip_prefix('\\') {
        return escape.get(1..)?.find('\'').map(|at| at + 4);
    }
    let first = content.chars().next()?;
    content[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

fn wrong_imports(path: &str, module: &str, depth: usize, code: &str) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{path}: {module} has no place in LAYERS")];
    };
    let imported = imports(code, depth);
    let wrong = imported.iter().filter(|name| *name != module && !allowed.contains(&name.as_str()));
    wrong.map(|name| format!("{path}: {module} must not import {name}")).collect()
}

/// The first names of all paths that start at the crate: `crate::…`, and `super::…` as often as the
/// file is deep.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::");
    let code = code.replace(":: ", "::");
    let mut names = BTreeSet::new();
    for root in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            first_names(&code[at + root.len()..], &mut names);
        }
    }
    names
}

/// The name at the start of `rest`, or of each item of the group there.
fn first_names(rest: &str, names: &mut BTreeSet<String>) {
    let Some(group) = rest.strip_prefix('{') else {
        names.insert(name_at(rest).to_owned());
        return;
    };
    let (mut depth, mut is_start) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => return,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            ' ' => {}
            _ if is_start => {
                names.insert(name_at(&group[at..]).to_owned());
                is_start = false;
            }
            _ => {}
        }
    }
}

/// The word at the start of `rest`, without the `*` of a glob, which then is a name of its own.
fn name_at(rest: &str) -> &str {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    if end == 0 { rest.get(..1).unwrap_or_default() } else { &rest[..end] }
}

/// Functions from the line of `fn` to the line of their last brace.
fn long_functions(path: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_word =
            code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let rest = &code[at..];
        // In a trait there may be no body: then the line ends before there is a brace.
        let Some(open) = rest.find('{').filter(|open| !rest[..*open].contains(";\n")) else {
            continue;
        };
        let name = name_at(&rest[3..]);
        if !starts_word || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let mut depth = 0_usize;
        let body = rest[open..].find(|c| {
            depth = match c {
                '{' => depth + 1,
                '}' => depth - 1,
                _ => depth,
            };
            depth == 0
        });
        let end = open + body.unwrap_or(rest.len() - open - 1);
        let lines = rest[..=end].lines().count();
        if lines > LONGEST_FUNCTION {
            let line = code[..at].matches('\n').count() + 1;
            found.push(format!(
                "{path}:{line}: fn {name} has {lines} lines, at most {LONGEST_FUNCTION}"
            ));
        }
    }
    found
}

/// Whether a string starts as a statement does: a verb and a blank, with something behind it.
fn is_sql(string: &str) -> bool {
    let lower = string.trim_start().to_lowercase().replace("\\n", "\n");
    SQL_VERBS.iter().any(|verb| {
        lower
            .strip_prefix(verb)
            .is_some_and(|rest| rest.starts_with(char::is_whitespace) && !rest.trim().is_empty())
    })
}

#[track_caller]
fn finds(path: &str, source: &str, expected: &[&str]) {
    assert_eq!(check(path, source), expected);
}

#[test]
fn wrong_imports_are_found() {
    let (pool, no_backend) = ("src/pool/mod.rs", "src/auth/token.rs");
    finds(pool, "use crate::backend::Connection;\nuse crate::types::Access;", &[]);
    finds(pool, "use crate::auth::Claims;", &["src/pool/mod.rs: pool must not import auth"]);
    for source in [
        "use crate::backend;",
        "use crate::{types::Access, backend::{Connection, Error}};",
        "use crate::{\n    types::{Access, Secret},\n    backend,\n};",
        "fn f() { crate::backend::connect() }",
        "pub(in crate::backend) fn f() {}",
        "use super::super::backend::Connection;",
    ] {
        finds(no_backend, source, &["src/auth/token.rs: auth must not import backend"]);
    }
    for source in [
        "use super::keys;",
        "// crate::backend\n/* crate::backend */ const A: &str = \"crate::backend\";",
        "const A: &str = r#\"a \" crate::backend\"#; const B: char = '\"';",
        "use my_crate::backend;",
        "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::backend;\n}",
    ] {
        finds(no_backend, source, &[]);
    }
    let behind = "#[cfg(test)]\nmod tests {\n    use crate::x;\n}\nuse crate::backend;";
    finds(no_backend, behind, &["src/auth/token.rs: auth must not import backend"]);
    finds("src/tls.rs", "use super::session;", &["src/tls.rs: tls must not import session"]);
    finds("src/tls.rs", "use crate::*;", &["src/tls.rs: tls must not import *"]);
    finds("src/util.rs", "", &["src/util.rs: util has no place in LAYERS"]);
    finds("src/lib.rs", "pub use crate::session::run;", &[]);
}

#[test]
fn layers_go_down() {
    for (index, (name, allowed)) in LAYERS.iter().enumerate() {
        let lower: Vec<&str> = LAYERS[..index].iter().map(|(name, _)| *name).collect();
        for import in *allowed {
            assert!(lower.contains(import), "{name} imports {import}");
        }
    }
}

#[test]
fn long_files_and_functions_are_found() {
    let lines = |count: usize| "// x\n".repeat(count);
    finds("src/types.rs", &lines(400), &[]);
    finds("src/types.rs", &lines(401), &["src/types.rs: 401 lines, at most 400"]);
    let tests = format!("\n#[cfg(test)]\nmod tests {{\n{}}}", lines(900));
    finds("src/types.rs", &format!("{}{tests}", lines(390)), &[]);
    finds("src/config/tests.rs", &lines(900), &[]);
    let function = |count: usize| {
        format!("//\nfn f<'a>(g: fn(u8)) -> [u8; 4] {{\n{}}}", "    { '}'; }\n".repeat(count - 2))
    };
    finds("src/types.rs", &function(80), &[]);
    finds("src/types.rs", &function(81), &["src/types.rs:2: fn f has 81 lines, at most 80"]);
}

#[test]
fn sql_is_found_outside_its_places() {
    for string in ["select 1", "SELECT\\n1", "  Drop table x", "set x = 1"] {
        let source = format!("\nconst A: &str = \"{string}\";");
        let found = check("src/session/mod.rs", &source);
        assert_eq!(found.len(), 1, "{string} {found:?}");
        assert!(found[0].starts_with("src/session/mod.rs:2: SQL outside sql/"), "{found:?}");
        for place in [
            "src/tenant/bind.rs",
            "src/pool/release.rs",
            "src/pool/late.rs",
            "src/kit/install.rs",
            "src/cli/x.rs",
            "src/dev/mod.rs",
        ] {
            finds(place, &source, &[]);
        }
    }
    for string in ["selected 1", "set", "set ", "a select", "settings of"] {
        finds("src/session/mod.rs", &format!("const A: &str = \"{string}\";"), &[]);
    }
    finds("src/session/mod.rs", "// \"select 1\"\n/// \"select 1\"\nfn f() {}", &[]);
}
