//! The order of paths in a tree.

use std::cmp::Ordering;

/// Compares paths component by component: `a/b` comes before `a-b`, since the directory `a` is over before.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |c: &u8| if *c == b'/' { 0 } else { u16::from(*c) + 1 };
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(i) => rank(&a[i]).cmp(&rank(&b[i])),
        None => a.len().cmp(&b.len()),
    }
}

/// Whether a path of an index is this one or lies below it; `.`, the root directory, has all below it.
pub fn below(path: &[u8], root: &[u8]) -> bool {
    root == b"." || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
