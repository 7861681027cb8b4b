-- A default that switches triggers and foreign keys off
-- critical
--
-- Loads and restores leave session_replication_role = replica as the default of a database or a role.
-- The kit's own guards fire all the same; the application's triggers and foreign keys do not, and with
-- them goes what the application keeps tenants apart by.
select
    'triggers_off' as name,
    'critical' as level,
    w.name as object,
    format('%s is its default, also for tenants: no trigger and no foreign key works', c.item)
        as detail,
    format('alter %s reset session_replication_role;', w.name) as fix,
    format('triggers_off:%s', w.name) as key
from
    pg_catalog.pg_db_role_setting s
    left join pg_catalog.pg_database d on d.oid = s.setdatabase,
    unnest(s.setconfig) c (item),
    lateral (
        select concat_ws(' in ',
            case when s.setrole <> 0 then format('role %I', pg_get_userbyid(s.setrole)) end,
            case when s.setdatabase <> 0 then format('database %I', d.datname) end)
    ) w (name)
where
    lower(c.item) = 'session_replication_role=replica'
    and (s.setdatabase = 0 or d.datname = current_database())
    and (s.setrole = 0 or s.setrole in (select role from cloison.tenant_roles() role))
