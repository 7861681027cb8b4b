//! Breaking the glass: a reason, an end, and a record of every statement before it runs.

use cloison::config::PoolMode;
use cloison::types::Access;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio_postgres::Client;

use crate::support::postgres::A;
use crate::support::proxy::{self, Builder, Proxy, SECRET, now, tenant_token, token};
use crate::support::wire::{Message, Wire, error, rows, tags};

const USER: &str = "cloison_superadmin";

fn in_mode(mode: PoolMode) -> Builder {
    proxy::new().edit(move |config| {
        config.pools.get_mut(&Access::Superadmin).unwrap().mode = mode;
    })
}

/// A token that gives no reason.
fn silent() -> String {
    let claims = json!({"iss": "test", "aud": "superadmin", "sub": "tester", "exp": now() + 60});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

async fn session(proxy: &Proxy, token: &str, parameters: &[(&str, &str)]) -> Wire {
    let (wire, answer) = Wire::login(proxy, USER, token, parameters).await;
    let last = answer.last().unwrap();
    assert_eq!(last.tag, 'Z', "{}", last.field('M'));
    wire
}

/// A column of the records of an action, oldest first.
async fn records(superuser: &Client, column: &str, action: &str) -> Vec<String> {
    let sql = format!(
        "select coalesce(({column})::text, 'null') from cloison.audit_log where action = $1 \
         order by position"
    );
    let rows = superuser.query(&sql, &[&action]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn is_whole(superuser: &Client) -> bool {
    superuser.query("select * from cloison.audit_findings()", &[]).await.unwrap().is_empty()
}

#[tokio::test]
async fn a_session_needs_a_reason_and_says_who_really_asks() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let told = Wire::refused(&proxy, USER, &silent(), &[]).await;
    assert_eq!(told.field('C'), "28000");
    assert!(told.field('D').contains("C216"), "{}", told.field('D'));
    assert!(records(&superuser, "id", "session.superadmin").await.is_empty());

    let acting = json!({"reason": "from the token", "act": {"sub": "support@example.com"}});
    drop(session(&proxy, &token("superadmin", acting), &[]).await);
    let option = [("options", "-c cloison.reason=ticket\\ 7")];
    drop(session(&proxy, &silent(), &option).await);
    let column = |name: &str| format!("detail ->> '{name}'");
    let action = "session.superadmin";
    assert_eq!(
        records(&superuser, &column("reason"), action).await,
        ["from the token", "ticket 7"]
    );
    assert_eq!(
        records(&superuser, "detail -> 'act' ->> 'sub'", action).await,
        ["support@example.com", "null"]
    );
    assert_eq!(records(&superuser, "actor", action).await, ["tester", "tester"]);
    assert!(is_whole(&superuser).await);
    // Nobody else may say such things.
    for name in ["cloison.reason", "cloison.write"] {
        let told = Wire::refused(&proxy, "app", &tenant_token(A), &[(name, "on")]).await;
        assert!(told.field('D').contains("C003"), "{name}");
    }
    proxy.stop().await;

    let proxy = proxy::new().set("superadmin_reason = \"optional\"").run().await;
    drop(session(&proxy, &silent(), &[]).await);
    proxy.stop().await;
}

#[tokio::test]
async fn a_session_has_an_end_before_its_tokens() {
    let proxy = proxy::new().set("superadmin_session_lifetime = 2").run().await;
    let mut wire = session(&proxy, &token("superadmin", json!({})), &[]).await;
    assert_eq!(wire.value("select 1").await, "1");
    let told = wire.answer().await;
    assert_eq!(error(&told).field('C'), "57P01");
    // A tenant's is not shortened.
    let mut tenant = Wire::tenant(&proxy, A).await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(tenant.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

fn texts(answer: &[Message]) -> Vec<String> {
    assert!(!tags(answer).contains('E'), "{}", error(answer).field('M'));
    rows(answer)
}

#[tokio::test]
async fn every_statement_is_on_record_before_it_runs() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let proxy = in_mode(mode).run().await;
        let superuser = proxy.database.superuser().await;
        let mut wire = session(&proxy, &token("superadmin", json!({})), &[]).await;
        wire.ask("begin").await;
        wire.value("select cloison.enable_superadmin_mode() is null").await;
        // It sees its own record.
        let own = "select count(*) from cloison.audit_log where detail ->> 'text' like '%marker%'";
        assert_eq!(wire.value(&format!("{own} /* marker */")).await, "1", "{mode:?}");
        wire.ask("commit").await;
        wire.run("select 7").sync().send().await;
        assert_eq!(texts(&wire.answer().await), ["7"]);
        wire.parse("named", "select $1::text");
        wire.bind("", "named", &["secret-value"]).execute("", 0);
        wire.bind("", "named", &["other"]).execute("", 0).sync().send().await;
        assert_eq!(texts(&wire.answer().await), ["secret-value", "other"]);
        // The same text of the unnamed statement, run twice.
        wire.parse("", "select 9").bind("", "", &[]).execute("", 0);
        wire.bind("", "", &[]).execute("", 0).sync().send().await;
        assert_eq!(texts(&wire.answer().await), ["9", "9"]);
        let long = format!("select 1 -- {}", "x".repeat(20_000));
        assert_eq!(wire.value(&long).await, "1");
        assert_eq!(
            records(&superuser, "left(detail ->> 'text', 20)", "statement").await,
            [
                "begin",
                "select cloison.enabl",
                "select count(*) from",
                "commit",
                "select 7",
                "select $1::text",
                "null",
                "null",
                "select 9",
                "null",
                "select 1 -- xxxxxxxx",
            ],
            "{mode:?}"
        );
        let named = records(&superuser, "detail ->> 'statement'", "statement").await;
        assert_eq!(named[5..8], ["named", "named", "named"]);
        let lengths = records(&superuser, "length(detail ->> 'text')", "statement").await;
        assert_eq!(lengths.last().unwrap(), "8192");
        let all = records(&superuser, "detail", "statement").await.concat();
        assert!(!all.contains("secret-value") && all.contains("\"bytes\": 20012"), "{mode:?}");
        assert!(is_whole(&superuser).await);
        // Others' statements are nobody's business.
        Wire::tenant(&proxy, A).await.value("select 'a tenant'").await;
        assert_eq!(records(&superuser, "id", "statement").await.len(), 11);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_run() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let proxy = in_mode(mode).run().await;
        let superuser = proxy.database.superuser().await;
        let role = "create sequence public.ran; grant all on sequence public.ran to it_admin";
        superuser.batch_execute(role).await.unwrap();
        let ran = "select last_value - 1 + is_called::int from public.ran";
        let mut counts = Vec::new();
        for simple in [true, false] {
            let mut wire = session(&proxy, &token("superadmin", json!({})), &[]).await;
            assert_eq!(wire.value("select nextval('public.ran') > 0").await, "t");
            let full =
                "alter table cloison.audit_log add constraint full_disk check (false) not valid";
            superuser.batch_execute(full).await.unwrap();
            let next = "select nextval('public.ran') > 0";
            let told = if simple {
                wire.ask(next).await
            } else {
                wire.parse("", "select 1").run(next).sync().send().await;
                wire.answer().await
            };
            let told = error(&told);
            assert_eq!(told.field('C'), "08006", "{mode:?}");
            assert!(told.field('D').contains("C205") && !told.field('M').contains("full_disk"));
            assert!(wire.receive().await.is_none());
            superuser
                .batch_execute("alter table cloison.audit_log drop constraint full_disk")
                .await
                .unwrap();
            counts.push(superuser.query_one(ran, &[]).await.unwrap().get::<_, i64>(0));
        }
        assert_eq!(counts, [1, 2], "{mode:?}");
        assert!(is_whole(&superuser).await);
        proxy.stop().await;
    }
}

/// Whoever holds the end of the chain keeps nobody waiting, and whoever holds the whole log no tenant.
#[tokio::test]
async fn a_chain_that_is_held_up_keeps_no_tenant_waiting() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let mut wire = session(&proxy, &token("superadmin", json!({})), &[]).await;
    superuser.batch_execute("begin; select from cloison.audit_head for update").await.unwrap();
    let soon = std::time::Duration::from_secs(2);
    let asked = tokio::time::timeout(soon, wire.value("select 7")).await;
    assert_eq!(asked.expect("nobody holds the chain"), "7");
    superuser.batch_execute("commit; begin; lock table cloison.audit_log").await.unwrap();
    wire.query("select 1").send().await;
    let soon = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(soon, wire.receive()).await.is_err(), "it does not wait");
    // A tenant that is looked up while the record waits.
    for _ in 0..3 {
        assert_eq!(Wire::tenant(&proxy, "b").await.value("select count(*) from note").await, "5");
    }
    superuser.batch_execute("commit").await.unwrap();
    assert_eq!(texts(&wire.answer().await), ["1"]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_session_reads_unless_it_has_asked_to_write() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    let enable = "select cloison.enable_superadmin_mode() is null";
    let change = "update note set body = 'changed' where id = 1";
    let mut reader = session(&proxy, &token("superadmin", json!({})), &[]).await;
    reader.value(enable).await;
    let mut writer =
        session(&proxy, &token("superadmin", json!({})), &[("cloison.write", "on")]).await;
    let kept = writer.value("select current_setting('cloison.superadmin_write')").await;
    for text in [
        change.to_owned(),
        format!("set transaction read write; {change}"),
        format!("set default_transaction_read_only = off; {change}"),
        format!("select set_config('cloison.superadmin_write', '{kept}', false); {change}"),
    ] {
        let answer = reader.ask(&text).await;
        assert_eq!(error(&answer).field('C'), "42501", "{text}");
        assert_eq!(error(&answer).field('M'), "this super-admin's session is read-only");
    }
    assert_eq!(reader.value("select count(*) from note").await, "8");
    writer.value(enable).await;
    assert_eq!(tags(&writer.ask(change).await), "CZ");
    assert_eq!(reader.value("select count(*) from note where body = 'changed'").await, "2");
    assert_eq!(
        records(&superuser, "detail -> 'write'", "session.superadmin").await,
        ["false", "true"]
    );
    // The next one on that connection does not inherit it.
    drop(writer);
    let mut next = session(&proxy, &token("superadmin", json!({})), &[]).await;
    next.value(enable).await;
    assert_eq!(error(&next.ask(change).await).field('C'), "42501");
    proxy.stop().await;

    let proxy = in_mode(PoolMode::Transaction).run().await;
    let wants = [("cloison.write", "on")];
    let told = Wire::refused(&proxy, USER, &token("superadmin", json!({})), &wants).await;
    assert!(told.field('D').contains("C218"), "{}", told.field('D'));
    proxy.stop().await;
}

/// Whoever acts for a tenant is it, is on its record, and cannot leave it.
#[tokio::test]
async fn a_super_admin_acts_for_one_tenant_and_the_tenant_can_read_it() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let set = move |config: &mut cloison::config::Config| {
            config.pools.get_mut(&Access::Tenant).unwrap().mode = mode;
        };
        let proxy = proxy::new().edit(set).run().await;
        let superuser = proxy.database.superuser().await;
        let admin = token("superadmin", json!({"act": {"sub": "support@example.com"}}));
        let told = Wire::refused(&proxy, USER, &admin, &[("cloison.tenant", "b")]).await;
        assert_eq!((told.field('C'), told.field('D')), ("28000", "cloison: C219"));
        for nobody in ["nobody", "11111111-1111-4111-8111-111111111111"] {
            let wishes = [("cloison.tenant", nobody), ("cloison.write", "on")];
            let told = Wire::refused(&proxy, USER, &admin, &wishes).await;
            assert!(told.field('D').contains("C207"), "{}", told.field('D'));
        }
        assert!(records(&superuser, "id", "session.superadmin").await.is_empty());

        let wishes = [("cloison.tenant", "b"), ("cloison.write", "on")];
        let mut wire = session(&proxy, &admin, &wishes).await;
        assert_eq!(wire.value("select count(*) from note").await, "5", "{mode:?}");
        wire.ask("update note set body = body").await;
        assert_eq!(wire.value("select current_user").await, "it_app");
        // There is no way to another tenant, or to all.
        let other = format!("set cloison.jwt = '{}'", tenant_token(A));
        for sql in
            [other.as_str(), "select set_tenant('a')", "select cloison.enable_superadmin_mode()"]
        {
            let answer = wire.ask(sql).await;
            assert!(tags(&answer).contains('E'), "{sql}");
        }
        assert_eq!(wire.value("select count(*) from note").await, "5", "{mode:?}");

        // The tenant reads what was done in its name, and others do not.
        let log = "select count(*) from cloison.audit_log where action = 'statement' and \
                   (select detail -> 'act' ->> 'sub' from cloison.audit_log \
                    where action = 'session.superadmin') = 'support@example.com'";
        let mut tenant = Wire::tenant(&proxy, "b").await;
        assert_eq!(tenant.value(log).await, "7", "{mode:?}");
        assert_eq!(Wire::tenant(&proxy, A).await.value(log).await, "0");
        assert!(is_whole(&superuser).await);

        // It ends with the tenant.
        let suspend = "update cloison.tenants set status = 'suspended' where slug = 'b'";
        superuser.batch_execute(suspend).await.unwrap();
        assert_eq!(error(&wire.answer().await).field('C'), "57P01", "{mode:?}");
        proxy.stop().await;
    }
}

/// There is no breaking the glass without a name.
#[tokio::test]
async fn who_does_not_say_who_comes_gets_no_session() {
    let proxy = proxy::new().run().await;
    let superuser = proxy.database.superuser().await;
    for (user, audience) in [(USER, "superadmin"), ("cloison_owner", "owner")] {
        for name in [None, Some(""), Some(" "), Some("\u{a0}\u{200b}"), Some("-")] {
            let mut claims =
                json!({"iss": "test", "aud": audience, "exp": now() + 60, "reason": "a test"});
            if let Some(name) = name {
                claims["sub"] = name.into();
            }
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
            let told = Wire::refused(&proxy, user, &token, &[]).await;
            let expected = [("28000", "cloison: C411"), ("28P01", "cloison: C202")];
            let seen = (told.field('C'), told.field('D'));
            assert!(expected.contains(&seen), "{audience} {name:?}: {seen:?}");
            assert!(name.is_some() || seen == expected[0], "{audience}: {seen:?}");
        }
    }
    for action in ["session.superadmin", "session.owner"] {
        assert!(records(&superuser, "id", action).await.is_empty());
    }
    proxy.stop().await;
}

/// What is on record is what Postgres runs: no name that it would cut, no text that is read in part.
#[tokio::test]
async fn what_is_on_record_is_what_has_run() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let proxy = in_mode(mode).run().await;
        let superuser = proxy.database.superuser().await;
        let mut wire = session(&proxy, &token("superadmin", json!({})), &[]).await;
        for length in [64, 2_100, 10_000] {
            let name = "n".repeat(length);
            wire.parse(&name, "select 'off the record'").bind("", &name, &[]).execute("", 0);
            wire.sync().send().await;
            let answer = wire.answer().await;
            assert_eq!(tags(&answer), "EZ", "{mode:?} {length}");
            let told = error(&answer);
            assert_eq!((told.field('C'), told.field('D')), ("42622", "cloison: C412"));
            wire.parse("", "select 1").bind(&name, "", &[]).execute(&name, 0).sync().send().await;
            let answer = wire.answer().await;
            assert_eq!(tags(&answer), "1EZ", "{mode:?} {length}");
            assert_eq!(error(&answer).field('D'), "cloison: C412");
        }
        // It goes on, and the longest name that Postgres keeps will do.
        let name = "n".repeat(63);
        wire.parse(&name, "select 'on it'").bind(&name, &name, &[]).execute(&name, 0);
        wire.sync().send().await;
        assert_eq!(texts(&wire.answer().await), ["on it"]);
        let all = records(&superuser, "detail", "statement").await.concat();
        assert!(!all.contains("off the record") && all.contains(&name), "{mode:?}");

        let hidden =
            format!("set cloison.jwt = 'x'{};update note set body = ''", " ".repeat(9_300));
        wire.ask(&hidden).await;
        let kept = "encode(sha256(convert_to($$HIDDEN$$, 'UTF8')), 'hex')";
        let is_there = "select count(*) from cloison.audit_log where detail ->> 'sha256' = ";
        let asked = is_there.to_owned() + &kept.replace("HIDDEN", &hidden);
        assert_eq!(superuser.query_one(&asked, &[]).await.unwrap().get::<_, i64>(0), 1, "{mode:?}");
        // A token is not, though it be long; nor is it sent to Postgres.
        let secret = format!("eyJ{}.{}.{}", "a".repeat(40), "b".repeat(150_000), "c".repeat(43));
        for sql in [format!("set cloison.jwt = '{secret}'"), format!("select '{secret}'")] {
            let answer = wire.ask(&sql).await;
            assert_eq!(tags(&answer).contains('E'), sql.starts_with("set"), "{mode:?}");
        }
        let all = records(&superuser, "detail", "statement").await.concat();
        assert!(!all.contains("eyJ") && all.contains("withheld"), "{mode:?}");
        assert!(is_whole(&superuser).await);
        proxy.stop().await;
    }
}

/// All super-admins share one role, and everybody the locks of Postgres.
#[tokio::test]
async fn what_all_super_admins_share_stays_as_it_is() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let proxy = in_mode(mode).run().await;
        let superuser = proxy.database.superuser().await;
        let mut wire = session(&proxy, &token("superadmin", json!({})), &[]).await;
        let role = wire.value("select current_user").await;
        let password = "select rolpassword from pg_authid where rolname = $1::text::name";
        let before: Option<String> = superuser.query_one(password, &[&role]).await.unwrap().get(0);
        for sql in [
            "alter role current_user password 'x'",
            "alter user current_user set search_path = x",
            "alter role current_user in database postgres set work_mem = '1MB'",
            "select 1; alter role current_user password 'x'",
            "set role cloison_superadmin",
            "lock table note in access exclusive mode",
            "begin; lock table cloison.tenants in access exclusive mode",
            "do $$ begin end $$",
            "listen news",
            "prepare transaction 'x'",
        ] {
            let told = wire.ask(sql).await;
            assert_eq!(error(&told).field('C'), "42501", "{mode:?}: {sql}");
            assert_eq!(error(&told).field('D'), "cloison: C405", "{mode:?}: {sql}");
            wire.ask("rollback").await;
        }
        wire.ask("select cloison.enable_superadmin_mode()").await;
        for sql in ["explain select 1", "set work_mem = '8MB'", "set app.anything = 'x'"] {
            assert!(!tags(&wire.ask(sql).await).contains('E'), "{mode:?}: {sql}");
        }
        let after: Option<String> = superuser.query_one(password, &[&role]).await.unwrap().get(0);
        assert_eq!(before, after);
        proxy.stop().await;
    }
}
