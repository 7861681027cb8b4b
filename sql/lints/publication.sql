-- A publication that carries a protected table
-- warning
--
-- Who subscribes gets every tenant's rows, into tables that have other policies or none.
select
    'publication' as name,
    'warning' as level,
    quote_ident(p.pubname) as object,
    format('it carries %s of all tenants%s', t.name,
        case when p.puballtables then ', and every other table' end) as detail,
    case
        when p.puballtables then format('drop publication %I;', p.pubname)
        when exists (select from pg_catalog.pg_publication_rel r
                     where r.prpubid = p.oid and r.prrelid = t.relation)
        then format('alter publication %I drop table %s;', p.pubname, t.name)
        when exists (select from pg_catalog.pg_publication_rel r
                     where r.prpubid = p.oid and r.prrelid = t.part_of)
        then format('alter publication %I drop table %s;', p.pubname, t.part_of::regclass)
        else format('alter publication %I drop tables in schema %I;', p.pubname, n.nspname)
    end as fix,
    format('publication:%I:%s', p.pubname, t.name) as key
from
    pg_catalog.pg_publication p,
    lateral pg_get_publication_tables(p.pubname::text) g
        join cloison.registered_tables() t on t.relation = g.relid
        join pg_catalog.pg_class c on c.oid = t.relation
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
