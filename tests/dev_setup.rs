//! What `cloison dev` prepares in a database, on a real server.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::fs;
use std::path::PathBuf;

use cloison::dev::cluster::Cluster;
use cloison::dev::logins::{Login, Logins};
use cloison::dev::setup::{self, BoxError, Sample};
use cloison::kit::migrate::{self, Compat};
use tokio_postgres::Client;

async fn cluster() -> Cluster {
    Cluster::builder().setting("fsync", "off").start().await.unwrap()
}

fn logins(name: &str) -> Logins {
    let folder = PathBuf::from(format!("/tmp/cloison-setup-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let logins = Logins::load_or_choose(&folder.join("logins.json")).unwrap();
    fs::remove_dir_all(folder).unwrap();
    logins
}

async fn install(client: &Client) -> Result<(), BoxError> {
    Ok(migrate::install(client, &[Compat::Public], |_| ()).await?)
}

async fn log_in(cluster: &Cluster, database: &str, login: &Login) -> Client {
    let password = login.password.as_ref().unwrap().expose();
    cluster.connect(database, &login.user, password).await.unwrap()
}

async fn harden(client: &Client) -> Result<(), BoxError> {
    cloison::kit::harden::harden(client, &[]).await?;
    Ok(())
}

/// The groups that a login is a member of, and whether it is more than a login.
async fn standing(client: &Client) -> String {
    let sql = "select concat_ws(' ', string_agg(m.roleid::regrole::text, ','), \
                      nullif(bool_or(r.rolsuper or r.rolbypassrls or r.rolcreaterole), false)) \
               from pg_roles r left join pg_auth_members m on m.member = r.oid \
               where r.rolname = current_user";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_private_cluster_gets_logins_and_the_sample_however_often() {
    let cluster = cluster().await;
    for name in ["first", "second"] {
        // Other passwords the second time: what is remembered wins over what was set.
        let logins = logins(name);
        let (database, owner) = setup::private(&cluster, &logins, install, harden).await.unwrap();
        assert_eq!((&*database.name, database.tls_mode), ("app", "disable"));
        for (login, group) in [
            (&logins.tenant, "cloison_tenant"),
            (&logins.superadmin, "cloison_superadmin"),
            (&logins.control, "cloison_control"),
        ] {
            assert_eq!(standing(&log_in(&cluster, "app", login).await).await, group);
        }
        let slugs: Vec<_> =
            setup::tenants(&owner).await.unwrap().into_iter().map(|tenant| tenant.slug).collect();
        assert_eq!(slugs, ["cabinet-dupont-geneve", "ecole-ibn-khaldoun-alger"]);
        let sql = "select count(*), count(*) filter (where class = 'tenant') \
                   from cloison.protected_tables";
        let row = owner.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (16, 14));
    }
}

#[tokio::test]
async fn every_tenant_has_rows_in_every_tenant_table_of_the_sample() {
    let cluster = cluster().await;
    let (_, owner) = setup::private(&cluster, &logins("rows"), install, harden).await.unwrap();
    let sql = "select relation::text, tenant_column::text from cloison.protected_tables \
               where class = 'tenant'";
    for table in owner.query(sql, &[]).await.unwrap() {
        let (table, column): (String, String) = (table.get(0), table.get(1));
        let counts = format!("select count(*) from {table} group by {column} having count(*) >= 3");
        assert_eq!(owner.query(&counts, &[]).await.unwrap().len(), 2, "{table}");
    }
}

#[tokio::test]
async fn the_tenants_login_may_create_nothing_and_sees_nothing_by_itself() {
    let cluster = cluster().await;
    let logins = logins("tenant");
    setup::private(&cluster, &logins, install, harden).await.unwrap();
    let tenant = log_in(&cluster, "app", &logins.tenant).await;
    for sql in [
        "create table public.mine ()",
        "select * from public.projects",
        "select * from public.internal_notes",
        "select * from cloison.signing_key",
        "select public.enable_superadmin_mode()",
        // Hardened, as a superuser may.
        "select * from pg_stat_activity",
        "select pg_terminate_backend(0)",
        "create temporary table t ()",
    ] {
        let error = tenant.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn an_existing_database_gets_the_kit_and_keeps_to_itself_otherwise() {
    let cluster = cluster().await;
    let superuser = cluster.connect_superuser("postgres").await.unwrap();
    superuser.batch_execute("create role boss login createrole password 'of boss'").await.unwrap();
    superuser.batch_execute("create database shop owner boss").await.unwrap();
    let url = format!("postgres://boss:of%20boss@127.0.0.1:{}/shop", cluster.port());
    let mut logins = logins("existing");
    for sample in [Sample::Without, Sample::Without, Sample::With] {
        let (database, client) =
            setup::existing(&url, &mut logins, sample, install, harden).await.unwrap();
        assert_eq!((&*database.name, &*logins.owner.user), ("shop", "boss"));
        let projects = client.query_one("select to_regclass('public.projects')::text", &[]).await;
        let found: Option<String> = projects.unwrap().get(0);
        assert_eq!(found.is_some(), sample == Sample::With);
        let expected = if sample == Sample::With { 2 } else { 0 };
        assert_eq!(setup::tenants(&client).await.unwrap().len(), expected);
        let tenant = log_in(&cluster, "shop", &logins.tenant).await;
        assert_eq!(standing(&tenant).await, "cloison_tenant");
    }
}

#[tokio::test]
async fn a_url_that_will_not_do_is_refused_in_words() {
    for (url, words) in [
        ("postgres://db.invalid/app", "has to name a user"),
        ("postgres://u@db.invalid/app?sslmode=require", "cloison serve"),
        ("postgres://u:secret@[", "cannot be read"),
        ("postgres://u:secret@127.0.0.1:1/app", "at 127.0.0.1:1 (database app, user u)"),
    ] {
        let refused =
            setup::existing(url, &mut logins("url"), Sample::Without, install, harden).await;
        let error = refused.err().unwrap().to_string();
        assert!(error.contains(words) && !error.contains("secret"), "{url}: {error}");
    }
}
