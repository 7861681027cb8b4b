-- 0013: what code does that Postgres runs in a tenant's session as somebody else.
--
-- Policies judge a tenant's own statements. They do not reach what a foreign key's action does,
-- which Postgres runs as the owner of the table with FORCE off, nor what a rule or a SECURITY
-- DEFINER function of the owner does. Four kinds of triggers stand there:
--
--   !cloison_guard_truncate
--                     before TRUNCATE, which no policy and no trigger of a row sees: a tenant's
--                     session may not, whoever it does that as
--   ~cloison_guard    after each row that somebody else than the session's own user has written:
--                     it has to be a row of the session's tenant. Where a rule or a view that runs
--                     as its owner leads to the table, after each row
--   !cloison_guard_…  before what an action does: code of the application may not run there, where
--                     it would see every tenant's rows
--   RI_Cloison_…      before the action itself, by the order of names: does in the tenant's name,
--                     under its policies, what the action would do; the action then finds nothing.
--                     Only where the application has code on the way
--
-- All but the last are ENABLE ALWAYS: session_replication_role = replica, which loads and restores
-- leave as a default, does not lift them. In a session that is no tenant's (of a subscription, of
-- pg_restore) they do nothing.
--
-- A trigger is the kit's if it calls guard_row() or act_as_caller(); its name alone says nothing.

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
    select 7;
$$;

-- Whether the user who logged in is one that tenants use. SET ROLE does not change the answer, nor
-- does anything else that a tenant can do.
create or replace function cloison.in_tenant_session()
    returns boolean
    stable
    parallel safe
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    if not pg_catalog.pg_has_role(session_user, 'cloison_tenant', 'member') then
        return false;
    end if;
    -- A superuser is a member of everything.
    if pg_catalog.pg_has_role(session_user, 'cloison_control', 'member')
        and (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = session_user)
    then
        return false;
    end if;
    -- Since 16 whoever made the role is a member, too, without any use of it.
    if pg_catalog.pg_has_role(session_user, 'cloison_tenant', 'usage') then
        return true;
    end if;
    if pg_catalog.current_setting('server_version_num')::integer < 160000 then
        return true;
    end if;
    return pg_catalog.pg_has_role(session_user, 'cloison_tenant', 'set');
end;
$$;

-- The first piece of the application's code that Postgres would run with what an action does to
-- the rows of a table (level ROW) or with its statement alone (level STATEMENT); null if there is
-- none. AFTER triggers count from 18 on: there they run as who has queued them.
--
-- In PL/pgSQL, which keeps the plan: the guard asks with each row that an action comes to.
create or replace function cloison.action_code(relation oid, event text, level text)
    returns text
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    runs_after boolean := pg_catalog.current_setting('server_version_num')::integer >= 180000;
    found text;
begin
    select pg_catalog.format('trigger %I', t.tgname) into found
        from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
        where t.tgrelid = action_code.relation
          and not t.tgisinternal
          and t.tgenabled in ('O', 'A')
          and (t.tgtype & 1 = 1) = (level = 'ROW')
          and t.tgtype & (case event when 'DELETE' then 8 else 16 end) <> 0
          and (t.tgtype & 2 <> 0 or runs_after)
          and p.oid >= 16384
          and p.pronamespace <> 'cloison'::regnamespace
          -- What fence_trigger() writes.
          and pg_catalog.pg_get_triggerdef(t.oid)
              !~ ' WHEN \({2,4}\(CURRENT_USER = SESSION_USER\) OR row_security_active\('
          and not exists (
              select
              from pg_catalog.pg_depend d
                  join pg_catalog.pg_extension e on e.oid = d.refobjid
              where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid
                and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
                -- Known for what they do: they change the row itself.
                and e.extname in ('moddatetime', 'insert_username', 'lo'))
        order by t.tgname
        limit 1;
    if found is not null or event = 'DELETE' or level <> 'ROW' then
        return found;
    end if;
    select c.what into found
        from (
            select 'pg_catalog.pg_constraint'::regclass, k.oid,
                pg_catalog.format('constraint %I', k.conname)
            from pg_catalog.pg_constraint k
            where k.conrelid = action_code.relation and k.contype = 'c'
            union all
            select 'pg_catalog.pg_constraint'::regclass, k.oid,
                pg_catalog.format('constraint %I', k.conname)
            from pg_catalog.pg_attribute a
                join pg_catalog.pg_constraint k on k.contypid = a.atttypid and k.contype = 'c'
            where a.attrelid = action_code.relation and not a.attisdropped
            union all
            select 'pg_catalog.pg_attrdef'::regclass, d.oid,
                pg_catalog.format('the expression of column %I', a.attname)
            from pg_catalog.pg_attrdef d
                join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
            where d.adrelid = action_code.relation
              and (a.attgenerated <> ''
                   or exists (
                       select
                       from pg_catalog.pg_constraint k
                       where k.conrelid = d.adrelid and k.contype = 'f'
                         and 'd' in (k.confdeltype, k.confupdtype) and d.adnum = any (k.conkey)))
            union all
            select 'pg_catalog.pg_class'::regclass, i.indexrelid,
                pg_catalog.format('index %s', i.indexrelid::regclass)
            from pg_catalog.pg_index i
            where i.indrelid = action_code.relation
        ) c (classid, objid, what)
            join pg_catalog.pg_depend d on d.classid = c.classid and d.objid = c.objid
                and d.refclassid = 'pg_catalog.pg_proc'::regclass
            join pg_catalog.pg_proc p on p.oid = d.refobjid
            join pg_catalog.pg_language l on l.oid = p.prolang
        where p.oid >= 16384
          and p.pronamespace <> 'cloison'::regnamespace
          and l.lanname not in ('c', 'internal')
        order by c.what
        limit 1;
    return found;
end;
$$;

-- The foreign keys with an action whose tables are both the tenants'.
create or replace function cloison.key_actions()
    returns table (key oid, child oid, parent oid, on_delete "char", on_update "char")
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select k.oid, k.conrelid, k.confrelid,
        nullif(nullif(k.confdeltype, 'a'), 'r'), nullif(nullif(k.confupdtype, 'a'), 'r')
    from pg_catalog.pg_constraint k
        join cloison.protected_tables c on c.relation = k.conrelid and c.class = 'tenant'
        join cloison.protected_tables p on p.relation = k.confrelid and p.class = 'tenant'
    where k.contype = 'f'
      and k.conparentid = 0
      and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'));
$$;

-- Whether an action that begins with a DELETE or UPDATE of a table's rows can come to code of the
-- application, over any number of keys.
create or replace function cloison.action_meets_code(relation oid, event text)
    returns boolean
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    with recursive
    edge as materialized (
        select k.parent, 'DELETE' as begins, k.child,
            case k.on_delete when 'c' then 'DELETE' else 'UPDATE' end as does
        from cloison.key_actions() k
        where k.on_delete is not null
        union
        select k.parent, 'UPDATE', k.child, 'UPDATE'
        from cloison.key_actions() k
        where k.on_update is not null
    ),
    reached as (
        select e.child, e.does
        from edge e
        where e.parent = action_meets_code.relation and e.begins = action_meets_code.event
        union
        select e.child, e.does
        from reached r join edge e on e.parent = r.child and e.begins = r.does
    )
    select exists (
        select
        from reached r
            join cloison.protected_tables p on p.relation = r.child or p.part_of = r.child
        where cloison.action_code(p.relation, r.does, 'ROW') is not null);
$$;

-- Whether a rule, or a view that runs as its owner and that tenants write to, writes into a table:
-- past the policies, and with the session's own user as current_user.
create or replace function cloison.is_written_by_rules(relation oid)
    returns boolean
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with recursive
    target as materialized (
        select p.relation::oid as oid
        from cloison.protected_tables p
        where is_written_by_rules.relation in (p.relation, p.part_of)
    ),
    -- Views that refer to it, over other views, too, and whether the way from them runs as somebody
    -- else at last.
    above as (
        select w.ev_class as oid, w.ev_type <> '1' as is_rule
        from pg_catalog.pg_depend d
            join pg_catalog.pg_rewrite w on w.oid = d.objid
            join target t on t.oid = d.refobjid
        where d.classid = 'pg_catalog.pg_rewrite'::regclass
          and d.refclassid = 'pg_catalog.pg_class'::regclass
        union
        select w.ev_class, w.ev_type <> '1'
        from above a
            join pg_catalog.pg_depend d on d.refobjid = a.oid
                and d.classid = 'pg_catalog.pg_rewrite'::regclass
                and d.refclassid = 'pg_catalog.pg_class'::regclass
            join pg_catalog.pg_rewrite w on w.oid = d.objid and w.ev_class <> a.oid
    )
    select exists (
        select
        from above a join pg_catalog.pg_class v on v.oid = a.oid
        where a.is_rule
           or v.relkind = 'v'
              and exists (
                  select
                  from cloison.tenant_roles() r (role)
                  where r.role <> 0
                    and (pg_catalog.has_table_privilege(r.role, v.oid, 'insert, update, delete')
                         or pg_catalog.has_any_column_privilege(r.role, v.oid, 'insert, update')))
              -- That one, or one below it.
              and exists (
                  select
                  from above o join pg_catalog.pg_class c on c.oid = o.oid
                  where c.relkind = 'v'
                    and coalesce(pg_catalog.array_to_string(c.reloptions, ' '), '')
                        !~ 'security_invoker=(true|on|1|yes)'));
$$;

-- The triggers that a table should have, as Postgres prints them. Those of a partition come with
-- its parent's, but for TRUNCATE's: triggers for each statement are not handed down.
create or replace function cloison.expected_guards(relation regclass)
    returns table (name name, definition text)
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    target text;
    arguments text;
    keys text;
    is_partitioned boolean;
    is_partition boolean;
begin
    select pg_catalog.format('%I.%I', n.nspname, c.relname),
            pg_catalog.format('(%L, %L)', p.tenant_column, cloison.tenant_value(p.column_type)),
            c.relkind = 'p', c.relispartition
        into target, arguments, is_partitioned, is_partition
        from cloison.protected_tables p
            join pg_catalog.pg_class c on c.oid = p.relation
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where p.relation = expected_guards.relation and p.class = 'tenant';
    if not found then
        return;
    end if;
    return query select '!cloison_guard_truncate'::name, pg_catalog.format(
        'CREATE TRIGGER "!cloison_guard_truncate" BEFORE TRUNCATE ON %s FOR EACH STATEMENT '
        'EXECUTE FUNCTION cloison.guard_row()', target);
    if is_partition then
        return;
    end if;
    return query select '~cloison_guard'::name, pg_catalog.format(
        'CREATE TRIGGER "~cloison_guard" AFTER INSERT OR DELETE OR UPDATE ON %s FOR EACH ROW '
        '%sEXECUTE FUNCTION cloison.guard_row%s', target,
        case when cloison.is_written_by_rules(relation) then ''
             else 'WHEN ((CURRENT_USER IS DISTINCT FROM SESSION_USER)) ' end,
        arguments);
    if exists (select from cloison.key_actions() k where k.child = expected_guards.relation) then
        return query select '!cloison_guard_row'::name, pg_catalog.format(
            'CREATE TRIGGER "!cloison_guard_row" BEFORE DELETE OR UPDATE ON %s FOR EACH ROW '
            'WHEN (((CURRENT_USER IS DISTINCT FROM SESSION_USER) '
            'AND (NOT row_security_active(old.tableoid)))) '
            'EXECUTE FUNCTION cloison.guard_row%s', target, arguments);
        return query select '!cloison_guard_all'::name, pg_catalog.format(
            'CREATE TRIGGER "!cloison_guard_all" BEFORE DELETE OR UPDATE ON %s FOR EACH STATEMENT '
            'WHEN (((CURRENT_USER IS DISTINCT FROM SESSION_USER) '
            'AND (NOT row_security_active((%L::regclass)::oid)))) '
            'EXECUTE FUNCTION cloison.guard_row()', target, target);
    end if;
    -- A row that moves to another partition looks deleted to a trigger. So there the action is left
    -- to Postgres, and refused where it meets code.
    if is_partitioned then
        return;
    end if;
    if cloison.action_meets_code(relation, 'DELETE') then
        return query select 'RI_Cloison_delete'::name, pg_catalog.format(
            'CREATE TRIGGER "RI_Cloison_delete" AFTER DELETE ON %s FOR EACH ROW '
            'WHEN (row_security_active(old.tableoid)) '
            'EXECUTE FUNCTION cloison.act_as_caller()', target);
    end if;
    if cloison.action_meets_code(relation, 'UPDATE') then
        select pg_catalog.string_agg(
                pg_catalog.format('(old.%1$I IS DISTINCT FROM new.%1$I)', a.attname),
                ' OR ' order by a.attnum)
            into keys
            from pg_catalog.pg_attribute a
            where a.attrelid = expected_guards.relation
              and exists (
                  select
                  from cloison.key_actions() k join pg_catalog.pg_constraint c on c.oid = k.key
                  where k.parent = a.attrelid and k.on_update is not null
                    and a.attnum = any (c.confkey));
        return query select 'RI_Cloison_update'::name, pg_catalog.format(
            'CREATE TRIGGER "RI_Cloison_update" AFTER UPDATE ON %s FOR EACH ROW '
            'WHEN ((%s AND row_security_active(old.tableoid))) '
            'EXECUTE FUNCTION cloison.act_as_caller()',
            target, case when keys like '% OR %' then '(' || keys || ')' else keys end);
    end if;
end;
$$;

-- The triggers of the kit that a table has by itself, and whether they are on, whatever is set.
create or replace function cloison.actual_guards(relation regclass)
    returns table (name name, definition text, is_on boolean)
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select t.tgname, pg_catalog.pg_get_triggerdef(t.oid),
        t.tgenabled = 'A'
            -- Where the actions themselves do not run, this need not.
            or t.tgenabled = 'O' and t.tgfoid <> pg_catalog.to_regprocedure('cloison.guard_row()')
    from pg_catalog.pg_trigger t
    where t.tgrelid = actual_guards.relation
      and t.tgparentid = 0
      and t.tgfoid in (
          pg_catalog.to_regprocedure('cloison.guard_row()'),
          pg_catalog.to_regprocedure('cloison.act_as_caller()'));
$$;

-- Makes the triggers of one table what they should be. Touches nothing that is right already.
create or replace function cloison.apply_guard(relation regclass)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    found record;
    wanted record;
begin
    for found in
        select a.name from cloison.actual_guards(apply_guard.relation) a
        where not a.is_on
           or not exists (
               select from cloison.expected_guards(apply_guard.relation) e
               where e.name = a.name and e.definition = a.definition)
    loop
        execute pg_catalog.format('drop trigger %I on %s', found.name, relation);
    end loop;
    for wanted in
        select e.name, e.definition from cloison.expected_guards(apply_guard.relation) e
        where e.name not in (select a.name from cloison.actual_guards(apply_guard.relation) a)
    loop
        execute wanted.definition;
        if wanted.name not like 'RI%' then
            execute pg_catalog.format('alter table %s%s enable always trigger %I',
                -- Partitions have the triggers for each row as well, and no others.
                case when wanted.definition like '% FOR EACH STATEMENT %' then 'only ' else '' end,
                relation, wanted.name);
        end if;
    end loop;
end;
$$;

-- The same for a table and for every other that its keys make a difference to, as far as they are
-- the caller's.
create or replace function cloison.apply_guards(relation regclass)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    neighbour regclass;
begin
    perform cloison.apply_guard(relation);
    for neighbour in
        with recursive
        up as (
            select k.confrelid as oid
            from pg_catalog.pg_constraint k
            where k.conrelid = apply_guards.relation and k.contype = 'f'
            union
            select k.confrelid
            from up u join pg_catalog.pg_constraint k on k.conrelid = u.oid and k.contype = 'f'
        ),
        around as (
            select u.oid from up u
            union
            select k.conrelid
            from pg_catalog.pg_constraint k
            where k.confrelid = apply_guards.relation and k.contype = 'f'
        )
        select a.oid::regclass
        from around a
            join cloison.protected_tables p on p.relation = a.oid and p.class = 'tenant'
            join pg_catalog.pg_class c on c.oid = a.oid
        where a.oid <> apply_guards.relation
          and pg_catalog.pg_has_role(c.relowner, 'usage')
        order by a.oid
    loop
        perform cloison.apply_guard(neighbour);
    end loop;
end;
$$;

-- Says which keys of a table let one tenant's action come to another's rows, when the table is
-- protected. The guard refuses that, and so the other keeps the first from deleting its own.
create or replace function cloison.warn_of_actions(relation regclass)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    found record;
begin
    for found in
        select k.conname, k.conrelid::regclass as child
        from cloison.key_actions() a
            join pg_catalog.pg_constraint k on k.oid = a.key
        where warn_of_actions.relation in (a.child, a.parent)
          and cloison.is_across_tenants(k.oid)
        order by k.conname
    loop
        raise warning 'foreign key % of % acts on rows without the tenant',
                pg_catalog.quote_ident(found.conname), found.child
            using detail = 'A row of one tenant can refer to a row of another, which can then not '
                      'be deleted any more.',
                  hint = '`cloison lint` has the SQL that widens it, `cloison adopt` does it.';
    end loop;
end;
$$;

-- Whether a foreign key between tenants' tables does not hold the tenant.
create or replace function cloison.is_across_tenants(key oid)
    returns boolean
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select not exists (
        select
        from pg_catalog.pg_constraint k
            join cloison.protected_tables c on c.relation = k.conrelid
            join cloison.protected_tables p on p.relation = k.confrelid
            join pg_catalog.pg_attribute ca
                on ca.attrelid = k.conrelid and ca.attname = c.tenant_column
            join pg_catalog.pg_attribute pa
                on pa.attrelid = k.confrelid and pa.attname = p.tenant_column,
            lateral unnest(k.conkey, k.confkey) u (mine, theirs)
        where k.oid = is_across_tenants.key
          and u.mine = ca.attnum and u.theirs = pa.attnum);
$$;

-- The function of the guards: see the head of this file.
--
-- It asks who has logged in, and not what the setting cloison.context holds: a tenant can empty
-- that in the middle of a statement, and then no row is its own.
create or replace function cloison.guard_row()
    returns trigger
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    mine uuid;
    is_theirs boolean := false;
    code text;
begin
    if cloison.in_tenant_session() then
        if tg_op = 'TRUNCATE' then
            raise exception 'a tenant''s session cannot empty %', tg_relid::regclass
                using errcode = 'insufficient_privilege',
                      detail = 'TRUNCATE by code that runs as somebody else than the session''s '
                          'user takes every tenant''s rows.',
                      hint = 'DELETE takes the tenant''s own. What is meant for several tenants '
                          'runs as the owner or the super-admin.';
        end if;
        if tg_level = 'ROW' and tg_argv[0] = 'tenant_id'
            and tg_argv[1] = 'cloison.current_tenant_id()'
        then
            mine := cloison.current_tenant_id();
            if tg_op <> 'INSERT' then
                is_theirs := old.tenant_id is distinct from mine;
            end if;
            if tg_op <> 'DELETE' and tg_when = 'AFTER' then
                is_theirs := is_theirs or new.tenant_id is distinct from mine;
            end if;
        elsif tg_level = 'ROW' then
            if tg_op <> 'INSERT' then
                execute pg_catalog.format(
                    'select ($1).%I is distinct from %s', tg_argv[0], tg_argv[1])
                    into is_theirs using old;
            end if;
            if tg_op <> 'DELETE' and tg_when = 'AFTER' and not is_theirs then
                execute pg_catalog.format(
                    'select ($1).%I is distinct from %s', tg_argv[0], tg_argv[1])
                    into is_theirs using new;
            end if;
        end if;
        if is_theirs then
            raise exception 'a row of % is not this tenant''s', tg_relid::regclass
                using errcode = 'insufficient_privilege',
                      detail = case when tg_when = 'BEFORE'
                          then pg_catalog.format('A foreign key''s action came to it with %s, '
                              'past row security.', tg_op)
                          else pg_catalog.format('%s by code that runs as somebody else than the '
                              'session''s user: a foreign key''s action, a trigger in one, a rule '
                              'or a SECURITY DEFINER function.', tg_op) end,
                      hint = 'A tenant''s session changes rows of its own tenant only. What is '
                          'meant for several tenants runs as the owner or the super-admin.';
        end if;
        if tg_when = 'BEFORE' then
            -- Most tables have nothing of the kind, and this costs less than to ask for all.
            if tg_op = 'UPDATE' or exists (
                select
                from pg_catalog.pg_trigger t
                where t.tgrelid = tg_relid and not t.tgisinternal and t.tgfoid >= 16384
                  and t.tgfoid not in (
                      'cloison.guard_row()'::regprocedure, 'cloison.act_as_caller()'::regprocedure)
            ) then
                code := cloison.action_code(tg_relid, tg_op, tg_level);
            end if;
            if code is not null then
                raise exception 'a foreign key''s action would run % of % past row security',
                        code, tg_relid::regclass
                    using errcode = 'insufficient_privilege',
                          hint = case tg_level when 'ROW'
                              then pg_catalog.format('Rows that the policies hide from this '
                                  'session stay as they are. Elsewhere: select '
                                  'cloison.protect(…) of %s, which has this done in the '
                                  'tenant''s name.', tg_relid::regclass)
                              else pg_catalog.format('select cloison.fence_trigger(%L, ''…'')',
                                  tg_relid::regclass) end;
            end if;
        end if;
    end if;
    if tg_level = 'STATEMENT' or tg_when = 'AFTER' then
        return null;
    end if;
    return case tg_op when 'DELETE' then old else new end;
end;
$$;

-- What the actions of a table's keys do, as statements: $1 is the old row, $2 the new one. In the
-- order in which Postgres does them.
create or replace function cloison.action_statements(relation oid, event text)
    returns setof text
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return query
    select case
            when event = 'DELETE' and k.confdeltype = 'c'
                then pg_catalog.format('delete from %s c where %s', t.name, c.fits)
            when event = 'UPDATE' and k.confupdtype = 'c'
                then pg_catalog.format('update %s c set %s where %s and %s',
                    t.name, c.follow, c.fits, c.changed)
            else pg_catalog.format('update %s c set %s where %s', t.name,
                    case 'd' when case event when 'DELETE' then k.confdeltype else k.confupdtype end
                        then c.to_default else c.to_null end,
                    case event when 'DELETE' then c.fits else c.fits || ' and ' || c.changed end)
        end
    from pg_catalog.pg_trigger g
        join pg_catalog.pg_constraint k on k.oid = g.tgconstraint
        join pg_catalog.pg_class f on f.oid = k.conrelid
        join pg_catalog.pg_namespace n on n.oid = f.relnamespace
        join cloison.protected_tables p on p.relation = f.oid and p.class = 'tenant',
        lateral (
            select pg_catalog.format('%s%I.%I',
                case f.relkind when 'p' then '' else 'only ' end, n.nspname, f.relname)
        ) t (name),
        lateral (
            select
                pg_catalog.string_agg(pg_catalog.format('($1).%I operator(%I.%s) c.%I',
                    pk.attname, s.nspname, o.oprname, fk.attname), ' and ' order by u.place),
                pg_catalog.string_agg(pg_catalog.format('%I = ($2).%I', fk.attname, pk.attname),
                    ', ' order by u.place),
                '(' || pg_catalog.string_agg(pg_catalog.format('($1).%1$I is distinct from ($2).%1$I',
                    pk.attname), ' or ' order by u.place) || ')',
                pg_catalog.string_agg(pg_catalog.format('%I = null', fk.attname), ', '
                    order by u.place) filter (where u.is_set),
                pg_catalog.string_agg(pg_catalog.format('%I = default', fk.attname), ', '
                    order by u.place) filter (where u.is_set)
            from (
                select v.*, event <> 'DELETE'
                    or coalesce(nullif(pg_catalog.to_jsonb(k) -> 'confdelsetcols', 'null'),
                        pg_catalog.to_jsonb(k.conkey)) @> pg_catalog.to_jsonb(v.fk) as is_set
                from unnest(k.conkey, k.confkey, k.conpfeqop) with ordinality v (fk, pk, eq, place)
            ) u
                join pg_catalog.pg_attribute fk on fk.attrelid = k.conrelid and fk.attnum = u.fk
                join pg_catalog.pg_attribute pk on pk.attrelid = k.confrelid and pk.attnum = u.pk
                join pg_catalog.pg_operator o on o.oid = u.eq
                join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
        ) c (fits, follow, changed, to_null, to_default)
    where g.tgrelid = action_statements.relation
      and g.tgisinternal
      and g.tgconstrrelid <> 0
      and k.contype = 'f'
      and k.confrelid = g.tgrelid
      and g.tgtype & (case event when 'DELETE' then 8 else 16 end) <> 0
      and case event when 'DELETE' then k.confdeltype else k.confupdtype end in ('c', 'n', 'd')
      and pg_catalog.has_table_privilege(session_user, k.conrelid,
          case when event = 'DELETE' and k.confdeltype = 'c' then 'delete' else 'update' end)
    order by g.tgname;
end;
$$;

-- Does what a key's action would do, as the session's own user and under its policies. The action
-- itself comes next, by the order of names, and finds nothing.
--
-- It has no search_path of its own: the application's triggers would run under that, and they are
-- to find what they find after a statement that the tenant has sent. So every name here is full,
-- and it runs with no rights but its caller's.
create or replace function cloison.act_as_caller()
    returns trigger
    language plpgsql
as $$
declare
    statement text;
begin
    if not pg_catalog.pg_has_role(session_user, 'cloison_tenant', 'member') then
        return null;
    end if;
    if not cloison.in_tenant_session() then
        return null;
    end if;
    for statement in
        select a.statement from cloison.action_statements(tg_relid, tg_op) a (statement)
    loop
        if tg_op operator(pg_catalog.=) 'DELETE' then
            execute statement using old;
        else
            execute statement using old, new;
        end if;
    end loop;
    return null;
end;
$$;

-- Keeps a trigger FOR EACH STATEMENT from running in a key's action, where it would see every
-- tenant's rows: gives it a condition, and runs as the trigger's owner. It still fires for the
-- tenant's own statements and for the owner's.
create or replace function cloison.fence_trigger(relation regclass, trigger name)
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    target record;
    definition text;
    condition text;
    place integer;
begin
    select t.oid, t.tgtype, t.tgfoid::regproc::text as function, t.tgqual is not null as has_when
        into target
        from pg_catalog.pg_trigger t
        where t.tgrelid = fence_trigger.relation and t.tgname = fence_trigger.trigger
          and not t.tgisinternal;
    if not found or target.tgtype & 1 = 1 then
        raise exception '% has no trigger % FOR EACH STATEMENT', relation,
                pg_catalog.quote_ident(trigger)
            using errcode = 'undefined_object';
    end if;
    definition := pg_catalog.pg_get_triggerdef(target.oid);
    condition := pg_catalog.format(
        '(current_user = session_user or pg_catalog.row_security_active(%L::regclass))', relation);
    if pg_catalog.strpos(definition, '(CURRENT_USER = SESSION_USER) OR row_security_active(') > 0 then
        return;
    end if;
    if target.has_when then
        place := pg_catalog.strpos(definition, ' WHEN (') + 6;
        definition := pg_catalog.left(definition, place - 1) || '(' || condition || ' and '
            || pg_catalog.replace(pg_catalog.substr(definition, place),
                ') EXECUTE FUNCTION ', ')) EXECUTE FUNCTION ');
    else
        definition := pg_catalog.replace(definition, ' EXECUTE FUNCTION ',
            ' WHEN ' || condition || ' EXECUTE FUNCTION ');
    end if;
    execute pg_catalog.regexp_replace(definition, '^CREATE ', 'CREATE OR REPLACE ');
end;
$$;

-- The kit's own tables: in a tenant's session nobody changes them, whoever he runs as, but for rows
-- of that tenant's own in those that the application may keep (tg_argv: 'own'). A super-admin's
-- session needs its permit, also for a statement that finds no row, whose triggers could hold up
-- others.
create or replace function cloison.guard_kit()
    returns trigger
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
begin
    if cloison.in_tenant_session() then
        if tg_nargs = 0 or tg_op = 'TRUNCATE' then
            raise exception 'a tenant''s session does not change %', tg_relid::regclass
                using errcode = 'insufficient_privilege',
                      detail = pg_catalog.format('%s by code that runs as somebody else than the '
                          'session''s user.', tg_op),
                      hint = 'What changes the tables of the kit runs as the owner or the '
                          'super-admin.';
        end if;
    elsif pg_catalog.pg_has_role(session_user, 'cloison_superadmin', 'member') then
        perform cloison.demand_superadmin_write();
    end if;
    return null;
end;
$$;

-- The triggers that the kit's own tables should have, ENABLE ALWAYS like those above. Without a
-- definition: what another file makes.
create or replace function cloison.kit_guards()
    returns table (relation oid, name name, definition text)
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select pg_catalog.to_regclass('cloison.' || g.relation), g.name::name, g.definition
    from (
        select t.name, '!cloison_guard_kit', pg_catalog.format(
            'CREATE TRIGGER "!cloison_guard_kit" BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE '
            'ON cloison.%I FOR EACH STATEMENT EXECUTE FUNCTION cloison.guard_kit(%s)',
            t.name, t.argument)
        from (values
            ('tenants', ''), ('api_keys', ''), ('revocations', ''), ('signing_key', ''),
            ('settings', ''), ('accepted_findings', ''),
            ('tenant_users', '''own'''), ('usage_events', '''own''')) t (name, argument)
        union all
        select t.name, '~cloison_guard', pg_catalog.format(
            'CREATE TRIGGER "~cloison_guard" AFTER INSERT OR DELETE OR UPDATE ON cloison.%I '
            'FOR EACH ROW WHEN ((CURRENT_USER IS DISTINCT FROM SESSION_USER)) '
            'EXECUTE FUNCTION cloison.guard_row(''tenant_id'', ''cloison.current_tenant_id()'')',
            t.name)
        from (values ('tenant_users'), ('usage_events')) t (name)
        union all
        values
            ('tenants', 'tenant_changed', null),
            ('tenants', 'sessions_changed', null),
            ('revocations', 'sessions_changed', null),
            ('signing_key', 'signing_key_changed', null),
            ('audit_log', 'audit_new', null),
            ('audit_log', 'audit_keep_rows', null),
            ('audit_log', 'audit_keep_table', null)
    ) g (relation, name, definition)
    where pg_catalog.to_regclass('cloison.' || g.relation) is not null;
$$;

-- Makes them so. Touches nothing that is right already.
create or replace function cloison.apply_kit_guards()
    returns void
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    item record;
begin
    for item in
        select k.relation::regclass as relation, k.name, k.definition,
            t.oid is not null as is_there,
            pg_catalog.pg_get_triggerdef(t.oid) = k.definition as is_right
        from cloison.kit_guards() k
            left join pg_catalog.pg_trigger t on t.tgrelid = k.relation and t.tgname = k.name
        where t.oid is null or t.tgenabled <> 'A'
           or pg_catalog.pg_get_triggerdef(t.oid) <> k.definition
    loop
        if item.is_there and not item.is_right then
            execute pg_catalog.format('drop trigger %I on %s', item.name, item.relation);
        end if;
        if item.definition is not null and item.is_right is not true then
            execute item.definition;
        end if;
        if item.is_there or item.definition is not null then
            execute pg_catalog.format(
                'alter table %s enable always trigger %I', item.relation, item.name);
        end if;
    end loop;
end;
$$;

-- Everything that is wrong with the triggers above, with the level that lint gives it.
create or replace function cloison.guard_findings()
    returns table (relation oid, level text, problem text, fix text, key text)
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with
    mine as (
        select p.relation::oid as oid,
            pg_catalog.format('select cloison.protect(%L%s);', coalesce(p.part_of, p.relation),
                case when p.tenant_column = 'tenant_id' then ''
                     else pg_catalog.format(', ''tenant'', %L', p.tenant_column) end) as mend
        from cloison.protected_tables p
            join pg_catalog.pg_class c on c.oid = p.relation
        where p.class = 'tenant'
    )
    select m.oid, case when e.name like 'RI%' then 'warning' else 'critical' end,
        pg_catalog.format('trigger %I is %s', e.name, case
            when a.name is null then 'missing'
            when not a.is_on then 'switched off, or not ENABLE ALWAYS'
            else 'not as it was made' end)
            || case when e.name like 'RI%'
                then ': what a key''s action would do to other tables of the tenant is refused'
                else '' end,
        m.mend, e.name::text
    from mine m,
        cloison.expected_guards(m.oid) e
            left join lateral cloison.actual_guards(m.oid) a on a.name = e.name
    where a.name is null or not a.is_on
       or a.definition not in (
           e.definition,
           -- One that fires always does, too.
           pg_catalog.replace(
               e.definition, 'WHEN ((CURRENT_USER IS DISTINCT FROM SESSION_USER)) ', ''))
    union all
    -- Those that a partition has from its parent.
    select m.oid, 'critical',
        pg_catalog.format('trigger %I is switched off, or not ENABLE ALWAYS', t.tgname),
        pg_catalog.format('alter table %s enable always trigger %I;', m.oid::regclass, t.tgname),
        t.tgname::text
    from mine m join pg_catalog.pg_trigger t on t.tgrelid = m.oid
    where t.tgparentid <> 0
      and t.tgenabled <> 'A'
      and t.tgfoid = 'cloison.guard_row()'::regprocedure
    union all
    select m.oid, 'critical', pg_catalog.format('trigger %I fires before %I', t.tgname, g.tgname),
        pg_catalog.format('alter trigger %I on %s rename to %I;', t.tgname, m.oid::regclass,
            'a' || t.tgname),
        'order:' || t.tgname
    from mine m
        join pg_catalog.pg_trigger g on g.tgrelid = m.oid
            and g.tgfoid = 'cloison.guard_row()'::regprocedure and g.tgname like '!%'
            and g.tgtype & 32 = 0
        join pg_catalog.pg_trigger t on t.tgrelid = m.oid and t.tgtype & 3 = g.tgtype & 3
    where t.tgname < g.tgname
      and not t.tgisinternal and t.tgenabled in ('O', 'A') and t.tgparentid = 0
      and t.tgfoid <> g.tgfoid
    union all
    select k.relation, case when k.definition is null then 'warning' else 'critical' end,
        pg_catalog.format('trigger %I is %s', k.name, case
            when t.oid is null then 'missing'
            when t.tgenabled <> 'A' then 'switched off, or not ENABLE ALWAYS'
            else 'not as it was made' end),
        case when t.oid is null and k.definition is null then 'cloison install'
             else 'select cloison.apply_kit_guards();' end,
        k.name::text
    from cloison.kit_guards() k
        left join pg_catalog.pg_trigger t on t.tgrelid = k.relation and t.tgname = k.name
    where t.oid is null or t.tgenabled <> 'A'
       or pg_catalog.pg_get_triggerdef(t.oid) <> k.definition;
$$;

revoke execute on all functions in schema cloison from public;
grant execute on function
    cloison.in_tenant_session(),
    cloison.action_statements(oid, text)
    to cloison_tenant;
grant execute on function
    cloison.in_tenant_session(),
    cloison.action_code(oid, text, text),
    cloison.key_actions(),
    cloison.action_meets_code(oid, text),
    cloison.is_written_by_rules(oid),
    cloison.is_across_tenants(oid),
    cloison.expected_guards(regclass),
    cloison.actual_guards(regclass),
    cloison.kit_guards(),
    cloison.guard_findings()
    to cloison_control;
-- `cloison verify` can do with the super-admin's road alone.
grant execute on function
    cloison.action_code(oid, text, text),
    cloison.guard_findings()
    to cloison_superadmin;

do $$ begin perform cloison.apply_kit_guards(); end $$;

-- Tables that an older kit has protected. Whoever installs may not own one, and a writer may hold
-- it: lint then names it.
do $$
declare
    item record;
begin
    perform pg_catalog.set_config('cloison.protecting', 'on', true);
    perform pg_catalog.set_config('lock_timeout', '2s', true);
    for item in
        select p.relation
        from cloison.protected_tables p join pg_catalog.pg_class c on c.oid = p.relation
        where p.class = 'tenant'
    loop
        begin
            perform cloison.apply_guard(item.relation);
        exception
            when insufficient_privilege or lock_not_available then
                raise warning 'the guard of % is not made: %', item.relation, sqlerrm
                    using hint = 'cloison.protect() as its owner makes it; lint names it.';
        end;
    end loop;
    perform pg_catalog.set_config('cloison.protecting', '', true);
end
$$;

commit;
