//! Proof that a set can be restored, without restoring it: every file is read to its end, through checksum, decryption
//! and decompression, and what it holds is looked at as a restore would.

use super::layout::{Is, Layout, MemberTarget};
use super::read::{Content, Openable, fault::Peeked, known};
use super::sets::Set;
use super::{aof, archive, fixture, image, members};
use crate::error::{Error, Kind, Result};
use crate::model::size;
use crate::sources::postgres::sql::facts as sql;
use crate::sources::redis::rdb::{self, Summary};
use crate::storage::readonly::ReadOnly;
use serde::Serialize;
use std::collections::HashSet;
use std::io::{BufReader, Read};
use std::sync::Arc;

/// Files of a set that are read at once.
const AT_ONCE: usize = 2;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// What was found in a file.
#[derive(Clone, Debug, Serialize)]
pub struct Proven {
    /// The file.
    pub name: String,
    /// What it is.
    pub is: &'static str,
    /// Its bytes in the store.
    pub stored: u64,
    /// Bytes of what it holds.
    pub bytes: u64,
    /// Whether a checksum beside it was compared.
    pub checksum: bool,
    /// What it holds, in words.
    pub holds: String,
    /// What is odd about it and does no harm.
    pub remarks: Vec<String>,
}

/// A file that is not good.
#[derive(Debug)]
pub struct Bad {
    /// The file.
    pub name: String,
    /// Why.
    pub error: Error,
    /// A set is complete without it.
    pub optional: bool,
}

/// What became of a set.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files that are good.
    pub good: Vec<Proven>,
    /// Files that are not.
    pub bad: Vec<Bad>,
}

/// Reads all files of a set. A set that is not whole by its names is refused before.
///
/// # Errors
/// None of the files': those are told in what is returned.
pub async fn check(layout: &Layout, set: &Set, store: &Arc<dyn ReadOnly>) -> Checked {
    use futures::StreamExt;
    let restores_a_server = set.parts.iter().any(|p| {
        let rule = &layout.files[p.rule];
        rule.source.is_some() && rule.is.source_kind() == Some("postgres")
    });
    let files = set.parts.iter().map(|part| {
        let file = Openable { store: store.clone(), part: part.clone(), rule: layout.files[part.rule].clone() };
        async move {
            let name = file.part.object.key.clone();
            let optional = file.rule.optional;
            file_of(file, restores_a_server).await.map_err(|error| Bad { name, error, optional })
        }
    });
    let mut checked = Checked::default();
    let mut done = std::pin::pin!(futures::stream::iter(files).buffered(AT_ONCE));
    while let Some(result) = done.next().await {
        match result {
            Ok(good) => checked.good.push(good),
            Err(bad) => checked.bad.push(bad),
        }
    }
    checked
}

/// Reads one file.
///
/// # Errors
/// What is wrong with it.
pub async fn file_of(file: Openable, restores_a_server: bool) -> Result<Proven> {
    let rule = file.rule.clone();
    let part = file.part.clone();
    let wants_cluster = restores_a_server;
    file.with(move |content| {
        let mut counting = Counting { content, bytes: 0 };
        let (holds, remarks) = look(&rule, &mut counting, wants_cluster)?;
        std::io::copy(&mut counting, &mut std::io::sink()).map_err(super::read::unreadable)?;
        Ok(Proven {
            name: part.object.key,
            is: rule.is.name(),
            stored: part.object.size,
            bytes: counting.bytes,
            checksum: part.sum.is_some_and(|s| s.sha256.is_some()),
            holds,
            remarks,
        })
    })
    .await
}

struct Counting<'a> {
    content: &'a mut Content,
    bytes: u64,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

fn look(
    rule: &super::layout::FileRule,
    content: &mut dyn Read,
    restores_a_server: bool,
) -> Result<(String, Vec<String>)> {
    let mut content = Peeked::new(content, known::ENOUGH).map_err(super::read::unreadable)?;
    if known::holds(rule.is, content.first()) == Some(false) {
        let begins = String::from_utf8_lossy(&content.first()[..content.first().len().min(16)]).into_owned();
        return Err(Error::new(Kind::Damaged, format!("the file is no {}", rule.is.name()))
            .because(format!("it begins with {begins:?}"))
            .hint("Correct `is` of this file in the layout, or take another set."));
    }
    let mut remarks = Vec::new();
    let holds = match rule.is {
        Is::PgCustom => {
            let looked = archive::rewrite(&mut content, &mut std::io::sink(), &HashSet::new())?;
            let facts = looked.facts;
            let rows: u64 = facts.tables.iter().map(|t| t.rows).sum();
            format!(
                "database {}, {}, {}, {} in its table of contents",
                facts.database,
                size::plural(facts.tables.len() as u64, "table"),
                size::plural(rows, "row"),
                size::plural(looked.entries, "object")
            )
        }
        Is::PgPlain | Is::PgDumpall => {
            let scanned = sql::scan(BufReader::with_capacity(PIECE, &mut content))?;
            if let Some(name) = &rule.database {
                scanned.database(name)?;
            }
            let each = scanned.databases.iter().map(|(name, d)| {
                let name = name.as_deref().map_or("a database".to_owned(), |n| format!("database {n}"));
                format!("{name}, {}, {}", size::plural(d.tables(), "table"), size::plural(d.rows(), "row"))
            });
            each.collect::<Vec<_>>().join("; ")
        }
        Is::Tar => {
            let sorted = members::sort(&mut content, &rule.members, &mut std::io::sink())?;
            refuse_server(&sorted, restores_a_server && has_target(rule))?;
            holds_what_is_wanted(rule, &sorted)?;
            remarks.extend(sorted.lacks(rule));
            format!(
                "{}, {}, {} of content",
                size::plural(sorted.files, "file"),
                size::plural(sorted.dirs, "directory").replace("directorys", "directories"),
                size::human(sorted.bytes)
            )
        }
        Is::Image => {
            let (found, bytes) = image::look(&mut content)?;
            let named = |f: &image::Found| if f.tags.is_empty() { f.id.clone() } else { f.tags.join(", ") };
            let names: Vec<String> = found.iter().map(named).collect();
            format!(
                "{}: {}, {} of content",
                size::plural(found.len() as u64, "image"),
                names.join("; "),
                size::human(bytes)
            )
        }
        Is::Aof => {
            let looked = aof::read(&mut content)?;
            if looked.cut {
                remarks.push("it ends in the middle of a command, which is left out when it is loaded".to_owned());
            }
            match &looked.snapshot {
                Some(Summary { unknown: Some(what), .. }) => format!("a snapshot with {what}, hence not read further"),
                Some(snapshot) => {
                    let keys: u64 = snapshot.databases.iter().map(|d| d.keys).sum();
                    format!("{} and {} behind it", size::plural(keys, "key"), size::plural(looked.commands, "command"))
                }
                None => size::plural(looked.commands, "command"),
            }
        }
        Is::Rdb => {
            let summary = rdb::read(&mut content).map_err(|fault| match fault {
                rdb::Fault::Read(e) => super::read::unreadable(e),
                fault => Error::new(Kind::Damaged, "the RDB is not whole").because(fault.to_string()),
            })?;
            if !summary.checksum {
                remarks.push("it has no checksum (rdbchecksum no): damage in it would not be seen".to_owned());
            }
            let keys: u64 = summary.databases.iter().map(|d| d.keys).sum();
            match &summary.unknown {
                Some(what) => format!("RDB version {}, with {what}, hence not counted", summary.version),
                None => format!("{}, RDB version {}", size::plural(keys, "key"), summary.version),
            }
        }
        Is::Fixture => {
            let models = fixture::models(&mut content)?;
            fixture::words(&models)
        }
        Is::Crontab => {
            let mut text = String::new();
            content.read_to_string(&mut text).map_err(super::read::unreadable)?;
            let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')).count();
            size::plural(lines as u64, "line")
        }
        Is::Other => "read to its end".to_owned(),
    };
    Ok((holds, remarks))
}

/// Refuses an archive that has nothing of what is to come back, however whole it is.
///
/// # Errors
/// [`Kind::Damaged`] with the folders that are not there.
pub fn holds_what_is_wanted(rule: &super::layout::FileRule, sorted: &members::Sorted) -> Result<()> {
    let wanted = rule.members.iter().filter(|m| m.to != MemberTarget::Ignored);
    let wanted: Vec<String> = wanted.map(|m| format!("{:?}", m.prefix)).collect();
    let found = sorted.files + sorted.dirs + sorted.others > 0;
    if found || wanted.is_empty() || rule.optional {
        return Ok(());
    }
    Err(Error::new(Kind::Damaged, "the archive holds nothing of what is to be restored from it")
        .because(format!("no member lies in {}", wanted.join(", ")))
        .hint("Correct `prefix` of its `members`, or say `optional = true` if a backup may be without them."))
}

fn has_target(rule: &super::layout::FileRule) -> bool {
    rule.source.is_some() || !rule.members.is_empty()
}

/// Files of a running server must not be written over it, least of all when its databases come back from a dump.
///
/// # Errors
/// [`Kind::Refused`] by name.
pub fn refuse_server(sorted: &members::Sorted, restores_a_server: bool) -> Result<()> {
    match sorted.clusters.first() {
        Some(dir) if restores_a_server => Err(Error::new(
            Kind::Refused,
            "the archive holds the data directory of a PostgreSQL server, whose databases are restored from their dump",
        )
        .because(format!("{dir} has PG_VERSION and global/pg_control"))
        .hint(format!(
            "It was copied while the server ran, and would be unpacked under a running one. Leave it out: members = [{{ prefix = {:?}, ignore = true }}, …].",
            dir.trim_end_matches('/')
        ))),
        _ => Ok(()),
    }
}
