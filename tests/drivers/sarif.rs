//! `cloison lint --format sarif` against the schema of SARIF 2.1.0, which npm has.

use std::io::Write;
use std::process::{Command, Stdio};

use cloison::kit::lint::{Acceptance, Finding, LINTS, Level, sarif};
use serde_json::{Value, json};

use crate::script::{folder, installed};
use crate::stand::{Mode, stand};

/// What the schema says to each.
fn judged(logs: &[Value]) -> Vec<String> {
    installed(&folder().join("node_modules/@microsoft/jest-sarif"));
    let mut node = Command::new("node")
        .arg(folder().join("node/sarif.js"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = logs.iter().map(|log| format!("{log}\n")).collect();
    node.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Everything that a finding may be, of each lint.
fn findings() -> Vec<Finding> {
    let levels = [Level::Info, Level::Warning, Level::Critical];
    let accepted = Acceptance {
        reason: "\"we\" know\n".to_owned(),
        by: "owner".to_owned(),
        at: "2026-02-28 23:59:59+00".to_owned(),
    };
    let one = |name: &str, level: Level, number: usize| Finding {
        name: name.to_owned(),
        level,
        object: "public.\"é\"".to_owned(),
        detail: "is there".to_owned(),
        fix: (number.is_multiple_of(2)).then(|| "drop table public.\"é\";".to_owned()),
        key: format!("{name}:{number}"),
        accepted: (number.is_multiple_of(3)).then(|| accepted.clone()),
    };
    let all = LINTS.iter().flat_map(|lint| levels.map(|level| (lint.name, level)));
    all.enumerate().map(|(number, (name, level))| one(name, level, number)).collect()
}

#[test]
fn sarif_is_valid() {
    let url = stand().url(Mode::Session, "DIRECT_URL");
    let lint = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["lint", "--format", "sarif", "--database-url", url])
        .output()
        .unwrap();
    assert_eq!(lint.status.code(), Some(0), "{}", String::from_utf8_lossy(&lint.stderr));
    let found: Value = serde_json::from_slice(&lint.stdout).unwrap();
    let all = sarif::log(&findings());
    let mut wrong = all.clone();
    wrong["runs"][0]["results"][0]["level"] = json!("bad");
    let said = judged(&[found, all, sarif::log(&[]), wrong]);
    assert_eq!(said[..3], ["valid", "valid", "valid"]);
    assert!(said[3].contains("level should be equal to one of the allowed values"), "{}", said[3]);
}
