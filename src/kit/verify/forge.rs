//! Everything that a tenant can say to become somebody else; after each it is still itself, or
//! nobody.

use postgres_protocol::escape::escape_literal;

use super::catalogue::{Class, Counts, Table, Tenant};
use super::check::{Check, Layer};
use super::report::Verdict;
use super::session::{Reaction, Session, Step};
use super::{Error, Road};

/// What is tried, each in a session of its own: a name and a statement.
fn forgeries(other: &Tenant) -> Vec<(&'static str, String)> {
    let id = &other.id;
    let ticket = format!("s{id}9999999999{}", "0".repeat(64));
    vec![
        ("SET cloison.context", format!("set cloison.context = '{ticket}'")),
        (
            "set_config('cloison.context')",
            format!("select pg_catalog.set_config('cloison.context', '{ticket}', false)"),
        ),
        (
            "the own context with the other's id",
            format!(
                "select pg_catalog.set_config('cloison.context', pg_catalog.overlay( \
                 pg_catalog.current_setting('cloison.context'), '{id}', 2), false)"
            ),
        ),
        ("a choice of the other", format!("select cloison.set_tenant('{id}')")),
        // In a form that the proxy does not take for a choice.
        (
            "set_tenant(other)",
            format!("select cloison.set_tenant(id) from (values ('{id}'::uuid)) as other (id)"),
        ),
        (
            "set_tenant(other, proof)",
            format!("select cloison.set_tenant('{id}'::uuid, '9999999999{}')", "0".repeat(64)),
        ),
        ("enable_superadmin_mode()", "select cloison.enable_superadmin_mode()".to_owned()),
        ("SET cloison.superadmin", format!("set cloison.superadmin = '{}'", "0".repeat(64))),
        ("SET ROLE", "set role cloison_superadmin".to_owned()),
        ("SET row_security = off", "set row_security = off".to_owned()),
        ("RESET ALL", "reset all".to_owned()),
        ("DISCARD ALL", "discard all".to_owned()),
        (
            "a DO block",
            format!(
                "do $$ begin perform pg_catalog.set_config('cloison.context', '{ticket}', false); \
                 end $$"
            ),
        ),
    ]
}

/// Asks who the session is after a forgery.
fn identity(own: &Tenant) -> String {
    let id = escape_literal(&own.id);
    format!(
        "select case \
             when cloison.is_superadmin() then 2 \
             when cloison.get_current_tenant() = {id}::uuid then 0 \
             when cloison.get_current_tenant() is null then 0 \
             else 1 \
         end::bigint"
    )
}

/// Tries every forgery as `own`. Answers a verdict on the session, and one on each table.
pub(super) async fn forge(
    road: &Road,
    tables: &[(Table, Option<Counts>)],
    own: &Tenant,
    other: &Tenant,
) -> Result<Vec<(String, Check, Verdict)>, Error> {
    let mut verdicts = vec![(SESSION.to_owned(), Check::Forge, Verdict::HELD)];
    for (table, counts) in tables.iter().filter(|(table, _)| table.class != Class::Shared) {
        let reach = |counts: Counts| match table.class {
            Class::Tenant => counts.of_other(own.side),
            Class::Part | Class::Shared | Class::Global => counts.total,
        };
        // A part is refused by its grants, whatever is in it.
        let verdict = match counts {
            _ if table.class == Class::Part => Verdict::by(Layer::Policy),
            Some(counts) if reach(*counts) > 0 => Verdict::by(Layer::Policy),
            Some(_) => Verdict::skipped("there are no rows of others to reach"),
            None => Verdict::skipped("the operator's connection may not count the rows"),
        };
        verdicts.push((table.name.clone(), Check::Forge, verdict));
    }
    for (name, statement) in forgeries(other) {
        let session = Session::open(road).await?;
        let outcome = attempt(&session, &statement, name, tables, own, &mut verdicts).await;
        session.close().await;
        if let Err(Error::Statement { why, .. }) = outcome {
            // The proxy ends a session that it cannot bind any more.
            let reason = format!("after {name} the session was ended: {why}");
            put(&mut verdicts, SESSION, Verdict::skipped(reason));
        } else {
            outcome?;
        }
    }
    Ok(verdicts)
}

async fn attempt(
    session: &Session,
    statement: &str,
    name: &str,
    tables: &[(Table, Option<Counts>)],
    own: &Tenant,
    verdicts: &mut [(String, Check, Verdict)],
) -> Result<(), Error> {
    let reachable = || tables.iter().map(|(table, _)| table).filter(|t| t.class != Class::Shared);
    // In one message with what is read then: the proxy cannot put anything right in between. Whether
    // the statement was refused is no matter; what counts is what can be seen.
    let who = session.count_after(statement, &identity(own)).await?;
    judge_identity(&who, name, verdicts);
    for table in reachable() {
        let seen = session.count_after(statement, &count_foreign(table, own)).await?;
        judge_rows(&seen, name, table, verdicts);
    }
    // In a message of its own.
    if let Reaction::Other(told) = session.keep(statement).await?
        && told.contains("[42")
    {
        // A statement that Postgres does not understand tries nothing.
        put(verdicts, SESSION, Verdict::skipped(format!("{name} could not be tried: {told}")));
    }
    let who = session.attempt(Step::Count(identity(own), Vec::new())).await?;
    judge_identity(&who, name, verdicts);
    for table in reachable() {
        let count = Step::Count(count_foreign(table, own), Vec::new());
        let seen = session.attempt(count).await?;
        judge_rows(&seen, name, table, verdicts);
    }
    Ok(())
}

/// The rows of all but the own tenant; of a table without tenants, all. Without parameters, so that
/// it goes into one message with a forgery; nor is the value kept in a setting, which a forgery
/// may reset, and which with transaction pooling is gone after the message.
fn count_foreign(table: &Table, own: &Tenant) -> String {
    let Table { name, column, column_type, class, .. } = table;
    let value = table.value(own).map_or_else(|| "null".to_owned(), escape_literal);
    match class {
        Class::Tenant | Class::Part => format!(
            "select count(*) from {name} where {column} is distinct from {value}::{column_type}"
        ),
        Class::Shared | Class::Global => format!("select count(*) from {name}"),
    }
}

fn judge_identity(who: &Reaction, name: &str, verdicts: &mut [(String, Check, Verdict)]) {
    let who = match who {
        Reaction::Ran(1) => "another tenant",
        Reaction::Ran(2) => "the super-admin",
        Reaction::Ran(_) | Reaction::Denied(_) | Reaction::Constraint(_) | Reaction::Other(_) => {
            return;
        }
    };
    let verdict = Verdict::failed(
        format!("after {name} the session is {who}"),
        "run sql/migrations/0002_functions.sql again (`cloison install`)",
    );
    put(verdicts, SESSION, verdict);
}

fn judge_rows(
    seen: &Reaction,
    name: &str,
    table: &Table,
    verdicts: &mut [(String, Check, Verdict)],
) {
    match seen {
        Reaction::Ran(rows @ 1..) => {
            let seen = format!("after {name} {rows} rows of others are visible");
            put(verdicts, &table.name, Verdict::failed(seen, &table.mend));
        }
        Reaction::Denied(layer) => {
            let of = verdicts.iter_mut().find(|(subject, _, _)| *subject == table.name);
            if let Some((_, _, verdict @ Verdict::Passed { .. })) = of {
                *verdict = Verdict::by(*layer);
            }
        }
        Reaction::Ran(_) | Reaction::Constraint(_) | Reaction::Other(_) => {}
    }
}

/// The first thing seen stays.
fn put(verdicts: &mut [(String, Check, Verdict)], subject: &str, verdict: Verdict) {
    let of = verdicts.iter_mut().find(|(name, _, _)| name == subject);
    if let Some((_, _, old)) = of.filter(|(_, _, old)| !matches!(old, Verdict::Failed { .. })) {
        *old = verdict;
    }
}

/// What no table shows.
const SESSION: &str = "session";
