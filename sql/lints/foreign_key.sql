-- A foreign key between tenants' tables that does not hold the tenant
-- critical, warning
--
-- It is checked past row security: a row of one tenant can refer to another's, which tells that it
-- is there, and keeps its owner from deleting it. It is critical where the key has an action: that
-- comes to the other's rows past row security, and nothing but the kit's guard stops it.
select
    'foreign_key' as name,
    case when k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd')
         then 'critical' else 'warning' end as level,
    t.name as object,
    format('%I refers to %s across tenants%s', k.conname, p.name,
        case when k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd')
             then ', and acts there past row security' else '' end) as detail,
    concat(
        'begin; ',
        case when u.is_there is null
             then format('create unique index on %s (%s, %s); ', p.name, p.tenant_column, r.columns)
             end,
        format('alter table %s drop constraint %I; alter table %s add constraint %I %s; commit;',
            t.name, k.conname, t.name, k.conname,
            regexp_replace(regexp_replace(regexp_replace(pg_get_constraintdef(k.oid),
                'FOREIGN KEY \(', format('FOREIGN KEY (%s, ', t.tenant_column)),
                '(REFERENCES [^(]*)\(', format('\1(%s, ', p.tenant_column)),
                'ON DELETE SET (NULL|DEFAULT)$',
                case when current_setting('server_version_num')::integer >= 150000
                     then format('ON DELETE SET \1 (%s)', o.columns)
                     else 'ON DELETE NO ACTION' end))) as fix,
    format('foreign_key:%s:%I', t.name, k.conname) as key
from
    cloison.registered_tables() t
    join pg_catalog.pg_constraint k on k.conrelid = t.relation and k.contype = 'f'
    join cloison.registered_tables() p on p.relation = k.confrelid,
    lateral (
        select string_agg(quote_ident(a.attname), ', ' order by c.place)
        from unnest(k.confkey) with ordinality c (number, place)
            join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = c.number
    ) r (columns),
    lateral (
        select string_agg(quote_ident(a.attname), ', ' order by c.place)
        from unnest(k.conkey) with ordinality c (number, place)
            join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.number
    ) o (columns),
    lateral (
        select max(1)
        from pg_catalog.pg_index x
        where x.indrelid = k.confrelid and x.indisunique and x.indisvalid and x.indpred is null
          and x.indnkeyatts = cardinality(k.confkey) + 1
          and (x.indkey::smallint[])[0:x.indnkeyatts - 1] @> (p.tenant_attnum || k.confkey)
    ) u (is_there)
where
    t.class = 'tenant'
    and p.class = 'tenant'
    and t.column_type = p.column_type
    and k.conparentid = 0
    and p.part_of is null
    and not exists (
        select
        from unnest(k.conkey, k.confkey) c (mine, theirs)
        where c.mine = t.tenant_attnum and c.theirs = p.tenant_attnum)
