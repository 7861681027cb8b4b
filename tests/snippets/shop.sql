-- The application that the documents speak of, before it is protected.
create table public.orders (id bigint primary key, user_id uuid);
create table public.plans (id bigint primary key, name text);
create table public.secrets_of_ours (id bigint primary key, secret text);
create table public.messages (id bigint primary key, organisation_id bigint, body text);
create table public.users (id bigint primary key, email text unique);
create table public.vechat_messages (id bigint primary key, body text);
create table public.vechat_presence (id bigint primary key, user_id bigint);
insert into public.orders values (1, gen_random_uuid()), (2, gen_random_uuid());
insert into public.vechat_messages values (1, 'hello');
