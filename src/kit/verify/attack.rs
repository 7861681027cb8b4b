//! ATTACK: what a hostile tenant tries, in whatever bytes it takes.
//!
//! Each attack is a promise that either holds, by a layer that what came back tells, or does not.
//! Whatever is written is rolled back in the message that wrote it, or is gone with the session.

mod actions;
mod context;
mod door;
mod keys;
mod plans;
mod residue;
mod rights;
mod shared;
mod statements;
mod views;
mod wire;

use std::time::Duration;

use postgres_protocol::escape::escape_literal;

use super::catalogue::{Class, Counts, Table, Tenant};
use super::check::{Attack, Layer, Owasp, Section};
use super::report::{Side, Verdict};
use super::session::Session;
use super::wire::{Answer, Lost, Wire};
use super::{Error, Road};

/// What was found: of what, by which attack, as whom.
pub(super) type Found = (String, &'static Attack, Side, Verdict);

/// One tenant at work against the other.
pub(super) struct Foray<'a> {
    pub(super) road: &'a Road,
    /// The other tenant's road: for what takes two.
    pub(super) other_road: &'a Road,
    pub(super) own: &'a Tenant,
    pub(super) other: &'a Tenant,
    pub(super) operator: &'a Session,
    pub(super) tables: &'a [(Table, Option<Counts>)],
    /// Whether the pool has server connections for two sessions at once.
    pub(super) has_pairs: bool,
    pub(super) found: Vec<Found>,
}

/// Every attack, as one tenant.
pub(super) async fn all(
    mut foray: Foray<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Found>, Error> {
    let side = foray.own.side;
    foray.has_pairs = pair(&foray).await.is_some();
    progress(&format!("tenant {side}: statements"));
    statements::all(&mut foray).await;
    progress(&format!("tenant {side}: views and keys"));
    views::all(&mut foray).await?;
    keys::all(&mut foray).await?;
    actions::all(&mut foray).await?;
    progress(&format!("tenant {side}: rights and contexts"));
    rights::all(&mut foray).await?;
    context::all(&mut foray).await;
    progress(&format!("tenant {side}: residue"));
    residue::all(&mut foray).await;
    progress(&format!("tenant {side}: what is shared"));
    shared::all(&mut foray).await;
    progress(&format!("tenant {side}: messages"));
    wire::all(&mut foray).await?;
    plans::all(&mut foray).await;
    progress(&format!("tenant {side}: the door"));
    door::all(&mut foray).await;
    Ok(foray.found)
}

impl<'a> Foray<'a> {
    /// Puts down what came of an attack; one that was cut short says nothing.
    fn put(
        &mut self,
        attack: &'static Attack,
        subject: impl Into<String>,
        verdict: Result<Verdict, Lost>,
    ) {
        let verdict = verdict.unwrap_or_else(|Lost(why)| Verdict::skipped(why));
        self.found.push((subject.into(), attack, self.own.side, verdict));
    }

    /// A table in which the other tenant has rows, to see whether they can be reached.
    fn prey(&self) -> Option<&'a Table> {
        let has_prey = |(table, counts): &&(Table, Option<Counts>)| {
            table.is_tenants()
                && table.value(self.own).is_some()
                && counts.is_some_and(|counts| counts.of_other(self.own.side) > 0)
        };
        let prey = || self.tables.iter().filter(has_prey).map(|(table, _)| table);
        // Those that hold the id itself: what is forged is an id.
        prey().find(|table| table.column_type == "uuid").or_else(|| prey().next())
    }

    /// True for rows that the tenant must not see.
    fn foreign(&self, table: &Table) -> String {
        match (table.class, table.value(self.own)) {
            (Class::Tenant | Class::Part, Some(own)) => {
                let (column, own) = (&table.column, escape_literal(own));
                format!("{column} is distinct from {own}::{}", table.column_type)
            }
            (Class::Tenant | Class::Part | Class::Shared | Class::Global, _) => "true".to_owned(),
        }
    }

    /// Counts the rows that the tenant must not see.
    fn count_foreign(&self, table: &Table) -> String {
        format!("select count(*) from {} where {}", table.name, self.foreign(table))
    }

    /// Whether there is anything that an attack on the table could reach.
    fn is_worth_it(&self, table: &Table, counts: Option<Counts>) -> bool {
        counts.is_some_and(|counts| match table.class {
            Class::Tenant => counts.of_other(self.own.side) > 0,
            Class::Part | Class::Shared | Class::Global => counts.total > 0,
        })
    }
}

/// Sessions of both tenants that are at work at the same time; none if the pool has one connection.
async fn pair(foray: &Foray<'_>) -> Option<(Wire, Wire)> {
    let both = async {
        let mut other = Wire::open(foray.other_road).await?;
        other.ask("begin").await?;
        let mut own = Wire::open(foray.road).await?;
        own.ask("select 1").await?;
        other.ask("rollback").await?;
        Ok::<_, Lost>((own, other))
    };
    tokio::time::timeout(SHORT, both).await.ok()?.ok()
}

/// In one message, in a transaction that is taken back.
async fn taken_back(wire: &mut Wire, sql: &str) -> Result<Answer, Lost> {
    let answer = wire.ask(&format!("{BEGIN}; {sql}; rollback")).await?;
    if answer.status != b'I' && !answer.is_closed {
        wire.ask("rollback").await?;
    }
    Ok(answer)
}

/// By what an error says; `fallback` where there is none.
fn by_error(answer: &Answer, fallback: impl FnOnce() -> Verdict) -> Verdict {
    match answer.error() {
        None => fallback(),
        Some(error) if error.layer() == Layer::Server => Verdict::skipped(error.brief()),
        Some(error) => Verdict::by(error.layer()),
    }
}

/// Something that nobody but the owner may do: refused, whoever refuses it.
fn refused(answer: &Answer, seen: &str, remedy: &str) -> Verdict {
    match answer.error() {
        None => Verdict::failed(seen, remedy),
        Some(error) => Verdict::by(error.layer()),
    }
}

/// Something that every tenant of the database may do as long as nobody forbids it.
fn open_unless_refused(answer: &Answer, seen: &str, remedy: &str) -> Verdict {
    match answer.error() {
        None => Verdict::open(seen, remedy),
        Some(error) => Verdict::by(error.layer()),
    }
}

pub(super) const fn attack(
    id: &'static str,
    section: Section,
    owasp: Owasp,
    promise: &'static str,
) -> Attack {
    Attack { id, section, owasp, promise }
}

/// Long enough for two logins.
const SHORT: Duration = Duration::from_secs(2);

/// Nothing waits for long.
const BEGIN: &str = "begin; set local lock_timeout = '3s'; set local statement_timeout = '8s'";

const NO_PREY: &str = "the other tenant has no rows to reach";

const NO_PAIR: &str = "it takes two sessions at once, and the pool has no second connection";
