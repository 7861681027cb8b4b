//! Service tokens: they allow several tenants, and act for one only when it was chosen.

use serde_json::{Value, json};

use crate::support::postgres::{A, B};
use crate::support::proxy::{self, Proxy, service_token, tenant_token};
use crate::support::wire::{Wire, error, rows, tags};

const COUNT: &str = "select count(*) from note";

/// A session with a service token, which must succeed.
async fn service(proxy: &Proxy, tenants: Value, choice: Option<&str>) -> Wire {
    let parameters: Vec<_> = choice.map(|tenant| ("cloison.tenant", tenant)).into_iter().collect();
    let (wire, answer) = Wire::login(proxy, "app", &service_token(tenants), &parameters).await;
    assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
    wire
}

/// Nothing of anybody's can be read or written.
async fn is_nobody(wire: &mut Wire) {
    for sql in [
        COUNT,
        "insert into note (id) values (77)",
        "insert into note (tenant_id, id) values ('aaaaaaaa-0000-4000-8000-000000000001', 77)",
        "update note set body = 'x'",
        "delete from note",
    ] {
        let answer = wire.ask(sql).await;
        assert!(rows(&answer).is_empty(), "{sql}");
        assert_eq!(error(&answer).field('C'), "42501", "{sql}");
    }
    assert_eq!(wire.value("select 1").await, "1");
}

#[tokio::test]
async fn without_a_choice_there_are_no_rows() {
    let proxy = proxy::new().run().await;
    for tenants in [json!("*"), json!([A, B]), json!(["a"]), json!([])] {
        is_nobody(&mut service(&proxy, tenants, None).await).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn nobody_is_held_to_what_tenants_are_held_to() {
    let proxy = proxy::new().run().await;
    let mut wire = service(&proxy, json!("*"), None).await;
    let answer = wire.ask("alter role it_app set jit to off").await;
    assert_eq!(error(&answer).field('D'), "cloison: C405");
    wire.message('F', &[0; 10]).send().await;
    assert_eq!(error(&wire.answer().await).field('D'), "cloison: C401");
    proxy.stop().await;
}

#[tokio::test]
async fn a_tenant_is_chosen_at_startup_among_those_that_are_allowed() {
    let proxy = proxy::new().run().await;
    for (tenants, choice, count) in [
        (json!([A, B]), A, "3"),
        (json!([A, B]), "b", "5"),
        (json!(["a", "b"]), B, "5"),
        (json!("*"), "a", "3"),
    ] {
        let mut wire = service(&proxy, tenants, Some(choice)).await;
        assert_eq!(wire.value(COUNT).await, count, "{choice}");
    }
    // As libpq has it.
    let (mut wire, _) = Wire::login(
        &proxy,
        "app",
        &service_token(json!(["a"])),
        &[("options", "-c cloison.tenant=a")],
    )
    .await;
    assert_eq!(wire.value(COUNT).await, "3");
    // Who is nobody else's may say so.
    let (mut wire, _) =
        Wire::login(&proxy, "app", &tenant_token(A), &[("cloison.tenant", "a")]).await;
    assert_eq!(wire.value(COUNT).await, "3");
    proxy.stop().await;
}

#[tokio::test]
async fn what_a_token_does_not_list_cannot_be_chosen_at_startup() {
    let proxy = proxy::new().run().await;
    let refused = [
        (service_token(json!([A])), B),
        (service_token(json!([A])), "b"),
        (service_token(json!([A])), "nobody"),
        (service_token(json!([])), "a"),
        (service_token(json!("*")), "nobody"),
        (service_token(json!("*")), "a b"),
        (tenant_token(A), "b"),
        (tenant_token(A), "nobody"),
    ];
    for (token, choice) in refused {
        let told = Wire::refused(&proxy, "app", &token, &[("cloison.tenant", choice)]).await;
        assert_eq!((told.field('C'), told.field('D')), ("28000", "cloison: C207"), "{choice}");
    }
    // Archived: as one that never was.
    for (choice, code) in [("c", "cloison: C202"), ("d", "cloison: C207")] {
        let token = service_token(json!("*"));
        let told = Wire::refused(&proxy, "app", &token, &[("cloison.tenant", choice)]).await;
        assert_eq!(told.field('D'), code, "{choice}");
    }
    proxy.stop().await;
}
