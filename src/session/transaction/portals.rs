//! What the portals of one transaction run.

use std::collections::HashMap;

use crate::statement::Kind;

/// What the portals of one transaction run.
#[derive(Debug, Default)]
pub(super) struct Portals {
    unnamed: Option<Kind>,
    named: HashMap<Box<[u8]>, Kind>,
}

impl Portals {
    pub(super) fn insert(&mut self, name: &[u8], kind: Kind) {
        if name.is_empty() {
            self.unnamed = Some(kind);
        } else {
            self.named.insert(name.into(), kind);
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(name);
        }
    }

    /// What `Execute` of a portal runs; of one that we have not seen, anything.
    pub(super) fn get(&self, name: &[u8]) -> Kind {
        let found = if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) };
        found.cloned().unwrap_or(Kind::Other)
    }
}
