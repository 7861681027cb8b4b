-- What an application of Rails looks like in Postgres after some years.
create type post_state as enum ('draft', 'published');
create table schema_migrations (version character varying not null primary key);
create table ar_internal_metadata (
    key character varying not null primary key, value character varying,
    created_at timestamp(6) without time zone not null, updated_at timestamp(6) without time zone not null
);
create table users (
    id bigserial primary key,
    email character varying default '' not null,
    encrypted_password character varying default '' not null,
    reset_password_token character varying,
    preferences jsonb default '{}' not null,
    posts_count integer default 0 not null,
    created_at timestamp(6) without time zone not null,
    updated_at timestamp(6) without time zone not null
);
create unique index index_users_on_email on users using btree (email);
create unique index index_users_on_reset_password_token on users using btree (reset_password_token);
create index index_users_on_preferences on users using gin (preferences);
create table posts (
    id bigserial primary key,
    user_id bigint not null,
    parent_id bigint,
    title character varying not null,
    slug character varying not null,
    state post_state default 'draft' not null,
    tags text[] default '{}',
    deleted_at timestamp(6) without time zone,
    search tsvector generated always as (to_tsvector('simple', title)) stored,
    constraint fk_rails_posts_user foreign key (user_id) references users (id),
    constraint fk_rails_posts_parent foreign key (parent_id) references posts (id) on delete cascade
);
create unique index index_posts_on_slug on posts using btree (slug) where (deleted_at is null);
create index index_posts_on_search on posts using gin (search);
create index index_posts_on_user_id on posts using btree (user_id);
create table groups (id uuid default gen_random_uuid() not null primary key, name character varying);
create table groups_users (
    group_id uuid not null references groups (id) on delete cascade,
    user_id bigint not null references users (id) on delete cascade
);
create unique index index_groups_users on groups_users using btree (group_id, user_id);
create table active_storage_blobs (
    id bigserial primary key, key character varying not null, filename character varying not null,
    byte_size bigint not null, checksum character varying
);
create unique index index_active_storage_blobs_on_key on active_storage_blobs using btree (key);
create table active_storage_attachments (
    id bigserial primary key, name character varying not null,
    record_type character varying not null, record_id bigint not null,
    blob_id bigint not null constraint fk_rails_c3b3935057 references active_storage_blobs (id)
);
create unique index index_active_storage_attachments_uniqueness on active_storage_attachments
    using btree (record_type, record_id, name, blob_id);
create table solid_jobs (
    id bigserial primary key, queue_name character varying not null, arguments text,
    active_job_id character varying, finished_at timestamp(6) without time zone
);
create function count_posts() returns trigger language plpgsql as $$
begin
    update users set posts_count = posts_count + 1 where id = new.user_id;
    return null;
end
$$;
create trigger count_posts after insert on posts for each row execute function count_posts();
comment on column users.preferences is 'what the user chose';

insert into schema_migrations select '2020010100000' || n from generate_series(1, 9) n;
insert into ar_internal_metadata values ('environment', 'production', now(), now());
insert into users (email, created_at, updated_at)
    select 'user' || n || '@example.com', now(), now() from generate_series(1, 200) n;
insert into posts (user_id, title, slug)
    select n, 'Title ' || n, 'title-' || n from generate_series(1, 200) n;
insert into posts (user_id, parent_id, title, slug)
    select n, n, 'Re: ' || n, 're-' || n from generate_series(1, 200) n;
insert into groups (name) select 'g' || n from generate_series(1, 5) n;
insert into groups_users select g.id, u.id from groups g, users u;
insert into active_storage_blobs (key, filename, byte_size)
    select md5(n::text), 'f', n from generate_series(1, 100) n;
insert into active_storage_attachments (name, record_type, record_id, blob_id)
    select 'avatar', 'User', n, n from generate_series(1, 100) n;
insert into solid_jobs (queue_name) select 'default' from generate_series(1, 300);
