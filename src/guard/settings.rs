//! The settings that a tenant's session may change, by `SET` and in its startup packet.
//!
//! What drivers, ORMs, `psql` and `pg_dump` set, and what an application tunes for itself, in the
//! extensions for searching, too. Not on the list: what spends the server's memory or workers
//! (`hnsw.scan_mem_multiplier`), what a preloaded library reads, and who the session is.

use std::collections::BTreeSet;

use super::Policy;

/// In lower case, sorted.
const ALLOWED: &[&str] = &[
    "application_name",
    "array_nulls",
    "bytea_output",
    "check_function_bodies",
    "client_encoding",
    "client_min_messages",
    "constraint_exclusion",
    "cursor_tuple_fraction",
    "datestyle",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "enable_async_append",
    "enable_bitmapscan",
    "enable_gathermerge",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_incremental_sort",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_partition_pruning",
    "enable_partitionwise_aggregate",
    "enable_partitionwise_join",
    "enable_seqscan",
    "enable_sort",
    "enable_tidscan",
    "escape_string_warning",
    "extra_float_digits",
    "from_collapse_limit",
    "hnsw.ef_search",
    "hnsw.iterative_scan",
    "hnsw.max_scan_tuples",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "ivfflat.iterative_scan",
    "ivfflat.max_probes",
    "ivfflat.probes",
    "jit",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "pg_trgm.similarity_threshold",
    "pg_trgm.strict_word_similarity_threshold",
    "pg_trgm.word_similarity_threshold",
    "plan_cache_mode",
    "quote_all_identifiers",
    "row_security",
    "search_path",
    "seed",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "xmlbinary",
    "xmloption",
];

/// Whether a setting may be changed; `more` are the operator's.
pub(super) fn may_change(name: &str, more: &BTreeSet<String>) -> bool {
    let name = name.to_ascii_lowercase();
    ALLOWED.binary_search(&name.as_str()).is_ok()
        || more.contains(&name)
        || name.split_once('.').is_some_and(|(class, _)| more.contains(&format!("{class}.*")))
}

/// Of these, what means something in a transaction only, or has no value to start with.
const NOT_AT_STARTUP: [&str; 4] =
    ["seed", "transaction_deferrable", "transaction_isolation", "transaction_read_only"];

impl Policy {
    /// Whether a session may be started with a setting, by its name in lower case: what it may
    /// change anyhow.
    pub fn may_start_with(&self, name: &str) -> bool {
        may_change(name, &self.settings) && !NOT_AT_STARTUP.contains(&name)
    }
}

/// Whether an operator may give a setting to tenants by this name: `name`, `class.name`, `class.*`.
/// Who the session acts for is not to be given.
pub fn is_setting_name(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let lower = name.to_ascii_lowercase();
    match lower.split_once('.') {
        None => is_word(&lower) && !matches!(lower.as_str(), "role" | "session_authorization"),
        Some((class, rest)) => {
            is_word(class) && class != "cloison" && (rest == "*" || is_word(rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_lower_case() {
        assert!(ALLOWED.is_sorted());
        assert!(ALLOWED.iter().all(|name| !name.contains(|c: char| c.is_ascii_uppercase())));
    }

    #[test]
    fn who_the_session_is_cannot_be_given() {
        for name in ["work_mem", "app.user", "app.*", "App.User"] {
            assert!(is_setting_name(name), "{name}");
        }
        for name in ["", "role", "ROLE", "session_authorization", "cloison.context", "cloison.*"] {
            assert!(!is_setting_name(name), "{name}");
        }
        for name in ["*", "a.b.c", "a b", ".a", "a.", "enable_*"] {
            assert!(!is_setting_name(name), "{name}");
        }
    }
}
