-- The sample application: an SaaS platform for small businesses, with a chat that was bought in.
--
-- Run as the owner of the database, after the kit. A second run changes nothing.
--
-- The tables are written as any application would write them for several tenants: a tenant column
-- in each, and at the head of each key, because unique and foreign keys see through row-level
-- security. What keeps the tenants apart is in the last part: one call a table.

begin;
set local client_min_messages = warning;

-- The plans that tenants subscribe to: the same for everybody.
create table if not exists public.plans (
    code text primary key,
    name text not null,
    price_cents integer not null check (price_cents >= 0),
    currency char(3) not null,
    monthly_credits integer not null
);

-- What our own staff writes about tenants: none of theirs to see.
create table if not exists public.internal_notes (
    id uuid primary key default gen_random_uuid(),
    about text not null,
    author text not null,
    body text not null,
    created_at timestamptz not null default now()
);

create table if not exists public.projects (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    name text not null,
    description text,
    status text not null default 'active' check (status in ('draft', 'active', 'done')),
    budget_cents bigint,
    due_on date,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, name)
);

create table if not exists public.knowledge_base (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    title text not null,
    body text not null,
    language text not null default 'fr',
    tags text[] not null default '{}',
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, title)
);

create table if not exists public.bolt_workflows (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    project_id uuid,
    name text not null,
    steps jsonb not null default '[]',
    is_enabled boolean not null default true,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, project_id) references public.projects (tenant_id, id)
        on delete cascade
);

create table if not exists public.orchestrator_state (
    tenant_id uuid not null,
    workflow_id uuid not null,
    phase text not null,
    state jsonb not null default '{}',
    updated_at timestamptz not null default now(),
    primary key (tenant_id, workflow_id),
    foreign key (tenant_id, workflow_id) references public.bolt_workflows (tenant_id, id)
        on delete cascade
);

create table if not exists public.bmad_workflows (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    agent text not null,
    goal text not null,
    status text not null default 'queued' check (status in ('queued', 'running', 'done')),
    result jsonb,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

create table if not exists public.voice_conversations (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    caller text not null,
    language text not null default 'fr',
    started_at timestamptz not null,
    duration_seconds integer not null check (duration_seconds >= 0),
    outcome text,
    primary key (tenant_id, id)
);

create table if not exists public.voice_transcriptions (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    conversation_id uuid not null,
    speaker text not null,
    content text not null,
    confidence numeric(4, 3) check (confidence between 0 and 1),
    primary key (tenant_id, id),
    foreign key (tenant_id, conversation_id)
        references public.voice_conversations (tenant_id, id)
        on delete cascade
);

create table if not exists public.crm_leads (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    full_name text not null,
    email text not null,
    phone text,
    source text,
    status text not null default 'new' check (status in ('new', 'qualified', 'won', 'lost')),
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, email)
);

create table if not exists public.crm_deals (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    lead_id uuid not null,
    title text not null,
    amount_cents bigint not null check (amount_cents >= 0),
    currency char(3) not null,
    stage text not null default 'open' check (stage in ('open', 'offer', 'won', 'lost')),
    expected_on date,
    primary key (tenant_id, id),
    foreign key (tenant_id, lead_id) references public.crm_leads (tenant_id, id)
        on delete cascade
);

create table if not exists public.billing_accounts (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    label text not null,
    plan_code text not null references public.plans (code),
    currency char(3) not null,
    credits integer not null default 0,
    opened_on date not null default current_date,
    primary key (tenant_id, id),
    unique (tenant_id, label)
);

create table if not exists public.credit_transactions (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    account_id uuid not null,
    amount integer not null check (amount <> 0),
    reason text not null,
    at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, account_id) references public.billing_accounts (tenant_id, id)
        on delete cascade
);

create table if not exists public.pme_analyses (
    tenant_id uuid not null,
    id uuid not null default gen_random_uuid(),
    subject text not null,
    period daterange not null,
    score numeric(4, 1) check (score between 0 and 100),
    findings jsonb not null default '{}',
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

-- The chat names its tenants by a number, which is cloison.tenants.external_key here.
create table if not exists public.vechat_conversations (
    organisation_id integer not null,
    id bigint not null generated by default as identity (start with 1001),
    participant1_id integer not null,
    participant1_type text not null,
    participant2_id integer not null,
    participant2_type text not null,
    created_at timestamptz not null default now(),
    primary key (organisation_id, id),
    unique (organisation_id, participant1_id, participant1_type,
            participant2_id, participant2_type)
);

create table if not exists public.vechat_messages (
    organisation_id integer not null,
    id bigint not null generated by default as identity (start with 1001),
    conversation_id bigint not null,
    sender_id integer not null,
    sender_type text not null,
    content text not null,
    sent_at timestamptz not null default now(),
    primary key (organisation_id, id),
    foreign key (organisation_id, conversation_id)
        references public.vechat_conversations (organisation_id, id)
        on delete cascade
);

-- Foreign keys are looked up from the other side too, when a row is deleted.
create index if not exists bolt_workflows_project_idx
    on public.bolt_workflows (tenant_id, project_id);
create index if not exists voice_transcriptions_conversation_idx
    on public.voice_transcriptions (tenant_id, conversation_id);
create index if not exists crm_deals_lead_idx
    on public.crm_deals (tenant_id, lead_id);
create index if not exists credit_transactions_account_idx
    on public.credit_transactions (tenant_id, account_id);
create index if not exists vechat_messages_conversation_idx
    on public.vechat_messages (organisation_id, conversation_id);

-- Tenancy: from here on, each tenant sees its own rows.
select cloison.protect('public.projects');
select cloison.protect('public.knowledge_base');
select cloison.protect('public.bolt_workflows');
select cloison.protect('public.orchestrator_state');
select cloison.protect('public.bmad_workflows');
select cloison.protect('public.voice_conversations');
select cloison.protect('public.voice_transcriptions');
select cloison.protect('public.crm_leads');
select cloison.protect('public.crm_deals');
select cloison.protect('public.billing_accounts');
select cloison.protect('public.credit_transactions');
select cloison.protect('public.pme_analyses');

-- A tenant column of another name and type.
select cloison.protect('public.vechat_conversations', tenant_column => 'organisation_id');
select cloison.protect('public.vechat_messages', tenant_column => 'organisation_id');

-- Read by every tenant, and by none.
select cloison.protect('public.plans', 'shared');
select cloison.protect('public.internal_notes', 'global');

commit;
