//! The super-admin sees nothing before it has enabled its mode, and everything after.

use std::collections::BTreeMap;

use super::Error;
use super::catalogue::{Class, Counts, Table, Tenant, counts};
use super::report::Verdict;
use super::session::{Reaction, Session, Step};

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
