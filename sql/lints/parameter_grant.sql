-- A setting of the server that tenants have been given
-- critical
--
-- Settings that are a superuser's change what holds for a session: session_replication_role switches
-- triggers and foreign keys off, others print plans and texts, or load code.
select
    'parameter_grant' as name,
    'critical' as level,
    p.parameter as object,
    format('%s may %s it', p.grantee, p.privilege) as detail,
    format('revoke %s on parameter %s from %s;', lower(p.privilege), p.parameter, p.grantee) as fix,
    format('parameter_grant:%s:%s:%s', p.parameter, p.grantee, lower(p.privilege)) as key
from
    cloison.tenant_parameters() p
