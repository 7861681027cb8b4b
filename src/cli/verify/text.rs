//! The suite's outcome for people: a table, what failed and what mends it, the closing box.

use std::fmt::Write;

use super::sections;
use crate::kit::verify::{Check, Conclusion, Outcome, Report, Side, Standing, Verdict};

/// All of it, ready to be printed.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    for side in [Side::A, Side::B] {
        let tenant = report.tenant(side);
        line(
            &mut page,
            &format!("Tenant {side}: {} ({}, {})", tenant.name, tenant.slug, tenant.id),
        );
    }
    line(&mut page, "");
    table(&mut page, report);
    line(&mut page, "");
    page.push_str(&sections::page(report));
    failures(&mut page, report);
    open(&mut page, report);
    skipped(&mut page, report);
    line(&mut page, "");
    closing_box(&mut page, report);
    page
}

fn table(page: &mut String, report: &Report) {
    let in_table = |subject: &&str| {
        let is_of = |check: &Check| report.of(subject, *check).next().is_some();
        Check::OF_TABLES.iter().any(is_of)
    };
    let others = report.other_subjects().into_iter().filter(in_table);
    let subjects: Vec<&str> = report.tables.iter().map(String::as_str).chain(others).collect();
    let width = subjects.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut head = pad("", width);
    for check in Check::OF_TABLES {
        head.push_str("  ");
        head.push_str(check.title());
    }
    line(page, &head);
    for subject in subjects {
        let mut row = pad(subject, width);
        for check in Check::OF_TABLES {
            let mark = mark(report.of(subject, check));
            row.push_str("  ");
            row.push_str(&pad(mark, check.title().chars().count()));
        }
        line(page, row.trim_end());
    }
}

/// One sign for both tenants: a failure outweighs everything, what was skipped outweighs what held.
fn mark<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> &'static str {
    let rank = |outcome: &Outcome| match outcome.verdict {
        Verdict::Passed { .. } => 1,
        Verdict::Open { .. } | Verdict::Skipped { .. } => 2,
        Verdict::Failed { .. } => 3,
    };
    match outcomes.map(rank).max() {
        None => "",
        Some(1) => "✓",
        Some(2) => "–",
        Some(_) => "✗",
    }
}

fn failures(page: &mut String, report: &Report) {
    for outcome in &report.outcomes {
        let Verdict::Failed { seen, remedy } = &outcome.verdict else { continue };
        line(page, "");
        let subject = &outcome.subject;
        line(page, &format!("✗ {subject}{}: {}", by(outcome), outcome.check.promise()));
        line(page, &format!("    seen:   {seen}"));
        line(page, &format!("    remedy: {remedy}"));
    }
}

/// What is known not to be closed: once for each attack, with everything that it was seen on.
fn open(page: &mut String, report: &Report) {
    let mut groups: Vec<(&Outcome, &String, &String, Vec<&str>)> = Vec::new();
    for outcome in &report.outcomes {
        let Verdict::Open { seen, remedy } = &outcome.verdict else { continue };
        let same =
            groups.iter_mut().find(|(of, text, ..)| of.check == outcome.check && *text == seen);
        let subject = outcome.subject.as_str();
        match same {
            Some((.., subjects)) if subjects.contains(&subject) => {}
            Some((.., subjects)) => subjects.push(subject),
            None => groups.push((outcome, seen, remedy, vec![subject])),
        }
    }
    if !groups.is_empty() {
        line(page, "\nKnown to be open; no row crosses by itself (SECURITY.md):");
    }
    for (outcome, seen, remedy, subjects) in groups {
        line(page, &format!("○ {}: {}", outcome.check.id(), outcome.check.promise()));
        line(page, &format!("    on:     {}", subjects.join(", ")));
        line(page, &format!("    seen:   {seen}"));
        line(page, &format!("    remedy: {remedy}"));
    }
}

/// What was not tried, with its reason: one line for all that share it.
fn skipped(page: &mut String, report: &Report) {
    let mut groups: Vec<(String, Vec<&'static str>)> = Vec::new();
    for outcome in &report.outcomes {
        let Verdict::Skipped { reason } = &outcome.verdict else { continue };
        let key = format!("– {}{}: {reason}", outcome.subject, by(outcome));
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, checks)) if checks.contains(&outcome.check.title()) => {}
            Some((_, checks)) => checks.push(outcome.check.title()),
            None => groups.push((key, vec![outcome.check.title()])),
        }
    }
    if !groups.is_empty() {
        line(page, "\nNot tried:");
    }
    for (group, checks) in groups {
        line(page, &format!("{group}: {}", checks.join(", ")));
    }
}

fn by(outcome: &Outcome) -> String {
    outcome.tenant.map(|side| format!(", as tenant {side}")).unwrap_or_default()
}

fn closing_box(page: &mut String, report: &Report) {
    let tally = report.tally();
    let (tried, left_out) = report.of_lines();
    let (title, verdict) = match report.conclusion() {
        // The seven lines are what is confirmed, and only if all of what they say was tried.
        Conclusion::Watertight if left_out == 0 => {
            ("RLS ISOLATION TESTS COMPLETE", "ISOLATION ÉTANCHE CONFIRMÉE".to_owned())
        }
        Conclusion::Watertight => (
            "RLS ISOLATION TESTS INCOMPLETE",
            format!("NOTHING LEAKED, AND {left_out} CHECKS OF THESE LINES WERE NOT TRIED"),
        ),
        Conclusion::Unproven => (
            "RLS ISOLATION TESTS INCOMPLETE",
            "NOTHING LEAKED, AND NOT EVERYTHING COULD BE TRIED".to_owned(),
        ),
        Conclusion::Leaks => (
            "RLS ISOLATION TESTS FAILED",
            format!("ISOLATION NOT CONFIRMED: {} OF {} CHECKS FAILED", tally.failed, {
                tally.failed + tally.passed
            }),
        ),
    };
    let lines = report.lines().map(|(text, standing)| match standing {
        Standing::Held => format!("✓ {text}"),
        Standing::Unproven => format!("– {text}"),
        Standing::Broken => format!("✗ {text}"),
    });
    let lines: Vec<String> = lines.collect();
    // What was not tried, or does not hold, is no part of what is confirmed.
    let of_lines = format!("These lines: {tried} checks tried, {left_out} not tried");
    let beyond = format!(
        "All checks: {} held, {} failed, {} known to be open, {} not tried",
        tally.passed, tally.failed, tally.open, tally.skipped
    );
    let rows = [title].into_iter().chain(lines.iter().map(String::as_str));
    let rows: Vec<&str> = rows.chain(["", &verdict, "", &of_lines, &beyond]).collect();
    let width = rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
    let edge = "═".repeat(width + 4);
    line(page, &format!("╔{edge}╗"));
    for (index, row) in rows.into_iter().enumerate() {
        line(page, &format!("║  {}  ║", pad(row, width)));
        if index == 0 {
            line(page, &format!("╠{edge}╣"));
        }
    }
    line(page, &format!("╚{edge}╝"));
}

pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

pub(super) fn line(page: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{text}");
}
