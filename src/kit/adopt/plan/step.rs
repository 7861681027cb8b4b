//! One step of a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kit::adopt::catalogue::Table;

/// Steps that can be shipped together. The way back has the same stages, the other way round.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// What the running application does not notice: a column with a default, filled, and indexes.
    Expand,
    /// Keys and NOT NULL: what an application breaks on that names an old key.
    Contract,
    /// Policies, grants, the default from the context: tenants may come in, nobody else.
    Protect,
}

/// What a step keeps others from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// ACCESS SHARE: nothing.
    Reads,
    /// ROW EXCLUSIVE, and the rows of one batch at a time.
    Rows,
    /// SHARE UPDATE EXCLUSIVE: other schema changes; readers and writers go on.
    Beside,
    /// SHARE ROW EXCLUSIVE, for one batch at a time.
    Writers,
    /// ACCESS EXCLUSIVE, for a moment.
    Moment,
    /// ACCESS EXCLUSIVE for as long as it takes to read the whole table.
    Blocking,
}

/// How a step is done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// In one transaction, with a short lock timeout, tried again.
    Together(Vec<String>),
    /// The same, of what can be done again; `done` says when nobody needs it any more.
    Repeatable(Vec<String>),
    /// By itself, outside a transaction: it waits without keeping anybody waiting.
    Alone(String),
    /// CREATE INDEX CONCURRENTLY; what is left of one that failed is dropped first.
    Index {
        /// The index, qualified.
        name: String,
        /// What makes it.
        sql: String,
        /// What marks it as ours, where it does not take the place of another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark: Option<String>,
    },
    /// In batches, of a few pages each, until no row is without.
    Batches {
        /// What holds the rows.
        leaves: Vec<String>,
        /// The update, up to what says which rows.
        update: String,
        /// Which rows still are to be done.
        rest: String,
        /// Schemas that the rule's names are looked for in.
        search_path: String,
        /// Without the application's triggers, which only a superuser may.
        without_triggers: bool,
        /// Triggers that are off while a batch is written, and how each is put on again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        off: Vec<(String, String)>,
    },
    /// Rows that this query finds stand in the way.
    Check {
        /// The query, of one column of text.
        sql: String,
        /// Schemas that its names are looked for in.
        search_path: String,
        /// What is wrong if it finds some.
        problem: String,
    },
}

/// One step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Step {
    /// What it ships with.
    pub stage: Stage,
    /// The table, or what else it is about.
    pub table: String,
    /// What is done.
    pub what: String,
    /// Why.
    pub why: String,
    /// What it keeps others from.
    pub lock: Lock,
    /// How long it will take, roughly.
    pub millis: u64,
    /// How it is done.
    pub act: Act,
    /// An expression of SQL that tells whether it is done; a check has none, and is always made.
    pub done: Option<String>,
    /// The old key that it is about: who takes the plan back can leave that out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_key: Option<String>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Expand, Self::Contract, Self::Protect];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
            Self::Protect => "protect",
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reads => "none",
            Self::Rows => "rows of a batch",
            Self::Beside => "no DDL beside",
            Self::Writers => "writers, a batch",
            Self::Moment => "all, a moment",
            Self::Blocking => "ALL, WHILE IT RUNS",
        })
    }
}

/// How long things take, roughly: what a machine of two cores was seen to need.
pub(super) struct Estimate<'a>(pub(super) &'a Table);

impl Estimate<'_> {
    fn rows(&self) -> u64 {
        u64::try_from(self.0.rows).unwrap_or(0)
    }

    /// Reading the table once.
    pub(super) fn scan(&self) -> u64 {
        self.rows() / 5_000
    }

    /// Building one index.
    pub(super) fn index(&self) -> u64 {
        20 + self.rows() / 700
    }

    /// Writing every row again.
    pub(super) fn fill(&self) -> u64 {
        20 + self.rows() / 60
    }

    /// Looking every row up in another table.
    pub(super) fn lookup(&self) -> u64 {
        20 + self.rows() / 1_000
    }
}

/// What a change of the catalogue alone takes.
pub(super) const MOMENT: u64 = 5;

/// The search_path of what names everything in full.
pub(super) const PATH: &str = "pg_catalog, pg_temp";
