//! Extensions that a database uses and a server does not have. A restore refuses such a server; one that is made for a drill
//! gets the rest, since the data is what is to be proven, and a missing package of this machine is no fault of a backup.

use super::archive::entry::{Entry, Section};
use super::archive::head::Head;
use super::facts::DatabaseFacts;
use super::pick;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeSet, HashSet};

/// How what is left out is called, in front of its name.
const WORD: &str = "extension ";

/// Those that can be in one database of a server only, whatever is installed.
const ELSEWHERE: &[&str] = &["pg_cron"];

/// The extensions of a database that a server cannot make.
///
/// # Errors
/// The server's refusal.
pub async fn of(admin: &Session, facts: &DatabaseFacts) -> Result<Vec<String>> {
    let available = admin.rows("name", "FROM pg_available_extensions").await;
    let available = available.map_err(|e| e.says("the server cannot be examined"))?;
    let available: BTreeSet<String> = available.iter().map(|r| r.text(0)).collect();
    let cannot = |name: &String| ELSEWHERE.contains(&name.as_str()) || !available.contains(name);
    Ok(facts.extensions.iter().map(|(name, _)| name.clone()).filter(cannot).collect())
}

/// The head of an archive without these extensions.
pub fn without(head: &Head, names: &[String], left_out: &mut Vec<String>) -> Head {
    let is_one = |e: &&Entry| {
        let tag = e.tag.as_deref().unwrap_or_default();
        e.is("EXTENSION") && names.iter().any(|name| name.as_bytes() == tag)
    };
    let gone: HashSet<i32> = head.entries.iter().filter(is_one).map(|e| e.dump_id).collect();
    left_out.extend(names.iter().map(|name| format!("{WORD}{name}")));
    if names.is_empty() {
        return head.clone();
    }
    // Tables of extensions are defined by those and by nothing in the archive; of which one a table is, it does not say.
    let named = |e: &Entry| (e.namespace.clone(), e.tag.clone());
    let defined: HashSet<_> = head.entries.iter().filter(|e| e.section() == Section::PreData).map(named).collect();
    let of_extension = |e: &Entry| (e.is("TABLE DATA") || e.is("SEQUENCE SET")) && !defined.contains(&named(e));
    pick::keep(head, |e| !gone.contains(&e.dump_id) && !of_extension(e))
}

/// Whether an extension was left out.
pub fn is_left_out(name: &str, left_out: &[String]) -> bool {
    left_out.iter().any(|what| what.strip_prefix(WORD) == Some(name))
}

/// The error of a load that may have failed for what was left out: that says nothing against the backup.
pub fn explained(e: Error, names: &[String]) -> Error {
    if names.is_empty() || !matches!(e.kind, Kind::Restore | Kind::Source) {
        return e;
    }
    let names = names.join(", ");
    Error::new(Kind::Refused, format!("the database needs extensions that are not installed there: {names}"))
        .because(e.one_line())
        .hint("Install their packages, or set `scratch` of the plan's [drill] section to where they are: \"container\" or \"live\".")
}
