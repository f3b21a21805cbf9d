//! Data that is torn when its files are read one after the other while a server writes them.
//!
//! Known by the names that each server gives its files, not by their content: what is not recognised is read and
//! told as changed. What an exclude leaves out is not looked at.

use crate::error::{Error, Kind, Result};
use crate::repository::segment::Bytes;
use crate::sources::files::walk::Stat;
use rustix::fs::FileType;

/// Something that a running server owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Live {
    what: &'static str,
    instead: &'static str,
}

const POSTGRES: Live = Live {
    what: "a PostgreSQL data directory",
    instead: "Back it up as a source of kind \"postgres\", and leave this directory out with `exclude`; or use `while_reading = \"stop\"`.",
};
const SQLITE: Live = Live {
    what: "a SQLite database in use",
    instead: "Use `while_reading = \"pause\"` or \"stop\", or a source of kind \"command\" with `sqlite3 DB .backup`, and leave the files out with `exclude`.",
};
const INNODB: Live = Live {
    what: "a MySQL or MariaDB data directory",
    instead: "Back it up as a source of kind \"command\" with its dump program, and leave this directory out with `exclude`; or use `while_reading = \"stop\"`.",
};
const PROMETHEUS: Live = Live {
    what: "a Prometheus database",
    instead: "Use `while_reading = \"stop\"` or \"pause\", or leave this directory out with `exclude`.",
};
const WIREDTIGER: Live = Live {
    what: "a MongoDB data directory",
    instead: "Back it up as a source of kind \"command\" with `mongodump`, and leave this directory out with `exclude`; or use `while_reading = \"stop\"`.",
};

/// What an entry shows its directory to be.
fn recognise(path: &[u8], kind: FileType, size: u64) -> Option<(Live, &[u8])> {
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (&b""[..], path),
    };
    let file = kind == FileType::RegularFile;
    match name {
        b"pg_control" if file && dir.ends_with(b"/global") => Some((POSTGRES, &dir[..dir.len() - b"/global".len()])),
        b"ibdata1" if file => Some((INNODB, dir)),
        b"WiredTiger.wt" if file => Some((WIREDTIGER, dir)),
        b"chunks_head" if kind == FileType::Directory => Some((PROMETHEUS, dir)),
        // Empty after a checkpoint that nobody was in the middle of.
        _ if file && size > 0 && (name.ends_with(b"-wal") || name.ends_with(b"-journal")) => {
            let base = &path[..path.len() - name.rsplit(|b| *b == b'-').next()?.len() - 1];
            is_sqlite(base).then_some((SQLITE, base))
        }
        _ => None,
    }
}

fn is_sqlite(path: &[u8]) -> bool {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    let mut head = [0; 16];
    let file = std::fs::File::open(std::ffi::OsStr::from_bytes(path));
    file.and_then(|mut f| f.read_exact(&mut head)).is_ok() && head == *b"SQLite format 3\0"
}

/// Refuses an entry by which its directory is known to be torn when it is read now.
pub fn refuse(path: &[u8], stat: &Stat) -> Result<()> {
    match recognise(path, stat.kind(), stat.size) {
        Some((live, place)) => {
            Err(Error::new(Kind::Source, format!("{} is in use: read now, it would be torn", live.what))
                .at(Bytes(place.to_vec()).display())
                .hint(live.instead))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_their_files_and_others_are_not() {
        let file = FileType::RegularFile;
        let what = |path: &str, kind| {
            recognise(path.as_bytes(), kind, 1).map(|(live, place)| (live, String::from_utf8_lossy(place).into_owned()))
        };
        assert_eq!(what("/v/pg/global/pg_control", file), Some((POSTGRES, "/v/pg".into())));
        assert_eq!(what("/v/ibdata1", file), Some((INNODB, "/v".into())));
        assert_eq!(what("/v/chunks_head", FileType::Directory), Some((PROMETHEUS, "/v".into())));
        assert_eq!(what("/v/WiredTiger.wt", file), Some((WIREDTIGER, "/v".into())));
        for other in ["/v/pg_control", "/v/x-wal", "/v/chunks_head", "/v/global/pg_control.txt"] {
            assert_eq!(what(other, file), None, "{other}");
        }
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("a-b.db");
        std::fs::write(&db, b"SQLite format 3\0rest").unwrap();
        let wal = format!("{}-wal", db.display());
        assert_eq!(what(&wal, file), Some((SQLITE, db.display().to_string())));
        assert_eq!(recognise(wal.as_bytes(), file, 0).map(|r| r.0), None);
    }
}
