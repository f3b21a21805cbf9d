//! What can be built as soon as the rows of one table are in, while others still load: its own indexes, and the constraints that are
//! indexes. What speaks of other tables too, or of something that is built later itself, waits for the rest. So does what calls a
//! function, in an expression or a condition: it may say that it is immutable and look into another table all the same, and would see
//! that half full.

use super::archive::entry::{Entry, Section};
use super::archive::head::Head;
use super::pick;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What of the head depends on the rows of one table and on nothing else that comes behind rows: their numbers, in the order of the
/// archive.
pub fn of(head: &Head, rows: &Entry) -> Vec<i32> {
    let by_id: HashMap<i32, &Entry> = head.entries.iter().map(|e| (e.dump_id, e)).collect();
    // An index of several columns names its table several times.
    let tables = |e: &Entry| -> BTreeSet<i32> {
        e.depends.iter().filter(|id| by_id.get(id).is_some_and(|d| d.is("TABLE"))).copied().collect()
    };
    let table = tables(rows);
    let early = |e: &Entry| {
        e.section() == Section::PostData
            && tables(e) == table
            && (e.is("INDEX") && is_of_columns(e) || e.is("CONSTRAINT") && is_a_key(e))
            && e.depends.iter().all(|id| by_id.get(id).is_none_or(|d| d.section() == Section::PreData))
    };
    if table.len() != 1 {
        return Vec::new();
    }
    let mut altered = false;
    // Two at once that were built, and then want to alter the table, would wait for each other.
    let alone = |e: &&Entry| !(e.is("INDEX") && alters_its_table(e) && std::mem::replace(&mut altered, true));
    head.entries.iter().filter(|e| early(e)).filter(alone).map(|e| e.dump_id).collect()
}

/// The statements of an entry without names in quotes and values, which may look like anything.
fn statements(entry: &Entry) -> String {
    let mut quote: Option<char> = None;
    let text = String::from_utf8_lossy(entry.defn.as_deref().unwrap_or_default());
    let bare = text.chars().filter(|c| match quote {
        // A doubled quote ends it and begins it again.
        Some(end) => {
            quote = quote.filter(|_| *c != end);
            false
        }
        None => {
            quote = Some(*c).filter(|c| ['"', '\''].contains(c));
            quote.is_none()
        }
    });
    bare.collect()
}

/// The first of them.
fn statement(entry: &Entry) -> String {
    statements(entry).split(";\n").next().unwrap_or_default().to_owned()
}

/// Whether an index is the one by which its table was clustered, or its replica identity.
fn alters_its_table(entry: &Entry) -> bool {
    statements(entry).contains("\nALTER TABLE ")
}

/// Whether an index has columns only, and all rows.
fn is_of_columns(entry: &Entry) -> bool {
    /// What may follow the list of columns.
    const TAILS: &[&str] = &[" INCLUDE (", " NULLS NOT DISTINCT", " WITH (", " TABLESPACE ", ";"];
    let sql = statement(entry);
    let Some((_, list)) = sql.split_once(" (") else { return false };
    let Some((columns, rest)) = list.split_once(')') else { return false };
    !columns.contains('(')
        && !rest.contains(" WHERE ")
        && (rest.is_empty() || TAILS.iter().any(|tail| rest.starts_with(tail)))
}

/// Whether a constraint is a primary key or a unique one, which are always of columns; an exclusion may have expressions.
fn is_a_key(entry: &Entry) -> bool {
    let sql = statement(entry);
    [" PRIMARY KEY ", " UNIQUE "].iter().any(|kind| sql.contains(kind)) && !sql.contains(" EXCLUDE ")
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

    fn made(id: i32, section: Section, desc: &str, depends: &[i32], sql: &str) -> Entry {
        Entry::of_statement(id, section, desc, &format!("n{id}"), sql.as_bytes().to_vec(), depends.to_vec())
    }

    fn entry(id: i32, section: Section, desc: &str, depends: &[i32]) -> Entry {
        made(id, section, desc, depends, "")
    }

    /// An index of a table; the rest of its statement.
    fn index(id: i32, depends: &[i32], rest: &str) -> Entry {
        made(id, Section::PostData, "INDEX", depends, &format!("CREATE INDEX n{id} ON public.t USING btree {rest};\n"))
    }

    fn key(id: i32, kind: &str) -> Entry {
        let sql = format!("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT n{id} {kind};\n");
        made(id, Section::PostData, "CONSTRAINT", &[10], &sql)
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
                key(30, "PRIMARY KEY (id)"),
                index(31, &[10, 10], "(a, b DESC)"),
                entry(32, None, "COMMENT", &[31]),
                index(33, &[11], "(a)"),
                index(34, &[10, 11], "(a)"),
                index(35, &[10, 30], "(a)"),
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
    fn what_may_look_into_another_table_waits() {
        for rest in [
            "(lower(a))",
            "(((a + b)))",
            "(a, public.lookup(b))",
            "(a) WHERE public.counts(a)",
            "(a) INCLUDE (b) WHERE (a > 1)",
            "(a gist_trgm_ops (siglen='32'))",
        ] {
            assert!(!is_of_columns(&index(1, &[10], rest)), "{rest}");
        }
        for (names, early) in [
            ("\"x ()\" ON t USING gin (f(a))", false),
            ("\"x (a) INCLUDE (b)\" ON public.t USING gin (public.f(c))", false),
            ("x ON public.\"t (a)\" USING gin (public.f(c))", false),
            ("x ON public.t USING btree (\"a) WITH (\"\"b\", public.f(c))", false),
            ("\"x (f(\" ON public.\"t WHERE \" USING btree (\"a)b(\")", true),
        ] {
            let sql = format!("CREATE INDEX {names};\n");
            assert_eq!(is_of_columns(&made(1, Section::PostData, "INDEX", &[], &sql)), early, "{names}");
        }
        for rest in [
            "(a)",
            "(a text_pattern_ops, b COLLATE \"C\" NULLS FIRST)",
            "(a) INCLUDE (b)",
            "(a) WITH (fillfactor='70')",
        ] {
            assert!(is_of_columns(&index(1, &[10], rest)), "{rest}");
        }
        for (kind, early) in [
            ("PRIMARY KEY (id)", true),
            ("UNIQUE (a, b) DEFERRABLE INITIALLY DEFERRED", true),
            ("UNIQUE NULLS NOT DISTINCT (a)", true),
            ("EXCLUDE USING gist (public.span(a) WITH &&)", false),
        ] {
            assert_eq!(is_a_key(&key(1, kind)), early, "{kind}");
        }
    }

    #[test]
    fn of_two_indexes_that_alter_their_table_one_waits() {
        let clustered = "(a);\n\nALTER TABLE public.t CLUSTER ON n31";
        let identity = "(b);\n\nALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX n32";
        let mut head = head();
        let rows = head.entries.iter().find(|e| e.dump_id == 20).cloned().unwrap();
        head.entries.truncate(7);
        head.entries.extend([
            index(31, &[10], clustered),
            index(32, &[10], identity),
            index(33, &[10], "(\"c;\n\nALTER TABLE \")"),
        ]);
        assert_eq!(of(&head, &rows), [30, 31, 33]);
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
