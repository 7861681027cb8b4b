-- An extension whose worker runs in this database
-- warning
--
-- It works as whoever owns a job or as a superuser, without a tenant's context, and sees every
-- tenant's rows where that role does. One whose jobs have been looked at can be accepted.
select
    'background_worker' as name,
    'warning' as level,
    quote_ident(e.extname) as object,
    format('it %s, outside of any tenant''s session', k.what) as detail,
    format('drop extension %I;', e.extname) as fix,
    format('background_worker:%I', e.extname) as key
from
    (values
        ('citus', 'moves and reads rows between servers'),
        ('pg_background', 'runs SQL in workers of its own'),
        ('pg_cron', 'runs SQL at set times'),
        ('pg_net', 'sends requests that rows have asked for'),
        ('pg_partman', 'makes and drops partitions'),
        ('pg_squeeze', 'copies tables through logical decoding'),
        ('pgagent', 'runs SQL at set times'),
        ('pglogical', 'sends and applies the changes of all tenants'),
        ('spock', 'sends and applies the changes of all tenants'),
        ('timescaledb', 'runs SQL at set times')
    ) k (extension, what)
    join pg_catalog.pg_extension e on e.extname = k.extension
