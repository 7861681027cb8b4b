//! Keys as oracles: an error, or none, that tells of another tenant's value.

use postgres_protocol::escape::escape_literal;

use super::{Foray, NO_PREY, attack, by_error, taken_back};
use crate::kit::verify::Error;
use crate::kit::verify::catalogue::{Class, Table};
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::session::Session;
use crate::kit::verify::wire::{Lost, Wire};

struct Key {
    /// The constraint's or the index's name.
    name: String,
    /// As in `pg_constraint.contype`: p, u, f, x.
    kind: String,
    columns: Vec<String>,
    holds_tenant: bool,
    /// All of its parts are columns, and all of them can be written.
    is_plain: bool,
}

pub(super) async fn all(foray: &mut Foray<'_>) -> Result<(), Error> {
    for (table, _) in foray.tables.iter().filter(|(table, _)| table.class == Class::Tenant) {
        let keys = keys(foray.operator, table).await?;
        for key in &keys {
            let subject = format!("{} key {}", table.name, key.name);
            let verdict = probe(foray, table, key, &keys).await;
            foray.put(&KEY, subject, verdict);
        }
    }
    Ok(())
}

async fn keys(operator: &Session, table: &Table) -> Result<Vec<Key>, Error> {
    let doing = "list the keys of a table";
    let unreadable = |error| Error::statement("operator", doing, &error);
    let mut keys = Vec::new();
    for row in &operator.query(doing, KEYS, &[&table.relation]).await? {
        keys.push(Key {
            name: row.try_get(0).map_err(unreadable)?,
            kind: row.try_get(1).map_err(unreadable)?,
            columns: row.try_get(2).map_err(unreadable)?,
            holds_tenant: row.try_get(3).map_err(unreadable)?,
            is_plain: row.try_get(4).map_err(unreadable)?,
        });
    }
    Ok(keys)
}

/// Gives a row of the tenant's own the values that the other has in the key.
async fn probe(foray: &Foray<'_>, table: &Table, key: &Key, keys: &[Key]) -> Result<Verdict, Lost> {
    let Key { name, columns, .. } = key;
    if key.holds_tenant {
        return Ok(Verdict::by(Layer::Key));
    }
    if !key.is_plain {
        return Ok(Verdict::skipped("the key holds an expression or a generated column"));
    }
    let (Some(own), Some(other)) = (table.value(foray.own), table.value(foray.other)) else {
        return Ok(Verdict::skipped("a tenant has no external key"));
    };
    let Some(values) = values_of(foray.operator, table, columns, other).await else {
        return Ok(Verdict::skipped(NO_PREY));
    };
    let set = columns.iter().zip(&values);
    let set: Vec<String> =
        set.map(|(column, value)| format!("{column} = {}", escape_literal(value))).collect();
    let Table { name: table_name, column, column_type, .. } = table;
    let own = escape_literal(own);
    let sql = format!(
        "set constraints all immediate; update {table_name} set {} where (tableoid, ctid) = \
         (select tableoid, ctid from {table_name} where {column} = {own}::{column_type} limit 1)",
        set.join(", "),
    );
    let mut wire = Wire::open(foray.road).await?;
    let answer = taken_back(&mut wire, &sql).await?;
    wire.close().await;
    let remedy = format!("make the key lead with {column}: alter table {table_name} …");
    // Another key of the same columns may speak first; one that holds the tenant speaks of own rows.
    let speaking = answer.error().filter(|error| matches!(error.code(), "23505" | "23P01"));
    let speaking = speaking.map(|error| error.field(b'n'));
    let speaking =
        speaking.filter(|name| !keys.iter().any(|key| key.holds_tenant && key.name == *name));
    Ok(if let Some(name) = speaking {
        Verdict::open(format!("{name} tells that another tenant has the value"), remedy)
    } else if key.kind == "f" && answer.reached("UPDATE") > 0 {
        let seen = format!(
            "a row may point through {name} to another tenant's row: it tells that this row \
             exists, and keeps its tenant from deleting it"
        );
        Verdict::open(seen, remedy)
    } else if answer.error().is_none() && answer.reached("UPDATE") == 0 {
        Verdict::skipped("the tenant has no row of its own to try it with")
    } else if answer.error().is_none() {
        Verdict::HELD
    } else {
        by_error(&answer, || Verdict::HELD)
    })
}

/// What a row of the other tenant has in these columns.
async fn values_of(
    operator: &Session,
    table: &Table,
    columns: &[String],
    other: &str,
) -> Option<Vec<String>> {
    let texts: Vec<String> =
        columns.iter().map(|column| format!("{column}::pg_catalog.text")).collect();
    let given: Vec<String> = columns.iter().map(|column| format!("{column} is not null")).collect();
    let sql = format!(
        "select array[{}] from {} where {} = {} and {} limit 1",
        texts.join(", "),
        table.name,
        table.column,
        table.parameter(1),
        given.join(" and "),
    );
    let rows = operator.query("read a row of a tenant", &sql, &[&other]).await.ok()?;
    rows.first()?.try_get(0).ok()
}

static KEY: Attack = attack(
    "key",
    Section::Around,
    Owasp::Access,
    "a key does not tell whether another tenant has a value",
);

/// Keys of a table, and its foreign keys to tables of tenants.
const KEYS: &str = "
    with keys as (
        select
            c.conname as name, c.contype::text as kind, c.conkey as columns, c.conrelid as relation
        from pg_catalog.pg_constraint c
        where
            c.conrelid = $1::pg_catalog.oid
            and (c.contype in ('p', 'u', 'x') or c.contype = 'f' and exists (
                select from cloison.protected_tables p
                where p.relation = c.confrelid and p.class = 'tenant'))
        union all
        select i.relname, 'u', (x.indkey::int2[])[0:x.indnkeyatts - 1], x.indrelid
        from
            pg_catalog.pg_index x
            join pg_catalog.pg_class i
                on i.oid = x.indexrelid
        where
            x.indrelid = $1::pg_catalog.oid and x.indisunique
            and not exists (
                select from pg_catalog.pg_constraint c where c.conindid = x.indexrelid
                    and c.conrelid = x.indrelid and c.contype in ('p', 'u', 'x'))
    )
    select
        k.name::text,
        k.kind,
        array(select pg_catalog.quote_ident(a.attname)
              from pg_catalog.unnest(k.columns) with ordinality as n (number, place)
              join pg_catalog.pg_attribute a on a.attrelid = k.relation and a.attnum = n.number
              order by n.place),
        exists (select from cloison.protected_tables p
                join pg_catalog.pg_attribute a
                    on a.attrelid = p.relation and a.attname = p.tenant_column
                where p.relation = k.relation and a.attnum = any (k.columns)),
        not exists (select from pg_catalog.unnest(k.columns) as n (number)
                left join pg_catalog.pg_attribute a
                    on a.attrelid = k.relation and a.attnum = n.number
                where n.number = 0 or a.attgenerated <> '' or a.attidentity = 'a')
    from keys k
    order by 1";
