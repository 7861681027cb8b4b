-- 0008: tokens that are good no more before they end.
--
-- A token proves itself, so somebody has to say when it does not count any more: by its id (jti) or
-- by its subject. The proxy reads that, and the status of the tenants whose clients it has, and ends
-- their sessions. It looks at one number; a notification only lets it look sooner.

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
    select 5;
$$;

-- What was revoked. Neither a jti nor a subject is a secret.
create table if not exists cloison.revocations (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('token', 'subject')),
    -- The jti or sub claim.
    value text not null check (value <> '' and pg_catalog.octet_length(value) <= 255),
    -- The iss claim of the tokens that are meant; null means those of every issuer.
    issuer text check (issuer <> ''),
    revoked_at timestamptz not null default pg_catalog.clock_timestamp(),
    -- From then on it does not count any more; null means never.
    until timestamptz,
    reason text not null check (reason <> ''),
    revoked_by text not null default session_user
);
create index if not exists revocations_until_idx on cloison.revocations (until);
revoke all on cloison.revocations from public;
alter table cloison.revocations enable row level security;

-- Grows whenever a session may have to end: the sum of what server processes have counted. A process
-- has a row of its own, so that no transaction that stays open keeps others from revoking. It is part
-- of what changes, so whoever sees the number sees everything that it stands for; and it is no
-- sequence, whose number would be seen ahead of that.
create table if not exists cloison.session_changes (
    process integer primary key,
    number bigint not null
);
revoke all on cloison.session_changes from public;
alter table cloison.session_changes enable row level security;

do $$
begin
    -- There was one row, which all waited for.
    if exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = 'cloison.session_changes'::regclass and a.attname = 'one'
          and not a.attisdropped
    ) then
        alter table cloison.session_changes
            drop column one,
            add column process integer primary key default 0,
            alter column number drop default;
        alter table cloison.session_changes alter column process drop default;
    end if;
end
$$;

-- Counts a change, and wakes the proxies.
create or replace function cloison.sessions_changed()
    returns trigger
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    insert into cloison.session_changes as c (process, number)
    values (pg_catalog.pg_backend_pid(), 1)
    on conflict (process) do update set number = c.number + 1;
    -- Anybody may listen, so it says nothing.
    perform pg_catalog.pg_notify('cloison', '');
    return null;
end;
$$;

do $$
begin
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.revocations'::regclass and t.tgname = 'sessions_changed'
    ) then
        create trigger sessions_changed
            after insert or update or delete or truncate on cloison.revocations
            for each statement execute function cloison.sessions_changed();
    end if;
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.tenants'::regclass and t.tgname = 'sessions_changed'
    ) then
        create trigger sessions_changed
            after update of status or delete or truncate on cloison.tenants
            for each statement execute function cloison.sessions_changed();
    end if;
end
$$;

-- Revokes a token or a subject, with a row in the audit log. Not for calling.
create or replace function cloison.revoke(
    kind text, value text, reason text, issuer text, until timestamptz
)
    returns bigint
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    revocation bigint;
begin
    perform cloison.demand_superadmin_write();
    -- What a token's own end has overtaken is of no use to anybody.
    delete from cloison.revocations r where r.until < pg_catalog.now() - interval '1 day';
    insert into cloison.revocations (kind, value, issuer, until, reason)
    values (kind, value, issuer, until, reason)
    returning id into revocation;
    insert into cloison.audit_log (actor, action, session, detail)
    values (
        session_user, kind || '.revoked', pg_catalog.pg_backend_pid()::text,
        pg_catalog.jsonb_build_object(
            'revocation', revocation, kind, value, 'issuer', issuer, 'until', until,
            'reason', reason));
    return revocation;
end;
$$;

-- Ends the sessions of the token with this jti, and lets it begin no more. Until is when the token
-- ends by itself; without it the row stays for good.
create or replace function cloison.revoke_token(
    jti text, reason text, issuer text default null, until timestamptz default null
)
    returns bigint
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select cloison.revoke('token', jti, reason, issuer, until);
$$;

-- The same for every token of this subject, those of tomorrow included, until then or until
-- lift_revocation().
create or replace function cloison.revoke_subject(
    subject text, reason text, issuer text default null, until timestamptz default null
)
    returns bigint
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select cloison.revoke('subject', subject, reason, issuer, until);
$$;

-- Whether a revocation concerns the actor that the proxy has let in: the token that it came with, its
-- subject, or a token with which that subject came before. Not for calling.
create or replace function cloison.concerns(revoked cloison.revocations, actor jsonb)
    returns boolean
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    value_hash text := pg_catalog.encode(
        pg_catalog.sha256(pg_catalog.convert_to(revoked.value, 'UTF8')), 'hex');
    issuer_hash text := pg_catalog.encode(
        pg_catalog.sha256(pg_catalog.convert_to(revoked.issuer, 'UTF8')), 'hex');
begin
    if issuer_hash is not null and issuer_hash <> actor ->> 'issuer' then
        return false;
    end if;
    return coalesce(value_hash = actor ->> revoked.kind, false)
        or revoked.kind = 'token' and exists (
            select from cloison.audit_log l
            where l.detail ->> 'token_id' = revoked.value
              and l.action = 'session.superadmin'
              and pg_catalog.encode(
                  pg_catalog.sha256(pg_catalog.convert_to(l.actor, 'UTF8')), 'hex')
                  = concerns.actor ->> 'subject');
end;
$$;

-- Takes a revocation back, and says whether there was one. For the kit's owner, and for a
-- super-admin whom the proxy has let in and whom it does not concern.
create or replace function cloison.lift_revocation(revocation bigint, reason text)
    returns boolean
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    lifted cloison.revocations;
    actor jsonb;
begin
    perform cloison.demand_superadmin_write();
    if not pg_catalog.pg_has_role(session_user, current_user, 'usage') then
        actor := cloison.current_actor();
        if actor is null then
            raise exception 'nobody knows whose session this is'
                using errcode = 'insufficient_privilege',
                      hint = 'Connect through the proxy, with session pooling; or lift the '
                          'revocation as the kit''s owner.';
        end if;
        select r.* into lifted from cloison.revocations r where r.id = revocation;
        if cloison.concerns(lifted, actor) then
            raise exception 'nobody lifts a revocation that concerns himself'
                using errcode = 'insufficient_privilege',
                      hint = 'Ask another super-admin, or the owner of the kit.';
        end if;
    end if;
    delete from cloison.revocations r where r.id = revocation returning * into lifted;
    if lifted.id is null then
        return false;
    end if;
    insert into cloison.audit_log (actor, action, session, detail)
    values (
        session_user, 'revocation.lifted', pg_catalog.pg_backend_pid()::text,
        pg_catalog.jsonb_build_object(
            'revocation', lifted.id, lifted.kind, lifted.value, 'issuer', lifted.issuer,
            'reason', reason));
    return true;
end;
$$;

-- The number that grows with every change. For cloison_control.
create or replace function cloison.session_change()
    returns bigint
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return (select coalesce(pg_catalog.sum(c.number), 0)::bigint from cloison.session_changes c);
end;
$$;

-- What is revoked now. For cloison_control, and for super-admins to look at.
create or replace function cloison.current_revocations()
    returns setof cloison.revocations
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return query
        select r.* from cloison.revocations r
        where r.until is null or r.until > pg_catalog.now()
        order by r.id;
end;
$$;

revoke execute on function
    cloison.sessions_changed(),
    cloison.revoke(text, text, text, text, timestamptz),
    cloison.revoke_token(text, text, text, timestamptz),
    cloison.revoke_subject(text, text, text, timestamptz),
    cloison.concerns(cloison.revocations, jsonb),
    cloison.lift_revocation(bigint, text),
    cloison.session_change(),
    cloison.current_revocations()
    from public;
grant execute on function
    cloison.revoke_token(text, text, text, timestamptz),
    cloison.revoke_subject(text, text, text, timestamptz),
    cloison.lift_revocation(bigint, text),
    cloison.current_revocations()
    to cloison_superadmin;
grant execute on function
    cloison.session_change(),
    cloison.current_revocations()
    to cloison_control;

commit;
