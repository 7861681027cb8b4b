-- A right that hardening had taken from tenants, and that they have again
-- critical
--
-- It leads to the sessions of other tenants, or tells of their rows: GRANTs, extensions and major
-- versions bring it back. What was never taken, cloison.hardening_findings() tells.
select
    'hardening_off' as name,
    'critical' as level,
    h.target as object,
    format('%s has %s on it again: %s', h.grantee, h.privilege, h.consequence) as detail,
    format('revoke %s on %s from %s;', lower(h.privilege), h.target, h.grantee) as fix,
    format('hardening_off:%s:%s:%s', h.target, h.grantee, lower(h.privilege)) as key
from
    cloison.hardening_undone() h
