//! The one statement that makes a server connection act for a tenant, and its proof.
//!
//! The database believes a tenant id only together with a MAC of it that nobody but the proxy
//! and the database itself can make (`sql/migrations/0002_functions.sql`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::actor::Actor;
use super::claims::SqlClaims;
use crate::types::{ProcessMark, TenantId};

/// What the MAC is about, so that no other use of the key can produce one.
const DOMAIN: &[u8] = b"cloison:tenant:1:";

/// Names the statement and its portal, so that the client's unnamed ones stay as they are.
const NAME: &str = "_cloison_bind";

/// The function looks whether the tenant may be served, and makes a ticket that ends with the proof.
const STATEMENT: &str = "select cloison.set_tenant($1, $2)";
/// The same for a session whose claims SQL may read.
const STATEMENT_WITH_CLAIMS: &str = "select cloison.set_tenant($1, $2), \
     pg_catalog.set_config('cloison.claims', $3, false) is null";
/// What tells whose session a super-admin's is, and lets it change rows if $2 is a permit.
const ADMIT: &str = "select cloison.renew_superadmin($1, ''), \
     pg_catalog.set_config('cloison.superadmin_write', $2, false) is null";
/// The same once more: a permit only where there is one still.
const RENEW: &str = "select cloison.renew_superadmin($1, $2)";
/// What the MAC of such a permit is about.
const PERMIT_DOMAIN: &[u8] = b"cloison:superadmin_write:1:";
/// What binds one transaction. The answer is short because nobody reads it.
const LOCAL_STATEMENT: &str = "select pg_catalog.set_config('cloison.context', $1, true) is null";
const LOCAL_STATEMENT_WITH_CLAIMS: &str = "select pg_catalog.set_config('cloison.context', $1, \
     true) is null, pg_catalog.set_config('cloison.claims', $2, true) is null";
/// What the MAC of a super-admin's identity is about.
const ACTOR_DOMAIN: &[u8] = b"cloison:actor:1:";
/// What the MAC of a transaction's ticket is about.
const TICKET_DOMAIN: &[u8] = b"cloison:context:1:";
/// A transaction that is bound later than this after its ticket was made has none. It bridges
/// clocks that disagree, and ends what somebody could do who has kept a ticket.
pub(super) const TICKET_SECONDS: u64 = 30;
/// What a session has is good for so long. It is renewed before the client's next transaction once it
/// is older than [`RENEW_AFTER`]; the rest bridges clocks that disagree, and transactions that the
/// server begins late.
const SESSION_SECONDS: u64 = 45;
/// See `SESSION_SECONDS`.
pub const RENEW_AFTER: Duration = Duration::from_secs(15);
/// The latest second that ten digits can say.
pub(super) const LAST_SECOND: u64 = 9_999_999_999;
/// Bytes of a ticket ahead of its MAC: kind, tenant, second.
const TICKET_BODY_LEN: usize = 1 + 36 + 10;
/// Bytes of a proof in hex.
const MAC_LEN: usize = 64;
/// The `CommandComplete` tag of a bind that went well.
pub const CONFIRMATION: &str = "SELECT 1";

const UUID_OID: u32 = 2950;
const TEXT_OID: u32 = 25;
/// A parameter in Postgres' binary representation.
const BINARY: i16 = 1;
/// The type byte of `Bind`.
const BIND: u8 = b'B';
/// `Execute` of the unnamed portal, all rows.
const EXECUTE_UNNAMED: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";

/// Names the statements by which transactions are bound, without and with claims. Random, so that no
/// client can drop them.
#[derive(Debug)]
pub struct LocalBind {
    name: String,
    with_claims: String,
}

impl LocalBind {
    /// Takes a name that no client can guess.
    pub fn new(name: String) -> Self {
        let with_claims = format!("{name}_claims");
        Self { name, with_claims }
    }

    /// Appends the `Parse` message that prepares the statement.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn parse(&self, has_claims: bool, buffer: &mut BytesMut) -> std::io::Result<()> {
        let types = [TEXT_OID, TEXT_OID];
        match has_claims {
            false => frontend::parse(&self.name, LOCAL_STATEMENT, [TEXT_OID], buffer),
            true => frontend::parse(&self.with_claims, LOCAL_STATEMENT_WITH_CLAIMS, types, buffer),
        }
    }
}

/// The key that the database checks proofs with.
#[derive(Clone, Debug)]
pub struct Signer {
    key: hmac::Key,
    bind_process_id: bool,
}

impl Signer {
    /// Takes the key as `cloison.signing_material()` tells it.
    pub fn new(key: &[u8], bind_process_id: bool) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), bind_process_id }
    }

    /// Appends `Bind` and `Execute` that make the transaction of a server process act for `tenant`, with
    /// the claims that it has.
    ///
    /// They stand ahead of a client's statement in its own pipeline, so that it is skipped if they
    /// fail; the unnamed portal is the client's again with its next `Bind`.
    pub fn bind_local(
        &self,
        tenant: TenantId,
        claims: Option<&SqlClaims>,
        process: ProcessMark,
        statement: &LocalBind,
        now: SystemTime,
        buffer: &mut BytesMut,
    ) {
        let claims = claims.map(|claims| claims.for_transaction(self, tenant, process, now));
        let name = if claims.is_some() { &statement.with_claims } else { &statement.name };
        let value = TICKET_BODY_LEN + MAC_LEN;
        let second = claims.as_ref().map_or(0, |claims| 4 + claims.len());
        // Length, portal, the name's zero byte, formats, parameters, result formats.
        let length = 4 + 1 + 1 + 2 + 2 + 4 + value + second + 2 + name.len();
        buffer.reserve(length + 16);
        buffer.put_u8(BIND);
        buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        buffer.put_u8(0);
        buffer.put_slice(name.as_bytes());
        // Every parameter is text.
        buffer.put_slice(&[0, 0, 0, 0, 1 + u8::from(claims.is_some())]);
        buffer.put_u32(u32::try_from(value).unwrap_or(u32::MAX));
        let body = ticket_body(tenant, now);
        let mac = self.mac(&[TICKET_DOMAIN, &body], process);
        buffer.put_slice(&body);
        buffer.put_slice(&mac);
        if let Some(claims) = &claims {
            buffer.put_u32(u32::try_from(claims.len()).unwrap_or(u32::MAX));
            buffer.put_slice(claims);
        }
        buffer.put_slice(&[0, 0]);
        buffer.put_slice(EXECUTE_UNNAMED);
    }

    /// Until when it is good, and HMAC-SHA-256 (RFC 2104) of the tenant, that, and the server process
    /// that may act for it.
    fn proof(&self, tenant: TenantId, until: u64, process: ProcessMark) -> Vec<u8> {
        let digits = format!("{until:010}");
        let mac = self.mac(&[DOMAIN, tenant.as_bytes(), digits.as_bytes()], process);
        [digits.as_bytes(), &mac].concat()
    }

    /// HMAC-SHA-256 (RFC 2104) of `parts` and the server process, in hex.
    pub(super) fn mac(&self, parts: &[&[u8]], process: ProcessMark) -> [u8; MAC_LEN] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        if self.bind_process_id {
            context.update(process.as_bytes());
        }
        hex(context.sign().as_ref())
    }

    /// Appends the messages that bind `tenant`, with the claims that it has, to the session of a
    /// server process, up to and with their Sync. They leave no statement and no portal behind.
    /// They hold for less than a minute, and no longer than half a minute after `until`.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn bind(
        &self,
        tenant: TenantId,
        claims: Option<&SqlClaims>,
        (until, now): (SystemTime, SystemTime),
        process: ProcessMark,
        buffer: &mut BytesMut,
    ) -> std::io::Result<()> {
        let proof = self.proof(tenant, session_second(until, now), process);
        let claims = claims.map(|claims| claims.for_session(self, tenant, process, now));
        let statement = if claims.is_some() { STATEMENT_WITH_CLAIMS } else { STATEMENT };
        let parameters = [&tenant.as_bytes()[..], &proof].into_iter();
        let parameters = parameters.chain(claims.as_deref());
        let types = [UUID_OID, TEXT_OID, TEXT_OID];
        let types = types.into_iter().take(2 + usize::from(claims.is_some()));
        put_once(statement, types, parameters, buffer)
    }

    /// Appends the messages that tell the super-admin's session of a server process whose it is, and
    /// let it change rows if it may, up to and with their Sync. What it has lost by its own doing it
    /// does not get again by a renewal.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn admit(
        &self,
        actor: &Actor,
        is_renewal: bool,
        (until, now): (SystemTime, SystemTime),
        process: ProcessMark,
        buffer: &mut BytesMut,
    ) -> std::io::Result<()> {
        let digits = format!("{:010}", session_second(until, now));
        let signed = |domain: &[u8], text: &[u8]| {
            let body = [digits.as_bytes(), text].concat();
            let mac = self.mac(&[domain, &body], process);
            [body, mac.to_vec()].concat()
        };
        let identity = signed(ACTOR_DOMAIN, actor.json().as_bytes());
        let permit = match actor.writes() {
            true => signed(PERMIT_DOMAIN, b""),
            false => Vec::new(),
        };
        let statement = if is_renewal { RENEW } else { ADMIT };
        put_once(statement, [TEXT_OID; 2], [&identity[..], &permit], buffer)
    }
}

/// Until when something of a session is good that ends with `until`.
pub(super) fn session_second(until: SystemTime, now: SystemTime) -> u64 {
    let soon = seconds(now).saturating_add(SESSION_SECONDS);
    soon.min(seconds(until).saturating_add(TICKET_SECONDS)).min(LAST_SECOND)
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Appends the messages that run a statement with parameters in their binary form.
fn put_once<'a>(
    statement: &str,
    types: impl IntoIterator<Item = u32>,
    parameters: impl IntoIterator<Item = &'a [u8]>,
    buffer: &mut BytesMut,
) -> std::io::Result<()> {
    // A client may have taken the names: it loses what it gave them to, we keep the identity.
    frontend::close(b'P', NAME, buffer)?;
    frontend::close(b'S', NAME, buffer)?;
    frontend::parse(NAME, statement, types, buffer)?;
    let put = |bytes: &[u8], out: &mut BytesMut| {
        out.put_slice(bytes);
        Ok(IsNull::No)
    };
    frontend::bind(NAME, NAME, [BINARY], parameters, put, [BINARY], buffer).map_err(|error| {
        match error {
            frontend::BindError::Conversion(error) => std::io::Error::other(error),
            frontend::BindError::Serialization(error) => error,
        }
    })?;
    frontend::execute(NAME, 0, buffer)?;
    frontend::close(b'P', NAME, buffer)?;
    frontend::close(b'S', NAME, buffer)?;
    frontend::sync(buffer);
    Ok(())
}

/// Kind, tenant, and the second until which a transaction may begin.
fn ticket_body(tenant: TenantId, now: SystemTime) -> [u8; TICKET_BODY_LEN] {
    let mut body = [b'p'; TICKET_BODY_LEN];
    let (_, rest) = body.split_at_mut(1);
    let (id, digits) = rest.split_at_mut(uuid::fmt::Hyphenated::LENGTH);
    tenant.as_uuid().hyphenated().encode_lower(id);
    let mut until = seconds(now).saturating_add(TICKET_SECONDS).min(LAST_SECOND);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(until % 10).unwrap_or_default();
        until /= 10;
    }
    body
}

/// Writes 32 bytes in hex.
fn hex(bytes: &[u8]) -> [u8; MAC_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or_default();
    let mut text = [b'0'; MAC_LEN];
    for (pair, &byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";

    fn mark() -> ProcessMark {
        ProcessMark::parse(b"0123456789abcdef0123456789abcdef").unwrap()
    }

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn the_proof_is_what_other_implementations_compute() {
        // python3: hmac.new(bytes(range(32)), b'cloison:tenant:1:' + UUID(TENANT).bytes
        //          + b'1800000045' + b'0123456789abcdef' * 2, 'sha256').hexdigest()
        let key: Vec<u8> = (0..32).collect();
        let proof = |is_bound| {
            let signer = Signer::new(&key, is_bound);
            let proof = signer.proof(TENANT.parse().unwrap(), 1_800_000_045, mark());
            String::from_utf8(proof).unwrap()
        };
        assert_eq!(
            proof(true),
            "1800000045d5e157d907c98321747516273b96c14f0c4c48c38060ffa71ee06e1438491108"
        );
        // The same without the mark.
        assert_eq!(
            proof(false),
            "1800000045471708aee02b8072ed349b7bf3436ce0a3bb40bfbcc9ea35658693896245e22a"
        );
    }

    #[test]
    fn a_ticket_is_what_other_implementations_compute() {
        // python3: body = b'p' + TENANT + b'%010d' % (1800000000 + 30)
        //          hmac.new(bytes(range(32)), b'cloison:context:1:' + body
        //          + b'0123456789abcdef' * 2, 'sha256').hexdigest()
        let key: Vec<u8> = (0..32).collect();
        let mut buffer = BytesMut::new();
        let bind = LocalBind::new("n".to_owned());
        let tenant = TENANT.parse().unwrap();
        let now = at(1_800_000_000);
        Signer::new(&key, true).bind_local(tenant, None, mark(), &bind, now, &mut buffer);
        let ticket = format!(
            "p{TENANT}18000000304cf43a23e7e67246d6952e5bf4a0eb7cee51bf94fbd6f94e837c26a6d4889196"
        );
        let start = b"B\0\0\0\x80\0n\0\0\0\0\x01\0\0\0\x6f";
        assert_eq!(buffer, [start, ticket.as_bytes(), b"\0\0E\0\0\0\x09\0\0\0\0\0"].concat());
    }

    #[test]
    fn what_a_session_has_ends_within_a_minute_or_with_its_token() {
        let soon = |until, now| session_second(at(until), at(now));
        assert_eq!(soon(1_800_009_000, 1_800_000_000), 1_800_000_045);
        assert_eq!(soon(1_800_000_010, 1_800_000_000), 1_800_000_040);
        assert_eq!(soon(253_402_300_799, 253_402_300_700), LAST_SECOND);
        assert!(RENEW_AFTER.as_secs() + 30 <= SESSION_SECONDS && SESSION_SECONDS < 60);
    }

    #[test]
    fn the_proof_never_stands_in_a_statement() {
        let signer = Signer::new(&[7; 32], true);
        let tenant = TENANT.parse().unwrap();
        let mut buffer = BytesMut::new();
        let times = (at(1_800_000_900), at(1_800_000_000));
        signer.bind(tenant, None, times, mark(), &mut buffer).unwrap();
        let messages = String::from_utf8_lossy(&buffer);
        assert!(messages.contains("select cloison.set_tenant($1, $2)\0"));
        assert!(messages.contains("1800000045"));
        assert_eq!(buffer.last_chunk(), Some(b"S\0\0\0\x04"));
    }
}
