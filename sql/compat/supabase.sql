-- Optional: the names by which policies written for Supabase ask who is asking: auth.uid(),
-- auth.jwt(), auth.role() and auth.email().
--
-- They read what cloison.claims() has verified. The rule of the issuer has to list the claims:
-- claims_in_sql = ["sub", "role", "email", "app_metadata"]. The setting request.jwt.claims is left
-- alone: any SQL can change it, so a policy must not ask it.
--
-- Needs the right to create schemas. Functions of these names that are there already stay as they
-- are. A second run changes nothing.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

do $$
declare
    wanted record;
    present text;
begin
    if pg_catalog.to_regnamespace('auth') is null then
        create schema auth;
    end if;
    for wanted in
        select * from (values
            ('uid', 'uuid', 'return (cloison.claims() ->> ''sub'')::uuid;'),
            ('jwt', 'jsonb', 'return cloison.claims();'),
            ('role', 'text', 'return cloison.claims() ->> ''role'';'),
            ('email', 'text', 'return cloison.claims() ->> ''email'';')
        ) w (name, type, body)
    loop
        present := (
            select p.prosrc from pg_catalog.pg_proc p
            where p.oid = pg_catalog.to_regprocedure(pg_catalog.format('auth.%I()', wanted.name)));
        if present is not null and present not like '%cloison.claims()%' then
            raise warning 'auth.%() is a function of somebody else: left as it is', wanted.name
                using hint = 'What reads request.jwt.claims can be forged by any SQL.';
            continue;
        end if;
        execute pg_catalog.format(
            'create or replace function auth.%I() returns %s stable parallel restricted '
            'set search_path = pg_catalog, pg_temp language plpgsql as %L',
            wanted.name, wanted.type, pg_catalog.format(E'\nbegin\n    %s\nend;\n', wanted.body));
        execute pg_catalog.format('revoke execute on function auth.%I() from public', wanted.name);
        execute pg_catalog.format(
            'grant execute on function auth.%I() to cloison_tenant, cloison_superadmin',
            wanted.name);
    end loop;
    if pg_catalog.pg_get_userbyid((
        select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'auth'
    )) = current_user then
        grant usage on schema auth to cloison_tenant, cloison_superadmin;
    end if;
end
$$;

commit;
