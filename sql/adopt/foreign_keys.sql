-- Foreign keys from and to tables ($1). $2 is the tenant column.
select to_jsonb(f)::text
from (
    select
        k.conrelid::bigint as "table",
        k.conrelid::regclass::text as table_name,
        (
            select pg_partition_root(c.oid)::bigint
            from pg_class c
            where c.oid = k.conrelid and c.relispartition
        ) as partition_of,
        k.confrelid::bigint as referenced,
        k.confrelid::regclass::text as referenced_name,
        k.conname as bare,
        k.conindid::bigint as index,
        pg_get_constraintdef(k.oid) as definition,
        array(
            select quote_ident(a.attname)
            from unnest(k.conkey) with ordinality u (n, place)
                join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n
            order by u.place
        ) as columns,
        array(
            select quote_ident(a.attname)
            from unnest(k.confkey) with ordinality u (n, place)
                join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.n
            order by u.place
        ) as referenced_columns,
        not exists (
            select from unnest(k.conkey) n
                join pg_attribute a on a.attrelid = k.conrelid and a.attnum = n
            where not a.attnotnull
        ) as is_required,
        k.confmatchtype = 'f' and cardinality(k.conkey) > 1 as is_match_full,
        case k.confupdtype when 'a' then null when 'r' then 'RESTRICT' when 'c' then 'CASCADE'
            when 'n' then 'SET NULL' when 'd' then 'SET DEFAULT' end as on_update,
        case k.confdeltype when 'a' then null when 'r' then 'RESTRICT' when 'c' then 'CASCADE'
            when 'n' then 'SET NULL' when 'd' then 'SET DEFAULT' end as on_delete,
        array(
            select quote_ident(a.attname)
            from jsonb_array_elements_text(
                    coalesce(nullif(to_jsonb(k) -> 'confdelsetcols', 'null'), '[]')) n
                join pg_attribute a on a.attrelid = k.conrelid and a.attnum = n::smallint
            order by a.attnum
        ) as set_columns,
        k.condeferrable as is_deferrable,
        k.condeferred as is_deferred,
        k.convalidated as is_validated,
        coalesce(to_jsonb(k) ->> 'conenforced' = 'false', false)
            or coalesce(to_jsonb(k) ->> 'conperiod' = 'true', false) as is_unusual,
        -- What of the application its action runs, with a row and with the statement alone.
        case when k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd') then coalesce(
            case when k.confdeltype = 'c' then cloison.action_code(k.conrelid, 'DELETE', 'ROW') end,
            case when k.confdeltype in ('n', 'd') or k.confupdtype in ('c', 'n', 'd')
                 then cloison.action_code(k.conrelid, 'UPDATE', 'ROW') end) end as row_code,
        case when k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd') then coalesce(
            case when k.confdeltype = 'c'
                 then cloison.action_code(k.conrelid, 'DELETE', 'STATEMENT') end,
            case when k.confdeltype in ('n', 'd') or k.confupdtype in ('c', 'n', 'd')
                 then cloison.action_code(k.conrelid, 'UPDATE', 'STATEMENT') end) end
            as statement_code,
        obj_description(k.oid, 'pg_constraint') as comment,
        exists (
            select
            from unnest(k.conkey) n
                join pg_attribute a on a.attrelid = k.conrelid and a.attnum = n
            where a.attname = $2
        ) as has_tenant
    from pg_constraint k
    where
        k.contype = 'f'
        and k.conparentid = 0
        and (k.conrelid = any ($1::oid[]) or k.confrelid = any ($1::oid[]))
    order by k.conrelid::regclass::text, k.conname
) f
