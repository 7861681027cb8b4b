//! What is broken is found: each fault is made, seen, and mended by the cure that is told.

use tokio_postgres::Client;

use crate::support::{Database, Server, add_tenant, batch, on_every_major, texts};

on_every_major!(
    every_fault_of_protection_is_found,
    what_others_may_do_is_not_a_fault,
    faults_of_the_kit_itself_are_found,
    a_fit_login_has_no_findings,
    every_fault_of_a_login_is_found,
);

async fn every_fault_of_protection_is_found(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let control = database.session("control").await;
    let some_role = database.login("reporting");
    batch(
        &owner,
        &format!(
            "create role {some_role}; \
             create table public.note (id serial, body text); select cloison.protect('public.note')"
        ),
    )
    .await;
    assert_eq!(findings(&control).await, [""; 0]);

    let mut faults = vec![
        ("alter table public.note disable row level security".into(), "row security is off"),
        ("alter table public.note no force row level security".into(), "not forced"),
        ("create policy lax on public.note using (true)".into(), "policy lax is permissive"),
        (
            "create policy lax on public.note for select to cloison_tenant using (true)".into(),
            "policy lax is permissive",
        ),
        (
            format!(
                "create policy lax on public.note to {} using (true)",
                database.login("tenant")
            ),
            "policy lax is permissive",
        ),
        (
            "alter policy cloison_tenant_select on public.note using (true)".into(),
            "policy cloison_tenant_select is not as it was made",
        ),
        (
            "alter policy cloison_tenant_insert on public.note with check (true)".into(),
            "policy cloison_tenant_insert is not as it was made",
        ),
        (
            "alter policy cloison_tenant_update on public.note with check (true)".into(),
            "policy cloison_tenant_update is not as it was made",
        ),
        (
            "alter policy cloison_tenant_delete on public.note \
             using (tenant_id = (select cloison.get_current_tenant()) or true)"
                .into(),
            "policy cloison_tenant_delete is not as it was made",
        ),
        (
            "alter policy cloison_tenant_select on public.note to cloison_superadmin".into(),
            "policy cloison_tenant_select is not as it was made",
        ),
        (
            "alter policy cloison_superadmin on public.note to public".into(),
            "policy cloison_superadmin is not as it was made",
        ),
        (
            "alter policy cloison_owner on public.note to public".into(),
            "policy cloison_owner is not as it was made",
        ),
        (
            "drop policy cloison_tenant_select on public.note; \
             create policy cloison_tenant_select on public.note as permissive for select \
             to cloison_tenant using (tenant_id = (select cloison.current_tenant_id()))"
                .into(),
            "policy cloison_tenant_select is not as it was made",
        ),
        ("grant truncate on public.note to cloison_tenant".into(), "cloison_tenant has TRUNCATE"),
        ("grant trigger on public.note to cloison_tenant".into(), "cloison_tenant has TRIGGER"),
        ("grant references on public.note to public".into(), "public has REFERENCES"),
        ("grant select on public.note to public".into(), "public has SELECT"),
        (
            "grant references (id) on public.note to cloison_tenant".into(),
            "cloison_tenant has REFERENCES on column id",
        ),
        (
            format!("grant truncate on public.note to {}", database.login("tenant")),
            "_tenant has TRUNCATE",
        ),
        (
            "grant update on sequence public.note_id_seq to cloison_tenant".into(),
            "cloison_tenant has UPDATE on sequence",
        ),
        (
            "create table public.child () inherits (public.note)".into(),
            "belongs to public.note and is not protected",
        ),
    ];
    for verb in ["select", "insert", "update", "delete"] {
        for kind in ["base", "tenant"] {
            let policy: &str = format!("policy cloison_{kind}_{verb} is missing").leak();
            faults.push((format!("drop policy cloison_{kind}_{verb} on public.note"), policy));
        }
    }
    for rest in ["superadmin", "owner"] {
        let policy: &str = format!("policy cloison_{rest} is missing").leak();
        faults.push((format!("drop policy cloison_{rest} on public.note"), policy));
    }

    for (fault, problem) in faults {
        batch(&owner, &fault).await;
        let found = findings(&control).await;
        assert!(found.iter().any(|f| f.contains(problem)), "{fault}: {found:?}");
        for cure in texts(&control, "select fix from cloison.protection_findings()").await {
            batch(&owner, &cure).await;
        }
        assert_eq!(findings(&control).await, [""; 0], "after the cure of {fault}");
    }

    // No cure by itself: somebody has to say whose the table is to be.
    let superuser = database.superuser().await;
    batch(&superuser, &format!("alter table public.note owner to {}", database.login("tenant")))
        .await;
    let found = findings(&control).await;
    assert!(found.iter().any(|f| f.contains("is a role that tenants run as")), "{found:?}");
    batch(&superuser, &format!("alter table public.note owner to {}", database.login("owner")))
        .await;
    assert_eq!(findings(&control).await, [""; 0]);

    batch(&owner, "drop table public.child; drop table public.note").await;
    assert_eq!(findings(&control).await.len(), 2);
    for cure in texts(&control, "select fix from cloison.protection_findings()").await {
        batch(&owner, &cure).await;
    }
    assert_eq!(findings(&control).await, [""; 0]);
}

async fn what_others_may_do_is_not_a_fault(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let reporting = database.login("reporting");
    batch(
        &owner,
        &format!(
            "create role {reporting}; create table public.note (id serial); \
             select cloison.protect('public.note'); \
             create policy reports on public.note for select to {reporting} using (true); \
             create policy narrower on public.note as restrictive using (true); \
             grant select on public.note to {reporting}"
        ),
    )
    .await;
    assert_eq!(findings(&owner).await, [""; 0]);
    // A login in two groups is that login's fault: no cure may take the groups' rights away.
    let both = format!("grant cloison_superadmin to {}", database.login("tenant"));
    let superuser = database.superuser().await;
    batch(&superuser, &both).await;
    assert_eq!(findings(&owner).await, [""; 0]);
    // What others may do becomes one once a tenant's login gets there.
    batch(&owner, &format!("grant {reporting} to {}", database.login("tenant"))).await;
    assert_eq!(findings(&owner).await.len(), 2);
}

async fn faults_of_the_kit_itself_are_found(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    add_tenant(&owner, "a", None).await;
    for (fault, undo, problem) in [
        (
            "alter policy cloison_tenant_select on cloison.tenants using (true)",
            "",
            "cloison.tenants: policy cloison_tenant_select is not as it was made",
        ),
        (
            "drop policy cloison_tenant_select on cloison.audit_log",
            "",
            "cloison.audit_log: policy cloison_tenant_select is missing",
        ),
        (
            "grant update on cloison.tenants to cloison_tenant",
            "revoke update on cloison.tenants from cloison_tenant",
            "cloison.tenants: cloison_tenant has UPDATE",
        ),
        (
            "grant select (hash) on cloison.api_keys to cloison_tenant",
            "revoke select (hash) on cloison.api_keys from cloison_tenant",
            "cloison.api_keys: cloison_tenant has SELECT on column hash",
        ),
        (
            "grant select on cloison.signing_key to cloison_tenant",
            "revoke select on cloison.signing_key from cloison_tenant",
            "cloison.signing_key: tenants may reach a table",
        ),
        (
            "grant execute on function cloison.set_tenant(uuid) to cloison_tenant",
            "revoke execute on function cloison.set_tenant(uuid) from cloison_tenant",
            "cloison.set_tenant(uuid): cloison_tenant may call it",
        ),
        (
            "grant execute on function cloison.signing_material() to public",
            "revoke execute on function cloison.signing_material() from public",
            "cloison.signing_material(): public may call it",
        ),
    ] {
        batch(&owner, fault).await;
        let found = findings(&owner).await;
        assert!(found.iter().any(|f| f.starts_with(problem)), "{fault}: {found:?}");
        batch(&owner, undo).await;
        batch(&owner, include_str!("../../sql/migrations/0003_row_level_security.sql")).await;
        assert_eq!(findings(&owner).await, [""; 0], "{fault}");
    }
}

async fn a_fit_login_has_no_findings(server: &Server) {
    let database = server.database().await;
    let control = database.session("control").await;
    for access in ["tenant", "superadmin", "control", "owner"] {
        assert_eq!(role(&control, &database, access, access).await, [""; 0], "{access}");
    }
}

async fn every_fault_of_a_login_is_found(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    let (owner, tenant) = (database.login("owner"), database.login("tenant"));
    let (middle, name) = (database.login("middle"), database.name.as_str());
    batch(
        &database.owner().await,
        "create table public.note (id integer); select cloison.protect('public.note')",
    )
    .await;
    batch(&superuser, &format!("create role {middle}")).await;
    for (fault, undo, problem) in [
        ("alter role T superuser", "alter role T nosuperuser", "is a superuser"),
        ("alter role T bypassrls", "alter role T nobypassrls", "bypasses row security"),
        ("alter role T replication", "alter role T noreplication", "may replicate"),
        ("alter role T createrole", "alter role T nocreaterole", "may make and change roles"),
        ("alter role T createdb", "alter role T nocreatedb", "may make databases"),
        (
            "alter table public.note owner to T",
            "alter table public.note owner to O",
            "owns table public.note",
        ),
        (
            "alter table cloison.tenants owner to T",
            "alter table cloison.tenants owner to O",
            "owns table cloison.tenants",
        ),
        (
            "alter schema cloison owner to T; grant usage on schema cloison to O",
            "alter schema cloison owner to O",
            "owns schema cloison",
        ),
        ("alter database D owner to T", "alter database D owner to O", "owns database D"),
        ("grant O to T", "revoke O from T", "which owns table public.note"),
        (
            "grant cloison_superadmin to T",
            "revoke cloison_superadmin from T",
            "member of cloison_superadmin",
        ),
        (
            "grant cloison_control to T",
            "revoke cloison_control from T",
            "member of cloison_control",
        ),
        (
            "grant pg_read_all_data to T",
            "revoke pg_read_all_data from T",
            "member of pg_read_all_data",
        ),
        (
            "grant pg_execute_server_program to M; grant M to T",
            "revoke M from T; revoke pg_execute_server_program from M",
            "member of pg_execute_server_program",
        ),
        (
            "alter role M bypassrls; grant M to T",
            "revoke M from T; alter role M nobypassrls",
            "is a member of M, which bypasses row security",
        ),
        (
            "revoke cloison_tenant from T",
            "grant cloison_tenant to T",
            "is not a member of cloison_tenant",
        ),
        (
            "grant create on schema public to public",
            "revoke create on schema public from public",
            "may make objects in schema public",
        ),
        (
            "grant create on database D to T",
            "revoke create on database D from T",
            "may make schemas",
        ),
    ] {
        let named = |text: &str| {
            let words = text.split_inclusive([' ', ';', ',']).map(|word| {
                let bare = word.trim_end_matches([' ', ';', ',']);
                let rest = &word[bare.len()..];
                let bare = match bare {
                    "T" => tenant.as_str(),
                    "O" => owner.as_str(),
                    "M" => middle.as_str(),
                    "D" => name,
                    other => other,
                };
                format!("{bare}{rest}")
            });
            words.collect::<String>()
        };
        let (fault, problem) = (named(fault), named(problem));
        batch(&superuser, &fault).await;
        let found = role(&superuser, &database, "tenant", "tenant").await;
        assert!(found.iter().any(|f| f.contains(&problem)), "{fault}: {found:?}");
        // The cure that is told is SQL that works, where it is not a person's to finish.
        let cures = format!("select fix from cloison.role_findings('{tenant}', 'tenant')");
        for cure in texts(&superuser, &cures).await {
            // Run against the server's superuser, or the application's owner, it must not break them.
            let breaks = ["nosuperuser", "nobypassrls", "nocreate", "owner to", "noreplication"];
            assert!(!breaks.iter().any(|word| cure.contains(word)), "{cure}");
            if !cure.contains('…') {
                batch(&superuser, &cure).await;
            }
        }
        batch(&superuser, &named(undo)).await;
        assert_eq!(role(&superuser, &database, "tenant", "tenant").await, [""; 0], "{fault}");
    }
    assert_eq!(
        texts(&superuser, "select problem from cloison.role_findings('no one', 'tenant')").await,
        ["role \"no one\" does not exist"]
    );
    let found = role(&superuser, &database, "tenant", "superadmin").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(!role(&superuser, &database, "owner", "tenant").await.is_empty());
}

async fn role(session: &Client, database: &Database<'_>, login: &str, access: &str) -> Vec<String> {
    let login = database.login(login);
    let sql = format!("select problem from cloison.role_findings('{login}', '{access}')");
    texts(session, &sql).await
}

async fn findings(session: &Client) -> Vec<String> {
    texts(session, "select relation || ': ' || problem from cloison.protection_findings()").await
}
