//! What can be built as soon as the rows of one table are in, while others still load: its own indexes, and the constraints that are
//! indexes. What speaks of other tables too, or of something that is built later itself, waits for the rest.

use super::archive::entry::{Entry, Section};
use super::archive::head::Head;
use super::pick;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What of the head depends on the rows of one table and on nothing else that comes behind rows: their numbers, in the order of the
/// archive.
///
/// A constraint of this kind is a primary key, a unique one or an exclusion; checks and foreign keys are of other kinds.
pub fn of(head: &Head, rows: &Entry) -> Vec<i32> {
    let by_id: HashMap<i32, &Entry> = head.entries.iter().map(|e| (e.dump_id, e)).collect();
    // An index of several columns names its table several times.
    let tables = |e: &Entry| -> BTreeSet<i32> {
        e.depends.iter().filter(|id| by_id.get(id).is_some_and(|d| d.is("TABLE"))).copied().collect()
    };
    let table = tables(rows);
    let early = |e: &Entry| {
        e.section() == Section::PostData
            && (e.is("INDEX") || e.is("CONSTRAINT"))
            && e.depends.iter().all(|id| by_id.get(id).is_none_or(|d| d.section() == Section::PreData))
    };
    if table.len() != 1 {
        return Vec::new();
    }
    head.entries.iter().filter(|e| early(e) && tables(e) == table).map(|e| e.dump_id).collect()
}

/// A head that builds only this, with what goes with it.
pub fn only(head: &Head, id: i32) -> Head {
    /// Settings of the whole archive, without which names and texts would be read otherwise.
    const SETTINGS: &[&str] = &["ENCODING", "STDSTRINGS", "SEARCHPATH"];
    head.only(|e| match e.section() {
        Section::None => e.depends.contains(&id),
        _ => e.dump_id == id || SETTINGS.iter().any(|desc| e.is(desc)),
    })
}

/// The head without these, and without what goes with them.
pub fn without(head: &Head, ids: &HashSet<i32>) -> Head {
    pick::keep(head, |e| !ids.contains(&e.dump_id))
}
