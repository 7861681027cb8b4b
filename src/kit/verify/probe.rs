//! Probe rows: one for each table that a tenant has no rows in, and gone again at the end.

use std::collections::BTreeMap;

use postgres_protocol::escape::escape_literal;
use tokio_postgres::types::ToSql;

use super::catalogue::{Counts, Table, Tenant};
use super::session::{Session, told};
use super::shape::{Change, Draft, Shape};
use super::{Error, Road};

/// A row that was made.
#[derive(Clone, Debug)]
struct Probe {
    table: String,
    /// Where it lies: the table itself or one of its partitions, and the place there.
    part: u32,
    place: String,
    /// What tells it from others: an expression, and its value. Without a primary key all of it.
    key: String,
    content: String,
    has_key: bool,
}

/// The rows that were made along one road.
#[derive(Debug, Default)]
pub(super) struct Probes {
    rows: Vec<Probe>,
}

/// Why there is no row.
enum Refused {
    /// What Postgres said to it.
    By(tokio_postgres::Error),
    /// It could not be taken away again without a trace, or is not needed.
    Because(String),
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::By(error)
    }
}

/// A table that has no row of the tenant's, and what a row `made` of the tenant's is.
struct Place<'a> {
    table: &'a Table,
    /// What tells a row from others, if there is a primary key.
    key: Option<String>,
    own: String,
}

impl Probes {
    /// Makes what can be made, and says in the tables why where it cannot be. A row that points to
    /// another table comes when that one has its row.
    pub(super) async fn make(
        &mut self,
        road: &Road,
        tenant: &Tenant,
        operator: &Session,
        tables: &mut [(Table, Option<Counts>)],
    ) -> Result<(), Error> {
        let mut missing = BTreeMap::new();
        for (number, (table, counts)) in tables.iter().enumerate() {
            if table.is_tenants() && counts.is_some_and(|counts| counts.of(tenant.side) == 0) {
                missing.insert(number, Shape::of(operator, table).await?);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let session = Session::open(road).await?;
        loop {
            let before = missing.len();
            for (number, mut shape) in std::mem::take(&mut missing) {
                let made = self.make_one(&session, tenant, number, &mut shape, tables).await;
                let Err(why) = made else { continue };
                if let Some((table, _)) = tables.get_mut(number) {
                    table.set_unmade(tenant.side, why);
                }
                missing.insert(number, shape);
            }
            if missing.is_empty() || missing.len() == before {
                break;
            }
        }
        session.close().await;
        Ok(())
    }

    /// Makes a row in one table, by values that its constraints let pass; or says why not.
    async fn make_one(
        &mut self,
        session: &Session,
        tenant: &Tenant,
        number: usize,
        shape: &mut Shape,
        tables: &[(Table, Option<Counts>)],
    ) -> Result<(), String> {
        let Some((table, _)) = tables.get(number) else { return Ok(()) };
        let Some(value) = table.value(tenant) else {
            return Err("the tenant has no external key".to_owned());
        };
        if let Some(trigger) = &shape.trigger_of_definer {
            return Err(format!(
                "its trigger {trigger} is SECURITY DEFINER, and may write where the tenant does \
                 not see it"
            ));
        }
        let own =
            format!("made.{} = {}::{}", table.column, escape_literal(value), table.column_type);
        let place = Place { table, key: shape.key.clone(), own };
        let watched = if shape.has_code { self.others(table, tables) } else { Vec::new() };
        let mut draft = Draft::new(shape);
        let mut is_sifted = false;
        let mut why = String::new();
        for _ in 0..TRIES {
            let error = match place.settle(session, &draft.sql(shape, table), &watched).await {
                Ok(rows) => {
                    self.rows.extend(rows);
                    return Ok(());
                }
                Err(Refused::Because(why)) => return Err(why),
                Err(Refused::By(error)) => error,
            };
            why = told(&error);
            let Some(refusal) = error.as_db_error() else { break };
            why = shape.explain(refusal).unwrap_or(why);
            match draft.change(shape, refusal) {
                Change::Made => {}
                Change::Impossible => break,
                Change::Unknown if is_sifted => {
                    if !draft.change_all(shape) {
                        break;
                    }
                }
                Change::Unknown => {
                    shape.sift(session).await;
                    draft = Draft::new(shape);
                    is_sifted = true;
                }
            }
        }
        Err(why)
    }

    /// The tenants' tables that a trigger must leave as they are: all but those whose rows are ours.
    fn others<'a>(&self, table: &Table, tables: &'a [(Table, Option<Counts>)]) -> Vec<&'a str> {
        let is_ours = |other: &Table| {
            self.rows.iter().any(|probe| probe.has_key && probe.table == other.name)
        };
        let others = tables
            .iter()
            .map(|(other, _)| other)
            .filter(|other| other.is_tenants() && other.name != table.name && !is_ours(other));
        others.map(|other| other.name.as_str()).collect()
    }

    /// Takes them away again: as the tenant, or as the operator where that fails, because the proxy
    /// may let the tenant in no more. Returns what is left.
    pub(super) async fn remove(
        &mut self,
        road: &Road,
        tenant: &Tenant,
        operator: Option<&Session>,
    ) -> Vec<String> {
        let mut left = Vec::new();
        if self.rows.is_empty() {
            return left;
        }
        let session = Session::open(road).await.ok();
        // Later ones may point to earlier ones.
        for probe in self.rows.drain(..).rev() {
            let is_gone = match &session {
                Some(session) => probe.remove(session).await.unwrap_or(false),
                None => false,
            } || match operator {
                Some(operator) => probe.remove_for(tenant, operator).await.unwrap_or(false),
                None => false,
            };
            if !is_gone {
                left.push(format!("{} {}", probe.table, probe.content));
            }
        }
        if let Some(session) = session {
            session.close().await;
        }
        left
    }
}

impl Probe {
    /// Removes it as its tenant. Whether it is gone now.
    async fn remove(&self, session: &Session) -> Result<bool, tokio_postgres::Error> {
        let (this, parameters) = self.condition();
        if self.delete(session, "").await? == 1 {
            return Ok(true);
        }
        // Another table's trigger may have taken it along; without a key it may have changed.
        let there = format!("select from {} as made where {this}", self.table);
        let rows = session.client().query(&there, &parameters).await?;
        Ok(self.has_key && rows.is_empty())
    }

    /// Removes it as an operator. Whether it has: one who does not see the row cannot say that it
    /// is gone.
    async fn remove_for(
        &self,
        tenant: &Tenant,
        operator: &Session,
    ) -> Result<bool, tokio_postgres::Error> {
        if self.delete(operator, "").await? == 1 {
            return Ok(true);
        }
        // For an owner, whom the policies hold, too.
        let choose = format!("select cloison.set_tenant({}::uuid)", escape_literal(&tenant.id));
        Ok(self.delete(operator, &choose).await? == 1)
    }

    async fn delete(&self, session: &Session, first: &str) -> Result<u64, tokio_postgres::Error> {
        let client = session.client();
        let (this, parameters) = self.condition();
        let delete = format!("delete from {} as made where {this}", self.table);
        client.batch_execute(BEGIN).await?;
        let tried = async {
            client.batch_execute(first).await?;
            let deleted = client.execute(&delete, &parameters).await?;
            client.batch_execute("commit").await?;
            Ok(deleted)
        };
        let deleted = tried.await;
        if deleted.is_err() {
            client.batch_execute("rollback").await?;
        }
        deleted
    }

    /// What tells it from all other rows, and the parameters of that.
    fn condition(&self) -> (String, Vec<&(dyn ToSql + Sync)>) {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.part, &self.content];
        let mut place = "";
        if !self.has_key {
            place = "made.ctid = $3::text::tid and ";
            parameters.push(&self.place);
        }
        (format!("{place}made.tableoid = $1 and {} = $2::text::jsonb", self.key), parameters)
    }
}

impl Place<'_> {
    /// Makes the row, once it is certain that it can be taken away without a trace.
    async fn settle(
        &self,
        session: &Session,
        insert: &str,
        watched: &[&str],
    ) -> Result<Vec<Probe>, Refused> {
        let client = session.client();
        client.batch_execute(BEGIN).await?;
        let rehearsed = self.rehearse(session, insert, watched).await;
        client.batch_execute("rollback").await?;
        rehearsed?;
        client.batch_execute(BEGIN).await?;
        let made = self.insert(session, insert).await;
        if made.is_err() {
            client.batch_execute("rollback").await?;
        }
        made
    }

    /// Makes the row and takes it away, in a transaction that is rolled back.
    async fn rehearse(
        &self,
        session: &Session,
        insert: &str,
        watched: &[&str],
    ) -> Result<(), Refused> {
        let client = session.client();
        let Self { table, own, .. } = self;
        self.demand_none(session, "the tenant has rows by now").await?;
        let before = contents(session, watched).await?;
        client.execute(insert, &[]).await?;
        client.batch_execute("set constraints all immediate").await?;
        let delete = format!("delete from {} as made where {own}", table.name);
        client.execute(&delete, &[]).await.map_err(|error| {
            Refused::Because(format!("a row could not be removed again: {}", told(&error)))
        })?;
        self.demand_none(session, "something keeps rows from being removed").await?;
        let after = contents(session, watched).await?;
        let differs =
            |((name, before), after): ((_, &String), &String)| (before != after).then_some(name);
        match watched.iter().zip(&before).zip(&after).find_map(differs) {
            None => Ok(()),
            Some(other) => Err(Refused::Because(format!(
                "its triggers leave changes in {other}, which would stay"
            ))),
        }
    }

    /// Makes the row, and looks where it has come to.
    async fn insert(&self, session: &Session, insert: &str) -> Result<Vec<Probe>, Refused> {
        let client = session.client();
        let Self { table, key, own } = self;
        self.demand_none(session, "the tenant has rows by now").await?;
        client.execute(insert, &[]).await?;
        let whole = "pg_catalog.to_jsonb(made)".to_owned();
        let has_key = key.is_some();
        let key = key.clone().unwrap_or(whole);
        let sql = format!(
            "select made.tableoid, made.ctid::text, ({key})::text from {} as made where {own}",
            table.name
        );
        let mut rows = Vec::new();
        for row in client.query(&sql, &[]).await? {
            rows.push(Probe {
                table: table.name.clone(),
                part: row.try_get(0)?,
                place: row.try_get(1)?,
                key: key.clone(),
                content: row.try_get(2)?,
                has_key,
            });
        }
        if rows.is_empty() {
            let why = "something kept the row from being inserted";
            return Err(Refused::Because(why.to_owned()));
        }
        client.batch_execute("commit").await?;
        Ok(rows)
    }

    /// Without policies that hold, other tenants' rows are seen, too: then none is made or removed.
    async fn demand_none(&self, session: &Session, why: &str) -> Result<(), Refused> {
        let sql = format!("select from {} limit 1", self.table.name);
        match session.client().query(&sql, &[]).await?.is_empty() {
            true => Ok(()),
            false => Err(Refused::Because(why.to_owned())),
        }
    }
}

/// What the tenant has in each of these tables, as a number.
async fn contents(session: &Session, tables: &[&str]) -> Result<Vec<String>, Refused> {
    let mut contents = Vec::new();
    for table in tables {
        let sql = format!(
            "select pg_catalog.count(*) || ' ' || coalesce(pg_catalog.sum( \
             pg_catalog.hashtextextended(t::pg_catalog.text, 0)), 0) from {table} t"
        );
        let row = session.client().query_one(&sql, &[]).await.map_err(|error| {
            let why = told(&error);
            Refused::Because(format!("what its triggers change in {table} cannot be seen: {why}"))
        })?;
        contents.push(row.try_get(0)?);
    }
    Ok(contents)
}

/// So many rows are tried in one table.
const TRIES: u8 = 60;

/// Nothing waits for long, and all that is seen is of one moment.
const BEGIN: &str = "begin isolation level repeatable read; \
                     set local lock_timeout = '3s'; set local statement_timeout = '8s'";
