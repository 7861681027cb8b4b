-- A protected table that is gone
-- info
--
-- The registry names a table that has been dropped.
select
    'table_gone' as name,
    'info' as level,
    p.relation::oid::text as object,
    'the table with this number has been dropped, and is registered still' as detail,
    format('select cloison.unprotect(%s::regclass);', p.relation::oid) as fix,
    format('table_gone:%s', p.relation::oid) as key
from
    cloison.protected_tables p
where
    not exists (select from pg_catalog.pg_class c where c.oid = p.relation)
