-- A login that is unfit for what it is used for
-- critical
--
-- Attributes (superuser, BYPASSRLS, REPLICATION, CREATEROLE, CREATEDB), memberships and ownership
-- by which a member of the kit's groups could step around the policies.
with recursive
logins (oid, access) as (
    select m.member, g.access
    from (values ('tenant'), ('superadmin'), ('control')) g (access)
        join pg_catalog.pg_roles r on r.rolname = 'cloison_' || g.access
        join pg_catalog.pg_auth_members m on m.roleid = r.oid
    where coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
       or coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
    union
    select m.member, l.access
    from logins l join pg_catalog.pg_auth_members m on m.roleid = l.oid
    where coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
       or coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
)
select
    'login_unfit' as name,
    'critical' as level,
    quote_ident(r.rolname) as object,
    f.problem || case when f.fix like '%…%' then ': ' || f.fix else '' end as detail,
    -- Where somebody has to say whose it is to be there is no SQL to run as it stands.
    case when f.fix not like '%…%' then f.fix || ';' end as fix,
    format('login_unfit:%I:%s', r.rolname, f.problem) as key
from
    logins l
    join pg_catalog.pg_roles r on r.oid = l.oid,
    cloison.role_findings(r.rolname, l.access) f
where
    r.rolcanlogin
    -- A superuser may be in any group, and needs none.
    and (l.access = 'tenant' or not r.rolsuper)
