//! What stays on purpose is no finding of `cloison lint`.

use super::keys::Fate;
use super::step::MOMENT;
use super::{Act, Back, Draft, Lock, Phase, Stage, Step};
use crate::kit::adopt::catalogue::KeyKind;
use crate::kit::adopt::literal;

/// How a reason of ours begins.
const BY_US: &str = "cloison adopt: ";

impl Draft<'_> {
    /// Writes the keys that stay among the findings that are accepted, with the reason that the plan
    /// has for each; and takes that back.
    pub(super) fn accept(&mut self) {
        let mut rows = Vec::new();
        for (table, _) in self.tenants() {
            for key in self.keys_of(table).filter(|key| key.kind != KeyKind::Exclusion) {
                if let Some(Fate::Keep(why)) = self.fates.get(&key.oid) {
                    let key = format!(
                        "pg_catalog.format('unique_key:%s:%I', {}, {})",
                        literal(&table.name),
                        literal(&key.bare)
                    );
                    rows.push((key, literal(&format!("{BY_US}{why}"))));
                }
            }
        }
        if rows.is_empty() {
            return;
        }
        let keys: Vec<_> = rows.iter().map(|(key, _)| key.as_str()).collect();
        let values: Vec<_> = rows.iter().map(|(key, why)| format!("({key}, {why})")).collect();
        let (keys, values) = (keys.join(", "), values.join(", "));
        let ours = format!(
            "from cloison.accepted_findings f where f.key in ({keys}) \
             and pg_catalog.starts_with(f.reason, {})",
            literal(BY_US)
        );
        let step = |what: &str, why: &str, sql, done| Step {
            stage: Stage::Protect,
            table: "cloison.accepted_findings".to_owned(),
            what: what.to_owned(),
            why: why.to_owned(),
            lock: Lock::Rows,
            millis: MOMENT,
            act: Act::Together(vec![sql]),
            done: Some(done),
            old_key: None,
        };
        let record = "insert into cloison.audit_log (actor, action, detail) \
                      select session_user, 'finding.accepted', pg_catalog.to_jsonb(a) from accepted a";
        let up = step(
            "accept the keys that stay",
            "`cloison lint` shows them with the reason, and they do not count",
            format!(
                "with accepted as (insert into cloison.accepted_findings (key, reason) \
                 values {values} on conflict (key) do nothing returning key, reason) {record}"
            ),
            format!(
                "(select count(*) = {} from cloison.accepted_findings f where f.key in ({keys}))",
                rows.len()
            ),
        );
        let down = step(
            "no longer accept keys that stayed",
            "as it was before",
            format!("delete {ours}"),
            format!("not exists (select {ours})"),
        );
        self.up(Phase::Last, up);
        self.down(Back::Unprotect, down);
    }
}
