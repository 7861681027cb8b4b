//! The suite's outcome as JUnit XML: a suite for each table, a case for each check.

use crate::kit::verify::{Outcome, Report, Verdict};

pub(super) fn xml(report: &Report) -> String {
    let tally = report.tally();
    let total = tally.passed + tally.open + tally.failed + tally.skipped;
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"cloison verify\" \
         tests=\"{total}\" failures=\"{}\" skipped=\"{}\">\n",
        tally.failed,
        tally.skipped + tally.open,
    );
    let tables = report.tables.iter().map(String::as_str);
    for subject in tables.chain(report.other_subjects()) {
        let of: Vec<&Outcome> = report.outcomes.iter().filter(|o| o.subject == subject).collect();
        let count = |wanted: fn(&Verdict) -> bool| of.iter().filter(|o| wanted(&o.verdict)).count();
        xml.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
            escaped(subject),
            of.len(),
            count(|verdict| matches!(verdict, Verdict::Failed { .. })),
            count(|verdict| matches!(verdict, Verdict::Skipped { .. } | Verdict::Open { .. })),
        ));
        for outcome in of {
            xml.push_str(&case(outcome));
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn case(outcome: &Outcome) -> String {
    let by = outcome.tenant.map(|side| format!(", as tenant {side}")).unwrap_or_default();
    let name = escaped(&format!("{}{by}", outcome.check.promise()));
    let head = format!("    <testcase classname=\"{}\" name=\"{name}\"", escaped(&outcome.subject));
    let properties = properties(outcome);
    match &outcome.verdict {
        Verdict::Passed { .. } => format!("{head}>{properties}</testcase>\n"),
        // JUnit has no word for it; a failure would stop whoever has accepted it.
        Verdict::Open { seen, remedy } => format!(
            "{head}>{properties}<skipped message=\"known to be open: {}; {}\"/></testcase>\n",
            escaped(seen),
            escaped(remedy),
        ),
        Verdict::Skipped { reason } => {
            format!("{head}>{properties}<skipped message=\"{}\"/></testcase>\n", escaped(reason))
        }
        Verdict::Failed { seen, remedy } => format!(
            "{head}>{properties}<failure message=\"{}\">{}</failure></testcase>\n",
            escaped(seen),
            escaped(remedy),
        ),
    }
}

/// Where the check belongs, and what stopped what it tried.
fn properties(outcome: &Outcome) -> String {
    let Outcome { check, verdict, .. } = outcome;
    let layer = match verdict {
        Verdict::Passed { layer: Some(layer) } => layer.title(),
        Verdict::Open { .. } => "nothing",
        Verdict::Passed { layer: None } | Verdict::Skipped { .. } | Verdict::Failed { .. } => "",
    };
    let named = [
        ("id", check.id()),
        ("section", check.section().title()),
        ("owasp", check.owasp().title()),
        ("layer", layer),
    ];
    let told = named.iter().filter(|(_, value)| !value.is_empty());
    let told: String = told
        .map(|(name, value)| format!("<property name=\"{name}\" value=\"{}\"/>", escaped(value)))
        .collect();
    format!("<properties>{told}</properties>")
}

/// For text and for attributes. Characters that XML 1.0 cannot hold are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_xml() {
        let hostile = "a\"<b>&'\u{1}\n";
        assert_eq!(escaped(hostile), "a&quot;&lt;b&gt;&amp;&apos;&#10;");
    }
}
