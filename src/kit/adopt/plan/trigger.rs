//! The trigger that fills in rows which the application writes between the first stage and the last.

use super::{Draft, Fill, keys};
use crate::kit::adopt::catalogue::Table;
use crate::kit::adopt::literal;
use crate::kit::adopt::mapping::ColumnType;

/// The last of a table's triggers, which fire in the order of their names.
const TRIGGER: &str = "zzz_cloison_fill";

impl Draft<'_> {
    /// SQL that has rows filled in which are written from now on.
    pub(super) fn make_trigger(&self, table: &Table, expression: &str) -> Vec<String> {
        let (name, column, function) = (&table.name, &self.catalogue.column, function(table));
        vec![
            format!(
                "create or replace function {function}() returns trigger language plpgsql \
                 security definer set search_path = pg_catalog, {schema}, pg_temp as $cloison$\n\
                 begin\n    if new.{column} is null then\n        \
                 select {expression} into new.{column} from (select (new).*) as this;\n    \
                 end if;\n    return new;\nend\n$cloison$",
                schema = table.schema
            ),
            format!("revoke all on function {function}() from public"),
            format!("drop trigger if exists {TRIGGER} on {name}"),
            format!(
                "create trigger {TRIGGER} before insert or update on {name} \
                 for each row execute function {function}()"
            ),
        ]
    }
}

/// What fills in rows that come meanwhile; a default does for a new column and one tenant.
pub(super) fn trigger_rule(table: &Table, fill: &Fill, kind: ColumnType) -> Option<String> {
    match (fill, &table.column) {
        (Fill::Rule { sql, .. }, _) => Some(sql.clone()),
        (Fill::Constant(tenant), Some(_)) => Some(format!("{}::{kind}", literal(tenant))),
        (Fill::Constant(_), None) | (Fill::Nothing | Fill::Itself { .. }, _) => None,
    }
}

/// SQL that takes the trigger away, if there is one.
pub(super) fn drop_trigger(table: &Table) -> Vec<String> {
    vec![
        format!("drop trigger if exists {TRIGGER} on {}", table.name),
        format!("drop function if exists {}()", function(table)),
    ]
}

pub(super) fn has_trigger(table: &str) -> String {
    format!(
        "exists (select from pg_trigger g where g.tgrelid = to_regclass({}) and g.tgname = {})",
        literal(table),
        literal(TRIGGER)
    )
}

pub(super) fn has_function(table: &Table) -> String {
    format!("to_regprocedure({}) is not null", literal(&format!("{}()", function(table))))
}

/// The trigger's function: in the kit's schema, out of everybody's way.
fn function(table: &Table) -> String {
    format!("cloison.{}", keys::made_name("fill", &table.schema, &table.bare))
}
