-- What the tests of the proxy work on.

revoke create on schema public from public;
grant cloison_tenant to it_app;
grant cloison_superadmin to it_admin;
grant cloison_control to it_proxy;

insert into cloison.tenants (id, name, slug, external_key, status)
values
    ('aaaaaaaa-0000-4000-8000-000000000001', 'Tenant A', 'a', '1', 'active'),
    ('bbbbbbbb-0000-4000-8000-000000000002', 'Tenant B', 'b', '2', 'active'),
    ('cccccccc-0000-4000-8000-000000000003', 'Suspended', 'c', null, 'suspended'),
    ('dddddddd-0000-4000-8000-000000000004', 'Archived', 'd', null, 'archived');

grant create on schema public to it_owner;
set role it_owner;
create table public.note (
    tenant_id uuid not null,
    id bigint not null,
    body text,
    primary key (tenant_id, id)
);
reset role;
select cloison.protect('public.note');

insert into public.note (tenant_id, id, body)
select uuid 'aaaaaaaa-0000-4000-8000-000000000001', i, 'a' || i from generate_series(1, 3) i
union all
select uuid 'bbbbbbbb-0000-4000-8000-000000000002', i, 'b' || i from generate_series(1, 5) i;
