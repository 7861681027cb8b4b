-- A half-protected table: its tenant column is not as protect() leaves it
-- warning
--
-- Without NOT NULL a row can belong to nobody, and no tenant sees it again; without the default an
-- INSERT of the application has to name the tenant; without the column no policy can hold.
select
    'tenant_column' as name,
    'warning' as level,
    t.name as object,
    format('its column %s %s', t.tenant_column, f.what) as detail,
    t.mend as fix,
    format('tenant_column:%s:%s', t.name, f.code) as key
from
    cloison.registered_tables() t
    join pg_catalog.pg_attribute a on a.attrelid = t.relation and a.attnum = t.tenant_attnum
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum,
    lateral (values
        (not a.attnotnull, 'null', 'may be null: such a row belongs to no tenant'),
        (a.atttypid = t.column_type
            and pg_get_expr(d.adbin, d.adrelid)
                is distinct from cloison.tenant_value(t.column_type),
            'default', 'is not filled with the current tenant'),
        (t.column_type = 'uuid'::regtype and t.part_of is null and not exists (
                select from pg_catalog.pg_constraint k
                where k.conrelid = t.relation and k.contype = 'f'
                  and k.confrelid = 'cloison.tenants'::regclass
                  and k.conkey = array[a.attnum]),
            'reference', 'does not refer to cloison.tenants')
    ) f (yes, code, what)
where
    t.class = 'tenant'
    and f.yes
