//! How much of what was refused to tenants is written to the audit log.
//!
//! The log is append-only, and a tenant can be refused something as often as it likes. So of each
//! holder of a token the first refusals of a minute have a record each, and the others one together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::audit::AuditRecord;
use super::directory::{Directory, Error};
use crate::auth::VerifiedClaims;
use crate::types::SessionId;

/// Refusals are counted together for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// Of one holder so many in that time have a record each.
const EACH: u32 = 5;
/// And of all holders.
const ALL: u32 = 100;
/// More holders than so are one.
const MOST: usize = 1000;
/// What somebody asked for is kept up to this length, in characters: no name of a tenant is longer.
const LONGEST_NAME: usize = 63;

/// What has been refused lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    /// By the holder's issuer and name; empty for those for whom there was no room.
    holders: HashMap<(String, String), Holder>,
    /// Records of the window that began then.
    all: Option<(Instant, u32)>,
}

#[derive(Debug)]
struct Holder {
    since: Instant,
    written: u32,
    /// How many have no record, and the last one's.
    more: u64,
    last: AuditRecord,
}

impl Refusals {
    /// Counts a refusal; gives it back if it is to be written now.
    fn note(
        &self,
        holder: (String, String),
        record: AuditRecord,
        now: Instant,
    ) -> Option<AuditRecord> {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = match lately.all {
            Some((since, count)) if now - since < WINDOW => (since, count),
            Some(_) | None => (now, 0),
        };
        let is_known = lately.holders.contains_key(&holder);
        let holder =
            if is_known || lately.holders.len() < MOST { holder } else { Default::default() };
        let fresh = || Holder { since: now, written: 0, more: 0, last: record.clone() };
        let seen = lately.holders.entry(holder).or_insert_with(fresh);
        if seen.written < EACH && all.1 < ALL {
            seen.written += 1;
            lately.all = Some((all.0, all.1 + 1));
            return Some(record);
        }
        seen.more += 1;
        seen.last = record;
        lately.all = Some(all);
        None
    }

    /// Takes out those whose window is over, or all: the records that stand for what had none.
    fn take(&self, now: Option<Instant>) -> Vec<AuditRecord> {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |holder: &Holder| now.is_none_or(|now| now - holder.since >= WINDOW);
        let over = lately.holders.extract_if(|_, holder| is_over(holder));
        over.filter(|(_, holder)| holder.more > 0)
            .map(|((issuer, name), holder)| {
                let has_holder = !issuer.is_empty() || !name.is_empty();
                holder.last.standing_for(holder.more, has_holder)
            })
            .collect()
    }
}

impl AuditRecord {
    /// Tells who chose a tenant that the token does not allow.
    fn refused_choice(claims: &VerifiedClaims, session: SessionId, name: &str) -> Self {
        Self {
            actor: actor_of(claims),
            action: "tenant.refused".to_owned(),
            tenant: None,
            session: session.to_string(),
            detail: json!({
                "issuer": claims.issuer(),
                "token_id": claims.token_id(),
                "asked_for": name.chars().take(LONGEST_NAME).collect::<String>(),
            }),
        }
    }

    /// Tells on top of that of how many more it is the last; of several holders' if it has none.
    fn standing_for(mut self, more: u64, has_holder: bool) -> Self {
        self.detail["more"] = more.into();
        if !has_holder {
            "several".clone_into(&mut self.actor);
        }
        self
    }
}

/// Whoever the token is of: without a name, the rule that accepted it.
fn actor_of(claims: &VerifiedClaims) -> String {
    let unnamed = || format!("a token of {} without a name", claims.issuer());
    claims.subject().map_or_else(unnamed, str::to_owned)
}

impl Directory {
    /// Records a choice that the token does not allow, or counts it.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does.
    pub(super) async fn note_refused_choice(
        &self,
        claims: &VerifiedClaims,
        session: SessionId,
        name: &str,
    ) -> Result<(), Error> {
        let holder = claims.subject().or_else(|| claims.token_id()).unwrap_or_default();
        let holder = (claims.issuer().to_owned(), holder.to_owned());
        let record = AuditRecord::refused_choice(claims, session, name);
        match self.refusals.note(holder, record, Instant::now()) {
            Some(record) => self.record(&record).await,
            None => Ok(()),
        }
    }

    /// Records what was only counted, once its minute is over, or now.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does; what is not recorded then is lost.
    pub async fn record_refusals(&self, is_last: bool) -> Result<(), Error> {
        for record in self.refusals.take((!is_last).then(Instant::now)) {
            self.record(&record).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> AuditRecord {
        AuditRecord {
            actor: "ada".into(),
            action: "tenant.refused".into(),
            tenant: None,
            session: "1".into(),
            detail: json!({ "asked_for": name }),
        }
    }

    fn holder(name: &str) -> (String, String) {
        ("issuer".into(), name.into())
    }

    #[test]
    fn of_many_refusals_few_are_written_one_by_one() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let written = |name: &str, count: u32, now: Instant| {
            (0..count)
                .filter(|n| refusals.note(holder(name), record(&n.to_string()), now).is_some())
                .count()
        };
        assert_eq!(written("ada", 1000, start), 5);
        assert_eq!(written("bob", 3, start), 3);
        assert!(refusals.take(Some(start + WINDOW / 2)).is_empty());
        let together = refusals.take(Some(start + WINDOW));
        let [together] = &together[..] else { panic!("{together:?}") };
        assert_eq!(together.detail, json!({ "asked_for": "999", "more": 995 }));
        assert_eq!(together.actor, "ada");
        // The next minute begins anew.
        assert_eq!(written("ada", 1000, start + WINDOW), 5);
        assert_eq!(refusals.take(None).len(), 1);
        assert!(refusals.take(None).is_empty());
    }

    #[test]
    fn many_holders_do_not_fill_the_log_either() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let mut written = 0;
        for n in 0..20_000 {
            let noted = refusals.note(holder(&n.to_string()), record("x"), start);
            written += usize::from(noted.is_some());
        }
        assert_eq!(written, 100);
        let together = refusals.take(None);
        assert!(together.len() <= MOST + 1, "{}", together.len());
        let more: u64 = together.iter().filter_map(|record| record.detail["more"].as_u64()).sum();
        assert_eq!(more, 19_900);
        assert!(together.iter().any(|record| record.actor == "several"));
    }
}
