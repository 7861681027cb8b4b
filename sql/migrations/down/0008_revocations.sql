-- Takes 0008 away, and with it what was revoked.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regclass('cloison.revocations') is null then
        return;
    end if;
    drop trigger if exists sessions_changed on cloison.tenants;
    drop function
        cloison.current_revocations(),
        cloison.session_change(),
        cloison.lift_revocation(bigint, text),
        cloison.concerns(cloison.revocations, jsonb),
        cloison.revoke_subject(text, text, text, timestamptz),
        cloison.revoke_token(text, text, text, timestamptz),
        cloison.revoke(text, text, text, text, timestamptz);
    drop table cloison.revocations, cloison.session_changes;
    drop function cloison.sessions_changed();
    create or replace function cloison.kit_version()
        returns integer
        immutable
        parallel safe
        set search_path = pg_catalog, pg_temp
        language sql
    as 'select 4';
end
$$;

commit;
