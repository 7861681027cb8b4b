//! Advisory locks for tenants.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(a_lock_is_of_one_tenant, a_transaction_holds_a_few, without_a_tenant_there_is_none,);

async fn takes(session: &Client, key: &str) -> bool {
    texts(session, &format!("select cloison.try_advisory_xact_lock({key})")).await == ["t"]
}

async fn a_lock_is_of_one_tenant(server: &Server) {
    let database = server.database().await;
    database.harden(&[]).await;
    let owner = database.owner().await;
    let (a, b) = (add_tenant(&owner, "a", None).await, add_tenant(&owner, "b", None).await);
    let (one, two, other) =
        (database.tenant(a).await, database.tenant(a).await, database.tenant(b).await);
    for session in [&one, &two, &other] {
        batch(session, "begin").await;
    }
    batch(&one, "select cloison.advisory_xact_lock(7), cloison.advisory_xact_lock('seven')").await;
    assert!(takes(&one, "7").await, "it has it already");
    assert!(!takes(&two, "7").await && !takes(&two, "'seven'").await);
    assert!(takes(&two, "'7'").await, "a text is another lock than a number");
    assert!(takes(&other, "7").await && takes(&other, "'seven'").await);
    batch(&one, "commit").await;
    assert!(takes(&two, "7").await, "it ends with the transaction");
    denied(&one, "select cloison.take_lock('n7', true)").await;
    denied(&one, "select pg_advisory_xact_lock(7)").await;
}

async fn a_transaction_holds_a_few(server: &Server) {
    let database = server.database().await;
    database.harden(&[]).await;
    let tenant = add_tenant(&database.owner().await, "a", None).await;
    let session = database.tenant(tenant).await;
    batch(&session, "begin").await;
    let many = "select count(cloison.advisory_xact_lock(n)) from generate_series(1, 32) n";
    assert_eq!(texts(&session, many).await, ["32"]);
    // Again, and again: they are held already.
    assert_eq!(texts(&session, many).await, ["32"]);
    let error = session.batch_execute("select cloison.try_advisory_xact_lock('more')").await;
    assert_eq!(*error.unwrap_err().code().unwrap(), SqlState::PROGRAM_LIMIT_EXCEEDED);
    batch(&session, "rollback; begin").await;
    assert!(takes(&session, "'more'").await);
}

async fn without_a_tenant_there_is_none(server: &Server) {
    let database = server.database().await;
    let session = database.session("tenant").await;
    denied(&session, "select cloison.advisory_xact_lock(1)").await;
    batch(&database.owner().await, "update cloison.settings set strict = false").await;
    denied(&session, "select cloison.try_advisory_xact_lock('x')").await;
}
