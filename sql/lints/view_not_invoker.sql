-- A view that tenants read as its owner
-- critical
--
-- A view reads its tables as its owner does, who sees every tenant's rows, unless it is
-- security_invoker (15 and newer). One over nothing but shared tables shows nothing.
select
    'view_not_invoker' as name,
    'critical' as level,
    r.name as object,
    format('tenants have %s on it, and it reads %s as %I', array_to_string(r.privileges, ', '),
        t.names, pg_get_userbyid(r.owner)) as detail,
    case when current_setting('server_version_num')::integer >= 150000
         then format('alter view %s set (security_invoker = on);', r.name)
         else format('revoke all on %s from %s;', r.name, r.grantees) end as fix,
    format('view_not_invoker:%s', r.name) as key
from
    cloison.tenant_relations() r
    join pg_catalog.pg_class c on c.oid = r.relation,
    lateral (
        select string_agg(distinct b.oid::regclass::text, ', ')
        from pg_catalog.pg_rewrite w,
            -- Functions that a view calls run as the caller; tables alone stand there by number.
            lateral regexp_matches(w.ev_action::text, ':relid (\d+)', 'g') m (number)
                join pg_catalog.pg_class b on b.oid = m.number[1]::oid
        where w.ev_class = c.oid and w.ev_type = '1' and b.oid >= 16384 and b.oid <> c.oid
          and not exists (
              select from cloison.protected_tables p
              where p.relation = b.oid and p.class = 'shared')
    ) t (names)
where
    r.kind = 'v'
    and not r.is_own
    and t.names is not null
    and not coalesce((
        select o.option_value::boolean
        from pg_options_to_table(c.reloptions) o where o.option_name = 'security_invoker'), false)
