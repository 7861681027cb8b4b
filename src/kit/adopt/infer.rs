//! INFER: a mapping from the catalogue and the table of the tenants, to be read and corrected.
//!
//! A table is a tenant's if its foreign keys lead to the root, over as few tables as possible.

use std::collections::BTreeMap;
use std::fmt::Write;

use tokio_postgres::Client;

use super::Error;
use super::catalogue::{self, Catalogue, ForeignKey, Table};
use super::mapping::{ColumnType, Mapping};

/// How a table's rows find their tenant.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Way {
    /// They are the tenants.
    Root,
    /// The tenant column is there, and never null.
    Column,
    /// A column of another name, or one that may be null, refers to the root.
    Reference { column: String, may_be_null: bool },
    /// The row that a foreign key leads to.
    Parent { parent: String, via: Option<String>, may_be_null: bool, others: Vec<String> },
}

/// The mapping of the tables of these schemas that lead to a root, as text.
///
/// # Errors
///
/// There is no such table, or it has no key that a tenant column can refer to.
pub async fn infer(client: &Client, schemas: &[String], root: &str) -> Result<String, Error> {
    let doing = |e| Error::statement("reading the root", e);
    let row = client.query_opt(ROOT, &[&root]).await.map_err(doing)?;
    let missing = || Error::Missing(vec![format!("table {root} with a primary key of one column")]);
    let row = row.ok_or_else(missing)?;
    let kind: String = row.get(0);
    let column_type: ColumnType =
        kind.parse().map_err(|_| Error::Root(root.to_owned(), "a tenant column"))?;
    let column: Option<String> = row.get(3);
    let column = column.ok_or_else(|| {
        Error::Missing(vec![format!("foreign key of one column that leads to {root}")])
    })?;
    let is_plain: bool = row.get(1);
    let mut mapping = Mapping { column, column_type, ..Mapping::default() };
    mapping.schemas = schemas.to_vec();
    if is_plain {
        mapping.root = Some(root.to_owned());
    } else {
        mapping.tables.push(root.to_owned());
    }
    let catalogue = catalogue::read(client, &mapping).await?;
    let rule = (!is_plain).then(|| format!("this.{}", row.get::<_, &str>(2)));
    Ok(text(&mapping, &catalogue, root, rule.as_deref()))
}

/// The mapping as a file that says of each table why.
fn text(mapping: &Mapping, catalogue: &Catalogue, root: &str, rule: Option<&str>) -> String {
    let ways = ways(catalogue, root);
    let led: Vec<_> = catalogue.tables.iter().filter(|t| ways.contains_key(&t.oid)).collect();
    let strays: Vec<_> = catalogue.tables.iter().filter(|t| !ways.contains_key(&t.oid)).collect();
    let column = ways.values().filter(|way| **way == Way::Column).count();
    let mut out = format!(
        "# {} of {} tables lead to {root}; {column} of them by {} alone, and need no rule.\n",
        led.len(),
        catalogue.tables.len(),
        mapping.column
    );
    let list = |names: &[&String]| {
        let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
        format!("[{}]", names.join(", "))
    };
    let schemas: Vec<_> = mapping.schemas.iter().collect();
    // Writing to a String does not fail.
    let _ = writeln!(out, "schemas = {}", list(&schemas));
    let _ = writeln!(out, "column = {:?}", mapping.column);
    let _ = writeln!(out, "type = {:?}", mapping.column_type.as_str());
    if rule.is_none() {
        let _ = writeln!(out, "root = {root:?}");
    }
    out.push_str("create_tenants = true\n");
    if !strays.is_empty() {
        out.push_str(
            "# Nothing leads from these to the root, so no tenant sees them. Those that every tenant \
             may read\n# belong to `shared`, and those with rows of tenants need a rule below.\n",
        );
        let names: Vec<_> = strays.iter().map(|table| &table.name).collect();
        let _ = writeln!(out, "global = {}", list(&names));
    }
    if let Some(rule) = rule {
        let _ = writeln!(out, "\n[table.{root:?}]\ntenant = {rule:?}");
    }
    for table in led {
        if let Some(way) = ways.get(&table.oid) {
            rules(&mut out, table, way);
        }
    }
    out
}

fn rules(out: &mut String, table: &Table, way: &Way) {
    let (rule, may_be_null, others) = match way {
        Way::Root | Way::Column => return,
        Way::Reference { column, may_be_null } => {
            (format!("tenant = {:?}\n", format!("this.{column}")), *may_be_null, &Vec::new())
        }
        Way::Parent { parent, via, may_be_null, others } => {
            let via = via.as_ref().map(|via| format!("via = {via:?}\n"));
            let rule = format!("parent = {parent:?}\n{}", via.unwrap_or_default());
            (rule, *may_be_null, others)
        }
    };
    let _ = writeln!(out, "\n[table.{:?}]", table.name);
    for other in others {
        let _ = writeln!(out, "# or: {other}");
    }
    out.push_str(&rule);
    if may_be_null {
        out.push_str("# May be null: such rows stop it, unless there is a default_tenant here.\n");
    }
}

/// How each table leads to the root, by its oid; nothing of those that do not.
fn ways(catalogue: &Catalogue, root: &str) -> BTreeMap<i64, Way> {
    let mut ways = BTreeMap::new();
    let root = catalogue.names.get(root).map_or(root, String::as_str);
    let Some(root) = catalogue.tables.iter().find(|table| table.name == root) else {
        return ways;
    };
    ways.insert(root.oid, Way::Root);
    for table in catalogue.tables.iter().filter(|table| table.oid != root.oid) {
        let refers = |key: &&ForeignKey| key.table == table.oid && key.referenced == root.oid;
        let mut keys: Vec<_> = catalogue.foreign_keys.iter().filter(refers).collect();
        keys.sort_by_key(|key| !key.is_required);
        let way = match (&table.column, keys.first()) {
            (Some(column), _) if column.not_null => Way::Column,
            (Some(_), _) => Way::Reference { column: catalogue.column.clone(), may_be_null: true },
            (None, Some(key)) if key.columns.len() == 1 => {
                Way::Reference { column: key.columns[0].clone(), may_be_null: !key.is_required }
            }
            (None, _) => continue,
        };
        ways.insert(table.oid, way);
    }
    // A level at a time: the shortest way counts.
    loop {
        let found: Vec<_> = catalogue
            .tables
            .iter()
            .filter(|table| !ways.contains_key(&table.oid))
            .filter_map(|table| Some((table.oid, parent(catalogue, table, &ways)?)))
            .collect();
        if found.is_empty() {
            return ways;
        }
        ways.extend(found);
    }
}

/// The parent that a table's rows have, among the tables that have a way already.
fn parent(catalogue: &Catalogue, table: &Table, ways: &BTreeMap<i64, Way>) -> Option<Way> {
    let mut keys: Vec<_> = catalogue
        .foreign_keys
        .iter()
        .filter(|key| key.table == table.oid && key.referenced != table.oid)
        .filter(|key| ways.contains_key(&key.referenced))
        .collect();
    keys.sort_by_key(|key| !key.is_required);
    let (first, rest) = keys.split_first()?;
    let shares = keys.iter().filter(|key| key.referenced == first.referenced).count() > 1;
    let others =
        rest.iter().map(|key| format!("parent = {:?}, via = {:?}", key.referenced_name, key.bare));
    Some(Way::Parent {
        parent: first.referenced_name.clone(),
        via: shares.then(|| first.bare.clone()),
        may_be_null: !first.is_required,
        others: others.collect(),
    })
}

const ROOT: &str = include_str!("../../../sql/adopt/root_column.sql");
