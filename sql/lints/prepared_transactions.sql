-- Transactions can be prepared, and outlive their session
-- warning
--
-- PREPARE TRANSACTION has no grant. What it leaves keeps its locks when the connection is gone, and
-- every session of the tenants' role may list it, commit it or roll it back, whoever's it is. The
-- statement filter refuses it, unless it was given back; a server without room for it does so, too.
select
    'prepared_transactions' as name,
    'warning' as level,
    'max_prepared_transactions' as object,
    format('the server keeps up to %s prepared transactions: a tenant can leave one with its locks, '
        'and commit or roll back those of others. Where nothing else needs them, and none '
        'is open (a server with one does not start again), a superuser has to run this, and '
        'restart the server', s.setting) as detail,
    'alter system set max_prepared_transactions = 0;' as fix,
    'prepared_transactions:max_prepared_transactions' as key
from
    pg_catalog.pg_settings s
where
    s.name = 'max_prepared_transactions'
    and s.setting::integer > 0
