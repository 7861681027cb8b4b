//! Actions of foreign keys, which Postgres runs past row security: they may come neither to another
//! tenant's rows nor to code of the application.

use postgres_protocol::escape::escape_literal;

use super::{Foray, attack, by_error, taken_back};
use crate::kit::verify::Error;
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::session::Session;
use crate::kit::verify::wire::{Lost, Wire};

/// A foreign key with an action, to a table whose rows tenants may delete.
struct Action {
    child: String,
    parent: String,
    key: String,
    columns: Vec<String>,
    referenced: Vec<String>,
    /// Of the child's guards, whether there are all.
    is_guarded: bool,
    /// What the action would run, where no guard stands.
    code: Option<String>,
    parent_column: String,
    child_column: Option<String>,
}

pub(super) async fn all(foray: &mut Foray<'_>) -> Result<(), Error> {
    for action in &actions(foray.operator).await? {
        let verdict = probe(foray, action).await;
        foray.put(&ACTION, format!("{} key {}", action.child, action.key), verdict);
    }
    Ok(())
}

async fn actions(operator: &Session) -> Result<Vec<Action>, Error> {
    let doing = "list the actions of foreign keys";
    let unreadable = |error| Error::statement("operator", doing, &error);
    let mut actions = Vec::new();
    for row in &operator.query(doing, ACTIONS, &[]).await? {
        actions.push(Action {
            child: row.try_get(0).map_err(unreadable)?,
            parent: row.try_get(1).map_err(unreadable)?,
            key: row.try_get(2).map_err(unreadable)?,
            columns: row.try_get(3).map_err(unreadable)?,
            referenced: row.try_get(4).map_err(unreadable)?,
            is_guarded: row.try_get(5).map_err(unreadable)?,
            code: row.try_get(6).map_err(unreadable)?,
            parent_column: row.try_get(7).map_err(unreadable)?,
            child_column: row.try_get(8).map_err(unreadable)?,
        });
    }
    Ok(actions)
}

/// Deletes a row of the tenant's own that a row of another one refers to, if there is such a row.
async fn probe(foray: &Foray<'_>, action: &Action) -> Result<Verdict, Lost> {
    let Action { child, parent, key, .. } = action;
    let lint = "`cloison lint` names what is missing, with the SQL that makes it";
    if let Some(code) = &action.code {
        let seen = format!("the action of {key} runs {code} of {child} past row security");
        return Ok(Verdict::failed(seen, lint));
    }
    if action.child_column.is_some() && !action.is_guarded {
        let seen = format!("nothing keeps the action of {key} to the tenant's rows of {child}");
        return Ok(Verdict::failed(seen, lint));
    }
    let Some(condition) = crossing(foray, action).await else {
        return Ok(Verdict::by(Layer::Guard));
    };
    let mut wire = Wire::open(foray.road).await?;
    let answer = taken_back(&mut wire, &format!("delete from {parent} where {condition}")).await?;
    wire.close().await;
    if answer.reached("DELETE") > 0 && answer.error().is_none() {
        let seen = format!("deleting a row of {parent} comes to another tenant's row of {child}");
        return Ok(Verdict::failed(seen, format!("select cloison.protect('{child}')")));
    }
    let is_guard = answer.error().is_some_and(|error| error.code() == "42501");
    Ok(if is_guard { Verdict::by(Layer::Guard) } else { by_error(&answer, || Verdict::HELD) })
}

/// A condition for one row of the tenant's own that another tenant's row refers to.
async fn crossing(foray: &Foray<'_>, action: &Action) -> Option<String> {
    let Action { child, parent, columns, referenced, .. } = action;
    let table = foray.tables.iter().map(|(table, _)| table).find(|t| t.name == *parent)?;
    let own = table.value(foray.own)?;
    let child_column = action.child_column.as_ref()?;
    let pairs = columns.iter().zip(referenced);
    let pairs: Vec<String> = pairs.map(|(mine, theirs)| format!("c.{mine} = p.{theirs}")).collect();
    let texts: Vec<String> =
        referenced.iter().map(|column| format!("p.{column}::pg_catalog.text")).collect();
    let sql = format!(
        "select array[{}] from {parent} p join {child} c on {} where p.{} = {} \
         and c.{child_column}::pg_catalog.text <> p.{}::pg_catalog.text limit 1",
        texts.join(", "),
        pairs.join(" and "),
        action.parent_column,
        table.parameter(1),
        action.parent_column,
    );
    let rows = foray.operator.query("look for rows across tenants", &sql, &[&own]).await.ok()?;
    let values: Vec<String> = rows.first()?.try_get(0).ok()?;
    let same = referenced.iter().zip(&values);
    let same: Vec<String> =
        same.map(|(column, value)| format!("{column} = {}", escape_literal(value))).collect();
    Some(same.join(" and "))
}

static ACTION: Attack = attack(
    "action",
    Section::Around,
    Owasp::Access,
    "a foreign key's action comes to no other tenant's rows",
);

/// Foreign keys with an action to tables of tenants.
const ACTIONS: &str = "
    select
        pg_catalog.format('%I.%I', cn.nspname, c.relname),
        pg_catalog.format('%I.%I', pn.nspname, p.relname),
        pg_catalog.quote_ident(k.conname),
        array(select pg_catalog.quote_ident(a.attname)
              from pg_catalog.unnest(k.conkey) with ordinality n (number, place)
              join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = n.number
              order by n.place),
        array(select pg_catalog.quote_ident(a.attname)
              from pg_catalog.unnest(k.confkey) with ordinality n (number, place)
              join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = n.number
              order by n.place),
        not exists (
            select from cloison.guard_findings() g
            where g.relation = c.oid and g.level = 'critical'),
        case when o.class is distinct from 'tenant' then coalesce(
            case when k.confdeltype = 'c' then cloison.action_code(c.oid, 'DELETE', 'ROW') end,
            case when k.confdeltype in ('n', 'd') or k.confupdtype in ('c', 'n', 'd')
                 then cloison.action_code(c.oid, 'UPDATE', 'ROW') end,
            cloison.action_code(c.oid, 'DELETE', 'STATEMENT'),
            cloison.action_code(c.oid, 'UPDATE', 'STATEMENT')) end,
        pg_catalog.quote_ident(t.tenant_column),
        case when o.class = 'tenant' then pg_catalog.quote_ident(o.tenant_column) end
    from
        pg_catalog.pg_constraint k
        join cloison.protected_tables t on t.relation = k.confrelid and t.class = 'tenant'
        join pg_catalog.pg_class p on p.oid = k.confrelid
        join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
        join pg_catalog.pg_class c on c.oid = k.conrelid
        join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace
        left join cloison.protected_tables o on o.relation = k.conrelid
    where
        k.contype = 'f' and k.conparentid = 0
        and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'))
    order by 1, 3";
