-- The tables of a benchmark database, after the kit: the same rows three times, in a table that the
-- kit protects, in one that nobody does, and in one with a policy that trusts a plain setting.
--
--   psql --set tenants=N    tenants in cloison.tenants, of which the first 100 have 1,000 rows each

revoke create on schema public from public;

insert into cloison.tenants (id, name, slug)
select
    ('00000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid,
    'Tenant ' || number,
    'tenant-' || number
from
    generate_series(1, :tenants) number;

create table items (
    tenant_id uuid not null,
    id integer not null,
    body text not null,
    primary key (tenant_id, id)
);

insert into items
select
    tenant.id,
    item,
    tenant.id || repeat(' padding', 8)
from
    cloison.tenants tenant
    cross join generate_series(1, 1000) item
where
    tenant.id between '00000000-0000-4000-8000-000000000001' and '00000000-0000-4000-8000-000000000100';

create table items_plain (like items including all);
insert into items_plain select * from items;
grant select on items_plain to cloison_tenant, bench_plain;

create table items_recipe (like items including all);
insert into items_recipe select * from items;
grant select on items_recipe to bench_plain;
alter table items_recipe enable row level security, force row level security;
create policy by_setting on items_recipe
    using (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);

select cloison.protect('items');
