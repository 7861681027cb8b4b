-- A table that is not protected
-- critical, warning
--
-- It is critical where a tenant's session can reach it: then every tenant sees every row. The
-- others stand in a schema beside protected tables, one GRANT away from that.
select
    'table_unprotected' as name,
    case when r.relation is null then 'warning' else 'critical' end as level,
    format('%I.%I', n.nspname, c.relname) as object,
    case when r.relation is null
         then 'tenants have no privilege on it yet; it stands beside protected tables'
         else format('tenants have %s on it', array_to_string(r.privileges, ', '))
    end || case when exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
        then '' else '. It has no column tenant_id, which will be made; for a table of all tenants '
            'say ''shared'' as second argument, for one of none ''global'''
    end as detail,
    format('select cloison.protect(%L);', c.oid::regclass) as fix,
    format('table_unprotected:%I.%I', n.nspname, c.relname) as key
from
    pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join cloison.tenant_relations() r on r.relation = c.oid
where
    c.relkind in ('r', 'p')
    and c.relpersistence <> 't'
    and n.nspname not like 'pg\_%'
    and n.nspname not in ('information_schema', 'cloison')
    and not exists (select from cloison.protected_tables p where p.relation = c.oid)
    -- Those are partition_unprotected.
    and not exists (
        select
        from pg_catalog.pg_inherits i join cloison.protected_tables p on p.relation = i.inhparent
        where i.inhrelid = c.oid)
    and not exists (
        select
        from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    and (r.relation is not null
         or exists (
             select
             from cloison.protected_tables p join pg_catalog.pg_class k on k.oid = p.relation
             where k.relnamespace = c.relnamespace))
