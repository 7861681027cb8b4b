-- 0005: what `cloison lint` stands on: who reaches what, findings that somebody has accepted, and
-- schemas whose new tables are protected or reported at once.
--
-- The lints themselves are in sql/lints, one plain SELECT each. They run as the database's owner or
-- as a member of cloison_control, so what they call here reads the catalogue as whoever calls it.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

create or replace function cloison.kit_version()
    returns integer
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select 3;
$$;

-- Findings that stand for a reason: they are shown with it, and do not count.
create table if not exists cloison.accepted_findings (
    key text primary key,
    reason text not null check (reason <> ''),
    accepted_by name not null default session_user,
    accepted_at timestamptz not null default pg_catalog.now()
);
revoke all on cloison.accepted_findings from public;

-- Schemas whose new tables are looked at as soon as they are made: see watch_schema().
create table if not exists cloison.watched_schemas (
    schema regnamespace primary key,
    action text not null check (action in ('protect', 'report'))
);
revoke all on cloison.watched_schemas from public;

-- The tables, views and sequences of the application that a tenant's session can name and has some
-- privilege on, with what it takes to revoke that. Not those of extensions, nor the kit's own
-- tables, which protection_findings() looks after.
create or replace function cloison.tenant_relations()
    returns table (
        relation oid,
        name text,
        kind "char",
        owner oid,
        -- Whether the owner is a role that tenants run as: nothing that is revoked helps then.
        is_own boolean,
        privileges text[],
        -- Who has them, for a REVOKE.
        grantees text
    )
    stable
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with
    tenants as materialized (
        select role from cloison.tenant_roles() role
    ),
    open_schema as materialized (
        select n.oid, n.nspname
        from pg_catalog.pg_namespace n
        where n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
          and (n.nspowner in (select role from tenants)
               or exists (
                   select
                   from pg_catalog.aclexplode(n.nspacl) a
                   where a.privilege_type = 'USAGE' and a.grantee in (select role from tenants)))
    ),
    rights as (
        select c.oid, a.grantee, a.privilege_type
        from pg_catalog.pg_class c
            join open_schema n on n.oid = c.relnamespace,
            pg_catalog.aclexplode(c.relacl) a
        union
        select c.oid, a.grantee, a.privilege_type
        from pg_catalog.pg_attribute t
            join pg_catalog.pg_class c on c.oid = t.attrelid
            join open_schema n on n.oid = c.relnamespace,
            pg_catalog.aclexplode(t.attacl) a
        where t.attacl is not null and not t.attisdropped
        union
        select c.oid, c.relowner, 'OWNER'
        from pg_catalog.pg_class c join open_schema n on n.oid = c.relnamespace
    )
    select
        c.oid,
        pg_catalog.format('%I.%I', n.nspname, c.relname),
        c.relkind,
        c.relowner,
        pg_catalog.bool_or(r.privilege_type = 'OWNER'),
        pg_catalog.array_agg(distinct r.privilege_type),
        pg_catalog.string_agg(distinct
            case when r.grantee = 0 then 'public'
                 else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.grantee)) end, ', ')
    from rights r
        join pg_catalog.pg_class c on c.oid = r.oid
        join open_schema n on n.oid = c.relnamespace
    where r.grantee in (select role from tenants)
      and (r.privilege_type = 'OWNER' or r.grantee <> c.relowner)
      and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and not (n.nspname = 'cloison'
               and c.relname in ('tenants', 'tenant_users', 'api_keys', 'usage_events',
                                 'audit_log', 'protected_tables', 'signing_key', 'settings',
                                 'accepted_findings', 'watched_schemas', 'revocations',
                                 'session_changes'))
      and not exists (
          select
          from pg_catalog.pg_depend d
          where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid
            and d.deptype = 'e')
    group by c.oid, n.nspname, c.relname, c.relkind, c.relowner;
$$;

-- The same of functions that can be called by name. Not the kit's own, which lint kit_exposed looks
-- after.
create or replace function cloison.tenant_functions()
    returns table (
        function oid,
        name text,
        owner oid,
        is_own boolean,
        grantees text
    )
    stable
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with
    tenants as materialized (
        select role from cloison.tenant_roles() role
    )
    select
        p.oid,
        p.oid::regprocedure::text,
        p.proowner,
        p.proowner in (select role from tenants),
        pg_catalog.string_agg(distinct
            case when a.grantee = 0 then 'public'
                 else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end, ', ')
    from pg_catalog.pg_proc p
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace,
        pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
    where a.grantee in (select role from tenants)
      and n.nspname not in ('pg_catalog', 'information_schema', 'cloison')
      and n.nspname not like 'pg\_temp\_%'
      and (n.nspowner in (select role from tenants)
           or exists (
               select
               from pg_catalog.aclexplode(n.nspacl) u
               where u.privilege_type = 'USAGE' and u.grantee in (select role from tenants)))
      and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
      and not exists (
          select
          from pg_catalog.pg_depend d
          where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid
            and d.deptype = 'e')
    group by p.oid, p.proowner;
$$;

-- The tables that lints speak of: the registered ones that are there, with the call that mends them.
create or replace function cloison.registered_tables()
    returns table (
        relation oid,
        name text,
        class text,
        -- Quoted.
        tenant_column text,
        tenant_attnum smallint,
        column_type regtype,
        part_of oid,
        mend text
    )
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select
        c.oid,
        pg_catalog.format('%I.%I', n.nspname, c.relname),
        p.class,
        pg_catalog.quote_ident(p.tenant_column),
        a.attnum,
        p.column_type,
        p.part_of::oid,
        pg_catalog.format('select cloison.protect(%L%s);',
            coalesce(p.part_of, p.relation)::regclass,
            case when p.class = 'tenant' and p.tenant_column = 'tenant_id' then ''
                 when p.class = 'tenant'
                 then pg_catalog.format(', %L, %L', p.class, p.tenant_column)
                 else pg_catalog.format(', %L', p.class) end)
    from cloison.protected_tables p
        join pg_catalog.pg_class c on c.oid = p.relation
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        left join pg_catalog.pg_attribute a
            on a.attrelid = c.oid and a.attname = p.tenant_column and not a.attisdropped;
$$;

-- Settings that are not for everybody, and that tenants have been given (15 and newer). In PL/pgSQL,
-- because 14 has no such catalogue.
create or replace function cloison.tenant_parameters()
    returns table (parameter text, grantee text, privilege text)
    stable
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    if pg_catalog.to_regclass('pg_catalog.pg_parameter_acl') is null then
        return;
    end if;
    return query
        select p.parname,
            case when a.grantee = 0 then 'public'
                 else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end,
            a.privilege_type
        from pg_catalog.pg_parameter_acl p, pg_catalog.aclexplode(p.paracl) a
        where a.grantee in (select role from cloison.tenant_roles() role)
          and (a.privilege_type <> 'SET' or not exists (
              select from pg_catalog.pg_settings s
              where pg_catalog.lower(s.name) = p.parname and s.context = 'user'));
end;
$$;

-- Whether a table comes under cloison without anybody having to remember it: fires after each
-- CREATE TABLE and ALTER TABLE where watch_schema() could make an event trigger of it.
--
-- What goes wrong here is told, and the table is made all the same: lint finds it again. It acts
-- as the kit's owner, and so protects only tables that are the owner's: on another's table, code of
-- somebody else's could run with the owner's rights.
create or replace function cloison.on_new_table()
    returns event_trigger
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    made record;
    why text;
begin
    -- protect() makes a table what it should be, step by step.
    if pg_catalog.current_setting('cloison.protecting', true) = 'on' then
        return;
    end if;
    for made in
        select distinct on (d.objid)
            d.objid::regclass as relation, w.action, p.class, c.relispartition,
            c.relowner = current_user::regrole as is_ours,
            c.relrowsecurity and c.relforcerowsecurity as is_secured,
            exists (
                select from pg_catalog.pg_attribute a
                where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
            ) as has_tenant
        from pg_catalog.pg_event_trigger_ddl_commands() d
            join pg_catalog.pg_class c
                on c.oid = d.objid and d.classid = 'pg_catalog.pg_class'::regclass
            join cloison.watched_schemas w on w.schema = c.relnamespace
            left join cloison.protected_tables p on p.relation = c.oid
        where c.relkind in ('r', 'p') and c.relpersistence <> 't' and not d.in_extension
    loop
        continue when made.class is not null and made.is_secured;
        why := null;
        if made.action = 'report' or made.class is not null then
            why := case when made.class is null then 'it is not protected'
                        else 'its row security is off, or does not hold for its owner' end;
        elsif made.relispartition then
            why := 'it is a partition: protect its parent again';
        elsif not made.has_tenant then
            why := 'it has no column tenant_id';
        elsif not made.is_ours then
            why := 'it does not belong to the owner of the kit';
        else
            begin
                perform cloison.protect(made.relation);
            exception
                when others then why := sqlerrm;
            end;
        end if;
        continue when why is null;
        raise warning 'no tenant is kept out of %: %', made.relation, why
            using hint = pg_catalog.format('select cloison.protect(%L), or with the class '
                '''shared'' or ''global''.', made.relation);
        insert into cloison.audit_log (actor, action, detail)
        values (session_user, 'table.unprotected', pg_catalog.jsonb_build_object(
            'table', made.relation::text, 'why', why));
    end loop;
end;
$$;

-- Has new tables of a schema protected as soon as they are made ('protect': where they have a
-- column tenant_id), or reported by a warning and a row of the audit log ('report').
--
-- Returns whether they are seen at once. Event triggers are a superuser's to make; without one the
-- tables are found when lint runs next. They run as whoever makes a table, and what they do is up
-- to the kit's owner: make one only where both are trusted.
create or replace function cloison.watch_schema(schema regnamespace, action text default 'report')
    returns boolean
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
begin
    if action is null or action not in ('protect', 'report') then
        raise exception 'a new table is something to protect or to report, not to %',
                coalesce(action, 'null')
            using errcode = 'invalid_parameter_value',
                  hint = 'select cloison.watch_schema(''public'', ''protect'')';
    end if;
    insert into cloison.watched_schemas as w (schema, action)
    values (watch_schema.schema, watch_schema.action)
    on conflict (schema) do update
        set action = excluded.action where w.action <> excluded.action;
    if exists (
        select from pg_catalog.pg_event_trigger t
        where t.evtname = 'cloison_new_table' and t.evtenabled in ('O', 'A')
    ) then
        return true;
    end if;
    begin
        execute 'drop event trigger if exists cloison_new_table';
        execute 'create event trigger cloison_new_table on ddl_command_end '
            'when tag in (''CREATE TABLE'', ''CREATE TABLE AS'', ''SELECT INTO'', ''ALTER TABLE'') '
            'execute function cloison.on_new_table()';
        return true;
    exception
        when insufficient_privilege then
            raise notice 'new tables are found when lint runs next: %', sqlerrm
                using hint = 'A superuser may call cloison.watch_schema() once more.';
            return false;
    end;
end;
$$;

-- No longer looks at new tables of a schema.
create or replace function cloison.unwatch_schema(schema regnamespace)
    returns void
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    delete from cloison.watched_schemas w where w.schema = unwatch_schema.schema;
$$;

revoke execute on function
    cloison.tenant_relations(),
    cloison.tenant_functions(),
    cloison.registered_tables(),
    cloison.tenant_parameters(),
    cloison.on_new_table(),
    cloison.watch_schema(regnamespace, text),
    cloison.unwatch_schema(regnamespace)
    from public;
grant execute on function
    cloison.tenant_relations(),
    cloison.tenant_functions(),
    cloison.registered_tables(),
    cloison.tenant_parameters(),
    cloison.tenant_roles(),
    cloison.expected_policies(regclass),
    cloison.actual_policies(regclass),
    cloison.expected_grants(regclass),
    cloison.tenant_value(regtype)
    to cloison_control;
grant select on cloison.accepted_findings, cloison.watched_schemas to cloison_control;

commit;
