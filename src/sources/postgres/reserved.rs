//! What of an archive only a superuser may make, so that a role that is none loads the rest.
//!
//! Only what nothing else needs. Other things of superusers (C functions, operator classes) have what depends on
//! them, and a database without those would not be the one that was dumped: they make the load fail.

use super::archive::entry::{Entry, Section};
use super::archive::head::Head;
use super::pick;

/// The head without it; what it was goes to `left_out`.
pub fn without(head: &Head, left_out: &mut Vec<String>) -> Head {
    let kept = pick::keep(head, |e| !is_reserved(e));
    let ids: std::collections::HashSet<i32> = kept.entries.iter().map(|e| e.dump_id).collect();
    left_out.extend(head.entries.iter().filter(|e| !ids.contains(&e.dump_id)).map(named));
    kept
}

fn named(e: &Entry) -> String {
    let kind = String::from_utf8_lossy(e.desc.as_deref().unwrap_or_default()).to_lowercase();
    format!("{kind} {}", e.name())
}

fn is_reserved(e: &Entry) -> bool {
    let defn = e.defn.as_deref().unwrap_or_default();
    let says = |words: &[u8]| memchr::memmem::find(defn, words).is_some();
    match e.desc.as_deref() {
        Some(b"EVENT TRIGGER" | b"PUBLICATION TABLES IN SCHEMA") => true,
        Some(b"PUBLICATION") => says(b" FOR ALL TABLES"),
        // Those of template0 belong to the superuser who made the cluster.
        Some(b"COMMENT") => {
            e.section() == Section::None && e.tag.as_deref().is_some_and(|t| t.starts_with(b"EXTENSION "))
        }
        _ => false,
    }
}
