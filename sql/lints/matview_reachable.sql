-- A materialized view that tenants can read
-- critical
--
-- Row security does not reach a materialized view: who may read it reads all of it.
select
    'matview_reachable' as name,
    'critical' as level,
    r.name as object,
    format('tenants have %s on it, and row security does not reach a materialized view',
        array_to_string(r.privileges, ', ')) as detail,
    format('revoke all on %s from %s;', r.name, r.grantees) as fix,
    format('matview_reachable:%s', r.name) as key
from
    cloison.tenant_relations() r
where
    r.kind = 'm'
