-- A unique or primary key that does not hold the tenant
-- warning
--
-- It holds across tenants: an error, or a row that ON CONFLICT leaves out, tells one of them that
-- another has this value.
select
    'unique_key' as name,
    'warning' as level,
    t.name as object,
    format('%s %I (%s) holds across tenants, and its error tells of theirs%s',
        case when x.indisprimary then 'primary key' else 'unique key' end, i.relname,
        (select string_agg(pg_get_indexdef(x.indexrelid, k, true), ', ' order by k)
         from generate_series(1, x.indnkeyatts) k),
        case when s.reasons is not null
             then format('. It can go only once this does not stand on it: %s', s.reasons)
             when f.constraints is not null
             then format('. %s stand on it and go along', f.constraints) end) as detail,
    case when s.reasons is null then concat(
        'begin; ', f.before,
        case when k.oid is null
             then format('drop index %I.%I; %s; ', n.nspname, i.relname,
                regexp_replace(
                    -- Of a partitioned table: with its partitions.
                    replace(pg_get_indexdef(x.indexrelid), ' ON ONLY ', ' ON '),
                    ' USING (\w+) \(', format(' USING \1 (%s, ', t.tenant_column)))
             else format('alter table %s drop constraint %I; '
                'alter table %s add constraint %I %s; ', t.name, k.conname, t.name, k.conname,
                regexp_replace(pg_get_constraintdef(k.oid), '\(',
                    format('(%s, ', t.tenant_column))) end,
        f.after, 'commit;') end as fix,
    format('unique_key:%s:%I', t.name, i.relname) as key
from
    cloison.registered_tables() t
    join pg_catalog.pg_index x on x.indrelid = t.relation
    join pg_catalog.pg_class i on i.oid = x.indexrelid
    join pg_catalog.pg_namespace n on n.oid = i.relnamespace
    left join pg_catalog.pg_constraint k on k.conindid = x.indexrelid and k.contype in ('p', 'u'),
    -- Foreign keys that refer to it, from tenants' tables: they lead with the tenant from now on.
    lateral (
        select
            string_agg(format('%s on %s', quote_ident(r.conname), r.conrelid::regclass), ', '),
            string_agg(format('alter table %s drop constraint %I; ',
                r.conrelid::regclass, r.conname), ''),
            string_agg(format('alter table %s add constraint %I %s; ',
                r.conrelid::regclass, r.conname,
                regexp_replace(regexp_replace(regexp_replace(pg_get_constraintdef(r.oid),
                    'FOREIGN KEY \(', format('FOREIGN KEY (%s, ', c.tenant_column)),
                    '(REFERENCES [^(]*)\(', format('\1(%s, ', t.tenant_column)),
                    -- The tenant stays, whatever becomes of the row that is referred to.
                    'ON DELETE SET (NULL|DEFAULT)$',
                    case when current_setting('server_version_num')::integer >= 150000
                         then format('ON DELETE SET \1 (%s)', (
                            select string_agg(quote_ident(a.attname), ', ' order by o.place)
                            from unnest(r.conkey) with ordinality o (number, place)
                                join pg_catalog.pg_attribute a
                                    on a.attrelid = r.conrelid and a.attnum = o.number))
                         else 'ON DELETE NO ACTION' end)), '')
        from pg_catalog.pg_constraint r
            join cloison.registered_tables() c
                on c.relation = r.conrelid and c.class = 'tenant' and c.column_type = t.column_type
        where r.contype = 'f' and r.conindid = x.indexrelid and r.conparentid = 0
          and not c.tenant_attnum = any (r.conkey)
    ) f (constraints, before, after),
    -- Foreign keys that would not go along, and views and functions that group by it, keep it from
    -- being changed here.
    lateral (
        select string_agg(u.what, ', ' order by u.what)
        from (
            select format('%s on %s', quote_ident(r.conname), r.conrelid::regclass)
            from pg_catalog.pg_constraint r
            where r.contype = 'f' and r.conindid = x.indexrelid and r.conparentid = 0
              and not exists (
                  select from cloison.registered_tables() c
                  where c.relation = r.conrelid and c.class = 'tenant'
                    and c.column_type = t.column_type
                    and not c.tenant_attnum = any (r.conkey))
            union all
            select distinct case
                when d.classid = 'pg_catalog.pg_rewrite'::regclass then format('view %s', (
                    select w.ev_class::regclass
                    from pg_catalog.pg_rewrite w where w.oid = d.objid))
                else format('function %s', d.objid::regprocedure) end
            from pg_catalog.pg_depend d
            where d.refclassid = 'pg_catalog.pg_constraint'::regclass and d.refobjid = k.oid
              and d.classid in (
                  'pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass)
        ) u (what)
    ) s (reasons)
where
    t.class = 'tenant'
    and t.part_of is null
    and x.indisunique
    and x.indisvalid
    and not t.tenant_attnum = any ((x.indkey::smallint[])[0:x.indnkeyatts - 1])
