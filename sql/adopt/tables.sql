-- What matters of each table ($1, by oid) to an adoption whose tenant column is named $2; that of the
-- root ($4) is $5.
select to_jsonb(t)::text
from (
    select
        c.oid::bigint as oid,
        c.oid::regclass::text as name,
        quote_ident(n.nspname) as schema,
        c.relname as bare,
        c.relkind::text as kind,
        c.relpersistence::text as persistence,
        c.relispartition as is_partition,
        c.reloftype <> 0 as is_typed,
        n.nspname in ('cloison', 'pg_catalog', 'information_schema') as is_ours_or_postgres,
        exists (
            select from pg_inherits i where i.inhparent = c.oid and c.relkind = 'r'
        ) as has_children,
        exists (
            select from pg_inherits i where i.inhrelid = c.oid and not c.relispartition
        ) as is_child,
        (
            select min(a.attrelid::regclass::text)
            from pg_attribute a
                join pg_class u on u.oid = a.attrelid and u.relkind in ('r', 'p', 'm', 'c')
                join pg_type y on y.oid = a.atttypid
            where not a.attisdropped and c.reltype in (y.oid, y.typelem)
        ) as row_type_in,
        exists (
            select from pg_depend d
            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
        ) as is_extensions,
        quote_ident(pg_get_userbyid(c.relowner)) as owner,
        pg_has_role(current_user, c.relowner, 'usage') as may_alter,
        c.relrowsecurity as has_rls,
        c.relforcerowsecurity as forces_rls,
        c.relreplident::text as replica_identity,
        (select p.class from cloison.protected_tables p where p.relation = c.oid) as class,
        not has_schema_privilege('cloison_tenant', n.oid, 'usage') as needs_usage,
        coalesce((
            select to_jsonb(k)
            from (
                select
                    format_type(a.atttypid, null) as type,
                    a.attnotnull as not_null,
                    a.attgenerated <> '' or a.attidentity <> '' as is_generated,
                    pg_get_expr(d.adbin, d.adrelid) as "default"
                from pg_attribute a
                    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                where a.attrelid = c.oid and not a.attisdropped
                  and a.attname = case when c.oid = $4 then $5 else $2 end
            ) k
        ), 'null') as "column",
        l.leaves, l.rows, l.bytes, l.has_foreign,
        array(
            select format('%I%s', p.polname, case when p.polpermissive then '' else ' (restrictive)' end)
            from pg_policy p
            where p.polrelid = c.oid and p.polname not like 'cloison\_%'
            order by 1
        ) as policies,
        -- Those that would let tenants see more, because permissive ones are OR-ed.
        array(
            select jsonb_build_object('name', quote_ident(p.polname), 'roles', (
                select string_agg(case when r.oid = 0 then 'public'
                    else quote_ident(pg_get_userbyid(r.oid)) end, ', ')
                from unnest(p.polroles) r (oid)))
            from pg_policy p
            where p.polrelid = c.oid and p.polpermissive and p.polname not like 'cloison\_%'
              and p.polroles && array(select role from cloison.tenant_roles() role)
            order by quote_ident(p.polname)
        ) as lax_policies,
        array(
            select jsonb_build_object(
                'name', quote_ident(g.tgname), 'fires_always', g.tgenabled = 'A')
            from pg_trigger g
            -- TRIGGER_TYPE_UPDATE of pg_trigger.h.
            where g.tgrelid = c.oid and not g.tgisinternal and g.tgtype & 16 <> 0
              and g.tgenabled in ('O', 'A')
            order by quote_ident(g.tgname)
        ) as update_triggers,
        array(select quote_ident(r.rulename) from pg_rewrite r where r.ev_class = c.oid order by 1)
            as rules,
        -- What protect() takes away, to give back.
        array(
            select format('grant %s%s on %s to %s%s',
                lower(x.privilege_type), ' (' || quote_ident(g.attname) || ')', c.oid::regclass,
                case when x.grantee = 0 then 'public'
                     else quote_ident(pg_get_userbyid(x.grantee)) end,
                case when x.is_grantable then ' with grant option' else '' end)
            from (
                select c.relacl, null::name
                union all
                select a.attacl, a.attname
                from pg_attribute a where a.attrelid = c.oid and not a.attisdropped
            ) g (acl, attname), aclexplode(g.acl) x
            where x.grantee = 0
               or pg_get_userbyid(x.grantee) in ('cloison_tenant', 'cloison_superadmin')
            order by 1
        ) as grants,
        -- Sequences that defaults draw from without belonging to a column.
        array(
            select s.oid::regclass::text
            from pg_attrdef d
                join pg_depend e
                    on e.classid = 'pg_attrdef'::regclass and e.objid = d.oid
                    and e.refclassid = 'pg_class'::regclass
                join pg_class s on s.oid = e.refobjid and s.relkind = 'S'
            where d.adrelid = c.oid
              -- In a CASE, because Postgres asks in the order that it likes.
              and case when s.relkind = 'S'
                  then not has_sequence_privilege('cloison_tenant', s.oid, 'usage') end
              and not exists (
                  select from pg_depend o
                  where o.classid = 'pg_class'::regclass and o.objid = s.oid
                    and o.refobjid = c.oid and o.deptype in ('a', 'i'))
            order by 1
        ) as free_sequences
    from
        pg_class c
        join pg_namespace n on n.oid = c.relnamespace,
        lateral (
            select
                coalesce(array_agg(p.oid::regclass::text order by p.oid::regclass::text)
                    filter (where p.relkind = 'r'), '{}') as leaves,
                coalesce(sum(case when p.reltuples >= 0 then p.reltuples::bigint
                    else pg_relation_size(p.oid) / 100 end), 0)::bigint as rows,
                coalesce(sum(pg_total_relation_size(p.oid)), 0)::bigint as bytes,
                coalesce(bool_or(p.relkind = 'f'), false) as has_foreign
            from pg_class p
            where p.relkind in ('r', 'f')
              and (p.oid = c.oid
                   or c.relkind = 'p' and p.oid in (select t.relid from pg_partition_tree(c.oid) t))
        ) l
    where
        c.oid = any ($1::oid[])
    order by c.oid::regclass::text
) t
