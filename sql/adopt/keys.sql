-- Every index of tables ($1), with what it takes to make it again. $2 is the tenant column, $3 its type.
select to_jsonb(k)::text
from (
    select
        x.indrelid::bigint as "table",
        x.indexrelid::bigint as oid,
        i.relname as bare,
        x.indexrelid::regclass::text as index,
        case
            when k.contype = 'p' then 'primary'
            when k.contype = 'u' then 'unique'
            when k.contype = 'x' then 'exclusion'
            when x.indisunique then 'index'
            else 'plain'
        end as kind,
        x.indisvalid as is_valid,
        array(
            select pg_get_indexdef(x.indexrelid, n, true) from generate_series(1, x.indnkeyatts) n
        ) as columns,
        array(
            select coalesce(a.attname::text, '')
            from generate_series(0, x.indnkeyatts - 1) n
                left join pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[n]
        ) as attributes,
        pg_get_indexdef(x.indexrelid) as definition,
        -- From the method on: "btree (a, b) WHERE …".
        substr(
            pg_get_indexdef(x.indexrelid),
            length(format('CREATE %sINDEX %I ON %s%s USING ',
                case when x.indisunique then 'UNIQUE ' else '' end, i.relname,
                case when i.relkind = 'I' then 'ONLY ' else '' end, x.indrelid::regclass)) + 1
        ) as body,
        m.amname as method,
        k.conname is not null as is_constraint,
        pg_get_constraintdef(k.oid) as constraint_definition,
        coalesce(k.condeferrable, false) as is_deferrable,
        coalesce(k.condeferred, false) as is_deferred,
        coalesce(to_jsonb(k) ->> 'conperiod' = 'true', false) as is_temporal,
        pg_get_expr(x.indpred, x.indrelid) as predicate,
        obj_description(x.indexrelid, 'pg_class') as index_comment,
        obj_description(k.oid, 'pg_constraint') as constraint_comment,
        x.indisclustered as is_clustered,
        x.indisreplident as is_replica_identity,
        (select quote_ident(s.spcname) from pg_tablespace s where s.oid = i.reltablespace) as tablespace,
        exists (
            select from pg_attribute a
            where a.attrelid = x.indexrelid and a.attstattarget >= 0
        ) as has_statistics,
        exists (
            select from pg_opclass o
            where o.opcmethod = i.relam and o.opcdefault and o.opcintype = case
                when $3::text in ('text', 'character varying') then 'text'::regtype
                else $3::text::regtype end
        ) as tenant_fits,
        -- One uuid that is made at random: no two tenants will meet, and nobody can guess.
        x.indnkeyatts = 1 and exists (
            select
            from pg_attribute a
                join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = x.indrelid and a.attnum = x.indkey[0]
              and a.atttypid = 'uuid'::regtype
              and pg_get_expr(d.adbin, d.adrelid) ~ '(^|\.)(gen_random_uuid|uuidv4|uuidv7|uuid_generate_v[14])\(\)$'
        ) as is_random,
        array(
            select distinct case
                when d.classid = 'pg_rewrite'::regclass then 'the view ' || (
                    select r.ev_class::regclass::text from pg_rewrite r where r.oid = d.objid)
                else 'the function ' || d.objid::regprocedure::text end
            from pg_depend d
            where d.refclassid = 'pg_constraint'::regclass and d.refobjid = k.oid
              and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass)
            order by 1
        ) as grouped_by
    from
        pg_index x
        join pg_class i on i.oid = x.indexrelid
        join pg_am m on m.oid = i.relam
        left join pg_constraint k on k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x')
    where
        x.indrelid = any ($1::oid[])
        and i.relname !~ '^cloison_(new|old|look)_'
    order by x.indrelid::regclass::text, i.relname
) k
