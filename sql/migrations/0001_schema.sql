-- 0001: roles, schema, tables.
--
-- Runs as a role that owns the database and has CREATEROLE, or as a superuser. Where the three
-- group roles exist already, CREATEROLE is not needed. A second run changes nothing.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

-- Group roles. They never log in; logins are made members of exactly one of them.
--
--   cloison_tenant      what tenants' sessions run as
--   cloison_superadmin  sees all tenants, after enable_superadmin_mode()
--   cloison_control     the proxy itself
do $$
declare
    role text;
begin
    foreach role in array array['cloison_tenant', 'cloison_superadmin', 'cloison_control'] loop
        if not exists (select from pg_catalog.pg_roles r where r.rolname = role) then
            begin
                execute pg_catalog.format('create role %I nologin', role);
            exception
                -- Roles belong to the server: another database is being installed just now.
                when duplicate_object or unique_violation then null;
            end;
        end if;
        if exists (
            select from pg_catalog.pg_roles r
            where r.rolname = role and (r.rolsuper or r.rolbypassrls or r.rolcanlogin)
        ) then
            raise exception 'role % exists, and may log in, is superuser or bypasses row security',
                    role
                using errcode = 'insufficient_privilege',
                      hint = pg_catalog.format(
                          'alter role %I nologin nosuperuser nobypassrls', role);
        end if;
    end loop;
end
$$;

create schema if not exists cloison;
grant usage on schema cloison to cloison_tenant, cloison_superadmin, cloison_control;

-- The tenants. A change here is told on the channel cloison_tenants.
create table if not exists cloison.tenants (
    id uuid primary key default pg_catalog.gen_random_uuid(),
    name text not null check (name <> ''),
    -- What names the tenant in URLs and tokens.
    slug text not null unique check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    region text,
    plan text,
    -- Only an active tenant can be bound to a session.
    status text not null default 'active' check (status in ('active', 'suspended', 'archived')),
    admin_email text,
    metadata jsonb not null default '{}',
    -- How the application's own tables name the tenant, where that is not the id.
    external_key text unique,
    created_at timestamptz not null default pg_catalog.now(),
    updated_at timestamptz not null default pg_catalog.now()
);
create index if not exists tenants_status_idx on cloison.tenants (status);
create index if not exists tenants_region_idx on cloison.tenants (region);

-- Owns the rows that were there before there were tenants.
insert into cloison.tenants (name, slug)
select 'System default', 'system-default'
where not exists (select from cloison.tenants t where t.slug = 'system-default');

-- Which people belong to which tenants. The user's id is the application's.
create table if not exists cloison.tenant_users (
    tenant_id uuid not null references cloison.tenants (id) on delete cascade,
    user_id text not null check (user_id <> ''),
    role text not null default 'member',
    created_at timestamptz not null default pg_catalog.now(),
    primary key (tenant_id, user_id)
);
create index if not exists tenant_users_user_idx on cloison.tenant_users (user_id);

-- Keys for software that cannot mint a token. Only a hash is kept.
create table if not exists cloison.api_keys (
    id uuid primary key default pg_catalog.gen_random_uuid(),
    tenant_id uuid not null references cloison.tenants (id) on delete cascade,
    name text not null default '',
    -- The first characters of the key, to recognise it by.
    prefix text not null,
    -- SHA-256 of the whole key.
    hash bytea not null unique check (pg_catalog.octet_length(hash) = 32),
    scopes text[] not null default '{}',
    created_at timestamptz not null default pg_catalog.now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
create index if not exists api_keys_tenant_idx on cloison.api_keys (tenant_id);

-- What a tenant used, for billing and limits.
create table if not exists cloison.usage_events (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references cloison.tenants (id) on delete cascade,
    at timestamptz not null default pg_catalog.now(),
    kind text not null,
    quantity numeric not null default 1,
    detail jsonb not null default '{}'
);
create index if not exists usage_events_tenant_idx on cloison.usage_events (tenant_id, at);

-- What was done across tenants. Append-only: nobody but the kit's owner can change a row.
-- It outlives the tenants that it speaks of, so it has no foreign key.
create table if not exists cloison.audit_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default pg_catalog.clock_timestamp(),
    actor text not null,
    action text not null,
    tenant_id uuid,
    session text,
    detail jsonb not null default '{}'
);
create index if not exists audit_log_tenant_idx on cloison.audit_log (tenant_id, at);

-- The tables that cloison.protect() looks after.
create table if not exists cloison.protected_tables (
    relation regclass primary key,
    class text not null check (class in ('tenant', 'shared', 'global')),
    tenant_column name,
    column_type regtype,
    -- For a partition or a child: the table that it was protected with.
    part_of regclass,
    protected_at timestamptz not null default pg_catalog.now(),
    check ((class = 'tenant') = (tenant_column is not null)),
    check ((class = 'tenant') = (column_type is not null))
);

-- The secret that proofs and contexts are made with: one row, for its owner's eyes only.
-- The pads are the key as HMAC wants it (RFC 2104), xored with 0x36 and 0x5c, so that a check
-- costs two hashes and nothing else.
create table if not exists cloison.signing_key (
    one boolean primary key default true check (one),
    key bytea not null check (pg_catalog.octet_length(key) = 32),
    inner_pad bytea not null check (pg_catalog.octet_length(inner_pad) = 64),
    outer_pad bytea not null check (pg_catalog.octet_length(outer_pad) = 64),
    made_at timestamptz not null default pg_catalog.now()
);
revoke all on cloison.signing_key from public;
-- Not forced: the owner's functions read it at every evaluation of a policy.
alter table cloison.signing_key enable row level security;

do $$
declare
    secret bytea := '';
    inner_pad bytea := pg_catalog.decode(pg_catalog.repeat('36', 64), 'hex');
    outer_pad bytea := pg_catalog.decode(pg_catalog.repeat('5c', 64), 'hex');
begin
    if exists (select from cloison.signing_key) then
        return;
    end if;
    -- Four random uuids hold 488 bits from the server's cryptographic generator.
    for i in 1..4 loop
        secret := secret || pg_catalog.uuid_send(pg_catalog.gen_random_uuid());
    end loop;
    secret := pg_catalog.sha256(secret);
    for i in 0..31 loop
        inner_pad := pg_catalog.set_byte(
            inner_pad, i, pg_catalog.get_byte(secret, i) # pg_catalog.get_byte(inner_pad, i));
        outer_pad := pg_catalog.set_byte(
            outer_pad, i, pg_catalog.get_byte(secret, i) # pg_catalog.get_byte(outer_pad, i));
    end loop;
    insert into cloison.signing_key (key, inner_pad, outer_pad)
    values (secret, inner_pad, outer_pad);
end
$$;

-- How the kit behaves: one row.
create table if not exists cloison.settings (
    one boolean primary key default true check (one),
    -- Whether a proof is for one server process. Off behind another pooler, which hides the
    -- process id from the proxy.
    bind_process_id boolean not null default true,
    -- Whether a statement without a tenant fails (on) or finds nothing (off).
    strict boolean not null default true
);
-- Whether the start of a server process is signed, too: where the kit's owner may see it, as of
-- the last install.
alter table cloison.settings
    add column if not exists bind_process_start boolean not null default false;
revoke all on cloison.settings from public;
alter table cloison.settings enable row level security;

insert into cloison.settings (one) values (true) on conflict do nothing;
update cloison.settings
    set bind_process_start = not bind_process_start
    where bind_process_start <> pg_catalog.pg_has_role('pg_read_all_stats', 'usage');

commit;
