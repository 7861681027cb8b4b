-- A logical subscription that writes into this database
-- warning
--
-- Its worker writes what comes from elsewhere, whose tenants these rows are of is up to the
-- publisher. Row security does not judge it where its owner bypasses that, nor do triggers of the
-- kit fire.
select
    'subscription' as name,
    'warning' as level,
    quote_ident(s.subname) as object,
    format('it writes rows of all tenants as %I%s', pg_get_userbyid(s.subowner),
        case when s.subenabled then '' else '; it is switched off' end) as detail,
    format('alter subscription %1$I disable; alter subscription %1$I set (slot_name = none); '
        'drop subscription %1$I;', s.subname) as fix,
    format('subscription:%I', s.subname) as key
from
    pg_catalog.pg_subscription s
where
    s.subdbid = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
