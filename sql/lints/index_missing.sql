-- A tenant's table without an index that leads with the tenant
-- warning
--
-- Every statement of a tenant then reads all tenants' rows, and throws the others away: its time
-- tells how many there are.
select
    'index_missing' as name,
    'warning' as level,
    t.name as object,
    format('no index leads with %s', t.tenant_column) as detail,
    format('create index on %s (%s);', t.name, t.tenant_column) as fix,
    format('index_missing:%s', t.name) as key
from
    cloison.registered_tables() t
where
    t.class = 'tenant'
    and t.tenant_attnum is not null
    and not exists (
        select
        from pg_catalog.pg_index i
        where i.indrelid = t.relation and i.indisvalid and i.indpred is null
          and i.indkey[0] = t.tenant_attnum)
