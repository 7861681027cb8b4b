//! The column: made, filled, NOT NULL.

use super::step::{Estimate, MOMENT};
use super::trigger::{drop_trigger, has_function, has_trigger, trigger_rule};
use super::{Act, Back, Draft, Fill, Kind, Lock, Phase, Stage, Step, Target, check};
use crate::kit::adopt::catalogue::{Column, Table, Trigger};
use crate::kit::adopt::literal;

impl<'a> Draft<'a> {
    /// Everything about the column, of every table.
    pub(super) fn columns(&mut self) {
        self.make_default_tenants();
        for target in self.targets.clone() {
            if let Kind::Tenant(fill) = &target.kind {
                if target.table.column.is_some() {
                    self.match_column(target.table, fill);
                }
                if !matches!(fill, Fill::Itself { .. }) {
                    self.add_column(target.table, fill);
                    self.fill_rows(&target, fill);
                    self.set_not_null(target.table);
                    self.drop_column(target.table, fill);
                }
                if !matches!(fill, Fill::Constant(_)) {
                    self.add_tenants_of(target.table, Phase::NotNull, Stage::Contract);
                }
            }
        }
    }

    fn add_column(&mut self, table: &'a Table, fill: &Fill) {
        let (name, column) = (&table.name, self.column(table));
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
            Fill::Nothing | Fill::Itself { .. } => return,
        };
        if !self.updates_rows(target) {
            return;
        }
        let (name, column) = (&table.name, self.column(table));
        let done = check::is_filled(name, &self.mapping.column, column, &filled_constraint(table));
        let leaves_out = !table.update_triggers.is_empty() && !self.mapping.fire_triggers;
        let without_triggers = self.catalogue.is_superuser && !self.mapping.fire_triggers;
        let off = if leaves_out && !without_triggers { states(table) } else { Vec::new() };
        let names: Vec<_> = table.update_triggers.iter().map(|t| t.name.as_str()).collect();
        let names = names.join(", ");
        self.up(
            Phase::Fill,
            Step {
                stage: Stage::Expand,
                table: name.clone(),
                what: format!("fill in {column}"),
                why: match (names.is_empty(), leaves_out) {
                    (true, _) => fill.to_string(),
                    (false, true) => format!("{fill}; without firing {names}"),
                    (false, false) => format!("{fill}; fires {names}"),
                },
                lock: if off.is_empty() { Lock::Rows } else { Lock::Writers },
                millis: Estimate(table).fill(),
                act: Act::Batches {
                    leaves: table.leaves.clone(),
                    update: format!("set {column} = {expression}"),
                    rest: format!("this.{column} is null"),
                    search_path: format!("pg_catalog, {}, pg_temp", table.schema),
                    without_triggers,
                    off,
                },
                done: Some(done),
                old_key: None,
            },
        );
    }

    fn set_not_null(&mut self, table: &'a Table) {
        if table.column.as_ref().is_some_and(|column| column.not_null) {
            return;
        }
        let (name, column) = (&table.name, self.column(table));
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
        let (name, column) = (&table.name, self.column(table));
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
        let (name, column) = (&table.name, self.column(table));
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

/// The triggers that filling in would fire, and how each is put on again as it was.
fn states(table: &Table) -> Vec<(String, String)> {
    let state = |trigger: &Trigger| {
        let how = if trigger.fires_always { "enable always" } else { "enable" };
        (trigger.name.clone(), how.to_owned())
    };
    table.update_triggers.iter().map(state).collect()
}

pub(super) fn filled_constraint(table: &Table) -> String {
    super::keys::made_name("filled", &table.schema, &table.bare)
}
