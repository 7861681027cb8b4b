//! What a table asks of a row: its columns with values that may do, its constraints, its triggers.

use std::collections::{BTreeMap, BTreeSet};

use postgres_protocol::escape::escape_literal;
use tokio_postgres::error::DbError;

use super::Error;
use super::catalogue::Table;
use super::samples::{self, Kind};
use super::session::Session;

/// A column besides the tenant's. All names are quoted.
#[derive(Debug)]
struct Column {
    name: String,
    /// It takes no null and has no default.
    is_required: bool,
    /// Expressions, the likeliest first. Of a foreign key a row of the tenant's own.
    values: Vec<String>,
    /// The table that a foreign key leads to.
    points_to: Option<String>,
}

/// What a table asks of a row.
#[derive(Debug)]
pub(super) struct Shape {
    columns: Vec<Column>,
    /// The columns that a constraint is about, by its name.
    constraints: BTreeMap<String, Vec<String>>,
    /// An expression that tells a row `made` from all others, if there is a primary key.
    pub(super) key: Option<String>,
    /// A trigger that runs as somebody who may write where the tenant does not see it.
    pub(super) trigger_of_definer: Option<String>,
    /// Code of the application's runs with a row, and may write elsewhere.
    pub(super) has_code: bool,
}

/// A row that is tried: for each column that is given, which of its values.
#[derive(Debug)]
pub(super) struct Draft {
    given: BTreeMap<usize, usize>,
}

/// What can be done about a row that was refused.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The draft is another one now.
    Made,
    /// Nothing: there are no other values, or values do not matter.
    Impossible,
    /// The refusal does not say which columns it is about.
    Unknown,
}

impl Shape {
    pub(super) async fn of(operator: &Session, table: &Table) -> Result<Self, Error> {
        let doing = "read what a table asks of a row";
        let unreadable = |error| Error::statement("operator", doing, &error);
        let mut columns = Vec::new();
        for row in &operator.query(doing, COLUMNS, &[&table.relation, &table.column]).await? {
            let type_name: String = row.try_get(1).map_err(unreadable)?;
            let fields: i64 = row.try_get(7).map_err(unreadable)?;
            let kind = Kind {
                name: row.try_get(3).map_err(unreadable)?,
                category: row.try_get(4).map_err(unreadable)?,
                modifier: row.try_get(5).map_err(unreadable)?,
                labels: row.try_get(6).map_err(unreadable)?,
                fields: usize::try_from(fields).unwrap_or_default(),
                definitions: row.try_get(8).map_err(unreadable)?,
            };
            let pointer: Option<String> = row.try_get(9).map_err(unreadable)?;
            let literal = |value: &String| format!("{}::{type_name}", escape_literal(value));
            columns.push(Column {
                name: row.try_get(0).map_err(unreadable)?,
                is_required: row.try_get(2).map_err(unreadable)?,
                values: match pointer {
                    Some(pointer) => vec![pointer],
                    None => samples::values(&kind).iter().map(literal).collect(),
                },
                points_to: row.try_get(10).map_err(unreadable)?,
            });
        }
        let mut constraints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in &operator.query(doing, CONSTRAINTS, &[&table.relation]).await? {
            let of = constraints.entry(row.try_get(0).map_err(unreadable)?).or_default();
            of.extend(row.try_get::<_, Vec<String>>(1).map_err(unreadable)?);
        }
        let rows = operator.query(doing, CODE, &[&table.relation]).await?;
        let row = rows.first().ok_or_else(|| Error::NoTables)?;
        Ok(Self {
            columns,
            constraints,
            key: row.try_get(0).map_err(unreadable)?,
            trigger_of_definer: row.try_get(1).map_err(unreadable)?,
            has_code: row.try_get(2).map_err(unreadable)?,
        })
    }

    /// Leaves out values that the columns' types do not take, checks of domains included.
    pub(super) async fn sift(&mut self, session: &Session) {
        for column in self.columns.iter_mut().filter(|column| column.values.len() > 1) {
            let mut kept = Vec::new();
            for value in std::mem::take(&mut column.values) {
                if session.client().query(&format!("select {value}"), &[]).await.is_ok() {
                    kept.push(value);
                }
            }
            column.values = kept;
        }
    }

    /// What a refusal means for who reads the report, beyond what it says.
    pub(super) fn explain(&self, refusal: &DbError) -> Option<String> {
        let name = refusal.column()?;
        let column = self.columns.iter().find(|c| c.name.trim_matches('"') == name)?;
        let table = column.points_to.as_ref()?;
        Some(format!("the tenant has no row in {table} for {name} to point to"))
    }
}

impl Draft {
    /// The columns that have to be given, with their first values.
    pub(super) fn new(shape: &Shape) -> Self {
        let columns = shape.columns.iter().enumerate();
        let given = columns.filter(|(_, column)| column.is_required).map(|(n, _)| (n, 0)).collect();
        Self { given }
    }

    /// An INSERT of the row; the tenant comes from the column's default.
    pub(super) fn sql(&self, shape: &Shape, table: &Table) -> String {
        let given = self.given.iter().filter_map(|(column, value)| {
            let column = shape.columns.get(*column)?;
            let value = column.values.get(*value).map_or("null", String::as_str);
            Some((format!(", {}", column.name), format!(", {value}")))
        });
        let (names, values): (String, String) = given.unzip();
        let Table { name, column, .. } = table;
        format!("insert into {name} ({column}{names}) values (default{values})")
    }

    /// Answers a refusal with other values, or with a column more.
    pub(super) fn change(&mut self, shape: &Shape, refusal: &DbError) -> Change {
        let class = refusal.code().code().get(..2).unwrap_or_default();
        if !matches!(class, "22" | "23") {
            return Change::Impossible;
        }
        let named: BTreeSet<&str> = if let Some(column) = refusal.column() {
            let quoted = format!("\"{}\"", column.replace('"', "\"\""));
            let columns = shape.columns.iter().map(|column| column.name.as_str());
            columns.filter(|name| *name == column || *name == quoted).collect()
        } else {
            // No name: no partition takes the row.
            let constraint = refusal.constraint().unwrap_or_default();
            let columns = shape.constraints.get(constraint).into_iter().flatten();
            columns.map(String::as_str).collect()
        };
        let of_name = |name: &&str| shape.columns.iter().position(|c| c.name == *name);
        let concerned: Vec<usize> = named.iter().filter_map(of_name).collect();
        match concerned.is_empty() {
            true => Change::Unknown,
            false if self.change_some(shape, &concerned) => Change::Made,
            false => Change::Impossible,
        }
    }

    /// Every column takes its next value, as far as it has one. Whether any had.
    pub(super) fn change_all(&mut self, shape: &Shape) -> bool {
        let mut has_changed = false;
        for (column, value) in &mut self.given {
            let count = shape.columns.get(*column).map_or(0, |column| column.values.len());
            if *value + 1 < count {
                *value += 1;
                has_changed = true;
            }
        }
        has_changed
    }

    /// The next combination of values of these columns.
    fn change_some(&mut self, shape: &Shape, concerned: &[usize]) -> bool {
        let missing: Vec<usize> =
            concerned.iter().copied().filter(|column| !self.given.contains_key(column)).collect();
        if !missing.is_empty() {
            self.given.extend(missing.into_iter().map(|column| (column, 0)));
            return true;
        }
        for column in concerned {
            let count = shape.columns.get(*column).map_or(0, |column| column.values.len());
            let value = self.given.entry(*column).or_default();
            if *value + 1 < count {
                *value += 1;
                return true;
            }
            *value = 0;
        }
        false
    }
}

/// Of a foreign key all columns point to the same row. One that leads to the table itself has other
/// values where it holds the tenant: there, a row may point to itself.
const COLUMNS: &str = "
    with recursive tree as (
        select $1::oid as relation
        union
        select i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.relation
    ), chain as (
        select a.attnum, a.atttypid as type, a.atttypmod as modifier, 0 as depth
        from pg_catalog.pg_attribute a
        where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
          and a.attgenerated = '' and a.attidentity <> 'a'
        union all
        select c.attnum, d.typbasetype, d.typtypmod, c.depth + 1
        from chain c join pg_catalog.pg_type d on d.oid = c.type and d.typtype = 'd'
    ), base as (
        select distinct on (c.attnum) c.attnum, c.type, c.modifier
        from chain c order by c.attnum, c.depth desc
    ), pointer as (
        select distinct on (c.own) c.own, p.attname, k.confrelid::regclass as relation
        from pg_catalog.pg_constraint k
            cross join lateral unnest(k.conkey, k.confkey) c (own, foreign_one)
            join pg_catalog.pg_attribute p
                on p.attrelid = k.confrelid and p.attnum = c.foreign_one
        where k.contype = 'f' and k.conrelid = $1::oid
          and (k.confrelid <> k.conrelid or not exists (
              select from pg_catalog.pg_attribute t
              where t.attrelid = k.conrelid and t.attnum = any (k.conkey)
                and pg_catalog.quote_ident(t.attname) = $2::text))
        order by c.own, k.conname
    )
    select
        pg_catalog.quote_ident(a.attname),
        pg_catalog.format_type(a.atttypid, a.atttypmod),
        not a.atthasdef and a.attidentity = ''
            and (a.attnotnull or exists (
                select from chain c join pg_catalog.pg_type d on d.oid = c.type
                where c.attnum = a.attnum and d.typnotnull))
            and not exists (
                select from chain c join pg_catalog.pg_type d on d.oid = c.type
                where c.attnum = a.attnum and d.typdefault is not null),
        t.typname::text,
        t.typcategory::text,
        b.modifier,
        array(select e.enumlabel::text from pg_catalog.pg_enum e
              where e.enumtypid = t.oid order by e.enumsortorder),
        (select pg_catalog.count(*) from pg_catalog.pg_attribute f
         where f.attrelid = t.typrelid and f.attnum > 0 and not f.attisdropped),
        array(select pg_catalog.pg_get_constraintdef(k.oid) from pg_catalog.pg_constraint k
              where k.contype = 'c'
                and (k.conrelid = a.attrelid and a.attnum = any (k.conkey)
                     or k.contypid in (select c.type from chain c where c.attnum = a.attnum))
              order by k.conname)
            || array(select pg_catalog.pg_get_expr(p.relpartbound, p.oid)
                     from tree r
                         join pg_catalog.pg_class p on p.oid = r.relation
                         join pg_catalog.pg_inherits i on i.inhrelid = p.oid
                         join pg_catalog.pg_partitioned_table w on w.partrelid = i.inhparent
                         join pg_catalog.pg_attribute k
                             on k.attrelid = w.partrelid and k.attnum = any (w.partattrs)
                     where p.relpartbound is not null and k.attname = a.attname
                     order by p.oid desc limit 12),
        (select pg_catalog.format('(select f.%I from %s f order by f.tableoid, f.ctid limit 1)',
                p.attname, p.relation)
         from pointer p where p.own = a.attnum),
        (select p.relation::text from pointer p where p.own = a.attnum)
    from
        base b
        join pg_catalog.pg_attribute a on a.attrelid = $1::oid and a.attnum = b.attnum
        join pg_catalog.pg_type t on t.oid = b.type
    where
        pg_catalog.quote_ident(a.attname) <> $2::text
    order by
        a.attnum";

/// The columns of table constraints, of keys, of the checks of domains, and, without a name, of what
/// chooses a partition.
const CONSTRAINTS: &str = "
    with recursive tree as (
        select $1::oid as relation
        union
        select i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.relation
    )
    select k.conname::text, array(
        select pg_catalog.quote_ident(a.attname) from pg_catalog.pg_attribute a
        where a.attrelid = k.conrelid and a.attnum = any (k.conkey))
    from tree t join pg_catalog.pg_constraint k on k.conrelid = t.relation
    where k.contype in ('c', 'f')
    union all
    select i.relname::text, array(
        select pg_catalog.quote_ident(a.attname) from pg_catalog.pg_attribute a
        where a.attrelid = x.indrelid and a.attnum > 0
          and (a.attnum = any (x.indkey) or exists (
              select from pg_catalog.pg_depend d
              where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = x.indexrelid
                and d.refobjid = x.indrelid and d.refobjsubid = a.attnum)))
    from tree t
        join pg_catalog.pg_index x on x.indrelid = t.relation
        join pg_catalog.pg_class i on i.oid = x.indexrelid
    where x.indisunique or x.indisexclusion
    union all
    select k.conname::text, array[pg_catalog.quote_ident(a.attname)]
    from pg_catalog.pg_attribute a
        join pg_catalog.pg_constraint k on k.contypid = a.atttypid
    where a.attrelid = $1::oid and k.contypid <> 0 and not a.attisdropped
    union all
    select '', array(
        select pg_catalog.quote_ident(a.attname) from pg_catalog.pg_attribute a
        where a.attrelid = w.partrelid and a.attnum = any (w.partattrs))
    from tree t join pg_catalog.pg_partitioned_table w on w.partrelid = t.relation";

/// The key, and what runs with a row of the table: triggers that are not the kit's, and rules.
const CODE: &str = "
    with recursive tree as (
        select $1::oid as relation
        union
        select i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.relation
    ), code as (
        select t.tgname, p.prosecdef
        from tree r
            join pg_catalog.pg_trigger t on t.tgrelid = r.relation
            join pg_catalog.pg_proc p on p.oid = t.tgfoid
        where not t.tgisinternal and t.tgtype & 12 <> 0
          and p.pronamespace <> 'cloison'::regnamespace
    )
    select
        (select pg_catalog.format('pg_catalog.jsonb_build_object(%s)',
                pg_catalog.string_agg(pg_catalog.format('%L, made.%I', a.attname, a.attname), ', '))
         from pg_catalog.pg_index x
             join pg_catalog.pg_attribute a
                 on a.attrelid = x.indrelid and a.attnum = any (x.indkey)
         where x.indrelid = $1::oid and x.indisprimary
         having pg_catalog.count(*) > 0),
        (select c.tgname::text from code c where c.prosecdef order by 1 limit 1),
        exists (select from code) or exists (
            select from pg_catalog.pg_rewrite w where w.ev_class = $1::oid)";
