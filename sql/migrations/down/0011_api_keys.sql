-- Takes 0011 away. The keys stay in their table.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regnamespace('cloison') is not null then
        drop function if exists
            cloison.find_api_key(bytea),
            cloison.revoke_api_key(uuid, text),
            cloison.list_api_keys(uuid),
            cloison.create_api_key(uuid, text, timestamptz),
            cloison.demand_superadmin();
    end if;
end
$$;

commit;
