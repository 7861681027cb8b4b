//! What is there: read once, in one snapshot, as plain data. All names are quoted for SQL, except
//! those that are called `bare`.

mod resolve;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::mapping::Mapping;
use super::{Error, literal};
use resolve::{resolve, root};

/// Everything that a plan is made from.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// `server_version_num`.
    pub(super) version: i32,
    pub(super) database: String,
    pub(super) role: String,
    pub(super) is_superuser: bool,
    /// Whether the role may keep plans and register tables: the kit's owner, or a superuser.
    pub(super) owns_kit: bool,
    /// The mapping's column, quoted.
    pub(super) column: String,
    pub(super) tables: Vec<Table>,
    /// What the mapping calls tables, as they are called here.
    pub(super) names: BTreeMap<String, String>,
    pub(super) keys: Vec<Key>,
    pub(super) foreign_keys: Vec<ForeignKey>,
    pub(super) views: Vec<View>,
    /// Texts that hold an `ON CONFLICT`.
    pub(super) mentions: Vec<Mention>,
    /// Why the application's statements are not all among them.
    pub(super) unread: Option<&'static str>,
    pub(super) tenants: Vec<Tenant>,
    /// The table whose rows are the tenants.
    pub(super) root: Option<Root>,
    /// The names that are taken, by schema.
    pub(super) taken: Vec<Taken>,
}

/// The table whose rows are the tenants: its primary key is its tenant column.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) table: u32,
    /// The column, quoted.
    pub(super) column: String,
    pub(super) bare: String,
    /// Columns that a tenant's name and slug can be taken from, quoted.
    pub(super) name: Option<String>,
    pub(super) slug: Option<String>,
}

/// The names of relations and constraints in a schema, not quoted.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Taken {
    pub(super) schema: String,
    pub(super) names: BTreeSet<String>,
}

/// A table of the mapping.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Table {
    pub(super) oid: i64,
    pub(super) name: String,
    pub(super) schema: String,
    pub(super) bare: String,
    pub(super) kind: String,
    pub(super) persistence: String,
    pub(super) is_partition: bool,
    pub(super) is_typed: bool,
    pub(super) is_ours_or_postgres: bool,
    pub(super) has_children: bool,
    pub(super) is_child: bool,
    pub(super) row_type_in: Option<String>,
    pub(super) is_extensions: bool,
    pub(super) owner: String,
    pub(super) may_alter: bool,
    pub(super) has_rls: bool,
    pub(super) forces_rls: bool,
    /// The class that it is protected with already.
    pub(super) class: Option<String>,
    pub(super) needs_usage: bool,
    pub(super) column: Option<Column>,
    /// What holds the rows: the table itself, or its partitions.
    pub(super) leaves: Vec<String>,
    pub(super) rows: i64,
    pub(super) bytes: i64,
    pub(super) has_foreign: bool,
    pub(super) policies: Vec<String>,
    pub(super) lax_policies: Vec<LaxPolicy>,
    pub(super) update_triggers: Vec<Trigger>,
    pub(super) rules: Vec<String>,
    pub(super) grants: Vec<String>,
    pub(super) free_sequences: Vec<String>,
}

/// A policy of the application's that would let tenants see more.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LaxPolicy {
    pub(super) name: String,
    /// For whom it is, as ALTER POLICY writes it.
    pub(super) roles: String,
}

/// A trigger of the application's.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Trigger {
    pub(super) name: String,
    /// It fires in replicas, too.
    pub(super) fires_always: bool,
}

/// A tenant column that is there already.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Column {
    #[serde(rename = "type")]
    pub(super) type_name: String,
    pub(super) not_null: bool,
    pub(super) is_generated: bool,
    pub(super) default: Option<String>,
}

/// What kind of key an index is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyKind {
    Primary,
    Unique,
    Exclusion,
    /// A unique index without a constraint.
    Index,
    /// Not unique.
    Plain,
}

/// An index of a table.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Key {
    pub(super) table: i64,
    pub(super) oid: i64,
    pub(super) bare: String,
    pub(super) index: String,
    pub(super) kind: KeyKind,
    pub(super) is_valid: bool,
    /// Columns and expressions.
    pub(super) columns: Vec<String>,
    /// Columns, not quoted; an expression is empty.
    pub(super) attributes: Vec<String>,
    pub(super) definition: String,
    pub(super) body: String,
    pub(super) method: String,
    pub(super) is_constraint: bool,
    pub(super) constraint_definition: Option<String>,
    pub(super) is_deferrable: bool,
    pub(super) is_deferred: bool,
    pub(super) is_temporal: bool,
    pub(super) predicate: Option<String>,
    pub(super) index_comment: Option<String>,
    pub(super) constraint_comment: Option<String>,
    pub(super) is_clustered: bool,
    pub(super) is_replica_identity: bool,
    pub(super) tablespace: Option<String>,
    pub(super) has_statistics: bool,
    pub(super) tenant_fits: bool,
    pub(super) is_random: bool,
    /// Views and functions whose GROUP BY rests on it.
    #[serde(default)]
    pub(super) grouped_by: Vec<String>,
}

/// A foreign key from or to a table of the mapping.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ForeignKey {
    pub(super) table: i64,
    pub(super) table_name: String,
    /// The partitioned table, where it stands on a partition alone.
    pub(super) partition_of: Option<i64>,
    pub(super) referenced: i64,
    pub(super) referenced_name: String,
    pub(super) bare: String,
    /// The unique index that it stands on.
    pub(super) index: i64,
    pub(super) definition: String,
    pub(super) columns: Vec<String>,
    pub(super) referenced_columns: Vec<String>,
    pub(super) is_match_full: bool,
    pub(super) on_update: Option<String>,
    pub(super) on_delete: Option<String>,
    pub(super) set_columns: Vec<String>,
    pub(super) is_deferrable: bool,
    pub(super) is_deferred: bool,
    pub(super) is_validated: bool,
    pub(super) is_unusual: bool,
    pub(super) comment: Option<String>,
    pub(super) has_tenant: bool,
    /// Whether every row refers to one.
    #[serde(default)]
    pub(super) is_required: bool,
    /// What of the application its action runs with each row.
    #[serde(default)]
    pub(super) row_code: Option<String>,
    /// What it runs with the statement alone.
    #[serde(default)]
    pub(super) statement_code: Option<String>,
}

/// A view over tables of the mapping.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) is_invoker: bool,
    pub(super) has_option: bool,
    pub(super) may_alter: bool,
    pub(super) is_open: bool,
    pub(super) is_granted: bool,
    pub(super) schema: String,
    /// Whether tenants may not use its schema.
    pub(super) needs_usage: bool,
    pub(super) tables: Vec<String>,
}

/// A text of the application that names a key.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Mention {
    pub(super) place: String,
    pub(super) text: String,
}

/// A tenant that is there.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tenant {
    pub(super) id: String,
    pub(super) slug: String,
    pub(super) external_key: Option<String>,
}

impl Catalogue {
    /// The table of this oid, if the mapping has it.
    pub(super) fn table(&self, oid: i64) -> Option<&Table> {
        self.tables.iter().find(|table| table.oid == oid)
    }
}

/// Reads all of it.
///
/// # Errors
///
/// A name that is no table, no kit, or what Postgres says.
pub async fn read(client: &Client, mapping: &Mapping) -> Result<Catalogue, Error> {
    // Names are the user's until they are resolved, and in full from then on.
    path(client, "default").await?;
    let names = resolve(client, mapping).await?;
    path(client, "pg_catalog, pg_temp").await?;
    let snapshot = "begin isolation level repeatable read, read only";
    client.batch_execute(snapshot).await.map_err(|e| Error::statement("reading the tables", e))?;
    let read = read_in_snapshot(client, mapping, names).await;
    let ended = client.batch_execute("rollback").await;
    let mut catalogue = read?;
    ended.map_err(|e| Error::statement("reading the tables", e))?;
    let (seen, unread) = statements(client).await;
    catalogue.mentions.extend(seen);
    catalogue.unread = unread;
    Ok(catalogue)
}

async fn path(client: &Client, path: &str) -> Result<(), Error> {
    let set = client.batch_execute(&format!("set search_path to {path}")).await;
    set.map_err(|e| Error::statement("setting the search_path", e))
}

async fn read_in_snapshot(
    client: &Client,
    mapping: &Mapping,
    names: BTreeMap<String, u32>,
) -> Result<Catalogue, Error> {
    let doing = |what: &'static str| move |source| Error::statement(what, source);
    let mut oids: Vec<u32> = names.values().copied().collect();
    let select = include_str!("../../../sql/adopt/select.sql");
    let rows = client.query(select, &[&mapping.schemas]).await;
    oids.extend(rows.map_err(doing("reading the schemas"))?.iter().map(|row| row.get::<_, u32>(0)));
    oids.sort_unstable();
    oids.dedup();
    let skipped: Vec<u32> =
        mapping.skip.iter().filter_map(|name| names.get(name).copied()).collect();
    oids.retain(|oid| !skipped.contains(oid));

    let row =
        client.query_one(FACTS, &[&mapping.column]).await.map_err(doing("asking the server"))?;
    let mut catalogue = Catalogue {
        version: row.get(0),
        database: row.get(1),
        role: row.get(2),
        is_superuser: row.get(3),
        owns_kit: row.get(4),
        column: row.get(5),
        root: root(client, mapping, &names).await?,
        ..Catalogue::default()
    };
    let root = catalogue.root.as_ref();
    let root_oid = root.map_or(0, |root| root.table).to_string();
    let root_column = literal(root.map_or("", |root| &root.bare));
    let list = format!("'{{{}}}'", oids.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
    let (column, type_name) = (literal(&mapping.column), literal(mapping.column_type.as_str()));
    let fill =
        |sql: &str| sql.replace("$1", &list).replace("$2", &column).replace("$3", &type_name);
    let tables = fill(TABLES).replace("$4", &root_oid).replace("$5", &root_column);
    catalogue.tables = all(client, &tables, "reading the tables").await?;
    catalogue.keys = all(client, &fill(KEYS), "reading the keys").await?;
    catalogue.foreign_keys = all(client, &fill(FOREIGN_KEYS), "reading the foreign keys").await?;
    catalogue.views = all(client, &fill(VIEWS), "reading the views").await?;
    catalogue.mentions = all(client, FUNCTIONS, "reading the functions").await?;
    catalogue.tenants = all(client, TENANTS, "reading the tenants").await?;
    catalogue.taken = all(client, &fill(NAMES), "reading the names").await?;
    for (name, oid) in names {
        let known = catalogue.tables.iter().find(|table| table.oid == i64::from(oid));
        let known = known.map_or_else(|| name.clone(), |table| table.name.clone());
        catalogue.names.insert(name, known);
    }
    Ok(catalogue)
}

/// Every row, of one column of JSON.
async fn all<T: DeserializeOwned>(
    client: &Client,
    sql: &str,
    doing: &'static str,
) -> Result<Vec<T>, Error> {
    let answers = client.simple_query(sql).await.map_err(|e| Error::statement(doing, e))?;
    let mut found = Vec::new();
    for answer in answers {
        if let SimpleQueryMessage::Row(row) = answer {
            let text = row.get(0).unwrap_or("null");
            found
                .push(serde_json::from_str(text).map_err(|source| Error::Shape { doing, source })?);
        }
    }
    Ok(found)
}

/// What `pg_stat_statements` has seen in this database, as far as this role may read it; and why that
/// is not all.
async fn statements(client: &Client) -> (Vec<Mention>, Option<&'static str>) {
    let sql = "select n.nspname from pg_catalog.pg_extension e \
               join pg_catalog.pg_namespace n on n.oid = e.extnamespace \
               where e.extname = 'pg_stat_statements'";
    let Ok(Some(row)) = client.query_opt(sql, &[]).await else {
        return (Vec::new(), Some("it is not in this database"));
    };
    let schema: String = row.get(0);
    let sql = STATEMENTS.replace("$1", &super::identifier(&schema));
    match all::<Mention>(client, &sql, "reading pg_stat_statements").await {
        Err(_) => (Vec::new(), Some("it cannot be read: is it in shared_preload_libraries?")),
        Ok(seen) if seen.iter().any(|mention| mention.text == HIDDEN) => {
            (seen, Some("this role may not read others' statements (pg_read_all_stats)"))
        }
        Ok(seen) => (seen, None),
    }
}

/// In place of what a role may not read.
const HIDDEN: &str = "<insufficient privilege>";

const STATEMENTS: &str = "
    select jsonb_build_object(
        'place', format('a statement that ran %s times, %s …,', calls,
            left(regexp_replace(query, '\\s+', ' ', 'g'), 60)),
        'text', query)::text
    from $1.pg_stat_statements s join pg_database d on d.oid = s.dbid
    where d.datname = current_database()
      and (query ~* 'on\\s+conflict' or query = '<insufficient privilege>')
    order by calls desc limit 10000";

const FACTS: &str = "
    select current_setting('server_version_num')::int4, current_database()::text,
        current_user::text, r.rolsuper, pg_has_role(current_user, n.nspowner, 'usage'),
        quote_ident($1::text)
    from pg_roles r, pg_namespace n where r.rolname = current_user and n.nspname = 'cloison'";

const TABLES: &str = include_str!("../../../sql/adopt/tables.sql");
const KEYS: &str = include_str!("../../../sql/adopt/keys.sql");
const FOREIGN_KEYS: &str = include_str!("../../../sql/adopt/foreign_keys.sql");
const NAMES: &str = include_str!("../../../sql/adopt/names.sql");
const VIEWS: &str = include_str!("../../../sql/adopt/views.sql");
const FUNCTIONS: &str = include_str!("../../../sql/adopt/functions.sql");

const TENANTS: &str = "
    select to_jsonb(t)::text from (
        select id::text, slug, external_key from cloison.tenants order by created_at limit 100000
    ) t";
