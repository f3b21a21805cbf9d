//! Parts of a tree, and which segments can hold them.
//!
//! The entries of a tree come in path order, so the members at and below a path stand side by side, and the first paths
//! of the segments tell where. Our writer refuses a member out of that order. Where the first paths themselves
//! contradict it, every segment is read: slower, and never wrong.

use super::segment::{Bytes, SegmentRef};
use crate::model::paths::{below, compare};
use std::cmp::Ordering;

/// The members of a tree at and below some paths.
#[derive(Clone, Debug)]
pub struct Selection {
    roots: Vec<Vec<u8>>,
}

impl Selection {
    /// What lies at and below these paths, which are as the index has them; `.` is everything.
    pub fn new(roots: Vec<Vec<u8>>) -> Self {
        Selection { roots }
    }

    /// The same for one path.
    pub fn of(root: impl Into<Vec<u8>>) -> Self {
        Selection { roots: vec![root.into()] }
    }

    /// The paths.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// Whether it is everything.
    pub fn is_whole(&self) -> bool {
        self.roots.iter().any(|root| root == b".")
    }

    /// Whether a member belongs to it.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|root| below(path, root))
    }

    /// The segments of a tree that can hold members of this selection, in their order.
    pub fn segments(&self, tree: &[SegmentRef]) -> Vec<SegmentRef> {
        if !tree.is_sorted_by(|a, b| order(a.first.as_ref(), b.first.as_ref()).is_le()) {
            return tree.to_vec();
        }
        let holds = |i: usize| self.roots.iter().any(|root| may_hold(&tree[i], tree.get(i + 1), root));
        (0..tree.len()).filter(|i| holds(*i)).map(|i| tree[i].clone()).collect()
    }
}

/// Whether a segment, behind which another one follows, can hold something at or below a path.
fn may_hold(segment: &SegmentRef, next: Option<&SegmentRef>, root: &[u8]) -> bool {
    if root == b"." {
        return true;
    }
    let place = |s: &SegmentRef| match &s.first {
        // The root directory comes before everything, and what has no path (the end of the tar) after it.
        Some(first) if first.0 == b"." => Ordering::Less,
        Some(first) if below(&first.0, root) => Ordering::Equal,
        Some(first) => compare(&first.0, root),
        None => Ordering::Greater,
    };
    // A segment that begins behind the last path below the root has nothing of it, and neither has one whose follower
    // begins before the root. A follower that begins within it proves nothing: it may go on with a divided file.
    place(segment).is_le() && next.is_none_or(|n| place(n).is_ge())
}

/// The order of the paths of entries: the root directory, paths, and what has none.
pub fn order(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    let rank = |first: Option<&Bytes>| first.map_or(2, |p| u8::from(p.0 != b"."));
    match (a, b) {
        (Some(x), Some(y)) if rank(a) == rank(b) => compare(&x.0, &y.0),
        _ => rank(a).cmp(&rank(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PackId, PackKey};
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeSet;

    fn reference(n: usize, first: Option<&[u8]>) -> SegmentRef {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let object = PackKey { id: PackId(id), generation: 0 };
        SegmentRef { object, sealed: 0, crc: 0, entries: 0, bytes: 0, first: first.map(|p| Bytes(p.to_vec())) }
    }

    /// Names that sort differently with and without the separator, that begin with each other, and that are no UTF-8.
    const NAMES: [&[u8]; 16] = [
        b"a", b"a-", b"a-b", b"a.b", b"a b", b"a!", b"aa", b"a0", b"ab", b"b", b".", b".x", b"-", b"\x01", b"\xff",
        b"a\x80",
    ];

    fn random_tree(random: &mut StdRng) -> Vec<Vec<u8>> {
        let mut paths = BTreeSet::new();
        for _ in 0..random.random_range(1..60) {
            let mut path: Vec<u8> = Vec::new();
            for depth in 0..random.random_range(1..5) {
                let name = NAMES.choose(random).unwrap();
                // No file has this name; at the top it is the root directory.
                if *name == b"." {
                    continue;
                }
                if depth > 0 && !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                paths.insert(path.clone());
            }
        }
        paths.insert(b"b/a".to_vec());
        let mut paths: Vec<Vec<u8>> = paths.into_iter().collect();
        paths.sort_by(|a, b| compare(a, b));
        if random.random_bool(0.5) {
            paths.insert(0, b".".to_vec());
        }
        paths
    }

    /// Members, some of them with entries that go on with them, cut anywhere, with the tar's end in a segment of its own
    /// or behind the last one.
    fn cut(random: &mut StdRng, paths: &[Vec<u8>]) -> Vec<(SegmentRef, Vec<Option<Vec<u8>>>)> {
        let mut entries: Vec<Option<Vec<u8>>> = Vec::new();
        for path in paths {
            let parts = if random.random_bool(0.1) { random.random_range(2..6) } else { 1 };
            entries.extend(std::iter::repeat_n(Some(path.clone()), parts));
        }
        entries.push(None);
        let mut segments: Vec<Vec<Option<Vec<u8>>>> = vec![Vec::new()];
        for entry in entries {
            if segments.last().is_some_and(|s| !s.is_empty()) && random.random_bool(0.4) {
                segments.push(Vec::new());
            }
            segments.last_mut().unwrap().push(entry);
        }
        segments.into_iter().enumerate().map(|(i, s)| (reference(i, s[0].as_deref()), s)).collect()
    }

    #[test]
    fn the_narrowed_segments_hold_all_that_the_whole_tree_holds_of_any_path() {
        for seed in 0..3000 {
            let mut random = StdRng::seed_from_u64(seed);
            let paths = random_tree(&mut random);
            let tree = cut(&mut random, &paths);
            let references: Vec<SegmentRef> = tree.iter().map(|(r, _)| r.clone()).collect();
            let mut roots: Vec<Vec<u8>> =
                (0..random.random_range(1..4)).map(|_| paths.choose(&mut random).unwrap().clone()).collect();
            // Also what is not there.
            if random.random_bool(0.3) {
                roots[0].extend_from_slice(NAMES.choose(&mut random).unwrap());
            }
            let selection = Selection::new(roots.clone());
            let wanted = |e: &&Option<Vec<u8>>| e.as_ref().is_some_and(|p| selection.contains(p));
            let all: Vec<_> = tree.iter().flat_map(|(_, s)| s).filter(wanted).collect();
            let narrowed: Vec<_> = selection.segments(&references).iter().map(|r| r.object).collect();
            let found: Vec<_> =
                tree.iter().filter(|(r, _)| narrowed.contains(&r.object)).flat_map(|(_, s)| s).filter(wanted).collect();
            assert_eq!(found, all, "seed {seed}: {roots:?} in {paths:?}");
            // And little more: at most one segment on either side of what holds something, for each path.
            let holding = tree.iter().filter(|(_, s)| s.iter().any(|e| wanted(&e))).count();
            assert!(narrowed.len() <= holding + 2 * roots.len(), "seed {seed}: {roots:?} in {paths:?}");
        }
    }

    #[test]
    fn one_file_in_a_thousand_segments_is_in_one_of_them() {
        let tree: Vec<SegmentRef> = (0..1000).map(|n| reference(n, Some(format!("d/{n:04}").as_bytes()))).collect();
        let found = Selection::of(*b"d/0500x").segments(&tree);
        assert_eq!(found.iter().map(|s| s.first.clone().unwrap().0).collect::<Vec<_>>(), [b"d/0500"]);
        assert_eq!(Selection::of(*b"d").segments(&tree).len(), 1000);
        assert_eq!(Selection::of(*b".").segments(&tree).len(), 1000);
        assert_eq!(Selection::of(*b"e").segments(&tree).len(), 1);
    }

    #[test]
    fn a_tree_that_is_not_in_order_is_read_in_full() {
        // In the order of bytes, which is not that of components.
        let tree: Vec<SegmentRef> =
            [&b"a"[..], b"a-b", b"a/b"].iter().enumerate().map(|(n, p)| reference(n, Some(p))).collect();
        assert_eq!(Selection::of(*b"a/b").segments(&tree).len(), 3);
    }
}
