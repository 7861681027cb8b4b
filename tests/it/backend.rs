//! The ways of logging in to Postgres, each against a cluster of its own rules.

use std::path::Path;

use cloison::config::{Config, ServerAddress, ServerTlsMode, TlsIdentity};
use cloison::dev::cluster::Cluster;
use cloison::types::Secret;

use crate::support::certificate::{Authority, Files};
use crate::support::postgres::{self, A, Database, until_any};
use crate::support::proxy::{self, Proxy};
use crate::support::wire::{Wire, error, tags};

const COUNT: &str = "select count(*) from note";

/// A cluster whose `pg_hba.conf` ends in `rules`, with TLS by `server`.
async fn cluster(rules: &str, authority: &Authority, server: Option<&Files>) -> Cluster {
    let mut builder = Cluster::builder().setting("fsync", "off").setting("shared_buffers", "16MB");
    let hba = authority
        .write("pg_hba.conf", "local all postgres trust\nhost all postgres all scram-sha-256\n");
    let mut text = std::fs::read_to_string(&hba).unwrap();
    text.push_str(rules);
    std::fs::write(&hba, text).unwrap();
    for (setting, path) in [("hba_file", Some(&hba))]
        .into_iter()
        .chain([("ssl_cert_file", server.map(|files| &files.certificate))])
        .chain([("ssl_key_file", server.map(|files| &files.key))])
    {
        if let Some(path) = path {
            authority.give_away(path);
            builder = builder.setting(setting, &path.display().to_string());
        }
    }
    if server.is_some() {
        authority.give_away(&authority.file());
        builder = builder
            .setting("ssl", "on")
            .setting("ssl_ca_file", &authority.file().display().to_string());
    }
    let cluster = builder.start().await.unwrap();
    let md5 = "set password_encryption = 'md5'; alter role it_app password 'app-secret'";
    let more = if rules.contains("md5") { &[md5][..] } else { &[] };
    postgres::prepare(&cluster, more).await;
    cluster
}

async fn start(
    cluster: &Cluster,
    edit: impl FnOnce(&mut Config) + Send + 'static,
) -> Result<Proxy, String> {
    let port = cluster.port();
    let database = Database::elsewhere();
    proxy::new()
        .edit(move |config| config.server.address = ServerAddress::Tcp("127.0.0.1".into(), port))
        .edit(edit)
        .try_run_on(database)
        .await
}

async fn serves(proxy: Result<Proxy, String>) {
    let proxy = proxy.unwrap();
    assert_eq!(Wire::tenant(&proxy, A).await.value(COUNT).await, "3");
    proxy.stop().await;
}

fn identity(files: &Files) -> TlsIdentity {
    TlsIdentity { certificate_file: files.certificate.clone(), key_file: files.key.clone() }
}

#[tokio::test]
async fn every_method_without_tls_logs_in() {
    let authority = Authority::new("methods");
    let rules = "local all all trust\n\
                 host all it_app all md5\n\
                 host all it_admin all password\n\
                 host all it_proxy all scram-sha-256\n\
                 host all it_owner all trust\n";
    let cluster = cluster(rules, &authority, None).await;
    serves(start(&cluster, |_| {}).await).await;
    // The other pools: password in clear text, and none at all.
    let proxy = start(&cluster, |config| {
        config.pools.get_mut(&cloison::types::Access::Owner).unwrap().login.password = None;
    })
    .await
    .unwrap();
    proxy.superadmin().await.batch_execute("select 1").await.unwrap();
    proxy.owner().await.batch_execute("select 1").await.unwrap();
    proxy.stop().await;
    // The Unix socket, where nobody is asked for anything.
    let (folder, port) = (cluster.socket_dir().to_owned(), cluster.port());
    serves(
        start(&cluster, move |config| {
            config.server.address = ServerAddress::Unix(folder, port);
            config.control.password = None;
            for pool in config.pools.values_mut() {
                pool.login.password = None;
            }
        })
        .await,
    )
    .await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_login_that_postgres_refuses_is_told_to_the_log_and_not_to_the_client() {
    let authority = Authority::new("refused");
    let cluster = cluster("host all all all scram-sha-256\n", &authority, None).await;
    for password in [Some("wrong"), None] {
        let proxy = start(&cluster, move |config| {
            let pool = config.pools.get_mut(&cloison::types::Access::Superadmin).unwrap();
            pool.login.password = password.map(|text| Secret::new(text.to_owned()));
        })
        .await
        .unwrap();
        let token = proxy::token("superadmin", serde_json::json!({}));
        let told = Wire::refused(&proxy, "cloison_superadmin", &token, &[]).await;
        assert_eq!((told.field('C'), told.field('D')), ("08006", "cloison: C303"));
        assert!(!told.field('M').contains("it_admin"));
        proxy.stop().await;
    }
    // No TLS there, and TLS demanded.
    for mode in [ServerTlsMode::Require, ServerTlsMode::VerifyFull] {
        assert!(start(&cluster, move |config| config.server.tls_mode = mode).await.is_err());
    }
    serves(start(&cluster, |config| config.server.tls_mode = ServerTlsMode::Prefer).await).await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn tls_towards_postgres_is_as_strict_as_it_says() {
    let authority = Authority::new("modes");
    let stranger = Authority::new("stranger");
    let named = authority.sign("db.example.com");
    let rules = "hostssl all it_owner all cert\nhostssl all all all scram-sha-256\n";
    let cluster = cluster(rules, &authority, Some(&named)).await;
    let ca = |path: &Path| Some(path.to_owned());
    for (mode, file, good) in [
        (ServerTlsMode::Disable, None, false),
        (ServerTlsMode::Prefer, None, true),
        (ServerTlsMode::Require, None, true),
        (ServerTlsMode::VerifyCa, ca(&authority.file()), true),
        (ServerTlsMode::VerifyCa, ca(&stranger.file()), false),
        (ServerTlsMode::VerifyFull, ca(&authority.file()), false),
    ] {
        let proxy = start(&cluster, move |config| {
            config.server.tls_mode = mode;
            config.server.tls_ca_file = file;
        })
        .await;
        assert_eq!(proxy.is_ok(), good, "{mode:?}");
        if good {
            serves(proxy).await;
        }
    }
    // A certificate instead of a password; a cancel request goes through TLS as well.
    let owner = identity(&authority.sign("it_owner"));
    let proxy = start(&cluster, move |config| {
        config.server.tls_mode = ServerTlsMode::Require;
        let login = &mut config.pools.get_mut(&cloison::types::Access::Owner).unwrap().login;
        login.password = None;
        login.identity = Some(owner);
    })
    .await
    .unwrap();
    let client = proxy.owner().await;
    let ssl = "select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()";
    let row = client.query_one(ssl, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get::<_, Option<&str>>(1)), (true, Some("/CN=it_owner")));
    let cancel = client.cancel_token();
    let sleep = client.query("select pg_sleep(3600)", &[]);
    let cancelled = async {
        let superuser = cluster.connect_superuser("it_template").await.unwrap();
        let running = "select count(*) from pg_stat_activity where query like '%3600%' and usename = 'it_owner' and wait_event = 'PgSleep'";
        until_any(&superuser, running).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleep, cancelled);
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
    proxy.stop().await;
    cluster.stop().await.unwrap();
}

/// libpq looks at the certificate in none of these modes, so a version 1 one serves.
#[tokio::test]
async fn a_version_1_certificate_serves_where_no_certificate_is_verified() {
    let authority = Authority::new("version-1");
    let first = authority.self_signed_version_1("old.example.com");
    let cluster = cluster("hostssl all all all scram-sha-256\n", &authority, Some(&first)).await;
    for mode in [ServerTlsMode::Prefer, ServerTlsMode::Require] {
        serves(start(&cluster, move |config| config.server.tls_mode = mode).await).await;
    }
    for mode in [ServerTlsMode::VerifyCa, ServerTlsMode::VerifyFull] {
        let trusted = first.certificate.clone();
        let proxy = start(&cluster, move |config| {
            config.server.tls_mode = mode;
            config.server.tls_ca_file = Some(trusted);
        });
        assert!(proxy.await.is_err(), "{mode:?}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_crashes_says_so_itself() {
    let authority = Authority::new("crash");
    let cluster = cluster("host all all all scram-sha-256\n", &authority, None).await;
    let proxy = start(&cluster, |_| {}).await.unwrap();
    let mut victim = Wire::tenant(&proxy, A).await;
    let mut bystander = Wire::tenant(&proxy, A).await;
    // An idle client may have no server connection, which cannot be lost then.
    victim.ask("begin").await;
    bystander.ask("begin").await;
    let pid = victim.value("select pg_backend_pid()").await;
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let answer = victim.answer().await;
    assert_eq!((tags(&answer).as_str(), error(&answer).field('C')), ("E", "08006"));
    let answer = bystander.answer().await;
    let last = answer.last().unwrap();
    assert!(["57P02", "08006"].contains(&last.field('C')), "{}", last.field('C'));
    proxy.stop().await;
    cluster.stop().await.unwrap();
}

/// The verbs that go straight to the database, by the same words as libpq.
#[tokio::test]
async fn the_kits_verbs_speak_tls_as_strictly_as_their_url_says() {
    let authority = Authority::new("verbs");
    let stranger = Authority::new("verbs-stranger");
    let named = authority.sign("localhost");
    let rules = "hostssl all it_proxy all cert\nhostssl all all all scram-sha-256\n";
    let cluster = cluster(rules, &authority, Some(&named)).await;
    let superuser = cluster.connect_superuser("it_template").await.unwrap();
    superuser.batch_execute("alter role it_owner superuser").await.unwrap();
    let proxy = authority.sign("it_proxy");
    let known = format!("&sslcert={}&sslkey={}", show(&proxy.certificate), show(&proxy.key));
    let unlike = format!("&sslcert={}&sslkey={}", show(&named.certificate), show(&named.key));
    let (own, other) = (show(&authority.file()), show(&stranger.file()));
    let as_owner = "it_owner:owner-secret";
    for (user, host, options, good) in [
        (as_owner, "127.0.0.1", "sslmode=disable".to_owned(), false),
        (as_owner, "127.0.0.1", "connect_timeout=9".to_owned(), true),
        (as_owner, "127.0.0.1", "sslmode=require".to_owned(), true),
        (as_owner, "127.0.0.1", format!("sslmode=require&sslrootcert={other}"), false),
        (as_owner, "127.0.0.1", format!("sslmode=verify-ca&sslrootcert={own}"), true),
        (as_owner, "127.0.0.1", format!("sslmode=verify-ca&sslrootcert={other}"), false),
        (as_owner, "127.0.0.1", format!("sslmode=verify-full&sslrootcert={own}"), false),
        (as_owner, "localhost", format!("sslmode=verify-full&sslrootcert={own}"), true),
        (as_owner, "localhost", format!("sslmode=verify-full&sslrootcert={other}"), false),
        (as_owner, "localhost", "sslmode=verify-full".to_owned(), false),
        (as_owner, "localhost", "sslrootcert=system".to_owned(), false),
        ("it_proxy", "127.0.0.1", "sslmode=require".to_owned(), false),
        ("it_proxy", "127.0.0.1", format!("sslmode=require{unlike}"), false),
        ("it_proxy", "localhost", format!("sslmode=verify-full&sslrootcert={own}{known}"), true),
    ] {
        let url = format!("postgres://{user}@{host}:{}/it_template?{options}", cluster.port());
        let lint = cloison(&["lint", "--database-url", &url], &[]);
        let said = String::from_utf8_lossy(&lint.stderr).into_owned();
        assert_eq!(lint.status.code() != Some(2), good, "{user} {host} {options}: {said}");
        assert!(!said.contains("owner-secret"), "{said}");
        let road = cloison::kit::verify::Road::straight("the operator", &url).unwrap();
        let found = cloison::kit::verify::candidates(&road).await;
        assert_eq!(found.is_ok(), good, "{user} {host} {options}: {:?}", found.err());
    }
    let (port, mode) = (cluster.port().to_string(), "verify-full");
    let by_variables = |root: &str| {
        let is_said = [("DB_HOST", "localhost"), ("DB_PORT", &port), ("DB_NAME", "it_template")];
        let is_login = [("DB_USER", "it_owner"), ("DB_PASSWORD", "owner-secret")];
        let is_tls = [("DB_SSLMODE", mode), ("DB_SSLROOTCERT", root)];
        let variables = [&is_said[..], &is_login, &is_tls].concat();
        cloison(&["lint"], &variables).status.code() != Some(2)
    };
    assert_eq!((by_variables(&own), by_variables(&other)), (true, false));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn without_tls_at_the_server_only_prefer_goes_on() {
    let authority = Authority::new("verbs-plain");
    let cluster = cluster("host all all all scram-sha-256\n", &authority, None).await;
    let own = show(&authority.file());
    for (options, good) in [
        ("sslmode=disable".to_owned(), true),
        ("sslmode=allow".to_owned(), true),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require".to_owned(), false),
        (format!("sslmode=verify-ca&sslrootcert={own}"), false),
        (format!("sslmode=verify-full&sslrootcert={own}"), false),
    ] {
        let port = cluster.port();
        let url =
            format!("postgres://it_proxy:proxy-secret@localhost:{port}/it_template?{options}");
        let lint = cloison(&["lint", "--database-url", &url], &[]);
        let said = String::from_utf8_lossy(&lint.stderr).into_owned();
        assert_eq!(lint.status.code() != Some(2), good, "{options}: {said}");
    }
    cluster.stop().await.unwrap();
}

fn cloison(args: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"));
    command.args(args).envs(variables.iter().copied()).output().unwrap()
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
