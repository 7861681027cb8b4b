-- 0014: COPY … FROM STDIN into tables with row security.
--
-- Postgres refuses it: COPY knows no policies. The proxy lets it go into a table of the session's
-- own, with the columns that it names and no constraint, and moves the rows from there by one
-- INSERT … SELECT that the caller runs itself. So what comes into a table has come by an ordinary
-- INSERT: under the caller's rights and policies, with its triggers, defaults and identities.
--
-- That table is nobody's way to anything. It is made and dropped in one transaction, so nobody else
-- ever sees it; no index, constraint, trigger or rule is on it; and a name of its kind hides nothing.

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
    select 8;
$$;

-- Makes pg_temp."~cloison_copy" with these columns of a table, and with their defaults if COPY is to
-- fill them in. Whoever may log in here may read of any table what it shows.
--
-- As the kit's owner, because tenants may not make temporary tables.
create or replace function cloison.make_copy_table(relation oid, columns name[], fills boolean)
    returns void
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set client_min_messages = warning
    language plpgsql
as $$
declare
    definition text;
begin
    select pg_catalog.string_agg(
            pg_catalog.format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))
            || case when make_copy_table.fills and a.attgenerated = '' then
                   coalesce(' default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
               else '' end,
            ', ' order by c.place)
        into definition
        from pg_catalog.unnest(make_copy_table.columns) with ordinality c (name, place)
            join pg_catalog.pg_attribute a
                on a.attrelid = make_copy_table.relation and a.attname = c.name
            left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attnum > 0 and not a.attisdropped;
    execute pg_catalog.format(
        'create temporary table pg_temp."~cloison_copy" (%s) on commit drop', definition);
    -- A temporary table is the session's, whatever is granted.
    grant select, insert on pg_temp."~cloison_copy" to public;
end;
$$;

-- Drops it: what follows in the transaction is to find no table that it has not made.
create or replace function cloison.drop_copy_table()
    returns void
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    drop table pg_temp."~cloison_copy";
end;
$$;

-- Asked by the proxy ahead of a COPY FROM STDIN, as its caller: makes the table that takes the data,
-- and returns the INSERT that moves it on. Null where Postgres is to have the COPY as it is, to do
-- it or to refuse it. The columns are as the statement has them; null for all.
create or replace function cloison.stage_copy(
    relation oid, columns text[], fills boolean, freezes boolean)
    returns text
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    wanted name[];
    known integer;
    is_allowed boolean;
begin
    if not coalesce(pg_catalog.row_security_active(stage_copy.relation), false) then
        return null;
    end if;
    if stage_copy.columns is null then
        select pg_catalog.array_agg(a.attname order by a.attnum) into wanted
            from pg_catalog.pg_attribute a
            where a.attrelid = stage_copy.relation and a.attnum > 0
              and not a.attisdropped and a.attgenerated = '';
    else
        select pg_catalog.array_agg((pg_catalog.parse_ident(c.name))[1]::name order by c.place)
            into wanted
            from pg_catalog.unnest(stage_copy.columns) with ordinality c (name, place);
    end if;
    select pg_catalog.count(distinct a.attnum),
            pg_catalog.bool_and(
                pg_catalog.has_column_privilege(stage_copy.relation, a.attnum, 'INSERT'))
        into known, is_allowed
        from pg_catalog.pg_attribute a
        where a.attrelid = stage_copy.relation and a.attname = any (wanted) and a.attnum > 0
          and not a.attisdropped and a.attgenerated = '';
    -- Of these Postgres says what is wrong.
    if known is distinct from pg_catalog.cardinality(wanted) or is_allowed is not true then
        return null;
    end if;
    if pg_catalog.current_setting('transaction_read_only')::boolean then
        raise exception 'cannot execute COPY FROM in a read-only transaction'
            using errcode = 'read_only_sql_transaction';
    end if;
    if stage_copy.freezes then
        raise exception 'COPY FREEZE is not supported with row-level security'
            using errcode = 'feature_not_supported',
                  hint = 'Leave FREEZE out: the rows come by an INSERT.';
    end if;
    if exists (
        select from pg_catalog.pg_rewrite r
        where r.ev_class = stage_copy.relation and r.ev_type = '3'
    ) then
        raise exception 'COPY FROM is not supported with row-level security and a rule on INSERT'
            using errcode = 'feature_not_supported',
                  hint = 'COPY passes rules by, and INSERT does not. Use INSERT, or a trigger in '
                         'place of the rule.';
    end if;
    perform cloison.make_copy_table(stage_copy.relation, wanted, stage_copy.fills);
    return (
        select pg_catalog.format(
            'insert into %s (%s) overriding system value select %2$s from pg_temp."~cloison_copy"',
            stage_copy.relation::regclass, pg_catalog.string_agg(
                pg_catalog.quote_ident(c.name), ', ' order by c.place))
        from pg_catalog.unnest(wanted) with ordinality c (name, place)
    );
end;
$$;

revoke execute on function
    cloison.make_copy_table(oid, name[], boolean),
    cloison.drop_copy_table(),
    cloison.stage_copy(oid, text[], boolean, boolean)
    from public;
grant execute on function
    cloison.make_copy_table(oid, name[], boolean),
    cloison.drop_copy_table(),
    cloison.stage_copy(oid, text[], boolean, boolean)
    to cloison_tenant, cloison_superadmin;

commit;
