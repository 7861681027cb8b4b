-- 0003: row-level security: cloison.protect() for the application's tables, the same policies for
-- the kit's own, and the functions that find out whether all of it still stands.
--
-- The text of every policy comes from one function, cloison.expected_policies(), in the form in
-- which Postgres prints it back, so that what is there can be compared with what should be.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

-- Every role that a tenant's session can be or become: the members of cloison_tenant, it, and
-- whatever those are members of. PUBLIC is 0.
--
-- Not the kit's other groups: who is in two of them is a fault of that login (role_findings()),
-- and no reason to take the groups' rights away.
create or replace function cloison.tenant_roles()
    returns setof oid
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    with recursive
    -- Since 16 who makes a role is a member who neither inherits nor may SET ROLE: that is none.
    membership as (
        select m.roleid, m.member
        from pg_catalog.pg_auth_members m
        where coalesce((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean, true)
           or coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, true)
    ),
    down as (
        select r.oid from pg_catalog.pg_roles r where r.rolname = 'cloison_tenant'
        union
        select m.member from membership m join down on m.roleid = down.oid
    ),
    up as (
        select oid from down
        union
        select m.roleid from membership m join up on m.member = up.oid
        where pg_catalog.pg_get_userbyid(m.roleid) not in ('cloison_superadmin', 'cloison_control')
    )
    select oid from up
    union all
    select 0::oid;
$$;

-- What the default of a tenant column is, as Postgres prints it.
create or replace function cloison.tenant_value(column_type regtype)
    returns text
    stable
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    case column_type
        when 'uuid'::regtype then
            return 'cloison.current_tenant_id()';
        when 'text'::regtype, 'character varying'::regtype then
            return 'cloison.current_tenant_key()';
        when 'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype then
            return pg_catalog.format('(cloison.current_tenant_key())::%s', column_type);
        else
            raise exception 'a tenant column cannot be of type %', column_type
                using errcode = 'feature_not_supported',
                      hint = 'Supported: uuid (the tenant''s id), and smallint, integer, bigint, '
                          'text, varchar (its external_key).';
    end case;
end;
$$;

-- The policies that a table should have, by class: all of them carry names that begin with
-- cloison_. No rows for a table that the kit does not look after.
--
--   tenant   a permissive base for cloison_tenant, which lets nothing through by itself, and
--            beside it a restrictive policy for each verb: an application's own lax policy can
--            be OR-ed with the first and not with the second
--   shared   every tenant reads every row
--   global   tenants see nothing
--
-- The tenant is compared through a scalar sub-select, which is evaluated once a scan and leaves
-- the index usable. The super-admin and the owner have policies of their own: an OR in the
-- tenants' policy would cost the index.
create or replace function cloison.expected_policies(relation regclass)
    returns table (
        policy name,
        command text,
        permissive boolean,
        roles name[],
        using_text text,
        check_text text
    )
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    table_name text := relation::text;
    registered cloison.protected_tables;
    owner name;
    mine text;
    admin constant text := '( SELECT cloison.is_superadmin() AS is_superadmin)';
    writer constant text := '( SELECT cloison.superadmin_may_write() AS superadmin_may_write)';
begin
    select pg_catalog.pg_get_userbyid(c.relowner) into owner
        from pg_catalog.pg_class c where c.oid = expected_policies.relation;
    select p.* into registered
        from cloison.protected_tables p where p.relation = expected_policies.relation;

    if registered.class = 'tenant' then
        mine := pg_catalog.format(
            '(%s = ( SELECT %s AS %I))',
            case when registered.column_type = 'character varying'::regtype
                 then pg_catalog.format('(%I)::text', registered.tenant_column)
                 else pg_catalog.quote_ident(registered.tenant_column) end,
            cloison.tenant_value(registered.column_type),
            case when registered.column_type = 'uuid'::regtype
                 then 'current_tenant_id' else 'current_tenant_key' end);
        return query
            select
                ('cloison_' || kind.name || '_' || pg_catalog.lower(verb.name))::name,
                verb.name,
                kind.name = 'base',
                array['cloison_tenant']::name[],
                case when verb.name <> 'INSERT' then kind.text end,
                case when verb.name in ('INSERT', 'UPDATE') then kind.text end
            from
                (values ('base', 'true'), ('tenant', mine)) kind (name, text),
                (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) verb (name);
    elsif registered.class = 'shared' then
        return query select 'cloison_shared_select'::name, 'SELECT', true,
            array['cloison_tenant']::name[], 'true', null::text;
    elsif table_name = 'cloison.tenants' then
        return query select 'cloison_tenant_select'::name, 'SELECT', true,
            array['cloison_tenant']::name[],
            '(id = ( SELECT cloison.current_tenant_id() AS current_tenant_id))', null::text;
        return query select 'cloison_control_select'::name, 'SELECT', true,
            array['cloison_control']::name[], 'true', null::text;
    elsif table_name in ('cloison.tenant_users', 'cloison.api_keys', 'cloison.usage_events',
                         'cloison.audit_log') then
        return query select 'cloison_tenant_select'::name, 'SELECT', true,
            array['cloison_tenant']::name[],
            '(tenant_id = ( SELECT cloison.current_tenant_id() AS current_tenant_id))',
            null::text;
        if table_name = 'cloison.usage_events' then
            return query select 'cloison_control_insert'::name, 'INSERT', true,
                array['cloison_control']::name[], null::text, 'true';
        end if;
    elsif registered.class is null then
        return;
    end if;

    return query select 'cloison_superadmin'::name, 'SELECT', true,
        array['cloison_superadmin']::name[], admin, null::text;
    if table_name <> 'cloison.audit_log' then
        return query
            select
                ('cloison_superadmin_' || pg_catalog.lower(verb.name))::name,
                verb.name,
                true,
                array['cloison_superadmin']::name[],
                case when verb.name <> 'INSERT' then writer end,
                case when verb.name <> 'DELETE' then writer end
            from (values ('INSERT'), ('UPDATE'), ('DELETE')) verb (name);
    end if;
    -- Forced row security holds for the owner too, and a migration's data step would silently
    -- touch nothing.
    return query select 'cloison_owner'::name, 'ALL', true, array[owner], 'true', 'true';
end;
$$;

-- The policies that a table has, in the same shape.
create or replace function cloison.actual_policies(relation regclass)
    returns table (
        policy name,
        command text,
        permissive boolean,
        roles name[],
        using_text text,
        check_text text
    )
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select
        p.polname,
        case p.polcmd
            when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE'
            when 'd' then 'DELETE' else 'ALL'
        end,
        p.polpermissive,
        array(
            select case when role = 0 then 'public' else pg_catalog.pg_get_userbyid(role) end
            from pg_catalog.unnest(p.polroles) role
            order by 1
        )::name[],
        pg_catalog.pg_get_expr(p.polqual, p.polrelid),
        pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)
    from pg_catalog.pg_policy p
    where p.polrelid = actual_policies.relation;
$$;

-- What tenants and super-admins may do with a table: the verbs, and nothing that goes around
-- policies (TRUNCATE), runs code in others' sessions (TRIGGER) or probes keys (REFERENCES).
create or replace function cloison.expected_grants(relation regclass)
    returns table (grantee name, privilege text)
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select role.name::name, verb.name
    from
        cloison.protected_tables p,
        (values ('cloison_tenant'), ('cloison_superadmin')) role (name),
        (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) verb (name)
    where
        p.relation = expected_grants.relation
        -- Partitions and children are reached through their parent only.
        and p.part_of is null
        and (role.name = 'cloison_superadmin'
             or p.class = 'tenant'
             or (p.class = 'shared' and verb.name = 'SELECT'));
$$;

-- Makes row security and policies of one table what they should be. Touches nothing that is
-- right already.
create or replace function cloison.apply_policies(relation regclass)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    flags record;
    found record;
    wanted record;
begin
    select c.relrowsecurity, c.relforcerowsecurity into flags
        from pg_catalog.pg_class c where c.oid = apply_policies.relation;
    if not flags.relrowsecurity then
        execute pg_catalog.format('alter table %s enable row level security', relation);
    end if;
    if not flags.relforcerowsecurity then
        execute pg_catalog.format('alter table %s force row level security', relation);
    end if;

    for found in
        select a.policy from cloison.actual_policies(apply_policies.relation) a
        where a.policy like 'cloison\_%'
          and not exists (
              select from cloison.expected_policies(apply_policies.relation) e
              where pg_catalog.to_jsonb(e) = pg_catalog.to_jsonb(a))
    loop
        execute pg_catalog.format('drop policy %I on %s', found.policy, relation);
    end loop;

    for wanted in
        select e.* from cloison.expected_policies(apply_policies.relation) e
        where not exists (
            select from pg_catalog.pg_policy p
            where p.polrelid = apply_policies.relation and p.polname = e.policy)
    loop
        execute pg_catalog.format(
            'create policy %I on %s as %s for %s to %s %s %s',
            wanted.policy, relation,
            case when wanted.permissive then 'permissive' else 'restrictive' end,
            wanted.command,
            (select pg_catalog.string_agg(pg_catalog.quote_ident(role), ', ')
             from pg_catalog.unnest(wanted.roles) role),
            'using (' || wanted.using_text || ')',
            'with check (' || wanted.check_text || ')');
    end loop;
end;
$$;

-- Makes the grants of one table, and of the sequences that its serial columns draw from, what
-- they should be. Touches nothing that is right already.
create or replace function cloison.apply_grants(relation regclass)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    wanted text[];
    present text[];
    entry record;
begin
    wanted := array(
        select e.grantee || ' ' || e.privilege
        from cloison.expected_grants(apply_grants.relation) e order by 1);
    present := array(
        select case when a.grantee = 0 then 'public'
                    else pg_catalog.pg_get_userbyid(a.grantee)::text end
            || ' ' || a.privilege_type || case when a.is_grantable then '*' else '' end
        from (
            select c.relacl from pg_catalog.pg_class c where c.oid = apply_grants.relation
            union all
            select t.attacl from pg_catalog.pg_attribute t
            where t.attrelid = apply_grants.relation and not t.attisdropped
        ) acl (items), pg_catalog.aclexplode(acl.items) a
        where a.grantee = 0 or pg_catalog.pg_get_userbyid(a.grantee)
            in ('cloison_tenant', 'cloison_superadmin')
        order by 1);
    if present is distinct from wanted then
        execute pg_catalog.format(
            'revoke all on %s from public, cloison_tenant, cloison_superadmin', relation);
        for entry in
            select e.grantee, pg_catalog.string_agg(e.privilege, ', ') as verbs
            from cloison.expected_grants(apply_grants.relation) e group by e.grantee
        loop
            execute pg_catalog.format(
                'grant %s on %s to %I', entry.verbs, relation, entry.grantee);
        end loop;
    end if;

    -- An identity column needs no right on its sequence.
    for entry in
        select s.oid::regclass as sequence, role.name as grantee,
            exists (select from cloison.expected_grants(apply_grants.relation) e
                    where e.grantee = role.name and e.privilege = 'INSERT') as wanted,
            exists (select from pg_catalog.aclexplode(s.relacl) a
                    where pg_catalog.pg_get_userbyid(a.grantee) = role.name) as some,
            exists (select from pg_catalog.aclexplode(s.relacl) a
                    where pg_catalog.pg_get_userbyid(a.grantee) = role.name
                      and a.privilege_type <> 'USAGE') as more
        from pg_catalog.pg_depend d
            join pg_catalog.pg_class s
                on s.oid = d.objid and s.relkind = 'S',
            (values ('cloison_tenant'::name), ('cloison_superadmin')) role (name)
        where d.classid = 'pg_catalog.pg_class'::regclass
          and d.refclassid = 'pg_catalog.pg_class'::regclass
          and d.refobjid = apply_grants.relation
          and d.deptype = 'a'
    loop
        if entry.more or (entry.some and not entry.wanted) then
            execute pg_catalog.format(
                'revoke all on sequence %s from %I', entry.sequence, entry.grantee);
        end if;
        if entry.wanted and (entry.more or not entry.some) then
            execute pg_catalog.format(
                'grant usage on sequence %s to %I', entry.sequence, entry.grantee);
        end if;
    end loop;
end;
$$;

-- Protects one table and then its partitions and children. Not for calling: use protect().
create or replace function cloison.protect_one(
    relation regclass, class text, tenant_column name, existing_rows_to uuid, part_of regclass
)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    target record;
    col record;
    the_type regtype;
    value_text text;
    child regclass;
begin
    select c.relkind, c.relpersistence, c.relnamespace,
            c.relnamespace::regnamespace::text as schema_name
        into target
        from pg_catalog.pg_class c where c.oid = protect_one.relation;
    if target.relkind not in ('r', 'p') or target.relpersistence = 't' then
        raise exception '% cannot be protected: %', relation,
                case
                    when target.relpersistence = 't' then 'it is a temporary table'
                    when target.relkind = 'v' then 'it is a view; protect the tables below it, '
                        'and make it security_invoker (15 and newer)'
                    when target.relkind = 'm' then 'it is a materialized view, which row '
                        'security does not reach; take its grants away instead'
                    when target.relkind = 'f' then 'it is a foreign table, which row security '
                        'does not reach; take its grants away instead'
                    else 'it is not a table'
                end
            using errcode = 'wrong_object_type';
    end if;
    if target.schema_name in ('cloison', 'pg_catalog', 'information_schema') then
        raise exception '% cannot be protected: it is not a table of the application', relation
            using errcode = 'wrong_object_type';
    end if;

    if class = 'tenant' then
        if not exists (
            select from pg_catalog.pg_attribute a
            where a.attrelid = protect_one.relation
              and a.attname = protect_one.tenant_column and not a.attisdropped
        ) then
            -- A constant default fills the rows that are there without rewriting the table.
            execute pg_catalog.format(
                'alter table %s add column %I uuid not null default %L',
                relation, tenant_column, existing_rows_to);
        end if;
        select a.attnum, a.attnotnull, a.atttypid::regtype as type, a.attgenerated,
                a.attidentity, pg_catalog.pg_get_expr(d.adbin, d.adrelid) as default_text
            into col
            from pg_catalog.pg_attribute a
                left join pg_catalog.pg_attrdef d
                    on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = protect_one.relation
              and a.attname = protect_one.tenant_column;
        if col.attgenerated <> '' or col.attidentity <> '' then
            raise exception '%.% is generated, so it cannot name the tenant',
                    relation, pg_catalog.quote_ident(tenant_column)
                using errcode = 'feature_not_supported';
        end if;
        if exists (
            select
            from pg_catalog.pg_attribute a
                join pg_catalog.pg_collation c on c.oid = a.attcollation
            where a.attrelid = protect_one.relation and a.attnum = col.attnum
              and not c.collisdeterministic
        ) then
            raise exception '%.% has a collation by which different texts are equal, so it cannot '
                    'name the tenant', relation, pg_catalog.quote_ident(tenant_column)
                using errcode = 'feature_not_supported',
                      hint = pg_catalog.format(
                          'alter table %s alter column %I type %s collate "C"',
                          relation, tenant_column, col.type);
        end if;
        the_type := col.type;
        if col.default_text is distinct from cloison.tenant_value(col.type) then
            execute pg_catalog.format(
                'alter table %s alter column %I set default %s',
                relation, tenant_column, cloison.tenant_value(col.type));
        end if;
    end if;

    insert into cloison.protected_tables as p
        (relation, class, tenant_column, column_type, part_of)
    values (
        protect_one.relation, protect_one.class,
        case when protect_one.class = 'tenant' then protect_one.tenant_column end,
        the_type,
        protect_one.part_of)
    on conflict (relation) do update
        set class = excluded.class, tenant_column = excluded.tenant_column,
            column_type = excluded.column_type, part_of = excluded.part_of
        where (p.class, p.tenant_column, p.column_type, p.part_of) is distinct from
            (excluded.class, excluded.tenant_column, excluded.column_type, excluded.part_of);
    perform cloison.apply_policies(relation);
    perform cloison.apply_grants(relation);
    if part_of is null
        and not pg_catalog.has_schema_privilege('cloison_tenant', target.relnamespace, 'usage')
    then
        execute pg_catalog.format('grant usage on schema %s to cloison_tenant, cloison_superadmin',
            target.schema_name);
    end if;

    if class = 'tenant' then
        if not col.attnotnull then
            value_text := existing_rows_to::text;
            if col.type <> 'uuid'::regtype then
                value_text := (
                    select t.external_key from cloison.tenants t
                    where t.id = protect_one.existing_rows_to);
            end if;
            if value_text is not null then
                execute pg_catalog.format('update %s set %I = %L where %I is null',
                    relation, tenant_column, value_text, tenant_column);
            end if;
            execute pg_catalog.format(
                'alter table %s alter column %I set not null', relation, tenant_column);
        end if;
        if not exists (
            select from pg_catalog.pg_index i
            where i.indrelid = protect_one.relation and i.indisvalid and i.indpred is null
              and i.indkey[0] = col.attnum
        ) then
            execute pg_catalog.format('create index on %s (%I)', relation, tenant_column);
        end if;
        if col.type = 'uuid'::regtype and not exists (
            select from pg_catalog.pg_constraint k
            where k.conrelid = protect_one.relation and k.contype = 'f'
              and k.confrelid = 'cloison.tenants'::regclass and k.conkey = array[col.attnum]
        ) then
            execute pg_catalog.format(
                'alter table %s add foreign key (%I) references cloison.tenants (id)',
                relation, tenant_column);
        end if;
    end if;

    -- A table that inherits has no triggers of its parent's, a partition has.
    if pg_catalog.to_regprocedure('cloison.apply_guard(regclass)') is not null then
        perform cloison.apply_guard(relation);
    end if;

    for child in
        select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = protect_one.relation
    loop
        perform cloison.protect_one(
            child, class, tenant_column, existing_rows_to, coalesce(part_of, relation));
    end loop;
end;
$$;

-- Brings a table under isolation, and mends it where it was: see expected_policies() for what
-- the classes mean. Run it as the table's owner. A second call changes nothing.
--
-- A tenant column that is missing is made (uuid); rows without a tenant go to the tenant
-- system-default, or to the one that is given.
create or replace function cloison.protect(
    relation regclass,
    class text default 'tenant',
    tenant_column name default 'tenant_id',
    existing_rows_to uuid default null
)
    returns void
    set search_path = pg_catalog, pg_temp
    set client_min_messages = warning
    set row_security = on
    language plpgsql
as $$
#variable_conflict use_column
declare
    parent regclass;
begin
    if relation is null or class is null or class not in ('tenant', 'shared', 'global')
        or (class = 'tenant' and tenant_column is null)
    then
        raise exception 'a table''s class is tenant, shared or global, not %',
                coalesce(class, 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    select i.inhparent into parent
        from pg_catalog.pg_inherits i
            join pg_catalog.pg_class c on c.oid = i.inhrelid
        where i.inhrelid = protect.relation
          and (c.relispartition or exists (
              select from cloison.protected_tables p where p.relation = i.inhparent))
        limit 1;
    if parent is not null then
        raise exception '% belongs to %: protect that', relation, parent
            using errcode = 'wrong_object_type',
                  hint = pg_catalog.format('select cloison.protect(%L)', parent);
    end if;
    -- An event trigger on new tables (0005) would take the steps for so many faults.
    perform pg_catalog.set_config('cloison.protecting', 'on', true);
    perform cloison.protect_one(
        relation, class, tenant_column,
        coalesce(existing_rows_to,
            (select t.id from cloison.tenants t where t.slug = 'system-default')),
        null);
    -- Of 0013: the tables at the other ends of its foreign keys, too.
    if pg_catalog.to_regprocedure('cloison.apply_guards(regclass)') is not null then
        perform cloison.apply_guards(relation);
        perform cloison.warn_of_actions(relation);
    end if;
    perform pg_catalog.set_config('cloison.protecting', '', true);
end;
$$;

-- Takes protection away again: policies, forced row security, the tenants' grants, the default
-- and the foreign key. The column, its index and the data stay, and tenants see nothing.
create or replace function cloison.unprotect(relation regclass)
    returns void
    set search_path = pg_catalog, pg_temp
    set client_min_messages = warning
    set row_security = on
    language plpgsql
as $$
#variable_conflict use_column
declare
    registered cloison.protected_tables;
    flags record;
    item record;
begin
    select p.* into registered
        from cloison.protected_tables p where p.relation = unprotect.relation;
    if not found then
        return;
    end if;
    if registered.part_of is not null
        and exists (select from pg_catalog.pg_inherits i where i.inhrelid = unprotect.relation)
    then
        raise exception '% belongs to %: unprotect that', relation, registered.part_of
            using errcode = 'wrong_object_type';
    end if;

    for item in
        select p.relation from cloison.protected_tables p
        where p.relation = unprotect.relation or p.part_of = unprotect.relation
        order by p.part_of nulls first
    loop
        delete from cloison.protected_tables p where p.relation = item.relation;
        select c.relrowsecurity, c.relforcerowsecurity into flags
            from pg_catalog.pg_class c where c.oid = item.relation;
        -- A table that is gone leaves nothing but its row in the registry.
        continue when not found;
        perform cloison.take_away(item.relation, registered.tenant_column);
        if pg_catalog.to_regprocedure('cloison.apply_guard(regclass)') is not null then
            perform cloison.apply_guard(item.relation);
        end if;
    end loop;
    if pg_catalog.to_regprocedure('cloison.apply_guards(regclass)') is not null
        and exists (select from pg_catalog.pg_class c where c.oid = unprotect.relation)
    then
        perform cloison.apply_guards(relation);
    end if;
end;
$$;

-- What unprotect() does to one table. Not for calling.
create or replace function cloison.take_away(relation regclass, tenant_column name)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    item record;
begin
    -- The registry no longer knows it, so no grant is expected.
    perform cloison.apply_grants(relation);
    for item in
        select a.policy from cloison.actual_policies(take_away.relation) a
        where a.policy like 'cloison\_%'
    loop
        execute pg_catalog.format('drop policy %I on %s', item.policy, relation);
    end loop;
    execute pg_catalog.format('alter table %s no force row level security', relation);
    if not exists (
        select from pg_catalog.pg_policy p where p.polrelid = take_away.relation
    ) then
        execute pg_catalog.format('alter table %s disable row level security', relation);
    end if;
    for item in
        select k.conname from pg_catalog.pg_constraint k
        where k.conrelid = take_away.relation and k.contype = 'f'
          and k.confrelid = 'cloison.tenants'::regclass and k.conparentid = 0
          and k.conkey = array(
              select a.attnum from pg_catalog.pg_attribute a
              where a.attrelid = take_away.relation and a.attname = take_away.tenant_column)
    loop
        execute pg_catalog.format('alter table %s drop constraint %I', relation, item.conname);
    end loop;
    for item in
        select a.attname
        from pg_catalog.pg_attrdef d
            join pg_catalog.pg_attribute a
                on a.attrelid = d.adrelid and a.attnum = d.adnum
        where d.adrelid = take_away.relation
          and a.attname = take_away.tenant_column
          and pg_catalog.pg_get_expr(d.adbin, d.adrelid) like '%cloison.current\_tenant\_%'
    loop
        execute pg_catalog.format(
            'alter table %s alter column %I drop default', relation, item.attname);
    end loop;
end;
$$;

-- What is wrong with the triggers that 0013 makes; it says so there, and until then nothing.
do $$
begin
    if pg_catalog.to_regprocedure('cloison.guard_findings()') is null then
        create function cloison.guard_findings()
            returns table (relation oid, level text, problem text, fix text, key text)
            stable
            security definer
            set search_path = pg_catalog, pg_temp
            language sql
        as 'select null::oid, null, null, null, null where false';
    end if;
end
$$;

-- Everything by which protection falls short of what protect() and this file set up, with the SQL
-- that mends it. No rows: nothing found.
create or replace function cloison.protection_findings()
    returns table (relation text, problem text, fix text)
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    -- Compiling this takes fifty times as long as running it.
    set jit = off
    language sql
as $$
    with
    mine as (
        select p.relation as oid, p.relation::text as name,
            case when p.part_of is null
                then pg_catalog.format('select cloison.protect(%L%s)', p.relation,
                    case when p.class = 'tenant' and p.tenant_column = 'tenant_id' then ''
                         when p.class = 'tenant'
                         then pg_catalog.format(', %L, %L', p.class, p.tenant_column)
                         else pg_catalog.format(', %L', p.class) end)
                else pg_catalog.format('select cloison.protect(%L, %L, %L)', p.part_of, p.class,
                    coalesce(p.tenant_column, 'tenant_id')) end as mend
        from cloison.protected_tables p
        union all
        select t.name::regclass, t.name, 'run sql/migrations/0003_row_level_security.sql again'
        from (values ('cloison.tenants'), ('cloison.tenant_users'), ('cloison.api_keys'),
                     ('cloison.usage_events'), ('cloison.audit_log')) t (name)
    ),
    tenants as (
        select role from cloison.tenant_roles() role
    ),
    rights as (
        select m.oid, m.name, null::name as column_name, a.grantee, a.privilege_type
        from mine m
            join pg_catalog.pg_class c on c.oid = m.oid,
            pg_catalog.aclexplode(c.relacl) a
        union all
        select m.oid, m.name, t.attname, a.grantee, a.privilege_type
        from mine m
            join pg_catalog.pg_attribute t on t.attrelid = m.oid and not t.attisdropped,
            pg_catalog.aclexplode(t.attacl) a
    )
    select m.name, 'the table is gone',
        pg_catalog.format('select cloison.unprotect(%L)', m.oid::oid)
    from mine m
    where not exists (select from pg_catalog.pg_class c where c.oid = m.oid)
    union all
    select m.name, 'row security is off',
        pg_catalog.format('alter table %s enable row level security', m.name)
    from mine m join pg_catalog.pg_class c on c.oid = m.oid
    where not c.relrowsecurity
    union all
    select m.name, 'row security is not forced, so the owner bypasses it',
        pg_catalog.format('alter table %s force row level security', m.name)
    from mine m join pg_catalog.pg_class c on c.oid = m.oid
    where not c.relforcerowsecurity
    union all
    select m.name, pg_catalog.format('policy %I is missing', e.policy), m.mend
    from mine m
        join pg_catalog.pg_class c on c.oid = m.oid,
        cloison.expected_policies(m.oid) e
    where not exists (
        select from cloison.actual_policies(m.oid) a where a.policy = e.policy)
    union all
    select m.name, pg_catalog.format('policy %I is not as it was made', e.policy), m.mend
    from mine m,
        cloison.expected_policies(m.oid) e
            join lateral cloison.actual_policies(m.oid) a on a.policy = e.policy
    where pg_catalog.to_jsonb(a) <> pg_catalog.to_jsonb(e)
    union all
    select m.name,
        pg_catalog.format('policy %I is permissive, for tenants, and not the kit''s', p.polname),
        pg_catalog.format('drop policy %I on %s', p.polname, m.name)
    from mine m join pg_catalog.pg_policy p on p.polrelid = m.oid
    where p.polpermissive
      and p.polroles && array(select role from tenants)
      and not exists (
          select from cloison.expected_policies(m.oid) e where e.policy = p.polname)
    union all
    select r.name,
        pg_catalog.format('%s has %s%s', who.name, r.privilege_type,
            ' on column ' || pg_catalog.quote_ident(r.column_name)),
        pg_catalog.format('revoke %s%s on %s from %s', r.privilege_type,
            ' (' || pg_catalog.quote_ident(r.column_name) || ')', r.name, who.name)
    from rights r,
        lateral (
            select case when r.grantee = 0 then 'public'
                else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.grantee)) end
        ) who (name)
    where r.grantee in (select role from tenants)
      and not exists (
          select from pg_catalog.pg_class c where c.oid = r.oid and c.relowner = r.grantee)
      and not exists (
          select from cloison.expected_grants(r.oid) e
          where e.grantee = who.name and e.privilege = r.privilege_type)
      -- What 0003 grants on the kit's own tables.
      and not (who.name = 'cloison_tenant' and r.privilege_type = 'SELECT'
               and r.name like 'cloison.%'
               and (r.name <> 'cloison.api_keys' or r.column_name <> 'hash'))
    union all
    select m.name,
        pg_catalog.format('%s has %s on sequence %s',
            who.name, a.privilege_type, s.oid::regclass),
        pg_catalog.format('revoke %s on sequence %s from %s',
            a.privilege_type, s.oid::regclass, who.name)
    from mine m
        join pg_catalog.pg_depend d
            on d.refobjid = m.oid and d.deptype in ('a', 'i')
            and d.classid = 'pg_catalog.pg_class'::regclass
            and d.refclassid = 'pg_catalog.pg_class'::regclass
        join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S',
        pg_catalog.aclexplode(s.relacl) a,
        lateral (
            select case when a.grantee = 0 then 'public'
                else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end
        ) who (name)
    where a.grantee in (select role from tenants)
      and a.grantee <> s.relowner
      and a.privilege_type <> 'USAGE'
    union all
    select m.name,
        pg_catalog.format('its owner %I is a role that tenants run as',
            pg_catalog.pg_get_userbyid(c.relowner)),
        -- Whose table it is may be right, and the role that tenants have be wrong.
        pg_catalog.format('create role %I login password ''…'' in role cloison_tenant '
            '-- for tenants, and name it in [pools.tenant]; %I keeps its tables',
            pg_catalog.current_database() || '_tenant', pg_catalog.pg_get_userbyid(c.relowner))
    from mine m join pg_catalog.pg_class c on c.oid = m.oid
    where c.relowner in (select role from tenants)
    union all
    select i.inhrelid::regclass::text,
        pg_catalog.format('it belongs to %s and is not protected itself', m.name), m.mend
    from mine m join pg_catalog.pg_inherits i on i.inhparent = m.oid
    where i.inhrelid not in (select oid from mine)
    union all
    select g.relation::regclass::text, g.problem, pg_catalog.rtrim(g.fix, ';')
    from cloison.guard_findings() g
    union all
    select pg_catalog.format('cloison.%I', c.relname),
        'tenants may reach a table that is for the kit''s owner alone',
        pg_catalog.format('revoke all on cloison.%I from public, cloison_tenant', c.relname)
    from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
    where c.relnamespace = 'cloison'::regnamespace
      and c.relname in ('signing_key', 'settings', 'protected_tables', 'audit_head')
      and a.grantee in (select role from tenants) and a.grantee <> c.relowner
    union all
    select p.oid::regprocedure::text,
        pg_catalog.format('%s may call it', who.name),
        pg_catalog.format('revoke execute on function %s from %s',
            p.oid::regprocedure, who.name)
    from pg_catalog.pg_proc p,
        pg_catalog.aclexplode(
            coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a,
        lateral (
            select case when a.grantee = 0 then 'public'
                else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end
        ) who (name)
    where p.pronamespace = 'cloison'::regnamespace
      and a.grantee in (select role from tenants) and a.grantee <> p.proowner
      and p.oid::regprocedure::text not in (
          'cloison.kit_version()',
          'cloison.set_tenant(uuid,text)',
          'cloison.set_tenant(uuid,text,boolean)',
          'cloison.this_process()',
          'cloison.get_current_tenant()',
          'cloison.current_tenant_id()',
          'cloison.current_tenant_key()',
          'cloison.is_superadmin()',
          -- Of 0007.
          'cloison.advisory_xact_lock(bigint)',
          'cloison.advisory_xact_lock(text)',
          'cloison.try_advisory_xact_lock(bigint)',
          'cloison.try_advisory_xact_lock(text)',
          -- Of 0010.
          'cloison.claims()',
          'cloison.claim(text)',
          'cloison.current_user_id()',
          -- Of 0013.
          'cloison.in_tenant_session()',
          'cloison.action_statements(oid,text)',
          -- Of 0014.
          'cloison.stage_copy(oid,text[],boolean,boolean)',
          'cloison.make_copy_table(oid,name[],boolean)',
          'cloison.drop_copy_table()',
          -- The compat file's, on 14.
          'cloison.visible_tenants()')
    order by 1, 2;
$$;

-- Everything that makes a login unfit for what it is to be used for: access is tenant, superadmin,
-- control or owner. The proxy does not start while there are rows.
--
-- Where the login itself is more than that, somebody needs it as it is: the server's superuser, the
-- application's owner. Taking that away could leave nobody who may mend the server, so the cure is a
-- login of its own.
create or replace function cloison.role_findings(login name, access text)
    returns table (problem text, fix text)
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
    language plpgsql
as $$
declare
    the_group constant name := 'cloison_' || access;
    a_login_of_its_own constant text := pg_catalog.format(
        'create role %I login password ''…'' in role %I -- and name it in [%s]; %I stays as it is',
        pg_catalog.current_database() || '_' || access, the_group,
        case access when 'control' then access else 'pools.' || access end, login);
begin
    if access is null or access not in ('tenant', 'superadmin', 'control', 'owner') then
        raise exception 'access is tenant, superadmin, control or owner, not %',
                coalesce(access, 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    if not exists (select from pg_catalog.pg_roles r where r.rolname = login) then
        return query select
            pg_catalog.format('role %I does not exist', login),
            case when access = 'owner' then pg_catalog.format('create role %I login', login)
                 else pg_catalog.format('create role %I login in role %I', login, the_group) end;
        return;
    end if;
    if access = 'owner' then
        return;
    end if;

    return query
    with recursive membership as (
        select m.roleid, m.member
        from pg_catalog.pg_auth_members m
        where coalesce((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean, true)
           or coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, true)
           -- Who may give a role away may give it to himself.
           or m.admin_option
    ),
    closure (oid, via) as (
        select r.oid, null::oid from pg_catalog.pg_roles r where r.rolname = login
        union
        -- via: the membership to end.
        select m.roleid, coalesce(c.via, m.roleid)
        from membership m join closure c on m.member = c.oid
    ),
    reached as (
        select distinct on (c.oid) r.*, c.via,
            case when c.via is null then pg_catalog.format('role %I', r.rolname)
                 else pg_catalog.format('role %I is a member of %I, which', login, r.rolname)
            end as who,
            pg_catalog.format('revoke %s from %I',
                pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.via)), login) as leave
        from closure c join pg_catalog.pg_roles r on r.oid = c.oid
        order by c.oid, c.via nulls first
    ),
    -- The kit's own tables, the registered ones, and the schema.
    owned as (
        select p.relation::text as name, c.relowner as owner, 'table' as kind
        from cloison.protected_tables p join pg_catalog.pg_class c on c.oid = p.relation
        union all
        select c.oid::regclass::text, c.relowner, 'table'
        from pg_catalog.pg_class c
        where c.relnamespace = 'cloison'::regnamespace and c.relkind in ('r', 'p')
        union all
        select 'cloison', n.nspowner, 'schema'
        from pg_catalog.pg_namespace n where n.nspname = 'cloison'
        union all
        select pg_catalog.quote_ident(d.datname), d.datdba, 'database'
        from pg_catalog.pg_database d
        where d.datname = pg_catalog.current_database()
    )
    select i.who || ' ' || bad.text, case when i.via is null then a_login_of_its_own else i.leave end
    from reached i, lateral (values
        (i.rolsuper, 'is a superuser'),
        (i.rolbypassrls, 'bypasses row security'),
        (i.rolreplication, 'may replicate the whole server'),
        (i.rolcreaterole, 'may make and change roles'),
        (i.rolcreatedb, 'may make databases')
    ) bad (yes, text)
    where bad.yes
    union all
    select pg_catalog.format('%s owns %s %s', i.who, o.kind, o.name),
        case when i.via is null then a_login_of_its_own else i.leave end
    from reached i join owned o on o.owner = i.oid
    union all
    select pg_catalog.format('role %I is a member of %I', login, i.rolname), i.leave
    from reached i
    where i.via is not null
      and (i.rolname like 'pg\_%'
           or (i.rolname in ('cloison_tenant', 'cloison_superadmin', 'cloison_control')
               and i.rolname <> the_group))
    union all
    select pg_catalog.format('role %I is not a member of %I', login, the_group),
        case when exists (
            select from reached i
            where i.via is null
              and (i.rolsuper or i.rolbypassrls or i.rolreplication or i.rolcreaterole
                   or i.rolcreatedb or exists (select from owned o where o.owner = i.oid))
        ) then a_login_of_its_own
        else pg_catalog.format('grant %I to %I', the_group, login) end
    where not exists (select from reached i where i.rolname = the_group)
    union all
    -- A superuser may do anything; that is reported above, once.
    select pg_catalog.format('role %I may make objects in schema %s', login, n.name),
        pg_catalog.format('revoke create on schema %s from %s', n.name, case
            when exists (
                select from pg_catalog.aclexplode(n.acl) a
                where a.grantee = 0 and a.privilege_type = 'CREATE') then 'public'
            else pg_catalog.quote_ident(coalesce((
                select pg_catalog.pg_get_userbyid(a.grantee)
                from pg_catalog.aclexplode(n.acl) a
                where a.privilege_type = 'CREATE' and a.grantee in (select oid from reached)
                limit 1), login)) end)
    from (
        select s.oid, pg_catalog.quote_ident(s.nspname) as name,
            coalesce(s.nspacl, pg_catalog.acldefault('n', s.nspowner)) as acl
        from pg_catalog.pg_namespace s
        where s.nspname not like 'pg\_temp\_%' and s.nspname not like 'pg\_toast%'
    ) n
    where not exists (select from reached i where i.rolsuper)
      and pg_catalog.has_schema_privilege(login, n.oid, 'create')
    union all
    select pg_catalog.format('role %I may make schemas in this database', login),
        pg_catalog.format('revoke create on database %I from %I',
            pg_catalog.current_database(), login)
    where not exists (select from reached i where i.rolsuper)
      and pg_catalog.has_database_privilege(login, pg_catalog.current_database(), 'create')
    order by 1;
end;
$$;

-- A key as a tenant column of a number's type reads it: 02, +2 and 2 are one tenant's rows there. A
-- key that is no number is what it is.
create or replace function cloison.canonical_key(key text)
    returns text
    immutable
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return key::bigint::text;
exception
    when invalid_text_representation or numeric_value_out_of_range then
        return key;
end;
$$;

do $$
begin
    create unique index if not exists tenants_canonical_key_idx
        on cloison.tenants (cloison.canonical_key(external_key));
exception
    when unique_violation then
        raise warning 'tenants have an external_key that is the same number: %', sqlerrm
            using hint = 'Where a tenant column is a number they see each other''s rows. '
                '`cloison lint` names them; then run `cloison install` again.';
end
$$;

-- Who may call what. The owner may call all of it.
revoke execute on all functions in schema cloison from public;
grant execute on function
    cloison.role_findings(name, text),
    cloison.protection_findings(),
    cloison.expected_policies(regclass),
    cloison.canonical_key(text)
    to cloison_control;
-- Who changes a tenant makes its entry in the index.
grant execute on function cloison.canonical_key(text) to cloison_superadmin;
-- `cloison verify` can do with the super-admin's road alone.
grant execute on function
    cloison.role_findings(name, text),
    cloison.protection_findings()
    to cloison_superadmin;

-- The kit's own tables.
do $$
declare
    name text;
begin
    foreach name in array array['tenants', 'tenant_users', 'api_keys', 'usage_events', 'audit_log']
    loop
        perform cloison.apply_policies(pg_catalog.format('cloison.%I', name)::regclass);
    end loop;
end
$$;

-- A tenant reads what is its own and writes nothing; of a key it never sees the hash.
grant select on cloison.tenants, cloison.tenant_users, cloison.usage_events to cloison_tenant;
-- Not the row's number, nor its place and hashes (0009): they tell how many there are of others.
grant select (at, actor, action, tenant_id, session, detail)
    on cloison.audit_log to cloison_tenant;
grant select (id, tenant_id, name, prefix, scopes, created_at, expires_at, revoked_at)
    on cloison.api_keys to cloison_tenant;

grant select, insert, update, delete
    on cloison.tenants, cloison.tenant_users, cloison.api_keys, cloison.usage_events
    to cloison_superadmin;
grant select on cloison.audit_log, cloison.protected_tables to cloison_superadmin;

grant select on cloison.tenants, cloison.protected_tables to cloison_control;
-- The audit log has a function for it (0009).
grant insert on cloison.usage_events to cloison_control;

commit;
