//! Whose the rows of a table become.

use std::fmt;

use super::{Draft, Refusal};
use crate::kit::adopt::catalogue::{Catalogue, ForeignKey, Table};
use crate::kit::adopt::mapping::{ColumnType, Mapping, Rule};
use crate::kit::adopt::{identifier, literal};

/// The rule of one table.
#[derive(Clone, Debug)]
pub(super) enum Fill {
    /// Every row is this tenant's, which is named as the column names it.
    Constant(String),
    /// An expression over the row `this`, and whether it reads another table's tenant column.
    Rule { sql: String, parent: Option<String> },
    /// Every row has one already.
    Nothing,
    /// Every row is a tenant, which is called by these expressions over the row `this`.
    Itself { name: String, slug: String },
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(tenant) => write!(f, "tenant {tenant}"),
            Self::Rule { sql, .. } => f.write_str(sql),
            Self::Nothing => f.write_str("as they are"),
            Self::Itself { .. } => f.write_str("each row is a tenant"),
        }
    }
}

impl Draft<'_> {
    /// The rule of a table, or why there is none.
    pub(super) fn fill(&self, table: &Table) -> Result<Fill, Refusal> {
        let refuse = |why: String, help: &str| Refusal::new(&table.name, why, help);
        let mapping = self.mapping;
        if let Some(root) = self.catalogue.root.as_ref().filter(|_| self.is_root(table)) {
            let plain = |column: &Option<String>| {
                column.as_ref().map_or("null".to_owned(), |column| format!("this.{column}"))
            };
            let (name, slug) = (plain(&root.name), plain(&root.slug));
            return Ok(Fill::Itself {
                name: mapping.root_name.clone().unwrap_or(name),
                slug: mapping.root_slug.clone().unwrap_or(slug),
            });
        }
        let rule = self.rule(table);
        let expression = match rule {
            Some(rule) => self.expression(table, rule)?,
            None => None,
        };
        let default = rule.and_then(|rule| rule.default_tenant.as_deref());
        if let Some((sql, parent)) = expression {
            let kind = mapping.column_type;
            let mut sql = format!("({sql})::{kind}");
            if let Some(default) = default {
                let default = self.tenant_value(table, default)?;
                sql = format!("coalesce({sql}, {}::{kind})", literal(&default));
            }
            return Ok(Fill::Rule { sql, parent });
        }
        if table.column.as_ref().is_some_and(|column| column.not_null) {
            return Ok(Fill::Nothing);
        }
        let default = default.or(mapping.default_tenant.as_deref());
        let default = default.or((mapping.column_type == ColumnType::Uuid).then_some(SYSTEM));
        let default = default.ok_or_else(|| {
            refuse(
                "nothing says whose its rows are".to_owned(),
                "give --default-tenant, or a rule for the table in the mapping",
            )
        })?;
        Ok(Fill::Constant(self.tenant_value(table, default)?))
    }

    /// What the mapping says of a table, by whatever name.
    pub(super) fn rule(&self, table: &Table) -> Option<&Rule> {
        let names = &self.catalogue.names;
        let is_meant = |name: &String| names.get(name) == Some(&table.name);
        self.mapping.table.iter().find(|(name, _)| is_meant(name)).map(|(_, rule)| rule)
    }

    /// The rule as an expression, without its cast.
    fn expression(
        &self,
        table: &Table,
        rule: &Rule,
    ) -> Result<Option<(String, Option<String>)>, Refusal> {
        if let (Some(tenant), Some(from), Some(condition)) =
            (&rule.tenant, &rule.from, &rule.condition)
        {
            return Ok(Some((format!("select {tenant} from {from} where {condition}"), None)));
        }
        if let Some(tenant) = &rule.tenant {
            return Ok(Some((tenant.clone(), None)));
        }
        if let Some(map) = &rule.map {
            let on = rule.by.iter().map(|column| {
                let column = identifier(column);
                format!("m.{column} = this.{column}")
            });
            let on = on.collect::<Vec<_>>().join(" and ");
            let column = &self.catalogue.column;
            return Ok(Some((format!("select m.{column} from {map} as m where {on}"), None)));
        }
        let Some(parent) = &rule.parent else { return Ok(None) };
        self.by_parent(table, parent, rule.via.as_deref()).map(Some)
    }

    /// The tenant of the row that a foreign key leads to.
    fn by_parent(
        &self,
        table: &Table,
        parent: &str,
        via: Option<&str>,
    ) -> Result<(String, Option<String>), Refusal> {
        let parent = self.catalogue.names.get(parent).map_or(parent, String::as_str);
        let is_meant = |key: &&ForeignKey| {
            via.is_none_or(|via| {
                key.bare == via || key.columns == [via] || key.columns == [identifier(via)]
            })
        };
        let keys: Vec<_> = self
            .foreign_keys_of(table)
            .filter(|key| key.referenced_name == parent && key.referenced != table.oid)
            .collect();
        let meant: Vec<_> = keys.iter().copied().filter(is_meant).collect();
        let [key] = meant[..] else {
            let refuse = |why, help: &str| Err(Refusal::new(&table.name, why, help));
            let names: Vec<_> = keys
                .iter()
                .map(|key| format!("{} ({})", key.bare, key.columns.join(", ")))
                .collect();
            return match (names.is_empty(), via) {
                (true, _) => refuse(
                    format!("it has no foreign key to {parent}"),
                    "say the same with tenant, from and where",
                ),
                (false, None) => refuse(
                    format!("it has more than one foreign key to {parent}: {}", names.join(", ")),
                    "say in its rule by which, with via = \"column or constraint\"",
                ),
                (false, Some(via)) => refuse(
                    format!(
                        "via names {via:?}, and its foreign keys to {parent} are {}",
                        names.join(", ")
                    ),
                    "name one of these, by its column or its constraint",
                ),
            };
        };
        let pairs = key.columns.iter().zip(&key.referenced_columns);
        let on: Vec<_> = pairs.map(|(mine, theirs)| format!("p.{theirs} = this.{mine}")).collect();
        let table = self.catalogue.table(key.referenced);
        let sql = format!(
            "select p.{} from {parent} as p where {}",
            table.map_or(self.catalogue.column.as_str(), |table| self.column(table)),
            on.join(" and ")
        );
        Ok((sql, Some(parent.to_owned())))
    }

    /// How the column names a tenant that is called by its slug or by that.
    pub(super) fn tenant_value(&self, table: &Table, name: &str) -> Result<String, Refusal> {
        match value(self.mapping, self.catalogue, name) {
            Ok(value) => Ok(value),
            Err((why, help)) => Err(Refusal::new(&table.name, why, help)),
        }
    }
}

const SYSTEM: &str = "system-default";

/// The value, or why there is none and what helps.
fn value(
    mapping: &Mapping,
    catalogue: &Catalogue,
    name: &str,
) -> Result<String, (String, &'static str)> {
    const INSERT: &str = "insert it into cloison.tenants, or say --create-tenants";
    let kind = mapping.column_type;
    let fits = match kind {
        ColumnType::Uuid => uuid::Uuid::parse_str(name).is_ok(),
        ColumnType::Bigint => name.parse::<i64>().is_ok(),
        ColumnType::Integer => name.parse::<i32>().is_ok(),
        ColumnType::Smallint => name.parse::<i16>().is_ok(),
        ColumnType::Text | ColumnType::Varchar => !name.is_empty(),
    };
    let by_slug = || catalogue.tenants.iter().find(|tenant| tenant.slug == name);
    if kind == ColumnType::Uuid {
        let name = name.to_lowercase();
        let known = catalogue.tenants.iter().find(|tenant| tenant.id == name);
        return match known.or_else(by_slug) {
            Some(tenant) => Ok(tenant.id.clone()),
            None if fits && mapping.create_tenants => Ok(name),
            None => {
                let why = format!("there is no tenant with the id or slug {name:?}");
                Err((why, if fits { INSERT } else { "insert it into cloison.tenants" }))
            }
        };
    }
    let known = catalogue.tenants.iter().any(|t| t.external_key.as_deref() == Some(name));
    if known && fits {
        return Ok(name.to_owned());
    }
    if let Some(key) = by_slug().and_then(|tenant| tenant.external_key.clone()) {
        return Ok(key);
    }
    match (fits, mapping.create_tenants) {
        (true, true) => Ok(name.to_owned()),
        (true, false) => {
            Err((format!("there is no tenant with the external_key {name:?}"), INSERT))
        }
        (false, _) => Err((
            format!("the tenant {name:?} does not fit a column of type {kind}"),
            "say another --default-tenant, or another --type",
        )),
    }
}
