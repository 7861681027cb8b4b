//! What one tenant may do with one table: its own rows, and nothing of the other's.

use super::Error;
use super::catalogue::{Class, Counts, Table, Tenant, counts};
use super::check::{Check, Layer};
use super::report::Verdict;
use super::session::{Reaction, Session, Step};

/// A tenant's session, and what is needed to judge what it sees.
pub(super) struct Trial<'a> {
    pub(super) session: &'a Session,
    pub(super) operator: &'a Session,
    pub(super) tenants: &'a [Tenant; 2],
    /// The one that the session is bound to.
    pub(super) own: &'a Tenant,
    /// The one that it must not reach.
    pub(super) other: &'a Tenant,
}

impl Trial<'_> {
    /// Every check of one table that has to be made as a tenant.
    pub(super) async fn table(
        &self,
        table: &Table,
        counts: Option<Counts>,
    ) -> Result<Vec<(Check, Verdict)>, Error> {
        let mut verdicts = Vec::new();
        if table.is_tenants() && table.value(self.own).is_none() {
            let reason = format!("tenant {} has no external key", self.own.side);
            let checks = [Check::Own, Check::Read, Check::Insert, Check::Update, Check::Move];
            let checks = checks.into_iter().chain([Check::Delete, Check::NoContext]);
            return Ok(checks.map(|check| (check, Verdict::skipped(&reason))).collect());
        }
        if matches!(table.class, Class::Tenant | Class::Shared) {
            verdicts.push((Check::Own, self.own(table, counts).await?));
        }
        if table.class != Class::Shared {
            verdicts.push((Check::Read, self.read(table, counts).await?));
        }
        verdicts.push((Check::Insert, self.insert(table, counts).await?));
        verdicts.push((Check::Update, self.update(table, counts).await?));
        if matches!(table.class, Class::Tenant | Class::Part) {
            verdicts.push((Check::Move, self.give_away(table, counts).await?));
        }
        verdicts.push((Check::Delete, self.delete(table, counts).await?));
        if table.is_tenants() {
            verdicts.push((Check::NoContext, self.no_context(table, counts).await?));
        }
        Ok(verdicts)
    }

    /// As many rows as an operator counts. Somebody may be writing, so a difference is looked at
    /// again before it is believed.
    async fn own(&self, table: &Table, known: Option<Counts>) -> Result<Verdict, Error> {
        let Some(mut known) = known else { return Ok(Verdict::skipped(UNCOUNTED)) };
        let is_shared = table.class == Class::Shared;
        let expected = |c: Counts| if is_shared { c.total } else { c.of(self.own.side) };
        let step = if is_shared {
            Step::Count(format!("select count(*) from {}", table.name), Vec::new())
        } else {
            let value = table.value(self.own);
            Step::Count(count_of(table), vec![value])
        };
        for _ in 0..RECOUNTS {
            let seen = self.session.attempt(step.clone()).await?;
            match seen {
                Reaction::Ran(0) if expected(known) == 0 => {
                    return Ok(Verdict::skipped(self.without_rows(table, self.own)));
                }
                Reaction::Ran(rows) if rows == expected(known) => return Ok(Verdict::HELD),
                Reaction::Ran(_) => {}
                Reaction::Denied(_) => {
                    return Ok(Verdict::failed("reading its own rows is refused", &table.mend));
                }
                Reaction::Constraint(told) | Reaction::Other(told) => {
                    return Ok(Verdict::skipped(told));
                }
            }
            let again = counts(self.operator, table, self.tenants).await?;
            known = again.unwrap_or(known);
        }
        let seen = "it does not see as many rows as an operator counts for it";
        Ok(Verdict::failed(seen, &table.mend))
    }

    /// Nothing of the other's, whether asked for by name or not.
    async fn read(&self, table: &Table, known: Option<Counts>) -> Result<Verdict, Error> {
        let foreign = match table.class {
            Class::Global | Class::Shared => {
                Step::Count(format!("select count(*) from {}", table.name), Vec::new())
            }
            Class::Tenant | Class::Part => {
                Step::Count(count_foreign(table), vec![table.value(self.own)])
            }
        };
        let mut steps = vec![foreign];
        if let Some(other) = table.value(self.other).filter(|_| table.is_tenants()) {
            steps.push(Step::Count(count_of(table), vec![Some(other)]));
        }
        let reactions = self.session.attempts(&steps).await?;
        for reaction in &reactions {
            match reaction {
                Reaction::Ran(0) => {}
                Reaction::Ran(rows) => {
                    let seen = format!("{rows} rows of others are visible");
                    return Ok(Verdict::failed(seen, &table.mend));
                }
                Reaction::Denied(_) if table.is_tenants() => {
                    return Ok(Verdict::skipped("reading is refused altogether"));
                }
                Reaction::Denied(layer) => return Ok(Verdict::by(*layer)),
                Reaction::Constraint(told) | Reaction::Other(told) => {
                    return Ok(Verdict::skipped(told));
                }
            }
        }
        Ok(self.if_other_has_rows(table, known))
    }

    /// A row for the other is refused by a policy, before any constraint speaks.
    async fn insert(&self, table: &Table, known: Option<Counts>) -> Result<Verdict, Error> {
        let Table { name, column, .. } = table;
        if matches!(table.class, Class::Shared | Class::Global) {
            // A default would be made although the row is refused, and could move a sequence.
            let sql =
                format!("insert into {name} ({column}) overriding system value values (null)");
            let reaction = self.session.attempt(Step::Write(sql, Vec::new())).await?;
            return Ok(judge_insert(table, reaction));
        }
        let Some(other) = table.value(self.other) else {
            return Ok(Verdict::skipped(format!("tenant {} has no external key", self.other.side)));
        };
        let (columns, nulls): (String, String) =
            table.defaulted.iter().map(|name| (format!(", {name}"), ", null")).unzip();
        let bare = format!(
            "insert into {name} ({column}{columns}) overriding system value values ({}{nulls})",
            table.parameter(1),
        );
        let reaction = self.session.attempt(Step::Write(bare, vec![Some(other)])).await?;
        let Reaction::Other(told) = reaction else { return Ok(judge_insert(table, reaction)) };
        if known.is_none_or(|known| known.of(self.own.side) == 0) {
            return Ok(Verdict::skipped(told));
        }
        // A trigger or a partition's bounds came before the policies: a copy of a row gets further.
        let columns: String = table.others.iter().map(|name| format!(", {name}")).collect();
        let copy = format!(
            "insert into {name} ({column}{columns}) overriding system value \
             select {}{columns} from {name} where {column} = {} limit 1",
            table.parameter(1),
            table.parameter(2),
        );
        let values = vec![Some(other), table.value(self.own)];
        Ok(judge_insert(table, self.session.attempt(Step::Write(copy, values)).await?))
    }

    /// Asked for by name, and by a statement that reads nothing: that one only the policy for
    /// UPDATE holds back, where the first may be held back by the one for SELECT.
    async fn update(&self, table: &Table, known: Option<Counts>) -> Result<Verdict, Error> {
        let Table { name, column, .. } = table;
        if matches!(table.class, Class::Shared | Class::Global) {
            let sql = format!("update {name} set {column} = {column}");
            return Ok(judge_write(
                table,
                self.session.attempt(Step::Write(sql, Vec::new())).await?,
            ));
        }
        let own = table.value(self.own);
        let blind =
            format!("update {name} set {column} = {own_value}", own_value = table.parameter(1));
        let by_name = match table.value(self.other) {
            Some(other) => {
                let sql = format!(
                    "update {name} set {column} = {column} where {column} = {}",
                    table.parameter(1),
                );
                judge_write(table, self.session.attempt(Step::Write(sql, vec![Some(other)])).await?)
            }
            None => Verdict::by(Layer::Policy),
        };
        if !by_name.is_passed() || table.class == Class::Part {
            return Ok(by_name);
        }
        let blind = self.blind(table, &blind, vec![own]).await?;
        Ok(blind.unwrap_or_else(|| self.if_other_has_rows(table, known)))
    }

    /// The first row that would become the other's ends the statement.
    async fn give_away(&self, table: &Table, known: Option<Counts>) -> Result<Verdict, Error> {
        let Table { name, column, .. } = table;
        let Some(other) = table.value(self.other) else {
            return Ok(Verdict::skipped(format!("tenant {} has no external key", self.other.side)));
        };
        let to_other = format!("update {name} set {column} = {}", table.parameter(1));
        let own_rows = format!("{to_other} where {column} = {}", table.parameter(2));
        let steps = [
            Step::Write(to_other, vec![Some(other)]),
            Step::Write(own_rows, vec![Some(other), table.value(self.own)]),
        ];
        let mut by = Layer::Policy;
        for step in steps {
            match self.session.attempt(step).await? {
                Reaction::Denied(layer) => by = layer,
                Reaction::Ran(0) if known.is_none_or(|known| known.of(self.own.side) == 0) => {
                    return Ok(Verdict::skipped(self.without_rows(table, self.own)));
                }
                Reaction::Ran(rows) => {
                    let seen = format!("{rows} rows were given to the other tenant");
                    return Ok(Verdict::failed(seen, &table.mend));
                }
                Reaction::Constraint(told) => {
                    let seen = format!("no policy refused it, only a constraint: {told}");
                    return Ok(Verdict::failed(seen, &table.mend));
                }
                Reaction::Other(told) => return Ok(Verdict::skipped(told)),
            }
        }
        Ok(Verdict::by(by))
    }

    /// As with updates.
    async fn delete(&self, table: &Table, known: Option<Counts>) -> Result<Verdict, Error> {
        let Table { name, column, .. } = table;
        let blind = format!("delete from {name}");
        if matches!(table.class, Class::Shared | Class::Global) {
            let reaction = self.session.attempt(Step::Write(blind, Vec::new())).await?;
            return Ok(judge_write(table, reaction));
        }
        let by_name = match table.value(self.other) {
            Some(other) => {
                let sql = format!("delete from {name} where {column} = {}", table.parameter(1));
                judge_write(table, self.session.attempt(Step::Write(sql, vec![Some(other)])).await?)
            }
            None => Verdict::by(Layer::Policy),
        };
        if !by_name.is_passed() || table.class == Class::Part {
            return Ok(by_name);
        }
        let blind = self.blind(table, &blind, Vec::new()).await?;
        Ok(blind.unwrap_or_else(|| self.if_other_has_rows(table, known)))
    }

    async fn no_context(&self, table: &Table, known: Option<Counts>) -> Result<Verdict, Error> {
        let empty = "select pg_catalog.set_config('cloison.context', '', true)";
        let sql = format!("select count(*) from {}", table.name);
        match self.session.count_after(empty, &sql).await? {
            Reaction::Denied(layer) => Ok(Verdict::by(layer)),
            Reaction::Ran(0) if known.is_some_and(|known| known.total > 0) => {
                Ok(Verdict::by(Layer::Policy))
            }
            Reaction::Ran(0) => Ok(Verdict::skipped("there are no rows")),
            Reaction::Ran(rows) => {
                let seen = format!("{rows} rows are visible without a context");
                Ok(Verdict::failed(seen, &table.mend))
            }
            Reaction::Constraint(told) | Reaction::Other(told) => Ok(Verdict::skipped(told)),
        }
    }

    /// How many rows a write reaches whose condition reads no column: the policies for SELECT have
    /// no part in it. The condition counts the rows that the write's own policies let through, and
    /// is never true. None where that says nothing.
    async fn blind(
        &self,
        table: &Table,
        write: &str,
        values: Vec<Option<&str>>,
    ) -> Result<Option<Verdict>, Error> {
        let steps = [
            Step::Count(count_of(table), vec![table.value(self.own)]),
            Step::Write(format!("select {}", set_reached("'0'")), Vec::new()),
            Step::Write(
                format!(
                    "{write} where {} is null",
                    set_reached(&format!("({REACHED} + 1)::pg_catalog.text")),
                ),
                values,
            ),
            Step::Count(format!("select {REACHED}"), Vec::new()),
        ];
        let reactions = self.session.attempts(&steps).await?;
        Ok(match &reactions[..] {
            [Reaction::Ran(own), .., Reaction::Ran(reached)]
                if reactions.len() == steps.len() && reached > own =>
            {
                let seen = format!(
                    "a statement that reads nothing reaches {reached} rows, of which {own} are the \
                     tenant's"
                );
                Some(Verdict::failed(seen, &table.mend))
            }
            _ => None,
        })
    }

    /// Nothing was reached; that says something only where there is something to reach. A part is
    /// refused before its rows matter.
    fn if_other_has_rows(&self, table: &Table, known: Option<Counts>) -> Verdict {
        let is_proof = |known: Counts| match table.class {
            Class::Tenant => known.of_other(self.own.side) > 0,
            Class::Part | Class::Shared | Class::Global => known.total > 0,
        };
        match known {
            None => Verdict::skipped(UNCOUNTED),
            Some(known) if is_proof(known) => Verdict::by(Layer::Policy),
            Some(_) if table.is_tenants() => Verdict::skipped(self.without_rows(table, self.other)),
            Some(_) => Verdict::skipped("there are no rows"),
        }
    }

    fn without_rows(&self, table: &Table, tenant: &Tenant) -> String {
        match table.unmade(tenant.side) {
            Some(why) => format!("tenant {} has no rows here, and got none: {why}", tenant.side),
            None => format!("tenant {} has no rows here", tenant.side),
        }
    }
}

fn judge_insert(table: &Table, reaction: Reaction) -> Verdict {
    match reaction {
        Reaction::Denied(layer) => Verdict::by(layer),
        Reaction::Ran(0) => Verdict::skipped("something kept the row from being inserted"),
        Reaction::Ran(_) => Verdict::failed("the row was inserted", &table.mend),
        Reaction::Constraint(told) => {
            let seen = format!("no policy refused the row, only a constraint: {told}");
            Verdict::failed(seen, &table.mend)
        }
        Reaction::Other(told) => Verdict::skipped(told),
    }
}

fn judge_write(table: &Table, reaction: Reaction) -> Verdict {
    match reaction {
        Reaction::Denied(layer) => Verdict::by(layer),
        Reaction::Ran(0) => Verdict::by(Layer::Policy),
        Reaction::Ran(rows) => Verdict::failed(format!("{rows} rows were written"), &table.mend),
        Reaction::Constraint(told) => {
            Verdict::failed(format!("only a constraint refused it: {told}"), &table.mend)
        }
        Reaction::Other(told) => Verdict::skipped(told),
    }
}

fn set_reached(value: &str) -> String {
    format!("pg_catalog.set_config('verify.reached', {value}, true)")
}

/// The rows of the tenant that the parameter names.
fn count_of(table: &Table) -> String {
    let Table { name, column, .. } = table;
    format!("select count(*) from {name} where {column} = {}", table.parameter(1))
}

/// The rows of all but the tenant that the parameter names.
fn count_foreign(table: &Table) -> String {
    let Table { name, column, .. } = table;
    let own = table.parameter(1);
    format!("select count(*) from {name} where {column} is distinct from {own}")
}

/// So often is counted before a difference is believed.
const RECOUNTS: u8 = 3;

/// The count of [`Trial::blind`], in a setting of the transaction.
const REACHED: &str = "pg_catalog.current_setting('verify.reached')::pg_catalog.int8";

const UNCOUNTED: &str = "the operator's connection may not count the rows";
