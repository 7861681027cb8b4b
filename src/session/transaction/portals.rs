//! What the portals of one transaction run.

use std::collections::HashMap;

use super::memory::OVERHEAD;
use crate::statement::Kind;

/// What the portals of one transaction run.
#[derive(Debug, Default)]
pub(super) struct Portals {
    unnamed: Option<Kind>,
    named: HashMap<Box<[u8]>, Kind>,
    /// What the named ones take.
    bytes: usize,
}

impl Portals {
    pub(super) fn insert(&mut self, name: &[u8], kind: Kind) {
        if name.is_empty() {
            self.unnamed = Some(kind);
        } else {
            let before = self.named.insert(name.into(), kind);
            self.bytes += if before.is_none() { name.len() + OVERHEAD } else { 0 };
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            let was_there = self.named.remove(name).is_some();
            self.bytes -= if was_there { name.len() + OVERHEAD } else { 0 };
        }
    }

    /// Bytes that are kept for them.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What `Execute` of a portal runs; of one that we have not seen, anything.
    pub(super) fn get(&self, name: &[u8]) -> Kind {
        let found = if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) };
        found.cloned().unwrap_or(Kind::Other)
    }
}
