-- A watched schema whose new tables nobody sees at once
-- info
--
-- Without the event trigger a new table is found when lint runs next. Only a superuser can make it.
select
    'watch_off' as name,
    'info' as level,
    quote_ident(w.schema::text) as object,
    'its new tables are found when lint runs next: the event trigger is not there, or is switched '
        'off. A superuser has to run this' as detail,
    format('select cloison.watch_schema(%L, %L);', w.schema, w.action) as fix,
    format('watch_off:%s', w.schema) as key
from
    cloison.watched_schemas w
where
    not exists (
        select
        from pg_catalog.pg_event_trigger t
        where t.evtname = 'cloison_new_table' and t.evtenabled in ('O', 'A'))
