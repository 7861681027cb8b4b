//! `cloison lint` as a program: what it prints, and its exit codes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Database, Server, batch, run, texts};

/// A view of all tenants' notes, a key across tenants, and a table nobody protected.
const FAULTS: &str = "
    create table public.note (tenant_id uuid not null, id bigint primary key, body text);
    select cloison.protect('public.note');
    create view public.notes as select * from public.note;
    grant select on public.notes to cloison_tenant;
    create table public.fresh (id int)";

fn cloison(database: &Database<'_>, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["lint", "--database-url", &database.url("owner")])
        .args(arguments)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_program_tells_accepts_and_cures() {
    let server = Server::start(15);
    run(async {
        let database = server.database().await;
        let owner = database.owner().await;
        batch(&owner, FAULTS).await;

        table(&database);
        json(&database);
        sarif(&database);
        accepting(&database, &texts(&owner, "select session_user").await[0]);
        let kept = "select action from cloison.audit_log";
        assert_eq!(texts(&owner, kept).await, ["finding.accepted"]);
        batch(&owner, "delete from cloison.accepted_findings").await;
        cure(&database);
    });
}

fn table(database: &Database<'_>) {
    let output = cloison(database, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let page = told(&output);
    let lines: Vec<_> = page.lines().collect();
    let place = |line: &str, word: &str| line.find(word).unwrap_or_else(|| panic!("{page}"));
    assert_eq!(place(lines[1], "public.notes"), place(lines[0], "OBJECT"), "{page}");
    assert_eq!(place(lines[1], "tenants have"), place(lines[0], "WHAT"), "{page}");
    assert_eq!(lines[2], "          fix: alter view public.notes set (security_invoker = on);");
    assert_eq!(lines[3], "          key: view_not_invoker:public.notes");
    assert!(lines.last().unwrap().starts_with("1 critical, "), "{page}");

    // Nothing below a level.
    let page = told(&cloison(database, &["--level", "critical"]));
    assert_eq!(page.lines().count(), 5, "{page}");
}

fn json(database: &Database<'_>) {
    let output = cloison(database, &["--format", "json", "--level", "warning"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &all["findings"][0];
    assert_eq!(first["level"], "critical");
    assert_eq!(first["key"], "view_not_invoker:public.notes");
    assert_eq!(first["accepted"], Value::Null);
    for finding in all["findings"].as_array().unwrap() {
        for name in ["name", "level", "object", "detail", "key"] {
            assert!(finding[name].is_string(), "{name} of {finding}");
        }
    }
}

/// What the schema of SARIF 2.1.0 demands, and what consumers of it read.
fn sarif(database: &Database<'_>) {
    let output = cloison(database, &["--format", "sarif"]);
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let [run] = &log["runs"].as_array().unwrap()[..] else { panic!("{log}") };
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "cloison");
    let rules = driver["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert!(results.len() >= 3, "{log}");
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["logicalLocations"][0];
        assert!(place["fullyQualifiedName"].is_string());
        assert!(result["partialFingerprints"]["cloison/v1"].is_string());
    }
}

fn accepting(database: &Database<'_>, owner: &str) {
    let key = "view_not_invoker:public.notes";
    let accept = |key, reason| cloison(database, &["--accept", key, "--reason", reason]);
    let wrong = accept("view_not_invoker:public.nothing", "we know");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no finding with the key"));
    assert_eq!(accept(key, " ").status.code(), Some(2));

    let output = accept(key, "it holds nothing but sums");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = told(&output);
    assert!(page.contains(&format!("by {owner}: it holds nothing but sums\n")), "{page}");
    assert!(page.contains("\n0 critical, ") || page.starts_with("0 critical, "), "{page}");
    // What is below counts if it is asked for; what was accepted is not cured.
    assert_eq!(cloison(database, &["--fail-on", "warning"]).status.code(), Some(1));
    assert!(!told(&cloison(database, &["--fix"])).contains("public.notes"));
    let log: Value =
        serde_json::from_slice(&cloison(database, &["--format", "sarif"]).stdout).unwrap();
    let suppressed = &log["runs"][0]["results"][0]["suppressions"][0];
    assert_eq!(suppressed["kind"], "external");
    assert_eq!(suppressed["justification"], "it holds nothing but sums");
}

fn cure(database: &Database<'_>) {
    let fixes = cloison(database, &["--fix"]);
    assert_eq!(fixes.status.code(), Some(0));
    let mut psql = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", &database.url("owner")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(&fixes.stdout).unwrap();
    assert!(psql.wait().unwrap().success(), "{}", told(&fixes));
    let left = cloison(database, &["--format", "json"]);
    assert_eq!(left.status.code(), Some(0));
    let left: Value = serde_json::from_slice(&left.stdout).unwrap();
    let names = left["findings"].as_array().unwrap().iter().map(|finding| &finding["name"]);
    // A server is mended by a package manager.
    assert_eq!(names.filter(|name| *name != "server_outdated").count(), 0, "{left}");
}

#[test]
fn what_it_looks_for_is_listed_and_a_closed_door_is_told() {
    let lint = || Command::new(env!("CARGO_BIN_EXE_cloison"));
    let list = lint().args(["lint", "--list"]).output().unwrap();
    assert!(list.status.success() && told(&list).contains("view_not_invoker (critical): "));
    let nowhere = ["lint", "--database-url", "host=/nowhere user=x dbname=y"];
    let output = lint().args(nowhere).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
