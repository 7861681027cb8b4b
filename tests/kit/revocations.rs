//! Tokens that are good no more: who may say so, and how it is told.

use cloison::kit::migrate;
use tokio_postgres::Client;

use crate::support::{
    Database, Server, add_tenant, batch, denied, mark, on_every_major, soon, texts,
};

on_every_major!(
    what_is_revoked_is_listed_until_its_end,
    each_change_is_counted,
    only_super_admins_revoke,
    nobody_lifts_what_concerns_himself,
    a_count_of_an_older_kit_goes_on,
);

/// Lets a super-admin's session be somebody's, as the proxy does.
async fn act_as(database: &Database<'_>, session: &Client, subject: &str, token: &str) {
    let hash = |name: &str| format!("encode(sha256('{name}'), 'hex')");
    let json = format!(
        "select json_build_object('issuer', {}, 'subject', {}, 'token', {})",
        hash("https://id.example/"),
        hash(subject),
        hash(token)
    );
    let json = texts(session, &json).await.remove(0);
    let actor = database.actor(&mark(session).await, soon(), &json).await;
    session.execute("select cloison.renew_superadmin($1, '')", &[&actor]).await.unwrap();
}

const LISTED: &str = "select kind || ' ' || value || ' ' || coalesce(issuer, 'any') \
                      from cloison.current_revocations()";

async fn number(control: &Client) -> i64 {
    texts(control, "select cloison.session_change()").await[0].parse().unwrap()
}

async fn what_is_revoked_is_listed_until_its_end(server: &Server) {
    let database = server.database().await;
    let (admin, control) =
        (database.session("superadmin").await, database.session("control").await);
    batch(&admin, "select cloison.enable_superadmin_mode()").await;
    database.permit_writes(&admin).await;
    batch(&admin, "select cloison.revoke_token('t1', 'lost', until => now() + interval '1 hour')")
        .await;
    batch(&admin, "select cloison.revoke_subject('eve', 'left us', 'https://id.example/')").await;
    batch(&admin, "select cloison.revoke_token('old', 'x', until => now() - interval '2 days')")
        .await;
    assert_eq!(texts(&control, LISTED).await, ["token t1 any", "subject eve https://id.example/"]);
    // The next one sweeps what has ended.
    batch(&admin, "select cloison.revoke_token('t2', 'lost')").await;
    let owner = database.owner().await;
    let kept = "select string_agg(value, ' ' order by id) from cloison.revocations";
    assert_eq!(texts(&owner, kept).await, ["t1 eve t2"]);

    let id = "select id from cloison.current_revocations() where value = 'eve'";
    let id = texts(&admin, id).await.remove(0);
    let lift = format!("select cloison.lift_revocation({id}, 'was a mistake')");
    let told = denied(&admin, &lift).await;
    assert_eq!(told, "nobody knows whose session this is");
    act_as(&database, &admin, "ada", "t9").await;
    assert_eq!(texts(&admin, &lift).await, ["t"]);
    assert_eq!(texts(&admin, &lift).await, ["f"]);
    assert_eq!(texts(&control, LISTED).await, ["token t1 any", "token t2 any"]);

    let log = "select actor || ' ' || action || ' ' || coalesce(detail ->> 'token', \
               detail ->> 'subject') || ' ' || (detail ->> 'reason') from cloison.audit_log \
               where action <> 'superadmin.enabled' order by id";
    let actor = database.login("superadmin");
    let expected = [
        "token.revoked t1 lost",
        "subject.revoked eve left us",
        "token.revoked old x",
        "token.revoked t2 lost",
        "revocation.lifted eve was a mistake",
    ];
    assert_eq!(texts(&owner, log).await, expected.map(|line| format!("{actor} {line}")));
}

async fn each_change_is_counted(server: &Server) {
    let database = server.database().await;
    let (owner, control) = (database.owner().await, database.session("control").await);
    add_tenant(&owner, "a", None).await;
    let mut last = number(&control).await;
    for change in [
        "select cloison.revoke_token('t', 'lost')",
        "update cloison.revocations set until = now()",
        "delete from cloison.revocations",
        "truncate cloison.revocations",
        "update cloison.tenants set status = 'suspended' where slug = 'a'",
        "update cloison.tenants set name = 'Other', status = 'active' where slug = 'a'",
        "delete from cloison.tenants where slug = 'a'",
    ] {
        batch(&owner, change).await;
        let number = number(&control).await;
        assert!(number > last, "{change}");
        last = number;
    }
    add_tenant(&owner, "b", None).await;
    batch(&owner, "update cloison.tenants set name = 'B' where slug = 'b'").await;
    assert_eq!(number(&control).await, last, "nothing that ends a session");
}

async fn only_super_admins_revoke(server: &Server) {
    let database = server.database().await;
    let tenant = add_tenant(&database.owner().await, "a", None).await;
    let tenant = database.tenant(tenant).await;
    for statement in [
        "select cloison.revoke_token('t', 'x')",
        "select cloison.revoke_subject('t', 'x')",
        "select cloison.revoke('token', 't', 'x', null, null)",
        "select cloison.lift_revocation(1, 'x')",
        "select cloison.current_revocations()",
        "select cloison.session_change()",
        "select * from cloison.revocations",
        "delete from cloison.revocations",
        "update cloison.session_changes set number = 0",
    ] {
        denied(&tenant, statement).await;
    }
    let control = database.session("control").await;
    denied(&control, "select cloison.revoke_token('t', 'x')").await;
    denied(&database.session("superadmin").await, "delete from cloison.revocations").await;
}

async fn nobody_lifts_what_concerns_himself(server: &Server) {
    let database = server.database().await;
    let (owner, admin) = (database.owner().await, database.session("superadmin").await);
    batch(&admin, "select cloison.enable_superadmin_mode()").await;
    database.permit_writes(&admin).await;
    batch(
        &database.session("control").await,
        "select cloison.audit_append('ada', 'session.superadmin', null, 's', '{\"token_id\": \"t1\"}')",
    )
    .await;
    for (revoke, subject, token, is_his) in [
        ("revoke_subject('ada', 'x')", "ada", "t9", true),
        ("revoke_subject('ada', 'x', 'https://id.example/')", "ada", "t9", true),
        ("revoke_subject('ada', 'x', 'https://other.example/')", "ada", "t9", false),
        ("revoke_token('t9', 'x')", "ada", "t9", true),
        ("revoke_token('t8', 'x')", "ada", "t9", false),
        // With which she came before.
        ("revoke_token('t1', 'x')", "ada", "t9", true),
        ("revoke_token('t1', 'x')", "bob", "t9", false),
        ("revoke_subject('t9', 'x')", "ada", "t9", false),
    ] {
        let id = texts(&owner, &format!("select cloison.{revoke}")).await.remove(0);
        act_as(&database, &admin, subject, token).await;
        let lift = format!("select cloison.lift_revocation({id}, 'x')");
        if is_his {
            let told = denied(&admin, &lift).await;
            assert_eq!(told, "nobody lifts a revocation that concerns himself", "{revoke}");
            assert_eq!(texts(&owner, &lift).await, ["t"]);
        } else {
            assert_eq!(texts(&admin, &lift).await, ["t"], "{revoke} {subject}");
        }
    }
    // What he writes there himself is nobody.
    let mine = texts(&admin, "select current_setting('cloison.actor')").await.remove(0);
    for forged in
        [mine.replace("issuer", "ISSUER"), format!("9999999999{}", &mine[10..]), String::new()]
    {
        batch(&admin, &format!("set cloison.actor = '{forged}'")).await;
        let told = denied(&admin, "select cloison.lift_revocation(1, 'x')").await;
        assert_eq!(told, "nobody knows whose session this is");
        let renew = format!("select cloison.renew_superadmin('{forged}', '')");
        assert_eq!(denied(&admin, &renew).await, "the proof does not fit this session");
    }
}

/// There was one row, which all waited for.
async fn a_count_of_an_older_kit_goes_on(server: &Server) {
    let database = server.database().await;
    let (owner, control) = (database.owner().await, database.session("control").await);
    batch(
        &owner,
        "drop table cloison.session_changes; \
         create table cloison.session_changes ( \
             one boolean primary key default true check (one), number bigint not null default 0); \
         revoke all on cloison.session_changes from public; \
         alter table cloison.session_changes enable row level security; \
         insert into cloison.session_changes (number) values (41)",
    )
    .await;
    migrate::install(&owner, &[], |_| ()).await.unwrap();
    assert_eq!(number(&control).await, 41);
    add_tenant(&owner, "a", None).await;
    batch(&owner, "update cloison.tenants set status = 'suspended' where slug = 'a'").await;
    assert_eq!(number(&control).await, 42);
    let columns = "select string_agg(attname, ' ' order by attnum) from pg_attribute \
                   where attrelid = 'cloison.session_changes'::regclass and attnum > 0 \
                     and not attisdropped";
    assert_eq!(texts(&owner, columns).await, ["number process"]);
}
