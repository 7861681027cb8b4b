-- A login that may read the stream of all changes
-- warning
--
-- With REPLICATION it may copy the whole server, and decode every tenant's rows past row security:
-- sync engines, change data capture and standbys log in so. One that is meant to can be accepted.
select
    'replication_role' as name,
    'warning' as level,
    quote_ident(r.rolname) as object,
    'it logs in and may read every change of every tenant, past row security' as detail,
    format('alter role %I noreplication;', r.rolname) as fix,
    format('replication_role:%I', r.rolname) as key
from
    pg_catalog.pg_roles r
where
    r.rolcanlogin
    and r.rolreplication
    and not r.rolsuper
    -- Those are login_unfit.
    and r.oid not in (select role from cloison.tenant_roles() role)
