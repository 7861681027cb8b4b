//! PLAN: from a mapping and a catalogue to steps, with the way back. No IO, no clock.
//!
//! Each step says whether it is done by a question to the catalogue. The way back has steps of its
//! own, not the others in reverse: an old key is built beside the new one, too.

mod accept;
mod action;
mod check;
mod column;
mod conflict;
mod faults;
mod fill;
mod foreign;
mod keys;
mod protect;
mod refuse;
mod step;
mod swap;
mod tenants;
#[cfg(test)]
mod tests;
mod trigger;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use refuse::Refusal;
pub use step::{Act, Lock, Stage, Step};

use super::catalogue::{Catalogue, ForeignKey, Key, Table};
use super::mapping::Mapping;
use fill::Fill;
use keys::Fate;

/// What will be done, in order, and how to take it back.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// The database that it was made for.
    pub database: String,
    /// The tenant column, quoted.
    pub column: String,
    /// Its type.
    pub column_type: String,
    /// The tables.
    pub tables: Vec<Adopted>,
    /// The way there.
    pub up: Vec<Step>,
    /// The way back.
    pub down: Vec<Step>,
    /// What a person should know besides.
    pub notes: Vec<Note>,
}

/// A table of a plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Adopted {
    /// Its name, quoted.
    pub name: String,
    /// tenant, shared or global.
    pub class: String,
    /// How many rows, as Postgres estimates.
    pub rows: i64,
    /// How large it is with its indexes.
    pub bytes: i64,
    /// Whose its rows become.
    pub rule: String,
    /// Its tenant column, quoted, where that is not the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

/// Something that a person should know.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Note {
    /// A table, a view, a key.
    pub about: String,
    /// What of it.
    pub text: String,
    /// Whether the application has to change because of it.
    #[serde(default)]
    pub is_for_application: bool,
}

/// Whether nothing is left to do: every table is protected, or one that is left out.
pub fn is_done(mapping: &Mapping, catalogue: &Catalogue) -> bool {
    let is_out =
        |table: &Table| mapping.skips_unsupported() && !faults::unsupported(table, true).is_empty();
    let (done, rest): (Vec<_>, Vec<_>) =
        catalogue.tables.iter().partition(|table| table.class.is_some());
    !done.is_empty() && rest.into_iter().all(is_out)
}

/// Makes a plan, or says why there can be none.
///
/// # Errors
///
/// Everything that stands in the way, at once.
pub fn make(mapping: &Mapping, catalogue: &Catalogue) -> Result<Plan, Vec<Refusal>> {
    let mut draft = Draft::new(mapping, catalogue);
    draft.choose();
    draft.refuse();
    if !draft.refusals.is_empty() {
        return Err(draft.refusals);
    }
    draft.decide_keys();
    draft.columns();
    draft.indexes();
    draft.foreign_keys();
    draft.actions();
    draft.swap_keys();
    draft.protect();
    draft.accept();
    draft.conflicts();
    if !draft.refusals.is_empty() {
        return Err(draft.refusals);
    }
    Ok(draft.finish())
}

/// Where a step has its place.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Match,
    Tenants,
    Column,
    Fill,
    Filled,
    Index,
    NotNull,
    TenantsKey,
    AddForeign,
    SwapForeign,
    SwapKey,
    Known,
    View,
    Protect,
    Last,
}

/// Where a step of the way back has its place.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Back {
    Fits,
    Unprotect,
    View,
    Index,
    AddForeign,
    SwapForeign,
    SwapKey,
    DropIndex,
    Column,
}

/// What becomes of a table.
#[derive(Clone, Debug)]
struct Target<'a> {
    table: &'a Table,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Tenant(Fill),
    Shared,
    Global,
}

/// A plan in the making.
struct Draft<'a> {
    mapping: &'a Mapping,
    catalogue: &'a Catalogue,
    targets: Vec<Target<'a>>,
    /// What becomes of each index, by its oid.
    fates: BTreeMap<i64, Fate>,
    up: BTreeMap<Phase, Vec<Step>>,
    down: BTreeMap<Back, Vec<Step>>,
    notes: Vec<Note>,
    refusals: Vec<Refusal>,
    /// Names that this plan gives, by schema.
    given: BTreeSet<(String, String)>,
}

impl<'a> Draft<'a> {
    fn new(mapping: &'a Mapping, catalogue: &'a Catalogue) -> Self {
        Self {
            mapping,
            catalogue,
            targets: Vec::new(),
            fates: BTreeMap::new(),
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            notes: Vec::new(),
            refusals: Vec::new(),
            given: BTreeSet::new(),
        }
    }

    /// A name that no relation and no constraint of the schema has: the wanted one, or with a number
    /// behind it, as Postgres does.
    fn free_name(&mut self, schema: &str, wanted: &str) -> String {
        let taken = self.catalogue.taken.iter().find(|taken| taken.schema == schema);
        let is_free = |name: &str| {
            !taken.is_some_and(|taken| taken.names.contains(name))
                && !self.given.contains(&(schema.to_owned(), name.to_owned()))
        };
        let mut name = keys::fitting(wanted, "");
        let mut number = 0_u32;
        while !is_free(&name) {
            number += 1;
            name = keys::fitting(wanted, &number.to_string());
        }
        self.given.insert((schema.to_owned(), name.clone()));
        name
    }

    fn up(&mut self, phase: Phase, step: Step) {
        self.up.entry(phase).or_default().push(step);
    }

    fn down(&mut self, phase: Back, step: Step) {
        self.down.entry(phase).or_default().push(step);
    }

    fn note(&mut self, about: &str, text: impl Into<String>) {
        let (about, text) = (about.to_owned(), text.into());
        self.notes.push(Note { about, text, is_for_application: false });
    }

    /// What the application has to change.
    fn note_for_application(&mut self, about: &str, text: impl Into<String>) {
        let (about, text) = (about.to_owned(), text.into());
        self.notes.push(Note { about, text, is_for_application: true });
    }

    /// The tables that get a tenant column, with the rule.
    fn tenants(&self) -> Vec<(&'a Table, Fill)> {
        let tenant = |target: &Target<'a>| match &target.kind {
            Kind::Tenant(fill) => Some((target.table, fill.clone())),
            Kind::Shared | Kind::Global => None,
        };
        self.targets.iter().filter_map(tenant).collect()
    }

    /// Whether the table's rows are the tenants.
    fn is_root(&self, table: &Table) -> bool {
        self.catalogue.root.as_ref().is_some_and(|root| i64::from(root.table) == table.oid)
    }

    /// The table's tenant column, quoted.
    fn column(&self, table: &Table) -> &'a str {
        match &self.catalogue.root {
            Some(root) if i64::from(root.table) == table.oid => &root.column,
            _ => &self.catalogue.column,
        }
    }

    /// The same, not quoted.
    fn bare_column(&self, table: &Table) -> &'a str {
        match &self.catalogue.root {
            Some(root) if i64::from(root.table) == table.oid => &root.bare,
            _ => &self.mapping.column,
        }
    }

    /// The table, if it gets a tenant column.
    fn tenant_table(&self, oid: i64) -> Option<&'a Table> {
        self.tenants().into_iter().map(|(table, _)| table).find(|table| table.oid == oid)
    }

    fn keys_of(&self, table: &Table) -> impl Iterator<Item = &'a Key> + use<'a> {
        let oid = table.oid;
        self.catalogue.keys.iter().filter(move |key| key.table == oid)
    }

    fn foreign_keys_of(&self, table: &Table) -> impl Iterator<Item = &'a ForeignKey> + use<'a> {
        let oid = table.oid;
        self.catalogue.foreign_keys.iter().filter(move |key| key.table == oid)
    }

    /// A tenant as people know it.
    fn called(&self, value: &str) -> String {
        let slug = self.catalogue.tenants.iter().find(|tenant| tenant.id == value);
        format!("tenant {}", slug.map_or(value, |tenant| &tenant.slug))
    }

    fn finish(self) -> Plan {
        let tables = self.targets.iter().map(|target| Adopted {
            name: target.table.name.clone(),
            class: match target.kind {
                Kind::Tenant(_) => "tenant",
                Kind::Shared => "shared",
                Kind::Global => "global",
            }
            .to_owned(),
            rows: target.table.rows,
            bytes: target.table.bytes,
            rule: match &target.kind {
                Kind::Tenant(Fill::Constant(value)) => self.called(value),
                Kind::Tenant(fill) => fill.to_string(),
                Kind::Shared => "every tenant reads them, none writes".to_owned(),
                Kind::Global => "no tenant sees them".to_owned(),
            },
            column: self.is_root(target.table).then(|| self.column(target.table).to_owned()),
        });
        Plan {
            database: self.catalogue.database.clone(),
            column: self.catalogue.column.clone(),
            column_type: self.mapping.column_type.as_str().to_owned(),
            tables: tables.collect(),
            up: self.up.into_values().flatten().collect(),
            down: self.down.into_values().flatten().collect(),
            notes: self.notes,
        }
    }
}
