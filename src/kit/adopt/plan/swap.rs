//! How a key becomes wider, and narrow again.
//!
//! It is built under another name beside the one that is there, which only then goes: both take a
//! lock for a moment. Postgres cannot do that with keys of partitioned tables and with exclusion
//! constraints: these are built under the lock.

use super::keys::made_name;
use super::step::{Estimate, MOMENT, PATH};
use super::{Act, Back, Draft, Lock, Phase, Stage, Step, check};
use crate::kit::adopt::catalogue::{Key, KeyKind, Table};
use crate::kit::adopt::{identifier, literal};

impl Draft<'_> {
    /// The wider key, and on the way back the narrow one.
    pub(super) fn build_beside(&mut self, table: &Table, key: &Key) {
        let (new, old) = (made_name("new", &table.schema, &key.bare), old_name(table, key));
        let (new_index, old_index) = (in_schema(table, &new), in_schema(table, &old));
        let (column, index) = (&self.catalogue.column, qualified(table, key));
        let build = |name: &str, body: String| {
            let tablespace = key.tablespace.as_ref().map(|space| format!(" tablespace {space}"));
            format!(
                "create unique index concurrently {name} on {} using {body}{}",
                table.name,
                tablespace.unwrap_or_default()
            )
        };
        let is_old = check::is_index(&index, &key.definition);
        let step = |what: String, why: &str, act, done| Step {
            stage: Stage::Expand,
            table: table.name.clone(),
            what,
            why: why.to_owned(),
            lock: Lock::Beside,
            millis: Estimate(table).index(),
            act,
            done: Some(done),
            old_key: None,
        };
        let up = step(
            format!("build {} with {column} in front", key.bare),
            "unique within a tenant; beside the old one, which goes later",
            Act::Index {
                name: new_index.clone(),
                sql: build(&new, wider(key, column)),
                mark: None,
            },
            format!(
                "({} or {})",
                check::leads_with(&new_index, column),
                check::leads_with(&index, column)
            ),
        );
        let mut down = step(
            format!("build {} as it was", key.bare),
            "beside the wider one, which goes next",
            Act::Index { name: old_index.clone(), sql: build(&old, key.body.clone()), mark: None },
            format!("({is_old} or {})", check::is_valid_index(&old_index)),
        );
        down.stage = Stage::Contract;
        down.old_key = Some(key.index.clone());
        self.up(Phase::Index, up);
        self.down(Back::Index, down);
        self.drop_index(table, &new_index, &new, false, check::is_gone(&new_index));
        self.check_fits(table, key, &is_old);
    }

    /// Whether what is there now fits the key of before.
    fn check_fits(&mut self, table: &Table, key: &Key, is_old: &str) {
        let columns = key.columns.join(", ");
        let mut conditions: Vec<_> = if key.body.contains("NULLS NOT DISTINCT") {
            Vec::new()
        } else {
            key.columns.iter().map(|column| format!("({column}) is not null")).collect()
        };
        conditions.extend(key.predicate.clone());
        if conditions.is_empty() {
            conditions.push("true".to_owned());
        }
        let values: Vec<_> = key.columns.iter().map(|column| format!("({column})::text")).collect();
        self.down(
            Back::Fits,
            Step {
                old_key: Some(key.index.clone()),
                stage: Stage::Protect,
                table: table.name.clone(),
                what: format!("see whether its rows fit {} as it was", key.bare),
                why: "tenants may have the same values by now, which the old key does not allow"
                    .to_owned(),
                lock: Lock::Reads,
                millis: Estimate(table).index(),
                act: Act::Check {
                    sql: format!(
                        "select format('  %s rows have %s = %s', count(*), {}, \
                     concat_ws(', ', {})) from {} where {} group by {columns} \
                     having count(*) > 1 order by count(*) desc limit 10",
                        literal(&format!("({columns})")),
                        values.join(", "),
                        table.name,
                        conditions.join(" and "),
                    ),
                    search_path: PATH.to_owned(),
                    problem: format!(
                        "rows of {} that the old key {} forbids",
                        table.name, key.bare
                    ),
                },
                done: Some(is_old.to_owned()),
            },
        );
    }

    /// Old keys go, new ones take their names.
    pub(super) fn swap_keys(&mut self) {
        for (table, _) in self.tenants() {
            for key in self.widened(table) {
                if is_rebuilt(table, key) {
                    self.rebuild(table, key);
                } else {
                    self.swap(table, key);
                }
            }
        }
    }

    fn swap(&mut self, table: &Table, key: &Key) {
        let (column, index) = (&self.catalogue.column, qualified(table, key));
        let step = |what: String, why: String, from: &str, done| Step {
            stage: Stage::Contract,
            table: table.name.clone(),
            what,
            why,
            lock: Lock::Moment,
            millis: MOMENT,
            act: Act::Together(take_name(table, key, from)),
            done: Some(done),
            old_key: None,
        };
        let columns = key.columns.join(", ");
        let up = step(
            format!("{} is ({column}, {columns})", key.bare),
            format!("two tenants may have the same; ON CONFLICT ({columns}) no longer finds it"),
            &made_name("new", &table.schema, &key.bare),
            check::leads_with(&index, column),
        );
        let mut down = step(
            format!("{} is ({columns}) again", key.bare),
            "as it was before".to_owned(),
            &old_name(table, key),
            check::is_index(&index, &key.definition),
        );
        down.old_key = Some(key.index.clone());
        self.up(Phase::SwapKey, up);
        self.down(Back::SwapKey, down);
    }

    /// Where it cannot be built beside: under the lock.
    fn rebuild(&mut self, table: &Table, key: &Key) {
        let (column, index) = (&self.catalogue.column, qualified(table, key));
        let (name, bare) = (&table.name, identifier(&key.bare));
        let (drop, old, new) = match &key.constraint_definition {
            Some(definition) => {
                let equal = if key.kind == KeyKind::Exclusion { " WITH =" } else { "" };
                let wide = definition.replacen('(', &format!("({column}{equal}, "), 1);
                let add = |text: &str| format!("alter table {name} add constraint {bare} {text}");
                (format!("alter table {name} drop constraint {bare}"), add(definition), add(&wide))
            }
            None => {
                let add = |body: &str| format!("create unique index {bare} on {name} using {body}");
                (format!("drop index {index}"), add(&key.body), add(&wider(key, column)))
            }
        };
        let is_old = check::is_index(&index, &key.definition);
        let step = |what: String, add: String, done| Step {
            stage: Stage::Contract,
            table: name.clone(),
            what,
            why: "Postgres has no way to build it beside the old one".to_owned(),
            lock: Lock::Blocking,
            millis: Estimate(table).index(),
            act: Act::Together([vec![drop.clone(), add], remember(table, key)].concat()),
            done: Some(done),
            old_key: None,
        };
        let columns = key.columns.join(", ");
        let up = step(
            format!("{} is ({column}, {columns})", key.bare),
            new,
            check::leads_with(&index, column),
        );
        let mut down = step(format!("{} is ({columns}) again", key.bare), old, is_old.clone());
        down.old_key = Some(key.index.clone());
        self.up(Phase::SwapKey, up);
        self.down(Back::SwapKey, down);
        if key.kind != KeyKind::Exclusion {
            self.check_fits(table, key, &is_old);
        }
    }
}

/// Whether Postgres builds it under a lock.
pub(super) fn is_rebuilt(table: &Table, key: &Key) -> bool {
    table.kind == "p" || key.kind == KeyKind::Exclusion
}

/// The index's columns with the tenant in front, and all that stands behind them.
fn wider(key: &Key, column: &str) -> String {
    key.body.replacen('(', &format!("({column}, "), 1)
}

/// SQL by which an index that was built beside takes the place of a key.
fn take_name(table: &Table, key: &Key, from: &str) -> Vec<String> {
    let (name, bare) = (&table.name, identifier(&key.bare));
    let mut sql = if key.is_constraint {
        let kind = if key.kind == KeyKind::Primary { "primary key" } else { "unique" };
        let deferred = match (key.is_deferrable, key.is_deferred) {
            (true, true) => " deferrable initially deferred",
            (true, false) => " deferrable",
            (false, _) => "",
        };
        vec![
            format!("alter table {name} drop constraint {bare}"),
            format!("alter table {name} add constraint {bare} {kind} using index {from}{deferred}"),
        ]
    } else {
        vec![
            format!("drop index {}", qualified(table, key)),
            format!("alter index {} rename to {bare}", in_schema(table, from)),
        ]
    };
    sql.extend(remember(table, key));
    sql
}

/// What an index loses with the one before: comments, and what it is used for.
fn remember(table: &Table, key: &Key) -> Vec<String> {
    let (name, bare) = (&table.name, identifier(&key.bare));
    let mut sql = Vec::new();
    if let Some(comment) = &key.constraint_comment {
        sql.push(format!("comment on constraint {bare} on {name} is {}", literal(comment)));
    }
    if let Some(comment) = &key.index_comment {
        sql.push(format!("comment on index {} is {}", qualified(table, key), literal(comment)));
    }
    if key.is_clustered {
        sql.push(format!("alter table {name} cluster on {bare}"));
    }
    if key.is_replica_identity {
        sql.push(format!("alter table {name} replica identity using index {bare}"));
    }
    sql
}

fn qualified(table: &Table, key: &Key) -> String {
    in_schema(table, &identifier(&key.bare))
}

fn in_schema(table: &Table, name: &str) -> String {
    format!("{}.{name}", table.schema)
}

fn old_name(table: &Table, key: &Key) -> String {
    made_name("old", &table.schema, &key.bare)
}
