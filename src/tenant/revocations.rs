//! Which tokens are good no more, although they prove themselves (`sql/migrations/0008`).

use std::collections::HashMap;
use std::time::SystemTime;

use aws_lc_rs::digest;

use crate::auth::VerifiedClaims;

/// What was revoked, as of one look at the database.
#[derive(Debug, Default)]
pub(super) struct Revocations(HashMap<Mark, Vec<Revocation>>);

/// By what a token can be revoked. Small, because each session has one.
#[derive(Debug)]
pub(super) struct Identity {
    issuer: Mark,
    token: Option<Mark>,
    subject: Option<Mark>,
}

#[derive(Debug)]
struct Revocation {
    /// Of whose tokens; `None` is everybody's.
    issuer: Option<Mark>,
    until: Option<SystemTime>,
}

/// Half a SHA-256 of a name and what it names, so that all are of one size.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Mark([u8; 16]);

const ISSUER: &str = "issuer";
const TOKEN: &str = "token";
const SUBJECT: &str = "subject";

impl Mark {
    fn of(kind: &str, name: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(kind.as_bytes());
        context.update(b":");
        context.update(name.as_bytes());
        let mut mark = [0; 16];
        for (byte, digest) in mark.iter_mut().zip(context.finish().as_ref()) {
            *byte = *digest;
        }
        Self(mark)
    }
}

impl Identity {
    /// Takes what the token proved.
    pub(super) fn of(claims: &VerifiedClaims) -> Self {
        Self::new(claims.token_issuer(), claims.token_id(), claims.subject())
    }

    fn new(issuer: &str, token: Option<&str>, subject: Option<&str>) -> Self {
        Self {
            issuer: Mark::of(ISSUER, issuer),
            token: token.map(|name| Mark::of(TOKEN, name)),
            subject: subject.map(|name| Mark::of(SUBJECT, name)),
        }
    }
}

impl Revocations {
    /// Adds a row of `cloison.current_revocations()`.
    pub(super) fn add(
        &mut self,
        kind: &str,
        name: &str,
        issuer: Option<&str>,
        until: Option<SystemTime>,
    ) {
        let issuer = issuer.map(|name| Mark::of(ISSUER, name));
        self.0.entry(Mark::of(kind, name)).or_default().push(Revocation { issuer, until });
    }

    /// Whether a token is good no more.
    pub(super) fn cover(&self, identity: &Identity, now: SystemTime) -> bool {
        let marks = [identity.token, identity.subject].into_iter().flatten();
        marks.filter_map(|mark| self.0.get(&mark)).flatten().any(|revocation| {
            revocation.issuer.is_none_or(|issuer| issuer == identity.issuer)
                && revocation.until.is_none_or(|until| now < until)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_covers_what_it_names_and_nothing_else() {
        let now = SystemTime::now();
        let identity = Identity::new("one", Some("t"), Some("s"));
        for (kind, name, issuer, expected) in [
            ("token", "t", None, true),
            ("token", "t", Some("one"), true),
            ("token", "t", Some("two"), false),
            ("token", "s", None, false),
            ("subject", "s", None, true),
            ("subject", "s", Some("two"), false),
            ("subject", "t", None, false),
            ("issuer", "one", None, false),
        ] {
            let mut list = Revocations::default();
            list.add(kind, name, issuer, None);
            assert_eq!(list.cover(&identity, now), expected, "{kind} {name} {issuer:?}");
            let nameless = Identity::new("one", None, None);
            assert!(!list.cover(&nameless, now), "{kind} {name} {issuer:?}");
        }
    }

    #[test]
    fn each_of_several_counts_until_its_own_end() {
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let mut list = Revocations::default();
        list.add("token", "t", Some("two"), None);
        list.add("token", "t", None, Some(now + hour));
        let identity = Identity::new("one", Some("t"), None);
        assert!(list.cover(&identity, now));
        assert!(!list.cover(&identity, now + hour));
        assert!(list.cover(&Identity::new("two", Some("t"), None), now + hour));
    }
}
