//! The one statement that makes a server connection act for a tenant, and its proof.
//!
//! The database believes a tenant id only together with a MAC of it that nobody but the proxy
//! and the database itself can make (`sql/migrations/0002_functions.sql`).

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::claims::SqlClaims;
use crate::types::TenantId;

/// What the MAC is about, so that no other use of the key can produce one.
const DOMAIN: &[u8] = b"cloison:tenant:1:";

/// Names the statement and its portal, so that the client's unnamed ones stay as they are.
const NAME: &str = "_cloison_bind";

/// The function looks whether the tenant may be served. The ticket that it makes has no end, so it is
/// replaced by one that has.
const STATEMENT: &str = "select cloison.set_tenant($1, $2), \
     pg_catalog.set_config('cloison.context', $3, false) is null";
/// The same for a session whose claims SQL may read.
const STATEMENT_WITH_CLAIMS: &str = "select cloison.set_tenant($1, $2), \
     pg_catalog.set_config('cloison.context', $3, false) is null, \
     pg_catalog.set_config('cloison.claims', $4, false) is null";
/// What lets a super-admin's session change rows.
const PERMIT: &str = "select pg_catalog.set_config('cloison.superadmin_write', $1, false) is null";
/// What the MAC of such a permit is about.
const PERMIT_DOMAIN: &[u8] = b"cloison:superadmin_write:1:";
/// What binds one transaction. The answer is short because nobody reads it.
const LOCAL_STATEMENT: &str = "select pg_catalog.set_config('cloison.context', $1, true) is null";
const LOCAL_STATEMENT_WITH_CLAIMS: &str = "select pg_catalog.set_config('cloison.context', $1, \
     true) is null, pg_catalog.set_config('cloison.claims', $2, true) is null";
/// What the MAC of a transaction's ticket is about.
const TICKET_DOMAIN: &[u8] = b"cloison:context:1:";
/// A transaction that is bound later than this after its ticket was made has none. It bridges
/// clocks that disagree, and ends what somebody could do who has kept a ticket.
pub(super) const TICKET_SECONDS: u64 = 30;
/// The latest second that ten digits can say.
pub(super) const LAST_SECOND: u64 = 9_999_999_999;
/// Bytes of a ticket ahead of its MAC: kind, tenant, second.
const TICKET_BODY_LEN: usize = 1 + 36 + 10;
/// Bytes of a proof in hex.
const PROOF_LEN: usize = 64;
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

    /// Appends `Bind` and `Execute` that make the transaction of `server_pid` act for `tenant`, with
    /// the claims that it has.
    ///
    /// They stand ahead of a client's statement in its own pipeline, so that it is skipped if they
    /// fail; the unnamed portal is the client's again with its next `Bind`.
    pub fn bind_local(
        &self,
        tenant: TenantId,
        claims: Option<&SqlClaims>,
        server_pid: i32,
        statement: &LocalBind,
        now: SystemTime,
        buffer: &mut BytesMut,
    ) {
        let claims = claims.map(|claims| claims.for_transaction(self, tenant, server_pid, now));
        let name = if claims.is_some() { &statement.with_claims } else { &statement.name };
        let value = TICKET_BODY_LEN + PROOF_LEN;
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
        let (body, mac) = self.ticket(tenant, now, server_pid);
        buffer.put_slice(&body);
        buffer.put_slice(&mac);
        if let Some(claims) = &claims {
            buffer.put_u32(u32::try_from(claims.len()).unwrap_or(u32::MAX));
            buffer.put_slice(claims);
        }
        buffer.put_slice(&[0, 0]);
        buffer.put_slice(EXECUTE_UNNAMED);
    }

    /// The ticket of a transaction that begins within [`TICKET_SECONDS`] of `time`.
    fn ticket(
        &self,
        tenant: TenantId,
        time: SystemTime,
        server_pid: i32,
    ) -> ([u8; TICKET_BODY_LEN], [u8; PROOF_LEN]) {
        let body = ticket_body(tenant, time);
        (body, self.mac(&[TICKET_DOMAIN, &body], server_pid))
    }

    /// HMAC-SHA-256 (RFC 2104) of the tenant and the server process that may act for it, in hex.
    pub fn proof(&self, tenant: TenantId, server_pid: i32) -> [u8; PROOF_LEN] {
        self.mac(&[DOMAIN, tenant.as_bytes()], server_pid)
    }

    /// HMAC-SHA-256 (RFC 2104) of `parts` and the server process, in hex.
    pub(super) fn mac(&self, parts: &[&[u8]], server_pid: i32) -> [u8; PROOF_LEN] {
        let pid = if self.bind_process_id { server_pid } else { 0 };
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        context.update(&pid.to_be_bytes());
        hex(context.sign().as_ref())
    }

    /// Appends the messages that bind `tenant`, with the claims that it has, to the session of
    /// `server_pid`, up to and with their Sync. They leave no statement and no portal behind.
    /// Transactions that begin later than half a minute after `until` have no tenant.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn bind(
        &self,
        tenant: TenantId,
        claims: Option<&SqlClaims>,
        until: SystemTime,
        server_pid: i32,
        buffer: &mut BytesMut,
    ) -> std::io::Result<()> {
        let (body, mac) = self.ticket(tenant, until, server_pid);
        let ticket = [&body[..], &mac].concat();
        let proof = self.proof(tenant, server_pid);
        let claims = claims.map(|claims| claims.for_session(self, tenant, server_pid));
        let statement = if claims.is_some() { STATEMENT_WITH_CLAIMS } else { STATEMENT };
        let parameters = [&tenant.as_bytes()[..], &proof, &ticket].into_iter();
        let parameters = parameters.chain(claims.as_deref());
        let types = [UUID_OID, TEXT_OID, TEXT_OID, TEXT_OID];
        let types = types.into_iter().take(3 + usize::from(claims.is_some()));
        put_once(statement, types, parameters, buffer)
    }

    /// Appends the messages that let the super-admin's session of `server_pid` change rows, up to and
    /// with their Sync.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn permit_writes(
        &self,
        until: SystemTime,
        server_pid: i32,
        buffer: &mut BytesMut,
    ) -> std::io::Result<()> {
        let until = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut permit = format!("{:010}", until.min(LAST_SECOND)).into_bytes();
        let mac = self.mac(&[PERMIT_DOMAIN, &permit], server_pid);
        permit.extend_from_slice(&mac);
        put_once(PERMIT, [TEXT_OID], [&permit[..]], buffer)
    }
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
    let until = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + TICKET_SECONDS;
    let mut until = until.min(LAST_SECOND);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(until % 10).unwrap_or_default();
        until /= 10;
    }
    body
}

/// Writes 32 bytes in hex.
fn hex(bytes: &[u8]) -> [u8; PROOF_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or_default();
    let mut text = [b'0'; PROOF_LEN];
    for (pair, &byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";

    #[test]
    fn the_proof_is_what_other_implementations_compute() {
        // python3: hmac.new(bytes(range(32)), b'cloison:tenant:1:' + UUID(TENANT).bytes
        //          + (4242).to_bytes(4, 'big'), 'sha256').hexdigest()
        let key: Vec<u8> = (0..32).collect();
        let tenant = TENANT.parse().unwrap();
        assert_eq!(
            &Signer::new(&key, true).proof(tenant, 4242),
            b"65e90465f3d6bacd7864c06c4b7e5675d8391f84ec7517c5fe21da8bf2906242"
        );
        assert_eq!(
            &Signer::new(&key, false).proof(tenant, 4242),
            b"11b2bce5345a0a1aa87d17afd6bbf0bb571bf83567c8b8438b1815a46ea3f66f"
        );
    }

    #[test]
    fn a_ticket_is_what_other_implementations_compute() {
        // python3: body = b'p' + TENANT + b'%010d' % (1800000000 + 30)
        //          hmac.new(bytes(range(32)), b'cloison:context:1:' + body
        //          + (4242).to_bytes(4, 'big'), 'sha256').hexdigest()
        let key: Vec<u8> = (0..32).collect();
        let now = UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
        let mut buffer = BytesMut::new();
        let bind = LocalBind::new("n".to_owned());
        Signer::new(&key, true).bind_local(
            TENANT.parse().unwrap(),
            None,
            4242,
            &bind,
            now,
            &mut buffer,
        );
        let ticket = format!(
            "p{TENANT}18000000306315cae058aeb640ec6e6570b6d58275d91d413d812cac0e7398519119558b21"
        );
        let start = b"B\0\0\0\x80\0n\0\0\0\0\x01\0\0\0\x6f";
        assert_eq!(buffer, [start, ticket.as_bytes(), b"\0\0E\0\0\0\x09\0\0\0\0\0"].concat());
    }

    #[test]
    fn the_proof_never_stands_in_a_statement() {
        let signer = Signer::new(&[7; 32], true);
        let tenant = TENANT.parse().unwrap();
        let mut buffer = BytesMut::new();
        let until = UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
        signer.bind(tenant, None, until, 1, &mut buffer).unwrap();
        let messages = String::from_utf8_lossy(&buffer);
        assert!(messages.contains("select cloison.set_tenant($1, $2), "));
        assert!(messages.contains(&format!("p{TENANT}1800000030")));
        assert_eq!(buffer.last_chunk(), Some(b"S\0\0\0\x04"));
    }
}
