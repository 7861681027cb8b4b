//! The super-admin sees nothing before it has enabled its mode, and everything after.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

use super::attack::attack;
use super::catalogue::{Class, Counts, Table, Tenant, counts};
use super::check::{Attack, Layer, Owasp, Section};
use super::report::Verdict;
use super::session::{Reaction, Session, Step};
use super::wire::{Lost, Wire};
use super::{Error, Road};

/// What failed before the mode was enabled, by table.
pub(super) async fn before(
    session: &Session,
    tables: &[Table],
) -> Result<BTreeMap<String, Verdict>, Error> {
    let mut verdicts = BTreeMap::new();
    for table in tables {
        let sql = format!("select count(*) from {}", table.name);
        if let Reaction::Ran(rows @ 1..) = session.attempt(Step::Count(sql, Vec::new())).await? {
            let seen = format!("{rows} rows are visible before enable_superadmin_mode()");
            verdicts.insert(table.name.clone(), Verdict::failed(seen, &table.mend));
        }
    }
    Ok(verdicts)
}

/// All rows of all tenants: as many as the operator counts, or where the super-admin is the
/// operator, rows of both tenants.
pub(super) async fn after(
    session: &Session,
    tables: &[(Table, Option<Counts>)],
    tenants: &[Tenant; 2],
    mut before: BTreeMap<String, Verdict>,
) -> Result<Vec<(String, Verdict)>, Error> {
    let mut verdicts = Vec::new();
    for (table, known) in tables.iter().filter(|(table, _)| table.class != Class::Part) {
        let verdict = match before.remove(&table.name) {
            Some(failed) => failed,
            None => judge(table, counts(session, table, tenants).await?, *known),
        };
        verdicts.push((table.name.clone(), verdict));
    }
    // A part that was visible before has no line of its own otherwise.
    verdicts.extend(before);
    Ok(verdicts)
}

fn judge(table: &Table, seen: Option<Counts>, known: Option<Counts>) -> Verdict {
    match (seen, known) {
        (None, _) => Verdict::failed("the super-admin may not read it", &table.mend),
        (Some(_), None) => Verdict::skipped("the operator's connection may not count the rows"),
        (Some(_), Some(known)) if known.total == 0 => Verdict::skipped("there are no rows"),
        (Some(seen), Some(known)) if seen == known => Verdict::HELD,
        (Some(seen), Some(known)) => {
            let seen = format!("it sees {} rows, and there are {}", seen.total, known.total);
            Verdict::failed(seen, &table.mend)
        }
    }
}

/// Each function of the kit that may change something, by a super-admin who has not asked to write.
pub(super) async fn permits(
    session: &Session,
    operator: &Session,
) -> Result<Vec<(String, Verdict)>, Error> {
    let doing = "list the kit's functions";
    let unreadable = |error| Error::statement("operator", doing, &error);
    let permit = "select cloison.superadmin_may_write()::int::bigint";
    if let Reaction::Ran(_) = session.attempt(Step::Count(permit.to_owned(), Vec::new())).await? {
        let reason = "the super-admin's session may write: connect without cloison.write";
        return Ok(vec![("kit".to_owned(), Verdict::skipped(reason))]);
    }
    let mut verdicts = Vec::new();
    for row in &operator.query(doing, MAY_WRITE, &[]).await? {
        let name: String = row.try_get(0).map_err(unreadable)?;
        let call: String = row.try_get(1).map_err(unreadable)?;
        let verdict = match session.attempt(Step::Write(call, Vec::new())).await? {
            Reaction::Denied(layer) => Verdict::by(layer),
            Reaction::Ran(_) | Reaction::Constraint(_) | Reaction::Other(_) => Verdict::failed(
                "a super-admin who has not asked to write gets past the permit",
                "`cloison install` again",
            ),
        };
        verdicts.push((name, verdict));
    }
    Ok(verdicts)
}

/// Whether each statement of [`ran`] is on record. The proxy commits the record before the statement
/// runs, so it is there by then, whether it has its place in the chain yet or not.
pub(super) async fn recorded(session: &Session, ran: Ran) -> Result<Verdict, Error> {
    let hashes = match ran {
        Err(Lost(why)) => return Ok(Verdict::skipped(why)),
        Ok(Err(seen)) => return Ok(Verdict::failed(seen, BUG)),
        Ok(Ok(hashes)) => hashes,
    };
    for hash in hashes {
        // The text is nobody else's; without a tenant and of today there is an index to it.
        let sql = "select count(*) from cloison.audit_log l \
                   where l.tenant_id is null and l.at > now() - interval '1 day' \
                     and l.action = 'statement' and l.detail ->> 'sha256' = $1";
        match session.attempt(Step::Count(sql.to_owned(), vec![Some(&hash)])).await? {
            Reaction::Ran(0) => {
                let seen = "a statement of the super-admin's has run and is not on record";
                return Ok(Verdict::failed(seen, BUG));
            }
            Reaction::Ran(_) => {}
            Reaction::Denied(_) => {
                return Ok(Verdict::skipped("the super-admin may not read the audit log"));
            }
            Reaction::Constraint(told) | Reaction::Other(told) => {
                return Ok(Verdict::skipped(told));
            }
        }
    }
    Ok(Verdict::by(Layer::Wire))
}

/// The hashes of texts that have run; or what ran that should not have.
pub(super) type Ran = Result<Result<Vec<String>, &'static str>, Lost>;

/// Runs statements that hide from a reader of their beginning, and one under a name that Postgres
/// would cut. To be called while the super-admin has no other session: its pool may have one
/// connection.
pub(super) async fn ran(road: &Road) -> Ran {
    let mut wire = Wire::open(road).await?;
    let mark = uuid::Uuid::new_v4();
    let blanks = " ".repeat(9_300);
    let texts = [
        format!("select 'cloison verify {mark}'"),
        format!("set cloison.jwt = 'x'{blanks}; select '{mark}'"),
        format!("select 1{blanks}-- {mark}"),
    ];
    for text in &texts {
        wire.ask(text).await?;
    }
    let name = "n".repeat(64);
    wire.parse(&name, "select 1").execute(&name, &[]).sync().send().await?;
    let answer = wire.answer().await?;
    wire.close().await;
    if answer.error().is_none() {
        return Ok(Err("a statement has run under a name that its record cuts"));
    }
    let hash = |text: &String| {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    Ok(Ok(texts.iter().map(hash).collect()))
}

const BUG: &str = "a bug of the proxy";

/// Functions of the kit that super-admins may call and that may write, each with a call. The first
/// steps of a session are not among them: to enable its mode, and to choose a tenant. Nor is what
/// makes and drops the table that a COPY goes through, which is the transaction's own.
const MAY_WRITE: &str = "
    select p.oid::pg_catalog.regprocedure::text, pg_catalog.format(
        'select cloison.%I(%s)', p.proname,
        (select pg_catalog.string_agg(
            'null::' || pg_catalog.format_type(t, null), ', ' order by n)
         from pg_catalog.unnest(p.proargtypes) with ordinality a (t, n)))
    from pg_catalog.pg_proc p
    where p.pronamespace = 'cloison'::pg_catalog.regnamespace
      and pg_catalog.has_function_privilege('cloison_superadmin', p.oid, 'execute')
      and p.provolatile = 'v'
      and p.proname not in ('enable_superadmin_mode', 'renew_superadmin', 'set_tenant',
                            'stage_copy', 'make_copy_table', 'drop_copy_table')
    order by 1";

pub(super) static PERMIT: Attack = attack(
    "superadmin_permit",
    Section::Roles,
    Owasp::Monitoring,
    "a super-admin changes nothing without a permit to write",
);
pub(super) static RECORD: Attack = attack(
    "superadmin_record",
    Section::Roles,
    Owasp::Monitoring,
    "each statement of a super-admin is on record as it has run",
);
