//! Room for what is staged, on every disk of the server that gets some of it: what the databases took when they were
//! backed up, which is more than their dumps, and the log of loading them.

use super::connect::{Server, literal};
use super::facts::DatabaseFacts;
use super::preflight::{Look, Room};
use super::session::{INSUFFICIENT_PRIVILEGE, Session, SqlError};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Place;
use crate::model::size::human;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the log may take on top of the data, when the server does not tell. Bytes.
const WAL: u64 = 1 << 30;
/// The tablespace that is the data directory.
const DEFAULT: &str = "pg_default";
/// Where the log is in the data directory; it may be a link to elsewhere, or a mount point.
const LOG: &str = "pg_wal";

fn failed(e: SqlError) -> Error {
    e.says("the room on the server cannot be looked at")
}

/// Looks at every disk.
///
/// # Errors
/// [`Kind::Refused`] when one has less than is needed.
pub(super) async fn look(look: &Look<'_>, admin: &Session, targets: &[(&str, &DatabaseFacts)]) -> Result<Vec<Room>> {
    let directory = admin.rows("setting", "FROM pg_settings WHERE name = 'data_directory'").await.map_err(failed)?;
    let data = directory.first().map(|r| r.text(0)).filter(|d| !d.is_empty()).map(PathBuf::from);
    let spaces = admin.rows("spcname, pg_tablespace_location(oid)", "FROM pg_tablespace").await.map_err(failed)?;
    let places: BTreeMap<String, String> = spaces.iter().map(|r| (r.text(0), r.text(1))).collect();
    let mut needed = match look.part {
        Some(part) => BTreeMap::from([(DEFAULT.to_owned(), part)]),
        None => by_tablespace(targets, &places),
    };
    let main = needed.entry(DEFAULT.to_owned()).or_default();
    let wal = admin.rows("setting::bigint * 1048576", "FROM pg_settings WHERE name = 'max_wal_size'").await;
    let wal = wal.map_err(failed)?.first().map_or(WAL, |r| r.number(0));
    let log = log_apart(look, admin, data.as_deref(), wal).await?;
    if log.is_none() {
        *main += wal;
    }
    if look.dropped_first {
        let names: Vec<String> = targets.iter().map(|(live, _)| literal(live)).collect();
        let from = format!("FROM pg_database WHERE datname IN ({})", names.join(", "));
        let live = admin.row("coalesce(sum(pg_database_size(oid)), 0)::bigint", &from).await.map_err(failed)?;
        *main = main.saturating_sub(live.number(0));
    }
    let mut disks: Vec<(Option<String>, Room)> = Vec::new();
    for (space, needed) in needed {
        let place = match places.get(&space).filter(|location| !location.is_empty()) {
            Some(location) => Some(PathBuf::from(location)),
            None => data.clone(),
        };
        let disk = match (&place, &data, look.assume_space) {
            (_, _, Some(_)) => None,
            (Some(place), Some(data), None) => disk(look.server, place, data).await,
            _ => None,
        };
        let place = place.unwrap_or_else(|| look.server.place().into());
        let (name, free) = disk.map_or((None, look.assume_space), |(name, free)| (Some(name), Some(free)));
        // What is said to be free is so once.
        let same =
            disks.iter_mut().find(|(other, _)| *other == name && (name.is_some() || look.assume_space.is_some()));
        match same {
            Some((_, room)) => room.needed += needed,
            None => disks.push((name, Room { place, needed, free })),
        }
    }
    if let Some((name, room)) = log {
        // A tablespace may be there too.
        match disks.iter_mut().find(|(other, _)| other.as_ref() == Some(&name)) {
            Some((_, same)) => same.needed += room.needed,
            None => disks.push((Some(name), room)),
        }
    }
    let rooms: Vec<Room> = disks.into_iter().map(|(_, room)| room).collect();
    match rooms.iter().find(|room| room.free.is_some_and(|free| free < room.needed)) {
        None => Ok(rooms),
        Some(room) => Err(lacking(room)),
    }
}

fn lacking(room: &Room) -> Error {
    let (what, hint) = match room.place.ends_with(LOG) {
        true => (
            "the log of the load",
            "Make room there, or lower max_wal_size; or tell --assume-space when this is wrong.",
        ),
        false => (
            "a second copy",
            "Make room, for example with `backstay cleanup`; restore with --in-place, which drops the live database first; or tell --assume-space when this is wrong.",
        ),
    };
    let (needed, free) = (human(room.needed), human(room.free.unwrap_or(0)));
    Error::new(Kind::Refused, format!("there is no room for {what}: {needed} are needed, {free} are free"))
        .at(room.place.display())
        .hint(hint)
}

/// The disk of the log by its name, when it is not that of the data, and what the log may still take there: its files
/// are used again.
async fn log_apart(look: &Look<'_>, admin: &Session, data: Option<&Path>, most: u64) -> Result<Option<(String, Room)>> {
    let Some(data) = data.filter(|_| look.assume_space.is_none()) else { return Ok(None) };
    let place = data.join(LOG);
    let Some((own, free)) = disk(look.server, &place, data).await else { return Ok(None) };
    if disk(look.server, data, data).await.is_none_or(|(main, _)| main == own) {
        return Ok(None);
    }
    let there = match admin.row("coalesce(sum(size), 0)::bigint", "FROM pg_ls_waldir()").await {
        Ok(row) => row.number(0),
        Err(e) if e.is(INSUFFICIENT_PRIVILEGE) => 0,
        Err(e) => return Err(failed(e)),
    };
    Ok(Some((own, Room { place, needed: most.saturating_sub(there), free: Some(free) })))
}

/// Bytes by tablespace. What was in one that the server lacks goes into that of its database.
fn by_tablespace(targets: &[(&str, &DatabaseFacts)], there: &BTreeMap<String, String>) -> BTreeMap<String, u64> {
    let mut needed: BTreeMap<String, u64> = BTreeMap::new();
    for (_, facts) in targets {
        let mut own = facts.size;
        for (space, bytes) in facts.tablespaces.iter().filter(|(space, _)| there.contains_key(*space)) {
            *needed.entry(space.clone()).or_default() += bytes;
            own = own.saturating_sub(*bytes);
        }
        let space = facts.attributes.tablespace.as_ref().filter(|space| there.contains_key(*space));
        *needed.entry(space.cloned().unwrap_or_else(|| DEFAULT.to_owned())).or_default() += own;
    }
    needed
}

/// A disk of the server by a name of its own, and the free bytes there, when it is here or in a container.
async fn disk(server: &Server, place: &Path, data: &Path) -> Option<(String, u64)> {
    match &server.place {
        Place::Container(_) => {
            let df = server.program(Path::new("df"), ["-Pk", &place.display().to_string()]);
            let out = String::from_utf8(df.output().await.ok()?).ok()?;
            let fields: Vec<&str> = out.lines().nth(1)?.split_whitespace().collect();
            Some((format!("{} {}", fields.first()?, fields.get(5)?), fields.get(3)?.parse::<u64>().ok()? * 1024))
        }
        // A server behind a forwarded port says a path that is not of this machine.
        _ if server.is_local() && data.join("PG_VERSION").exists() => {
            let stat = rustix::fs::statvfs(place).ok()?;
            Some((place.metadata().ok()?.dev().to_string(), stat.f_bavail * stat.f_frsize))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tablespace_gets_its_part_and_a_missing_one_none() {
        let facts = |own: &str| -> DatabaseFacts {
            serde_json::from_value(serde_json::json!({
                "database": "erp", "server_version": 150000, "encoding": "UTF8", "collate": "C", "ctype": "C", "size": 100,
                "tablespaces": { "fast": 30, "gone": 20 }, "tables": [], "extensions": [], "large_objects": 0,
                "sequences": [], "tablespace": own,
            }))
            .unwrap()
        };
        let there = ["pg_default", "fast", "own"].map(|n| (n.to_owned(), String::new())).into();
        for (own, expected) in [("pg_default", "pg_default"), ("own", "own"), ("gone", "pg_default")] {
            let facts = facts(own);
            let needed = by_tablespace(&[("erp", &facts)], &there);
            let wanted = BTreeMap::from([("fast".to_owned(), 30), (expected.to_owned(), 70)]);
            assert_eq!(needed, wanted, "{own}");
        }
    }
}
