//! What of a relay a message of the client's may change.

use bytes::BytesMut;

use super::identity::InBand;
use super::memory::Memory;
use super::names::{Names, Statements};
use super::relay::{Lent, Relay};
use crate::guard::Guard;

/// What of a relay a message may change besides the server connection.
pub(super) struct Parts<'a> {
    pub(super) names: &'a mut Names,
    pub(super) statements: &'a Statements,
    /// To the client.
    pub(super) out: &'a mut BytesMut,
    pub(super) pins: bool,
    pub(super) max_prepared: usize,
    pub(super) guard: Option<&'a Guard>,
    pub(super) in_band: &'a mut InBand,
    pub(super) memory: &'a mut Memory,
}

impl Relay<'_> {
    /// The server connection, what else a message may change, and what the client has sent. `None`:
    /// there is no server connection.
    pub(super) fn parts(&mut self) -> Option<(&mut Lent, Parts<'_>, &BytesMut)> {
        let parts = Parts {
            names: &mut self.names,
            statements: self.statements,
            out: &mut self.client.outgoing,
            pins: self.pins,
            max_prepared: self.max_prepared,
            guard: self.guard,
            in_band: &mut self.in_band,
            memory: &mut self.memory,
        };
        Some((self.lent.as_deref_mut()?, parts, &self.client.incoming))
    }
}
