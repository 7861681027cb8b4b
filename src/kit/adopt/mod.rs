//! ADOPT: brings tables that are in use under isolation, and back.
//!
//! ```text
//! Mapping + database ─catalogue::read─▶ Catalogue ─plan::make─▶ Plan ─record::keep─▶ Adoption
//!    Adoption ─run::apply, run::down─▶ each step: is it done? no: do it; now it has to be
//! ```
//!
//! Only `plan` decides, and does no IO; only a plan without a refusal is an [`plan::Plan`]; only one
//! that is kept in the database can be run. What is done is never remembered: every step asks the
//! catalogue, so that a run that was killed anywhere goes on where it stands.

pub mod catalogue;
pub mod infer;
pub mod mapping;
pub mod plan;
pub mod record;
pub mod run;
pub mod text;
pub mod verify;

use super::told;

/// Why an adoption did not happen, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("{doing} failed{}", told(.source))]
    Statement {
        /// What was being done.
        doing: String,
        /// What Postgres said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// There is no kit, or an old one.
    #[error(
        "the kit in this database is {}, and adopt needs version {NEEDS_KIT}: run `cloison install`",
        .0.map_or("not installed".to_owned(), |version| format!("version {version}"))
    )]
    Kit(Option<i32>),
    /// The table of the tenants has no key that can be theirs.
    #[error(
        "the root {0} has no primary key of one column of type {1}, without GENERATED: give the \
         type with --type, or a rule for the table in place of root"
    )]
    Root(String, &'static str),
    /// The mapping names what is not there.
    #[error("there is no {}", .0.join(", no "))]
    Missing(Vec<String>),
    /// The kit is somebody else's.
    #[error(
        "the role {0} does not own the kit: run it as the owner of the schema cloison, or as a \
         superuser"
    )]
    Role(String),
    /// A plan that is kept is none.
    #[error(
        "adoption {id}: what is kept of it in cloison.adoptions is no plan of this version: {source}; \
         was it changed by hand, or written by another version of cloison?"
    )]
    Kept {
        /// Its number.
        id: i32,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A row of the catalogue, or a plan, is not of the form that it should have: a bug of ours.
    #[error("{doing}: {source}")]
    Shape {
        /// What was being read.
        doing: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What cannot be adopted as it is.
    #[error("nothing was changed:\n{}", list(.0))]
    Refused(Vec<plan::Refusal>),
    /// Rows stand in the way.
    #[error("{what}: {problem}\n{}\nWhat was done stays; run it again when that is mended", rows.join("\n"))]
    Blocked {
        /// The step.
        what: String,
        /// What is wrong.
        problem: String,
        /// The rows, or the first of them.
        rows: Vec<String>,
    },
    /// A lock was not to be had.
    #[error(
        "{what}: no lock on {table} within {tries} tries, {holders}; nothing is half done, run it \
         again when that is over"
    )]
    Locked {
        /// The step.
        what: String,
        /// The table.
        table: String,
        /// How often it was tried.
        tries: u32,
        /// Who has it.
        holders: String,
    },
    /// A step that went through and did not do what it should: somebody changed the tables.
    #[error("{0} went through, and is not done: were the tables changed since the plan was made?")]
    NotDone(String),
    /// Another adoption is under way.
    #[error("{0}")]
    Busy(String),
}

impl Error {
    fn statement(doing: impl Into<String>, source: tokio_postgres::Error) -> Self {
        Self::Statement { doing: doing.into(), source }
    }
}

fn list(refusals: &[plan::Refusal]) -> String {
    refusals.iter().map(|refusal| format!("  {refusal}")).collect::<Vec<_>>().join("\n")
}

/// A name as SQL writes it, quoted.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it.
fn literal(text: &str) -> String {
    // As quote_literal() does: E'' means the same whatever standard_conforming_strings says.
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The version of the kit that has a place for plans.
const NEEDS_KIT: i32 = 5;
