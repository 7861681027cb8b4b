//! Every key that a configuration may hold, with its default: the one list that the reader, the
//! environment and `config/example.toml` are held to.

use crate::types::Access;

use super::error::did_you_mean;
use super::pgbouncer;

/// What a key holds: how its environment variable is read, and whether its value may be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Boolean,
    Duration,
    Integer,
    List,
    Secret,
    Table,
    Text,
}

/// A key, or a family of keys where the path holds a `*`.
#[derive(Debug)]
pub(super) struct Key {
    /// From the outside in, joined with dots.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// As TOML. Empty if there is none: then the key is required, or absent unless given.
    pub(super) default: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default }
}

/// In the order of `config/example.toml`.
pub(super) const KEYS: &[Key] = &[
    key("listen_addr", Kind::List, r#""127.0.0.1""#),
    key("listen_port", Kind::Integer, "6432"),
    key("unix_socket_dir", Kind::Text, ""),
    key("client_tls_sslmode", Kind::Text, r#""disable""#),
    key("client_tls_cert_file", Kind::Text, ""),
    key("client_tls_key_file", Kind::Text, ""),
    key("allow_cleartext_token", Kind::Boolean, "false"),
    key("oauth_port", Kind::Integer, ""),
    key("oauth_issuer", Kind::Text, ""),
    key("oauth_scope", Kind::Text, ""),
    key("api_keys", Kind::Boolean, "false"),
    key("server_tls_sslmode", Kind::Text, r#""prefer""#),
    key("server_tls_ca_file", Kind::Text, ""),
    key("server_tls_cert_file", Kind::Text, ""),
    key("server_tls_key_file", Kind::Text, ""),
    key("pool_mode", Kind::Text, r#""session""#),
    key("max_prepared_statements", Kind::Integer, "200"),
    key("session_identity", Kind::Text, r#""login""#),
    key("set_tenant_lasts", Kind::Text, r#""transaction""#),
    key("session_statements", Kind::Text, r#""refuse""#),
    key("worker_threads", Kind::Integer, "1"),
    key("max_client_conn", Kind::Integer, "1000"),
    key("reserved_client_conn", Kind::Integer, "10"),
    key("max_tenant_client_connections", Kind::Integer, ""),
    key("max_tenant_connections", Kind::Integer, ""),
    key("max_session_memory", Kind::Integer, "16777216"),
    key("max_tenant_memory", Kind::Integer, "134217728"),
    key("default_pool_size", Kind::Integer, "20"),
    key("client_login_timeout", Kind::Duration, "60"),
    key("query_wait_timeout", Kind::Duration, "120"),
    key("query_timeout", Kind::Duration, "0"),
    key("transaction_timeout", Kind::Duration, "0"),
    key("idle_transaction_timeout", Kind::Duration, "300"),
    key("client_idle_timeout", Kind::Duration, "0"),
    key("client_write_timeout", Kind::Duration, "300"),
    key("tcp_keepalive", Kind::Boolean, "true"),
    key("tcp_keepidle", Kind::Duration, "0"),
    key("tcp_keepintvl", Kind::Duration, "0"),
    key("tcp_keepcnt", Kind::Integer, "0"),
    key("tcp_user_timeout", Kind::Duration, "0"),
    key("max_packet_size", Kind::Integer, "1073741823"),
    key("max_savepoints", Kind::Integer, "1000"),
    key("max_pipeline", Kind::Integer, "1000"),
    key("server_connect_timeout", Kind::Duration, "15"),
    key("server_idle_timeout", Kind::Duration, "600"),
    key("server_lifetime", Kind::Duration, "3600"),
    key("shutdown_timeout", Kind::Duration, "30"),
    key("allow_startup_parameters", Kind::List, "[]"),
    key("ignore_startup_parameters", Kind::List, "[]"),
    key("harmless_functions", Kind::List, "[]"),
    key("role_settings", Kind::List, "[]"),
    key("statement_filter", Kind::Text, r#""on""#),
    key("allowed_statements", Kind::List, "[]"),
    key("allowed_settings", Kind::List, "[]"),
    key("max_statement_length", Kind::Integer, "1048576"),
    key("superadmin_reason", Kind::Text, r#""required""#),
    key("superadmin_session_lifetime", Kind::Duration, "3600"),
    key("lint", Kind::Text, r#""refuse""#),
    key("lint_interval", Kind::Duration, "60"),
    key("log_format", Kind::Text, r#""text""#),
    key("log_filter", Kind::Text, r#""info""#),
    key("server.host", Kind::Text, r#""localhost""#),
    key("server.port", Kind::Integer, "5432"),
    key("server.database", Kind::Text, ""),
    key("control.user", Kind::Text, ""),
    key("control.password", Kind::Secret, ""),
    key("control.password_file", Kind::Text, ""),
    key("pools.*.user", Kind::Text, ""),
    key("pools.*.password", Kind::Secret, ""),
    key("pools.*.password_file", Kind::Text, ""),
    key("pools.*.pool_size", Kind::Integer, ""),
    key("pools.*.pool_mode", Kind::Text, ""),
    key("pools.*.client_user", Kind::Text, ""),
    key("pools.*.tls_cert_file", Kind::Text, ""),
    key("pools.*.tls_key_file", Kind::Text, ""),
    key("issuers.*.access", Kind::Text, r#""tenant""#),
    key("issuers.*.provider", Kind::Text, ""),
    key("issuers.*.issuer", Kind::Text, ""),
    key("issuers.*.audience", Kind::List, ""),
    key("issuers.*.algorithms", Kind::List, ""),
    key("issuers.*.secret", Kind::Secret, ""),
    key("issuers.*.secret_file", Kind::Text, ""),
    key("issuers.*.public_key_file", Kind::Text, ""),
    key("issuers.*.jwks_file", Kind::Text, ""),
    key("issuers.*.jwks_url", Kind::Text, ""),
    key("issuers.*.discovery", Kind::Boolean, "false"),
    key("issuers.*.discovery_url", Kind::Text, ""),
    key("issuers.*.jwks_max_stale", Kind::Duration, r#""1d""#),
    key("issuers.*.tenant_claim", Kind::List, r#""tenant_id""#),
    key("issuers.*.tenant_claims", Kind::List, ""),
    key("issuers.*.tenants_claim", Kind::List, "[]"),
    key("issuers.*.tenant_lookup", Kind::List, r#"["id"]"#),
    key("issuers.*.required_claims", Kind::Table, "{}"),
    key("issuers.*.leeway", Kind::Duration, "10"),
    key("issuers.*.claims_in_sql", Kind::List, "[]"),
];

/// What the file is divided into.
pub(super) const SECTIONS: &[&str] = &["server", "control", "pools", "issuers"];

/// Keys of which one section holds at most one.
pub(super) const ALTERNATIVES: &[&[&str]] = &[
    &["password", "password_file"],
    &[
        "secret",
        "secret_file",
        "public_key_file",
        "jwks_file",
        "jwks_url",
        "discovery",
        "discovery_url",
    ],
    &["tenant_claim", "tenant_claims"],
];

/// The entry for a concrete path such as `issuers.app.audience`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| matches(key.path, path))
}

/// What follows "unknown key" for a concrete path.
pub(super) fn suggestion(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    // Where pgbouncer's keys stand, its names are meant; in our sections, ours.
    let theirs = pgbouncer::instead(name);
    if let (Some(instead), true) = (&theirs, section.is_empty()) {
        return instead.clone();
    }
    let concrete: Vec<String> =
        KEYS.iter().flat_map(|key| expand(key.path, section)).filter(|p| *p != path).collect();
    // The right key in the wrong section: in TOML easily done, by a line below a heading.
    let elsewhere = concrete.iter().find(|p| p.rsplit('.').next() == Some(name));
    let known = concrete.iter().map(String::as_str).chain(SECTIONS.iter().copied());
    match (did_you_mean(path, known), elsewhere) {
        (near, None) if near.is_empty() => theirs.unwrap_or_default(),
        (near, None) => near,
        (near, Some(_)) if !near.is_empty() => near,
        (_, Some(key)) if key.contains('.') => format!("; did you mean {key}?"),
        (_, Some(key)) => format!("; did you mean {key}, above the first [section]?"),
    }
}

/// Whether a path belongs to a family: `*` stands for one name. The tenant pool has no
/// `client_user`, because it takes every name that no other pool claims.
fn matches(pattern: &str, path: &str) -> bool {
    let mut names = path.split('.');
    path != "pools.tenant.client_user"
        && pattern
            .split('.')
            .all(|part| names.next().is_some_and(|name| part == "*" || part == name))
        && names.next().is_none()
        && path.strip_prefix("pools.").is_none_or(|rest| {
            Access::ALL.iter().any(|access| rest.split('.').next() == Some(access.as_str()))
        })
}

/// The concrete paths of a family. Issuers have any name, so the one at hand is taken.
fn expand(pattern: &str, section: &str) -> Vec<String> {
    let Some((family, _)) = pattern.split_once(".*.") else { return vec![pattern.to_owned()] };
    let names: Vec<&str> = if family == "pools" {
        Access::ALL.iter().map(|access| access.as_str()).collect()
    } else {
        section.strip_prefix("issuers.").into_iter().collect()
    };
    names
        .into_iter()
        .map(|name| pattern.replace('*', name))
        .filter(|path| matches(pattern, path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_match_one_name() {
        for (path, expected) in [
            ("listen_port", Some("listen_port")),
            ("server.port", Some("server.port")),
            ("pools.owner.client_user", Some("pools.*.client_user")),
            ("pools.tenant.client_user", None),
            ("pools.other.user", None),
            ("issuers.app.leeway", Some("issuers.*.leeway")),
            ("issuers.leeway", None),
            ("issuers.app.x.leeway", None),
            ("port", None),
        ] {
            assert_eq!(find(path).map(|key| key.path), expected, "{path}");
        }
    }

    #[test]
    fn suggestions_know_sections() {
        for (path, expected) in [
            ("listen_prot", "; did you mean listen_port?"),
            ("host", "; did you mean server.host?"),
            ("server.listen_port", "; did you mean listen_port, above the first [section]?"),
            ("issuers.app.audiance", "; did you mean issuers.app.audience?"),
            ("pools.tennant.user", "; did you mean pools.tenant.user?"),
            ("colour", ""),
        ] {
            assert_eq!(suggestion(path), expected, "{path}");
        }
    }
}
