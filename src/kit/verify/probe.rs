//! Probe rows: one for each table that a tenant has no rows in, and gone again at the end.

use super::catalogue::{Counts, Table, Tenant};
use super::session::Session;
use super::{Error, Road};

/// A row that was made.
#[derive(Clone, Debug)]
struct Probe {
    table: String,
    /// Where it lies: the table itself or one of its partitions, and the place there.
    part: u32,
    place: String,
    /// All of it, so that nothing else at that place is taken for it.
    content: String,
}

/// The rows that were made along one road.
#[derive(Debug, Default)]
pub(super) struct Probes {
    rows: Vec<Probe>,
}

impl Probes {
    /// Makes what can be made. What cannot is left out: the checks will say that rows are missing.
    pub(super) async fn make(
        &mut self,
        road: &Road,
        tenant: &Tenant,
        tables: &[(Table, Option<Counts>)],
    ) -> Result<(), Error> {
        let session = Session::open(road).await?;
        for (table, counts) in tables {
            let is_empty = counts.is_some_and(|counts| counts.of(tenant.side) == 0);
            if table.is_tenants() && is_empty && table.value(tenant).is_some() {
                let (names, samples): (String, String) = table
                    .required
                    .iter()
                    .map(|(name, sample)| (format!(", {name}"), format!(", {sample}")))
                    .unzip();
                let Table { name, column, .. } = table;
                let sql = format!(
                    "insert into {name} as made ({column}{names}) values (default{samples}) \
                     returning made.tableoid, made.ctid::text, pg_catalog.to_jsonb(made)::text"
                );
                if let Ok(rows) = session.query("make a probe row", &sql, &[]).await
                    && let Some(row) = rows.first()
                    && let (Ok(part), Ok(place), Ok(content)) =
                        (row.try_get(0), row.try_get(1), row.try_get(2))
                {
                    self.rows.push(Probe { table: name.clone(), part, place, content });
                }
            }
        }
        session.close().await;
        Ok(())
    }

    /// Takes them away again.
    pub(super) async fn remove(&mut self, road: &Road) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let session = Session::open(road).await?;
        let mut left = Vec::new();
        // Later ones may point to earlier ones.
        for probe in self.rows.drain(..).rev() {
            let sql = format!(
                "delete from {} as made where made.tableoid = $1 and made.ctid = $2::text::tid \
                 and pg_catalog.to_jsonb(made) = $3::text::jsonb returning 1",
                probe.table
            );
            let deleted = session
                .query("remove a probe row", &sql, &[&probe.part, &probe.place, &probe.content])
                .await;
            if !deleted.is_ok_and(|rows| rows.len() == 1) {
                left.push(probe.table);
            }
        }
        session.close().await;
        if left.is_empty() { Ok(()) } else { Err(Error::ProbesLeft(left.join(", "))) }
    }
}
