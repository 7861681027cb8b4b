//! The documents say what the program does.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every `C123` in a text that stands between `open` and `close`.
fn codes(text: &str, open: &str, close: &str) -> BTreeSet<String> {
    let is_code = |code: &str| {
        code.len() == 4 && code.starts_with('C') && code[1..].bytes().all(|b| b.is_ascii_digit())
    };
    text.match_indices(open)
        .filter_map(|(at, _)| text[at + open.len()..].split_once(close))
        .map(|(code, _)| code)
        .filter(|code| is_code(code))
        .map(str::to_owned)
        .collect()
}

fn codes_in_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in_sources(&path, found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            found.extend(codes(code, "\"", "\""));
        }
    }
}

#[test]
fn the_readme_lists_every_code_that_a_client_may_see() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = BTreeSet::new();
    codes_in_sources(&root.join("src"), &mut used);
    let listed = codes(&fs::read_to_string(root.join("README.md")).unwrap(), "\n| ", " |");
    assert!(used.len() > 30, "{used:?}");
    assert_eq!(used, listed);
}
