-- The names that are taken where a table ($1) stands: of relations and of constraints.
select to_jsonb(t)::text
from (
    select quote_ident(n.nspname) as schema, array_agg(distinct u.name) as names
    from pg_namespace n,
        lateral (
            select c.relname from pg_class c where c.relnamespace = n.oid
            union all
            select k.conname from pg_constraint k where k.connamespace = n.oid
        ) u (name)
    where n.oid in (select c.relnamespace from pg_class c where c.oid = any ($1::oid[]))
    group by n.nspname
) t
