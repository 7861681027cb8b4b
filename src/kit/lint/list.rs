//! The lints, in the order in which they run. `tests/kit/lint.rs` holds the list to `sql/lints`.

/// One file of `sql/lints`, as it was when this program was built.
#[derive(Clone, Copy, Debug)]
pub struct Lint {
    /// The name of its file.
    pub name: &'static str,
    /// What it holds: a comment, and one SELECT.
    pub sql: &'static str,
}

impl Lint {
    /// What it finds.
    pub fn title(&self) -> &'static str {
        self.comment().next().unwrap_or_default()
    }

    /// The levels that its findings can have, with commas.
    pub fn levels(&self) -> &'static str {
        self.comment().nth(1).unwrap_or_default()
    }

    /// Why it matters, in one line.
    pub fn why(&self) -> String {
        let lines: Vec<_> = self.comment().skip(2).filter(|line| !line.is_empty()).collect();
        lines.join(" ")
    }

    fn comment(&self) -> impl Iterator<Item = &'static str> {
        let lines = self.sql.lines().take_while(|line| line.starts_with("--"));
        lines.map(|line| line.trim_start_matches("--").trim())
    }
}

macro_rules! lints {
    ($($name:literal),* $(,)?) => {
        &[$(Lint { name: $name, sql: include_str!(concat!("../../../sql/lints/", $name, ".sql")) }),*]
    };
}

/// Every lint.
pub const LINTS: &[Lint] = lints![
    "table_unprotected",
    "partition_unprotected",
    "rls_off",
    "rls_not_forced",
    "owner_is_tenant",
    "policy_missing",
    "policy_changed",
    "policy_lax",
    "policy_fail_open",
    "policy_or",
    "policy_bare_call",
    "view_not_invoker",
    "matview_reachable",
    "foreign_table_reachable",
    "definer_function",
    "search_path_unpinned",
    "hardening_off",
    "leakproof_function",
    "login_unfit",
    "kit_exposed",
    "grant_truncate",
    "grant_excess",
    "grant_default",
    "sequence_grant",
    "foreign_server",
    "extension_reach",
    "trigger_copies",
    "guard",
    "trigger_in_action",
    "triggers_off",
    "parameter_grant",
    "rule_runs_as_owner",
    "publication",
    "replication_role",
    "subscription",
    "background_worker",
    "unique_key",
    "foreign_key",
    "exclusion_constraint",
    "index_missing",
    "tenant_column",
    "tenant_key",
    "table_gone",
    "watch_off",
    "prepared_transactions",
    "server_outdated",
];
