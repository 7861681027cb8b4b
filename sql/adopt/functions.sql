-- Functions of the application that name the columns of a key in an ON CONFLICT.
select to_jsonb(f)::text
from (
    select p.oid::regprocedure::text as place,
        concat_ws(E'\n', p.prosrc, pg_get_function_sqlbody(p.oid)) as text
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname not in ('pg_catalog', 'information_schema', 'cloison')
      and p.prokind in ('f', 'p')
      and concat_ws(E'\n', p.prosrc, pg_get_function_sqlbody(p.oid)) ~* 'on\s+conflict'
    order by 1
) f
