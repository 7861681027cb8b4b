//! The faults: what is done wrong, what is found, and what takes the stage back to how it was.

/// One fault.
pub(super) struct Fault {
    pub(super) who: Who,
    pub(super) make: &'static str,
    /// Keys and levels of all that is new.
    pub(super) finds: &'static [(&'static str, &'static str)],
    /// For findings without a fix.
    pub(super) cure_by_hand: &'static str,
    /// What the cure leaves behind.
    pub(super) undo: &'static str,
    pub(super) majors: &'static [u32],
}

/// Who makes it, and cures it.
#[derive(Clone, Copy)]
pub(super) enum Who {
    Owner,
    Superuser,
}

const ALL: &[u32] = &[14, 15, 16, 17, 18];

const fn owner(
    make: &'static str,
    finds: &'static [(&'static str, &'static str)],
    undo: &'static str,
) -> Fault {
    Fault { who: Who::Owner, make, finds, cure_by_hand: "", undo, majors: ALL }
}

const fn superuser(
    make: &'static str,
    finds: &'static [(&'static str, &'static str)],
    undo: &'static str,
) -> Fault {
    Fault { who: Who::Superuser, make, finds, cure_by_hand: "", undo, majors: ALL }
}

impl Fault {
    const fn on(mut self, majors: &'static [u32]) -> Self {
        self.majors = majors;
        self
    }
}

/// Takes a partition away, and its row in the registry.
const DROP_PARTITION: &str = "
    drop table public.event_1;
    delete from cloison.protected_tables p
    where not exists (select from pg_class c where c.oid = p.relation)";

/// What is there, and is as it should be.
pub(super) const STAGE: &str = "
    create table public.note (
        tenant_id uuid not null, id bigint not null, body text, primary key (tenant_id, id));
    create table public.page (
        tenant_id uuid not null, id bigint not null, note_id bigint, period int4range,
        primary key (tenant_id, id));
    create index on public.page (tenant_id, note_id);
    create table public.plan (code text primary key);
    create table public.secret (id int primary key);
    create table public.event (tenant_id uuid not null, at date not null)
        partition by range (at);
    select cloison.protect('public.note');
    select cloison.protect('public.page');
    select cloison.protect('public.plan', 'shared');
    select cloison.protect('public.secret', 'global');
    select cloison.protect('public.event');
    create view public.plans as select * from public.plan;
    grant select on public.plans to cloison_tenant;
    create schema aside";

/// In the order of `sql/lints`, as the program lists them.
pub(super) const FAULTS: &[Fault] = &[
    owner(
        "create table public.fresh (tenant_id uuid not null, body text)",
        &[("table_unprotected:public.fresh", "warning")],
        "select cloison.unprotect('public.fresh'); drop table public.fresh",
    ),
    owner(
        "create table public.fresh (body text); grant select (body) on public.fresh to public",
        &[("table_unprotected:public.fresh", "critical")],
        "select cloison.unprotect('public.fresh'); drop table public.fresh",
    ),
    owner(
        "create table aside.\"Fresh one\" (body text); \
         grant usage on schema aside to cloison_tenant; \
         grant insert on aside.\"Fresh one\" to cloison_tenant",
        &[("table_unprotected:aside.\"Fresh one\"", "critical")],
        "select cloison.unprotect('aside.\"Fresh one\"'); drop table aside.\"Fresh one\"; \
         revoke usage on schema aside from cloison_tenant, cloison_superadmin",
    ),
    owner(
        "create table public.event_1 partition of public.event \
         for values from ('2026-01-01') to ('2026-02-01')",
        &[("partition_unprotected:public.event_1", "warning")],
        DROP_PARTITION,
    ),
    owner(
        "create table public.event_1 partition of public.event \
         for values from ('2026-01-01') to ('2026-02-01'); \
         grant select on public.event_1 to cloison_tenant",
        &[("partition_unprotected:public.event_1", "critical")],
        DROP_PARTITION,
    ),
    owner(
        "alter table public.note disable row level security",
        &[("rls_off:public.note", "critical")],
        "",
    ),
    owner(
        "alter table public.note no force row level security",
        &[("rls_not_forced:public.note", "warning")],
        "",
    ),
    Fault {
        cure_by_hand: "alter table public.note owner to {owner}",
        ..superuser(
            "alter table public.note owner to {tenant}; \
             alter table public.note no force row level security",
            &[
                ("login_unfit:{tenant}:role {tenant} owns table public.note", "critical"),
                ("owner_is_tenant:public.note", "critical"),
                ("policy_changed:public.note:cloison_owner", "critical"),
                ("rls_not_forced:public.note", "critical"),
            ],
            "",
        )
    },
    owner(
        "drop policy cloison_tenant_select on public.note",
        &[("policy_missing:public.note:cloison_tenant_select", "critical")],
        "",
    ),
    owner(
        "drop policy cloison_superadmin on public.note",
        &[("policy_missing:public.note:cloison_superadmin", "warning")],
        "",
    ),
    owner(
        "alter policy cloison_tenant_insert on public.note with check (true)",
        &[("policy_changed:public.note:cloison_tenant_insert", "critical")],
        "",
    ),
    owner(
        "alter policy cloison_owner on public.note to public",
        &[("policy_changed:public.note:cloison_owner", "critical")],
        "",
    ),
    owner(
        "alter policy cloison_superadmin on public.note using (true)",
        &[("policy_changed:public.note:cloison_superadmin", "warning")],
        "",
    ),
    owner(
        "create policy lax on public.note for select to cloison_tenant using (body = 'x')",
        &[("policy_lax:public.note:lax", "warning")],
        "",
    ),
    owner(
        "create policy lax on public.secret using (true)",
        &[("policy_lax:public.secret:lax", "critical")],
        "",
    ),
    owner(
        "create policy own on public.note as restrictive for select to cloison_tenant \
         using (coalesce(current_setting('app.tenant', true), '') = '')",
        &[
            ("policy_bare_call:public.note:own", "warning"),
            ("policy_fail_open:public.note:own", "warning"),
        ],
        "",
    ),
    owner(
        "create table public.fresh (tenant_id uuid not null); \
         alter table public.fresh enable row level security; \
         grant select on public.fresh to cloison_tenant; \
         create policy own on public.fresh to cloison_tenant using (tenant_id::text = \
             coalesce((select current_setting('app.tenant', true)), tenant_id::text))",
        &[
            ("policy_fail_open:public.fresh:own", "critical"),
            ("table_unprotected:public.fresh", "critical"),
        ],
        "select cloison.unprotect('public.fresh'); drop table public.fresh",
    ),
    owner(
        "create policy own on public.note as restrictive for select to cloison_tenant \
         using (body = 'a' or length(body) = 3)",
        &[("policy_or:public.note:own", "warning")],
        "",
    ),
    owner(
        "create policy own on public.note as restrictive for update to {tenant} \
         using (body <> ' OR ') with check (body = current_setting('app.tenant', true))",
        &[("policy_bare_call:public.note:own", "warning")],
        "drop policy own on public.note",
    ),
    owner(
        "create view public.notes as select * from public.note; \
         grant select on public.notes to cloison_tenant",
        &[("view_not_invoker:public.notes", "critical")],
        "drop view public.notes",
    ),
    owner(
        "create view public.notes as select n.id from public.plan p cross join lateral ( \
             select id from public.note where body = p.code) n; \
         grant select (id) on public.notes to public",
        &[("view_not_invoker:public.notes", "critical")],
        "drop view public.notes",
    ),
    owner(
        "create materialized view public.sums as select count(*) from public.note; \
         grant select on public.sums to cloison_tenant, public",
        &[("matview_reachable:public.sums", "critical")],
        "drop materialized view public.sums",
    ),
    superuser(
        "create foreign data wrapper nowhere; \
         create server afar foreign data wrapper nowhere; \
         create foreign table public.far (id int) server afar; \
         grant select on public.far to cloison_tenant; \
         grant usage on foreign server afar to cloison_tenant",
        &[
            ("foreign_server:afar:cloison_tenant", "warning"),
            ("foreign_table_reachable:public.far", "critical"),
        ],
        "drop foreign data wrapper nowhere cascade",
    ),
    owner(
        "create function public.peek() returns bigint security definer \
         set search_path = pg_catalog, pg_temp language sql as 'select count(*) from public.note'",
        &[("definer_function:public.peek()", "critical")],
        "drop function public.peek()",
    ),
    owner(
        "create function public.peek() returns bigint security definer \
         language sql as 'select count(*) from public.note'",
        &[
            ("definer_function:public.peek()", "critical"),
            ("search_path_unpinned:public.peek()", "critical"),
        ],
        "drop function public.peek()",
    ),
    owner(
        "create function public.peek() returns trigger security definer \
             set search_path = pg_catalog, pg_temp language plpgsql as 'begin return new; end'; \
         revoke execute on function public.peek() from public; \
         create trigger peek before insert on public.note \
             for each row execute function public.peek()",
        &[
            ("definer_function:public.peek()", "critical"),
            ("trigger_copies:public.note:peek", "warning"),
        ],
        "drop function public.peek() cascade",
    ),
    owner(
        "create view public.door as select code from public.plan; \
         grant insert on public.door to cloison_tenant; \
         create function public.peek() returns trigger security definer \
             set search_path = pg_catalog, pg_temp language plpgsql as 'begin return new; end'; \
         revoke execute on function public.peek() from public; \
         create trigger peek instead of insert on public.door \
             for each row execute function public.peek()",
        &[("definer_function:public.peek()", "critical")],
        "drop view public.door; drop function public.peek()",
    ),
    owner(
        "create function public.peek(text, text) returns text security definer \
             set search_path = pg_catalog, pg_temp language sql as 'select $2'; \
         revoke execute on function public.peek(text, text) from public; \
         create aggregate public.peeks(text) (sfunc = public.peek, stype = text)",
        &[("definer_function:public.peek(text,text)", "critical")],
        "drop aggregate public.peeks(text); drop function public.peek(text, text)",
    ),
    owner(
        "create type public.mood as enum ('good'); \
         create function public.peek(public.mood) returns json security definer \
             set search_path = pg_catalog, pg_temp language sql as 'select null::json'; \
         revoke execute on function public.peek(public.mood) from public; \
         create cast (public.mood as json) with function public.peek(public.mood)",
        &[("definer_function:public.peek(public.mood)", "critical")],
        "drop type public.mood cascade",
    ),
    superuser(
        "select from cloison.harden(); grant execute on function pg_terminate_backend to public",
        &[(
            "hardening_off:function pg_terminate_backend(integer,bigint):public:execute",
            "critical",
        )],
        "select from cloison.unharden()",
    ),
    owner(
        "create procedure public.peek(int) security definer set search_path = public \
         language sql as 'select 1'; \
         revoke execute on procedure public.peek(int) from public",
        &[("search_path_unpinned:public.peek(integer)", "warning")],
        "drop procedure public.peek(int)",
    ),
    superuser(
        "create function public.tell(text) returns boolean immutable leakproof \
         language plpgsql as 'begin return true; end'",
        &[("leakproof_function:public.tell(text)", "critical")],
        "drop function public.tell(text)",
    ),
    superuser(
        "create function public.tell(text) returns boolean immutable leakproof \
         language plpgsql as 'begin return true; end'; \
         revoke execute on function public.tell(text) from public",
        &[("leakproof_function:public.tell(text)", "warning")],
        "drop function public.tell(text)",
    ),
    Fault {
        cure_by_hand: "alter role {tenant} nocreatedb",
        ..superuser(
            "alter role {tenant} createdb",
            &[("login_unfit:{tenant}:role {tenant} may make databases", "critical")],
            "",
        )
    },
    superuser(
        "grant pg_read_all_data to {tenant}",
        &[("login_unfit:{tenant}:role {tenant} is a member of pg_read_all_data", "critical")],
        "",
    ),
    owner(
        "grant select on cloison.signing_key to cloison_tenant",
        &[("kit_exposed:cloison.signing_key:cloison_tenant:select", "critical")],
        "",
    ),
    owner(
        "grant select on cloison.api_keys to cloison_tenant",
        &[("kit_exposed:cloison.api_keys:cloison_tenant:select", "critical")],
        // As 0003 has it: REVOKE takes the columns' grants along.
        "grant select (id, tenant_id, name, prefix, scopes, created_at, expires_at, revoked_at) \
         on cloison.api_keys to cloison_tenant",
    ),
    owner(
        "grant insert on cloison.tenants to public",
        &[("kit_exposed:cloison.tenants:public:insert", "critical")],
        "",
    ),
    owner(
        "grant execute on function cloison.bind_tenant(uuid, bytea, bytea) to public",
        &[("kit_exposed:cloison.bind_tenant(uuid,bytea,bytea):public:execute", "critical")],
        "",
    ),
    owner(
        "grant truncate on public.note to cloison_tenant",
        &[("grant_truncate:public.note", "critical")],
        "",
    ),
    owner(
        "grant all on public.plan to {tenant}",
        &[
            ("grant_excess:public.plan:{tenant}:delete", "warning"),
            ("grant_excess:public.plan:{tenant}:insert", "warning"),
            ("grant_excess:public.plan:{tenant}:references", "warning"),
            ("grant_excess:public.plan:{tenant}:select", "warning"),
            ("grant_excess:public.plan:{tenant}:trigger", "critical"),
            ("grant_excess:public.plan:{tenant}:update", "warning"),
            ("grant_truncate:public.plan", "critical"),
        ],
        "",
    )
    .on(&[14, 15, 16]),
    owner(
        "grant maintain on public.note to cloison_tenant",
        &[("grant_excess:public.note:cloison_tenant:maintain", "warning")],
        "",
    )
    .on(&[17, 18]),
    owner(
        "grant trigger on public.note to cloison_tenant",
        &[("grant_excess:public.note:cloison_tenant:trigger", "critical")],
        "",
    ),
    owner(
        "grant references (id) on public.note to public",
        &[("grant_excess:public.note:public:references:id", "warning")],
        "",
    ),
    owner(
        "alter default privileges in schema public grant select on tables to cloison_tenant",
        &[("grant_default:{owner}:tables:cloison_tenant:public", "warning")],
        "",
    ),
    owner(
        "create sequence public.counter; \
         grant usage, select, update on sequence public.counter to cloison_tenant",
        &[("sequence_grant:public.counter:cloison_tenant", "warning")],
        "drop sequence public.counter",
    ),
    superuser(
        "create extension dblink",
        &[("extension_reach:dblink", "critical")],
        "drop extension dblink",
    ),
    superuser(
        "create extension pgstattuple; \
         grant execute on function pgstattuple(text) to cloison_tenant",
        &[("extension_reach:pgstattuple", "warning")],
        "drop extension pgstattuple",
    ),
    owner(
        "create function public.copy_out() returns trigger language plpgsql as \
         'begin insert into public.secret values (1); return new; end'; \
         create trigger copy_out after insert on public.note \
         for each row execute function public.copy_out()",
        &[("trigger_copies:public.note:copy_out", "warning")],
        "drop function public.copy_out()",
    ),
    owner(
        "create rule log_it as on insert to public.note do also insert into public.secret values (1)",
        &[
            ("guard:public.note:~cloison_guard", "critical"),
            ("rule_runs_as_owner:public.note:log_it", "warning"),
        ],
        "",
    ),
    owner(
        "create view public.door as select code from public.plan; \
         grant insert on public.door to cloison_tenant; \
         create rule through as on insert to public.door do instead \
             insert into public.plan values (new.code) \
             returning (select string_agg(s.id::text, '') from public.secret s)",
        &[("rule_runs_as_owner:public.door:through", "critical")],
        "drop view public.door",
    ),
    owner(
        "alter table public.note disable trigger \"~cloison_guard\"",
        &[("guard:public.note:~cloison_guard", "critical")],
        "",
    ),
    owner(
        "drop trigger \"!cloison_guard_truncate\" on public.note",
        &[("guard:public.note:!cloison_guard_truncate", "critical")],
        "",
    ),
    owner(
        "alter table cloison.tenants enable trigger \"!cloison_guard_kit\"; \
         alter table cloison.revocations disable trigger sessions_changed",
        &[
            ("guard:cloison.tenants:!cloison_guard_kit", "critical"),
            ("guard:cloison.revocations:sessions_changed", "warning"),
        ],
        "",
    ),
    owner(
        "create function public.spy() returns trigger language plpgsql as 'begin return null; end'; \
         create table public.line (tenant_id uuid not null, n int, note_id bigint, \
             primary key (tenant_id, n), foreign key (tenant_id, note_id) \
             references public.note on delete cascade); \
         select cloison.protect('public.line'); \
         create trigger spy before delete on public.line \
             for each row execute function public.spy(); \
         create trigger \"Spy all\" before delete on public.line \
             for each statement execute function public.spy()",
        &[
            ("guard:public.note:RI_Cloison_delete", "warning"),
            ("trigger_in_action:public.line:line_tenant_id_note_id_fkey", "warning"),
        ],
        "select cloison.unprotect('public.line'); drop table public.line; \
         drop function public.spy()",
    ),
    owner(
        "create function public.spy() returns trigger language plpgsql as 'begin return null; end'; \
         alter table public.secret add tenant uuid, add note_id bigint, \
             add constraint noted foreign key (tenant, note_id) \
             references public.note on update cascade on delete set null deferrable; \
         create trigger spy before update on public.secret \
             for each row execute function public.spy()",
        &[("trigger_in_action:public.secret:noted", "critical")],
        "alter table public.secret drop tenant, drop note_id; drop function public.spy() cascade",
    ),
    superuser(
        "do $$ begin execute format('alter database %I set session_replication_role = replica', \
         current_database()); end $$; \
         alter role {tenant} in database postgres set session_replication_role = replica; \
         alter role {owner} set session_replication_role = replica; \
         alter role {tenant} set session_replication_role = replica",
        &[
            ("triggers_off:database {database}", "critical"),
            ("triggers_off:role {tenant}", "critical"),
        ],
        "alter role {owner} reset session_replication_role; \
         alter role {tenant} in database postgres reset session_replication_role",
    ),
    superuser(
        "grant set on parameter session_replication_role to {tenant}; \
         grant set on parameter work_mem to {tenant}; \
         grant set, alter system on parameter log_statement to public",
        &[
            ("parameter_grant:session_replication_role:{tenant}:set", "critical"),
            ("parameter_grant:log_statement:public:set", "critical"),
            ("parameter_grant:log_statement:public:alter system", "critical"),
        ],
        "",
    )
    .on(&[15, 16, 17, 18]),
    superuser(
        "create publication feed for table public.note",
        &[("publication:feed:public.note", "warning")],
        "drop publication feed",
    ),
    superuser(
        "create publication feed for tables in schema public",
        &[
            ("publication:feed:public.note", "warning"),
            ("publication:feed:public.page", "warning"),
            ("publication:feed:public.plan", "warning"),
            ("publication:feed:public.secret", "warning"),
        ],
        "drop publication feed",
    )
    .on(&[15, 16, 17, 18]),
    superuser(
        "create publication feed for all tables",
        &[
            ("publication:feed:public.note", "warning"),
            ("publication:feed:public.page", "warning"),
            ("publication:feed:public.plan", "warning"),
            ("publication:feed:public.secret", "warning"),
        ],
        "",
    ),
    superuser(
        "create role tap login replication",
        &[("replication_role:tap", "warning")],
        "drop role tap",
    ),
    superuser(
        "create subscription inflow connection 'host=/nowhere dbname=x' publication feed \
         with (connect = false)",
        &[("subscription:inflow", "warning")],
        "",
    ),
    superuser(
        "create extension tcn; set allow_system_table_mods = on; \
         update pg_extension set extname = 'pg_cron' where extname = 'tcn'",
        &[("background_worker:pg_cron", "warning")],
        "reset allow_system_table_mods",
    ),
    owner(
        "alter table public.note add constraint one_body unique (body)",
        &[("unique_key:public.note:one_body", "warning")],
        "alter table public.note drop constraint one_body",
    ),
    owner(
        "create unique index one_lower on public.note (lower(body)) where id > 0",
        &[("unique_key:public.note:one_lower", "warning")],
        "drop index public.one_lower",
    ),
    owner(
        "create table public.doc (id bigint primary key, tenant_id uuid not null); \
         create table public.line (tenant_id uuid not null, n int, doc bigint \
             references public.doc on delete set null, primary key (tenant_id, n)); \
         select cloison.protect('public.doc'); select cloison.protect('public.line')",
        &[
            ("foreign_key:public.line:line_doc_fkey", "critical"),
            ("unique_key:public.doc:doc_pkey", "warning"),
        ],
        "select cloison.unprotect('public.line'); select cloison.unprotect('public.doc'); \
         drop table public.line, public.doc",
    ),
    owner(
        "alter table public.note add constraint one_id unique (id); \
         alter table public.page add constraint noted foreign key (note_id) \
             references public.note (id)",
        &[
            ("foreign_key:public.page:noted", "warning"),
            ("unique_key:public.note:one_id", "warning"),
        ],
        "alter table public.page drop constraint noted",
    ),
    owner(
        "alter table public.page add constraint no_overlap exclude using gist (period with &&)",
        &[("exclusion_constraint:public.page:no_overlap", "warning")],
        "alter table public.page drop constraint no_overlap; drop extension btree_gist",
    ),
    owner(
        "drop index public.event_tenant_id_idx",
        &[("index_missing:public.event", "warning")],
        "",
    ),
    owner(
        "alter table public.note alter tenant_id drop default",
        &[("tenant_column:public.note:default", "warning")],
        "",
    ),
    owner(
        "alter table public.event alter tenant_id drop not null",
        &[("tenant_column:public.event:null", "warning")],
        "",
    ),
    owner(
        "alter table public.note drop constraint note_tenant_id_fkey",
        &[("tenant_column:public.note:reference", "warning")],
        "",
    ),
    owner(
        "create collation public.any_case (provider = icu, locale = 'und-u-ks-level2', \
             deterministic = false); \
         create table public.fresh (org text not null); \
         select cloison.protect('public.fresh', 'tenant', 'org'); \
         select cloison.unprotect('public.fresh'); \
         alter table public.fresh alter org type text collate public.any_case, \
             alter org set default cloison.current_tenant_key(); \
         insert into cloison.protected_tables (relation, class, tenant_column, column_type) \
             values ('public.fresh', 'tenant', 'org', 'text'); \
         select cloison.apply_policies('public.fresh'), cloison.apply_grants('public.fresh'), \
             cloison.apply_guard('public.fresh')",
        &[("tenant_key:public.fresh", "critical")],
        "select cloison.unprotect('public.fresh'); drop table public.fresh; \
         drop collation public.any_case",
    ),
    Fault {
        cure_by_hand: "delete from cloison.tenants where external_key like '%77'; \
             create unique index tenants_canonical_key_idx \
                 on cloison.tenants (cloison.canonical_key(external_key))",
        ..owner(
            "drop index cloison.tenants_canonical_key_idx; \
             insert into cloison.tenants (name, slug, external_key) \
             values ('x', 'x', '77'), ('y', 'y', ' +077')",
            &[("tenant_key:number:77", "critical")],
            "",
        )
    },
    owner(
        "insert into cloison.protected_tables (relation, class) values ('4294967290', 'global')",
        &[("table_gone:4294967290", "info")],
        "",
    ),
    superuser(
        "insert into cloison.watched_schemas (schema, action) values ('public', 'report')",
        &[("watch_off:public", "info")],
        "select cloison.unwatch_schema('public'); drop event trigger cloison_new_table",
    ),
];
