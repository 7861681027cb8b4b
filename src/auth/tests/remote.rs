//! Key sets behind a URL, over a real HTTP server; key files that change.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::server::*;
use super::support::*;
use crate::auth::remote::{Limits, Renewal, Step};
use crate::auth::{Error, KeysError, VerifiedClaims, Verifier};
use crate::config::{Algorithm, Issuer, KeySource};
use crate::types::Access;

impl Server {
    fn verifier(&self, limits: Limits) -> Verifier {
        let rule = rule(KeySource::JwksUrl(self.url()), vec![Algorithm::Es256]);
        let rule = Issuer { jwks_max_stale: limits.stale, ..rule };
        Verifier::with_limits(&[rule], limits).unwrap()
    }
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
const EAGER: Limits = Limits {
    unknown: Duration::ZERO,
    cooldown: Duration::ZERO,
    first_cooldown: Duration::ZERO,
    ..Limits::STANDARD
};

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

/// Short enough to wait for.
const QUICK: Limits = Limits { unknown: Duration::from_millis(200), ..Limits::STANDARD };

#[tokio::test]
async fn a_flood_of_unknown_key_ids_is_no_flood_of_fetches() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let verifier = server.verifier(QUICK);
    let tokens: Vec<_> = (0..50).map(|n| old().token_of_key(&format!("x{n}"))).collect();
    let flood = async || {
        for refused in
            futures_util::future::join_all(tokens.iter().map(|it| outcome(&verifier, it))).await
        {
            assert_eq!(kind(&refused), "UnknownKey");
        }
    };
    flood().await;
    // The first was there before all, and for those who came while it went on there was a second.
    assert!(server.requests() <= 2, "{}", server.requests());
    // They are known not to be there, and cost nothing more.
    let before = server.requests();
    flood().await;
    flood().await;
    assert_eq!(server.requests(), before);
    assert_eq!(kind(&outcome(&verifier, &old().token_of_key("k1")).await), "Ok");
    // Nor does one that no key set would have.
    let long = old().token_of_key(&"x".repeat(257));
    assert_eq!(kind(&outcome(&verifier, &long).await), "UnknownKey");
    assert_eq!(server.requests(), before);
}

#[tokio::test]
async fn a_new_key_is_found_at_any_moment_and_during_a_flood() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let verifier = Arc::new(server.verifier(QUICK));
    // A set that was just fetched, and ids made up by somebody without a pause.
    verifier.warm().await;
    let flood = {
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move {
            for n in 0.. {
                let token = old().token_of_key(&format!("x{n}"));
                let one = tokio::time::timeout(
                    Duration::from_millis(5),
                    verifier.verify(&token, Access::Tenant, now()),
                );
                let _ = one.await;
            }
        })
    };
    let begun = Instant::now();
    for round in 2..6 {
        let signer = if round % 2 == 0 { new() } else { old() };
        let id = format!("k{round}");
        server.answers(ok(&jwks(&[signer.jwk(&id)])));
        assert_eq!(kind(&outcome(&verifier, &signer.token_of_key(&id)).await), "Ok", "{id}");
    }
    flood.abort();
    let most = begun.elapsed().as_millis() / 200 + 2;
    assert!(server.requests() as u128 <= most, "{} fetches, at most {most}", server.requests());
}

#[tokio::test]
async fn a_fetch_that_began_before_the_question_does_not_answer_it() {
    let slow = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{".to_owned();
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let limits =
        Limits { renew_after: Duration::ZERO, timeout: Duration::from_millis(200), ..EAGER };
    let verifier = server.verifier(limits);
    verifier.warm().await;
    // The next attempt is under way, and brings nothing.
    server.answers(slow);
    assert_eq!(kind(&outcome(&verifier, &old().token_of_key("k1")).await), "Ok");
    while server.requests() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.answers(ok(&jwks(&[new().jwk("k2")])));
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k2")).await), "Ok");
}

#[tokio::test]
async fn a_rotation_refuses_no_login() {
    let server = Server::start(ok(&jwks(&[old().jwk("k1")]))).await;
    let verifier = server.verifier(Limits {
        renew_after: Duration::from_millis(20),
        cooldown: Duration::from_millis(10),
        unknown: Duration::from_millis(10),
        ..Limits::STANDARD
    });
    let (of_old, of_new) = (old().token_of_key("k1"), new().token_of_key("k2"));
    // Published beside the old one, used, alone, and never anything in between.
    for (set, tokens) in [
        (vec![old().jwk("k1")], vec![&of_old]),
        (vec![old().jwk("k1"), new().jwk("k2")], vec![&of_old, &of_new]),
        (vec![new().jwk("k2")], vec![&of_new]),
    ] {
        server.answers(ok(&jwks(&set)));
        let until = Instant::now() + Duration::from_millis(150);
        while Instant::now() < until {
            for token in &tokens {
                assert_eq!(kind(&outcome(&verifier, token).await), "Ok", "{set:?}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(kind(&outcome(&verifier, &of_old).await), "UnknownKey", "withdrawn");
}

#[tokio::test]
async fn keys_without_a_name_and_with_the_same_name_are_tried() {
    let unnamed = |signer: &Signer| {
        let mut key = signer.jwk("");
        key.as_object_mut().unwrap().remove("kid");
        key
    };
    let others: Vec<Signer> = (0..4).map(|_| Signer::es256()).collect();
    let token = old().token(&good_claims());
    for (set, token, expected) in [
        // While a key is being replaced by an issuer that does not name them.
        (vec![unnamed(new()), unnamed(old())], &token, "Ok"),
        (vec![new().jwk("k2"), old().jwk("k1")], &token, "Ok"),
        (vec![unnamed(new())], &token, "Signature"),
        // One name for two keys.
        (vec![new().jwk("k1"), old().jwk("k1")], &old().token_of_key("k1"), "Ok"),
        (vec![new().jwk("k1"), old().jwk("k2")], &old().token_of_key("k1"), "Signature"),
        // A name that only the token has is no name of an unnamed key.
        (vec![unnamed(old())], &old().token_of_key("k1"), "UnknownKey"),
        // Nobody's token has us try a whole set.
        (others.iter().map(unnamed).chain([unnamed(old())]).collect(), &token, "AmbiguousKey"),
    ] {
        let server = Server::start(ok(&jwks(&set))).await;
        let verifier = server.verifier(EAGER);
        for _ in 0..2 {
            assert_eq!(kind(&outcome(&verifier, token).await), expected, "{set:?}");
        }
    }
}

#[tokio::test]
async fn keys_for_something_else_are_left_out_of_a_set() {
    let changed = |name: &str, value: serde_json::Value| {
        let mut key = old().jwk("k1");
        key[name] = value;
        key
    };
    for key in [
        changed("use", json!("enc")),
        changed("key_ops", json!(["sign"])),
        changed("alg", json!("ES384")),
        changed("alg", json!("EdDSA")),
        changed("d", json!("AAAA")),
    ] {
        let server = Server::start(ok(&jwks(&[key.clone(), new().jwk("k2")]))).await;
        let verifier = server.verifier(EAGER);
        let token = old().token_of_key("k1");
        assert_eq!(kind(&outcome(&verifier, &token).await), "UnknownKey", "{key}");
        assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k2")).await), "Ok", "{key}");
    }
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
        elsewhere.url()
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
    // A new key is seen at once, a withdrawn one within a second.
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k2")).await), "Ok");
    assert_eq!(kind(&outcome(&verifier, &old().token_of_key("k1")).await), "UnknownKey");
    replace("half a fi");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k2")).await), "Ok", "kept");
    // One of the same date and length that is moved into its place.
    let (one, other) = (jwks(&[new().jwk("k4")]), jwks(&[new().jwk("k5")]));
    replace(&one);
    let date = std::fs::metadata(&file.0).unwrap().modified().unwrap();
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k4")).await), "Ok");
    let moved = TempFile::new(&other);
    std::fs::File::options().write(true).open(&moved.0).unwrap().set_modified(date).unwrap();
    std::fs::rename(&moved.0, &file.0).unwrap();
    assert_eq!(kind(&outcome(&verifier, &new().token_of_key("k5")).await), "Ok", "moved");
}

#[tokio::test]
async fn a_public_key_file_is_read_again_when_it_changes() {
    let file = TempFile::new(&old().public);
    let rule = rule(KeySource::PemFile(file.0.clone()), vec![Algorithm::Es256]);
    let verifier = Verifier::new(&[rule]).unwrap();
    tokio::time::pause();
    let tokens = [old().token_of_key("any"), new().token_of_key("any")];
    for (content, expected) in [
        (old().public.clone(), ["Ok", "Signature"]),
        (format!("{}\n", new().public), ["Signature", "Ok"]),
        ("half a fi".to_owned(), ["Signature", "Ok"]),
        (format!("{}\n\n", old().public), ["Ok", "Signature"]),
    ] {
        std::fs::write(&file.0, content).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        for (token, expected) in tokens.iter().zip(expected) {
            assert_eq!(kind(&outcome(&verifier, token).await), expected);
        }
    }
}

/// A time with a day before it.
fn test_now() -> Instant {
    static NOW: std::sync::LazyLock<Instant> =
        std::sync::LazyLock::new(|| Instant::now() + Duration::from_secs(100_000));
    *NOW
}

/// A set fetched `age` seconds ago, the last attempt begun `attempt` seconds ago.
#[track_caller]
fn check_step(
    (age, attempt): (Option<u64>, Option<u64>),
    (running, failed, known): (bool, bool, bool),
    expected: Step,
) {
    let now = test_now();
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
    use Step::{Answer, AnswerAndRenew, RenewAndWait, Wait, WaitUntil};
    let in_seconds = |seconds| WaitUntil(test_now() + Duration::from_secs(seconds));
    // Nothing there yet.
    check_step((None, None), (false, false, false), RenewAndWait);
    check_step((None, Some(0)), (true, false, false), Wait);
    check_step((None, Some(0)), (false, true, false), Answer);
    check_step((None, Some(1)), (false, true, false), RenewAndWait);
    // Fresh, and the key is there or not.
    check_step((Some(299), Some(299)), (false, false, true), Answer);
    check_step((Some(2), Some(2)), (false, false, false), in_seconds(1));
    check_step((Some(3), Some(3)), (false, false, false), RenewAndWait);
    check_step((Some(30), Some(29)), (false, true, false), Answer);
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
