//! The claims that SQL may read, as the text that is signed for it (pure).

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value};

/// Most that is handed on, in bytes: it goes along with every transaction.
const MOST: usize = 8 * 1024;

/// Picks the claims of these names; `*` is all of them. `None`: the rule names none.
///
/// The text is ASCII, so that no client's encoding can change it on the way.
pub(super) fn pick(
    claims: &Map<String, Value>,
    names: &[String],
) -> Result<Option<Arc<str>>, &'static str> {
    if names.is_empty() {
        return Ok(None);
    }
    let is_wanted = |name: &String| names.iter().any(|wanted| wanted == "*" || wanted == name);
    let wanted = claims.iter().filter(|(name, _)| is_wanted(name));
    let wanted: Map<String, Value> =
        wanted.map(|(name, value)| (name.clone(), value.clone())).collect();
    let text = ascii(&Value::Object(wanted).to_string());
    // A zero character is JSON, and nothing that Postgres can hold.
    if text.replace("\\\\", "").contains("\\u0000") {
        return Err("without zero characters");
    }
    if text.len() > MOST { Err("8 KiB at most") } else { Ok(Some(text.into())) }
}

/// Writes other characters as JSON's escapes.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut units) {
            // Writing into a String cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], claims: &Value, expected: Result<Option<&str>, &str>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let picked = pick(claims.as_object().unwrap(), &names);
        assert_eq!(picked.as_ref().map(Option::as_deref).map_err(|problem| *problem), expected);
    }

    #[test]
    fn only_listed_claims_are_handed_on() {
        let claims = serde_json::json!({"sub": "ada", "role": "x", "app.role": 1, "aud": ["a"]});
        check(&[], &claims, Ok(None));
        check(&["sub"], &claims, Ok(Some(r#"{"sub":"ada"}"#)));
        check(&["sub", "app.role", "email"], &claims, Ok(Some(r#"{"app.role":1,"sub":"ada"}"#)));
        check(&["email"], &claims, Ok(Some("{}")));
        let all = r#"{"app.role":1,"aud":["a"],"role":"x","sub":"ada"}"#;
        check(&["*"], &claims, Ok(Some(all)));
    }

    #[test]
    fn the_text_is_ascii_and_the_same_json() {
        let claims = serde_json::json!({"sub": "Zoë \u{1F600}\n\\\"", "ö": 1});
        let text = pick(claims.as_object().unwrap(), &["*".to_owned()]).unwrap().unwrap();
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), claims);
    }

    #[test]
    fn what_postgres_cannot_hold_is_refused() {
        check(&["*"], &serde_json::json!({"a": "x\0"}), Err("without zero characters"));
        check(&["*"], &serde_json::json!({"a": {"\0": 1}}), Err("without zero characters"));
        // A backslash and five characters.
        check(&["*"], &serde_json::json!({"a": "\\u0000"}), Ok(Some(r#"{"a":"\\u0000"}"#)));
        check(&["sub"], &serde_json::json!({"sub": "a", "b": "\0"}), Ok(Some(r#"{"sub":"a"}"#)));
    }

    #[test]
    fn more_than_eight_kib_are_refused() {
        let room = MOST - r#"{"a":""}"#.len();
        let most = serde_json::json!({"a": "x".repeat(room)}).to_string();
        check(&["*"], &serde_json::json!({"a": "x".repeat(room)}), Ok(Some(&most)));
        check(&["*"], &serde_json::json!({"a": "x".repeat(room + 1)}), Err("8 KiB at most"));
    }
}
