//! The database under watch: with a critical finding no tenant is served, until it is cured.

use std::time::Duration;

use cloison::config::LintAction;
use cloison::observe::Event;

use crate::support::postgres::{A, B, Database};
use crate::support::proxy::{self, Builder, Proxy, by_transaction, tenant_token};
use crate::support::wire::{Wire, error};

const FAULT: &str = "create view public.notes as select * from public.note; \
                     grant select on public.notes to cloison_tenant";
const KEY: &str = "view_not_invoker:public.notes";
const CURE: &str = "drop view public.notes";

fn watched(action: LintAction) -> Builder {
    proxy::new().edit(move |config| {
        config.lint.action = action;
        config.lint.interval = Duration::from_millis(200);
    })
}

async fn shut(proxy: &mut Proxy) {
    let key = proxy
        .observed(|event| match event {
            Event::LintFound { key, detail, fix } => {
                assert!(detail.contains("public.note") && fix.is_some(), "{event:?}");
                Some(key.clone())
            }
            _ => None,
        })
        .await;
    assert_eq!(key, KEY);
    // The event is told just before the door is shut.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn opened(proxy: &mut Proxy) {
    let is_cure = |event: &Event| matches!(event, Event::LintCured { key } if key == KEY);
    proxy.observed(|event| is_cure(event).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn refused(proxy: &Proxy) {
    let told = Wire::refused(proxy, "app", &tenant_token(B), &[]).await;
    assert_eq!(told.field('C'), "57P03", "{told:?}");
    assert!(told.field('D').contains("C308"), "{told:?}");
    // What is wrong is the operator's to know.
    assert!(!told.field('M').contains("notes") && !told.field('D').contains("notes"), "{told:?}");
}

#[tokio::test]
async fn a_fault_keeps_the_proxy_from_starting_unless_it_is_accepted() {
    let database = Database::new();
    let superuser = database.superuser().await;
    superuser.batch_execute(FAULT).await.unwrap();
    let again = |database: &Database| Database { name: database.name.clone() };
    let Err(said) = proxy::new().try_run_on(again(&database)).await else {
        panic!("served with a fault")
    };
    let newer = "alter view public.notes set (security_invoker = on)";
    let older = "revoke all on public.notes from cloison_tenant";
    assert!(said.contains("view_not_invoker: public.notes: tenants have SELECT"), "{said}");
    assert!(said.contains(newer) || said.contains(older), "{said}");
    assert!(said.contains(&format!("--accept '{KEY}'")), "{said}");

    // What is not critical does not matter.
    let accept = "insert into cloison.accepted_findings (key, reason) values ($1, 'a test')";
    superuser.execute(accept, &[&KEY]).await.unwrap();
    superuser.batch_execute("create unique index on note (body)").await.unwrap();
    let proxy = proxy::new().run_on(again(&database)).await;
    assert_eq!(Wire::tenant(&proxy, A).await.value("select count(*) from note").await, "3");
    proxy.stop().await;

    // Nor does anything where it is only to be told.
    superuser.batch_execute("delete from cloison.accepted_findings").await.unwrap();
    let proxy = watched(LintAction::Warn).run_on(again(&database)).await;
    assert_eq!(Wire::tenant(&proxy, A).await.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn a_fault_shuts_the_door_and_its_cure_opens_it() {
    let mut proxy = watched(LintAction::Refuse).run().await;
    let superuser = proxy.database.superuser().await;
    let mut here = Wire::tenant(&proxy, A).await;
    assert_eq!(here.value("select count(*) from note").await, "3");

    superuser.batch_execute(FAULT).await.unwrap();
    shut(&mut proxy).await;
    refused(&proxy).await;
    if by_transaction() {
        let answer = here.ask("select count(*) from note").await;
        assert_eq!(error(&answer).field('C'), "57P03", "{answer:?}");
        assert!(here.receive().await.is_none(), "the session goes on");
    }
    // Who can mend it comes in, and does.
    drop(proxy.superadmin().await);
    let owner = proxy.owner().await;
    superuser.batch_execute("alter view public.notes owner to it_owner").await.unwrap();
    owner.batch_execute(CURE).await.unwrap();
    opened(&mut proxy).await;
    assert_eq!(Wire::tenant(&proxy, A).await.value("select count(*) from note").await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn unready_refuses_sessions_and_serves_those_that_are_there() {
    let mut proxy = watched(LintAction::Unready).run().await;
    let superuser = proxy.database.superuser().await;
    let mut here = Wire::tenant(&proxy, A).await;
    superuser.batch_execute(FAULT).await.unwrap();
    shut(&mut proxy).await;
    refused(&proxy).await;
    for _ in 0..3 {
        assert_eq!(here.value("select count(*) from note").await, "3");
    }
    superuser.batch_execute(CURE).await.unwrap();
    opened(&mut proxy).await;
    drop(proxy.tenant(B).await);
    proxy.stop().await;

    // It starts, and admits nobody.
    let database = Database { name: proxy_database(superuser).await };
    database.superuser().await.batch_execute(FAULT).await.unwrap();
    let proxy = watched(LintAction::Unready).run_on(database).await;
    refused(&proxy).await;
    drop(proxy.superadmin().await);
    proxy.stop().await;
}

async fn proxy_database(superuser: tokio_postgres::Client) -> String {
    superuser.query_one("select current_database()::text", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_database_that_cannot_be_looked_over_is_not_served() {
    let mut proxy = watched(LintAction::Refuse).run().await;
    let superuser = proxy.database.superuser().await;
    drop(proxy.tenant(A).await);
    let hide = "revoke select on cloison.accepted_findings from cloison_control";
    superuser.batch_execute(hide).await.unwrap();
    for _ in 0..3 {
        let reason = proxy.observed(|event| match event {
            Event::LintFailed { reason } => Some(reason.clone()),
            _ => None,
        });
        let reason = reason.await;
        assert!(reason.contains("reading what was accepted failed"), "{reason}");
        assert!(reason.contains("permission denied"), "{reason}");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    refused(&proxy).await;

    let again = Database { name: proxy.database.name.clone() };
    let Err(said) = watched(LintAction::Refuse).try_run_on(again).await else {
        panic!("served without a look")
    };
    assert!(said.contains("could not be looked over"), "{said}");

    let show = "grant select on cloison.accepted_findings to cloison_control";
    superuser.batch_execute(show).await.unwrap();
    let back = async {
        while proxy.connect("app", &tenant_token(A), "").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("it stays shut");
    proxy.stop().await;
}

#[tokio::test]
async fn a_login_of_another_proxy_is_not_our_fault() {
    let database = Database::new();
    let superuser = database.superuser().await;
    let role = format!("{}_stranger", database.name);
    let make = format!("create role {role} login createdb; grant cloison_tenant to {role}");
    superuser.batch_execute(&make).await.unwrap();
    let proxy = proxy::new().run_on(database).await;
    drop(proxy.tenant(A).await);
    proxy.stop().await;
    superuser.batch_execute(&format!("drop role {role}")).await.unwrap();
}
