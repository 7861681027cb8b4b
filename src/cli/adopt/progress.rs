//! How it goes: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::kit::adopt::plan::Step;
use crate::kit::adopt::run::Progress;
use crate::kit::adopt::text;

/// Tells on standard error.
pub(super) struct Bar {
    /// What stands in front of each line: the database, of a fleet.
    prefix: String,
    is_terminal: bool,
    /// When the bar was drawn, or a line written.
    told: Instant,
}

impl Bar {
    pub(super) fn new(name: Option<&str>) -> Self {
        let prefix = name.map(|name| format!("{name}: ")).unwrap_or_default();
        Self { prefix, is_terminal: stderr().is_terminal(), told: Instant::now() }
    }

    /// Every tenth of a second on a terminal, every ten seconds in a log.
    fn is_due(&mut self) -> bool {
        let pause =
            if self.is_terminal { Duration::from_millis(100) } else { Duration::from_secs(10) };
        if self.told.elapsed() < pause {
            return false;
        }
        self.told = Instant::now();
        true
    }

    fn tell(&self, text: &str) {
        let start = if self.is_terminal { "\r\x1b[K" } else { "" };
        // Nobody may be there to read it, and the work goes on.
        let _ = writeln!(stderr(), "{start}{}{text}", self.prefix);
    }
}

impl Progress for Bar {
    fn begin(&mut self, number: usize, of: usize, step: &Step) {
        self.tell(&format!("{number:>3}/{of}  {}: {}", step.table, step.what));
        self.told = Instant::now();
    }

    fn rows(&mut self, pages: u64, of: u64, rows: u64, since: Duration) {
        if !self.is_due() {
            return;
        }
        let line = bar(pages, of, rows, since);
        if self.is_terminal {
            let _ = write!(stderr(), "\r\x1b[K         {line}");
            let _ = stderr().flush();
        } else {
            self.tell(&format!("         {line}"));
        }
    }

    fn waits(&mut self, tries: u32) {
        self.tell(&format!("         no lock in time, for the {tries}. time; others come first"));
    }

    fn end(&mut self, is_new: bool, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if !is_new {
            self.tell("         done before");
        } else if took >= 100 {
            self.tell(&format!("         {}", text::time(took)));
        }
    }
}

/// How much is done, how fast, and how long the rest takes at that rate.
fn bar(pages: u64, of: u64, rows: u64, since: Duration) -> String {
    const WIDTH: u64 = 24;
    let of = of.max(1);
    let full = usize::try_from(pages.min(of) * WIDTH / of).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0) - full;
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    let left = (of - pages.min(of)).saturating_mul(millis) / pages.max(1);
    format!(
        "[{}{}] {:>3} %  {} rows/s  {} left",
        "#".repeat(full),
        ".".repeat(empty),
        pages.min(of) * 100 / of,
        text::count(i64::try_from(rows.saturating_mul(1000) / millis).unwrap_or(i64::MAX)),
        text::time(left)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_rate_and_time_left() {
        assert_eq!(
            bar(25, 100, 50_000, Duration::from_secs(5)),
            "[######..................]  25 %  10,000 rows/s  15 s left"
        );
        assert_eq!(
            bar(0, 0, 0, Duration::ZERO),
            "[........................]   0 %  0 rows/s  1 ms left"
        );
    }
}
