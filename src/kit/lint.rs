//! LINT: runs `sql/lints` against a database and collects what they find.
//!
//! A lint is one plain SELECT whose rows are findings. Its first comment tells its title, the levels
//! that it can have, and why it matters.

mod list;
pub mod sarif;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

pub use list::{LINTS, Lint};

/// The version of the kit that the lints call functions of.
const NEEDS_KIT: i32 = 3;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something that one should know.
    Info,
    /// A leak of less than rows, or one mistake away from a leak.
    Warning,
    /// Can show or change other tenants' rows.
    Critical,
}

impl Level {
    /// The word in SQL, JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "critical" => Ok(Self::Critical),
            _ => Err(format!("{text:?} is no level: critical, warning or info")),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The lint: the name of its file.
    pub name: String,
    /// How bad it is.
    pub level: Level,
    /// What it is about: a schema-qualified name, or a role.
    pub object: String,
    /// What is wrong with it.
    pub detail: String,
    /// SQL that cures it; none where no SQL can.
    pub fix: Option<String>,
    /// By what it is accepted: stays the same as long as the fault does.
    pub key: String,
    /// Who lives with it, and why.
    pub accepted: Option<Acceptance>,
}

impl Finding {
    /// Whether it is at or above a level, and nobody has accepted it.
    pub fn counts(&self, level: Level) -> bool {
        self.level >= level && self.accepted.is_none()
    }
}

/// A row of `cloison.accepted_findings`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Acceptance {
    /// The reason that was given.
    pub reason: String,
    /// The role that gave it.
    pub by: String,
    /// When, as Postgres prints it.
    pub at: String,
}

/// Why the database could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("{doing} failed: {}", told(.source))]
    Statement {
        /// Which lint, or what else.
        doing: String,
        /// What Postgres said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// There is no kit, or an old one.
    #[error(
        "the kit in this database is {}, and lint needs version {NEEDS_KIT}: run `cloison install`",
        .0.map_or("not installed".to_owned(), |version| format!("version {version}"))
    )]
    Kit(Option<i32>),
    /// A lint's row is not of the one shape: a bug of ours.
    #[error("lint {0} has a row without {1}")]
    Shape(&'static str, &'static str),
    /// What was to be accepted is not there.
    #[error("there is no finding with the key {0:?} to accept")]
    NoSuchKey(String),
}

/// Looks at everything. It changes nothing, and sees one moment.
///
/// # Errors
///
/// Fails when there is no kit, when the role may not read it, and when a lint fails.
pub async fn run(client: &Client) -> Result<Vec<Finding>, Error> {
    let begun = ask(client, "beginning", BEGIN).await;
    let found = match begun {
        Ok(_) => collect(client).await,
        Err(error) => Err(error),
    };
    // Nothing was written. Where the connection is lost this fails too.
    let _ = client.batch_execute("rollback").await;
    found
}

/// Lives with a finding from now on.
///
/// # Errors
///
/// There may be no such finding, and the role may not be allowed to.
pub async fn accept(client: &Client, key: &str, reason: &str) -> Result<(), Error> {
    if !run(client).await?.iter().any(|finding| finding.key == key) {
        return Err(Error::NoSuchKey(key.to_owned()));
    }
    let accepted = client.execute(ACCEPT, &[&key, &reason]).await;
    let doing = || "accepting the finding".to_owned();
    accepted.map(|_| ()).map_err(|source| Error::Statement { doing: doing(), source })
}

async fn collect(client: &Client) -> Result<Vec<Finding>, Error> {
    check_kit(client).await?;
    let mut accepted = accepted(client).await?;
    let mut findings = Vec::new();
    for lint in LINTS {
        for row in ask(client, lint.name, lint.sql).await? {
            let mut finding = read(lint, &row)?;
            finding.accepted = accepted.remove(&finding.key);
            findings.push(finding);
        }
    }
    findings.sort_by(|a, b| (b.level, &a.key).cmp(&(a.level, &b.key)));
    Ok(findings)
}

async fn check_kit(client: &Client) -> Result<(), Error> {
    let there = ask(client, "looking for the kit", KIT_IS_THERE).await?;
    if there.first().and_then(|row| row.get(0)) != Some("t") {
        return Err(Error::Kit(None));
    }
    let rows = ask(client, "reading the kit's version", KIT_VERSION).await?;
    let version = rows.first().and_then(|row| row.get(0)).and_then(|text| text.parse().ok());
    match version {
        Some(NEEDS_KIT..) => Ok(()),
        older => Err(Error::Kit(older)),
    }
}

async fn accepted(client: &Client) -> Result<BTreeMap<String, Acceptance>, Error> {
    let rows = ask(client, "reading what was accepted", ACCEPTED).await?;
    let text = |row: &SimpleQueryRow, at| row.get(at).unwrap_or_default().to_owned();
    let acceptance = |row| Acceptance { reason: text(row, 1), by: text(row, 2), at: text(row, 3) };
    Ok(rows.iter().map(|row| (text(row, 0), acceptance(row))).collect())
}

/// The rows of one statement, all of whose values are text.
async fn ask(client: &Client, doing: &str, sql: &str) -> Result<Vec<SimpleQueryRow>, Error> {
    let failed = |source| Error::Statement { doing: doing.to_owned(), source };
    let answers = client.simple_query(sql).await.map_err(failed)?;
    let row = |answer| if let SimpleQueryMessage::Row(row) = answer { Some(row) } else { None };
    Ok(answers.into_iter().filter_map(row).collect())
}

fn read(lint: &Lint, row: &SimpleQueryRow) -> Result<Finding, Error> {
    let text = |column: &'static str| {
        let value = row.try_get(column).ok().flatten();
        value.map(str::to_owned).ok_or(Error::Shape(lint.name, column))
    };
    let level = text("level")?.parse().map_err(|_| Error::Shape(lint.name, "level"))?;
    Ok(Finding {
        name: text("name")?,
        level,
        object: text("object")?,
        detail: text("detail")?,
        fix: row.try_get("fix").map_err(|_| Error::Shape(lint.name, "fix"))?.map(str::to_owned),
        key: text("key")?,
        accepted: None,
    })
}

/// The server's own words, and how it names the failure.
fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} [{}]", told.message(), told.code().code()),
        None => error.to_string(),
    }
}

/// Names in findings are written in full where the path holds nothing but the catalogue.
///
/// Each lint has a snapshot of its own: one for all of them would keep VACUUM from its work for as
/// long as they run, and they say nothing of each other.
const BEGIN: &str = "
    begin isolation level read committed read only;
    set local search_path = pg_catalog, pg_temp;
    set local jit = off;
    set local statement_timeout = '30s';
    set local lock_timeout = '5s';
    set local quote_all_identifiers = off";

const KIT_IS_THERE: &str = "select to_regprocedure('cloison.kit_version()') is not null";

const KIT_VERSION: &str = "select cloison.kit_version()";

const ACCEPTED: &str =
    "select key, reason, accepted_by, accepted_at from cloison.accepted_findings";

const ACCEPT: &str = "
    with accepted as (
        insert into cloison.accepted_findings (key, reason) values ($1, $2)
        on conflict (key) do update
            set reason = excluded.reason, accepted_by = default, accepted_at = default
        returning key, reason
    )
    insert into cloison.audit_log (actor, action, detail)
    select session_user, 'finding.accepted', pg_catalog.to_jsonb(a) from accepted a";
