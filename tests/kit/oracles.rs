//! What tells of rows that the policies hide, without showing them.

use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Database, Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(
    errors_hold_no_values,
    samples_of_values_are_hidden,
    temporary_tables_of_others_are_out_of_reach,
);

/// A session of one tenant, and its id; the secrets are those of another.
async fn stage(database: &Database<'_>) -> (Client, Uuid) {
    let owner = database.owner().await;
    let (a, b) = (add_tenant(&owner, "a", None).await, add_tenant(&owner, "b", None).await);
    batch(
        &owner,
        &format!(
            "create table public.note (id int primary key, body text unique not null, \
                 n int check (n > 0)); \
             select cloison.protect('public.note'); \
             insert into public.note (id, body, n, tenant_id) \
                 select n, 'secret ' || n % 5, n, '{b}' from generate_series(1, 4) n"
        ),
    )
    .await;
    (database.tenant(a).await, a)
}

/// That a value exists an error does tell: keys that do not lead with the tenant are lint's to find.
async fn errors_hold_no_values(server: &Server) {
    let database = server.database().await;
    let (tenant, a) = stage(&database).await;
    let superuser = database.superuser().await;
    for (row, code, value) in [
        ("1, 'mine', 1", "23505", "(id)=(1)"),
        ("9, 'secret 1', 1", "23505", "secret 1"),
        ("9, 'mine', -1", "23514", "mine"),
        ("9, null, 777", "23502", "777"),
    ] {
        let sql = format!("insert into public.note values ({row}, '{a}')");
        let told = |error: tokio_postgres::Error| {
            let error = error.as_db_error().unwrap();
            let detail = error.detail().unwrap_or_default();
            (error.code().code().to_owned(), format!("{} {detail}", error.message()))
        };
        let (seen, text) = told(tenant.batch_execute(&sql).await.unwrap_err());
        assert!(seen == code && !text.contains(value), "{sql}: {seen} {text}");
        // Whom no policy binds is told.
        let (seen, text) = told(superuser.batch_execute(&sql).await.unwrap_err());
        assert!(seen == code && text.contains(value), "{sql}: {seen} {text}");
    }
}

async fn samples_of_values_are_hidden(server: &Server) {
    let database = server.database().await;
    let (tenant, _) = stage(&database).await;
    let superuser = database.superuser().await;
    batch(&superuser, "analyze public.note").await;
    let samples = "select count(*) > 0 from pg_stats where tablename = 'note'";
    assert_eq!(texts(&tenant, samples).await, ["f"]);
    assert_eq!(texts(&superuser, samples).await, ["t"]);
    denied(&tenant, "select * from pg_statistic").await;
    database.harden(&[]).await;
    denied(&tenant, samples).await;
}

async fn temporary_tables_of_others_are_out_of_reach(server: &Server) {
    let database = server.database().await;
    let (tenant, _) = stage(&database).await;
    let other = database.session("tenant").await;
    batch(&other, "create temporary table mine (body text); insert into mine values ('x')").await;
    let place = "select oid::regclass::text from pg_class where relname = 'mine'";
    let place = texts(&tenant, place).await.remove(0);
    assert!(place.starts_with("pg_temp_"), "{place}");
    for sql in [format!("select * from {place}"), format!("insert into {place} values ('y')")] {
        denied(&tenant, &sql).await;
    }
    assert_eq!(texts(&other, "select body from mine").await, ["x"]);
}
