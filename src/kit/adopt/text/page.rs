//! What a person reads of a plan: a page first, then a line a table, then the steps.

use super::{count, line, size, time};
use crate::kit::adopt::plan::{Lock, Note, Plan, Stage};

/// How many names a list shows before it says how many more there are.
const NAMES: usize = 5;

/// What will be done, for how long and under which locks, what the application must change, what is
/// left out and what else there is to know; and a line for each table.
pub fn page(plan: &Plan) -> String {
    let mut out = format!(
        "database {}: {} tables, column {} {}\n\n",
        plan.database,
        plan.tables.len(),
        plan.column,
        plan.column_type
    );
    for stage in Stage::ALL {
        let steps: Vec<_> = plan.up.iter().filter(|step| step.stage == stage).collect();
        let total = steps.iter().map(|step| step.millis).sum();
        line(
            &mut out,
            format_args!(
                "stage {stage:8} {:>5} steps, about {:>7}: {}",
                steps.len(),
                time(total),
                purpose(stage)
            ),
        );
    }
    let blocking: Vec<_> = plan.up.iter().filter(|step| step.lock == Lock::Blocking).collect();
    let mut tables: Vec<&str> = blocking.iter().map(|step| step.table.as_str()).collect();
    tables.dedup();
    match blocking.len() {
        0 => out.push_str("no step stops readers and writers for longer than a moment\n"),
        steps => line(
            &mut out,
            format_args!(
                "{steps} STEPS STOP READERS AND WRITERS while they run: {}",
                some(&tables)
            ),
        ),
    }
    out.push_str(&for_application(plan));
    out.push_str(&notes("to know:", plan.notes.iter().filter(|note| !note.is_for_application)));
    out.push('\n');
    by_table(&mut out, plan);
    out
}

/// What the application has to change, each once; nothing if there is nothing.
pub fn for_application(plan: &Plan) -> String {
    notes(
        "the application has to change:",
        plan.notes.iter().filter(|note| note.is_for_application),
    )
}

/// The steps: what, why, which lock, how long.
pub fn steps(plan: &Plan) -> String {
    let mut out = String::new();
    let width = plan.up.iter().map(|step| step.table.chars().count()).max().unwrap_or(0);
    for stage in Stage::ALL {
        line(&mut out, format_args!("\nstage {stage}: {}", purpose(stage)));
        for (index, step) in plan.up.iter().enumerate().filter(|(_, step)| step.stage == stage) {
            line(
                &mut out,
                format_args!(
                    "{:>4}  {:width$}  {}\n      {:width$}  lock: {}; about {}; {}",
                    index + 1,
                    step.table,
                    step.what,
                    "",
                    step.lock,
                    time(step.millis),
                    step.why
                ),
            );
        }
    }
    out
}

fn by_table(out: &mut String, plan: &Plan) {
    let width = plan.tables.iter().map(|table| table.name.chars().count()).max().unwrap_or(0);
    for table in &plan.tables {
        // What the catalogue estimates.
        let rows = format!("~{}", count(table.rows));
        line(
            out,
            format_args!(
                "{:width$}  {:7}  {rows:>12} rows  {:>9}  {}",
                table.name,
                table.class,
                size(table.bytes),
                table.rule
            ),
        );
    }
}

/// Notes under a heading: a reason that several share is said once, with a list of them.
fn notes<'p>(heading: &str, notes: impl Iterator<Item = &'p Note>) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for note in notes {
        match reasons.iter_mut().find(|(text, _)| *text == note.text) {
            Some((_, about)) => about.push(&note.about),
            None => reasons.push((&note.text, vec![&note.about])),
        }
    }
    let mut out = String::new();
    if !reasons.is_empty() {
        line(&mut out, format_args!("\n{heading}"));
    }
    for (text, about) in reasons {
        match about[..] {
            [one] => line(&mut out, format_args!("  {one}: {text}")),
            _ => line(&mut out, format_args!("  {} {text}: {}", about.len(), some(&about))),
        }
    }
    out
}

/// The first of a list, and how many more.
fn some(names: &[&str]) -> String {
    match names.len() {
        0..=NAMES => names.join(", "),
        all => format!("{} and {} more", names[..NAMES].join(", "), all - NAMES),
    }
}

const fn purpose(stage: Stage) -> &'static str {
    match stage {
        Stage::Expand => "the application goes on as it is",
        Stage::Contract => "the application must not name a key that changes by its old columns",
        Stage::Protect => {
            "tenants come in through the proxy; who else writes has to name the tenant"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once() {
        let note = |about: &str, text: &str| Note {
            about: about.to_owned(),
            text: text.to_owned(),
            is_for_application: false,
        };
        let mut all: Vec<_> = (1..=7)
            .map(|n| note(&format!("t{n}_pkey"), "stays as it is: it was asked to"))
            .collect();
        all.push(note("v", "is a materialized view"));
        assert_eq!(
            notes("to know:", all.iter()),
            "\nto know:\n  7 stays as it is: it was asked to: t1_pkey, t2_pkey, t3_pkey, t4_pkey, \
             t5_pkey and 2 more\n  v: is a materialized view\n"
        );
        assert_eq!(notes("to know:", [].iter()), "");
    }
}
