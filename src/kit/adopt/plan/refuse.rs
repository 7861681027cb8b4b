//! Which tables there are, and what cannot be adopted, with the reason.

use std::fmt;

use super::faults::unsupported;
use super::{Draft, Fill, Kind, Target};
use crate::kit::adopt::catalogue::Table;

/// Why there is no plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// A table, a view, a key, a role.
    pub about: String,
    /// What is in the way.
    pub why: String,
    /// What to do about it.
    pub help: String,
}

impl Refusal {
    pub(super) fn new(about: &str, why: impl Into<String>, help: impl Into<String>) -> Self {
        Self { about: about.to_owned(), why: why.into(), help: help.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.about, self.why, self.help)
    }
}

/// What migration tools keep for themselves.
const TOOLS: [&str; 12] = [
    "__diesel_schema_migrations",
    "_prisma_migrations",
    "_sqlx_migrations",
    "alembic_version",
    "ar_internal_metadata",
    "databasechangelog",
    "databasechangeloglock",
    "django_migrations",
    "flyway_schema_history",
    "knex_migrations",
    "knex_migrations_lock",
    "schema_migrations",
];

impl<'a> Draft<'a> {
    /// Says of each table what becomes of it.
    pub(super) fn choose(&mut self) {
        let (mapping, names) = (self.mapping, &self.catalogue.names);
        let named = |list: &[String], table: &Table| {
            list.iter().any(|name| names.get(name) == Some(&table.name))
        };
        for table in &self.catalogue.tables {
            // Parents are read for their names alone.
            let is_wanted = named(&mapping.tables, table)
                || mapping.schemas.iter().any(|s| *s == table.schema.trim_matches('"'))
                || self.rule(table).is_some()
                || self.is_root(table);
            let kind = if named(&mapping.shared, table) {
                Kind::Shared
            } else if named(&mapping.global, table) {
                Kind::Global
            } else if !is_wanted {
                continue;
            } else if TOOLS.contains(&table.bare.as_str()) && !named(&mapping.tables, table) {
                self.note(&table.name, "belongs to a migration tool, so no tenant sees it");
                Kind::Global
            } else {
                match self.fill(table) {
                    Ok(fill) => Kind::Tenant(fill),
                    Err(refusal) => {
                        self.refusals.push(refusal);
                        continue;
                    }
                }
            };
            if table.class.is_some() {
                self.note(&table.name, "is protected already and stays as it is");
                continue;
            }
            if mapping.skips_unsupported()
                && let Some((why, _)) = unsupported(table, matches!(kind, Kind::Tenant(_))).first()
            {
                self.note(&table.name, format!("is left out: {why}"));
                continue;
            }
            self.targets.push(Target { table, kind });
        }
        self.parents_first();
    }

    /// A table whose tenants come from another one is filled behind it.
    fn parents_first(&mut self) {
        let mut waiting = std::mem::take(&mut self.targets);
        while !waiting.is_empty() {
            let names: Vec<String> =
                waiting.iter().map(|target| target.table.name.clone()).collect();
            let waits = |target: &Target<'a>| match &target.kind {
                Kind::Tenant(Fill::Rule { parent: Some(parent), .. }) => names.contains(parent),
                Kind::Tenant(_) | Kind::Shared | Kind::Global => false,
            };
            let (later, now): (Vec<_>, Vec<_>) = waiting.into_iter().partition(waits);
            if now.is_empty() {
                let why = "its tenants come from a parent whose tenants come from it";
                self.refusals.push(Refusal::new(&names.join(", "), why, "give one a rule"));
                return;
            }
            self.targets.extend(now);
            waiting = later;
        }
    }

    /// Everything about roles, tables and views that stands in the way.
    pub(super) fn refuse(&mut self) {
        let catalogue = self.catalogue;
        if self.targets.is_empty() && self.refusals.is_empty() {
            self.refusals.push(Refusal::new(
                "the mapping",
                "there is no table to adopt",
                "those that are protected already stay as they are",
            ));
        }
        if !catalogue.owns_kit {
            self.refusals.push(Refusal::new(
                &catalogue.role,
                "the role does not own the kit",
                "run it as the owner of the schema cloison, or as a superuser",
            ));
        }
        for target in self.targets.clone() {
            let found = self.faults(&target);
            let refusals =
                found.into_iter().map(|(why, help)| Refusal::new(&target.table.name, why, help));
            self.refusals.extend(refusals);
            self.remarks(target.table);
        }
        self.views();
    }

    /// Whether rows are written, as opposed to a default that counts for old rows, too.
    pub(super) fn updates_rows(&self, target: &Target<'_>) -> bool {
        match &target.kind {
            Kind::Tenant(Fill::Rule { .. }) => true,
            Kind::Tenant(Fill::Constant(_)) => target.table.column.is_some(),
            Kind::Tenant(Fill::Nothing | Fill::Itself { .. }) | Kind::Shared | Kind::Global => {
                false
            }
        }
    }

    fn remarks(&mut self, table: &Table) {
        for policy in &table.policies {
            self.note(&table.name, format!("has a policy of its own, {policy}: it stays"));
        }
        for rule in &table.rules {
            self.note(
                &table.name,
                format!("has the rule {rule}: look whether it names all columns"),
            );
        }
        if table.kind == "p" {
            self.note(
                &table.name,
                "is partitioned: Postgres builds its keys and indexes under a lock that stops \
                 writers",
            );
        }
    }

    /// Views run as their owner unless they are told not to, and materialized ones always.
    fn views(&mut self) {
        for view in &self.catalogue.views {
            let reads = view.tables.join(", ");
            if view.kind == "m" && view.is_open {
                self.refusals.push(Refusal::new(
                    &view.name,
                    format!(
                        "everybody may read this materialized view, which holds rows of {reads}"
                    ),
                    format!("revoke all on {} from public, cloison_tenant", view.name),
                ));
            } else if view.kind == "m" {
                self.note(
                    &view.name,
                    "is a materialized view of all tenants' rows: no tenant may read it",
                );
            } else if self.catalogue.version < 150_000 && view.is_open {
                self.refusals.push(Refusal::new(
                    &view.name,
                    format!(
                        "everybody may read this view of {reads}, which runs as its owner: \
                         security_invoker is there from Postgres 15 on"
                    ),
                    format!("revoke all on {} from public, cloison_tenant", view.name),
                ));
            } else if self.catalogue.version < 150_000 {
                self.note(
                    &view.name,
                    "runs as its owner, and shows all tenants' rows: no tenant may read it",
                );
            } else if !view.may_alter {
                self.refusals.push(Refusal::new(
                    &view.name,
                    format!("this view of {reads} runs as its owner and belongs to somebody else"),
                    "run it as a superuser",
                ));
            }
        }
    }
}
