//! Keys for software that cannot mint a token: who makes, sees and revokes them.

use tokio_postgres::error::SqlState;

use crate::support::{Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(
    a_key_is_returned_once_and_kept_as_a_hash,
    only_super_admins_and_the_kits_owner_hand_out_keys,
    a_key_opens_its_tenant_until_it_is_revoked_or_over,
);

const KEPT: &str =
    "select prefix || ' ' || name || ' ' || encode(hash, 'hex') from cloison.api_keys";

async fn a_key_is_returned_once_and_kept_as_a_hash(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let tenant = add_tenant(&owner, "a", None).await;
    let admin = database.session("superadmin").await;
    batch(&admin, "select cloison.enable_superadmin_mode()").await;
    database.permit_writes(&admin).await;
    let make = format!("select cloison.create_api_key('{tenant}', 'etl')");
    let (one, two) = (texts(&admin, &make).await.remove(0), texts(&admin, &make).await.remove(0));
    for key in [&one, &two] {
        let (prefix, secret) = key.rsplit_once('_').unwrap();
        assert_eq!((prefix.len(), secret.len()), (35, 64), "{prefix}");
        let hash = format!("select encode(sha256('{key}'), 'hex')");
        let kept = format!("{prefix} etl {}", texts(&owner, &hash).await[0]);
        assert!(texts(&owner, KEPT).await.contains(&kept));
        // Nothing of the secret is anywhere else.
        let listed = texts(&admin, "select k::text from cloison.list_api_keys() k").await;
        let log = texts(&owner, "select l::text from cloison.audit_log l").await;
        assert!(!format!("{listed:?}{log:?}").contains(&secret[..16]));
    }
    assert_ne!(one.rsplit_once('_'), two.rsplit_once('_'));
    let records = "select count(*) from cloison.audit_log where action = 'api_key.created' \
                   and tenant_id is not null and detail ->> 'name' = 'etl'";
    assert_eq!(texts(&owner, records).await, ["2"]);
    let listed = format!("select name from cloison.list_api_keys('{tenant}')");
    assert_eq!(texts(&admin, &listed).await, ["etl", "etl"]);
    let nobody = "select count(*) from cloison.list_api_keys(gen_random_uuid())";
    assert_eq!(texts(&admin, nobody).await, ["0"]);
    let unknown = "select cloison.create_api_key(gen_random_uuid(), 'x')";
    let error = admin.batch_execute(unknown).await.unwrap_err();
    assert_eq!(*error.code().unwrap(), SqlState::NO_DATA_FOUND);
}

async fn only_super_admins_and_the_kits_owner_hand_out_keys(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let tenant = add_tenant(&owner, "a", None).await;
    let key = "00000000-0000-4000-8000-000000000000";
    let calls = [
        format!("select cloison.create_api_key('{tenant}', 'x')"),
        "select cloison.list_api_keys()".to_owned(),
        format!("select cloison.revoke_api_key('{key}', 'x')"),
    ];
    let find = "select cloison.find_api_key('')";
    let (admin, control) =
        (database.session("superadmin").await, database.session("control").await);
    let session = database.tenant(tenant).await;
    for call in &calls {
        // A super-admin has to say so first; the owner of the kit may anyway.
        denied(&admin, call).await;
        denied(&control, call).await;
        denied(&session, call).await;
        owner.batch_execute(call).await.unwrap();
    }
    batch(&admin, "select cloison.enable_superadmin_mode()").await;
    for call in &calls {
        // To look needs no permit to write.
        match call.contains("list") {
            true => batch(&admin, call).await,
            false => drop(denied(&admin, call).await),
        }
    }
    database.permit_writes(&admin).await;
    for call in &calls {
        admin.batch_execute(call).await.unwrap();
    }
    denied(&admin, find).await;
    denied(&session, find).await;
    batch(&control, find).await;
    // The hash is the proxy's to ask for, and nobody else's to see.
    denied(&control, "select hash from cloison.api_keys").await;
    denied(&session, "select hash from cloison.api_keys").await;
    assert_eq!(texts(&session, "select count(prefix) from cloison.api_keys").await, ["2"]);
    let stranger = database.tenant(add_tenant(&owner, "b", None).await).await;
    assert_eq!(texts(&stranger, "select count(prefix) from cloison.api_keys").await, ["0"]);
    assert!(texts(&owner, "select problem from cloison.protection_findings()").await.is_empty());
}

async fn a_key_opens_its_tenant_until_it_is_revoked_or_over(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let tenant = add_tenant(&owner, "a", None).await;
    let control = database.session("control").await;
    let make = format!("select cloison.create_api_key('{tenant}', 'x', now() + interval '1 hour')");
    let key = texts(&owner, &make).await.remove(0);
    let find = format!("select tenant_id from cloison.find_api_key(sha256('{key}'))");
    let opens = async || texts(&control, &find).await;
    assert_eq!(opens().await, [tenant.to_string()]);
    for (change, back) in [
        ("expires_at = now() - interval '1 second'", "expires_at = null"),
        ("expires_at = now()", "expires_at = now() + interval '1 minute'"),
        // There are no scopes: what one would take away, nobody would.
        ("scopes = '{read}'", "scopes = '{}'"),
        ("revoked_at = now()", "revoked_at = null"),
    ] {
        batch(&owner, &format!("update cloison.api_keys set {change}")).await;
        assert!(opens().await.is_empty(), "{change}");
        batch(&owner, &format!("update cloison.api_keys set {back}")).await;
        assert_eq!(opens().await, [tenant.to_string()], "{back}");
    }
    let id = texts(&owner, "select id from cloison.api_keys").await.remove(0);
    let without = format!("select cloison.revoke_api_key('{id}', '')");
    assert!(owner.batch_execute(&without).await.is_err(), "without a reason");
    let revoke = format!("select cloison.revoke_api_key('{id}', 'lost')");
    assert_eq!(texts(&owner, &revoke).await, ["t"]);
    assert_eq!(texts(&owner, &revoke).await, ["f"], "it was already");
    assert!(opens().await.is_empty());
    let record =
        "select detail ->> 'reason' from cloison.audit_log where action = 'api_key.revoked'";
    assert_eq!(texts(&owner, record).await, ["lost"]);
}
