-- Takes 0006 away, and gives PUBLIC back what hardening took.
--
-- What only a superuser could take, only one can give back. Where that is missing nothing is changed:
-- the notes of what was taken would be lost.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
declare
    missing bigint;
    example text;
begin
    if pg_catalog.to_regnamespace('cloison') is null then
        return;
    end if;
    if pg_catalog.to_regprocedure('cloison.unharden()') is not null then
        select pg_catalog.count(*), pg_catalog.min(u.target || ': ' || u.reason)
            into missing, example
            from cloison.unharden() u;
        if missing > 0 then
            raise exception '% rights that hardening changed cannot be changed back, such as on %',
                    missing, example
                using errcode = 'insufficient_privilege',
                      hint = 'As a superuser: select * from cloison.unharden(). To leave '
                          'everything closed: delete from cloison.hardening_changes.';
        end if;
    end if;
    drop function if exists
        cloison.unharden(),
        cloison.hardening_findings(),
        cloison.hardening_undone(),
        cloison.close_again(text),
        cloison.allow_back(text),
        cloison.harden(text[]),
        cloison.harden_one(text, text, oid, text, oid, aclitem[], boolean, text[], text),
        cloison.hardening_change(text, text, text, text),
        cloison.hardening_keepers(),
        cloison.hardening(),
        cloison.hardening_targets(),
        cloison.hardened_columns(),
        cloison.hardening_rules();
    drop table if exists cloison.hardening_changes, cloison.hardening_allowed;
    if pg_catalog.to_regprocedure('cloison.kit_version()') is not null then
        create or replace function cloison.kit_version()
            returns integer
            immutable
            parallel safe
            set search_path = pg_catalog, pg_temp
            language sql
        as 'select 2';
    end if;
end
$$;

commit;
