//! Keys: which become wider by the tenant, which stay, and the indexes for both.

use super::step::{Estimate, MOMENT};
use super::swap::is_rebuilt;
use super::{Act, Back, Draft, Lock, Phase, Refusal, Stage, Step, check};
use crate::kit::adopt::catalogue::{ForeignKey, Key, KeyKind, Table};
use crate::kit::adopt::{identifier, literal};

/// What becomes of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It holds the tenant.
    Already,
    /// It stays, for this reason.
    Keep(String),
    /// The tenant leads it from now on.
    Widen,
}

impl<'a> Draft<'a> {
    /// Decides about every key.
    pub(super) fn decide_keys(&mut self) {
        self.refuse_unknown_keys();
        for (table, _) in self.tenants() {
            for key in self.keys_of(table) {
                match self.fate(table, key) {
                    Ok(Some(fate)) => {
                        if let Fate::Keep(why) = &fate {
                            self.note(&key.index, format!("stays as it is: {why}"));
                        }
                        self.fates.insert(key.oid, fate);
                    }
                    Ok(None) => {}
                    Err(refusal) => self.refusals.push(refusal),
                }
            }
        }
    }

    /// A key that was asked to stay and is not there would be widened after all, by another name.
    fn refuse_unknown_keys(&mut self) {
        for kept in &self.mapping.keep_keys {
            let is_known = |key: &Key| *kept == key.bare || *kept == key.index;
            if kept != "primary" && !self.catalogue.keys.iter().any(is_known) {
                self.refusals.push(Refusal::new(
                    "the mapping",
                    format!("keep_keys names {kept}, and no key of these tables is called that"),
                    "the plan names them all",
                ));
            }
        }
    }

    fn fate(&self, table: &Table, key: &Key) -> Result<Option<Fate>, Refusal> {
        let keep = |why: &str| Ok(Some(Fate::Keep(why.to_owned())));
        let refuse = |why: &str, help: &str| Err(Refusal::new(&key.index, why, help));
        if key.kind == KeyKind::Plain {
            return Ok(None);
        }
        if key.attributes.iter().any(|attribute| attribute == self.bare_column(table)) {
            return Ok(Some(Fate::Already));
        }
        if self.is_root(table) {
            return keep("its table's rows are the tenants, one each");
        }
        if self.mapping.keeps(&key.bare, &key.index, key.kind == KeyKind::Primary) {
            return keep("it was asked to");
        }
        if key.is_random {
            return keep("a uuid made at random does not meet another tenant's");
        }
        if !key.is_valid {
            return refuse("this index is invalid", "drop it, or build it again");
        }
        if let Some(pin) = self.pin(key) {
            return keep(&pin);
        }
        if !key.grouped_by.is_empty() {
            return keep(&format!("{} groups by it", key.grouped_by.join(", ")));
        }
        if key.is_temporal {
            return refuse("keys WITHOUT OVERLAPS are not widened yet", "say --keep-keys");
        }
        if key.has_statistics || (key.tablespace.is_some() && key.predicate.is_some()) {
            return refuse("statistics targets, or a tablespace with WHERE", "say --keep-keys");
        }
        if key.is_replica_identity && table.kind == "p" {
            return refuse("it is the replica identity of a partitioned table", "say --keep-keys");
        }
        if key.kind == KeyKind::Exclusion && !key.tenant_fits {
            let why =
                format!("{} has no operators there for {}", key.method, self.mapping.column_type);
            return refuse(&why, "create extension btree_gist, or say --keep-keys");
        }
        Ok(Some(Fate::Widen))
    }

    /// Why a key has to stay, if a foreign key stands on it that stays.
    fn pin(&self, key: &Key) -> Option<String> {
        let on_it = self.catalogue.foreign_keys.iter().filter(|foreign| foreign.index == key.oid);
        on_it.filter_map(|foreign| self.stays(foreign)).next()
    }

    /// Why a foreign key to a tenants' table cannot be widened; none if it can, or need not.
    pub(super) fn stays(&self, foreign: &ForeignKey) -> Option<String> {
        let ForeignKey { bare, table_name, .. } = foreign;
        let say = |why: &str| Some(format!("the foreign key {bare} of {table_name} {why}"));
        let parent = self.tenant_table(foreign.referenced)?;
        if foreign.partition_of.is_some_and(|root| self.tenant_table(root).is_some()) {
            return say("refers to it from a partition alone, and not from the partitioned table");
        }
        if self.tenant_table(foreign.table).is_none() {
            return say("refers to it, and that table is not adopted with it");
        }
        if parent.kind == "p" {
            return say("refers to a partitioned table, whose keys cannot be replaced beside it");
        }
        let is_by_tenant = |(mine, theirs): (&String, &String)| {
            *mine == self.catalogue.column && theirs != self.column(parent)
        };
        if foreign.columns.iter().zip(&foreign.referenced_columns).any(is_by_tenant) {
            return say("refers to it by the tenant column");
        }
        if foreign.has_tenant {
            return None;
        }
        if self.is_root(parent) {
            return say("refers to the tenants themselves");
        }
        if foreign.is_match_full || foreign.is_unusual {
            return say("is MATCH FULL, NOT ENFORCED or PERIOD");
        }
        let sets = |action: &Option<String>| {
            action.as_ref().is_some_and(|action| action.starts_with("SET"))
        };
        if sets(&foreign.on_update) {
            return say("is ON UPDATE SET, which would take the tenant away");
        }
        if sets(&foreign.on_delete) && self.catalogue.version < 150_000 {
            return say("is ON DELETE SET, and which columns can be said from Postgres 15 on");
        }
        None
    }

    /// Indexes for wider keys, for foreign keys on keys that stay, and for the tenant.
    pub(super) fn indexes(&mut self) {
        for (table, _) in self.tenants() {
            let widened: Vec<_> = self.widened(table).collect();
            for key in &widened {
                if !is_rebuilt(table, key) {
                    self.build_beside(table, key);
                    if table.rows >= MANY && key.method == "btree" {
                        self.look_up(table, key);
                    }
                }
            }
            let stays: Vec<_> = self.keys_of(table).filter(|key| self.needs_second(key)).collect();
            for key in &stays {
                let wanted = format!("{}_{}", self.bare_column(table), key.bare);
                let name = self.free_name(&table.schema, &wanted);
                let columns = key.columns.join(", ");
                self.own_index(
                    table,
                    &name,
                    "unique ",
                    &format!("({}, {columns})", self.column(table)),
                    "what foreign keys of the same tenant stand on",
                );
            }
            let leads = |key: &Key| {
                key.predicate.is_none()
                    && key.is_valid
                    && key.attributes.first().is_some_and(|first| first == self.bare_column(table))
            };
            let is_led = self.keys_of(table).any(leads)
                || widened.iter().any(|key| key.predicate.is_none())
                || !stays.is_empty();
            if !is_led {
                let wanted = format!("{}_{}_idx", table.bare, self.bare_column(table));
                let name = self.free_name(&table.schema, &wanted);
                self.own_index(
                    table,
                    &name,
                    "",
                    &format!("({})", self.column(table)),
                    "every statement of a tenant looks for its rows",
                );
            }
        }
    }

    /// Until tenants come in, whose policies name the tenant in every statement, the application
    /// looks rows up by the old key alone, which the wider one does not serve.
    fn look_up(&mut self, table: &Table, key: &Key) {
        let name = made_name("look", &table.schema, &key.bare);
        let index = format!("{}.{name}", table.schema);
        let body = key.body.replacen(" NULLS NOT DISTINCT", "", 1);
        let step = |stage, what: String, why: &str, act, done| Step {
            stage,
            table: table.name.clone(),
            what,
            why: why.to_owned(),
            lock: Lock::Beside,
            millis: Estimate(table).index(),
            act,
            done: Some(done),
            old_key: None,
        };
        let sql = format!("create index concurrently {name} on {} using {body}", table.name);
        let is_there = check::is_valid_index(&index);
        let up = step(
            Stage::Expand,
            format!("index for who looks by {} without the tenant", key.bare),
            "the application does, until it comes in as tenants",
            Act::Index { name: index.clone(), sql, mark: None },
            format!("({is_there} or {})", check::is_protected(&table.name)),
        );
        let mut last = step(
            Stage::Protect,
            format!("drop the index for who looked by {}", key.bare),
            "tenants' statements are served by the wider key",
            Act::Alone(format!("drop index concurrently if exists {index}")),
            check::is_gone(&index),
        );
        last.millis = MOMENT;
        self.up(Phase::Index, up);
        self.up(Phase::Last, last);
        self.drop_index(table, &index, &name, false, check::is_gone(&index));
    }

    pub(super) fn widened(&self, table: &Table) -> impl Iterator<Item = &'a Key> + use<'a> {
        let fates = self.fates.clone();
        self.keys_of(table).filter(move |key| fates.get(&key.oid) == Some(&Fate::Widen))
    }

    /// Whether the key stays, and foreign keys that are widened stand on it.
    fn needs_second(&self, key: &Key) -> bool {
        matches!(self.fates.get(&key.oid), Some(Fate::Keep(_)))
            && self.catalogue.foreign_keys.iter().any(|foreign| {
                foreign.index == key.oid && !foreign.has_tenant && self.stays(foreign).is_none()
            })
    }

    /// An index of ours, which goes on the way back. Its comment is the mark that it is; one that
    /// was left without it, because the run was killed, is known by its name and definition.
    fn own_index(&mut self, table: &Table, name: &str, kind: &str, columns: &str, why: &str) {
        let quoted = identifier(name);
        let index = format!("{}.{quoted}", table.schema);
        let is_partitioned = table.kind == "p";
        let mark = format!("comment on index {index} is {}", literal(check::MARK));
        let act = if is_partitioned {
            let create = format!("create {kind}index {quoted} on {} {columns}", table.name);
            Act::Together(vec![create, mark])
        } else {
            let create =
                format!("create {kind}index concurrently {quoted} on {} {columns}", table.name);
            Act::Index { name: index.clone(), sql: create, mark: Some(mark) }
        };
        let only = if is_partitioned { "ONLY " } else { "" };
        let definition = format!(
            "CREATE {}INDEX {quoted} ON {only}{} USING btree {columns}",
            kind.to_uppercase(),
            table.name
        );
        let is_ours = check::is_our_index(&index, &definition);
        self.up(
            Phase::Index,
            Step {
                stage: Stage::Expand,
                table: table.name.clone(),
                what: format!("index {name} {columns}"),
                why: why.to_owned(),
                lock: if is_partitioned { Lock::Blocking } else { Lock::Beside },
                millis: Estimate(table).index(),
                act,
                done: Some(format!(
                    "({} and {})",
                    check::leads_with(&index, self.column(table)),
                    check::is_marked_index(&index)
                )),
                old_key: None,
            },
        );
        self.drop_index(table, &index, name, is_partitioned, format!("not {is_ours}"));
    }

    pub(super) fn drop_index(
        &mut self,
        table: &Table,
        index: &str,
        name: &str,
        is_partitioned: bool,
        done: String,
    ) {
        let how = if is_partitioned { "" } else { " concurrently" };
        let sql = format!("drop index{how} if exists {index}");
        self.down(
            Back::DropIndex,
            Step {
                stage: Stage::Expand,
                table: table.name.clone(),
                what: format!("drop the index {name}"),
                why: "as it was before".to_owned(),
                lock: if is_partitioned { Lock::Moment } else { Lock::Beside },
                millis: MOMENT,
                act: if is_partitioned { Act::Together(vec![sql]) } else { Act::Alone(sql) },
                done: Some(done),
                old_key: None,
            },
        );
    }
}

/// From how many rows on it matters whether there is an index.
const MANY: i64 = 10_000;

/// A name that nobody else gives, that needs no quotes, and that is the same each time.
pub(super) fn made_name(kind: &str, schema: &str, bare: &str) -> String {
    // FNV-1a.
    let hash = format!("{schema}.{bare}")
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let plain: String = bare
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .take(36)
        .collect();
    format!("cloison_{kind}_{hash:08x}_{plain}")
}

/// As much of a name as Postgres takes, with `behind` at its end.
pub(super) fn fitting(name: &str, behind: &str) -> String {
    let mut end = name.len().min(63 - behind.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{behind}", &name[..end])
}
