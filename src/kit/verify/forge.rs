//! Everything that a tenant can say to become somebody else; after each it is still itself, or
//! nobody.

use super::catalogue::{Class, Counts, Table, Tenant};
use super::report::{Check, Verdict};
use super::session::{Reaction, Session, Step};
use super::tenant::count_foreign;
use super::{Error, PROTECT_AGAIN, Road};

/// What is tried, each in a session of its own: a name, and statements one by one.
fn forgeries(other: &Tenant) -> Vec<(&'static str, Vec<String>)> {
    let id = &other.id;
    let ticket = format!("s{id}{}", "0".repeat(64));
    let one = |sql: String| vec![sql];
    vec![
        ("SET cloison.context", one(format!("set cloison.context = '{ticket}'"))),
        (
            "set_config('cloison.context')",
            one(format!("select pg_catalog.set_config('cloison.context', '{ticket}', false)")),
        ),
        (
            "the own context with the other's id",
            one(format!(
                "select pg_catalog.set_config('cloison.context', pg_catalog.overlay( \
                     pg_catalog.current_setting('cloison.context') placing '{id}' from 2), false)"
            )),
        ),
        ("set_tenant(other)", one(format!("select cloison.set_tenant('{id}'::uuid)"))),
        (
            "set_tenant(other, proof)",
            one(format!("select cloison.set_tenant('{id}'::uuid, '{}')", "0".repeat(64))),
        ),
        ("enable_superadmin_mode()", one("select cloison.enable_superadmin_mode()".to_owned())),
        ("SET cloison.superadmin", one(format!("set cloison.superadmin = '{}'", "0".repeat(64)))),
        ("SET ROLE", one("set role cloison_superadmin".to_owned())),
        ("SET row_security = off", one("set row_security = off".to_owned())),
        ("RESET ALL", one("reset all".to_owned())),
        ("DISCARD ALL", one("discard all".to_owned())),
        (
            "a DO block",
            one(format!(
                "do $$ begin perform pg_catalog.set_config('cloison.context', '{ticket}', false); \
                 end $$"
            )),
        ),
    ]
}

/// What is still to be found after a forgery.
const IDENTITY: &str = "
    select case
        when cloison.is_superadmin() then 2
        when cloison.get_current_tenant() = $1::pg_catalog.text::uuid then 0
        when cloison.get_current_tenant() is null then 0
        else 1
    end::bigint";

/// Tries every forgery as `own`. Answers a verdict on the session, and one on each table.
pub(super) async fn forge(
    road: &Road,
    tables: &[(Table, Option<Counts>)],
    own: &Tenant,
    other: &Tenant,
) -> Result<Vec<(String, Check, Verdict)>, Error> {
    let mut verdicts = vec![(SESSION.to_owned(), Check::Forge, Verdict::Passed)];
    for (table, counts) in tables.iter().filter(|(table, _)| table.class != Class::Shared) {
        let reach = |counts: Counts| match table.class {
            Class::Tenant => counts.of_other(own.side),
            Class::Part | Class::Shared | Class::Global => counts.total,
        };
        // A part is refused by its grants, whatever is in it.
        let verdict = match counts {
            _ if table.class == Class::Part => Verdict::Passed,
            Some(counts) if reach(*counts) > 0 => Verdict::Passed,
            Some(_) => Verdict::skipped("there are no rows of others to reach"),
            None => Verdict::skipped("the operator's connection may not count the rows"),
        };
        verdicts.push((table.name.clone(), Check::Forge, verdict));
    }
    for (name, statements) in forgeries(other) {
        let session = Session::open(road).await?;
        let outcome = attempt(&session, &statements, name, tables, own, &mut verdicts).await;
        session.close().await;
        outcome?;
    }
    Ok(verdicts)
}

async fn attempt(
    session: &Session,
    statements: &[String],
    name: &str,
    tables: &[(Table, Option<Counts>)],
    own: &Tenant,
    verdicts: &mut [(String, Check, Verdict)],
) -> Result<(), Error> {
    for statement in statements {
        // Whether it was refused is no matter: what counts is what can be seen afterwards.
        session.keep(statement).await?;
    }
    let identity = Step::Count(IDENTITY.to_owned(), vec![Some(&own.id)]);
    if let Reaction::Ran(who @ 1..) = session.attempt(identity).await? {
        let who = if who == 1 { "another tenant" } else { "the super-admin" };
        let verdict = Verdict::failed(
            format!("after {name} the session is {who}"),
            "run sql/migrations/0002_functions.sql again (`cloison install`)",
        );
        put(verdicts, SESSION, verdict);
    }
    for (table, _) in tables.iter().filter(|(table, _)| table.class != Class::Shared) {
        let (sql, values) = match (table.class, table.value(own)) {
            (Class::Tenant | Class::Part, Some(value)) => (count_foreign(table), vec![Some(value)]),
            (Class::Tenant | Class::Part | Class::Shared | Class::Global, _) => {
                (format!("select count(*) from {}", table.name), Vec::new())
            }
        };
        if let Reaction::Ran(rows @ 1..) = session.attempt(Step::Count(sql, values)).await? {
            let seen = format!("after {name} {rows} rows of others are visible");
            put(verdicts, &table.name, Verdict::failed(seen, PROTECT_AGAIN));
        }
    }
    Ok(())
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
