//! Who gets in, who does not, what is told, and what is not.

use std::time::Duration;

use cloison::cli::serve;
use cloison::observe::{Event, Observer};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::postgres::{A, Database};
use crate::support::proxy::{self, Proxy, SECRET, now, pool_mode, tenant_token, token};
use crate::support::wire::{Message, Wire, error, tags};

const COUNT: &str = "select count(*) from note";

fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn claims(changes: Value) -> Value {
    let mut all = json!({"iss": "test", "aud": "tenant", "exp": now() + 60, "tenant_id": A});
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            other => all[name] = other.clone(),
        }
    }
    all
}

fn with(changes: Value) -> String {
    signed(Algorithm::HS256, SECRET, &claims(changes))
}

/// The client is refused with `sqlstate`. Nobody is told the token, and the client no claim of it; the
/// log names the claims that were refused.
async fn check_refused(proxy: &mut Proxy, user: &str, token: &str, sqlstate: &str) {
    let told = Wire::refused(proxy, user, token, &[]).await;
    assert_eq!(told.field('C'), sqlstate, "{}", told.field('M'));
    let mut event = String::new();
    proxy
        .observed(|seen| {
            event = format!("{seen:?}");
            matches!(seen, Event::ClientRefused { .. }).then_some(())
        })
        .await;
    let told = String::from_utf8_lossy(&told.body).into_owned();
    assert!(!told.contains("secret-claim"), "{told}");
    for text in [event, told] {
        for part in token.split('.').filter(|part| part.len() > 3) {
            assert!(!text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn every_bad_token_is_refused_and_not_repeated() {
    let mut proxy = proxy::new().run().await;
    let good = tenant_token(A);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    let twisted = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for (token, sqlstate) in [
        (String::new(), "28P01"),
        ("hunter2-secret-claim".to_owned(), "28P01"),
        // The password that the pool's own role has at Postgres.
        ("app-secret".to_owned(), "28P01"),
        (head.to_owned(), "28P01"),
        (format!("{head}."), "28P01"),
        (format!("{none}.{payload}."), "28P01"),
        (format!("{none}.{payload}.{signature}"), "28P01"),
        (twisted, "28P01"),
        (format!("{header}.{payload}x.{signature}"), "28P01"),
        (format!("{good}.x"), "28P01"),
        (signed(Algorithm::HS512, SECRET, &claims(json!({}))), "28P01"),
        (
            signed(Algorithm::HS256, "another secret of thirty-two bytes", &claims(json!({}))),
            "28P01",
        ),
        (with(json!({"exp": now() - 1})), "28P01"),
        (with(json!({"exp": null})), "28P01"),
        (with(json!({"exp": "soon"})), "28P01"),
        (with(json!({"nbf": now() + 600})), "28P01"),
        (with(json!({"iss": "secret-claim"})), "28P01"),
        (with(json!({"iss": null})), "28P01"),
        (with(json!({"aud": "secret-claim"})), "28000"),
        (with(json!({"tenant_id": null})), "28000"),
        (with(json!({"tenant_id": ["secret-claim"]})), "28000"),
        (with(json!({"tenant_id": {"id": A}})), "28000"),
        (with(json!({"tenant_id": "secret-claim"})), "28000"),
        (with(json!({"tenant_id": "' or true --"})), "28000"),
        (with(json!({"tenant_id": format!("{A}\0")})), "28000"),
        (with(json!({"tenant_id": ""})), "28000"),
        (with(json!({"tenant_id": "eeeeeeee-0000-4000-8000-000000000005"})), "28000"),
        (with(json!({"tenant_id": "c"})), "28000"),
        (with(json!({"tenant_id": "d"})), "28000"),
    ] {
        check_refused(&mut proxy, "app", &token, sqlstate).await;
    }
    assert_eq!(Wire::tenant(&proxy, A).await.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn suspended_is_told_and_archived_looks_like_unknown() {
    let proxy = proxy::new().run().await;
    let mut told = Vec::new();
    for tenant in ["c", "d", "nobody"] {
        told.push(Wire::refused(&proxy, "app", &tenant_token(tenant), &[]).await);
    }
    assert_eq!(told[0].field('M'), "the token's tenant is suspended");
    assert_eq!(told[1], told[2]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_its_own_pool_alone() {
    let mut proxy = proxy::new().run().await;
    let tokens = [
        ("app", tenant_token(A)),
        ("cloison_superadmin", token("superadmin", json!({}))),
        ("cloison_owner", token("owner", json!({}))),
    ];
    for (user, _) in &tokens {
        for (other, token) in &tokens {
            if user == other {
                let (_, answer) = Wire::login(&proxy, user, token, &[]).await;
                assert_eq!(answer.last().unwrap().tag, 'Z', "{user}");
            } else {
                check_refused(&mut proxy, user, token, "28000").await;
            }
        }
    }
    // What a tenant's token says besides does not count.
    let boastful = token(
        "tenant",
        json!({"tenant_id": A, "role": "superadmin", "access": "owner", "is_admin": true}),
    );
    check_refused(&mut proxy, "cloison_superadmin", &boastful, "28000").await;
    proxy.stop().await;
}

#[tokio::test]
async fn an_expired_token_ends_the_session_between_transactions_and_not_inside_one() {
    let mut proxy = proxy::new().run().await;
    let soon = || token("tenant", json!({"tenant_id": A, "exp": now() + 2}));
    let (mut idle, _) = Wire::login(&proxy, "app", &soon(), &[]).await;
    let (mut open, _) = Wire::login(&proxy, "app", &soon(), &[]).await;
    open.ask("begin").await;
    let answer = idle.answer().await;
    assert_eq!(tags(&answer), "E");
    assert_eq!((answer[0].field('V'), answer[0].field('C')), ("FATAL", "57P01"));
    assert_eq!(proxy.session_ended().await, "ended");
    // Both tokens have ended by now, or will while this sleeps.
    assert_eq!(open.value("select count(*) from note, pg_sleep(1.5)").await, "3");
    assert_eq!(open.value(COUNT).await, "3");
    assert_eq!(tags(&open.ask("savepoint s").await), "CZ");
    assert_eq!(tags(&open.ask("commit").await), "CZ");
    assert_eq!(error(&open.answer().await).field('C'), "57P01");
    proxy.stop().await;
}

#[tokio::test]
async fn a_super_admins_session_is_on_record_before_its_first_statement() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let records = "select count(*) from cloison.audit_log where action = $1 and actor = 'tester'";
    for (user, audience) in [("cloison_superadmin", "superadmin"), ("cloison_owner", "owner")] {
        let action = format!("session.{audience}");
        let (_wire, answer) = Wire::login(&proxy, user, &token(audience, json!({})), &[]).await;
        assert_eq!(answer.last().unwrap().tag, 'Z');
        let row = superuser.query_one(records, &[&action]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1, "{action}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn without_its_record_there_is_no_super_admins_session() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    superuser
        .batch_execute(
            "alter table cloison.audit_log add constraint full_disk check (false) not valid",
        )
        .await
        .unwrap();
    for (user, audience) in [("cloison_superadmin", "superadmin"), ("cloison_owner", "owner")] {
        let told = Wire::refused(&proxy, user, &token(audience, json!({})), &[]).await;
        assert_eq!(told.field('C'), "08006");
        assert!(!told.field('M').contains("full_disk"));
    }
    // Tenants do not need one.
    assert_eq!(Wire::tenant(&proxy, A).await.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_super_admin_sees_all_only_once_it_says_so() {
    let proxy = proxy::new().run().await;
    let (mut admin, _) =
        Wire::login(&proxy, "cloison_superadmin", &token("superadmin", json!({})), &[]).await;
    let before = admin.ask(COUNT).await;
    assert_ne!(crate::support::wire::rows(&before), ["8"]);
    admin.ask("select cloison.enable_superadmin_mode()").await;
    assert_eq!(admin.value(COUNT).await, "8");
    proxy.stop().await;
}

/// What somebody with this token is told who wants to read: at the login, or with transaction
/// pooling at the first statement.
async fn refused_to_read(proxy: &Proxy, token: &str) -> Message {
    let (mut wire, answer) = Wire::login(proxy, "app", token, &[]).await;
    if pool_mode() == "session" || answer.last().unwrap().tag == 'E' {
        return error(&answer).clone();
    }
    // Sessions that are there already notice it within five seconds.
    for _ in 0..100 {
        let answer = wire.ask(COUNT).await;
        if tags(&answer) == "E" {
            return error(&answer).clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("still served");
}

#[tokio::test]
async fn a_suspended_tenant_does_not_come_back() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let status = async |status: &str| {
        let sql = format!("update cloison.tenants set status = '{status}' where slug = 'a'");
        superuser.batch_execute(&sql).await.unwrap();
    };
    let token = tenant_token(A);
    assert_eq!(Wire::tenant(&proxy, A).await.value(COUNT).await, "3");
    for state in ["suspended", "archived"] {
        status(state).await;
        // Both the token and the tenant may be remembered from a moment ago.
        let told = refused_to_read(&proxy, &token).await;
        assert!(["28000", "57P01"].contains(&told.field('C')), "{state}");
        // Who is served again, is served at once.
        status("active").await;
        assert_eq!(Wire::tenant(&proxy, A).await.value(COUNT).await, "3");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_that_was_suspended_a_moment_ago_is_told_so() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    Wire::tenant(&proxy, A).await.value(COUNT).await;
    let suspend = "update cloison.tenants set status = 'suspended' where slug = 'a'";
    superuser.batch_execute(suspend).await.unwrap();
    let told = refused_to_read(&proxy, &tenant_token(A)).await;
    // At the door, or in the session that began a moment before that was known.
    let words = [
        "the token's tenant is suspended",
        "terminating connection because the tenant is not served any more",
    ];
    assert!(words.contains(&told.field('M')), "{}", told.field('M'));
    proxy.stop().await;
}

/// Starts a proxy whose tenant role is another one, and says why it does not serve.
async fn report(database: &Database, role: &str) -> String {
    let (observer, _events) = Observer::with_channel();
    let role = role.to_owned();
    let config = proxy::new()
        .edit(move |config| {
            let pool = config.pools.get_mut(&cloison::types::Access::Tenant).unwrap();
            pool.login.user = role;
        })
        .config(database);
    match serve::start(config, observer).await {
        Ok(running) => {
            running.stop().await;
            String::new()
        }
        Err(error) => error.report(),
    }
}

#[tokio::test]
async fn a_role_that_could_step_around_the_policies_is_not_served() {
    // The role stays as it is for others: it may be the server's superuser.
    const OF_ITS_OWN: &str = "_tenant login password '…' in role cloison_tenant -- and name it in";
    let database = Database::new();
    let superuser = database.superuser().await;
    for (suffix, sql, mend) in [
        ("super", "alter role {} superuser", OF_ITS_OWN),
        ("bypass", "alter role {} bypassrls", OF_ITS_OWN),
        ("owner", "alter table note owner to {}", OF_ITS_OWN),
        // A role that owns something in this database alone, so that other tests' are left in peace.
        (
            "member",
            "create role {}_boss; alter table note owner to {}_boss; grant {}_boss to {}",
            "revoke",
        ),
    ] {
        let role = format!("{}_{suffix}", database.name);
        let login = "login password 'app-secret'";
        let make = format!("create role {role} {login}; grant cloison_tenant to {role};");
        superuser.batch_execute(&make).await.unwrap();
        assert_eq!(report(&database, &role).await, "", "{suffix}: fit at first");
        superuser.batch_execute(&sql.replace("{}", &role)).await.unwrap();
        let said = report(&database, &role).await;
        assert!(said.contains(&role), "{suffix}: {said}");
        assert!(said.to_lowercase().contains(mend), "{suffix}: {said}");
        superuser.batch_execute("alter table note owner to it_owner").await.unwrap();
        let drop =
            format!("drop owned by {role}; drop role {role}; drop role if exists {role}_boss");
        superuser.batch_execute(&drop).await.unwrap();
    }
}

#[tokio::test]
async fn the_log_says_which_tenant_was_looked_for_and_how() {
    let mut proxy = proxy::new().run().await;
    let id = "dddddddd-0000-4000-8000-00000000000d";
    for (claims, choice, log) in [
        (
            json!({"tenant_id": "glubex"}),
            None,
            r#"claim "tenant_id" holds "glubex", and no row of cloison.tenants has it as its slug (issuers.tenant.tenant_lookup = ["id", "slug"]; the value cannot be an id)"#,
        ),
        (
            json!({"tenant_id": id}),
            None,
            r#"has it as its id, nor as its slug (issuers.tenant.tenant_lookup = ["id", "slug"])"#,
        ),
        (
            json!({"tenants": ["a"]}),
            Some("glubex"),
            r#"the client chose "glubex": the token does not"#,
        ),
        (json!({"tenant": "a"}), None, r#"it has a claim "tenant": issuers.tenant.tenant_claim"#),
    ] {
        let parameters: Vec<_> = choice.map(|name| ("cloison.tenant", name)).into_iter().collect();
        let told = Wire::refused(&proxy, "app", &token("tenant", claims), &parameters).await;
        let words = [told.field('M'), told.field('D')].concat();
        assert!(!words.contains("glubex") && !words.contains(id), "not for the client: {words}");
        let detail = proxy
            .observed(|event| match event {
                Event::ClientRefused { detail, .. } => Some(detail.clone()),
                _ => None,
            })
            .await;
        assert!(detail.contains(log), "{detail}");
    }
    proxy.stop().await;
}
