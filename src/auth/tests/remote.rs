//! Key sets behind a URL, over a real HTTP server; key files that change.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::support::*;
use crate::auth::keys::{Limits, Renewal, Step};
use crate::auth::{Error, KeysError, VerifiedClaims, Verifier};
use crate::config::{Algorithm, KeySource};
use crate::types::Access;

/// Answers every request with the same bytes, and counts.
struct Server {
    url: String,
    answer: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answers, counter) = (Arc::clone(&answer), Arc::clone(&requests));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (answers, counter) = (Arc::clone(&answers), Arc::clone(&counter));
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = socket.read(&mut request).await;
                    counter.fetch_add(1, Ordering::SeqCst);
                    let answer = answers.lock().unwrap().clone();
                    let _ = socket.write_all(answer.as_bytes()).await;
                    // An unfinished answer: the connection stays open and silent.
                    if answer.contains("Content-Length: 999\r\n") {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { url, answer, requests }
    }

    fn answers(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn verifier(&self, limits: Limits) -> Verifier {
        let rule = rule(KeySource::JwksUrl(self.url.clone()), vec![Algorithm::Es256]);
        Verifier::with_limits(&[rule], limits).unwrap()
    }
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn old() -> &'static Signer {
    SIGNERS.of(Algorithm::Es256)
}

fn new() -> &'static Signer {
    STRANGERS.of(Algorithm::Es256)
}

async fn outcome(verifier: &Verifier, token: &str) -> Result<VerifiedClaims, Error> {
    verifier.verify(token, Access::Tenant, now()).await
}

/// No pause between attempts.
const EAGER: Limits =
    Limits { cooldown: Duration::ZERO, first_cooldown: Duration::ZERO, ..Limits::STANDARD };

#[tokio::test]
async fn keys_are_fetched_once_and_kept() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let verifier = server.verifier(Limits::STANDARD);
    verifier.warm().await;
    for _ in 0..5 {
        assert_eq!(kind(&outcome(&verifier, &old().token_of_key("k1")).await), "Ok");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let verifier = server.verifier(EAGER);
    assert_eq!(kind(&outcome(&verifier, &old().token_of_key("k1")).await), "Ok");
    server.answers(ok(&jwks(&[new().jwk("k2")])));
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k2")).await), "Ok");
    assert_eq!(server.requests(), 2);
    // The key that is gone is gone.
    assert_eq!(kind(&outcome(&verifier, &old().token_of_key("k1")).await), "UnknownKey");
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_is_one_fetch() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let verifier = server.verifier(Limits::STANDARD);
    let tokens: Vec<_> = (0..50).map(|n| old().token_of_key(&format!("x{n}"))).collect();
    let flood = tokens.iter().map(|token| outcome(&verifier, token));
    for refused in futures_util::future::join_all(flood).await {
        assert_eq!(kind(&refused), "UnknownKey");
    }
    assert_eq!(server.requests(), 1);
    assert_eq!(kind(&outcome(&verifier, &old().token_of_key("k1")).await), "Ok");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_token_of_another_issuer_or_algorithm_costs_no_fetch() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let verifier = server.verifier(EAGER);
    let foreign = old().token(&with("iss", serde_json::json!("https://other.example")));
    assert_eq!(kind(&outcome(&verifier, &foreign).await), "UnknownIssuer");
    let swapped = SIGNERS.of(Algorithm::Rs256).token_of_key("k1");
    assert_eq!(kind(&outcome(&verifier, &swapped).await), "Algorithm");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn keys_outlive_an_outage_up_to_a_limit() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let renewing = Limits { renew_after: Duration::ZERO, ..EAGER };
    let short = Limits { stale: Duration::from_millis(50), ..renewing };
    let (patient, strict) = (server.verifier(renewing), server.verifier(short));
    let token = old().token_of_key("k1");
    assert_eq!(kind(&outcome(&patient, &token).await), "Ok");
    assert_eq!(kind(&outcome(&strict, &token).await), "Ok");
    for outage in [
        status("503 Service Unavailable"),
        "garbage".to_owned(),
        ok("{}"),
        ok("<html>"),
        ok(&jwks(&[])),
    ] {
        server.answers(outage.clone());
        assert_eq!(kind(&outcome(&patient, &token).await), "Ok", "{outage}");
    }
    let unknown = outcome(&patient, &old().token_of_key("k2")).await;
    assert_eq!(kind(&unknown), "UnknownKey");
    // Real time passes here because real sockets are involved; the loop ends when it has.
    let limit = async {
        while kind(&outcome(&strict, &token).await) != "KeysUnavailable" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), limit).await.expect("stale keys end");
    server.answers(ok(&jwks(&[old().jwk("k1")])));
    assert_eq!(kind(&outcome(&strict, &token).await), "Ok", "back at once");
}

#[tokio::test]
async fn answers_that_are_no_key_set_are_refused() {
    let elsewhere = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        elsewhere.url
    );
    let good = jwks(&[old().jwk("k1")]);
    let huge = format!("{}{good}", " ".repeat(256 * 1024));
    // The same without saying so beforehand.
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{huge}");
    let slow = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{".to_owned();
    let limits = Limits { timeout: Duration::from_millis(300), ..Limits::STANDARD };
    for (answer, reason) in [
        (redirect, "status 302"),
        (ok(&huge), "larger than"),
        (endless, "larger than"),
        (slow, "no answer within"),
        (ok(&good.replacen('{', "{\"keys\":[],", 1)), "not a JSON object"),
    ] {
        let server = Server::start(answer).await;
        let (verifier, token) = (server.verifier(limits), old().token_of_key("k1"));
        let refused = tokio::time::timeout(Duration::from_secs(2), outcome(&verifier, &token));
        match refused.await.expect("slow answers are cut off") {
            Err(Error::KeysUnavailable { source: Some(source), .. }) => {
                assert!(source.to_string().contains(reason), "{source}");
            }
            other => panic!("{reason}: {other:?}"),
        }
    }
    assert_eq!(elsewhere.requests(), 0, "the redirect was not followed");
}

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes() {
    let file = TempFile::new(&jwks(&[old().jwk("k1")]));
    let rule = rule(KeySource::JwksFile(file.0.clone()), vec![Algorithm::Es256]);
    let verifier = Verifier::new(&[rule]).unwrap();
    tokio::time::pause();
    let replace = |content: &str| std::fs::write(&file.0, content).unwrap();
    replace(&jwks(&[new().jwk("k2"), old().jwk("k3")]));
    assert_eq!(
        kind(&outcome(&verifier, &new().token_of_key("k2")).await),
        "UnknownKey",
        "too soon"
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k2")).await), "Ok");
    replace("half a fi");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k2")).await), "Ok", "kept");
}

/// A set fetched `age` seconds ago, the last attempt begun `attempt` seconds ago.
#[track_caller]
fn check_step(
    (age, attempt): (Option<u64>, Option<u64>),
    (running, failed, known): (bool, bool, bool),
    expected: Step,
) {
    let now = Instant::now() + Duration::from_secs(100_000);
    let before = |seconds| now - Duration::from_secs(seconds);
    let renewal = Renewal {
        keys: age.map(|age| (Arc::default(), before(age))),
        attempted: attempt.map(before),
        running,
        failure: failed.then_some(KeysError::Status(503)),
    };
    assert_eq!(renewal.step(known, now, &Limits::STANDARD), expected);
}

#[test]
fn a_set_is_renewed_when_it_is_due_and_no_sooner() {
    use Step::{Answer, AnswerAndRenew, RenewAndWait, Wait};
    // Nothing there yet.
    check_step((None, None), (false, false, false), RenewAndWait);
    check_step((None, Some(0)), (true, false, false), Wait);
    check_step((None, Some(0)), (false, true, false), Answer);
    check_step((None, Some(1)), (false, true, false), RenewAndWait);
    // Fresh, and the key is there or not.
    check_step((Some(299), Some(299)), (false, false, true), Answer);
    check_step((Some(29), Some(29)), (false, false, false), Answer);
    check_step((Some(30), Some(30)), (false, false, false), RenewAndWait);
    check_step((Some(30), Some(1)), (true, false, false), Wait);
    check_step((Some(299), Some(1)), (true, false, true), Answer);
    // Due, then overdue.
    check_step((Some(300), Some(300)), (false, false, true), AnswerAndRenew);
    check_step((Some(300), Some(1)), (true, false, true), Answer);
    check_step((Some(600), Some(600)), (false, false, true), RenewAndWait);
    check_step((Some(600), Some(1)), (true, false, true), Wait);
    // Down: nobody waits while the keys may be used; every attempt keeps its distance.
    check_step((Some(4_000), Some(29)), (false, true, true), Answer);
    check_step((Some(4_000), Some(30)), (false, true, true), AnswerAndRenew);
    check_step((Some(4_000), Some(1)), (true, true, true), Answer);
    // A day later they may not.
    check_step((Some(86_400), Some(1)), (false, true, false), RenewAndWait);
}
