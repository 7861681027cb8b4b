//! The documents say what the program does.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests count as tests")]

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
fn the_page_of_errors_lists_every_code_that_a_client_may_see() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = BTreeSet::new();
    codes_in_sources(&root.join("src"), &mut used);
    let listed = codes(&fs::read_to_string(root.join("docs/errors.md")).unwrap(), "\n| ", " |");
    assert!(used.len() > 30, "{used:?}");
    assert_eq!(used, listed);
}

#[test]
fn every_providers_section_can_be_copied() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/providers.md")).unwrap();
    let rest = "[server]\ndatabase = 'app'\n[control]\nuser = 'c'\n[pools.tenant]\nuser = 't'\n";
    let mut providers = BTreeSet::new();
    for block in page.split("```toml\n").skip(1) {
        let (section, _) = block.split_once("```").unwrap();
        // What stands above the first section of a block stands above all.
        let (top, section) = section.split_at(section.find('[').unwrap());
        let config = cloison::config::parse(&format!("{top}{rest}{section}"), std::iter::empty())
            .unwrap_or_else(|errors| panic!("{errors}\n{section}"));
        providers.insert(format!("{:?}", config.issuers[0].provider));
    }
    // All ten, and any other.
    assert_eq!(providers.len(), 11, "{providers:?}");
}

/// A way of leaking, and what shows that it does not: a row of `tests/ISOLATION.md`.
struct Entry<'a> {
    section: &'a str,
    leak: &'a str,
    tests: Vec<&'a str>,
    /// The words in bold of lines of SECURITY.md, or its headings.
    lines: Vec<&'a str>,
}

impl<'a> Entry<'a> {
    fn read(section: &'a str, row: &'a str) -> Self {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [leak, _, proof] = cells[..] else { panic!("{section}: three cells are due: {row}") };
        let (mut tests, mut lines) = (Vec::new(), Vec::new());
        let mut rest = proof;
        while !rest.is_empty() {
            let (found, open, close) = match rest.strip_prefix('`') {
                Some(_) => (&mut tests, "`", "`"),
                None => (&mut lines, "SECURITY.md: \"", "\""),
            };
            let quoted = rest.strip_prefix(open).and_then(|rest| rest.split_once(close));
            let Some((proof, after)) = quoted else { panic!("{section}: {leak}: {rest}") };
            found.push(proof);
            rest = after.strip_prefix(", ").unwrap_or(after);
        }
        Self { section, leak, tests, lines }
    }

    fn of_section(section: &'a str) -> Vec<Self> {
        let title = section.lines().next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with('|'));
        rows.skip(2).map(|row| Self::read(title, row)).collect()
    }
}

/// Whether `cloison verify` has a check of this name.
fn is_check(root: &Path, check: &str) -> bool {
    let folders = ["src/kit/verify", "src/kit/verify/attack"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    files.map(|entry| entry.unwrap().path()).filter(|file| file.is_file()).any(|file| {
        let text = fs::read_to_string(file).unwrap();
        let mut attacks = text.split("Attack =").skip(1);
        attacks.any(|text| text.split('"').nth(1) == Some(check))
    })
}

/// Whether `cargo test` knows it by this path behind its target's name, or `cloison verify` has it.
fn is_test(root: &Path, test: &str) -> bool {
    if let Some(check) = test.strip_prefix("verify::") {
        return is_check(root, check);
    }
    let parts: Vec<&str> = test.split("::").collect();
    let [target, modules @ .., name] = &parts[..] else { return false };
    let folder = if *target == "lib" { root.join("src") } else { root.join("tests").join(target) };
    // Tests may stand below the code itself.
    let inline = modules.strip_suffix(&["tests"]).unwrap_or(modules);
    let files = [modules, inline].map(|modules| folder.join(modules.join("/") + ".rs"));
    let Some(text) = files.iter().find_map(|file| fs::read_to_string(file).ok()) else {
        return false;
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = [format!("fn {name}("), format!("async fn {name}(")];
    let Some(at) = lines.iter().position(|line| head.iter().any(|head| line.starts_with(head)))
    else {
        return false;
    };
    let marks = ["#[test]", "#[tokio::test"];
    let is_marked = at > 0 && marks.iter().any(|mark| lines[at - 1].starts_with(mark));
    // The kit's are listed, or have a module, to be run on every major.
    let lists = ["\non_every_major!(", "\non_a_server_of_its_own!("];
    let lists = lists.iter().filter_map(|list| text.split_once(list)?.1.split_once(");"));
    let is_word = |c: char| !c.is_alphanumeric() && c != '_';
    let mut listed = lists.flat_map(|(list, _)| list.split(is_word));
    is_marked
        || listed.any(|word| word == *name)
        || lines.contains(&format!("mod {name} {{").as_str())
}

#[test]
fn every_way_of_leaking_has_a_proof_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let (map, security) = (read("tests/ISOLATION.md"), read("SECURITY.md"));
    let sections: Vec<_> = map.split("\n## ").skip(1).map(Entry::of_section).collect();
    assert_eq!(sections.len(), 10);
    for section in &sections {
        assert!(section.len() > 5, "{:?}", section.first().map(|entry| entry.section));
    }
    let mut wrong = Vec::new();
    for Entry { section, leak, tests, lines } in sections.iter().flatten() {
        let mut tell = |what: String| wrong.push(format!("{section}: {leak}: {what}"));
        for test in tests.iter().filter(|test| !is_test(root, test)) {
            tell(format!("there is no test {test}"));
        }
        for line in lines {
            let starts = [format!("- **{line}"), format!("## {line}")];
            if !security.lines().any(|text| starts.iter().any(|start| text.starts_with(start))) {
                tell(format!("SECURITY.md has no line {line:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where a link of a document leads, without what stands behind a `#`.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let rest = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    rest.map(|(link, _)| link.split_once('#').unwrap_or((link, "")))
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    let letters = letters.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    letters.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for folder in ["", "docs", "docs/recipes", "tests", "sql", "benches"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|ending| ending != "md") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            for (link, section) in links(&text).filter(|(link, _)| !link.contains("://")) {
                let there =
                    if link.is_empty() { file.clone() } else { file.parent().unwrap().join(link) };
                let headings = fs::read_to_string(&there).unwrap_or_default();
                let headings = headings.lines().filter(|line| line.starts_with('#'));
                let has_section = section.is_empty()
                    || headings
                        .map(|line| anchor(line.trim_start_matches('#').trim()))
                        .any(|heading| heading == section);
                if !there.exists() || !has_section {
                    wrong.push(format!("{}: {link}#{section}", file.display()));
                }
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_readme_is_a_first_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = fs::read_to_string(root.join("README.md")).unwrap().split_whitespace().count();
    assert!(words < 1_200, "{words} words: what is longer has a page in docs");
}
