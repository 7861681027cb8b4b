//! Views and materialized views over protected tables that the tenant may read.

use postgres_protocol::escape::escape_literal;

use super::{Foray, attack, by_error, taken_back};
use crate::kit::verify::Error;
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Lost, Wire};

/// A view, and its column that names the tenant, if it shows one.
struct View {
    name: String,
    column: Option<(String, String)>,
}

pub(super) async fn all(foray: &mut Foray<'_>) -> Result<(), Error> {
    let doing = "list the views that tenants may read";
    let unreadable = |error| Error::statement("operator", doing, &error);
    let mut views = Vec::new();
    for row in &foray.operator.query(doing, VIEWS, &[&foray.own.login]).await? {
        let column: Option<String> = row.try_get(1).map_err(unreadable)?;
        let kind: Option<String> = row.try_get(2).map_err(unreadable)?;
        views.push(View { name: row.try_get(0).map_err(unreadable)?, column: column.zip(kind) });
    }
    for view in views {
        let verdict = look(foray, &view).await;
        foray.put(&VIEW, view.name, verdict);
    }
    Ok(())
}

/// Rows that name another tenant have crossed. A view that names none shows what it should not if
/// it shows the same rows to a session without a tenant.
async fn look(foray: &Foray<'_>, view: &View) -> Result<Verdict, Lost> {
    let View { name, column } = view;
    let remedy = format!(
        "alter view {name} set (security_invoker = on), on Postgres 15 and newer; otherwise, and \
         for a materialized view: revoke select on {name} from public, cloison_tenant"
    );
    let mut wire = Wire::open(foray.road).await?;
    if let Some((column, kind)) = column
        && let Some(own) =
            if kind == "uuid" { Some(&foray.own.id) } else { foray.own.external_key.as_ref() }
    {
        let own = escape_literal(own);
        let sql =
            format!("select count(*) from {name} where {column} is distinct from {own}::{kind}");
        let answer = taken_back(&mut wire, &sql).await?;
        if let Some(rows @ 1..) = answer.number() {
            wire.close().await;
            return Ok(Verdict::failed(format!("{rows} rows of others are visible"), remedy));
        }
    }
    let content = format!(
        "select count(*) || ' ' || pg_catalog.md5(coalesce(pg_catalog.string_agg(v::pg_catalog.text, \
         '|' order by v::pg_catalog.text), '')) from {name} v"
    );
    let with = taken_back(&mut wire, &content).await?;
    let nobody = "select pg_catalog.set_config('cloison.context', '', true)";
    let without = taken_back(&mut wire, &format!("{nobody}; {content}")).await?;
    wire.close().await;
    let Some(own) = with.value() else {
        return Ok(by_error(&with, || Verdict::skipped("there was no answer")));
    };
    if without.error().is_none() && without.value() == Some(own) && !own.starts_with("0 ") {
        let seen = "it shows the same rows to a tenant and to nobody";
        return Ok(Verdict::failed(seen, remedy));
    }
    if own.starts_with("0 ") {
        return Ok(Verdict::skipped("the tenant sees no row in it"));
    }
    Ok(by_error(&without, || Verdict::by(Layer::Policy)))
}

static VIEW: Attack = attack(
    "view",
    Section::Around,
    Owasp::Database,
    "a view over protected tables shows the reader's rows only",
);

/// Views above protected tables, however many others are in between, that the role may read.
const VIEWS: &str = "
    with recursive above as (
        select p.relation::pg_catalog.oid as base, p.relation::pg_catalog.oid as relation
        from cloison.protected_tables p
        where p.class = 'tenant'
        union
        select a.base, r.ev_class
        from
            above a
            join pg_catalog.pg_depend d
                on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                and d.refobjid = a.relation
                and d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            join pg_catalog.pg_rewrite r
                on r.oid = d.objid
        where r.ev_class <> a.relation
    )
    select distinct on (1)
        pg_catalog.format('%I.%I', n.nspname, c.relname),
        pg_catalog.quote_ident(t.attname),
        pg_catalog.format_type(t.atttypid, null)
    from
        above a
        join pg_catalog.pg_class c
            on c.oid = a.relation and c.relkind in ('v', 'm')
        join pg_catalog.pg_namespace n
            on n.oid = c.relnamespace and n.nspname <> 'cloison'
        join cloison.protected_tables p
            on p.relation = a.base
        left join pg_catalog.pg_attribute t
            on t.attrelid = c.oid and t.attname = p.tenant_column
            and t.atttypid = p.column_type::pg_catalog.oid
    where
        pg_catalog.has_schema_privilege($1::text::name, n.oid, 'usage')
        and pg_catalog.has_any_column_privilege($1::text::name, c.oid, 'select')
    order by 1, 2 nulls last";
