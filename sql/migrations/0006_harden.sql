-- 0006: hardening: what Postgres gives to PUBLIC and tenants should not have, taken away.
--
-- Tenants share one login role. So each of them may do to the others' sessions whatever a role may
-- do to its own, and reads what the server counts for all tenants together. None of it shows a row;
-- cloison.harden() takes it from PUBLIC, in this database, and gives it back to those who need it.
--
-- What is closed is data: cloison.hardening_rules(). Everything else reads that list.
--
-- Most of it belongs to the server's first superuser, and only a superuser can close it. Whoever
-- runs cloison.harden() closes what he may and is told about the rest.

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
    select 4;
$$;

-- What tenants were given back, by the name of an object or of a part.
create table if not exists cloison.hardening_allowed (
    name text primary key,
    allowed_by text not null default session_user,
    allowed_at timestamptz not null default pg_catalog.now()
);
revoke all on cloison.hardening_allowed from public;
alter table cloison.hardening_allowed enable row level security;

-- What harden() changed, in order, so that unharden() can change it back.
create table if not exists cloison.hardening_changes (
    id bigint generated always as identity primary key,
    change text not null check (change in ('granted', 'revoked')),
    privilege text not null,
    -- What GRANT and REVOKE call it: `function lo_open(oid,integer)`. Schemas are written out,
    -- except for pg_catalog.
    target text not null,
    -- As it stands in SQL: a quoted name, or public.
    grantee text not null
);
revoke all on cloison.hardening_changes from public;
alter table cloison.hardening_changes enable row level security;

-- What is closed, and what follows where it is not: the one list.
--
--   part         the name by which all of it can be allowed
--   kind         function, table, columns, language, database, elsewhere, schema
--   pattern      of the name: a regular expression that has to match all of it
--   extension    the extension that it comes with; null: it comes with Postgres
--   readers      Postgres' own role for those who look after a server; it keeps the right
--   consequence  what a tenant can do where it stays open
--
-- Rules rather than names, so that the functions of the next major are met too. What they leave
-- open on purpose, although it is near:
--
--   set_config, pg_advisory_unlock_all, pg_is_in_recovery, pg_backend_pid   drivers and poolers
--       call them by themselves. The context is signed, and a connection is reset after use.
--   pg_current_snapshot, pg_current_xact_id, txid_*   every row has an xmin, which cannot be closed.
--   currval, nextval, setval, pg_sequence_last_value   each sequence has grants of its own.
--   pg_relation_filenode, pg_relation_filepath   change when the owner rewrites a table.
--   pg_cursors, pg_listening_channels   of one's own session only, and reset.
--   pg_column_size, pg_get_*, pg_*_is_visible, has_*_privilege   introspection.
--   pg_sleep   time can be spent in many ways; only a limit helps.
create or replace function cloison.hardening_rules()
    returns table (
        part text,
        kind text,
        pattern text,
        extension text,
        privilege text,
        readers text,
        consequence text
    )
    immutable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select * from (values
    ('signals', 'function',
        'pg_(cancel|terminate)_backend|pg_log_backend_memory_contexts',
        null, 'EXECUTE', 'pg_signal_backend',
        'a tenant can cancel the statements and end the sessions of the others'),
    ('notifications', 'function', 'pg_notify',
        null, 'EXECUTE', null,
        'a tenant can send notifications to the others without the word NOTIFY'),
    ('advisory_locks', 'function',
        'pg_(try_)?advisory_(xact_)?lock(_shared)?|pg_advisory_unlock(_shared)?',
        null, 'EXECUTE', null,
        'a tenant can block the others'' advisory locks, and fill the lock table of the server'),
    ('large_objects', 'function', 'lo_.*|loread|lowrite',
        null, 'EXECUTE', null,
        'a tenant can read, change and remove the others'' large objects'),
    ('large_objects', 'table', 'pg_largeobject(_metadata)?',
        null, 'SELECT', null,
        'a tenant can read, change and remove the others'' large objects'),
    ('hidden_sql', 'function',
        '(cursor|database|query|schema|table)_to_xml(schema|_and_xmlschema)?'
        '|ts_stat|ts_rewrite\(tsquery,text\)',
        null, 'EXECUTE', null,
        'a tenant can run SQL from a text, which who reads its statements does not see'),
    ('hidden_sql', 'function', '.*', 'dblink', 'EXECUTE', null,
        'a tenant can open connections of its own from the server'),
    ('hidden_sql', 'function', 'connectby|crosstab.*', 'tablefunc', 'EXECUTE', null,
        'a tenant can run SQL from a text, which who reads its statements does not see'),
    ('hidden_sql', 'function', 'xpath_table', 'xml2', 'EXECUTE', null,
        'a tenant can run SQL from a text, which who reads its statements does not see'),
    ('random_seed', 'function', 'setseed',
        null, 'EXECUTE', null,
        'a tenant can choose what random() says next; SET seed, which stays, does the same'),
    ('snapshots', 'function', 'pg_export_snapshot',
        null, 'EXECUTE', null,
        'a tenant can leave a snapshot for other sessions'),
    ('replication', 'function',
        'pg_(create|copy|drop)_.*replication_slot|pg_(logical|replication)_.*'
        '|pg_sync_replication_slots|pg_get_replication_slots',
        null, 'EXECUTE', 'pg_monitor',
        'a tenant can write messages into the stream of logical decoding, and look at its slots'),
    ('replication', 'table', 'pg_replication_(slots|origin_status)',
        null, 'SELECT', 'pg_monitor',
        'a tenant can look at the replication slots'),
    ('activity', 'function',
        'pg_stat_get_(activity|backend_.*|progress_info|subscription|wal_receiver|wal_senders)'
        '|pg_lock_status|pg_(safe_snapshot_)?blocking_pids|pg_prepared_(statement|xact)'
        '|pg_isolation_test_session_is_blocked|pg_get_multixact_members',
        null, 'EXECUTE', 'pg_monitor',
        'a tenant can read the statements and watch the sessions and locks of the others'),
    ('activity', 'table',
        'pg_stat_(activity|gssapi|progress_.*|replication|ssl|subscription|wal_receiver)'
        '|pg_locks|pg_prepared_(statements|xacts)',
        null, 'SELECT', 'pg_monitor',
        'a tenant can read the statements and watch the sessions and locks of the others'),
    ('activity', 'function', '.*', 'pg_stat_statements', 'EXECUTE', 'pg_monitor',
        'a tenant can read the statements of the others'),
    ('activity', 'table', '.*', 'pg_stat_statements', 'SELECT', 'pg_monitor',
        'a tenant can read the statements of the others'),
    ('activity', 'function', 'pgrowlocks', 'pgrowlocks', 'EXECUTE', 'pg_monitor',
        'a tenant can see which rows of the others are locked'),
    ('sizes', 'function', 'pg_(database|indexes|relation|table|tablespace|total_relation)_size',
        null, 'EXECUTE', 'pg_monitor',
        'a tenant can measure how much all tenants together have stored'),
    ('counters', 'function',
        'pg_stat_.*|pg_notification_queue_usage|pg_control_.*',
        null, 'EXECUTE', 'pg_monitor',
        'a tenant can count what all tenants together read and write'),
    ('counters', 'table', 'pg_stat(io)?_.*',
        null, 'SELECT', 'pg_monitor',
        'a tenant can count what all tenants together read and write'),
    ('counters', 'function', '.*', 'pg_buffercache', 'EXECUTE', 'pg_monitor',
        'a tenant can see which tables of all tenants are in use'),
    ('counters', 'table', '.*', 'pg_buffercache', 'SELECT', 'pg_monitor',
        'a tenant can see which tables of all tenants are in use'),
    ('counters', 'function', '.*', 'pgstattuple', 'EXECUTE', 'pg_monitor',
        'a tenant can count the rows of all tenants'),
    ('counters', 'function', '.*', 'pg_freespacemap', 'EXECUTE', 'pg_monitor',
        'a tenant can measure how much all tenants together have stored'),
    ('planner_statistics', 'table', 'pg_stats(_ext|_ext_exprs)?',
        null, 'SELECT', 'pg_monitor',
        'where row security is off, a tenant can read samples of values; '
        'holes in the views that hide them elsewhere have been found before'),
    ('row_counts', 'columns', 'pg_class',
        null, 'SELECT', 'pg_monitor',
        'a tenant can read about how many rows all tenants together have'),
    ('row_versions', 'function', 'currtid2',
        null, 'EXECUTE', null,
        'a tenant can find out where rows are that the policies hide'),
    ('wal', 'function',
        'pg_current_wal_.*|pg_last_(wal|xact_replay)_.*|pg_get_wal_.*|pg_is_wal_replay_paused'
        '|pg_available_wal_summaries|pg_wal_summary_contents',
        null, 'EXECUTE', 'pg_monitor',
        'a tenant can measure how much all tenants together write'),
    ('transactions', 'function',
        'pg_xact_(commit_timestamp(_origin)?|status)|pg_last_committed_xact|txid_status',
        null, 'EXECUTE', 'pg_monitor',
        'a tenant can tell when the others'' transactions committed, and whether'),
    ('settings', 'table', 'pg_settings',
        null, 'UPDATE', null,
        'a tenant can change settings by an UPDATE, which does not look like SET'),
    ('languages', 'language', '.*',
        null, 'USAGE', null,
        'a tenant can run DO blocks, and make functions wherever it may create'),
    ('temporary', 'database', '.*',
        null, 'TEMPORARY', null,
        'a tenant can make tables and functions that stand before others of the same name'),
    ('create', 'database', '.*',
        null, 'CREATE', null,
        'a tenant can make schemas'),
    ('create', 'schema', '.*',
        null, 'CREATE', null,
        'a tenant can make tables and functions that others find'),
    ('connect', 'elsewhere', 'postgres|template1',
        null, 'CONNECT', null,
        'the tenants'' login can be used in another database, where nothing is hardened')
    ) rule (part, kind, pattern, extension, privilege, readers, consequence);
$$;

-- The columns of pg_class that count what all tenants have.
create or replace function cloison.hardened_columns()
    returns name[]
    immutable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select array['reltuples', 'relpages', 'relallvisible', 'relallfrozen']::name[];
$$;

-- The objects of this database that the rules mean, each once, with what is granted on it now.
--
--   name        by which it alone can be allowed
--   target      what GRANT and REVOKE call it
--   by_default  whether Postgres gives it to PUBLIC: what it does not, nobody can allow here
create or replace function cloison.hardening_targets()
    returns table (
        part text,
        kind text,
        id oid,
        name text,
        target text,
        privilege text,
        owner oid,
        acl aclitem[],
        by_default boolean,
        readers text,
        consequence text
    )
    stable
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with
    rule as (
        select r.*, '^(' || r.pattern || ')$' as whole
        from cloison.hardening_rules() with ordinality
            r (part, kind, pattern, extension, privilege, readers, consequence, number)
    ),
    member as (
        select d.classid, d.objid, e.extname
        from pg_catalog.pg_depend d
            join pg_catalog.pg_extension e on e.oid = d.refobjid
        where d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
    ),
    object as (
        select 'function' as kind, 'pg_catalog.pg_proc'::regclass as classid, p.oid,
            p.proname::text as name, p.oid::regprocedure::text as target, p.proowner as owner,
            p.proacl as acl, pg_catalog.acldefault('f', p.proowner) as default_acl, m.extname
        from pg_catalog.pg_proc p
            left join member m
                on m.classid = 'pg_catalog.pg_proc'::regclass and m.objid = p.oid
        where m.extname is not null or p.pronamespace = 'pg_catalog'::regnamespace
        union all
        select case c.oid when 'pg_catalog.pg_class'::regclass then 'columns' else 'table' end,
            'pg_catalog.pg_class'::regclass, c.oid, c.relname, c.oid::regclass::text, c.relowner,
            case c.oid when 'pg_catalog.pg_class'::regclass then c.relacl || array(
                select grants.item
                from pg_catalog.pg_attribute a, pg_catalog.unnest(a.attacl) grants (item)
                where a.attrelid = c.oid and a.attname = any (cloison.hardened_columns()))
            else c.relacl end,
            pg_catalog.acldefault('r', c.relowner), m.extname
        from pg_catalog.pg_class c
            left join member m
                on m.classid = 'pg_catalog.pg_class'::regclass and m.objid = c.oid
        where c.relkind in ('r', 'v')
          and (m.extname is not null or c.relnamespace = 'pg_catalog'::regnamespace)
        union all
        select 'language', 'pg_catalog.pg_language'::regclass, l.oid, l.lanname,
            pg_catalog.quote_ident(l.lanname), l.lanowner, l.lanacl,
            pg_catalog.acldefault('l', l.lanowner), null
        from pg_catalog.pg_language l
        where l.lanpltrusted
        union all
        select case d.datname when pg_catalog.current_database() then 'database'
                else 'elsewhere' end,
            'pg_catalog.pg_database'::regclass, d.oid, d.datname,
            pg_catalog.quote_ident(d.datname), d.datdba, d.datacl,
            pg_catalog.acldefault('d', d.datdba), null
        from pg_catalog.pg_database d
        where d.datallowconn
        union all
        select 'schema', 'pg_catalog.pg_namespace'::regclass, n.oid, n.nspname,
            pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl,
            pg_catalog.acldefault('n', n.nspowner), null
        from pg_catalog.pg_namespace n
        where n.nspname !~ '^pg_(toast|temp|catalog)' and n.nspname <> 'information_schema'
    )
    select distinct on (o.kind, o.oid, r.privilege)
        r.part, o.kind, o.oid,
        case when o.kind in ('database', 'schema', 'elsewhere')
            then pg_catalog.lower(r.privilege) else o.name end,
        pg_catalog.format('%s %s',
            case o.kind when 'columns' then 'table' when 'elsewhere' then 'database'
                else o.kind end, o.target),
        r.privilege, o.owner, coalesce(o.acl, o.default_acl),
        exists (
            select
            from pg_catalog.aclexplode(coalesce(i.initprivs, o.default_acl)) a
            where a.grantee = 0 and a.privilege_type = r.privilege),
        r.readers, r.consequence
    from rule r
        join object o
            on o.kind = r.kind
            and o.extname is not distinct from r.extension
            -- A pattern with arguments means one of several functions of that name.
            and (o.name ~ r.whole or o.target ~ r.whole)
        left join pg_catalog.pg_init_privs i
            on i.classoid = o.classid and i.objoid = o.oid and i.objsubid = 0
    order by o.kind, o.oid, r.privilege, r.number;
$$;

-- The targets, and how each stands.
--
--   allowed  whether tenants were given it back
--   open     whether a tenant can use it, and nobody has allowed that
--   open_to  the grantees that tenants are or belong to, as they stand in SQL
create or replace function cloison.hardening()
    returns table (
        part text,
        kind text,
        id oid,
        name text,
        target text,
        privilege text,
        owner oid,
        acl aclitem[],
        allowed boolean,
        open boolean,
        open_to text[],
        readers text,
        consequence text
    )
    stable
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with recursive
    targets as materialized (
        select t.* from cloison.hardening_targets() t
    ),
    named as (
        select t.id, t.kind, t.privilege
        from targets t
        where exists (
            select from cloison.hardening_allowed a where a.name in (t.name, t.part))
    ),
    -- Functions in a view are called by who reads it, so that a view is of no use without them.
    view (id) as (
        select n.id from named n where n.kind = 'table'
        union
        select called.oid::oid
        from view v
            join pg_catalog.pg_rewrite r on r.ev_class = v.id,
            lateral pg_catalog.regexp_matches(r.ev_action::text, ':relid (\d+)', 'g') m (number),
            lateral pg_catalog.unnest(m.number) called (oid)
    ),
    needed (id) as (
        select called.oid::oid
        from view v
            join pg_catalog.pg_rewrite r on r.ev_class = v.id,
            lateral pg_catalog.regexp_matches(r.ev_action::text, ':funcid (\d+)', 'g') m (number),
            lateral pg_catalog.unnest(m.number) called (oid)
    ),
    granted as (
        select t.id, t.kind, t.privilege,
            pg_catalog.array_agg(distinct
                case g.grantee when 0 then 'public'
                    else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) end) as names
        from targets t, pg_catalog.aclexplode(t.acl) g
        where g.privilege_type = t.privilege
          and g.grantee <> t.owner
          and g.grantee in (select role from cloison.tenant_roles() role)
        group by t.id, t.kind, t.privilege
    )
    select t.part, t.kind, t.id, t.name, t.target, t.privilege, t.owner, t.acl, t.allowed,
        -- What is allowed is for tenants, and for nobody else.
        g.names is not null and not (t.allowed and g.names = array['cloison_tenant']),
        coalesce(g.names, '{}'), t.readers, t.consequence
    from (
            select t.*,
                t.by_default and (
                    exists (
                        select from named n
                        where n.id = t.id and n.kind = t.kind and n.privilege = t.privilege)
                    or t.kind = 'function' and t.id in (select n.id from needed n)) as allowed
            from targets t
        ) t
        left join granted g
            on g.id = t.id and g.kind = t.kind and g.privilege = t.privilege
    order by t.part, t.target;
$$;

-- Who keeps what is taken from PUBLIC: the owners of this database, of the kit, of the protected
-- tables, and of materialized views, whose REFRESH … CONCURRENTLY makes a temporary table as their
-- owner. Superusers need no grant, and a role that tenants run as gets none.
create or replace function cloison.hardening_keepers()
    returns setof oid
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select r.oid
    from pg_catalog.pg_roles r
    where not r.rolsuper
      and r.oid not in (select role from cloison.tenant_roles() role)
      and r.oid in (
          select d.datdba from pg_catalog.pg_database d
          where d.datname = pg_catalog.current_database()
          union all
          select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'cloison'
          union all
          select c.relowner
          from cloison.protected_tables p join pg_catalog.pg_class c on c.oid = p.relation
          union all
          select c.relowner from pg_catalog.pg_class c where c.relkind = 'm');
$$;

-- Makes one change, and notes it. Not for calling.
create or replace function cloison.hardening_change(
    change text, privilege text, target text, grantee text
)
    returns void
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    -- Two databases that are hardened at once may change one row of pg_database.
    for attempt in 1..10 loop
        begin
            execute pg_catalog.format(
                case change when 'granted' then 'grant %s on %s to %s'
                    else 'revoke %s on %s from %s' end,
                privilege, target, grantee);
            exit;
        exception
            when internal_error then
                if attempt = 10 or sqlerrm not like 'tuple concurrently %' then
                    raise;
                end if;
                perform pg_catalog.pg_sleep(0.05);
        end;
    end loop;
    insert into cloison.hardening_changes (change, privilege, target, grantee)
    values (change, privilege, target, grantee);
end;
$$;

-- Takes one target from tenants, or gives it back to them where that is allowed. Not for calling.
create or replace function cloison.harden_one(
    target text, kind text, id oid, privilege text, owner oid, acl aclitem[],
    allowed boolean, open_to text[], readers text
)
    returns void
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_variable
declare
    grantee text;
begin
    foreach grantee in array open_to loop
        continue when allowed and grantee = 'cloison_tenant';
        perform cloison.hardening_change('revoked', privilege, target, grantee);
    end loop;
    if 'public' = any (open_to) then
        if kind = 'columns' then
            -- Columns of the system too, such as xmin and tableoid: tools ask for them.
            perform cloison.hardening_change(
                'granted',
                pg_catalog.format('%s (%s)', privilege, (
                    select pg_catalog.string_agg(
                        pg_catalog.quote_ident(a.attname), ', ' order by a.attnum)
                    from pg_catalog.pg_attribute a
                    where a.attrelid = id and not a.attisdropped
                      and a.attname <> all (cloison.hardened_columns()))),
                target, 'public');
        end if;
        for grantee in
            select pg_catalog.quote_ident(r.rolname)
            from pg_catalog.pg_roles r
            where (r.rolname = readers
                   or r.oid in (select keeper from cloison.hardening_keepers() keeper))
              and r.oid <> owner
              and not exists (
                  select from pg_catalog.aclexplode(acl) a
                  where a.grantee = r.oid and a.privilege_type = privilege)
        loop
            perform cloison.hardening_change('granted', privilege, target, grantee);
        end loop;
    end if;
    if allowed and 'cloison_tenant' <> all (open_to) then
        perform cloison.hardening_change('granted', privilege, target, 'cloison_tenant');
    end if;
end;
$$;

-- Closes all that the caller may close, and says of each target how it stands then. A second run
-- changes only what has opened since. What is in `allow`, by the name of an object or of a part,
-- stays with tenants, from now on: the names are remembered.
--
--   reason  why it is not done: null if it is
create or replace function cloison.harden(allow text[] default '{}')
    returns table (
        part text,
        target text,
        done boolean,
        allowed boolean,
        reason text,
        consequence text
    )
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    item record;
    reasons jsonb := '{}';
    wish text;
begin
    perform pg_catalog.pg_advisory_xact_lock(5494051832711403);
    foreach wish in array coalesce(allow, '{}') loop
        if not exists (
            select from cloison.hardening_targets() t
            where t.by_default and wish in (t.name, t.part)
        ) then
            raise exception 'nothing that hardening closes is called %', wish
                using errcode = 'undefined_object',
                      hint = 'select distinct part, name from cloison.hardening()';
        end if;
        insert into cloison.hardening_allowed (name) values (wish) on conflict do nothing;
    end loop;

    for item in
        select h.* from cloison.hardening() h
        where h.open or h.allowed and h.open_to = '{}'
    loop
        if not pg_catalog.pg_has_role(item.owner, 'usage') then
            reasons := reasons || pg_catalog.jsonb_build_object(
                item.target || item.privilege,
                pg_catalog.format('only %s may, which owns it',
                    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(item.owner))));
            continue;
        end if;
        begin
            perform cloison.harden_one(
                item.target, item.kind, item.id, item.privilege, item.owner, item.acl,
                item.allowed, item.open_to, item.readers);
        exception
            when others then
                reasons := reasons || pg_catalog.jsonb_build_object(
                    item.target || item.privilege, sqlerrm);
        end;
    end loop;

    return query
        select h.part, h.target, not h.open, h.allowed,
            case when h.open then coalesce(
                reasons ->> (h.target || h.privilege),
                pg_catalog.format('%s still has it, by a grant of somebody else',
                    pg_catalog.array_to_string(h.open_to, ', '))) end,
            h.consequence
        from cloison.hardening() h;
end;
$$;

-- Gives tenants back what goes by this name, and remembers it.
create or replace function cloison.allow_back(name text)
    returns table (
        part text,
        target text,
        done boolean,
        allowed boolean,
        reason text,
        consequence text
    )
    volatile
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select h.* from cloison.harden(array[name]) h where h.allowed;
$$;

-- Takes from tenants again what was allowed by this name.
create or replace function cloison.close_again(name text)
    returns table (
        part text,
        target text,
        done boolean,
        allowed boolean,
        reason text,
        consequence text
    )
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    given text[] := array(
        select h.part || ' ' || h.target from cloison.hardening() h where h.allowed);
begin
    delete from cloison.hardening_allowed a where a.name = close_again.name;
    if not found then
        raise exception 'nothing is allowed by the name %', name
            using errcode = 'undefined_object',
                  hint = 'select name from cloison.hardening_allowed';
    end if;
    return query
        select h.* from cloison.harden() h
        where not h.allowed and h.part || ' ' || h.target = any (given);
end;
$$;

-- What stands open, a row for each part and grantee, and what was allowed. No rows: everything in
-- the list is closed. The level is warning, or info for what somebody has allowed.
create or replace function cloison.hardening_findings()
    returns table (part text, level text, problem text, fix text)
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with standing as materialized (
        select h.* from cloison.hardening() h
    )
    select o.part, 'warning',
        pg_catalog.format('%s has %s on %s: %s', o.grantee,
            pg_catalog.string_agg(distinct o.privilege, ', '),
            case when pg_catalog.count(*) > 3
                then pg_catalog.format('%s and %s more',
                    pg_catalog.min(o.target), pg_catalog.count(*) - 1)
                else pg_catalog.string_agg(o.target, ', ' order by o.target) end,
            pg_catalog.min(o.consequence)),
        'as superuser: select * from cloison.harden()'
    from (
            select s.*, pg_catalog.unnest(s.open_to) as grantee from standing s where s.open
        ) o
    group by o.part, o.grantee
    union all
    select s.part, 'info',
        pg_catalog.format('tenants were given back %s: %s',
            case when pg_catalog.count(*) > 3
                then pg_catalog.format('%s and %s more',
                    pg_catalog.min(s.target), pg_catalog.count(*) - 1)
                else pg_catalog.string_agg(s.target, ', ' order by s.target) end,
            pg_catalog.min(s.consequence)),
        pg_catalog.string_agg(
            distinct pg_catalog.format('select * from cloison.close_again(%L)', a.name), '; ')
    from standing s
        left join cloison.hardening_allowed a on a.name in (s.name, s.part)
    where s.allowed and s.open_to <> '{}'
    group by s.part
    union all
    select 'connect', 'warning',
        pg_catalog.format('%s may connect to database %I, where nothing is hardened',
            case g.grantee when 0 then 'public'
                else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) end,
            d.datname),
        pg_catalog.format('revoke connect on database %I from %s', d.datname,
            case g.grantee when 0 then 'public'
                else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) end)
    from pg_catalog.pg_database d,
        pg_catalog.aclexplode(
            coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) g
    where d.datallowconn
      and d.datname <> pg_catalog.current_database()
      and d.datname not in ('postgres', 'template1')
      and g.privilege_type = 'CONNECT'
      and g.grantee <> d.datdba
      and g.grantee in (select role from cloison.tenant_roles() role)
    order by 1, 2, 3;
$$;

-- Changes back what harden() has changed, the last first, as far as the caller may. What is allowed
-- is forgotten. The rows are what is left, and why; they stay noted.
create or replace function cloison.unharden()
    returns table (target text, reason text)
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
#variable_conflict use_column
declare
    item record;
begin
    perform pg_catalog.pg_advisory_xact_lock(5494051832711403);
    delete from cloison.hardening_allowed;
    for item in
        with owner as materialized (
            select distinct t.target, t.owner from cloison.hardening_targets() t
        )
        -- Of an object or a role that is gone there is nothing to change: it has no owner here.
        select c.*, o.owner
        from cloison.hardening_changes c
            left join owner o
                on o.target = c.target
                and (c.grantee = 'public' or pg_catalog.to_regrole(c.grantee) is not null)
        order by c.id desc
    loop
        begin
            -- REVOKE and GRANT only warn of what they may not.
            if not pg_catalog.pg_has_role(item.owner, 'usage') then
                raise exception 'only % may, which owns it',
                        pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(item.owner))
                    using errcode = 'insufficient_privilege';
            end if;
            if item.owner is not null then
                execute pg_catalog.format(
                    case item.change when 'granted' then 'revoke %s on %s from %s'
                        else 'grant %s on %s to %s' end,
                    item.privilege, item.target, item.grantee);
            end if;
            delete from cloison.hardening_changes c where c.id = item.id;
        exception
            when others then
                target := item.target;
                reason := sqlerrm;
                return next;
        end;
    end loop;
end;
$$;

-- What harden() had taken from somebody, and that is open to him again.
create or replace function cloison.hardening_undone()
    returns table (target text, privilege text, grantee text, consequence text)
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    select distinct h.target, h.privilege, c.grantee, h.consequence
    from cloison.hardening_changes c
        join cloison.hardening() h on h.target = c.target and h.privilege = c.privilege
    where c.change = 'revoked'
      and h.open
      and c.grantee = any (h.open_to);
$$;

-- Nobody calls any of it but the kit's owner, who may see what hardening_findings() tells.
revoke execute on function
    cloison.hardening_rules(),
    cloison.hardening_targets(),
    cloison.hardened_columns(),
    cloison.hardening(),
    cloison.hardening_keepers(),
    cloison.hardening_change(text, text, text, text),
    cloison.harden_one(text, text, oid, text, oid, aclitem[], boolean, text[], text),
    cloison.harden(text[]),
    cloison.allow_back(text),
    cloison.close_again(text),
    cloison.hardening_findings(),
    cloison.hardening_undone(),
    cloison.unharden()
    from public;
grant execute on function cloison.hardening_findings(), cloison.hardening_undone()
    to cloison_control;

commit;
