//! A sorted map whose clones share what has not changed since.
//!
//! Each record that is folded makes a new state while somebody may still hold the older one. With a plain map each record would copy
//! all connectors; here it copies one chunk, and the list of chunks.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Entries of a chunk. One change copies as many, and a pointer for each chunk.
const CHUNK: usize = 64;

/// See the module. Keys are cheap to clone, or few.
#[derive(Clone)]
pub(super) struct SharedMap<K, V> {
    /// Each of them sorted, none of them empty, each below the next one.
    chunks: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

/// Entries in the order of keys.
pub(super) struct Iter<'a, K, V> {
    chunks: std::slice::Iter<'a, Arc<Vec<(K, V)>>>,
    chunk: std::slice::Iter<'a, (K, V)>,
    left: usize,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.chunk.next() {
                self.left -= 1;
                return Some((key, value));
            }
            self.chunk = self.chunks.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        SharedMap { chunks: Vec::new(), len: 0 }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    /// Where chunks begin says nothing.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K, V> SharedMap<K, V> {
    /// All entries.
    pub(super) fn iter(&self) -> Iter<'_, K, V> {
        Iter { chunks: self.chunks.iter(), chunk: [].iter(), left: self.len }
    }

    /// Where a key stands or would stand: its chunk, and the place in it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let behind = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|(first, _)| first.borrow() <= key));
        let index = behind.saturating_sub(1);
        let place = self.chunks.get(index).map(|chunk| chunk.binary_search_by(|(other, _)| other.borrow().cmp(key)));
        (index, place.unwrap_or(Err(0)))
    }

    /// The value of a key.
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (index, place) = self.find(key);
        Some(&self.chunks.get(index)?.get(place.ok()?)?.1)
    }

    /// The entries of this key and those behind it.
    pub(super) fn iter_from<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = (&K, &V)> + use<'_, K, V, Q>
    where
        K: Borrow<Q>,
    {
        let (index, Ok(place) | Err(place)) = self.find(key);
        let behind = self.chunks.get(index..).unwrap_or_default();
        behind.iter().flat_map(|chunk| chunk.iter()).skip(place).map(|(key, value)| (key, value))
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Sets the value of a key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let (index, place) = self.find(&key);
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match place {
            Ok(place) => chunk[place].1 = value,
            Err(place) => {
                chunk.insert(place, (key, value));
                self.len += 1;
            }
        }
        if chunk.len() > CHUNK {
            let rest = chunk.split_off(CHUNK / 2);
            self.chunks.insert(index + 1, Arc::new(rest));
        }
    }

    /// Removes a key, if it is there.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let (index, Ok(place)) = self.find(key) else { return };
        let chunk = Arc::make_mut(&mut self.chunks[index]);
        chunk.remove(place);
        self.len -= 1;
        // What is left of many removals must not be a chunk for each entry.
        if let Some(next) = self.chunks.get(index + 1)
            && self.chunks[index].len() + next.len() <= CHUNK / 2
        {
            let next = self.chunks.remove(index + 1);
            Arc::make_mut(&mut self.chunks[index]).extend(next.iter().cloned());
        }
        if self.chunks[index].is_empty() {
            self.chunks.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(map: &SharedMap<u32, u32>, expected: &BTreeMap<u32, u32>) {
        assert_eq!(map.iter().len(), expected.len());
        assert!(map.iter().eq(expected.iter()));
        assert!(map.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK));
        assert!(map.chunks.len() <= 1 + 4 * expected.len() / CHUNK, "{} chunks", map.chunks.len());
    }

    #[test]
    fn is_a_sorted_map_and_older_clones_stay_as_they_were() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut map, mut expected) = (SharedMap::default(), BTreeMap::new());
            let mut older = Vec::new();
            for step in 0..2_000_u32 {
                let key = rng.u32(0..500);
                // It grows first and shrinks then.
                if rng.u32(0..2_000) < step {
                    map.remove(&key);
                    expected.remove(&key);
                } else {
                    map.insert(key, step);
                    expected.insert(key, step);
                }
                assert_eq!(map.get(&key), expected.get(&key));
                let from = rng.u32(0..600);
                assert!(map.iter_from(&from).take(3).eq(expected.range(from..).take(3)));
                if step % 100 == 0 {
                    check(&map, &expected);
                    older.push((map.clone(), expected.clone()));
                }
            }
            older.iter().for_each(|(map, expected)| check(map, expected));
        }
    }

    #[test]
    fn equal_is_what_holds_the_same_however_it_came_to_be() {
        let (mut up, mut down) = (SharedMap::default(), SharedMap::default());
        for key in 0..1_000_u32 {
            up.insert(key, ());
            down.insert(999 - key, ());
        }
        assert_eq!(up, down);
        down.remove(&500);
        assert_ne!(up, down);
        up.remove(&500);
        up.remove(&500);
        assert_eq!(up, down);
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let mut map = SharedMap::default();
        (0..3_000_u32).for_each(|key| map.insert(key, ()));
        let older = map.clone();
        map.insert(1_500, ());
        let shared = |chunk: &&Arc<_>| older.chunks.iter().any(|other| Arc::ptr_eq(chunk, other));
        assert_eq!(map.chunks.iter().filter(shared).count(), map.chunks.len() - 1);
    }
}
