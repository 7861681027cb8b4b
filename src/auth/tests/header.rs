//! The token's form, its header and its signature.

use serde_json::{Value, json};

use super::support::*;
use crate::auth::token::MAX_TOKEN;
use crate::config::{Algorithm, KeySource};

#[test]
fn a_good_token_is_accepted() {
    for signer in SIGNERS.all() {
        check(&signer.rule(), &signer.token(&good_claims()), "Ok", "good");
        check(&signer.rule(), &signer.token_of_key("any"), "Ok", "kid with one configured key");
    }
}

#[test]
fn a_good_token_is_accepted_by_a_jwk_of_its_key() {
    for signer in SIGNERS.asymmetric() {
        let file = TempFile::new(&jwks(&[signer.jwk("k1")]));
        let rule = rule(KeySource::JwksFile(file.0.clone()), vec![signer.algorithm]);
        check(&rule, &signer.token(&good_claims()), "Ok", "without kid");
        check(&rule, &signer.token_of_key("k1"), "Ok", "with kid");
        for id in ["k2", "", "../../../../dev/null", "k1' or '1'='1", "https://evil.example/k1"] {
            check(&rule, &signer.token_of_key(id), "UnknownKey", id);
        }
    }
}

/// The claims of the good token under another header.
fn reheaded(signer: &Signer, header: &Value) -> String {
    signer.raw(&header.to_string(), &good_claims().to_string())
}

#[test]
fn an_unsigned_token_is_refused() {
    for signer in SIGNERS.all() {
        let rule = signer.rule();
        let good = signer.token(&good_claims());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        check(&rule, &format!("{signed}."), "Malformed", "empty signature");
        check(&rule, signed, "Malformed", "stripped signature");
        let short = encode(&base64_bytes(signature)[..16]);
        check(&rule, &format!("{signed}.{short}"), "Signature", "truncated signature");
        let zeros = encode(vec![0; base64_bytes(signature).len()]);
        check(&rule, &format!("{signed}.{zeros}"), "Signature", "signature of zeros");
        for none in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "RS1", "HS512"] {
            let header = encode(json!({"alg": none}).to_string());
            let claims = encode(good_claims().to_string());
            check(&rule, &format!("{header}.{claims}."), "Malformed", none);
            check(&rule, &format!("{header}.{claims}.{signature}"), "Algorithm", none);
        }
        for header in [json!({}), json!({"alg": null}), json!({"alg": ["HS256"]})] {
            check(&rule, &reheaded(signer, &header), "Malformed", "alg is no text");
        }
    }
}

fn base64_bytes(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[test]
fn another_algorithm_or_key_is_refused() {
    for signer in SIGNERS.all() {
        let rule = signer.rule();
        let foreign = STRANGERS.of(signer.algorithm).token(&good_claims());
        check(&rule, &foreign, "Signature", "wrong key");
        for other in SIGNERS.all().filter(|other| other.algorithm != signer.algorithm) {
            check(&rule, &other.token(&good_claims()), "Algorithm", "another algorithm's token");
            // The header lies: it names the rule's algorithm over another's signature.
            let lie = reheaded(other, &json!({"alg": signer.jose}));
            check(&rule, &lie, "Signature", "algorithm swapped in the header");
        }
        let good = signer.token(&good_claims());
        let (header, rest) = good.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let claims =
            encode(with("tenant_id", json!("0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e12")).to_string());
        check(&rule, &format!("{header}.{claims}.{signature}"), "Signature", "claims exchanged");
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    for signer in SIGNERS.asymmetric() {
        let secrets = [signer.public.as_str(), signer.public.trim_end()];
        for secret in secrets {
            let signed =
                format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(good_claims().to_string()));
            let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
            let mac =
                jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
            let token = format!("{signed}.{}", mac.unwrap());
            check(&signer.rule(), &token, "Algorithm", "HS256 with the public key");
        }
    }
}

#[test]
fn what_a_rule_has_several_algorithms_for_is_decided_by_the_key() {
    // Both RSA paddings are listed, but the JWK says which one it is for.
    let signer = SIGNERS.of(Algorithm::Rs256);
    let file = TempFile::new(&jwks(&[signer.jwk("k1")]));
    let both = vec![Algorithm::Rs256, Algorithm::Ps256];
    let rule = rule(KeySource::JwksFile(file.0.clone()), both);
    check(&rule, &signer.token_of_key("k1"), "Ok", "the key's algorithm");
    let other = SIGNERS.of(Algorithm::Ps256).token_of_key("k1");
    check(&rule, &other, "UnknownKey", "PS256 with a key for RS256");
}

#[test]
fn keys_that_the_token_brings_along_are_not_looked_at() {
    for (signer, stranger) in SIGNERS.asymmetric().zip(STRANGERS.asymmetric()) {
        let file = TempFile::new(&jwks(&[signer.jwk("k1")]));
        let rule = rule(KeySource::JwksFile(file.0.clone()), vec![signer.algorithm]);
        let brought = json!({
            "alg": stranger.jose, "kid": "k1", "jwk": stranger.jwk("k1"),
            "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/", "x5c": ["AAAA"],
        });
        check(&rule, &reheaded(stranger, &brought), "Signature", "embedded keys");
        let mut harmless = brought.clone();
        harmless["alg"] = json!(signer.jose);
        check(&rule, &reheaded(signer, &harmless), "Ok", "embedded keys, right signature");
    }
}

#[test]
fn headers_that_mean_more_than_we_know_are_refused() {
    for signer in SIGNERS.all() {
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("crit", json!(["b64"])),
            ("kid", json!(1)),
            ("kid", json!(["k1"])),
            ("typ", json!("logout+jwt")),
            ("typ", json!("dpop+jwt")),
            ("typ", json!(1)),
        ] {
            let mut header = signer.header();
            header[name] = value.clone();
            let what = format!("{name}: {value}");
            check(&signer.rule(), &reheaded(signer, &header), "Malformed", &what);
        }
        for kind in ["jwt", "at+jwt", "application/at+JWT"] {
            let mut header = signer.header();
            header["typ"] = json!(kind);
            check(&signer.rule(), &reheaded(signer, &header), "Ok", kind);
        }
    }
}

#[test]
fn anything_but_three_parts_of_strict_json_is_refused() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for signer in SIGNERS.all() {
        let rule = signer.rule();
        let header = signer.header().to_string();
        let good = good_claims().to_string();
        let body = good.trim_start_matches('{').to_owned();
        let claims = |extra: &str| format!("{{{extra},{body}");
        for (what, payload) in [
            ("iss twice", claims(&format!(r#""iss":"{ISSUER}""#))),
            ("iss twice, escaped", claims(&format!(r#""\u0069ss":"{ISSUER}""#))),
            ("nested twice", claims(r#""a":{"b":1,"b":1}"#)),
            ("nested twice in a list", claims(r#""a":[{"b":1,"b":2}]"#)),
            ("too deep", claims(&format!(r#""a":{}"#, deep(16)))),
            ("far too deep", claims(&format!(r#""a":{}"#, deep(20_000)))),
            ("trailing text", format!("{good} x")),
            ("trailing object", format!("{good}{good}")),
            ("a list", format!("[{good}]")),
            ("a text", "\"x\"".to_owned()),
            ("nothing", String::new()),
            ("exp Infinity", claims(r#""x":Infinity"#)),
            ("exp NaN", claims(r#""x":NaN"#)),
            ("1e400", claims(r#""x":1e400"#)),
            ("half a surrogate", claims(r#""x":"\ud800""#)),
        ] {
            check(&rule, &signer.raw(&header, &payload), "Malformed", what);
        }
        check(&rule, &signer.raw(&header, &claims(&format!(r#""a":{}"#, deep(15)))), "Ok", "deep");
        let doubled = header.replacen('{', "{\"alg\":\"none\",", 1);
        check(&rule, &signer.raw(&doubled, &good), "Malformed", "alg twice");
        let nested = header.replacen('{', "{\"x\":{\"a\":1,\"a\":1},", 1);
        check(&rule, &signer.raw(&nested, &good), "Malformed", "header, nested twice");
        let token = signer.token(&good_claims());
        for (what, token) in [
            ("four parts", format!("{token}.AAAA")),
            ("five parts", format!("{token}.AAAA.AAAA")),
            ("padding", format!("{token}=")),
            ("a blank behind", format!("{token} ")),
            ("a line end behind", format!("{token}\n")),
            ("a blank before", format!(" {token}")),
            ("Bearer", format!("Bearer {token}")),
            ("empty", String::new()),
            ("dots", "..".to_owned()),
            ("not base64url", token.replacen('.', "+.", 1)),
        ] {
            check(&rule, &token, "Malformed", what);
        }
    }
}

#[test]
fn a_token_of_64_kib_is_read_and_not_a_byte_more() {
    let signer = SIGNERS.of(Algorithm::Hs256);
    let token_of = |pad: usize| signer.token(&with("pad", json!("x".repeat(pad))));
    let short = token_of(1).len();
    // Base64 grows by four characters for three bytes; some length hits the limit exactly.
    let pad = (MAX_TOKEN - short) * 3 / 4;
    let exact = (pad - 8..pad + 8).map(token_of).find(|token| token.len() == MAX_TOKEN).unwrap();
    check(&signer.rule(), &exact, "Ok", "64 KiB");
    let over = (pad - 8..pad + 8).map(token_of).find(|token| token.len() == MAX_TOKEN + 1);
    check(&signer.rule(), &over.unwrap_or_else(|| format!("{exact}A")), "Malformed", "a byte more");
}
