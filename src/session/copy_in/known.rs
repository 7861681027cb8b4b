//! The statements and portals of a session that are a COPY FROM STDIN, where the client's names are
//! the server's.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::scan;
use crate::statement::{self, CopyFrom, Kind, Lexis, Surroundings};

/// A COPY FROM STDIN.
#[derive(Debug)]
pub(in crate::session) struct Known {
    pub(in crate::session) text: Bytes,
    pub(in crate::session) copy: CopyFrom,
}

/// Statements that are known at a time; of more, and of portals, the newest are not. Postgres then
/// gets them as they are.
const MOST: usize = 64;

/// Longer texts are not looked at.
pub(in crate::session) const LONGEST: usize = 64 * 1024;

/// What the client has prepared and bound.
#[derive(Debug, Default)]
pub(in crate::session) struct KnownCopies {
    statements: HashMap<Box<[u8]>, Arc<Known>>,
    portals: HashMap<Box<[u8]>, Arc<Known>>,
}

impl Known {
    /// Reads a text of one statement.
    pub(in crate::session) fn read(text: &[u8], lexis: Lexis) -> Option<Self> {
        if !may_copy(text) {
            return None;
        }
        let next = statement::next(text, lexis, &Surroundings::default());
        if next.reading.kind != Kind::CopyFromStdin || next.rest < text.len() {
            return None;
        }
        let statement = text.get(next.statement)?;
        let copy = CopyFrom::read(statement)?;
        Some(Self { text: Bytes::copy_from_slice(statement), copy })
    }

    /// Whether a statement of a text is one that can be read here.
    pub(in crate::session) fn is_among(text: &[u8], lexis: Lexis) -> bool {
        let mut rest = if may_copy(text) { text } else { &[] };
        while !rest.is_empty() {
            let next = statement::next(rest, lexis, &Surroundings::default());
            if next.reading.kind == Kind::CopyFromStdin
                && rest.get(next.statement).and_then(CopyFrom::read).is_some()
            {
                return true;
            }
            rest = rest.get(next.rest.max(1)..).unwrap_or_default();
        }
        false
    }
}

fn may_copy(text: &[u8]) -> bool {
    text.len() <= LONGEST
        && scan::contains_word(text, b"copy")
        && (scan::contains_word(text, b"stdin") || scan::contains_word(text, b"stdout"))
}

impl KnownCopies {
    /// Nothing of it can be relied on any more.
    pub(in crate::session) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A `Bind` of this portal goes out, to a statement of this text.
    pub(in crate::session) fn bound_to(&mut self, portal: &[u8], known: Option<Known>) {
        self.portals.remove(portal);
        if let Some(known) = known.filter(|_| self.portals.len() < MOST) {
            self.portals.insert(portal.into(), Arc::new(known));
        }
    }

    /// Bytes that are kept for portals.
    pub(in crate::session) fn portal_bytes(&self) -> usize {
        self.portals.values().map(|known| known.text.len()).sum()
    }

    pub(in crate::session) fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.portals.is_empty()
    }

    /// A `Parse` of this name goes out.
    pub(in crate::session) fn parsed(&mut self, name: &[u8], known: Option<Known>) {
        self.statements.remove(name);
        if let Some(known) = known.filter(|_| self.statements.len() < MOST) {
            self.statements.insert(name.into(), Arc::new(known));
        }
    }

    /// A `Bind` of these names goes out.
    pub(in crate::session) fn bound(&mut self, portal: &[u8], statement: &[u8]) {
        self.portals.remove(portal);
        if let Some(known) = self.statements.get(statement).filter(|_| self.portals.len() < MOST) {
            self.portals.insert(portal.into(), Arc::clone(known));
        }
    }

    /// A `Close` goes out.
    pub(in crate::session) fn closed(&mut self, kind: u8, name: &[u8]) {
        match kind {
            b'S' => self.statements.remove(name),
            _ => self.portals.remove(name),
        };
    }

    /// A `Query` goes out.
    pub(in crate::session) fn queried(&mut self) {
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
    }

    /// A transaction is over, and its portals with it.
    pub(in crate::session) fn ended(&mut self) {
        self.portals.clear();
    }

    /// What `Execute` of a portal would run.
    pub(in crate::session) fn portal(&self, name: &[u8]) -> Option<Arc<Known>> {
        self.portals.get(name).map(Arc::clone)
    }
}
