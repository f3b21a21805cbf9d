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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i32, section: Section, desc: &str, depends: &[i32]) -> Entry {
        Entry::of_statement(id, section, desc, &format!("n{id}"), Vec::new(), depends.to_vec())
    }

    fn head() -> Head {
        use Section::{Data, None, PostData, PreData};
        Head::of_entries(
            "db",
            "15",
            vec![
                entry(1, PreData, "ENCODING", &[]),
                entry(2, PreData, "FUNCTION", &[]),
                entry(10, PreData, "TABLE", &[]),
                entry(11, PreData, "TABLE", &[]),
                entry(12, PreData, "COMMENT", &[10]),
                entry(20, Data, "TABLE DATA", &[10]),
                entry(30, PostData, "CONSTRAINT", &[10]),
                // Of two columns, one of them by a function.
                entry(31, PostData, "INDEX", &[10, 10, 2]),
                entry(32, None, "COMMENT", &[31]),
                entry(33, PostData, "INDEX", &[11]),
                entry(34, PostData, "INDEX", &[10, 11]),
                entry(35, PostData, "INDEX", &[10, 30]),
                entry(36, PostData, "INDEX ATTACH", &[31, 33]),
                entry(37, PostData, "FK CONSTRAINT", &[10, 11, 30]),
                entry(38, PostData, "TRIGGER", &[10]),
            ],
        )
    }

    fn ids(head: &Head) -> Vec<i32> {
        head.entries.iter().map(|e| e.dump_id).collect()
    }

    #[test]
    fn indexes_of_the_table_alone_need_not_wait() {
        let head = head();
        let rows = head.entries.iter().find(|e| e.dump_id == 20).unwrap();
        assert_eq!(of(&head, rows), [30, 31]);
        // Rows that belong to no table, or nobody knows to which.
        assert!(of(&head, &entry(21, Section::Data, "TABLE DATA", &[])).is_empty());
    }

    #[test]
    fn what_is_built_early_is_built_once_with_all_that_goes_with_it() {
        let head = head();
        assert_eq!(ids(&only(&head, 31)), [1, 31, 32]);
        assert_eq!(ids(&only(&head, 30)), [1, 30]);
        let rest = without(&head, &HashSet::from([30, 31]));
        assert_eq!(ids(&rest), [1, 2, 10, 11, 12, 20, 33, 34, 35, 36, 37, 38]);
    }
}
