//! What the suite saw: an outcome for each check of each table, and what they add up to.

use std::fmt;

use serde::Serialize;

use super::TenantName;
use super::check::{Check, Layer};

/// One of the two tenants that the suite acts as.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What came of a check.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It held.
    Passed {
        /// What stopped it, as far as something had to be stopped.
        layer: Option<Layer>,
    },
    /// It did not hold, no row crossed, and it is known that this is not closed: SECURITY.md.
    Open {
        /// What happened.
        seen: String,
        /// What mends it.
        remedy: String,
    },
    /// It could not be tried, or what happened says nothing either way.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It did not hold.
    Failed {
        /// What happened.
        seen: String,
        /// What mends it.
        remedy: String,
    },
}

/// A check of one table, or of something that is no table, as one tenant.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// The table, schema and all; or `login …`, `session`, `kit`.
    pub subject: String,
    /// What was tried.
    pub check: Check,
    /// As whom; none where it was no tenant.
    pub tenant: Option<Side>,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How a line of the closing box stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Tried, and never otherwise.
    Held,
    /// Nothing was there to try it on.
    Unproven,
    /// Seen otherwise.
    Broken,
}

/// What all of it comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Every line holds and nothing was found.
    Watertight,
    /// Nothing was found, and of some line nothing could be tried.
    Unproven,
    /// Something was found.
    Leaks,
}

/// Everything that the suite saw.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The two tenants.
    pub tenants: [TenantName; 2],
    /// The protected tables, in the order in which they were tried.
    pub tables: Vec<String>,
    /// Every check.
    pub outcomes: Vec<Outcome>,
}

/// How many checks came to what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// Held.
    pub passed: usize,
    /// Did not hold, as is known.
    pub open: usize,
    /// Did not hold.
    pub failed: usize,
    /// Not tried.
    pub skipped: usize,
}

impl Report {
    /// What it comes to.
    pub fn conclusion(&self) -> Conclusion {
        let mut lines = self.lines();
        if self.tally().failed > 0 {
            Conclusion::Leaks
        } else if lines.all(|(_, standing)| standing == Standing::Held) {
            Conclusion::Watertight
        } else {
            Conclusion::Unproven
        }
    }

    /// How many checks came to what.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for outcome in &self.outcomes {
            match outcome.verdict {
                Verdict::Passed { .. } => tally.passed += 1,
                Verdict::Open { .. } => tally.open += 1,
                Verdict::Failed { .. } => tally.failed += 1,
                Verdict::Skipped { .. } => tally.skipped += 1,
            }
        }
        tally
    }

    /// The seven lines of the closing box.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, Standing)> {
        const ALONE: &[Check] = &[Check::Own, Check::Read, Check::NoContext, Check::Forge];
        let lines: [(_, &[Check], _); 7] = [
            ("Tenant A sees only its own data", ALONE, Some(Side::A)),
            ("Tenant B sees only its own data", ALONE, Some(Side::B)),
            ("Cross-tenant reads blocked", &[Check::Read], None),
            ("Cross-tenant writes blocked", &[Check::Insert], None),
            ("Cross-tenant updates blocked", &[Check::Update, Check::Move], None),
            ("Cross-tenant deletes blocked", &[Check::Delete], None),
            ("Super-admin sees all", &[Check::Superadmin], None),
        ];
        lines.into_iter().map(|(line, checks, side)| (line, self.standing(checks, side)))
    }

    /// How many of the checks that the seven lines stand for were tried, and how many were not.
    pub fn of_lines(&self) -> (usize, usize) {
        let of_lines = self.outcomes.iter().filter(|outcome| {
            Check::OF_TABLES.contains(&outcome.check) && outcome.check != Check::Policies
        });
        let is_tried = |verdict: &Verdict| !matches!(verdict, Verdict::Skipped { .. });
        let all: Vec<bool> = of_lines.map(|outcome| is_tried(&outcome.verdict)).collect();
        let tried = all.iter().filter(|is_tried| **is_tried).count();
        (tried, all.len() - tried)
    }

    /// The outcomes of one check of one subject.
    pub fn of(&self, subject: &str, check: Check) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |o| o.subject == subject && o.check == check)
    }

    /// What is no table and has outcomes, in their order.
    pub fn other_subjects(&self) -> Vec<&str> {
        let mut others = Vec::new();
        for outcome in &self.outcomes {
            let subject = outcome.subject.as_str();
            if !others.contains(&subject) && !self.tables.iter().any(|table| table == subject) {
                others.push(subject);
            }
        }
        others
    }

    /// A tenant by its side.
    pub fn tenant(&self, side: Side) -> &TenantName {
        let [a, b] = &self.tenants;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// Each of the checks has to have been tried somewhere; one that did not hold is enough.
    fn standing(&self, checks: &[Check], side: Option<Side>) -> Standing {
        let held = |check: Check| {
            let of = self.outcomes.iter().filter(|o| {
                o.check == check && (side.is_none() || o.tenant.is_none() || o.tenant == side)
            });
            of.fold(Standing::Unproven, |so_far, outcome| match outcome.verdict {
                Verdict::Failed { .. } => Standing::Broken,
                Verdict::Passed { .. } if so_far == Standing::Unproven => Standing::Held,
                Verdict::Passed { .. } | Verdict::Open { .. } | Verdict::Skipped { .. } => so_far,
            })
        };
        let all: Vec<Standing> = checks.iter().map(|check| held(*check)).collect();
        if all.contains(&Standing::Broken) {
            Standing::Broken
        } else if all.contains(&Standing::Unproven) {
            Standing::Unproven
        } else {
            Standing::Held
        }
    }
}

impl Verdict {
    /// Held, with nothing to be stopped.
    pub(super) const HELD: Self = Self::Passed { layer: None };

    pub(super) fn by(layer: Layer) -> Self {
        Self::Passed { layer: Some(layer) }
    }

    pub(super) fn open(seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Open { seen: seen.into(), remedy: remedy.into() }
    }

    /// Whether it held.
    pub fn is_passed(&self) -> bool {
        matches!(self, Self::Passed { .. })
    }

    pub(super) fn failed(seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Failed { seen: seen.into(), remedy: remedy.into() }
    }

    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped { reason: reason.into() }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: Vec<(Check, Option<Side>, Verdict)>) -> Report {
        let name = |slug: &str| TenantName {
            id: crate::types::TenantId::new(uuid::Uuid::nil()),
            slug: slug.to_owned(),
            name: slug.to_owned(),
        };
        let outcomes = outcomes.into_iter().map(|(check, tenant, verdict)| {
            let subject = "public.note".to_owned();
            Outcome { subject, check, tenant, verdict }
        });
        Report {
            tenants: [name("a"), name("b")],
            tables: vec!["public.note".to_owned()],
            outcomes: outcomes.collect(),
        }
    }

    fn all_passed() -> Vec<(Check, Option<Side>, Verdict)> {
        let both = [Some(Side::A), Some(Side::B)];
        let each = |check| both.map(|side| (check, side, Verdict::HELD));
        Check::OF_TABLES.into_iter().flat_map(each).collect()
    }

    #[test]
    fn all_held_is_watertight_and_one_failure_is_a_leak() {
        assert_eq!(report(all_passed()).conclusion(), Conclusion::Watertight);
        for check in Check::OF_TABLES {
            let mut outcomes = all_passed();
            outcomes.push((check, Some(Side::A), Verdict::failed("x", "y")));
            assert_eq!(report(outcomes).conclusion(), Conclusion::Leaks, "{check:?}");
        }
    }

    #[test]
    fn a_line_that_nothing_was_tried_for_is_unproven() {
        for check in [Check::Read, Check::Insert, Check::Move, Check::Delete, Check::Superadmin] {
            let mut outcomes = all_passed();
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.0 == check) {
                outcome.2 = Verdict::skipped("no rows");
            }
            assert_eq!(report(outcomes).conclusion(), Conclusion::Unproven, "{check:?}");
        }
        assert_eq!(report(Vec::new()).conclusion(), Conclusion::Unproven);
    }

    #[test]
    fn a_tenants_line_is_its_own() {
        let mut outcomes = all_passed();
        outcomes.push((Check::Forge, Some(Side::B), Verdict::failed("x", "y")));
        let lines: Vec<_> = report(outcomes).lines().map(|(_, standing)| standing).collect();
        assert_eq!(lines[..2], [Standing::Held, Standing::Broken]);
    }
}
