-- 0002: the signed context, and the functions that make it and check it.
--
-- Two secrets' uses are kept apart:
--
--   proof    what the proxy shows to set_tenant(): the second of the Unix epoch until which it is
--            good, in ten digits, and HMAC-SHA-256 of
--            'cloison:tenant:1:' || uuid (16 bytes) || these digits || process mark.
--   ticket   what set_tenant() leaves in the setting cloison.context: kind, tenant and an HMAC
--            of both, of the process mark, and of a moment. Kind 't' is for one transaction and its
--            moment is the transaction's start: a session that reads a 't' out of its own setting
--            can do nothing with it once the transaction is over. Kind 's' is for the session, and
--            kind 'p' is made by the proxy for one transaction, because set_tenant() costs as much
--            as two small queries. Both say behind the tenant, in ten digits, the second of the
--            Unix epoch until which they are good, and no moment is signed besides.
--
-- A process mark (process_mark(), in 32 digits) stands for one server process: its id, the start of
-- the server, and as much of the start of the process as the kit's owner may see. The proxy asks
-- each new connection for it once. Where settings.bind_process_id is off, it is empty.
--
-- What is good until a second is held against the start of the transaction, or against the arrival
-- of the client's message if that was earlier: what began in time may go on. The proxy makes
-- nothing that is good for longer than a minute, and renews it while its client is served.
--
-- Every function pins `search_path = pg_catalog, pg_temp`. An empty path would not do: pg_temp is
-- then searched first, for tables and types, so that a temporary table could stand before a name
-- that somebody forgot to qualify. Naming it last closes that. Other names are written in full.
--
-- Two MACs are compared as texts only where their 64-bit hashes are equal, so that the time it takes
-- tells nothing of how much was right: who gets as far as the texts has the whole of it, or luck that
-- is as rare.
--
-- Nothing here hands a secret to a query as a parameter: debug_print_plan, which any session may
-- switch on, prints those.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

-- The version of this kit, for the proxy to compare with what it needs.
create or replace function cloison.kit_version()
    returns integer
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select 1;
$$;

-- What stands for this server process in all that is signed: see above.
--
-- Declared immutable, so that a PL/pgSQL expression that names it is planned with the mark as a
-- constant: in one process it never changes, and no plan leaves its process. It is no secret.
create or replace function cloison.process_mark()
    returns text
    immutable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    process_start timestamptz;
begin
    -- Hardening may have taken the function; without it a mark is less, and nothing fails.
    if (select s.bind_process_start from cloison.settings s)
        and pg_catalog.has_function_privilege(
            'pg_catalog.pg_stat_get_activity(integer)'::regprocedure, 'execute')
    then
        select a.backend_start into process_start
            from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a;
    end if;
    return pg_catalog.left(pg_catalog.encode(
        pg_catalog.sha256(
            pg_catalog.int4send(pg_catalog.pg_backend_pid())
            || pg_catalog.timestamptz_send(pg_catalog.pg_postmaster_start_time())
            || pg_catalog.timestamptz_send(coalesce(process_start, 'epoch'))
            -- Over TCP, two processes that follow each other have different clients' ports.
            || pg_catalog.int4send(coalesce(pg_catalog.inet_client_port(), 0))),
        'hex'), 32);
end;
$$;

-- The same, for the proxy to ask a new connection. A constant would not do here: the first plan of
-- a process is made when it asks.
create or replace function cloison.this_process()
    returns text
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
begin
    return cloison.process_mark();
end;
$$;

-- Whether what is good until this second of the Unix epoch is good still.
create or replace function cloison.is_good_until(second text)
    returns boolean
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return second ~ '^[0-9]{10}$'
        and pg_catalog.date_part(
            'epoch', least(pg_catalog.now(), pg_catalog.statement_timestamp())) < second::float8;
end;
$$;

-- Makes this session act for a tenant for eight hours, and returns the ticket. Owner only: whoever
-- may call it chooses the tenant. Call it in an assignment, not by PERFORM: that would make a query
-- of it, with the pads for parameters.
create or replace function cloison.bind_tenant(tenant uuid, inner_pad bytea, outer_pad bytea)
    returns text
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    tenant_status text;
    body text := 's' || tenant::text || pg_catalog.lpad(
        (pg_catalog.date_part('epoch', pg_catalog.now())::bigint + 8 * 3600)::text, 10, '0');
begin
    select t.status into tenant_status from cloison.tenants t where t.id = tenant;
    if tenant_status is distinct from 'active' then
        raise exception 'tenant % is %', tenant, coalesce(tenant_status, 'unknown')
            using errcode = 'insufficient_privilege',
                  hint = 'Only an active tenant of cloison.tenants can be bound to a session.';
    end if;
    return pg_catalog.set_config(
        'cloison.context',
        body || pg_catalog.encode(
            pg_catalog.sha256(outer_pad || pg_catalog.sha256(
                inner_pad || pg_catalog.convert_to(
                    'cloison:context:1:' || body || cloison.process_mark(), 'UTF8'))),
            'hex'),
        false);
end;
$$;
drop function if exists cloison.bind_tenant(uuid, boolean, bytea, bytea);

-- Makes this session (or, with is_local, this transaction) act for a tenant, given the proof that
-- only the proxy can make: as long as the proof is good. A wrong proof is refused before the tenant
-- is looked up, so that it does not tell who exists.
create or replace function cloison.set_tenant(tenant uuid, proof text, is_local boolean)
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    -- A client that dumps switches it off, and the owner's own lookup would then be refused.
    set row_security = on
    language plpgsql
as $$
declare
    second text := pg_catalog.left(proof, 10);
    mark text := cloison.process_mark();
    inner_pad bytea;
    outer_pad bytea;
    expected text;
    tenant_status text;
    ticket text;
begin
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from cloison.signing_key k;
    loop
        expected := second || pg_catalog.encode(
            pg_catalog.sha256(outer_pad || pg_catalog.sha256(
                inner_pad || 'cloison:tenant:1:'::bytea || pg_catalog.uuid_send(tenant)
                || pg_catalog.convert_to(second || mark, 'UTF8'))),
            'hex');
        exit when is_local is not null
            and pg_catalog.hashtextextended(proof, 0) = pg_catalog.hashtextextended(expected, 0)
            and proof = expected;
        -- Behind another pooler the proxy does not know the process, and signs for any.
        if mark = '' or (select s.bind_process_id from cloison.settings s) then
            raise exception 'the proof does not fit this tenant and this session'
                using errcode = 'insufficient_privilege',
                      hint = 'Connect through the proxy: it alone can make the proof.';
        end if;
        mark := '';
    end loop;
    if cloison.is_good_until(second) is not true then
        raise exception 'the time of this proof is over'
            using errcode = 'insufficient_privilege',
                  hint = 'Do the clocks of the proxy and of the server agree?';
    end if;
    select t.status into tenant_status from cloison.tenants t where t.id = tenant;
    if tenant_status is distinct from 'active' then
        raise exception 'tenant % is %', tenant, coalesce(tenant_status, 'unknown')
            using errcode = 'insufficient_privilege',
                  hint = 'Only an active tenant of cloison.tenants can be bound to a session.';
    end if;
    ticket := case when is_local then 't' || tenant::text else 's' || tenant::text || second end;
    ticket := pg_catalog.set_config(
        'cloison.context',
        ticket || pg_catalog.encode(
            pg_catalog.sha256(outer_pad || pg_catalog.sha256(
                inner_pad || pg_catalog.convert_to('cloison:context:1:' || ticket || cloison.process_mark(), 'UTF8')
                || case when is_local then pg_catalog.timestamptz_send(pg_catalog.now())
                        else ''::bytea end)),
            'hex'),
        is_local);
end;
$$;

create or replace function cloison.set_tenant(tenant uuid, proof text)
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    perform cloison.set_tenant(tenant, proof, false);
end;
$$;

-- For operators: chooses a tenant without a proof. A role that row security does not hold for still
-- sees all rows, and is warned at each call.
create or replace function cloison.set_tenant(tenant uuid)
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    inner_pad bytea;
    outer_pad bytea;
    ticket text;
    -- Whose rights statements have: that of SET ROLE, or the login. In here current_user is this
    -- function's owner.
    acting name := coalesce(
        nullif(pg_catalog.current_setting('role'), 'none')::name, session_user);
begin
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from cloison.signing_key k;
    ticket := cloison.bind_tenant(tenant, inner_pad, outer_pad);
    if exists (
        select from pg_catalog.pg_roles r
        where r.rolname = acting and (r.rolsuper or r.rolbypassrls)
    ) then
        raise warning 'row security does not hold for role %: it sees and changes the rows of '
                'every tenant, whichever is chosen', acting
            using hint = 'Log in, or SET ROLE, as a role that is no superuser and has no '
                'BYPASSRLS, such as one of those that the proxy uses.';
    end if;
end;
$$;

-- One of the two pads, for the checks below and for nobody else.
--
-- Declared immutable, so that a PL/pgSQL expression that names it is planned with the pad as a
-- constant, and a check reads no table: that read cost as much as all the rest. A new key has to
-- undo such plans, which the trigger signing_key_changed does. A plan with a pad in it must never be
-- printed: see current_tenant_id().
create or replace function cloison.inner_pad()
    returns bytea
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return (select k.inner_pad from cloison.signing_key k);
end;
$$;

create or replace function cloison.outer_pad()
    returns bytea
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return (select k.outer_pad from cloison.signing_key k);
end;
$$;

-- The tenant that the setting cloison.context speaks of, if its MAC is right, or null: tickets of
-- every kind, and as nothing but a check. For the functions below.
create or replace function cloison.context_tenant()
    returns uuid
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    -- A setting made locally reads as '' once its transaction is over.
    ticket text := nullif(pg_catalog.current_setting('cloison.context', true), '');
    kind text := pg_catalog.left(ticket, 1);
    body integer := case when kind = 't' then 37 else 47 end;
    mac text := pg_catalog.substr(ticket, body + 1);
    mark text := cloison.process_mark();
    inner_pad bytea;
    outer_pad bytea;
    expected text;
begin
    if ticket is null then
        return null;
    end if;
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from cloison.signing_key k;
    loop
        expected := pg_catalog.encode(
            pg_catalog.sha256(outer_pad || pg_catalog.sha256(
                inner_pad || pg_catalog.convert_to(
                    'cloison:context:1:' || pg_catalog.left(ticket, body) || mark, 'UTF8')
                || case kind
                       when 't' then pg_catalog.timestamptz_send(pg_catalog.now())
                       else ''::bytea
                   end)),
            'hex');
        if pg_catalog.hashtextextended(mac, 0) = pg_catalog.hashtextextended(expected, 0)
            and mac = expected
            and (kind = 't' or cloison.is_good_until(pg_catalog.substr(ticket, 38, 10)))
        then
            return pg_catalog.substr(ticket, 2, 36)::uuid;
        end if;
        -- What was not made in this process is from a proxy that does not know it, or from nobody.
        if mark = '' or (select s.bind_process_id from cloison.settings s) then
            return null;
        end if;
        mark := '';
    end loop;
end;
$$;

-- The same, but raises when there is none, unless settings.strict is off. For current_tenant_id().
create or replace function cloison.bound_tenant()
    returns uuid
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    tenant uuid := cloison.context_tenant();
begin
    if tenant is null and (select s.strict from cloison.settings s) is not false then
        raise exception 'no tenant is bound to this session'
            using errcode = 'insufficient_privilege',
                  detail = case pg_catalog.current_setting('cloison.context', true) <> ''
                      when true then 'The setting cloison.context was not made for this session.'
                      else 'The setting cloison.context is empty.'
                  end,
                  hint = 'Connect through the proxy with a tenant''s token; '
                      'operators call cloison.set_tenant(uuid).';
    end if;
    return tenant;
end;
$$;

-- The tenant that this session acts for: what policies compare with and what tenant columns
-- default to.
--
-- Raises when there is none, so that a statement outside the proxy fails loudly instead of
-- finding nothing; with settings.strict off it is null, which equals nothing.
--
-- A policy pays for this at every scan, and PL/pgSQL makes each expression ready anew in each
-- transaction. So the ticket that the proxy makes for each transaction, and the session's, have an
-- expression that says what context_tenant() says; everything else is left to that. Its plan holds
-- the pads, and debug_print_plan prints plans to any session that asks: with it on, it is neither
-- made nor used.
create or replace function cloison.current_tenant_id()
    returns uuid
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    ticket text := case
        when pg_catalog.current_setting('debug_print_plan') = 'off'
        then pg_catalog.current_setting('cloison.context', true)
    end;
    expected text;
begin
    if ticket like 'p%' or ticket like 's%' then
        expected := pg_catalog.left(ticket, 47) || pg_catalog.encode(
            pg_catalog.sha256(cloison.outer_pad() || pg_catalog.sha256(
                cloison.inner_pad() || pg_catalog.convert_to(
                    'cloison:context:1:' || pg_catalog.left(ticket, 47) || cloison.process_mark(),
                    'UTF8'))),
            'hex');
    else
        return cloison.bound_tenant();
    end if;
    return case
        when pg_catalog.hashtextextended(ticket, 0) = pg_catalog.hashtextextended(expected, 0)
            and ticket = expected
            and pg_catalog.date_part(
                    'epoch', least(pg_catalog.now(), pg_catalog.statement_timestamp()))
                < pg_catalog.substr(ticket, 38, 10)::float8
        then pg_catalog.substr(ticket, 2, 36)::uuid
        else cloison.bound_tenant()
    end;
end;
$$;

-- The tenant that this session acts for, or null.
create or replace function cloison.get_current_tenant()
    returns uuid
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return cloison.context_tenant();
end;
$$;

-- The current tenant's external key, for tables that name the tenant in their own way.
create or replace function cloison.current_tenant_key()
    returns text
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    tenant uuid := cloison.current_tenant_id();
    external text;
begin
    if tenant is null then
        return null;
    end if;
    select t.external_key into external from cloison.tenants t where t.id = tenant;
    if external is null then
        raise exception 'tenant % has no external key', tenant
            using errcode = 'insufficient_privilege',
                  hint = 'update cloison.tenants set external_key = … : the value that '
                      'the application''s own tenant column holds for this tenant.';
    end if;
    return external;
end;
$$;

-- HMAC-SHA-256 of a message with the kit's key, in hex. For the functions below, and only where a
-- query more does not matter.
create or replace function cloison.mac(message bytea)
    returns text
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    inner_pad bytea;
    outer_pad bytea;
begin
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from cloison.signing_key k;
    return pg_catalog.encode(
        pg_catalog.sha256(outer_pad || pg_catalog.sha256(inner_pad || message)), 'hex');
end;
$$;

-- Whether a text that ends with a MAC has the right one of what stands ahead of it: made for this
-- process, or for any where settings.bind_process_id is off. What the MAC is about besides goes
-- ahead and behind.
create or replace function cloison.is_signed(signed text, ahead text, behind text)
    returns boolean
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    body text := pg_catalog.left(signed, -64);
    mark text := cloison.process_mark();
    expected text;
begin
    if signed is null or pg_catalog.length(signed) < 74 then
        return false;
    end if;
    if (select not s.bind_process_id from cloison.settings s) then
        mark := '';
    end if;
    expected := body || cloison.mac(
        pg_catalog.convert_to(ahead || body || mark || behind, 'UTF8'));
    return pg_catalog.hashtextextended(signed, 0) = pg_catalog.hashtextextended(expected, 0)
        and signed = expected;
end;
$$;

-- Whether this session has switched super-admin mode on. The setting cloison.superadmin is the
-- second until which it is good, and a MAC of it for this process and this login, so writing it
-- does not help. It is good for three quarters of a minute; the proxy has it renewed.
create or replace function cloison.is_superadmin()
    returns boolean
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    ticket text := pg_catalog.current_setting('cloison.superadmin', true);
begin
    return cloison.is_signed(ticket, 'cloison:superadmin:1:', session_user::text)
        and pg_catalog.length(ticket) = 74
        and cloison.is_good_until(pg_catalog.left(ticket, 10));
end;
$$;

-- Whether a super-admin's session may change rows: what policies of the super-admin's own ask.
--
-- The proxy leaves a permit in the setting cloison.superadmin_write of a session that has asked for
-- it: the second of the Unix epoch until which it is good, in ten digits, and HMAC-SHA-256 of
-- 'cloison:superadmin_write:1:', of these digits, and of the process mark. Raises in a session
-- that sees all tenants and has none, so that a statement does not quietly change nothing.
create or replace function cloison.superadmin_may_write()
    returns boolean
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    permit text := pg_catalog.current_setting('cloison.superadmin_write', true);
begin
    if not cloison.is_superadmin() then
        return false;
    end if;
    if (cloison.is_signed(permit, 'cloison:superadmin_write:1:', '')
        and pg_catalog.length(permit) = 74
        and cloison.is_good_until(pg_catalog.left(permit, 10))) is not true
    then
        raise exception 'this super-admin''s session is read-only'
            using errcode = 'insufficient_privilege',
                  hint = 'Connect through the proxy with options=''-c cloison.write=on''; '
                      'RESET ALL and DISCARD ALL end that.';
    end if;
    return true;
end;
$$;

-- Fails unless the caller may change what is the kit's: a super-admin whose session may write, or
-- the kit's owner. Each function of the kit that changes something and that super-admins may call
-- begins with it.
create or replace function cloison.demand_superadmin_write()
    returns void
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    if pg_catalog.pg_has_role(session_user, current_user, 'usage') then
        return;
    end if;
    if not cloison.superadmin_may_write() then
        raise exception 'this is for super-admins'
            using errcode = 'insufficient_privilege',
                  hint = 'First: select cloison.enable_superadmin_mode();';
    end if;
end;
$$;

-- Lets this session see all tenants, until it ends or is reset, and writes that down. For members
-- of cloison_superadmin. A read-only transaction cannot write it down, and is refused. (A ROLLBACK
-- takes the row back together with what it let the session read: the proxy writes a row of its
-- own, on a connection of its own.)
--
-- Without the proxy, which renews it, it is over after three quarters of a minute.
create or replace function cloison.enable_superadmin_mode()
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
begin
    insert into cloison.audit_log (actor, action, session)
    values (session_user, 'superadmin.enabled', pg_catalog.pg_backend_pid()::text);
    perform cloison.sign_superadmin(
        (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint + 45)::text);
end;
$$;

-- Leaves in the setting cloison.superadmin what is_superadmin() looks for. Not for calling.
create or replace function cloison.sign_superadmin(second text)
    returns void
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    mark text := case when (select s.bind_process_id from cloison.settings s)
        then cloison.process_mark() else '' end;
begin
    perform pg_catalog.set_config(
        'cloison.superadmin',
        second || cloison.mac(pg_catalog.convert_to(
            'cloison:superadmin:1:' || second || mark || session_user::text, 'UTF8')),
        false);
end;
$$;

-- Renews what a super-admin's session has, and only that: its mode, if it is on, and its permit to
-- write, if it has one still. The proxy calls this while the session may stay; only the proxy can
-- make the actor: the second until which all of it is good, in ten digits; as JSON, whose token it
-- is (issuer, subject, token_id); and HMAC-SHA-256 of 'cloison:actor:1:', of both, and of the
-- process mark.
create or replace function cloison.renew_superadmin(actor text, permit text)
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    old_permit text := pg_catalog.current_setting('cloison.superadmin_write', true);
    old_mode text := pg_catalog.current_setting('cloison.superadmin', true);
begin
    if (cloison.is_signed(actor, 'cloison:actor:1:', '')
        and cloison.is_good_until(pg_catalog.left(actor, 10))) is not true
    then
        raise exception 'the proof does not fit this session'
            using errcode = 'insufficient_privilege',
                  hint = 'Connect through the proxy: it alone can make the proof.';
    end if;
    perform pg_catalog.set_config('cloison.actor', actor, false);
    if permit <> '' and cloison.is_signed(old_permit, 'cloison:superadmin_write:1:', '') then
        perform pg_catalog.set_config('cloison.superadmin_write', permit, false);
    end if;
    if cloison.is_signed(old_mode, 'cloison:superadmin:1:', session_user::text) then
        perform cloison.sign_superadmin(pg_catalog.left(actor, 10));
    end if;
end;
$$;

-- Whose token the proxy has let in here: see renew_superadmin(). Null without the proxy.
create or replace function cloison.current_actor()
    returns jsonb
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    actor text := pg_catalog.current_setting('cloison.actor', true);
begin
    if cloison.is_signed(actor, 'cloison:actor:1:', '')
        and cloison.is_good_until(pg_catalog.left(actor, 10))
    then
        return pg_catalog.substr(pg_catalog.left(actor, -64), 11)::jsonb;
    end if;
    return null;
end;
$$;

-- What the proxy needs to make proofs. For cloison_control.
create or replace function cloison.signing_material()
    returns table (key bytea, bind_process_id boolean)
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return query
        select k.key, s.bind_process_id from cloison.signing_key k, cloison.settings s;
end;
$$;

-- Tells the proxy which tenant changed.
create or replace function cloison.tenant_changed()
    returns trigger
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    perform pg_catalog.pg_notify(
        'cloison_tenants', case when tg_op = 'DELETE' then old.id else new.id end::text);
    return null;
end;
$$;

-- Undoes the plans that hold the key before: they name inner_pad() and outer_pad(), and Postgres
-- makes plans anew when a function that they name is altered.
create or replace function cloison.signing_key_changed()
    returns trigger
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    alter function cloison.inner_pad() cost 100;
    alter function cloison.outer_pad() cost 100;
    return null;
end;
$$;

-- Keeps updated_at true.
create or replace function cloison.touch_tenant()
    returns trigger
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    new.updated_at := pg_catalog.now();
    return new;
end;
$$;

do $$
begin
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.tenants'::regclass and t.tgname = 'tenant_changed'
    ) then
        create trigger tenant_changed
            after insert or update or delete on cloison.tenants
            for each row execute function cloison.tenant_changed();
    end if;
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.tenants'::regclass and t.tgname = 'touch_tenant'
    ) then
        create trigger touch_tenant
            before update on cloison.tenants
            for each row execute function cloison.touch_tenant();
    end if;
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.signing_key'::regclass and t.tgname = 'signing_key_changed'
    ) then
        create trigger signing_key_changed
            after update on cloison.signing_key
            for each statement execute function cloison.signing_key_changed();
    end if;
end
$$;

-- Who may call what. Nobody else may call anything.
revoke execute on all functions in schema cloison from public;
grant execute on function
    cloison.kit_version(),
    cloison.this_process(),
    cloison.set_tenant(uuid, text),
    cloison.set_tenant(uuid, text, boolean),
    cloison.get_current_tenant(),
    cloison.current_tenant_id(),
    cloison.current_tenant_key(),
    cloison.is_superadmin()
    to cloison_tenant;
grant execute on function
    cloison.kit_version(),
    cloison.this_process(),
    cloison.renew_superadmin(text, text),
    cloison.set_tenant(uuid),
    cloison.get_current_tenant(),
    cloison.current_tenant_id(),
    cloison.current_tenant_key(),
    cloison.is_superadmin(),
    cloison.superadmin_may_write(),
    cloison.enable_superadmin_mode()
    to cloison_superadmin;
grant execute on function
    cloison.kit_version(),
    cloison.signing_material()
    to cloison_control;

commit;
