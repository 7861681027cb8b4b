//! What a tenant is told besides Postgres' own "permission denied" where hardening may have taken the
//! right: the option that gives it back.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::protocol::message::{self, backend};

/// Functions of Postgres' own and of its extensions that hardening takes, other than `pg_…` and
/// `lo_…`.
const FUNCTIONS: &[&str] = &[
    "connectby",
    "currtid2",
    "loread",
    "lowrite",
    "pgrowlocks",
    "setseed",
    "ts_rewrite",
    "ts_stat",
    "xpath_table",
];

/// The server's error, a whole body, as a frame with a hint; `None` if it is none of these, or has a
/// hint of its own.
pub(super) fn add(body: &[u8]) -> Option<BytesMut> {
    if message::error_field(body, b'C') != Some("42501")
        || message::error_field(body, b'H').is_some()
    {
        return None;
    }
    let name = allowing(message::error_field(body, b'M')?)?;
    let hint = format!(
        "Hardening takes this from tenants. The operator can give it back: \
         cloison install --allow {name}."
    );
    // The last field's end, and the last byte.
    let fields = body.strip_suffix(b"\0").filter(|fields| fields.ends_with(b"\0"))?;
    let length = 4 + body.len() + 1 + hint.len() + 1;
    let mut frame = BytesMut::with_capacity(1 + length);
    frame.put_u8(backend::ERROR_RESPONSE);
    frame.put_u32(u32::try_from(length).ok()?);
    frame.put_slice(fields);
    frame.put_u8(b'H');
    frame.put_slice(hint.as_bytes());
    frame.put_slice(b"\0\0");
    Some(frame)
}

/// What `--allow` calls a right that hardening takes, by Postgres' words for its refusal.
fn allowing(message: &str) -> Option<Cow<'_, str>> {
    if message.starts_with("permission denied to create temporary tables in database ") {
        return Some("temporary".into());
    }
    let (kind, name) = message.strip_prefix("permission denied for ")?.split_once(' ')?;
    let is_word = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match kind {
        "language" => Some("languages".into()),
        "function" if is_word(name) && is_hardened_function(name) => Some(name.into()),
        "view" | "table" if is_word(name) && name.starts_with("pg_") => Some(name.into()),
        _ => None,
    }
}

fn is_hardened_function(name: &str) -> bool {
    name.starts_with("pg_")
        || name.starts_with("lo_")
        || name.starts_with("dblink")
        || name.starts_with("crosstab")
        || name.contains("_to_xml")
        || FUNCTIONS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fields: &[(char, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (code, text) in fields {
            body.extend_from_slice(format!("{code}{text}\0").as_bytes());
        }
        body.push(0);
        body
    }

    #[test]
    fn what_hardening_took_is_named() {
        for (message, name) in [
            ("permission denied for function pg_try_advisory_lock", Some("pg_try_advisory_lock")),
            ("permission denied for function lo_create", Some("lo_create")),
            ("permission denied for function query_to_xml", Some("query_to_xml")),
            ("permission denied for language plpgsql", Some("languages")),
            ("permission denied for view pg_stat_activity", Some("pg_stat_activity")),
            ("permission denied to create temporary tables in database \"app\"", Some("temporary")),
            ("permission denied for function total", None),
            ("permission denied for table orders", None),
            ("permission denied for function pg_a b; rm", None),
            ("no tenant is bound to this transaction", None),
        ] {
            assert_eq!(allowing(message).as_deref(), name, "{message}");
        }
    }

    #[test]
    fn the_hint_is_one_more_field() {
        let denied = "permission denied for function pg_notify";
        let fields = [('S', "ERROR"), ('C', "42501"), ('M', denied), ('R', "aclcheck_error")];
        let frame = add(&body(&fields)).unwrap();
        assert_eq!(frame[0], b'E');
        assert_eq!(frame[1..5], u32::try_from(frame.len() - 1).unwrap().to_be_bytes());
        let hint = message::error_field(&frame[5..], b'H').unwrap();
        assert!(hint.ends_with("cloison install --allow pg_notify."), "{hint}");
        assert_eq!(message::error_field(&frame[5..], b'R'), Some("aclcheck_error"));
        let other = [('C', "42501"), ('M', denied), ('H', "one of its own")];
        assert_eq!(add(&body(&other)), None);
        assert_eq!(add(&body(&[('C', "42883"), ('M', denied)])), None);
        assert_eq!(add(b""), None);
        assert_eq!(add(b"C42501\0Mpermission denied for function pg_notify\0"), None);
    }
}
