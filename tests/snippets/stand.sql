-- The documents take this for granted in the database that the proxy serves. A second database is
-- for what they do to somebody's own.
insert into cloison.tenants (name, slug) values ('Acme', 'acme'), ('Globex', 'globex');
create table public.orders (id bigint primary key, user_id uuid);
select cloison.protect('public.orders');
create database shop_fixture;
