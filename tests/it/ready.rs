//! `serve` waits for what is away, says so, and is ready only when it is.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloison::cli::serve::{self, Running};
use cloison::config::{Algorithm, KeySource};
use cloison::observe::{Event, Observer};
use cloison::types::{Access, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::support::postgres::Database;
use crate::support::proxy;

const PATIENCE: Duration = Duration::from_secs(60);

/// An address where nobody listens for now.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn event<T>(
    events: &mut UnboundedReceiver<Event>,
    wanted: impl Fn(&Event) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            let event = events.recv().await.expect("it ended");
            assert!(!matches!(event, Event::Listening { .. } | Event::Ready), "{event:?}");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("nothing of that kind")
}

/// What is away, and why.
async fn waiting(events: &mut UnboundedReceiver<Event>) -> (String, String) {
    event(events, |event| match event {
        Event::Waiting { what, cause, .. } => Some((what.clone(), cause.clone())),
        _ => None,
    })
    .await
}

async fn runs(started: JoinHandle<Result<Running, serve::Error>>) {
    let running = tokio::time::timeout(PATIENCE, started).await.expect("not ready").unwrap();
    let running = running.unwrap();
    TcpStream::connect(running.tcp_address().unwrap()).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn postgres_is_waited_for() {
    let database = Database::new();
    let (there, here) = (("127.0.0.1", database.port()), nowhere().await);
    let mut config = proxy::new().config(&database);
    config.server.address = cloison::config::ServerAddress::Tcp("127.0.0.1".into(), here.port());
    let (observer, mut events) = Observer::with_channel();
    let started = tokio::spawn(serve::start(config, observer));
    let (what, cause) = waiting(&mut events).await;
    assert!(what.contains(&format!("127.0.0.1:{}", here.port())), "{what}");
    assert!(what.contains(&database.name) && what.contains("it_proxy"), "{what}");
    assert!(cause.contains("Connection refused"), "{cause}");
    assert!(!started.is_finished());

    let listener = TcpListener::bind(here).await.unwrap();
    let forward = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(there).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    event(&mut events, |event| matches!(event, Event::WaitingOver { .. }).then_some(())).await;
    runs(started).await;
    forward.abort();
}

/// Answers every request with a set of one key.
async fn serve_keys(address: SocketAddr) -> JoinHandle<()> {
    let key = cloison::dev::key::SigningKey::generate().unwrap();
    let body = key.jwks().to_string();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = client.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length";
            let answer = format!("{head}: {}\r\n\r\n{body}", body.len());
            let _ = client.write_all(answer.as_bytes()).await;
        }
    })
}

#[tokio::test]
async fn a_key_server_is_waited_for_if_no_tenant_could_log_in_without_it() {
    cloison::tls::install_provider();
    let database = Database::new();
    let here = nowhere().await;
    let keys = KeySource::JwksUrl(format!("http://{here}/jwks.json"));
    let configuration = |database: &Database| {
        let mut config = proxy::new().config(database);
        let rule = config.issuers.iter_mut().find(|rule| rule.access == Access::Tenant).unwrap();
        rule.algorithms = vec![Algorithm::Es256];
        rule.keys = keys.clone();
        config
    };
    let (observer, mut events) = Observer::with_channel();
    let started = tokio::spawn(serve::start(configuration(&database), observer));
    let (what, cause) = waiting(&mut events).await;
    assert!(what.contains(&here.to_string()), "{what}");
    assert!(cause.contains("Connection refused"), "{cause}");

    // Those of another provider are served meanwhile, and the operator is told.
    let mut config = configuration(&database);
    let mut other = proxy::new().config(&database).issuers;
    let mut other =
        other.swap_remove(other.iter().position(|r| r.access == Access::Tenant).unwrap());
    other.name = "other".into();
    other.issuer = "another".into();
    config.issuers.push(other);
    let (observer, mut meanwhile) = Observer::with_channel();
    let other = tokio::spawn(serve::start(config, observer));
    let told = event(&mut meanwhile, |event| match event {
        Event::CheckFailed { subject, value, .. } => Some(format!("{subject}: {value}")),
        _ => None,
    });
    let told = told.await;
    assert!(told.starts_with("issuer tenant: http://127.0.0.1"), "{told}");
    runs(other).await;

    let server = serve_keys(here).await;
    runs(started).await;
    server.abort();
}

#[tokio::test]
async fn a_wrong_password_of_the_tenants_role_is_not_waited_for() {
    let database = Database::new();
    let refused = proxy::new()
        .edit(|config| {
            let login = &mut config.pools.get_mut(&Access::Tenant).unwrap().login;
            login.password = Some(Secret::new("not-it".into()));
        })
        .try_run_on(database)
        .await;
    let told = refused.err().unwrap();
    assert!(told.starts_with("refusing to serve:\n  pool tenant: logs in as it_app\n"), "{told}");
    assert!(told.contains("cause: Postgres refused the login: password authentication"), "{told}");
    assert!(told.contains("CLOISON_POOLS_TENANT_PASSWORD"), "{told}");
    assert!(!told.contains("not-it"), "{told}");
}

#[tokio::test]
async fn a_signal_ends_the_waiting() {
    let here = nowhere().await;
    let file = std::env::temp_dir().join(format!("cloison-waits-{}.toml", std::process::id()));
    let text = format!(
        "listen_port = {}\n[server]\nhost = \"127.0.0.1\"\nport = 1\ndatabase = \"x\"\n\
         [control]\nuser = \"c\"\n[pools.tenant]\nuser = \"t\"\n\
         [issuers.app]\nissuer = \"i\"\naudience = \"a\"\nalgorithms = [\"HS256\"]\nsecret = \"{}\"\n",
        here.port(),
        "s".repeat(40)
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["serve", "--config"])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let told = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        let lines = std::io::BufReader::new(stderr).lines();
        lines.map_while(Result::ok).find(|line| line.contains("waiting: not ready")).unwrap()
    });
    let told = told.await.unwrap();
    assert!(told.contains("127.0.0.1:1"), "{told}");
    // No client is let in before.
    assert!(TcpStream::connect(here).await.is_err());
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it waits on").unwrap();
    assert_eq!(ended.code(), Some(0));
    std::fs::remove_file(file).unwrap();
}
