//! What the names of a mapping lead to.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::Root;
use crate::kit::adopt::Error;
use crate::kit::adopt::mapping::{Mapping, UNSUPPORTED};

/// What each name of the mapping leads to.
pub(super) async fn resolve(
    client: &Client,
    mapping: &Mapping,
) -> Result<BTreeMap<String, u32>, Error> {
    let lists = [&mapping.tables, &mapping.skip, &mapping.shared, &mapping.global];
    let parents = mapping.table.values().filter_map(|rule| rule.parent.as_ref());
    let rules = mapping.table.keys().chain(parents).chain(&mapping.root);
    let wanted = lists.into_iter().flatten().chain(rules).filter(|name| *name != UNSUPPORTED);
    let mut names = BTreeMap::new();
    let mut missing = Vec::new();
    for name in wanted {
        let sql = "select pg_catalog.to_regclass($1)::pg_catalog.oid";
        // Not a name at all is an error of Postgres'.
        let found = client.query_one(sql, &[name]).await.ok();
        match found.and_then(|row| row.try_get::<_, Option<u32>>(0).ok().flatten()) {
            Some(oid) => _ = names.insert(name.clone(), oid),
            None => missing.push(format!("table {name}")),
        }
    }
    for schema in &mapping.schemas {
        let sql = "select exists (select from pg_catalog.pg_namespace where nspname = $1)";
        let row = client.query_one(sql, &[schema]).await;
        let row = row.map_err(|e| Error::statement("reading the schemas", e))?;
        if !row.get::<_, bool>(0) {
            missing.push(format!("schema {schema}"));
        }
    }
    for role in &mapping.policies_to {
        let sql = "select exists (select from pg_catalog.pg_roles where rolname = $1)";
        let row = client.query_one(sql, &[role]).await;
        let row = row.map_err(|e| Error::statement("reading the roles", e))?;
        if !row.get::<_, bool>(0) {
            missing.push(format!("role {role}"));
        }
    }
    if missing.is_empty() { Ok(names) } else { Err(Error::Missing(missing)) }
}

/// The table of the mapping whose rows are the tenants. One that a rule names is only where the rule
/// is its primary key and tenants can have it in place of a column of their own.
pub(super) async fn root(
    client: &Client,
    mapping: &Mapping,
    names: &BTreeMap<String, u32>,
) -> Result<Option<Root>, Error> {
    let wanted = mapping.column_type.as_str();
    for (name, column) in mapping.root() {
        let Some(oid) = names.get(name).copied() else { continue };
        let found = client.query_opt(ROOT, &[&oid, &wanted]).await;
        let found = found.map_err(|e| Error::statement("reading the root", e))?;
        match (found, column) {
            (Some(row), column) if column.is_none_or(|column| column == row.get::<_, &str>(0)) => {
                return Ok(Some(Root {
                    table: oid,
                    column: row.get(0),
                    bare: row.get(1),
                    name: row.get(2),
                    slug: row.get(3),
                }));
            }
            (_, Some(_)) => {}
            (_, None) => return Err(Error::Root(name.to_owned(), wanted)),
        }
    }
    Ok(None)
}

const ROOT: &str = include_str!("../../../../sql/adopt/root.sql");
