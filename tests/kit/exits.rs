//! How each verb of the program ends: the table of exit codes in docs/configuration.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Server, batch, run};

/// A table that is protected, and one that could be.
const TABLES: &str = "
    create table public.note (tenant_id uuid not null, id bigint, primary key (tenant_id, id));
    select cloison.protect('public.note');
    create table public.plain (id int primary key)";

/// What the page says of 1 and 2, by verb. A dash: it does not end so.
fn documented() -> BTreeMap<String, [String; 2]> {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let table = page.split_once("| verb | 1 | 2 |\n|---|---|---|\n").unwrap().1;
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [verb, one, two] = cells[..] else { panic!("{row}") };
        (verb.trim_matches('`').to_owned(), [one.to_owned(), two.to_owned()])
    })
    .collect()
}

fn ends(words: &str, url: &str, folder: &Path) -> (i32, String) {
    let words = words.split(' ').map(|word| match word {
        "URL" => url.to_owned(),
        "NOWHERE" => "host=/nowhere user=x".to_owned(),
        "ARCHIVE" | "ANOTHER" | "CUT" => folder.join(word).display().to_string(),
        _ => word.to_owned(),
    });
    let output = Command::new(env!("CARGO_BIN_EXE_cloison")).args(words).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn each_verb_ends_as_the_readme_says() {
    let documented = documented();
    let server = Server::start(15);
    run(async {
        let database = server.database().await;
        batch(&database.owner().await, TABLES).await;
        batch(&database.owner().await, "select cloison.revoke_token('jti', 'for the record')")
            .await;
        batch(&database.superuser().await, "select cloison.audit_chain()").await;
        let url = database.url("owner");
        let broken = "alter table cloison.audit_log disable trigger all; delete from cloison.audit_log; \
                      update cloison.audit_head set position = 7";
        let folder = std::env::temp_dir().join(format!("cloison-exits-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let leaks = "grant select on public.plain to cloison_tenant";
        let mut seen = BTreeMap::new();
        for (verb, words, expected) in [
            ("adopt", "adopt --table public.plain --database-url URL", 0),
            (
                "adopt",
                "adopt --apply --table public.plain --stop-after expand --database-url URL",
                2,
            ),
            ("adopt", "adopt --database-url NOWHERE", 1),
            ("audit verify", "audit verify --database-url URL", 0),
            (
                "audit archive",
                "audit archive --before 2999-01-01 --to ARCHIVE --database-url URL",
                0,
            ),
            (
                "audit archive",
                "audit archive --before 2999-01-01 --to ANOTHER --database-url NOWHERE",
                2,
            ),
            ("audit check", "audit check ARCHIVE", 0),
            ("audit check", "CUT audit check CUT", 1),
            ("audit check", "audit check /nowhere", 2),
            ("audit verify", "audit verify --database-url URL", 0),
            ("audit verify", "BROKEN audit verify --database-url URL", 1),
            (
                "audit archive",
                "audit archive --before 2999-01-01 --to ANOTHER --database-url URL",
                1,
            ),
            ("audit verify", "audit verify --database-url NOWHERE", 2),
            ("check --connect", "check --connect --config config/minimal.toml", 1),
            ("lint", "lint --list", 0),
            ("lint", "LEAKS lint --database-url URL", 1),
            ("lint", "lint --database-url NOWHERE", 2),
            ("verify", "verify --database-url NOWHERE", 1),
            ("any other", "install --print", 0),
            ("any other", "install --database-url URL", 0),
            ("any other", "install --database-url NOWHERE", 1),
            ("any other", "check --config config/minimal.toml", 0),
            ("any other", "--version", 0),
            ("usage", "check --config /nowhere", 64),
            ("usage", "serve --config /nowhere", 64),
            ("usage", "lint --accept key", 64),
            ("usage", "nonsense", 64),
        ] {
            let (before, words) = match words.split_once(' ').unwrap_or((words, "")) {
                ("BROKEN", words) => (broken, words),
                ("LEAKS", words) => (leaks, words),
                ("CUT", words) => {
                    let text = fs::read_to_string(folder.join("ARCHIVE")).unwrap();
                    let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
                    fs::write(folder.join("CUT"), kept).unwrap();
                    ("", words)
                }
                _ => ("", words),
            };
            batch(&database.superuser().await, before).await;
            let (code, told) = ends(words, &url, &folder);
            assert_eq!(code, expected, "{words}: {told}");
            if let (code @ 1..=2, Some(cells)) = (expected, documented.get(verb)) {
                assert_ne!(cells[code as usize - 1], "–", "{verb} {code}");
                seen.insert((verb, code), ());
            }
        }
        // What `verify` finds is tried in it::verify.
        seen.insert(("verify", 2), ());
        let said = documented.iter().flat_map(|(verb, cells)| {
            [1, 2]
                .into_iter()
                .filter(|code| cells[*code as usize - 1] != "–")
                .map(|code| (&**verb, code))
        });
        assert!(said.eq(seen.into_keys()), "{documented:?}");
        fs::remove_dir_all(folder).unwrap();
    });
}
