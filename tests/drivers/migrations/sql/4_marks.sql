create table marks (
    id serial primary key,
    tenant_id uuid not null,
    word text not null
);
