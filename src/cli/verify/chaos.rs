//! `--chaos`: what is asked for, and what came of it, for people and programs.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::{Args, EXIT_FINDINGS, Error, text, write_file};
use crate::kit::verify::chaos::{Outcome, Plan, Writes};

/// Reads a number and a unit.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let seconds = || {
        let unit = text.chars().next_back()?;
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            _ => return None,
        };
        number.checked_mul(seconds).filter(|seconds| (1..=LONGEST).contains(seconds))
    };
    let expected = || "expected a number and a unit, such as 30s, 5m or 1h".to_owned();
    seconds().map(Duration::from_secs).ok_or_else(expected)
}

pub(super) fn plan(args: &Args, duration: Duration) -> Plan {
    Plan {
        duration,
        clients: args.clients.max(2),
        writes: if args.chaos_writes { Writes::RolledBack } else { Writes::None },
        restart: args.chaos_restart.clone(),
    }
}

/// Prints it. Exit code 0: no row crossed; 1: nothing is proven; 2: rows crossed.
pub(super) fn report(outcome: &Outcome, args: &Args) -> Result<ExitCode, Error> {
    let mut value = json!(outcome);
    value["conclusion"] = json!(conclusion(outcome).0);
    let mut stdout = io::stdout().lock();
    match &args.json {
        Some(path) if path == Path::new("-") => {
            writeln!(stdout, "{value:#}").map_err(Error::Print)?;
        }
        Some(path) => write_file(path, &format!("{value:#}\n"))?,
        None => {}
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        stdout.write_all(page(outcome).as_bytes()).map_err(Error::Print)?;
    }
    Ok(conclusion(outcome).1)
}

fn conclusion(outcome: &Outcome) -> (&'static str, ExitCode) {
    if outcome.is_clean() {
        ("no row crossed", ExitCode::SUCCESS)
    } else if outcome.tally.crossed > 0 {
        ("rows crossed", ExitCode::from(EXIT_FINDINGS))
    } else {
        ("nothing proven", ExitCode::FAILURE)
    }
}

fn page(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let mut lines = vec![
        ("transactions answered whole", tally.transactions.to_string()),
        ("rows held against who asked", tally.rows.to_string()),
        ("clients that died", tally.clients_killed.to_string()),
        ("server connections ended", tally.servers_killed.to_string()),
        ("cancel requests", tally.cancels.to_string()),
        ("restarts of Postgres", tally.restarts.to_string()),
        ("errors told to clients", tally.errors.to_string()),
        ("sessions opened again", tally.reconnects.to_string()),
        ("longest silence", format!("{} ms", tally.longest_silence_ms)),
    ];
    if tally.restarts > 0 {
        let after = tally.recovered_after_ms.map(|time| format!("{time} ms"));
        lines.push(("working again after", after.unwrap_or_else(|| "never".to_owned())));
    }
    lines.push(("rows that crossed", tally.crossed.to_string()));
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut page = String::new();
    for (name, value) in lines {
        text::line(&mut page, &format!("{}  {value:>12}", text::pad(name, width)));
    }
    for crossing in &outcome.crossings {
        text::line(&mut page, &format!("✗ {crossing}"));
    }
    for unbroken in &outcome.unbroken {
        text::line(&mut page, &format!("– {unbroken}"));
    }
    let (conclusion, _) = conclusion(outcome);
    text::line(&mut page, &format!("\n{}", conclusion.to_uppercase()));
    page
}

/// A day.
const LONGEST: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "30", "s", "0s", "-1s", "25h", "1d", "1.5m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
