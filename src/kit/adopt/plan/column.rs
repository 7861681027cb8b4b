//! The column: made, filled, NOT NULL, and the tenants that it leads to.

use super::step::{Estimate, MOMENT};
use super::trigger::{drop_trigger, has_function, has_trigger, trigger_rule};
use super::{Act, Back, Draft, Fill, Kind, Lock, Phase, Stage, Step, Target, check};
use crate::kit::adopt::catalogue::{Column, Table};
use crate::kit::adopt::literal;
use crate::kit::adopt::mapping::ColumnType;

impl<'a> Draft<'a> {
    /// Everything about the column, of every table.
    pub(super) fn columns(&mut self) {
        self.make_default_tenants();
        for target in self.targets.clone() {
            if let Kind::Tenant(fill) = &target.kind {
                self.add_column(target.table, fill);
                self.fill_rows(&target, fill);
                if matches!(fill, Fill::Rule { .. }) {
                    self.add_tenants_of(target.table, Phase::NotNull, Stage::Contract);
                }
                self.set_not_null(target.table);
                self.drop_column(target.table, fill);
            }
        }
    }

    /// Tenants that rows go to, and that are not there.
    fn make_default_tenants(&mut self) {
        let mut names: Vec<String> = Vec::new();
        for (_, fill) in self.tenants() {
            if let Fill::Constant(tenant) = fill
                && !names.contains(&tenant)
            {
                names.push(tenant);
            }
        }
        let key = self.mapping.column_type.tenant_key();
        let tenants = &self.catalogue.tenants;
        names.retain(|name| {
            !tenants.iter().any(|t| t.id == *name || t.external_key.as_ref() == Some(name))
        });
        for name in names {
            self.up(
                Phase::Tenants,
                Step {
                    stage: Stage::Expand,
                    table: "cloison.tenants".to_owned(),
                    what: format!("add the tenant {name}"),
                    why: "rows become its own; give it a name of its own afterwards".to_owned(),
                    lock: Lock::Rows,
                    millis: MOMENT,
                    act: Act::Together(vec![insert_tenants(
                        self.mapping.column_type,
                        &format!("(values ({})) v (value)", literal(&name)),
                    )]),
                    done: Some(format!(
                        "exists (select from cloison.tenants t where t.{key}::text = {})",
                        literal(&name)
                    )),
                    old_key: None,
                },
            );
        }
    }

    fn add_column(&mut self, table: &'a Table, fill: &Fill) {
        let (name, column) = (&table.name, &self.catalogue.column);
        let kind = self.mapping.column_type;
        let mut sql = Vec::new();
        let mut done = vec![check::has_column(name, &self.mapping.column)];
        let why = match (&table.column, fill) {
            (None, Fill::Constant(tenant)) => {
                sql.push(format!(
                    "alter table {name} add column {column} {kind} default {}",
                    literal(tenant)
                ));
                "the default counts for the rows that are there, too: none is written"
            }
            (Some(_), Fill::Constant(tenant)) => {
                sql.push(format!(
                    "alter table {name} alter column {column} set default {}",
                    literal(tenant)
                ));
                "until tenants come in, new rows have the tenant that old ones get"
            }
            (None, _) => {
                sql.push(format!("alter table {name} add column {column} {kind}"));
                "a trigger fills in the rows that the application writes meanwhile"
            }
            (Some(_), _) => "a trigger fills in the rows that the application writes meanwhile",
        };
        if let Some(expression) = trigger_rule(table, fill, self.mapping.column_type) {
            sql.extend(self.make_trigger(table, &expression));
            // Protecting takes it away again.
            done.push(format!("({} or {})", has_trigger(name), check::is_protected(name)));
        }
        if sql.is_empty() {
            return;
        }
        let what = if table.column.is_none() {
            format!("add {column} {kind}")
        } else {
            format!("have {column} filled in")
        };
        self.up(
            Phase::Column,
            Step {
                stage: Stage::Expand,
                table: name.clone(),
                what,
                why: why.to_owned(),
                lock: Lock::Moment,
                millis: MOMENT,
                act: Act::Together(sql),
                done: Some(done.join(" and ")),
                old_key: None,
            },
        );
    }

    fn fill_rows(&mut self, target: &Target<'a>, fill: &Fill) {
        let table = target.table;
        let expression = match fill {
            Fill::Rule { sql, parent } => {
                self.match_tenants(table, sql, parent.is_some());
                sql.clone()
            }
            Fill::Constant(tenant) => format!("{}::{}", literal(tenant), self.mapping.column_type),
            Fill::Nothing => return,
        };
        if !self.updates_rows(target) {
            return;
        }
        let (name, column) = (&table.name, &self.catalogue.column);
        let done = check::is_filled(name, &self.mapping.column, column, &filled_constraint(table));
        let without_triggers = self.catalogue.is_superuser && !self.mapping.fire_triggers;
        self.up(
            Phase::Fill,
            Step {
                stage: Stage::Expand,
                table: name.clone(),
                what: format!("fill in {column}"),
                why: match (table.update_triggers.is_empty(), without_triggers) {
                    (true, _) => fill.to_string(),
                    (false, true) => {
                        format!("{fill}; without firing {}", table.update_triggers.join(", "))
                    }
                    (false, false) => format!("{fill}; fires {}", table.update_triggers.join(", ")),
                },
                lock: Lock::Rows,
                millis: Estimate(table).fill(),
                act: Act::Batches {
                    leaves: table.leaves.clone(),
                    update: format!("set {column} = {expression}"),
                    rest: format!("this.{column} is null"),
                    search_path: format!("pg_catalog, {}, pg_temp", table.schema),
                    without_triggers,
                },
                done: Some(done),
                old_key: None,
            },
        );
    }

    /// Rows that a rule finds no tenant for, and tenants that are none, before anything is written.
    fn match_tenants(&mut self, table: &'a Table, expression: &str, by_parent: bool) {
        let (name, kind) = (&table.name, self.mapping.column_type);
        let column = &self.catalogue.column;
        // Once there is a column, it has been looked at; the rows without a tenant still are.
        let (rest, done) = if table.column.is_some() || by_parent {
            let done =
                check::is_filled(name, &self.mapping.column, column, &filled_constraint(table));
            (format!(" where this.{column} is null"), done)
        } else {
            (String::new(), check::has_column(name, &self.mapping.column))
        };
        let path = format!("pg_catalog, {}, pg_temp", table.schema);
        // Grouped first, so that the rule is asked once a row.
        let values = format!(
            "select {expression} as value, pg_catalog.count(*) as n from {name} as this{rest} group by 1"
        );
        // A parent's column is there only once that is filled.
        let phase = if by_parent { Phase::Fill } else { Phase::Tenants };
        let key = kind.tenant_key();
        if self.mapping.create_tenants && !by_parent {
            self.up(
                phase,
                Step {
                    stage: Stage::Expand,
                    table: "cloison.tenants".to_owned(),
                    what: format!("add the tenants of {name}"),
                    why: "rows become theirs; give them names of their own afterwards".to_owned(),
                    lock: Lock::Rows,
                    millis: Estimate(table).scan(),
                    act: Act::Repeatable(vec![
                        format!("set local search_path = {path}"),
                        insert_tenants(kind, &format!("({values}) v")),
                    ]),
                    done: Some(done.clone()),
                    old_key: None,
                },
            );
        }
        self.up(
            phase,
            Step {
                stage: Stage::Expand,
                table: name.clone(),
                what: "match its rows with tenants".to_owned(),
                why: "a row without a tenant, or with one that is not there, stops it here"
                    .to_owned(),
                lock: Lock::Reads,
                millis: Estimate(table).scan(),
                act: Act::Check {
                    sql: format!(
                        "select pg_catalog.format('  %s rows: %s', v.n, \
                     case when v.value is null then 'the rule finds no tenant' \
                     else 'there is no tenant ' || v.value::text end) \
                     from ({values}) v \
                     where v.value is null or not exists (select from cloison.tenants t \
                     where t.{key}::pg_catalog.text = v.value::pg_catalog.text) \
                     order by v.n desc limit 10"
                    ),
                    search_path: path,
                    problem: format!("rows of {name} that are no tenant's"),
                },
                done: Some(done),
                old_key: None,
            },
        );
    }

    /// Tenants that the rule has led to since it was tried.
    pub(super) fn add_tenants_of(&mut self, table: &Table, phase: Phase, stage: Stage) {
        if !self.mapping.create_tenants {
            return;
        }
        let (name, column) = (&table.name, &self.catalogue.column);
        let values = format!("(select distinct {column} as value from {name}) v");
        let step = Step {
            stage,
            table: "cloison.tenants".to_owned(),
            what: format!("add the tenants that rows of {name} have by now"),
            why: "the application has gone on writing".to_owned(),
            lock: Lock::Rows,
            millis: Estimate(table).scan(),
            act: Act::Repeatable(vec![insert_tenants(self.mapping.column_type, &values)]),
            done: Some(check::is_protected(name)),
            old_key: None,
        };
        self.up(phase, step);
    }

    fn set_not_null(&mut self, table: &'a Table) {
        if table.column.as_ref().is_some_and(|column| column.not_null) {
            return;
        }
        let (name, column) = (&table.name, &self.catalogue.column);
        let constraint = filled_constraint(table);
        let not_null = check::is_not_null(name, &self.mapping.column);
        let step = |stage, what: &str, why: &str, lock, millis, act, done| Step {
            stage,
            table: name.clone(),
            what: what.to_owned(),
            why: why.to_owned(),
            lock,
            millis,
            act,
            done: Some(done),
            old_key: None,
        };
        let steps = [
            step(
                Stage::Expand,
                "promise NOT NULL",
                "holds for new rows; old ones are looked at without a lock, next",
                Lock::Moment,
                MOMENT,
                Act::Together(vec![format!(
                    "alter table {name} add constraint {constraint} \
                     check ({column} is not null) not valid"
                )]),
                format!("({not_null} or {})", check::has_constraint(name, &constraint)),
            ),
            step(
                Stage::Expand,
                "check the promise",
                "so that NOT NULL need not look at the rows",
                Lock::Beside,
                Estimate(table).scan(),
                Act::Alone(format!("alter table {name} validate constraint {constraint}")),
                format!("({not_null} or {})", check::has_valid_constraint(name, &constraint)),
            ),
        ];
        let last = step(
            Stage::Contract,
            &format!("set {column} NOT NULL"),
            "a row without a tenant would be nobody's",
            Lock::Moment,
            MOMENT,
            Act::Together(vec![
                format!("alter table {name} alter column {column} set not null"),
                format!("alter table {name} drop constraint {constraint}"),
            ]),
            format!("{not_null} and not {}", check::has_constraint(name, &constraint)),
        );
        for step in steps {
            self.up(Phase::Filled, step);
        }
        self.up(Phase::NotNull, last);
    }

    fn drop_column(&mut self, table: &'a Table, fill: &Fill) {
        let (name, column) = (&table.name, &self.catalogue.column);
        let bare = &self.mapping.column;
        let mut sql = drop_trigger(table);
        let (what, done) = match &table.column {
            None => {
                sql.push(format!("alter table {name} drop column if exists {column}"));
                (format!("drop {column}"), format!("not {}", check::has_column(name, bare)))
            }
            Some(_) if matches!(fill, Fill::Nothing) => return,
            Some(old) => {
                sql.extend(self.as_before(table, old));
                let mut done = vec![
                    check::has_default(name, bare, old.default.as_deref()),
                    format!("not {}", check::has_constraint(name, &filled_constraint(table))),
                ];
                if !old.not_null {
                    done.push(format!("not {}", check::is_not_null(name, bare)));
                }
                (format!("leave {column} as it was"), done.join(" and "))
            }
        };
        self.down(
            Back::Column,
            Step {
                stage: Stage::Expand,
                table: name.clone(),
                what,
                why: "as it was before".to_owned(),
                lock: Lock::Moment,
                millis: MOMENT,
                act: Act::Together(sql),
                done: Some(format!("{done} and not {}", has_function(table))),
                old_key: None,
            },
        );
    }

    fn as_before(&self, table: &Table, old: &Column) -> Vec<String> {
        let (name, column) = (&table.name, &self.catalogue.column);
        let constraint = filled_constraint(table);
        let mut sql = vec![format!("alter table {name} drop constraint if exists {constraint}")];
        sql.push(match &old.default {
            Some(default) => {
                format!("alter table {name} alter column {column} set default {default}")
            }
            None => format!("alter table {name} alter column {column} drop default"),
        });
        if !old.not_null {
            sql.push(format!("alter table {name} alter column {column} drop not null"));
        }
        sql
    }
}

fn filled_constraint(table: &Table) -> String {
    super::keys::made_name("filled", &table.schema, &table.bare)
}

/// Adds the tenants of `values`, a relation `v` with a column `value`, that are not there.
fn insert_tenants(kind: ColumnType, values: &str) -> String {
    let key = kind.tenant_key();
    let cast = if kind == ColumnType::Uuid { "::uuid" } else { "" };
    format!(
        "insert into cloison.tenants (name, slug, {key}) \
         select distinct 'Tenant ' || v.value, \
         'tenant-' || case when v.value::text ~ '^[a-z0-9]([a-z0-9-]{{0,40}}[a-z0-9])?$' \
         then v.value::text else left(md5(v.value::text), 16) end, \
         v.value::text{cast} from {values} \
         where v.value is not null and not exists \
         (select from cloison.tenants t where t.{key}::text = v.value::text)"
    )
}
