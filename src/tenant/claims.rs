//! The claims of a token on their way to SQL: signed, for one tenant and one server process.

use std::sync::Arc;
use std::time::SystemTime;

use crate::types::{ProcessMark, TenantId};

use super::bind::{LAST_SECOND, Signer, TICKET_SECONDS, seconds, session_second};

/// What the MAC is about, so that no other use of the key can produce one.
const DOMAIN: &[u8] = b"cloison:claims:1:";

/// What SQL may read of a token, and until when.
#[derive(Clone, Debug)]
pub struct SqlClaims {
    json: Arc<str>,
    until: SystemTime,
}

impl SqlClaims {
    pub(super) const fn new(json: Arc<str>, until: SystemTime) -> Self {
        Self { json, until }
    }

    /// The value of `cloison.claims` for a session, good until it is renewed.
    pub(super) fn for_session(
        &self,
        signer: &Signer,
        tenant: TenantId,
        process: ProcessMark,
        now: SystemTime,
    ) -> Vec<u8> {
        self.signed(signer, tenant, process, session_second(self.until, now))
    }

    /// The value of `cloison.claims` for a transaction that begins soon.
    pub(super) fn for_transaction(
        &self,
        signer: &Signer,
        tenant: TenantId,
        process: ProcessMark,
        now: SystemTime,
    ) -> Vec<u8> {
        let until = seconds(self.until).min(seconds(now) + TICKET_SECONDS);
        self.signed(signer, tenant, process, until)
    }

    /// Kind, second, claims, MAC: `sql/migrations/0010_claims.sql`.
    fn signed(
        &self,
        signer: &Signer,
        tenant: TenantId,
        process: ProcessMark,
        until: u64,
    ) -> Vec<u8> {
        let mut text = format!("p{:010}{}", until.min(LAST_SECOND), self.json).into_bytes();
        let mac = signer.mac(&[DOMAIN, tenant.as_bytes(), &text], process);
        text.extend_from_slice(&mac);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const TENANT: &str = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn signed_claims_are_what_other_implementations_compute() {
        // python3: body = b'p1800000044{"sub":"ada"}'
        //          hmac.new(bytes(range(32)), b'cloison:claims:1:' + UUID(TENANT).bytes + body
        //          + b'0123456789abcdef' * 2, 'sha256').hexdigest()
        let key: Vec<u8> = (0..32).collect();
        let claims = SqlClaims::new(r#"{"sub":"ada"}"#.into(), at(1_800_000_030));
        let signer = Signer::new(&key, true);
        let mark = ProcessMark::parse(b"0123456789abcdef0123456789abcdef").unwrap();
        let signed = claims.for_session(&signer, TENANT.parse().unwrap(), mark, at(1_799_999_999));
        assert_eq!(
            String::from_utf8(signed).unwrap(),
            "p1800000044{\"sub\":\"ada\"}3905bcf79988ec8528ed12027b842c5315b57e73f1c1eb136d9453f2c342cfd8"
        );
    }

    #[test]
    fn a_transactions_claims_end_soon_and_not_after_the_token() {
        let signer = Signer::new(&[7; 32], true);
        let tenant = TENANT.parse().unwrap();
        let second = |until: u64, now: u64| {
            let claims = SqlClaims::new("{}".into(), at(until));
            let signed = claims.for_transaction(&signer, tenant, ProcessMark::default(), at(now));
            String::from_utf8(signed.get(1..11).unwrap().to_vec()).unwrap()
        };
        assert_eq!(second(1_800_000_000, 1_700_000_000), "1700000030");
        assert_eq!(second(1_700_000_010, 1_700_000_000), "1700000010");
        let for_ever = SqlClaims::new("{}".into(), at(253_402_300_799));
        let signed =
            for_ever.for_session(&signer, tenant, ProcessMark::default(), at(1_700_000_000));
        assert!(signed.starts_with(b"p1700000045{}"));
    }
}
