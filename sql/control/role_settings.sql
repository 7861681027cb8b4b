-- Defaults that the role of this session has been given, as name=value: asked on a new connection
-- of the tenants' role itself, whose search_path may be one of them, so every name is full. A
-- statement_timeout that the connection was started with is not meant for this.
set local statement_timeout = 0;
select
    s.setting
from
    pg_catalog.pg_db_role_setting r
    cross join lateral pg_catalog.unnest(r.setconfig) s (setting)
where
    r.setrole operator(pg_catalog.=) (
        select
            u.oid
        from
            pg_catalog.pg_roles u
        where
            u.rolname operator(pg_catalog.=) session_user
    )
    and (
        r.setdatabase operator(pg_catalog.=) 0::pg_catalog.oid
        or r.setdatabase operator(pg_catalog.=) (
            select
                d.oid
            from
                pg_catalog.pg_database d
            where
                d.datname operator(pg_catalog.=) pg_catalog.current_database()
        )
    );
