//! Claims by their paths: through objects by name, and through every member where a `*` stands.

use serde_json::{Map, Value};

/// In a path: every member, whatever its name.
const EVERY: &str = "*";

/// What a path leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'a> {
    /// A claim's value.
    Value(&'a Value),
    /// The name of a member: where a `*` ends the path, and an object stands there.
    Name(&'a str),
}

/// Some members lead somewhere, and others do not: who reads half of a list has guessed.
#[derive(Debug, PartialEq)]
pub(super) struct Uneven;

impl<'a> Item<'a> {
    pub(super) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Value(value) => value.as_str(),
        }
    }
}

/// Follows a path to all that it leads to: to one thing at most, if it has no `*`.
pub(super) fn follow<'a>(
    claims: &'a Map<String, Value>,
    path: &[String],
) -> Result<Vec<Item<'a>>, Uneven> {
    let Some((first, path)) = path.split_first() else { return Ok(Vec::new()) };
    claims.get(first).map_or(Ok(Vec::new()), |value| lead(value, path))
}

fn lead<'a>(value: &'a Value, path: &[String]) -> Result<Vec<Item<'a>>, Uneven> {
    let Some((name, rest)) = path.split_first() else { return Ok(vec![Item::Value(value)]) };
    match value {
        Value::Object(members) if name == EVERY && rest.is_empty() => {
            Ok(members.keys().map(|name| Item::Name(name)).collect())
        }
        Value::Object(members) if name == EVERY => each(members.values(), rest),
        Value::Array(items) if name == EVERY => each(items.iter(), rest),
        Value::Object(members) => {
            members.get(name).map_or(Ok(Vec::new()), |value| lead(value, rest))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Ok(Vec::new())
        }
    }
}

fn each<'a>(
    members: impl Iterator<Item = &'a Value>,
    path: &[String],
) -> Result<Vec<Item<'a>>, Uneven> {
    let (mut found, mut is_somewhere_nothing) = (Vec::new(), false);
    for member in members {
        let items = lead(member, path)?;
        is_somewhere_nothing |= items.is_empty();
        found.extend(items);
    }
    if is_somewhere_nothing && !found.is_empty() { Err(Uneven) } else { Ok(found) }
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
    fn check(path: &str, claims: &Value, expected: Result<&[&str], Uneven>) {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        let found = follow(claims.as_object().unwrap(), &path);
        let texts = found.map(|items| items.iter().filter_map(Item::text).collect::<Vec<_>>());
        assert_eq!(texts, expected.map(<[&str]>::to_vec), "{path:?} {claims}");
    }

    #[test]
    fn a_star_is_every_member() {
        check("o.*.id", &json!({"o": {"acme": {"id": "7"}}}), Ok(&["7"]));
        check("o.*.id", &json!({"o": [{"id": "7"}, {"id": "8"}]}), Ok(&["7", "8"]));
        check("o.*", &json!({"o": {"acme": {}, "globex": {}}}), Ok(&["acme", "globex"]));
        check("o.*", &json!({"o": ["7", "7"]}), Ok(&["7", "7"]));
        check("o.*.id", &json!({"o": ["acme"]}), Ok(&[]));
        check("o.*", &json!({"o": "acme"}), Ok(&[]));
        for none in [json!({"o": {}}), json!({"o": []}), json!({})] {
            check("o.*", &none, Ok(&[]));
            check("o.*.id", &none, Ok(&[]));
        }
        check("o.*.id", &json!({"o": {"a": {"id": "7"}, "b": {}}}), Err(Uneven));
        check("o.*.id", &json!({"o": ["a", {"id": "7"}]}), Err(Uneven));
        // Without a star nothing is entered but objects by their names.
        check("o.0", &json!({"o": ["7"]}), Ok(&[]));
        check("o", &json!({"o": "7"}), Ok(&["7"]));
    }
}
