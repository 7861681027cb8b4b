//! What is to be adopted and to whom its rows go: as a file, or as options.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// What the user wants. Names of tables are written as in SQL.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// All tables of these schemas.
    pub schemas: Vec<String>,
    /// These tables.
    pub tables: Vec<String>,
    /// Tables that are left as they are; `unsupported` is every table that cannot be adopted.
    #[serde(deserialize_with = "one_or_more")]
    pub skip: Vec<String>,
    /// Tables whose rows every tenant reads.
    pub shared: Vec<String>,
    /// Tables that no tenant sees.
    pub global: Vec<String>,
    /// The tenant column.
    pub column: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whose the rows are that no rule says anything about: as the column names tenants, or a slug.
    #[serde(deserialize_with = "text_or_number")]
    pub default_tenant: Option<String>,
    /// Make the tenants that rows lead to and that are not there.
    pub create_tenants: bool,
    /// Keys that stay as they are, by their names; `primary` is every primary key.
    pub keep_keys: Vec<String>,
    /// Fill in rows though it fires the application's own triggers.
    pub fire_triggers: bool,
    /// Roles that the application's own permissive policies are for, once tenants come in.
    #[serde(deserialize_with = "one_or_more")]
    pub policies_to: Vec<String>,
    /// The table whose rows are the application's tenants, by its primary key.
    pub root: Option<String>,
    /// How such a tenant is called: an SQL expression over the row `this`.
    pub root_name: Option<String>,
    /// The same for its slug; where it is not one, the tenant gets `tenant-` and its key.
    pub root_slug: Option<String>,
    /// Rules for single tables.
    pub table: BTreeMap<String, Rule>,
}

/// Whose the rows of one table are.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// An SQL expression; the row is called `this`.
    pub tenant: Option<String>,
    /// What the expression reads besides, as after FROM.
    pub from: Option<String>,
    /// How that is joined, as after WHERE.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// The table whose row this one refers to by a foreign key, and whose tenant it has.
    pub parent: Option<String>,
    /// By which foreign key, where there is more than one: its column, or its name.
    pub via: Option<String>,
    /// A table that names the tenant for each value of the columns `by`.
    pub map: Option<String>,
    /// The columns, of the same names in both tables.
    pub by: Vec<String>,
    /// For rows that the rule finds no tenant for.
    #[serde(deserialize_with = "text_or_number")]
    pub default_tenant: Option<String>,
}

/// Type of a tenant column.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are Postgres' names")]
pub enum ColumnType {
    #[default]
    Uuid,
    Bigint,
    Integer,
    Smallint,
    Text,
    #[serde(rename = "varchar", alias = "character varying")]
    Varchar,
}

/// Why a mapping is not one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no TOML, or has keys that are not known.
    #[error("the mapping cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// Keys that do not go together, or a value that cannot be.
    #[error("the mapping says {0}")]
    Wrong(String),
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            schemas: Vec::new(),
            tables: Vec::new(),
            skip: Vec::new(),
            shared: Vec::new(),
            global: Vec::new(),
            column: "tenant_id".to_owned(),
            column_type: ColumnType::default(),
            default_tenant: None,
            create_tenants: false,
            keep_keys: Vec::new(),
            fire_triggers: false,
            policies_to: Vec::new(),
            root: None,
            root_name: None,
            root_slug: None,
            table: BTreeMap::new(),
        }
    }
}

impl Mapping {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(toml::from_str(text)?)
    }

    /// Looks whether it can be meant.
    ///
    /// # Errors
    ///
    /// Says what does not go together.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Wrong(text));
        if [&self.schemas, &self.tables, &self.shared, &self.global].iter().all(|l| l.is_empty())
            && self.table.is_empty()
            && self.root.is_none()
        {
            return wrong("nothing about which tables: name schemas or tables".to_owned());
        }
        if self.root.is_none() && (self.root_name.is_some() || self.root_slug.is_some()) {
            return wrong("root_name or root_slug, without root".to_owned());
        }
        if let Some(root) = &self.root
            && self.table.contains_key(root)
        {
            return wrong(format!("that {root} is the root, and a rule for its rows"));
        }
        if self.column.is_empty() || self.column.len() > 63 {
            return wrong(format!("column = {:?}, which is no name of a column", self.column));
        }
        for (table, rule) in &self.table {
            let ways = [rule.tenant.is_some(), rule.parent.is_some(), rule.map.is_some()];
            if ways.iter().filter(|way| **way).count() > 1 {
                return wrong(format!("of {table} more than one of tenant, parent and map"));
            }
            if rule.tenant.is_none() && (rule.from.is_some() || rule.condition.is_some()) {
                return wrong(format!("of {table} from or where, without tenant"));
            }
            if rule.from.is_some() != rule.condition.is_some() {
                return wrong(format!("of {table} one of from and where, which go together"));
            }
            if rule.via.is_some() && rule.parent.is_none() {
                return wrong(format!("of {table} via, without parent"));
            }
            if rule.map.is_some() == rule.by.is_empty() {
                return wrong(format!("of {table} one of map and by, which go together"));
            }
            let texts = [&rule.tenant, &rule.from, &rule.condition, &rule.parent, &rule.map];
            if texts.into_iter().flatten().any(|text| text.contains("$cloison$")) {
                return wrong(format!("of {table} something with $cloison$, which is ours"));
            }
        }
        Ok(())
    }

    /// Whether tables that cannot be adopted are left out.
    pub(super) fn skips_unsupported(&self) -> bool {
        self.skip.iter().any(|name| name == UNSUPPORTED)
    }

    /// The table whose rows are the tenants: the root, or one whose rule is `this.column`, with that
    /// column.
    pub(super) fn root(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let ruled = self.table.iter().filter_map(|(name, rule)| {
            let plain = rule.from.is_none() && rule.default_tenant.is_none();
            let column = rule.tenant.as_deref()?.trim().strip_prefix("this.")?;
            plain.then_some((name.as_str(), Some(column)))
        });
        self.root.iter().map(|name| (name.as_str(), None)).chain(ruled)
    }

    /// Whether a key of this name, quoted or not, was asked to stay.
    pub(super) fn keeps(&self, name: &str, index: &str, is_primary: bool) -> bool {
        self.keep_keys
            .iter()
            .any(|kept| kept == name || kept == index || (is_primary && kept == "primary"))
    }
}

impl ColumnType {
    /// As `format_type` prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Bigint => "bigint",
            Self::Integer => "integer",
            Self::Smallint => "smallint",
            Self::Text => "text",
            Self::Varchar => "character varying",
        }
    }

    /// The column of `cloison.tenants` that columns of this type are compared with.
    pub const fn tenant_key(self) -> &'static str {
        match self {
            Self::Uuid => "id",
            Self::Bigint | Self::Integer | Self::Smallint | Self::Text | Self::Varchar => {
                "external_key"
            }
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "uuid" => Self::Uuid,
            "bigint" => Self::Bigint,
            "integer" | "int" => Self::Integer,
            "smallint" => Self::Smallint,
            "text" => Self::Text,
            "varchar" | "character varying" => Self::Varchar,
            _ => {
                let known = "uuid, bigint, integer, smallint, text or varchar";
                return Err(format!("{text:?} is no type of a tenant column: {known}"));
            }
        })
    }
}

/// In a list of tables to leave out: all that cannot be adopted.
pub(super) const UNSUPPORTED: &str = "unsupported";

/// One name need not be a list.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        More(Vec<String>),
    }
    Ok(match Either::deserialize(from)? {
        Either::One(name) => vec![name],
        Either::More(names) => names,
    })
}

/// A tenant may be named by a number, too.
fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(i64),
    }
    Ok(Option::<Either>::deserialize(from)?.map(|either| match either {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_the_options_say_and_more() {
        let mapping = Mapping::parse(
            "tables = ['public.note']\ncolumn = 'organisation_id'\ntype = 'integer'\n\
             default_tenant = 1\n[table.'public.reply']\nparent = 'public.note'\n",
        )
        .unwrap();
        mapping.check().unwrap();
        assert_eq!(mapping.default_tenant.as_deref(), Some("1"));
        assert_eq!(mapping.column_type, ColumnType::Integer);
        assert_eq!(mapping.table["public.reply"].parent.as_deref(), Some("public.note"));
        // As it is kept in the database.
        let kept = serde_json::to_value(&mapping).unwrap();
        assert_eq!(serde_json::from_value::<Mapping>(kept).unwrap(), mapping);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, expected) in [
            ("", "nothing about which tables"),
            ("tables = ['a']\ncolumn = ''", "no name of a column"),
            ("[table.a]\ntenant = '1'\nparent = 'b'", "more than one of"),
            ("[table.a]\nfrom = 'b'", "without tenant"),
            ("[table.a]\ntenant = 'x'\nfrom = 'b'", "one of from and where"),
            ("[table.a]\nmap = 'b'", "one of map and by"),
            ("[table.a]\ntenant = '$cloison$'", "which is ours"),
        ] {
            let error = Mapping::parse(text).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Mapping::parse("tabels = ['a']").unwrap_err().to_string();
        assert!(error.contains("tabels"), "{error}");
        assert!(Mapping::parse("type = 'money'").is_err());
    }
}
