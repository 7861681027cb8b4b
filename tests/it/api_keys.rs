//! Keys for software that cannot mint a token, in the token's place.

use serde_json::json;

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Proxy, tenant_token, token};
use crate::support::wire::Wire;

const COUNT: &str = "select count(*) from note";

async fn make(proxy: &Proxy, tenant: &str, expires_at: &str) -> String {
    let token = token("superadmin", json!({}));
    let write = "options='-c cloison.write=on'";
    let admin = proxy.connect("cloison_superadmin", &token, write).await.unwrap();
    admin.batch_execute("select cloison.enable_superadmin_mode()").await.unwrap();
    let sql = format!("select cloison.create_api_key('{tenant}', 'etl', {expires_at})");
    admin.query_one(&sql, &[]).await.unwrap().get(0)
}

async fn refusal(proxy: &Proxy, user: &str, key: &str) -> (String, String, String) {
    let told = Wire::refused(proxy, user, key, &[]).await;
    (told.field('C').to_owned(), told.field('M').to_owned(), told.field('D').to_owned())
}

fn not_accepted() -> (String, String, String) {
    ("28P01".to_owned(), "API key was not accepted".to_owned(), "cloison: C113".to_owned())
}

#[tokio::test]
async fn a_key_opens_one_tenants_session_and_nothing_else() {
    let proxy = proxy::new().set("api_keys = true").run().await;
    let (a, b) = (make(&proxy, A, "null").await, make(&proxy, B, "null").await);
    for (key, tenant) in [(&a, A), (&b, B)] {
        let (mut wire, answer) = Wire::login(&proxy, "app", key, &[]).await;
        assert_eq!(answer.last().unwrap().tag, 'Z');
        assert_eq!(wire.value("select distinct tenant_id from note").await, tenant);
    }
    for user in ["cloison_superadmin", "cloison_owner"] {
        assert_eq!(refusal(&proxy, user, &a).await, not_accepted());
    }
    // Tokens go on to be tokens.
    assert_eq!(Wire::tenant(&proxy, A).await.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_is_told_alike_and_at_once() {
    let proxy = proxy::new().set("api_keys = true").run().await;
    let superuser = proxy.database.superuser().await;
    let (revoked, soon) = (make(&proxy, A, "null").await, make(&proxy, A, "now() + '2 s'").await);
    for key in [&revoked, &soon] {
        assert_eq!(Wire::login(&proxy, "app", key, &[]).await.1.last().unwrap().tag, 'Z');
    }
    let revoke = "select cloison.revoke_api_key(id, 'lost') from cloison.api_keys \
                  where expires_at is null";
    superuser.batch_execute(revoke).await.unwrap();
    let unknown = format!("cl_{}_{}", "0".repeat(32), "0".repeat(64));
    let almost = format!("{}{}", &revoked[..99], if revoked.ends_with('0') { '1' } else { '0' });
    for key in [&revoked, &unknown, &almost, &"cl_".to_owned(), &revoked[..50].to_owned()] {
        assert_eq!(refusal(&proxy, "app", key).await, not_accepted());
    }
    // A key that ends takes its session along.
    let (mut wire, answer) = Wire::login(&proxy, "app", &soon, &[]).await;
    let ended = if answer.last().unwrap().tag == 'Z' { wire.answer().await } else { answer };
    assert!(["57P01", "28P01"].contains(&ended[0].field('C')));
    assert_eq!(refusal(&proxy, "app", &soon).await, not_accepted());
    proxy.stop().await;
}

#[tokio::test]
async fn a_key_of_a_tenant_that_may_not_be_served_is_refused() {
    let proxy = proxy::new().set("api_keys = true").run().await;
    let superuser = proxy.database.superuser().await;
    let key = make(&proxy, A, "null").await;
    let status = "update cloison.tenants set status = 'suspended' where slug = 'a'";
    superuser.batch_execute(status).await.unwrap();
    assert_eq!(refusal(&proxy, "app", &key).await.2, "cloison: C202");
    proxy.stop().await;
}

#[tokio::test]
async fn without_the_switch_a_key_is_a_bad_token() {
    let proxy = proxy::new().run().await;
    let key = make(&proxy, A, "null").await;
    assert_eq!(refusal(&proxy, "app", &key).await.2, "cloison: C102");
    proxy.stop().await;
}

#[tokio::test]
async fn keys_that_nobody_can_look_up_open_nothing() {
    let proxy = proxy::new().set("api_keys = true").run().await;
    let superuser = proxy.database.superuser().await;
    let key = make(&proxy, A, "null").await;
    let gone = "drop function cloison.find_api_key(bytea)";
    superuser.batch_execute(gone).await.unwrap();
    let (sqlstate, message, detail) = refusal(&proxy, "app", &key).await;
    assert_eq!((sqlstate.as_str(), detail.as_str()), ("08006", "cloison: C114"));
    assert!(!message.contains("function"), "{message}");
    assert_eq!(Wire::login(&proxy, "app", &tenant_token(A), &[]).await.1.last().unwrap().tag, 'Z');
    let Proxy { database, .. } = proxy;
    // Nor does a proxy start that could not look one up.
    let started = proxy::new().set("api_keys = true").try_run_on(database).await;
    let report = started.err().unwrap();
    assert!(report.contains("is the kit of this version installed"), "{report}");
}

#[tokio::test]
async fn a_revoked_key_ends_its_sessions() {
    let mut proxy = proxy::new().set("api_keys = true").run().await;
    let (key, other) = (make(&proxy, A, "null").await, make(&proxy, A, "null").await);
    let client = proxy.connect("app", &key, "").await.unwrap();
    let stays = proxy.connect("app", &other, "").await.unwrap();
    assert_eq!(client.query_one(COUNT, &[]).await.unwrap().get::<_, i64>(0), 3);
    let superuser = proxy.database.superuser().await;
    let id: uuid::Uuid = key[3..35].parse().unwrap();
    superuser.query("select cloison.revoke_api_key($1, 'lost')", &[&id]).await.unwrap();
    let end = async { while proxy.session_ended().await != "ended" {} };
    end.await;
    assert!(client.is_closed() || client.simple_query("select 1").await.is_err());
    assert_eq!(stays.query_one(COUNT, &[]).await.unwrap().get::<_, i64>(0), 3);
    proxy.stop().await;
}
