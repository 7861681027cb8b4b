//! What transaction pooling keeps for a client.

use super::from_client::Parts;
use super::relay::Lent;
use crate::protocol::ClientError;
use crate::protocol::frame::split_cstr;

pub(super) use crate::session::memory::{Memory, exceeded};

/// What a name or a value takes besides its bytes.
pub(super) const OVERHEAD: usize = 256;

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
