create table accounts (
    id serial primary key,
    email text not null unique
);
create table notes (
    id serial primary key,
    account_id integer not null references accounts,
    body text not null
);
insert into accounts (email) select 'user' || n || '@example.com' from generate_series(1, 20) n;
insert into notes (account_id, body) select 1 + n % 20, repeat('n', n) from generate_series(1, 60) n;
