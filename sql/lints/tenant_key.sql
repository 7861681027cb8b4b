-- Tenants that a tenant column does not tell apart
-- critical
--
-- The policies compare the tenant's external_key with the column: 2 and 02 are one number, and under
-- a collation that is not deterministic ACME and acme are one text.
select
    'tenant_key' as name,
    'critical' as level,
    t.name as object,
    format('its column %s has the collation %s, by which different keys can be equal',
        t.tenant_column, a.attcollation::regcollation) as detail,
    format('select cloison.unprotect(%L); alter table %s alter column %s type %s collate "C"; %s',
        t.name, t.name, t.tenant_column, format_type(a.atttypid, a.atttypmod), t.mend) as fix,
    format('tenant_key:%s', t.name) as key
from
    cloison.registered_tables() t
    join pg_catalog.pg_attribute a on a.attrelid = t.relation and a.attnum = t.tenant_attnum
    join pg_catalog.pg_collation c on c.oid = a.attcollation
where
    t.class = 'tenant'
    and t.part_of is null
    and not c.collisdeterministic
union all
select
    'tenant_key', 'critical', k.key,
    format('%s tenants have an external_key that is this number', count(*)),
    null,
    format('tenant_key:number:%s', k.key)
from
    cloison.tenants t,
    lateral (select cloison.canonical_key(t.external_key)) k (key)
where
    k.key is not null
group by k.key
having count(*) > 1
