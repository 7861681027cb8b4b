-- 0004: what the database adds to what a statement's text says.
--
-- A server connection may go from one tenant to the next without a reset only where it is proven
-- clean, and the proof reads the statements. cloison.surroundings() tells it what the text does
-- not: which names stand for the application's own code, and whether code runs that no text names.

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
    select 2;
$$;

-- It once said whether a login may call setseed() too.
do $$
begin
    if exists (
        select from pg_catalog.pg_proc p
        where p.oid = pg_catalog.to_regprocedure('cloison.surroundings(name, text[])')
          and 'may_set_seed' = any (p.proargnames)
    ) then
        drop function cloison.surroundings(name, text[]);
    end if;
end
$$;

-- What a statement of `login` can run that its text does not show: one row.
--
--   functions         bare names of functions that came neither with Postgres nor with this kit
--                     and that the login may call
--   vouched           those of them of which every function that it may call is in `harmless`
--   implicit_code     whether such code can run without being named at all
--   blame             by way of what, for the log: null if there is none
--   sequences         whether the login may ask what a session has drawn from a sequence
--   reads_statements  whether it may read the texts of a session's prepared statements
--
-- `harmless` holds schema-qualified names, such as 'public.touch_updated_at', of functions that
-- somebody has read and vouches for: they leave nothing in a session. Nobody can vouch for one that
-- is IMMUTABLE: what it returns may stand in a plan that others share.
--
-- It errs on the safe side. Triggers of tables that the login cannot reach count too, because
-- views and foreign keys lead there. Objects of pg_temp do not count: a session that has them is
-- not clean, and other sessions cannot reach them.
create or replace function cloison.surroundings(login name, harmless text[])
    returns table (
        functions text[],
        vouched text[],
        implicit_code boolean,
        blame text,
        sequences boolean,
        reads_statements boolean
    )
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with
    temporary as (
        select n.oid from pg_catalog.pg_namespace n where n.nspname like 'pg\_temp\_%'
    ),
    -- Below 16384 are the objects that initdb has made, in every database alike.
    foreign_function as materialized (
        select p.*, l.lanname,
            p.oid::regprocedure::text as signature,
            -- Postgres calls what is IMMUTABLE when it plans, and a plan is for whoever comes next.
            p.provolatile = 'i' as is_planned,
            pg_catalog.format('%s.%s', n.nspname, p.proname) = any (coalesce(harmless, '{}'))
                -- Postgres makes these with every type of ranges.
                or l.lanname = 'internal'
                    and p.prosrc in (
                        'range_constructor2', 'range_constructor3', 'multirange_constructor0',
                        'multirange_constructor1', 'multirange_constructor2') as is_harmless,
            pg_catalog.has_schema_privilege(login, n.oid, 'usage')
                and pg_catalog.has_function_privilege(login, p.oid, 'execute') as is_callable
        from pg_catalog.pg_proc p
            join pg_catalog.pg_namespace n on n.oid = p.pronamespace
            join pg_catalog.pg_language l on l.oid = p.prolang
        where (p.oid >= 16384 or n.nspname not in ('pg_catalog', 'information_schema'))
          -- The kit's own that leave nothing behind; policies, defaults and triggers call them.
          and p.oid::regprocedure::text not in (
              'cloison.kit_version()',
              'cloison.this_process()',
              'cloison.get_current_tenant()',
              'cloison.current_tenant_id()',
              'cloison.current_tenant_key()',
              'cloison.canonical_key(text)',
              'cloison.is_superadmin()',
              'cloison.superadmin_may_write()',
              'cloison.visible_tenants()',
              'cloison.on_new_table()',
              'cloison.tenant_changed()',
              'cloison.touch_tenant()',
              'cloison.sessions_changed()',
              'cloison.signing_key_changed()',
              -- Of 0007: their locks end with the transaction.
              'cloison.advisory_xact_lock(bigint)',
              'cloison.advisory_xact_lock(text)',
              'cloison.try_advisory_xact_lock(bigint)',
              'cloison.try_advisory_xact_lock(text)',
              -- Of 0009: triggers of the audit log.
              'cloison.audit_new()',
              'cloison.audit_keep()',
              -- Of 0010.
              'cloison.claims()',
              'cloison.claim(text)',
              'cloison.current_user_id()',
              -- Of 0013.
              'cloison.in_tenant_session()',
              'cloison.action_statements(oid,text)',
              'cloison.guard_row()',
              'cloison.guard_kit()',
              'cloison.act_as_caller()')
    ),
    -- Nobody can tell what code does by looking at its catalog row. Of compiled code that is
    -- known for extensions that have been read: it computes, and leaves nothing. Not among them:
    -- dblink, tablefunc, xml2 and refint run SQL, autoinc draws from sequences, postgres_fdw
    -- keeps sessions elsewhere.
    code as materialized (
        select f.*
        from foreign_function f
        where not f.is_harmless
          and not (
              f.lanname in ('internal', 'c')
              -- pg_trgm's changes a setting.
              and f.proname <> 'set_limit'
              and exists (
                  select
                  from pg_catalog.pg_depend d
                      join pg_catalog.pg_extension e on e.oid = d.refobjid
                  where d.classid = 'pg_catalog.pg_proc'::regclass
                    and d.objid = f.oid
                    and d.refclassid = 'pg_catalog.pg_extension'::regclass
                    and d.deptype = 'e'
                    and e.extname in (
                        'bloom', 'btree_gin', 'btree_gist', 'citext', 'cube', 'dict_int',
                        'dict_xsyn', 'earthdistance', 'fuzzystrmatch', 'hstore',
                        'insert_username', 'intarray', 'isn', 'ltree', 'moddatetime',
                        'pg_stat_statements', 'pg_trgm', 'pgcrypto', 'postgis', 'seg',
                        'tsm_system_rows', 'tsm_system_time', 'unaccent', 'uuid-ossp',
                        'vector')))
    ),
    -- Functions of Postgres itself on which nothing is known to depend, because nothing may: what
    -- changes a session is among the volatile ones, and these of them do not.
    lasting as materialized (
        select p.oid, p.oid::regprocedure::text as signature
        from pg_catalog.pg_proc p
        where p.oid < 16384
          and p.provolatile = 'v'
          and p.prorettype <> 'pg_catalog.trigger'::regtype
          and p.proname not in (
              'array_sample', 'array_shuffle', 'clock_timestamp', 'current_query',
              'gen_random_uuid', 'pg_blocking_pids', 'pg_current_wal_lsn', 'pg_database_size',
              'pg_indexes_size', 'pg_is_in_recovery', 'pg_lock_status', 'pg_partition_ancestors',
              'pg_partition_tree', 'pg_relation_size', 'pg_sequence_last_value', 'pg_sleep',
              'pg_sleep_for', 'pg_sleep_until', 'pg_table_size', 'pg_tablespace_size',
              'pg_total_relation_size', 'pg_xact_commit_timestamp', 'pg_xact_status', 'random',
              'random_normal', 'timeofday', 'txid_status', 'uuidv4', 'uuidv7',
              -- These are what `sequences` is about.
              'currval', 'lastval', 'nextval', 'setval')
          and p.proname not like 'pg\_stat\_get\_%'
          and pg_catalog.format('pg_catalog.%s', p.proname) <> all (coalesce(harmless, '{}'))
    ),
    -- Every expression that is stored, as text in which functions stand by number.
    expression (classid, objid, tree) as (
        select 'pg_catalog.pg_attrdef'::regclass, a.oid, a.adbin::text
        from pg_catalog.pg_attrdef a
        union all
        select 'pg_catalog.pg_class'::regclass, i.indexrelid,
            pg_catalog.concat(i.indexprs, i.indpred)
        from pg_catalog.pg_index i
        union all
        select 'pg_catalog.pg_class'::regclass, t.partrelid, t.partexprs::text
        from pg_catalog.pg_partitioned_table t
        union all
        select 'pg_catalog.pg_constraint'::regclass, c.oid, c.conbin::text
        from pg_catalog.pg_constraint c
        union all
        select 'pg_catalog.pg_policy'::regclass, p.oid,
            pg_catalog.concat(p.polqual, p.polwithcheck)
        from pg_catalog.pg_policy p
        union all
        select 'pg_catalog.pg_rewrite'::regclass, r.oid,
            pg_catalog.concat(r.ev_action, r.ev_qual)
        from pg_catalog.pg_rewrite r
        union all
        select 'pg_catalog.pg_statistic_ext'::regclass, s.oid, s.stxexprs::text
        from pg_catalog.pg_statistic_ext s
        union all
        select 'pg_catalog.pg_trigger'::regclass, t.oid, t.tgqual::text
        from pg_catalog.pg_trigger t
        union all
        select 'pg_catalog.pg_type'::regclass, t.oid, t.typdefaultbin::text
        from pg_catalog.pg_type t
    ),
    -- Objects that call something.
    caller (classid, objid, signature) as (
        select d.classid, d.objid, c.signature
        from code c
            join pg_catalog.pg_depend d
                on d.refclassid = 'pg_catalog.pg_proc'::regclass and d.refobjid = c.oid
        -- A function that calls another is named, or called, itself; so is one in a language.
        where d.classid not in (
                'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_language'::regclass)
          -- Without tables a wrapper does nothing.
          and (d.classid <> 'pg_catalog.pg_foreign_data_wrapper'::regclass
               or exists (
                   select
                   from pg_catalog.pg_foreign_table t
                       join pg_catalog.pg_foreign_server s on s.oid = t.ftserver
                   where s.srvfdw = d.objid))
        union all
        -- What becomes a part of a plan, without a row to be called for.
        select d.classid, d.objid, f.signature
        from foreign_function f
            join pg_catalog.pg_depend d
                on d.refclassid = 'pg_catalog.pg_proc'::regclass and d.refobjid = f.oid
        where f.is_harmless and f.is_planned and f.lanname <> 'internal'
          and (d.classid in (
                  'pg_catalog.pg_cast'::regclass, 'pg_catalog.pg_operator'::regclass,
                  'pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_rewrite'::regclass)
              or d.classid = 'pg_catalog.pg_attrdef'::regclass
                  and exists (
                      select
                      from pg_catalog.pg_attrdef x
                          join pg_catalog.pg_attribute a
                              on a.attrelid = x.adrelid and a.attnum = x.adnum
                      where x.oid = d.objid and a.attgenerated = ''))
        union all
        select e.classid, e.objid, l.signature
        from expression e,
            lateral pg_catalog.regexp_matches(e.tree, ':(?:funcid|opfuncid) (\d+)', 'g') m (number)
                join lasting l on l.oid = m.number[1]::oid
        where e.objid >= 16384
        union all
        select 'pg_catalog.pg_operator'::regclass, o.oid, l.signature
        from pg_catalog.pg_operator o join lasting l on l.oid = o.oprcode
        where o.oid >= 16384
        union all
        select 'pg_catalog.pg_cast'::regclass, k.oid, l.signature
        from pg_catalog.pg_cast k join lasting l on l.oid = k.castfunc
        where k.oid >= 16384
    ),
    finding (rank, text) as (
        select 1, pg_catalog.format('%s %s calls %s', o.type, o.identity, c.signature)
        from caller c,
            lateral pg_catalog.pg_identify_object(c.classid, c.objid, 0) o
        where not exists (
                select
                from pg_catalog.pg_depend d
                where d.classid = c.classid
                  and d.objid = c.objid
                  and (d.refclassid = 'pg_catalog.pg_namespace'::regclass
                           and d.refobjid in (select oid from temporary)
                       or d.refclassid = 'pg_catalog.pg_class'::regclass
                           and d.deptype in ('a', 'i')
                           and exists (
                               select from pg_catalog.pg_class t
                               where t.oid = d.refobjid and t.relpersistence = 't')
                       or d.refclassid = 'pg_catalog.pg_type'::regclass
                           and exists (
                               select from pg_catalog.pg_type t
                               where t.oid = d.refobjid
                                 and t.typnamespace in (select oid from temporary))))
        union all
        -- A rule puts other statements in the place of the one that was sent.
        select 2, pg_catalog.format('rule %s', o.identity)
        from pg_catalog.pg_rewrite r
            join pg_catalog.pg_class t on t.oid = r.ev_class,
            lateral pg_catalog.pg_identify_object(
                'pg_catalog.pg_rewrite'::regclass, r.oid, 0) o
        where r.oid >= 16384 and r.ev_type <> '1' and t.relpersistence <> 't'
        union all
        -- `t.f` calls f(t), and reads like a column.
        select 3, pg_catalog.format('%s can be called like a column', c.signature)
        from code c
            join pg_catalog.pg_type a
                on a.oid = coalesce(nullif(c.provariadic, 0), c.proargtypes[0])
            left join pg_catalog.pg_type base on base.oid = a.typbasetype
        where c.is_callable
          and c.prokind <> 'p'
          and c.pronargs - c.pronargdefaults <= 1
          and (a.typtype = 'c'
               or a.typtype = 'p' and a.typname in (
                   'any', 'anycompatible', 'anycompatiblenonarray', 'anyelement', 'anynonarray',
                   'record')
               or base.typtype in ('c', 'd')
               or exists (
                   select
                   from pg_catalog.pg_cast k
                       join pg_catalog.pg_type s on s.oid = k.castsource
                   where s.typtype = 'c' and k.castcontext = 'i'
                     and k.casttarget in (a.oid, base.oid)))
    ),
    first_finding as (
        select f.text from finding f order by f.rank, f.text limit 1
    ),
    callable (name, is_harmless) as (
        select f.proname::text, pg_catalog.bool_and(f.is_harmless
                and (f.lanname = 'internal' or not f.is_planned))
        from foreign_function f
        where f.is_callable
        group by f.proname
    )
    select
        array(select c.name from callable c order by c.name),
        array(select c.name from callable c where c.is_harmless order by c.name),
        exists (select from first_finding),
        (select f.text from first_finding f),
        exists (
            select
            from pg_catalog.pg_class s
            where s.relpersistence <> 't'
              -- Asked of anything else it is an error.
              and case when s.relkind = 'S'
                  then pg_catalog.has_sequence_privilege(login, s.oid, 'usage, select') end),
        pg_catalog.has_function_privilege(
            login, 'pg_catalog.pg_prepared_statement()'::regprocedure, 'execute');
$$;

revoke execute on function cloison.surroundings(name, text[]) from public;
grant execute on function cloison.surroundings(name, text[]) to cloison_control;

commit;
