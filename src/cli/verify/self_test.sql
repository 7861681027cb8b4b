-- The scratch database of `cloison verify --self-test`: two tenants, one table, every login. The
-- passwords protect nothing: the server lives for the test, on loopback.

create role scratch_tenant login password 'scratch' in role cloison_tenant;
create role scratch_superadmin login password 'scratch' in role cloison_superadmin;
create role scratch_control login password 'scratch' in role cloison_control;
create role scratch_owner;
revoke create on schema public from public;
grant create on schema public to scratch_owner;

insert into cloison.tenants (name, slug) values ('Scratch one', 'one'), ('Scratch two', 'two');

set role scratch_owner;
create table public.note (
    tenant_id uuid not null,
    id bigint not null,
    body text,
    primary key (tenant_id, id)
);
reset role;
select cloison.protect('public.note');
insert into public.note (tenant_id, id, body)
select t.id, i, t.slug || i
from cloison.tenants t, generate_series(1, 3) i
where t.slug in ('one', 'two');
