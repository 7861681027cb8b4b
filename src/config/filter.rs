//! `statement_filter` and what belongs to it.

use std::collections::BTreeSet;

use super::Config;
use super::reader::Section;
use crate::guard::{Group, Policy, Whose, is_setting_name};

pub(super) const SWITCH: &[(&str, bool)] = &[("on", true), ("off", false)];

/// Longest statement that may be configured: what a `Query` may hold anyhow.
const LONGEST: i64 = 16 << 20;

/// `None` if the filter is off.
pub(super) fn policy(top: &Section<'_>) -> Option<Policy> {
    let words: Vec<(&str, Group)> = Group::ALL.map(|group| (group.as_str(), group)).to_vec();
    let statements = top.choices("allowed_statements", &words).unwrap_or_default();
    let names = top.list("allowed_settings").unwrap_or_default();
    for name in names.iter().filter(|name| !is_setting_name(name)) {
        let problem = format!(
            "{name:?} is no setting that tenants can have: expected a name such as work_mem, \
             app.user or app.*; not role, session_authorization or cloison's own"
        );
        top.refuse("allowed_settings", problem);
    }
    let longest = top.number("max_statement_length", 1_024..=LONGEST).unwrap_or_default();
    let is_on = top.choice("statement_filter", SWITCH).unwrap_or(true);
    let settings: BTreeSet<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    is_on.then(|| Policy {
        whose: Whose::Tenants,
        statements: statements.into_iter().collect(),
        settings,
        longest,
    })
}

impl Config {
    /// What the statements of a session may be, and the settings that it begins with.
    pub fn policy_for(&self, is_tenants: bool) -> Option<&Policy> {
        self.statement_filter.as_ref().filter(|_| is_tenants)
    }
}
