//! What a hostile tenant has tried, by the kind of leak, with what stopped it.

use std::collections::BTreeMap;

use super::text::{line, pad};
use crate::kit::verify::{Check, Layer, Outcome, Report, Section, Verdict};

/// Everything that was seen of one attack.
struct Row<'a> {
    check: Check,
    outcomes: Vec<&'a Outcome>,
}

/// A part for each section, a line for each attack, and what all of it comes to.
pub(super) fn page(report: &Report) -> String {
    let rows = rows(report);
    let width = |text: fn(Check) -> &'static str| {
        rows.iter().map(|row| text(row.check).chars().count()).max().unwrap_or(0)
    };
    let (ids, promises) = (width(Check::id), width(Check::promise));
    let mut page = String::new();
    for section in Section::ALL {
        let of: Vec<&Row<'_>> = rows.iter().filter(|row| row.check.section() == section).collect();
        if of.is_empty() {
            continue;
        }
        let held = of.iter().filter(|row| row.mark() == "✓").count();
        line(&mut page, &format!("{}: {held} of {} hold", section.title(), of.len()));
        for row in of {
            let (id, promise) = (pad(row.check.id(), ids), pad(row.check.promise(), promises));
            let owasp = row.check.owasp().title().split('.').next().unwrap_or_default();
            let told = row.told();
            line(&mut page, &format!("  {} {id}  {promise}  OWASP {owasp}  {told}", row.mark()));
        }
    }
    let stopped = layers(report.outcomes.iter());
    let stopped: Vec<String> =
        stopped.iter().map(|(layer, count)| format!("{} {count}", layer.title())).collect();
    line(&mut page, &format!("\nWhat stopped all of it: {}", stopped.join(", ")));
    line(&mut page, "OWASP n: section n of the Multi-Tenant Application Security Cheat Sheet");
    page
}

/// In the order in which they were first tried.
fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for outcome in report.outcomes.iter().filter(|o| matches!(o.check, Check::Attack(_))) {
        match rows.iter_mut().find(|row| row.check == outcome.check) {
            Some(row) => row.outcomes.push(outcome),
            None => rows.push(Row { check: outcome.check, outcomes: vec![outcome] }),
        }
    }
    rows
}

fn layers<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> BTreeMap<Layer, usize> {
    let mut layers = BTreeMap::new();
    for outcome in outcomes {
        if let Verdict::Passed { layer: Some(layer) } = outcome.verdict {
            *layers.entry(layer).or_default() += 1;
        }
    }
    layers
}

/// Whether a verdict is of a kind.
type Wanted = fn(&Verdict) -> bool;

impl Row<'_> {
    fn count(&self, wanted: Wanted) -> usize {
        self.outcomes.iter().filter(|outcome| wanted(&outcome.verdict)).count()
    }

    /// The worst that was seen of it.
    fn mark(&self) -> &'static str {
        if self.count(|verdict| matches!(verdict, Verdict::Failed { .. })) > 0 {
            "✗"
        } else if self.count(|verdict| matches!(verdict, Verdict::Open { .. })) > 0 {
            "○"
        } else if self.count(Verdict::is_passed) > 0 {
            "✓"
        } else {
            "–"
        }
    }

    /// How often which layer stopped it, and how often none did.
    fn told(&self) -> String {
        let stopped = layers(self.outcomes.iter().copied());
        let mut told: Vec<String> =
            stopped.iter().map(|(layer, count)| format!("{} {count}", layer.title())).collect();
        let others: [(&str, Wanted); 4] = [
            ("held", |verdict| matches!(verdict, Verdict::Passed { layer: None })),
            ("nothing: open", |verdict| matches!(verdict, Verdict::Open { .. })),
            ("FAILED", |verdict| matches!(verdict, Verdict::Failed { .. })),
            ("not tried", |verdict| matches!(verdict, Verdict::Skipped { .. })),
        ];
        for (name, wanted) in others {
            let count = self.count(wanted);
            if count > 0 {
                told.push(format!("{name} {count}"));
            }
        }
        told.join(", ")
    }
}
