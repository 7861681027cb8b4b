//! Foreign keys: to the tenants, and between tenants' tables, which hold the tenant from now on.

use super::step::{Estimate, MOMENT, PATH};
use super::{Act, Back, Draft, Fill, Lock, Phase, Refusal, Stage, Step, check, keys};
use crate::kit::adopt::catalogue::{ForeignKey, Table};
use crate::kit::adopt::mapping::ColumnType;
use crate::kit::adopt::{identifier, literal};

impl Draft<'_> {
    /// Every foreign key.
    pub(super) fn foreign_keys(&mut self) {
        for (table, fill) in self.tenants() {
            self.refer_to_tenants(table);
            self.note_those_of_partitions(table);
            for key in self.foreign_keys_of(table) {
                let parent = self.catalogue.table(key.referenced);
                let is_older = parent.is_some_and(|p| p.class.as_deref() == Some("tenant"));
                if is_older && !key.has_tenant {
                    self.note(&table.name, format!(
                        "its foreign key {} to {}, which was protected before, stays: `cloison lint` \
                         has the SQL that widens it",
                        key.bare, key.referenced_name
                    ));
                }
                if key.has_tenant || self.tenant_table(key.referenced).is_none() {
                    continue;
                }
                if self.stays(key).is_some() {
                    self.note(&table.name, format!(
                        "its foreign key {} stays, so that it can refer to another tenant's row",
                        key.bare
                    ));
                    continue;
                }
                self.match_parents(table, &fill, key);
                if table.kind == "p" {
                    self.replace(table, key);
                } else {
                    self.widen(table, key);
                }
            }
        }
    }

    /// Rows whose parent is another tenant's: told by the plan where no rule says whose they are, and
    /// else looked for before a key has changed.
    fn match_parents(&mut self, table: &Table, fill: &Fill, key: &ForeignKey) {
        let parent = self.tenants().into_iter().find(|(other, _)| other.oid == key.referenced);
        let Some((parent, theirs)) = parent else { return };
        match (fill, &theirs) {
            (Fill::Constant(mine), Fill::Constant(theirs)) if mine == theirs => return,
            (Fill::Constant(_), _) if self.rule(table).is_none() && table.column.is_none() => {
                self.refusals.push(Refusal::new(
                    &table.name,
                    format!(
                        "nothing says whose its rows are, and its foreign key {} leads to {}, whose \
                         rows are not all one tenant's",
                        key.bare, parent.name
                    ),
                    format!("say in its rule parent = {:?}, or its own default_tenant", parent.name),
                ));
                return;
            }
            _ => {}
        }
        let (mine, theirs) = (self.column(table), self.column(parent));
        let pairs = key.columns.iter().zip(&key.referenced_columns);
        let on: Vec<_> = pairs.map(|(mine, theirs)| format!("c.{mine} = p.{theirs}")).collect();
        self.up(
            Phase::Filled,
            Step {
                stage: Stage::Expand,
                table: table.name.clone(),
                what: format!("match its rows with those that {} leads to", key.bare),
                why: "a row whose parent is another tenant's stops it here, before a key changes"
                    .to_owned(),
                lock: Lock::Reads,
                millis: Estimate(table).lookup(),
                act: Act::Check {
                    sql: format!(
                        "select format('  %s rows of the tenant %s lead to the tenant %s', \
                         count(*), c.{mine}, p.{theirs}) from {} c join {} p on {} \
                         where c.{mine} <> p.{theirs} group by c.{mine}, p.{theirs} \
                         order by count(*) desc limit 10",
                        table.name,
                        parent.name,
                        on.join(" and ")
                    ),
                    search_path: PATH.to_owned(),
                    problem: format!(
                        "rows of {} that refer by {} to a row of another tenant",
                        table.name, key.bare
                    ),
                },
                done: Some(check::holds_tenant(&table.name, &key.bare, self.bare_column(table))),
                old_key: None,
            },
        );
    }

    /// Those that a partition has by itself are not widened.
    fn note_those_of_partitions(&mut self, table: &Table) {
        let names = self.catalogue.foreign_keys.iter().filter(|key| {
            key.partition_of == Some(table.oid)
                && !key.has_tenant
                && self.tenant_table(key.referenced).is_some()
        });
        let names: Vec<&str> = names.map(|key| key.bare.as_str()).collect();
        if let Some(first) = names.first() {
            let more = match names.len() {
                1 => String::new(),
                all => format!(" and {} more", all - 1),
            };
            self.note(&table.name, format!(
                "{first}{more}, foreign keys of single partitions, stay, so that they can refer to \
                 another tenant's row; on the partitioned table itself they are widened"
            ));
        }
    }

    /// The foreign key to the tenants that the table has already.
    pub(super) fn tenants_key(&self, table: &Table) -> Option<&ForeignKey> {
        self.catalogue.foreign_keys.iter().find(|key| {
            key.table == table.oid
                && key.referenced_name == "cloison.tenants"
                && key.columns == [self.column(table)]
        })
    }

    fn refer_to_tenants(&mut self, table: &Table) {
        let more = match self.mapping.column_type {
            ColumnType::Uuid => "(id)",
            // The application may call its tenants otherwise one day.
            ColumnType::Text | ColumnType::Varchar => "(external_key) on update cascade",
            ColumnType::Bigint | ColumnType::Integer | ColumnType::Smallint => return,
        };
        if self.tenants_key(table).is_some() {
            return;
        }
        let (name, column) = (&table.name, self.column(table));
        let wanted = format!("{}_{}_fkey", table.bare, self.bare_column(table));
        let bare = self.free_name(&table.schema, &wanted);
        let constraint = identifier(&bare);
        let is_partitioned = table.kind == "p";
        let add = format!(
            "alter table {name} add constraint {constraint} foreign key ({column}) \
             references cloison.tenants {more}"
        );
        let step = |what: &str, lock, millis, act, done| Step {
            stage: Stage::Contract,
            table: name.clone(),
            what: what.to_owned(),
            why: "a tenant with rows cannot go, and rows have a tenant that is there".to_owned(),
            lock,
            millis,
            act,
            done: Some(done),
            old_key: None,
        };
        let mark =
            format!("comment on constraint {constraint} on {name} is {}", literal(check::MARK));
        let there = check::is_marked_constraint(name, &bare);
        let lookup = Estimate(table).lookup();
        if is_partitioned {
            let act = Act::Together(vec![add, mark]);
            self.up(
                Phase::TenantsKey,
                step("refer to cloison.tenants", Lock::Blocking, lookup, act, there.clone()),
            );
        } else {
            let act = Act::Together(vec![format!("{add} not valid"), mark]);
            self.up(
                Phase::TenantsKey,
                step("refer to cloison.tenants", Lock::Moment, MOMENT, act, there.clone()),
            );
            let act = Act::Alone(format!("alter table {name} validate constraint {constraint}"));
            self.up(
                Phase::TenantsKey,
                step(
                    "check that",
                    Lock::Beside,
                    lookup,
                    act,
                    check::is_valid_marked_constraint(name, &bare),
                ),
            );
        }
        let drop = format!("alter table {name} drop constraint if exists {constraint}");
        let mut down = step(
            "no longer refer to cloison.tenants",
            Lock::Moment,
            MOMENT,
            Act::Together(vec![drop]),
            format!("not {there}"),
        );
        down.why = "as it was before".to_owned();
        self.down(Back::SwapKey, down);
    }

    /// The foreign key with the tenant in front on either side.
    fn wider(&self, table: &Table, key: &ForeignKey) -> String {
        let parent = self.tenant_table(key.referenced);
        let theirs = parent.map_or(self.catalogue.column.as_str(), |parent| self.column(parent));
        wider(key, self.column(table), theirs)
    }

    /// Beside the old one, checked, and then in its place.
    fn widen(&mut self, table: &Table, key: &ForeignKey) {
        let (name, column) = (&table.name, self.column(table));
        let both = format!("{}.{}", table.bare, key.bare);
        let new = keys::made_name("newref", &table.schema, &both);
        let old = keys::made_name("oldref", &table.schema, &both);
        let up = Change {
            added: &new,
            definition: self.wider(table, key),
            how: format!("with {column}"),
            why: "no row refers to another tenant's",
            done: check::holds_tenant(name, &key.bare, self.bare_column(table)),
        };
        let down = Change {
            added: &old,
            definition: key.definition.trim_end_matches(" NOT VALID").to_owned(),
            how: "as it was".to_owned(),
            why: "as it was before",
            done: check::is_constraint(name, &key.bare, &key.definition),
        };
        let (mut steps, mut back) = (up.steps(table, key), down.steps(table, key));
        if let (Some(swap), Some(swap_back)) = (steps.pop(), back.pop()) {
            self.up(Phase::SwapForeign, swap);
            self.down(Back::SwapForeign, swap_back);
        }
        steps.into_iter().for_each(|step| self.up(Phase::AddForeign, step));
        back.into_iter().for_each(|step| self.down(Back::AddForeign, step));
        // One that was made and never took its place.
        let drop = format!("alter table {name} drop constraint if exists {new}");
        self.down(
            Back::SwapForeign,
            Step {
                stage: Stage::Contract,
                table: name.clone(),
                what: format!("drop what was to become {}", key.bare),
                why: "as it was before".to_owned(),
                lock: Lock::Moment,
                millis: MOMENT,
                act: Act::Together(vec![drop]),
                done: Some(format!("not {}", check::has_constraint(name, &new))),
                old_key: None,
            },
        );
    }

    /// Of a partitioned table: in one go, because Postgres adds none to it that is NOT VALID.
    fn replace(&mut self, table: &Table, key: &ForeignKey) {
        let (name, bare) = (&table.name, identifier(&key.bare));
        let step = |what: String, definition: &str, done| Step {
            stage: Stage::Contract,
            table: name.clone(),
            what,
            why: "Postgres cannot add it unchecked to a partitioned table".to_owned(),
            lock: Lock::Blocking,
            millis: Estimate(table).lookup(),
            act: Act::Together(
                [
                    vec![
                        format!("alter table {name} drop constraint {bare}"),
                        format!("alter table {name} add constraint {bare} {definition}"),
                    ],
                    comment(name, key).into_iter().collect(),
                ]
                .concat(),
            ),
            done: Some(done),
            old_key: None,
        };
        let up = step(
            format!("{} with {}", key.bare, self.column(table)),
            &self.wider(table, key),
            check::holds_tenant(name, &key.bare, self.bare_column(table)),
        );
        let down = step(
            format!("{} as it was", key.bare),
            &key.definition,
            check::is_constraint(name, &key.bare, &key.definition),
        );
        self.up(Phase::SwapForeign, up);
        self.down(Back::SwapForeign, down);
    }
}

/// A foreign key that takes another's place.
struct Change<'a> {
    /// Its name until then.
    added: &'a str,
    definition: String,
    how: String,
    why: &'a str,
    /// Whether it has.
    done: String,
}

impl Change<'_> {
    /// Add, check, swap.
    fn steps(&self, table: &Table, key: &ForeignKey) -> Vec<Step> {
        let (name, Self { added, definition, how, done, .. }) = (&table.name, self);
        let step = |what: String, lock, millis, act, done: String| Step {
            stage: Stage::Contract,
            table: name.clone(),
            what,
            why: self.why.to_owned(),
            lock,
            millis,
            act,
            done: Some(done),
            old_key: None,
        };
        let add = format!("alter table {name} add constraint {added} {definition} not valid");
        let is_added = format!("({done} or {})", check::has_constraint(name, added));
        let what = format!("add {} {how}", key.bare);
        let mut steps = vec![step(what, Lock::Moment, MOMENT, Act::Together(vec![add]), is_added)];
        if key.is_validated {
            let validate = format!("alter table {name} validate constraint {added}");
            steps.push(step(
                format!("check {} {how}", key.bare),
                Lock::Beside,
                Estimate(table).lookup(),
                Act::Alone(validate),
                format!("({done} or {})", check::has_valid_constraint(name, added)),
            ));
        }
        let bare = identifier(&key.bare);
        let mut swap = vec![
            format!("alter table {name} drop constraint {bare}"),
            format!("alter table {name} rename constraint {added} to {bare}"),
        ];
        swap.extend(comment(name, key));
        let what = format!("{} is the one {how}", key.bare);
        steps.push(step(what, Lock::Moment, MOMENT, Act::Together(swap), done.clone()));
        steps
    }
}

fn comment(table: &str, key: &ForeignKey) -> Option<String> {
    let comment = key.comment.as_ref()?;
    let bare = identifier(&key.bare);
    Some(format!("comment on constraint {bare} on {table} is {}", literal(comment)))
}

fn wider(key: &ForeignKey, mine: &str, theirs: &str) -> String {
    let mut text = format!(
        "foreign key ({mine}, {}) references {} ({theirs}, {})",
        key.columns.join(", "),
        key.referenced_name,
        key.referenced_columns.join(", ")
    );
    if let Some(action) = &key.on_update {
        text.push_str(&format!(" on update {action}"));
    }
    if let Some(action) = &key.on_delete {
        text.push_str(&format!(" on delete {action}"));
        if action.starts_with("SET") {
            // The tenant stays, whatever becomes of the row that is referred to.
            let set = if key.set_columns.is_empty() { &key.columns } else { &key.set_columns };
            text.push_str(&format!(" ({})", set.join(", ")));
        }
    }
    if key.is_deferrable {
        text.push_str(" deferrable");
    }
    if key.is_deferred {
        text.push_str(" initially deferred");
    }
    text
}
