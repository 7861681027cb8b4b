//! The kit's own tables, and the names in `public`.

use cloison::kit::migrate::{self, Compat};
use uuid::Uuid;

use crate::support::{Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(
    a_tenant_reads_its_own_part_of_the_kit,
    the_superadmin_manages_tenants,
    the_control_role_writes_down_and_reads_little,
    a_change_of_a_tenant_is_told,
    the_names_in_public_work,
    a_table_called_tenants_is_left_alone,
);

async fn fill(server: &Server) -> (crate::support::Database<'_>, Uuid, Uuid) {
    let database = server.database().await;
    let owner = database.owner().await;
    let (a, b) = (add_tenant(&owner, "a", None).await, add_tenant(&owner, "b", None).await);
    for tenant in [a, b] {
        batch(
            &owner,
            &format!(
                "insert into cloison.tenant_users (tenant_id, user_id) values ('{tenant}', 'u'); \
                 insert into cloison.api_keys (tenant_id, prefix, hash) \
                     values ('{tenant}', 'ck_', sha256('{tenant}')); \
                 insert into cloison.usage_events (tenant_id, kind) values ('{tenant}', 'query'); \
                 insert into cloison.audit_log (actor, action, tenant_id) \
                     values ('x', 'y', '{tenant}')"
            ),
        )
        .await;
    }
    (database, a, b)
}

async fn a_tenant_reads_its_own_part_of_the_kit(server: &Server) {
    let (database, a, _) = fill(server).await;
    let session = database.tenant(a).await;
    let me = a.to_string();
    assert_eq!(texts(&session, "select id from cloison.tenants").await, [me.as_str()]);
    for table in ["tenant_users", "api_keys", "usage_events", "audit_log"] {
        assert_eq!(
            texts(&session, &format!("select tenant_id from cloison.{table}")).await,
            [me.as_str()],
            "{table}"
        );
        denied(&session, &format!("delete from cloison.{table}")).await;
        denied(&session, &format!("update cloison.{table} set tenant_id = tenant_id")).await;
    }
    for sql in [
        "select hash from cloison.api_keys",
        "select hash from cloison.audit_log",
        "select id from cloison.audit_log",
        "select position from cloison.audit_log",
        "select * from cloison.audit_head",
        "select cloison.audit_append('x', 'y', null, null, null)",
        "select * from cloison.audit_findings()",
        "select * from cloison.api_keys",
        "update cloison.tenants set status = 'active'",
        "update cloison.tenants set plan = 'gold'",
        "insert into cloison.tenants (name, slug) values ('x', 'x')",
        "select * from cloison.signing_key",
        "select * from cloison.settings",
        "select * from cloison.protected_tables",
        "select * from cloison.protection_findings()",
        "select * from cloison.role_findings('x', 'tenant')",
    ] {
        denied(&session, sql).await;
    }
    let nobody = database.session("tenant").await;
    denied(&nobody, "select * from cloison.tenants").await;
}

async fn the_superadmin_manages_tenants(server: &Server) {
    let (database, ..) = fill(server).await;
    let session = database.session("superadmin").await;
    let add = "insert into cloison.tenants (name, slug, region, plan, admin_email) \
               values ('Cabinet Dr. Dupont', 'dupont', 'CH', 'pro', 'dr@example.ch') returning id";
    denied(&session, add).await;
    assert_eq!(texts(&session, "select * from cloison.tenants").await, [""; 0]);
    batch(&session, "select cloison.enable_superadmin_mode()").await;
    assert_eq!(denied(&session, add).await, "this super-admin's session is read-only");
    database.permit_writes(&session).await;
    assert_eq!(texts(&session, add).await.len(), 1);
    assert_eq!(texts(&session, "select count(*) from cloison.tenants").await, ["4"]);
    assert_eq!(texts(&session, "select count(*) from cloison.audit_log").await, ["3"]);
    batch(
        &session,
        "update cloison.tenants set status = 'suspended' where slug = 'dupont'; \
         delete from cloison.tenants where slug = 'dupont'",
    )
    .await;
    for sql in [
        "delete from cloison.audit_log",
        "update cloison.audit_log set actor = 'somebody else'",
        "insert into cloison.audit_log (actor, action) values ('x', 'y')",
        "truncate cloison.audit_log",
        "select * from cloison.signing_key",
        "select * from cloison.signing_material()",
        "select cloison.bind_tenant(gen_random_uuid(), '', '')",
    ] {
        denied(&session, sql).await;
    }
    for slug in ["", "-a", "A", "a b", "a-", "é"] {
        let sql = format!("insert into cloison.tenants (name, slug) values ('x', '{slug}')");
        let error = session.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23514", "{slug}");
    }
}

async fn the_control_role_writes_down_and_reads_little(server: &Server) {
    let (database, a, _) = fill(server).await;
    let session = database.session("control").await;
    assert_eq!(texts(&session, "select count(*) from cloison.tenants").await, ["3"]);
    batch(
        &session,
        &format!(
            "select cloison.audit_append('proxy', 'session', null, '1', null); \
             insert into cloison.usage_events (tenant_id, kind) values ('{a}', 'query'); \
             select * from cloison.protected_tables"
        ),
    )
    .await;
    for sql in [
        "select * from cloison.audit_log",
        "insert into cloison.audit_log (actor, action) values ('x', 'y')",
        "update cloison.audit_log set actor = 'x'",
        "select * from cloison.audit_head",
        "update cloison.tenants set plan = 'x'",
        "select * from cloison.signing_key",
        "select * from cloison.api_keys",
        "select cloison.enable_superadmin_mode()",
    ] {
        denied(&session, sql).await;
    }
}

async fn a_change_of_a_tenant_is_told(server: &Server) {
    let (database, a, _) = fill(server).await;
    let done = database.psql(
        "owner",
        &[
            "-c",
            "listen cloison_tenants",
            "-c",
            &format!("update cloison.tenants set plan = 'x' where id = '{a}'"),
            "-c",
            "select updated_at > created_at as touched from cloison.tenants where plan = 'x'",
        ],
    );
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(told.contains(&format!("\"cloison_tenants\" with payload \"{a}\"")), "{told}");
    assert!(told.contains("\n t\n"), "{told}");
}

async fn the_names_in_public_work(server: &Server) {
    let (database, a, b) = fill(server).await;
    migrate::install(&database.owner().await, &[Compat::Public], |_| ()).await.unwrap();
    let me = a.to_string();

    let session = database.tenant(a).await;
    assert_eq!(texts(&session, "select get_current_tenant()").await, [me.as_str()]);
    assert_eq!(texts(&session, "select is_superadmin()::text").await, ["false"]);
    assert_eq!(texts(&session, "select slug from tenants").await, ["a"]);
    denied(&session, &format!("select set_tenant('{b}')")).await;
    denied(&session, "select enable_superadmin_mode()").await;
    assert!(session.batch_execute("update tenants set plan = 'x'").await.is_err());
    assert_eq!(texts(&session, "select get_current_tenant()").await, [me.as_str()]);
    denied(&database.session("tenant").await, "select * from tenants").await;

    let operator = database.session("superadmin").await;
    batch(&operator, &format!("select set_tenant('{a}')")).await;
    assert_eq!(texts(&operator, "select get_current_tenant()").await, [me.as_str()]);
    assert_eq!(texts(&operator, "select slug from tenants").await, [""; 0]);
    batch(&operator, "select enable_superadmin_mode()").await;
    database.permit_writes(&operator).await;
    assert_eq!(texts(&operator, "select is_superadmin()::text").await, ["true"]);
    assert_eq!(texts(&operator, "select count(*) from tenants").await, ["3"]);
    if server.major >= 15 {
        batch(&operator, "insert into tenants (name, slug) values ('new', 'new')").await;
    }
}

async fn a_table_called_tenants_is_left_alone(server: &Server) {
    let database = server.database().await;
    batch(&database.owner().await, "create table public.tenants (mine integer)").await;
    for file in ["sql/compat/public_names.sql", "sql/compat/down/public_names.sql"] {
        let done = database.psql("owner", &["-f", file]);
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{told}");
        assert_eq!(
            told.contains("public.tenants is a table of the application's own"),
            !file.contains("down"),
            "{told}"
        );
    }
    assert_eq!(
        texts(
            &database.owner().await,
            "select relkind::text from pg_class where oid = 'public.tenants'::regclass"
        )
        .await,
        ["r"]
    );
}
