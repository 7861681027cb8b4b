//! The one statement that makes a server connection act for a tenant, and its proof.
//!
//! The database believes a tenant id only together with a MAC of it that nobody but the proxy
//! and the database itself can make (`sql/migrations/0002_functions.sql`).

use aws_lc_rs::hmac;
use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use crate::types::TenantId;

/// What the MAC is about, so that no other use of the key can produce one.
const DOMAIN: &[u8] = b"cloison:tenant:1:";

/// Names the statement and its portal, so that the client's unnamed ones stay as they are.
const NAME: &str = "_cloison_bind";

const STATEMENT: &str = "select cloison.set_tenant($1, $2)";
/// The `CommandComplete` tag of a bind that went well.
pub const CONFIRMATION: &str = "SELECT 1";

const UUID_OID: u32 = 2950;
const TEXT_OID: u32 = 25;
/// A parameter in Postgres' binary representation.
const BINARY: i16 = 1;

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

    /// HMAC-SHA-256 (RFC 2104) of the tenant and the server process that may act for it, in hex.
    pub fn proof(&self, tenant: TenantId, server_pid: i32) -> String {
        let pid = if self.bind_process_id { server_pid } else { 0 };
        let mut context = hmac::Context::with_key(&self.key);
        context.update(DOMAIN);
        context.update(tenant.as_bytes());
        context.update(&pid.to_be_bytes());
        context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Appends the messages that bind `tenant` to the session of `server_pid`, up to and with
    /// their Sync. They leave no statement and no portal behind.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn bind(
        &self,
        tenant: TenantId,
        server_pid: i32,
        buffer: &mut BytesMut,
    ) -> std::io::Result<()> {
        let proof = self.proof(tenant, server_pid);
        let parameters: [&[u8]; 2] = [tenant.as_bytes(), proof.as_bytes()];
        // A client may have taken the names: it loses what it gave them to, we keep the identity.
        frontend::close(b'P', NAME, buffer)?;
        frontend::close(b'S', NAME, buffer)?;
        frontend::parse(NAME, STATEMENT, [UUID_OID, TEXT_OID], buffer)?;
        frontend::bind(
            NAME,
            NAME,
            [BINARY],
            parameters,
            |bytes, out| {
                out.put_slice(bytes);
                Ok(IsNull::No)
            },
            [BINARY],
            buffer,
        )
        .map_err(|error| match error {
            frontend::BindError::Conversion(error) => std::io::Error::other(error),
            frontend::BindError::Serialization(error) => error,
        })?;
        frontend::execute(NAME, 0, buffer)?;
        frontend::close(b'P', NAME, buffer)?;
        frontend::close(b'S', NAME, buffer)?;
        frontend::sync(buffer);
        Ok(())
    }
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
            Signer::new(&key, true).proof(tenant, 4242),
            "65e90465f3d6bacd7864c06c4b7e5675d8391f84ec7517c5fe21da8bf2906242"
        );
        assert_eq!(
            Signer::new(&key, false).proof(tenant, 4242),
            "11b2bce5345a0a1aa87d17afd6bbf0bb571bf83567c8b8438b1815a46ea3f66f"
        );
    }

    #[test]
    fn the_proof_never_stands_in_a_statement() {
        let signer = Signer::new(&[7; 32], true);
        let tenant = TENANT.parse().unwrap();
        let mut buffer = BytesMut::new();
        signer.bind(tenant, 1, &mut buffer).unwrap();
        let messages = String::from_utf8_lossy(&buffer);
        assert!(messages.contains("select cloison.set_tenant($1, $2)\0"));
        assert_eq!(buffer.last_chunk(), Some(b"S\0\0\0\x04"));
    }
}
