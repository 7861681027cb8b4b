//! SASL OAUTHBEARER (RFC 7628): the client's first message, and what a client is told that has no
//! good token.

use serde_json::json;

use crate::config::Oauth;

/// The mechanism's name.
pub(super) const MECHANISM: &str = "OAUTHBEARER";

/// Stands between key and value pairs.
const SEPARATOR: char = '\u{1}';

/// What a client says to end an exchange that has failed (section 3.2.3).
pub(super) const GIVEN_UP: &[u8] = b"\x01";

/// What a client's first message presents.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Presented<'a> {
    /// This token.
    Token(&'a str),
    /// None: it wants to know where to get one.
    Nothing,
}

/// Takes a `SASLInitialResponse` apart: the mechanism, a length, and the client's first message.
/// Manual: "Message Formats".
pub(super) fn initial_response(body: &[u8]) -> Result<&[u8], &'static str> {
    let name = body.iter().position(|byte| *byte == 0).ok_or("its mechanism has no end")?;
    let (mechanism, rest) = body.split_at(name);
    if mechanism != MECHANISM.as_bytes() {
        return Err("its mechanism was not offered");
    }
    // The zero, and the length.
    let (head, response) = rest.split_at_checked(5).ok_or("it has no response")?;
    let length = head.last_chunk().copied().map(i32::from_be_bytes);
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if length == response.len() => Ok(response),
        Some(_) | None => Err("its length is wrong"),
    }
}

/// Reads a client's first message: a GS2 header and pairs (section 3.1).
pub(super) fn first_message(message: &[u8]) -> Result<Presented<'_>, &'static str> {
    let message = std::str::from_utf8(message).map_err(|_| "it is not text")?;
    // No channel binding, no other identity to act for.
    let rest = ["n,,", "y,,"].iter().find_map(|header| message.strip_prefix(header));
    let pairs = rest
        .ok_or("channel binding and authorization identities are not supported")?
        .strip_prefix(SEPARATOR)
        .and_then(|rest| rest.strip_suffix(SEPARATOR))
        .ok_or("its pairs have no end")?;
    let mut authorization = None;
    // Each pair ends in a separator, so the last one is followed by nothing.
    let pairs = pairs.strip_suffix(SEPARATOR).ok_or("it has no pairs")?;
    for pair in pairs.split(SEPARATOR) {
        let (key, value) = pair.split_once('=').ok_or("a pair has no value")?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err("a key is not a word");
        }
        if key == "auth" && authorization.replace(value).is_some() {
            return Err("it presents two tokens");
        }
    }
    match authorization {
        None => Err("it presents nothing"),
        Some("") => Ok(Presented::Nothing),
        Some(value) => bearer(value).map(Presented::Token),
    }
}

/// The token of an `Authorization` header's value (RFC 6750, section 2.1).
fn bearer(value: &str) -> Result<&str, &'static str> {
    let (scheme, token) = value.split_once(' ').ok_or("its scheme is not Bearer")?;
    let token = token.trim_matches(' ');
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("its scheme is not Bearer");
    }
    if token.is_empty() || !token.bytes().all(is_of_token) {
        return Err("its token has characters that no token has");
    }
    Ok(token)
}

/// What a client is told whose token is no good, or who has none (section 3.2.2).
pub(super) fn refusal(oauth: &Oauth) -> String {
    let issuer = oauth.issuer.trim_end_matches('/');
    json!({
        "status": "invalid_token",
        "openid-configuration": format!("{issuer}/.well-known/openid-configuration"),
        "scope": oauth.scope,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(mechanism: &str, length: i32, response: &[u8]) -> Vec<u8> {
        [mechanism.as_bytes(), b"\0", &length.to_be_bytes(), response].concat()
    }

    #[test]
    fn only_the_mechanism_that_was_offered_is_taken() {
        assert_eq!(initial_response(&framed("OAUTHBEARER", 3, b"n,,")), Ok(&b"n,,"[..]));
        for (mechanism, length, response) in [
            ("SCRAM-SHA-256", 3, &b"n,,"[..]),
            ("oauthbearer", 3, b"n,,"),
            ("", 3, b"n,,"),
            ("OAUTHBEARER", 2, b"n,,"),
            ("OAUTHBEARER", 4, b"n,,"),
            ("OAUTHBEARER", -1, b""),
            ("OAUTHBEARER", i32::MIN, b"n,,"),
        ] {
            assert!(initial_response(&framed(mechanism, length, response)).is_err(), "{length}");
        }
        for body in [&b""[..], b"OAUTHBEARER", b"OAUTHBEARER\0", b"OAUTHBEARER\0\0\0\0"] {
            assert!(initial_response(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn the_first_message_presents_one_token_or_none() {
        for (message, expected) in [
            ("n,,\u{1}auth=Bearer a.b-c_d~e+f/g==\u{1}\u{1}", "a.b-c_d~e+f/g=="),
            ("y,,\u{1}auth=bEARER   x\u{1}\u{1}", "x"),
            ("n,,\u{1}host=h\u{1}port=1\u{1}auth=Bearer x\u{1}\u{1}", "x"),
        ] {
            assert_eq!(first_message(message.as_bytes()), Ok(Presented::Token(expected)));
        }
        assert_eq!(first_message(b"n,,\x01auth=\x01\x01"), Ok(Presented::Nothing));
        for message in [
            "",
            "n,,",
            "n,,\u{1}",
            "n,,\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x",
            "n,,\u{1}auth=Bearer x\u{1}",
            "p=tls-unique,,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=somebody,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}auth=Bearer y\u{1}\u{1}",
            "n,,\u{1}auth=\u{1}auth=Bearer y\u{1}\u{1}",
            "n,,\u{1}auth=Basic x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer\u{1}\u{1}",
            "n,,\u{1}auth=Bearer \u{1}\u{1}",
            "n,,\u{1}auth=Bearer x y\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\0\u{1}\u{1}",
            "n,,\u{1}auth=Bearer \u{e9}\u{1}\u{1}",
            "n,,\u{1}=x\u{1}\u{1}",
            "n,,\u{1}au th=x\u{1}\u{1}",
            "n,,\u{1}Auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}\u{1}\u{1}",
        ] {
            assert!(first_message(message.as_bytes()).is_err(), "{message:?}");
        }
        assert!(first_message(b"n,,\x01auth=Bearer \xff\x01\x01").is_err());
    }

    #[test]
    fn a_refusal_says_where_to_get_a_token() {
        let oauth = |issuer: &str| Oauth {
            port: 1,
            issuer: issuer.to_owned(),
            scope: "openid sql".to_owned(),
        };
        let told = json!({
            "status": "invalid_token",
            "openid-configuration": "https://a.example/x/.well-known/openid-configuration",
            "scope": "openid sql",
        });
        for issuer in ["https://a.example/x", "https://a.example/x/"] {
            let text = refusal(&oauth(issuer));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), told);
        }
    }
}
