//! Claims by their paths: through objects by name, and through what has one member alone.

use serde_json::{Map, Value};

/// In a path: the one member, whatever its name.
const ONLY: &str = "*";

/// Where a path leads.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    /// To a claim's value.
    Value(&'a Value),
    /// To a name: a `*` at the end of a path, and an object with one member there.
    Name(&'a str),
    /// To several members where one is due.
    Several,
    /// Nowhere.
    Nothing,
}

/// Follows a path. Lists are entered by `*` only, and only if they have one item.
pub(super) fn follow<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Found<'a> {
    let [first, path @ ..] = path else { return Found::Nothing };
    let Some(mut value) = claims.get(first) else { return Found::Nothing };
    for (index, name) in path.iter().enumerate() {
        let is_last = index + 1 == path.len();
        value = match value {
            Value::Object(members) if name == ONLY => {
                let mut members = members.iter();
                match (members.next(), members.next()) {
                    (Some((name, _)), None) if is_last => return Found::Name(name),
                    (Some((_, value)), None) => value,
                    (Some(_), Some(_)) => return Found::Several,
                    (None, _) => return Found::Nothing,
                }
            }
            Value::Array(items) if name == ONLY => match items.as_slice() {
                [item] => item,
                [] => return Found::Nothing,
                [_, ..] => return Found::Several,
            },
            Value::Object(members) => match members.get(name) {
                Some(value) => value,
                None => return Found::Nothing,
            },
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => return Found::Nothing,
        };
    }
    Found::Value(value)
}

/// Follows a dotted path. A name that is a URL, such as `https://example.com/roles`, is one name.
pub(super) fn dotted<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if path.contains("://") {
        return claims.get(path);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_object()?.get(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(path: &str, claims: &Value, expected: Found<'_>) {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        assert_eq!(follow(claims.as_object().unwrap(), &path), expected, "{path:?} {claims}");
    }

    #[test]
    fn a_star_is_the_only_member() {
        let id = json!("7");
        check("o.*.id", &json!({"o": {"acme": {"id": "7"}}}), Found::Value(&id));
        check("o.*.id", &json!({"o": [{"id": "7"}]}), Found::Value(&id));
        check("o.*", &json!({"o": {"acme": {}}}), Found::Name("acme"));
        check("o.*", &json!({"o": ["7"]}), Found::Value(&id));
        check("o.*.id", &json!({"o": ["acme"]}), Found::Nothing);
        check("o.*", &json!({"o": "acme"}), Found::Nothing);
        for none in [json!({"o": {}}), json!({"o": []}), json!({})] {
            check("o.*", &none, Found::Nothing);
            check("o.*.id", &none, Found::Nothing);
        }
        for several in [json!({"o": ["a", "a"]}), json!({"o": {"a": {"id": 1}, "b": {"id": 1}}})] {
            check("o.*", &several, Found::Several);
            check("o.*.id", &several, Found::Several);
        }
        // Without a star nothing is entered but objects by their names.
        check("o.0", &json!({"o": ["7"]}), Found::Nothing);
    }
}
