-- An exclusion constraint that does not lead with the tenant
-- warning
--
-- It holds across tenants: its error tells one of them of another's overlap.
select
    'exclusion_constraint' as name,
    'warning' as level,
    t.name as object,
    format('%I holds across tenants, and its error tells of theirs', k.conname) as detail,
    concat(
        'begin; ',
        -- Plain types have gist operators there.
        case when m.amname = 'gist' then 'create extension if not exists btree_gist; ' end,
        format('alter table %s drop constraint %I; alter table %s add constraint %I %s; commit;',
            t.name, k.conname, t.name, k.conname,
            regexp_replace(pg_get_constraintdef(k.oid), 'USING (\w+) \(',
                format('USING \1 (%s WITH =, ', t.tenant_column)))) as fix,
    format('exclusion_constraint:%s:%I', t.name, k.conname) as key
from
    cloison.registered_tables() t
    join pg_catalog.pg_constraint k on k.conrelid = t.relation and k.contype = 'x'
    join pg_catalog.pg_class i on i.oid = k.conindid
    join pg_catalog.pg_am m on m.oid = i.relam
where
    t.class = 'tenant'
    and t.part_of is null
    and k.conkey[1] <> t.tenant_attnum
