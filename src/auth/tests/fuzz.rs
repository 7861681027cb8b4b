//! Whatever the bytes: no panic, and no token that we did not sign.

use proptest::prelude::*;
use serde_json::json;

use super::support::*;
use crate::auth::token::Token;
use crate::config::Algorithm;

/// Texts that look like JSON, so that the reader gets far.
fn json_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just(","),
        Just("\"alg\""),
        Just("\"HS256\""),
        Just("\"iss\""),
        Just("\"exp\""),
        Just("1e9"),
        Just("-0"),
        Just("null"),
        Just("\"\\u0000\""),
        Just("9999999999999999999999"),
        Just("1e308"),
        Just(" "),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        prop_assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn any_signed_text_is_judged_without_panic(
        header in prop_oneof![json_like(), Just(r#"{"alg":"HS256"}"#.to_owned())],
        claims in json_like(),
    ) {
        let signer = SIGNERS.of(Algorithm::Hs256);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(verify(&[signer.rule()], &signer.raw(&header, &claims)));
        prop_assert!(outcome.is_err());
    }

    #[test]
    fn any_claim_values_are_judged_without_panic(
        exp in any::<f64>(), nbf in any::<i64>(), iat in any::<u64>(), tenant in any::<String>(),
    ) {
        let signer = SIGNERS.of(Algorithm::Hs256);
        let mut claims = good_claims();
        claims["exp"] = json!(exp);
        claims["nbf"] = json!(nbf);
        claims["iat"] = json!(iat);
        claims["tenant_id"] = json!(tenant);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(verify(&[signer.rule()], &signer.token(&claims)));
        prop_assert!(outcome.is_err(), "no such text is a tenant id");
    }

    #[test]
    fn a_changed_token_is_refused(
        which in 0..5_usize, at in any::<prop::sample::Index>(), to in any::<char>(),
    ) {
        let signer = SIGNERS.all().nth(which).unwrap();
        let good = signer.token(&good_claims());
        let mut characters: Vec<char> = good.chars().collect();
        *at.get_mut(&mut characters) = to;
        let changed: String = characters.into_iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(verify(&[signer.rule()], &changed));
        prop_assert_eq!(outcome.is_ok(), changed == good);
    }
}
