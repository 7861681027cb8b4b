-- Takes 0007 away.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regnamespace('cloison') is not null then
        drop function if exists
            cloison.try_advisory_xact_lock(text),
            cloison.try_advisory_xact_lock(bigint),
            cloison.advisory_xact_lock(text),
            cloison.advisory_xact_lock(bigint),
            cloison.take_lock(text, boolean);
    end if;
end
$$;

commit;
