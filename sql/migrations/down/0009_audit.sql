-- Takes 0009 away: the rows stay, without a chain; what is said of rows in archives goes.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regclass('cloison.audit_checkpoints') is not null then
        drop function if exists
            cloison.audit_findings(),
            cloison.audit_archive(bigint, bytea, bytea),
            cloison.audit_checkpoint_mac(cloison.audit_checkpoints);
    end if;
    if pg_catalog.to_regclass('cloison.audit_log') is not null then
        drop trigger if exists audit_keep_table on cloison.audit_log;
        drop trigger if exists audit_keep_rows on cloison.audit_log;
        drop trigger if exists audit_new on cloison.audit_log;
        drop function if exists
            cloison.audit_append(text, text, uuid, text, jsonb),
            cloison.audit_keep(),
            cloison.audit_chain(),
            cloison.audit_link(bigint),
            cloison.audit_new(),
            cloison.audit_seal(cloison.audit_log),
            cloison.audit_hash(cloison.audit_log),
            cloison.audit_field(bytea);
        drop index if exists cloison.audit_log_position_idx, cloison.audit_log_pending_idx;
        alter table cloison.audit_log
            drop column if exists seal,
            drop column if exists hash,
            drop column if exists prev,
            drop column if exists position;
    end if;
    if pg_catalog.to_regnamespace('cloison') is not null then
        drop table if exists
            cloison.audit_head, cloison.audit_written, cloison.audit_checkpoints;
    end if;
    if pg_catalog.to_regprocedure('cloison.kit_version()') is not null then
        create or replace function cloison.kit_version()
            returns integer
            immutable
            parallel safe
            set search_path = pg_catalog, pg_temp
            language sql
        as 'select 4';
    end if;
end
$$;

commit;
