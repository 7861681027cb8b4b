//! The claims of a token on their way to SQL: signed, for one tenant and one server process.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::types::TenantId;

use super::bind::{LAST_SECOND, Signer, TICKET_SECONDS};

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

    /// The value of `cloison.claims` for a session, good until the token ends.
    pub(super) fn for_session(
        &self,
        signer: &Signer,
        tenant: TenantId,
        server_pid: i32,
    ) -> Vec<u8> {
        self.signed(signer, tenant, server_pid, seconds(self.until))
    }

    /// The value of `cloison.claims` for a transaction that begins soon.
    pub(super) fn for_transaction(
        &self,
        signer: &Signer,
        tenant: TenantId,
        server_pid: i32,
        now: SystemTime,
    ) -> Vec<u8> {
        let until = seconds(self.until).min(seconds(now) + TICKET_SECONDS);
        self.signed(signer, tenant, server_pid, until)
    }

    /// Kind, second, claims, MAC: `sql/migrations/0010_claims.sql`.
    fn signed(&self, signer: &Signer, tenant: TenantId, server_pid: i32, until: u64) -> Vec<u8> {
        let mut text = format!("p{:010}{}", until.min(LAST_SECOND), self.json).into_bytes();
        let mac = signer.mac(&[DOMAIN, tenant.as_bytes(), &text], server_pid);
        text.extend_from_slice(&mac);
        text
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TENANT: &str = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn signed_claims_are_what_other_implementations_compute() {
        // python3: body = b'p1800000030{"sub":"ada"}'
        //          hmac.new(bytes(range(32)), b'cloison:claims:1:' + UUID(TENANT).bytes + body
        //          + (4242).to_bytes(4, 'big'), 'sha256').hexdigest()
        let key: Vec<u8> = (0..32).collect();
        let claims = SqlClaims::new(r#"{"sub":"ada"}"#.into(), at(1_800_000_030));
        let signer = Signer::new(&key, true);
        let signed = claims.for_session(&signer, TENANT.parse().unwrap(), 4242);
        assert_eq!(
            String::from_utf8(signed).unwrap(),
            "p1800000030{\"sub\":\"ada\"}fd56fc1fa0b1bda4c97995a40935ffc3063c97f155388e05fbb64256f8492f18"
        );
    }

    #[test]
    fn a_transactions_claims_end_soon_and_not_after_the_token() {
        let signer = Signer::new(&[7; 32], true);
        let tenant = TENANT.parse().unwrap();
        let second = |until: u64, now: u64| {
            let claims = SqlClaims::new("{}".into(), at(until));
            let signed = claims.for_transaction(&signer, tenant, 1, at(now));
            String::from_utf8(signed.get(1..11).unwrap().to_vec()).unwrap()
        };
        assert_eq!(second(1_800_000_000, 1_700_000_000), "1700000030");
        assert_eq!(second(1_700_000_010, 1_700_000_000), "1700000010");
        let for_ever = SqlClaims::new("{}".into(), at(253_402_300_799));
        assert!(for_ever.for_session(&signer, tenant, 1).starts_with(b"p9999999999{}"));
    }
}
