//! Findings as SARIF 2.1.0, for tools that collect them.

use serde_json::{Value, json};

use super::{Finding, LINTS, Level};

/// The log of one run.
pub fn log(findings: &[Finding]) -> Value {
    let rules: Vec<Value> = LINTS
        .iter()
        .map(|lint| {
            json!({
                "id": lint.name,
                "shortDescription": { "text": lint.title() },
                "fullDescription": { "text": lint.why() },
            })
        })
        .collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "cloison",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                }
            },
            "results": results,
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let cure = finding.fix.as_ref().map(|fix| format!(". Mend it with: {fix}"));
    let text = format!("{}: {}{}", finding.object, finding.detail, cure.unwrap_or_default());
    let mut result = json!({
        "ruleId": finding.name,
        "ruleIndex": LINTS.iter().position(|lint| lint.name == finding.name),
        "level": match finding.level {
            Level::Critical => "error",
            Level::Warning => "warning",
            Level::Info => "note",
        },
        "message": { "text": text },
        // There is no file: the place is an object of the database.
        "locations": [{
            "logicalLocations": [{ "fullyQualifiedName": finding.object, "kind": "object" }],
        }],
        "partialFingerprints": { "cloison/v1": finding.key },
        "properties": { "key": finding.key, "fix": finding.fix, "level": finding.level },
    });
    if let Some(accepted) = &finding.accepted {
        result["suppressions"] = json!([{
            "kind": "external",
            "status": "accepted",
            "justification": accepted.reason,
        }]);
    }
    result
}
