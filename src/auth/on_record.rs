//! What a privileged token says for the record: why its holder comes, and for whom it acts (pure).

use serde_json::{Map, Value};

use super::error::Error;
use crate::types::is_one_line;

/// Longest reason, in bytes.
const LONGEST_REASON: usize = 1000;
/// Longest `act` claim, in bytes of JSON.
const LONGEST_ACTOR: usize = 2000;

/// Claims that are written down and decide nothing else.
#[derive(Debug, Default)]
pub(super) struct OnRecord {
    /// The `reason` claim.
    pub(super) reason: Option<String>,
    /// The `act` claim (RFC 8693, section 4.1): who really asks, where the subject is another.
    pub(super) actor: Option<Value>,
}

impl OnRecord {
    pub(super) fn of(claims: &Map<String, Value>) -> Result<Self, Error> {
        let reason = match claims.get("reason") {
            None => None,
            Some(Value::String(text)) if is_reason(text) => Some(text.clone()),
            Some(_) => return Err(invalid("reason", "a line of at most 1000 bytes")),
        };
        let actor = match claims.get("act") {
            None => None,
            Some(actor @ Value::Object(_)) if is_writable(actor) => Some(actor.clone()),
            Some(_) => return Err(invalid("act", "an object of at most 2000 bytes")),
        };
        Ok(Self { reason, actor })
    }
}

/// Whether a text can stand as the reason in the audit log.
fn is_reason(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= LONGEST_REASON && is_one_line(text)
}

/// Whether names and texts in it read as what they are.
fn is_writable(value: &Value) -> bool {
    fn reads_as_it_is(value: &Value) -> bool {
        match value {
            Value::String(text) => is_one_line(text),
            Value::Array(list) => list.iter().all(reads_as_it_is),
            Value::Object(members) => {
                members.iter().all(|(name, value)| is_one_line(name) && reads_as_it_is(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }
    value.to_string().len() <= LONGEST_ACTOR && reads_as_it_is(value)
}

fn invalid(claim: &'static str, expected: &'static str) -> Error {
    Error::ClaimInvalid { claim, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(claims: Value, expected: Result<(Option<&str>, bool), &str>) {
        let read = OnRecord::of(claims.as_object().unwrap());
        let read = read.as_ref().map(|read| (read.reason.as_deref(), read.actor.is_some()));
        match (read, expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{claims}"),
            (Err(Error::ClaimInvalid { claim, .. }), Err(expected)) => assert_eq!(*claim, expected),
            (read, expected) => panic!("{claims}: {read:?} where {expected:?} was due"),
        }
    }

    #[test]
    fn what_cannot_be_written_down_is_refused() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        check(json("{}"), Ok((None, false)));
        check(
            json(r#"{"reason": "ticket 7", "act": {"sub": "eve"}}"#),
            Ok((Some("ticket 7"), true)),
        );
        for reason in [
            r#""""#,
            r#"" ""#,
            r#""a\nb""#,
            r#""a\u0000""#,
            r#""a\u202eb""#,
            r#""a\u2028b""#,
            "7",
            "null",
        ] {
            check(json(&format!(r#"{{"reason": {reason}}}"#)), Err("reason"));
        }
        check(json(&format!(r#"{{"reason": "{}"}}"#, "x".repeat(1001))), Err("reason"));
        for actor in [
            r#""eve""#,
            "[]",
            r#"{"sub": "a\u0000"}"#,
            r#"{"sub": {"x": ["a\u2066"]}}"#,
            r#"{"a\nb": 1}"#,
        ] {
            check(json(&format!(r#"{{"act": {actor}}}"#)), Err("act"));
        }
        check(json(&format!(r#"{{"act": {{"sub": "{}"}}}}"#, "x".repeat(2000))), Err("act"));
    }
}
