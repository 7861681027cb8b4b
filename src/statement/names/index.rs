//! Which lists a name is on, found in one step.

use super::super::functions;
use super::{RESERVED, UNRESERVED};

/// The lists that a name is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lists(u8);

impl Lists {
    pub(super) const DOUBTFUL: Self = Self(1);
    pub(super) const HARMLESS: Self = Self(2);
    pub(super) const LOCKS: Self = Self(4);
    pub(super) const RESERVED: Self = Self(8);
    pub(super) const UNRESERVED: Self = Self(16);
    const NONE: Self = Self(0);

    /// Those of a name in lower case.
    pub(super) fn of(name: &str) -> Self {
        let mut at = slot(name.as_bytes());
        while let Some((found, lists)) = INDEX.get(at) {
            if *found == name {
                return *lists;
            }
            if found.is_empty() {
                break;
            }
            at = (at + 1) % SLOTS;
        }
        Self::NONE
    }

    pub(super) const fn has(self, list: Self) -> bool {
        self.0 & list.0 != 0
    }
}

/// More than twice the names, so that few of them are not in the slot of their own.
const SLOTS: usize = 4096;

static INDEX: [(&str, Lists); SLOTS] = {
    let mut index = [("", Lists::NONE); SLOTS];
    insert(&mut index, functions::DOUBTFUL, Lists::DOUBTFUL);
    insert(&mut index, functions::HARMLESS, Lists::HARMLESS);
    insert(&mut index, functions::LOCKS, Lists::LOCKS);
    insert(&mut index, RESERVED, Lists::RESERVED);
    insert(&mut index, UNRESERVED, Lists::UNRESERVED);
    index
};

const fn insert(index: &mut [(&str, Lists); SLOTS], names: &[&'static str], list: Lists) {
    let mut next = 0;
    while next < names.len() {
        let name = names[next];
        let mut at = slot(name.as_bytes());
        while !index[at].0.is_empty() && !is_same(index[at].0, name) {
            at = (at + 1) % SLOTS;
        }
        index[at] = (name, Lists(index[at].1.0 | list.0));
        next += 1;
    }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

const fn slot(name: &[u8]) -> usize {
    let mut hash = 0_u32;
    let mut rest = name;
    while let [first, others @ ..] = rest {
        hash = (hash ^ *first as u32).wrapping_mul(0x0100_0193);
        rest = others;
    }
    (hash ^ hash >> 15) as usize % SLOTS
}
