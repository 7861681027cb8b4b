//! A map of limited size, which forgets what nobody has asked for lately.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Remembers at most `limit` values.
///
/// There are two halves, and whatever is added or found is in the younger one. When that is full it
/// becomes the older one, which is forgotten: a value is kept for as long as it is asked for before
/// half of the limit of other ones are.
pub struct Recent<K, V> {
    half: usize,
    halves: Mutex<Halves<K, V>>,
}

struct Halves<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// An empty map for so many values.
    pub fn new(limit: usize) -> Self {
        let halves = Mutex::new(Halves { young: HashMap::new(), old: HashMap::new() });
        Self { half: (limit / 2).max(1), halves }
    }

    /// The value of `key`, if it is still remembered.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut halves = self.lock();
        if let Some(value) = halves.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = halves.old.remove_entry(key)?;
        let found = value.clone();
        let forgotten = halves.put(key, value, self.half);
        drop(halves);
        drop(forgotten);
        Some(found)
    }

    /// Remembers a value, in place of the one before.
    pub fn insert(&self, key: K, value: V) {
        let mut halves = self.lock();
        halves.old.remove(&key);
        let forgotten = halves.put(key, value, self.half);
        // Thousands of values may go: nobody has to wait for that.
        drop(halves);
        drop(forgotten);
    }

    /// Forgets a value.
    pub fn remove(&self, key: &K) {
        let mut halves = self.lock();
        halves.young.remove(key);
        halves.old.remove(key);
    }

    /// Forgets the values that are not to be kept.
    pub fn retain(&self, keep: impl Fn(&V) -> bool) {
        let mut halves = self.lock();
        halves.young.retain(|_, value| keep(value));
        halves.old.retain(|_, value| keep(value));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.retain(|_| false);
    }

    fn lock(&self) -> MutexGuard<'_, Halves<K, V>> {
        // Whoever panicked meanwhile left whole values behind.
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Halves<K, V> {
    /// Returns what is forgotten in exchange.
    fn put(&mut self, key: K, value: V, half: usize) -> HashMap<K, V> {
        let forgotten = if self.young.len() >= half && !self.young.contains_key(&key) {
            std::mem::replace(&mut self.old, std::mem::take(&mut self.young))
        } else {
            HashMap::new()
        };
        self.young.insert(key, value);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(recent: &Recent<u32, u32>) -> usize {
        let halves = recent.lock();
        halves.young.len() + halves.old.len()
    }

    #[test]
    fn it_holds_no_more_than_its_limit() {
        let recent = Recent::new(10);
        for key in 0..1000 {
            recent.insert(key, key);
            recent.get(&(key / 2));
            assert!(len(&recent) <= 10, "{key}");
        }
        assert_eq!(recent.get(&999), Some(999));
        assert_eq!(recent.get(&0), None);
    }

    #[test]
    fn what_is_asked_for_stays() {
        let recent = Recent::new(10);
        recent.insert(0, 0);
        for key in 1..1000 {
            recent.insert(key, key);
            assert_eq!(recent.get(&0), Some(0), "{key}");
        }
    }

    #[test]
    fn a_key_has_one_value() {
        let recent = Recent::new(4);
        for value in 0..4 {
            recent.insert(7, value);
            recent.insert(value, value);
            assert_eq!(recent.get(&7), Some(value));
        }
        recent.remove(&7);
        assert_eq!(recent.get(&7), None);
        let recent = Recent::new(8);
        (0..6).for_each(|key| recent.insert(key, key % 2));
        recent.retain(|value| *value == 1);
        assert_eq!((recent.get(&2), recent.get(&3)), (None, Some(1)));
        recent.clear();
        assert_eq!(len(&recent), 0);
    }
}
