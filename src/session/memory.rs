//! What is kept on a client's behalf, in bytes, and how much that may be.

use std::sync::Arc;

use super::Terms;
use crate::protocol::ClientError;
use crate::tenant::Pot;

/// Counts what is kept for a session, and for its tenant.
#[derive(Debug)]
pub(in crate::session) struct Memory {
    limit: usize,
    /// So much of it is counted for the tenant.
    counted: usize,
    tenant: Option<Arc<Pot>>,
    /// The client's settings, which go along to its next server connection.
    pub(in crate::session) settings: usize,
}

impl Memory {
    /// Nothing is kept yet for a session, which may keep so much.
    pub(in crate::session) fn of(terms: &Terms, limit: usize) -> Self {
        let member = terms.identity.member();
        Self::new(limit, member.map(|member| Arc::clone(member.memory())))
    }

    const fn new(limit: usize, tenant: Option<Arc<Pot>>) -> Self {
        Self { limit, counted: 0, tenant, settings: 0 }
    }

    /// Most bytes.
    pub(in crate::session) const fn limit(&self) -> usize {
        self.limit
    }

    /// Counts what is kept, and what is to be kept on top of that.
    pub(in crate::session) fn keep(
        &mut self,
        used: usize,
        more: usize,
    ) -> Result<(), Box<ClientError>> {
        let wanted = used.saturating_add(more);
        if wanted > self.limit {
            return Err(Box::new(exceeded(wanted, self.limit)));
        }
        let Some(tenant) = &self.tenant else { return Ok(()) };
        if !tenant.exchange(self.counted, wanted) {
            return Err(Box::new(tenant_exceeded(more, tenant)));
        }
        self.counted = wanted;
        Ok(())
    }

    /// Counts what is kept, when that may have become less.
    pub(in crate::session) fn settle(&mut self, used: usize) {
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

/// The answer where a session keeps too much.
pub(in crate::session) fn exceeded(wanted: usize, limit: usize) -> ClientError {
    let message =
        format!("this session would keep {wanted} bytes of statements, portals and settings");
    ClientError::error("53400", "C017", message).hint(format!(
        "At most {limit} (max_session_memory). Close what is not needed; the operator can raise it."
    ))
}

fn tenant_exceeded(more: usize, pot: &Pot) -> ClientError {
    let (whose, limit) = (pot.whose, pot.limit());
    let message = format!("{more} more bytes are too many to keep for the sessions of {whose}");
    ClientError::error("53400", "C018", message).hint(format!(
        "At most {limit} (max_tenant_memory). Close prepared statements or sessions, and send long \
         texts in fewer of them at a time; the operator can raise it."
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
