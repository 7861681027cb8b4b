//! What is kept on a client's behalf, in bytes, and how much that may be.

use std::sync::Arc;

use super::from_client::Parts;
use super::relay::Lent;
use crate::protocol::ClientError;
use crate::protocol::frame::split_cstr;
use crate::tenant::Pot;

/// What a name or a value takes besides its bytes.
pub(super) const OVERHEAD: usize = 256;

/// Counts what is kept for a session, and for its tenant.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    /// So much of it is counted for the tenant.
    counted: usize,
    tenant: Option<Arc<Pot>>,
    /// The client's settings, which go along to its next server connection.
    pub(super) settings: usize,
}

impl Memory {
    /// Nothing is kept yet.
    pub(super) const fn new(limit: usize, tenant: Option<Arc<Pot>>) -> Self {
        Self { limit, counted: 0, tenant, settings: 0 }
    }

    /// Most bytes.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Counts what is kept, and what is to be kept on top of that.
    pub(super) fn keep(&mut self, used: usize, more: usize) -> Result<(), Box<ClientError>> {
        let wanted = used.saturating_add(more);
        if wanted > self.limit {
            return Err(Box::new(exceeded(wanted, self.limit)));
        }
        let Some(tenant) = &self.tenant else { return Ok(()) };
        if !tenant.exchange(self.counted, wanted) {
            return Err(Box::new(tenant_exceeded(more, tenant.limit())));
        }
        self.counted = wanted;
        Ok(())
    }

    /// Counts what is kept, when that may have become less.
    pub(super) fn settle(&mut self, used: usize) {
        if let Some(tenant) = self.tenant.as_ref().filter(|_| used < self.counted) {
            tenant.exchange(self.counted, used);
            self.counted = used;
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.settle(0);
    }
}

impl Parts<'_> {
    /// The error where so much more cannot be kept.
    pub(super) fn keep(&mut self, lent: &Lent, more: usize) -> Option<Box<ClientError>> {
        let used = self.names.bytes() + self.in_band.asking.bytes() + self.memory.settings;
        self.memory.keep(used + lent.kept(), more).err()
    }
}

impl Lent {
    /// Bytes that are kept for the transaction.
    pub(super) fn kept(&self) -> usize {
        let script = self.script.as_ref().map_or(0, |script| script.text.len());
        self.portals.bytes() + script + self.touched.bytes()
    }
}

/// The error for a `Bind` that begins so, if its portal would be too much to keep.
pub(super) fn portal_refused(
    lent: &Lent,
    parts: &mut Parts<'_>,
    head: &[u8],
) -> Option<Box<ClientError>> {
    let (portal, _) = split_cstr(head)?;
    if portal.is_empty() { None } else { parts.keep(lent, portal.len() + OVERHEAD) }
}

/// The answer where a session keeps too much.
pub(super) fn exceeded(wanted: usize, limit: usize) -> ClientError {
    let message =
        format!("this session would keep {wanted} bytes of statements, portals and settings");
    ClientError::error("53400", "C017", message).hint(format!(
        "At most {limit} (max_session_memory). Close what is not needed; the operator can raise it."
    ))
}

fn tenant_exceeded(more: usize, limit: usize) -> ClientError {
    let message = format!("{more} more bytes are too many to keep for the sessions of this tenant");
    ClientError::error("53400", "C018", message).hint(format!(
        "At most {limit} (max_tenant_memory). Close prepared statements or sessions; the operator \
         can raise it."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_so_much_and_no_more() {
        let mut memory = Memory::new(100, None);
        assert!(memory.keep(0, 100).is_ok() && memory.keep(60, 40).is_ok());
        let refused = memory.keep(60, 41).unwrap_err();
        assert_eq!((refused.sqlstate, refused.code), ("53400", "C017"));
        assert!(refused.message.contains("101"), "{}", refused.message);
    }
}
