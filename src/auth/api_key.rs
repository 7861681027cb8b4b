//! API keys, for software that cannot mint a token: presented in the token's place, and known by
//! their hash to the database alone.
//!
//! A key is `cl_`, the 32 hexadecimal digits of its id, `_`, and 64 of its secret. It opens what a
//! tenant's token opens. Nothing of it is remembered: the database is asked at every login, so that
//! a key that was revoked opens nothing from then on.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use uuid::Uuid;

use super::claims::{Claims, Period, TenantClaim, Tenants, VerifiedClaims};
use super::error::Error;
use super::on_record::OnRecord;
use super::token::MAX_NUMERIC_DATE;
use crate::config::TenantLookup;
use crate::types::{Access, TenantId};

/// By what a key is told from a token.
const PREFIX: &str = "cl_";

/// What sessions of keys have where others have the name of a rule, which has no blanks.
pub const API_KEY_RULE: &str = "api key";

/// What a good key opens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApiKey {
    /// The key's id.
    pub id: Uuid,
    /// The tenant that it is of.
    pub tenant: TenantId,
    /// When it ends by itself.
    pub expires_at: Option<SystemTime>,
}

/// Why nobody could say what a key opens.
pub type Unavailable = Box<dyn StdError + Send + Sync>;

/// Who knows the keys.
pub trait ApiKeys {
    /// The key with this SHA-256, if it is good now.
    fn find(
        &self,
        hash: &[u8; 32],
    ) -> impl Future<Output = Result<Option<ApiKey>, Unavailable>> + Send;
}

/// A key as it was presented, nothing proven. Not kept.
pub(super) struct Presented<'a>(&'a str);

impl<'a> Presented<'a> {
    /// Takes what has the prefix of a key for one. No token has it: there is no dot in it.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        text.starts_with(PREFIX).then_some(Self(text))
    }

    /// What the key opens, for a tenant's session alone.
    pub(super) async fn verify(
        &self,
        access: Access,
        keys: &impl ApiKeys,
        now: SystemTime,
    ) -> Result<VerifiedClaims, Error> {
        if access != Access::Tenant || !self.is_well_formed() {
            return Err(Error::ApiKey);
        }
        let found = keys.find(&self.hash()).await.map_err(Error::ApiKeysUnavailable)?;
        let key = found.ok_or(Error::ApiKey)?;
        let until = match key.expires_at {
            Some(until) => until,
            None => UNIX_EPOCH + Duration::from_secs(MAX_NUMERIC_DATE),
        };
        if until <= now {
            return Err(Error::ApiKey);
        }
        let tenant = TenantClaim::new(key.tenant.to_string(), vec![TenantLookup::Id]);
        Ok(VerifiedClaims::new(Claims {
            on_record: OnRecord::default(),
            access,
            issuer: API_KEY_RULE.to_owned(),
            token_issuer: API_KEY_RULE.to_owned(),
            subject: Some(format!("api_key:{}", key.id)),
            token_id: Some(key.id.to_string()),
            period: Period { from: None, until },
            tenants: Some(Tenants::One(tenant)),
            named_by: None,
            lookup: vec![TenantLookup::Id],
            for_sql: None,
        }))
    }

    /// Whether it can be a key at all, so that nobody is asked for what cannot.
    fn is_well_formed(&self) -> bool {
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        self.0
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .is_some_and(|(id, secret)| is_hex(id, 32) && is_hex(secret, 64))
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        let digest = digest::digest(&digest::SHA256, self.0.as_bytes());
        for (byte, digest) in hash.iter_mut().zip(digest.as_ref()) {
            *byte = *digest;
        }
        hash
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "cl_0123456789abcdef0123456789abcdef_\
        0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Answers every question alike.
    struct Table(Option<ApiKey>);

    impl ApiKeys for Table {
        async fn find(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, Unavailable> {
            assert_eq!(*hash, Presented(KEY).hash());
            Ok(self.0)
        }
    }

    struct Nobody;

    impl ApiKeys for Nobody {
        async fn find(&self, _: &[u8; 32]) -> Result<Option<ApiKey>, Unavailable> {
            panic!("nobody may be asked for this");
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000)
    }

    fn key(expires_at: Option<SystemTime>) -> ApiKey {
        ApiKey { id: Uuid::from_u128(1), tenant: TenantId::new(Uuid::from_u128(2)), expires_at }
    }

    #[tokio::test]
    async fn a_key_opens_its_own_tenant() {
        let later = now() + Duration::from_secs(1);
        for expires_at in [None, Some(later)] {
            let table = Table(Some(key(expires_at)));
            let claims = Presented(KEY).verify(Access::Tenant, &table, now()).await.unwrap();
            let tenant = claims.tenants().and_then(Tenants::only).unwrap();
            assert_eq!(tenant.value(), key(None).tenant.to_string());
            assert_eq!(tenant.lookup(), [TenantLookup::Id]);
            assert_eq!(claims.access(), Access::Tenant);
            if let Some(end) = expires_at {
                assert_eq!(claims.expires_at(), end);
            }
        }
    }

    #[tokio::test]
    async fn whatever_is_wrong_with_a_key_looks_alike() {
        let mut told = Vec::new();
        for found in [None, Some(key(Some(now()))), Some(key(Some(UNIX_EPOCH)))] {
            let outcome = Presented(KEY).verify(Access::Tenant, &Table(found), now()).await;
            told.push(outcome.unwrap_err().refusal());
        }
        for access in [Access::Superadmin, Access::Owner] {
            told.push(Presented(KEY).verify(access, &Nobody, now()).await.unwrap_err().refusal());
        }
        for text in [
            "cl_",
            "cl_1_2",
            &KEY[..KEY.len() - 1],
            &format!("{KEY}0"),
            &KEY.to_uppercase().replacen("CL_", "cl_", 1),
            &format!("{KEY}\n"),
        ] {
            let presented = Presented::of(text).unwrap();
            let outcome = presented.verify(Access::Tenant, &Nobody, now()).await;
            told.push(outcome.unwrap_err().refusal());
        }
        assert!(told.iter().all(|refusal| *refusal == told[0]), "{told:?}");
        assert!(Presented::of("eyJhbGciOiJub25lIn0.e30.x").is_none());
    }
}
