//! Questions to the catalogue, as expressions of SQL. They are asked with the search_path
//! `pg_catalog`, under which the definitions that they compare were read.

use crate::kit::adopt::literal;

/// Whether a table has a column. `column` is not quoted here and below.
pub(super) fn has_column(table: &str, column: &str) -> String {
    format!("exists (select from pg_attribute a where {})", attribute(table, column))
}

pub(super) fn is_not_null(table: &str, column: &str) -> String {
    format!(
        "exists (select from pg_attribute a where {} and a.attnotnull)",
        attribute(table, column)
    )
}

/// Whether a column's default is this, as Postgres prints it; `None` for no default.
pub(super) fn has_default(table: &str, column: &str, default: Option<&str>) -> String {
    let found = format!(
        "(select pg_get_expr(d.adbin, d.adrelid) from pg_attribute a join pg_attrdef d \
         on d.adrelid = a.attrelid and d.adnum = a.attnum where {})",
        attribute(table, column)
    );
    match default {
        Some(default) => format!("{found} is not distinct from {}", literal(default)),
        None => format!("{found} is null"),
    }
}

/// Whether a valid index of this name leads with a column, as it is quoted.
pub(super) fn leads_with(index: &str, column: &str) -> String {
    format!(
        "exists (select from pg_index x where x.indexrelid = to_regclass({}) and x.indisvalid \
         and pg_get_indexdef(x.indexrelid, 1, true) = {})",
        literal(index),
        literal(column)
    )
}

pub(super) fn is_valid_index(index: &str) -> String {
    format!(
        "exists (select from pg_index x where x.indexrelid = to_regclass({}) and x.indisvalid)",
        literal(index)
    )
}

/// Whether an index of this name is as it was.
pub(super) fn is_index(index: &str, definition: &str) -> String {
    format!(
        "exists (select from pg_index x where x.indexrelid = to_regclass({}) and x.indisvalid \
         and pg_get_indexdef(x.indexrelid) = {})",
        literal(index),
        literal(definition)
    )
}

/// The comment by which an index or a constraint of ours is known.
pub(super) const MARK: &str = "made by cloison adopt";

/// Whether an index of this name carries our mark.
pub(super) fn is_marked_index(index: &str) -> String {
    format!(
        "coalesce(obj_description(to_regclass({}), 'pg_class') = {}, false)",
        literal(index),
        literal(MARK)
    )
}

/// Whether an index is one of ours: by the mark, or by its name and definition.
pub(super) fn is_our_index(index: &str, definition: &str) -> String {
    format!(
        "({} or exists (select from pg_index x where x.indexrelid = to_regclass({}) \
         and pg_get_indexdef(x.indexrelid) = {}))",
        is_marked_index(index),
        literal(index),
        literal(definition)
    )
}

/// Whether a constraint of this name carries our mark.
pub(super) fn is_marked_constraint(table: &str, name: &str) -> String {
    constraint(table, name, &format!("obj_description(k.oid, 'pg_constraint') = {}", literal(MARK)))
}

/// The same, and Postgres has looked at every row.
pub(super) fn is_valid_marked_constraint(table: &str, name: &str) -> String {
    format!("({} and {})", is_marked_constraint(table, name), has_valid_constraint(table, name))
}

pub(super) fn is_gone(relation: &str) -> String {
    format!("to_regclass({}) is null", literal(relation))
}

pub(super) fn has_constraint(table: &str, name: &str) -> String {
    constraint(table, name, "true")
}

pub(super) fn has_valid_constraint(table: &str, name: &str) -> String {
    constraint(table, name, "k.convalidated")
}

/// Whether a constraint is as it was.
pub(super) fn is_constraint(table: &str, name: &str, definition: &str) -> String {
    constraint(table, name, &format!("pg_get_constraintdef(k.oid) = {}", literal(definition)))
}

/// Whether a constraint holds the tenant column.
pub(super) fn holds_tenant(table: &str, name: &str, column: &str) -> String {
    let has = format!(
        "exists (select from pg_attribute a where {} and a.attnum = any (k.conkey))",
        attribute(table, column)
    );
    constraint(table, name, &has)
}

/// Whether the kit looks after a table.
pub(super) fn is_protected(table: &str) -> String {
    format!(
        "exists (select from cloison.protected_tables p where p.relation = to_regclass({}))",
        literal(table)
    )
}

/// Whether the table's rows all have a tenant. Looks at them only where no constraint says it.
pub(super) fn is_filled(table: &str, column: &str, quoted: &str, constraint_name: &str) -> String {
    format!(
        "(case when {} then true when {} then true \
         else not exists (select from {table} where {quoted} is null) end)",
        is_not_null(table, column),
        has_valid_constraint(table, constraint_name),
    )
}

fn attribute(table: &str, column: &str) -> String {
    format!(
        "a.attrelid = to_regclass({}) and a.attname = {} and not a.attisdropped",
        literal(table),
        literal(column)
    )
}

fn constraint(table: &str, name: &str, more: &str) -> String {
    format!(
        "exists (select from pg_constraint k where k.conrelid = to_regclass({}) and k.conname = {} \
         and {more})",
        literal(table),
        literal(name)
    )
}
