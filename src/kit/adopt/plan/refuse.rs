//! Which tables there are, and what cannot be adopted, with the reason.

use std::fmt;

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
                || self.rule(table).is_some();
            let kind = if named(&mapping.shared, table) {
                Kind::Shared
            } else if named(&mapping.global, table) {
                Kind::Global
            } else if !is_wanted {
                continue;
            } else if TOOLS.contains(&table.bare.as_str()) && !named(&mapping.tables, table) {
                self.notes.push(super::Note {
                    about: table.name.clone(),
                    text: "belongs to a migration tool, so no tenant sees it".to_owned(),
                });
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

    fn faults(&self, target: &Target<'_>) -> Vec<(String, String)> {
        let table = target.table;
        let mut found = Vec::new();
        let mut fault = |yes: bool, why: &str, help: &str| {
            if yes {
                found.push((why.to_owned(), help.to_owned()));
            }
        };
        let is_table = table.kind == "r" || table.kind == "p";
        fault(!is_table, "it is not a table", "adopt the tables below it");
        fault(table.persistence == "t", "it is a temporary table", "leave it out");
        fault(table.is_ours_or_postgres, "it is not a table of the application", "leave it out");
        fault(table.is_partition, "it is a partition", "adopt what it is a partition of");
        fault(table.is_extensions, "it belongs to an extension", "leave it out");
        fault(
            table.has_foreign,
            "it has a foreign table among its partitions, which row security does not reach",
            "detach that",
        );
        fault(
            table.has_children || table.is_child,
            "it inherits or is inherited from, so that its keys do not hold for all its rows",
            "leave it out, or use partitions",
        );
        fault(
            !table.may_alter,
            &format!("it belongs to {}", table.owner),
            "run it as its owner or as a superuser",
        );
        let is_tenants = matches!(target.kind, Kind::Tenant(_));
        fault(
            is_tenants && table.is_typed,
            "it is a table OF a type, which takes no further column",
            "ALTER TABLE … NOT OF first",
        );
        if let (true, Some(user)) = (is_tenants, &table.row_type_in) {
            let why = format!("its row type is that of a column of {user}");
            fault(true, &why, "a row with a tenant would stand in there; leave it out");
        }
        if let (true, Some(column)) = (is_tenants, &table.column) {
            let (kind, has) = (self.mapping.column_type.as_str(), &column.type_name);
            let why = format!("{} is of type {has} there, not {kind}", self.catalogue.column);
            fault(has != kind, &why, "name its type with --type");
            let why = "the column is generated, so it cannot name the tenant";
            fault(column.is_generated, why, "choose another name with --column");
        }
        let blind = table.has_rls && table.forces_rls && !self.catalogue.is_superuser;
        fault(
            is_tenants && blind && !table.policies.is_empty(),
            "row security is forced there by policies of its own, so its owner may not see all rows",
            "run it as a superuser",
        );
        let lax = table.lax_policies.join(", ");
        fault(
            !lax.is_empty(),
            &format!("its own policy {lax} is permissive and for everybody, so for tenants, too"),
            "make it AS RESTRICTIVE or TO the roles that it is meant for, or drop it",
        );
        let fires = self.updates_rows(target) && !table.update_triggers.is_empty();
        let why = format!("filling it in would fire {}", table.update_triggers.join(", "));
        fault(
            fires && !self.catalogue.is_superuser && !self.mapping.fire_triggers,
            &why,
            "say --fire-triggers, or run it as a superuser, who can leave them out",
        );
        found
    }

    /// Whether rows are written, as opposed to a default that counts for old rows, too.
    pub(super) fn updates_rows(&self, target: &Target<'_>) -> bool {
        match &target.kind {
            Kind::Tenant(Fill::Rule { .. }) => true,
            Kind::Tenant(Fill::Constant(_)) => target.table.column.is_some(),
            Kind::Tenant(Fill::Nothing) | Kind::Shared | Kind::Global => false,
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
