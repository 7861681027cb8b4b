//! What the portals of one transaction run.

use std::collections::HashMap;
use std::sync::Arc;

use super::memory::OVERHEAD;
use super::told::Known;
use crate::session::copy_in::KnownCopies;
use crate::statement::Kind;

/// What the portals of one transaction run.
#[derive(Debug, Default)]
pub(super) struct Portals {
    unnamed: Option<Portal>,
    named: HashMap<Box<[u8]>, Portal>,
    /// Those that copy.
    pub(super) copies: KnownCopies,
    /// What the named ones take.
    bytes: usize,
}

/// What a portal runs, and the client's statement that it was made of.
type Portal = (Kind, Option<Arc<Known>>);

impl Portals {
    pub(super) fn insert(&mut self, name: &[u8], kind: Kind, known: Option<Arc<Known>>) {
        if name.is_empty() {
            self.unnamed = Some((kind, known));
        } else {
            let before = self.named.insert(name.into(), (kind, known));
            self.bytes += if before.is_none() { name.len() + OVERHEAD } else { 0 };
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.copies.closed(b'P', name);
        if name.is_empty() {
            self.unnamed = None;
        } else {
            let was_there = self.named.remove(name).is_some();
            self.bytes -= if was_there { name.len() + OVERHEAD } else { 0 };
        }
    }

    /// Bytes that are kept for them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.copies.portal_bytes()
    }

    /// What `Execute` of a portal runs; of one that we have not seen, anything.
    pub(super) fn get(&self, name: &[u8]) -> Kind {
        self.find(name).map_or(Kind::Other, |(kind, _)| kind.clone())
    }

    /// The client's statement that a portal was made of.
    pub(super) fn known(&self, name: &[u8]) -> Option<Arc<Known>> {
        self.find(name)?.1.clone()
    }

    fn find(&self, name: &[u8]) -> Option<&Portal> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }
}
