//! A real OpenID provider in front of the door: npm's `oidc-provider`, by its discovery document.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::script::{folder, installed};
use crate::stand::{A, B, Server, stand};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How old the provider's keys may become; long enough for a few logins on a slow machine.
const MAX_STALE: Duration = Duration::from_secs(8);

/// The provider, which ends when its standard input does.
struct Provider {
    _process: Server,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    fn start() -> Self {
        installed(&folder().join("node_modules/oidc-provider"));
        let mut process = Command::new("node")
            .arg(folder().join("node/provider.mjs"))
            .args([A, B])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let words = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut provider =
            Self { _process: Server(process), words, answers, issuer: String::new() };
        provider.issuer = provider.line();
        provider
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Says a word and waits until it has been obeyed.
    fn obey(&mut self, word: &str) {
        writeln!(self.words, "{word}").unwrap();
        let answer = self.line();
        assert!(answer.starts_with(word), "{word}: {answer}");
    }

    /// An access token of a client, for a resource; the kid of its key is in its header.
    async fn token(&self, client: &str, resource: &str) -> String {
        let body = format!(
            "grant_type=client_credentials&client_id={client}&scope=sql\
             &client_secret=secret%20of%20{client}&resource={resource}"
        );
        let answer = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(format!("{}/token", self.issuer))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

/// A session, and what it ends with.
type Session = (Client, JoinHandle<Result<(), tokio_postgres::Error>>);

async fn log_in(listen: &str, token: &str) -> Result<Session, tokio_postgres::Error> {
    let (host, port) = listen.rsplit_once(':').unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port.parse().unwrap()).dbname("app").user("app").password(token);
    let (client, connection) = config.connect(NoTls).await?;
    Ok((client, tokio::spawn(connection)))
}

/// A session with this token sees the rows of that tenant and no other.
async fn sees(listen: &str, token: &str, tenant: &str) -> Session {
    let (client, end) = log_in(listen, token).await.unwrap_or_else(|error| panic!("{error:?}"));
    let rows = client.query("select distinct tenant_id::text from projects", &[]).await.unwrap();
    let seen: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, [tenant]);
    (client, end)
}

#[tokio::test]
async fn an_openid_providers_tokens_open_sessions_through_its_changes_and_outages() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut provider = Provider::start();
    let issuers = json!({
        "provider": {
            "issuer": provider.issuer,
            "audience": "shop",
            "algorithms": ["ES256"],
            "discovery": true,
            "jwks_max_stale": MAX_STALE.as_secs(),
            "tenant_claims": ["org_id"],
            "leeway": 0,
        },
    });
    let (_proxy, listen) = stand().proxy("provider", &issuers, &json!({}));

    // By discovery, each its own tenant's rows.
    sees(&listen, &provider.token("a", "urn:shop").await, A).await;
    sees(&listen, &provider.token("b", "urn:shop").await, B).await;

    // The session ends with its token, and not before.
    let token = provider.token("a", "urn:shop:short").await;
    let begun = Instant::now();
    let (_client, end) = sees(&listen, &token, A).await;
    let end = tokio::time::timeout(PATIENCE, end).await.expect("it outlives its token");
    let ended = end.unwrap().unwrap_err();
    assert_eq!(ended.code(), Some(&SqlState::ADMIN_SHUTDOWN), "{ended:?}");
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());

    // A new key in place of the old one at any moment: its first token opens a session, and what
    // the old one signed opens none once it is known to be gone.
    let withdrawn = provider.token("a", "urn:shop").await;
    for tenant in [("a", A), ("b", B), ("a", A)] {
        provider.obey("rotate");
        sees(&listen, &provider.token(tenant.0, "urn:shop").await, tenant.1).await;
    }
    let refused = log_in(&listen, &withdrawn).await.err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{refused:?}");

    // Nobody answers: tokens that were never seen open sessions by the keys that are there.
    provider.obey("rotate");
    let fresh = provider.token("a", "urn:shop").await;
    let (open, _end) = sees(&listen, &fresh, A).await;
    let another = [provider.token("a", "urn:shop").await, provider.token("b", "urn:shop").await];
    provider.obey("rotate");
    let ahead = provider.token("a", "urn:shop").await;
    provider.obey("down");
    // What has the proxy ask for another key, in vain, changes nothing for the others.
    let refused = log_in(&listen, &ahead).await.err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{refused:?}");
    sees(&listen, &another[0], A).await;
    sees(&listen, &another[1], B).await;
    // But not for ever.
    let begun = Instant::now();
    let refused = loop {
        match log_in(&listen, &fresh).await {
            Ok(_) if begun.elapsed() < PATIENCE => {}
            Ok(_) => panic!("keys are good for ever"),
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let told = refused.as_db_error().unwrap_or_else(|| panic!("{refused:?}"));
    assert_eq!(
        (told.code(), told.detail()),
        (&SqlState::from_code("28000"), Some("cloison: C111"))
    );
    // Who is there stays.
    open.query_one("select 1", &[]).await.unwrap();
    provider.obey("up");
    let begun = Instant::now();
    while let Err(error) = log_in(&listen, &ahead).await {
        assert!(begun.elapsed() < PATIENCE, "{error:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
