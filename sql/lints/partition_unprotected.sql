-- A partition or child of a protected table that is not protected itself
-- critical, warning
--
-- Through its parent the parent's policies hold; named directly it has none. It is critical where
-- tenants have a privilege on it.
select
    'partition_unprotected' as name,
    case when r.relation is null then 'warning' else 'critical' end as level,
    format('%I.%I', n.nspname, c.relname) as object,
    format('it belongs to %s, whose policies do not hold for who names it directly; %s', p.name,
        case when r.relation is null then 'tenants have no privilege on it'
             else format('tenants have %s on it', array_to_string(r.privileges, ', ')) end)
        as detail,
    p.mend as fix,
    format('partition_unprotected:%I.%I', n.nspname, c.relname) as key
from
    cloison.registered_tables() p
    join pg_catalog.pg_inherits i on i.inhparent = p.relation
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join cloison.tenant_relations() r on r.relation = c.oid
where
    not exists (select from cloison.protected_tables x where x.relation = c.oid)
