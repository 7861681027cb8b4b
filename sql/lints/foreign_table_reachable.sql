-- A foreign table that tenants can reach
-- critical
--
-- Row security does not reach a foreign table: who may read it reads all of it.
select
    'foreign_table_reachable' as name,
    'critical' as level,
    r.name as object,
    format('tenants have %s on it, and row security does not reach a foreign table',
        array_to_string(r.privileges, ', ')) as detail,
    format('revoke all on %s from %s;', r.name, r.grantees) as fix,
    format('foreign_table_reachable:%s', r.name) as key
from
    cloison.tenant_relations() r
where
    r.kind = 'f'
