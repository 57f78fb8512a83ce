//! A map of bounded size that forgets the keys that were not used for longest. A new key always fits.

use std::collections::HashMap;
use std::hash::Hash;

/// Remembers the values of at least half of `capacity` keys, those used last, and of at most `capacity`.
pub(super) struct RecentMap<K, V> {
    /// Keys used since the last exchange of generations.
    young: HashMap<K, V>,
    /// Keys used in the generation before; forgotten when `young` is full.
    old: HashMap<K, V>,
    capacity: usize,
}

impl<K: Eq + Hash, V: Copy> RecentMap<K, V> {
    /// An empty map of at most `capacity` keys.
    pub(super) fn new(capacity: usize) -> RecentMap<K, V> {
        RecentMap { young: HashMap::new(), old: HashMap::new(), capacity }
    }

    /// The value of `key`, if it is remembered.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Sets the value of `key`, which makes it one of those used last.
    pub(super) fn set(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// The keys that are remembered; one in both generations counts twice.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_used_last_are_remembered_and_no_more_than_the_capacity() {
        let mut map = RecentMap::new(10);
        for key in 0..1000u32 {
            map.set(0, 0);
            map.set(key, key);
            assert!(map.len() <= 10);
            assert_eq!(map.get(&key), Some(key));
            assert_eq!(map.get(&0), Some(0), "a key in use is never forgotten");
            assert!((key.saturating_sub(3)..key).all(|k| map.get(&k) == Some(k)), "{key}");
        }
        assert_eq!(map.get(&1), None);
    }
}
