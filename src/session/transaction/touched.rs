//! The names of settings that a transaction's statements have changed.

use std::collections::BTreeSet;

use super::memory::OVERHEAD;
use crate::scan;

/// A set of names that knows what it takes to keep.
#[derive(Debug, Default)]
pub(super) struct Touched {
    names: BTreeSet<String>,
    bytes: usize,
}

impl Touched {
    pub(super) fn insert(&mut self, name: String) {
        scan::step(1);
        let more = name.len() + OVERHEAD;
        if self.names.insert(name) {
            self.bytes += more;
        }
    }

    pub(super) fn extend(&mut self, names: impl IntoIterator<Item = String>) {
        names.into_iter().for_each(|name| self.insert(name));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What is kept for them.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes all of them, in order.
    pub(super) fn take(&mut self) -> Vec<String> {
        self.bytes = 0;
        std::mem::take(&mut self.names).into_iter().collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_once_for_each_name() {
        let mut touched = Touched::default();
        touched.extend(["a".to_owned(), "bc".to_owned(), "a".to_owned()]);
        assert_eq!(touched.bytes(), 3 + 2 * OVERHEAD);
        assert_eq!(touched.take(), ["a", "bc"]);
        assert_eq!((touched.bytes(), touched.is_empty()), (0, true));
        touched.insert("a".to_owned());
        touched.clear();
        assert_eq!(touched.bytes(), 0);
    }
}
