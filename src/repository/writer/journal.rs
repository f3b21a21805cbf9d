//! The upload journal: packs that this host has stored and that no manifest names yet.
//!
//! A killed run leaves packs behind. The next run reads here what is in them and names them, instead of
//! uploading them again. An entry counts for less than the grace time, within which prune cannot have deleted
//! the pack (see [`crate::repository::prune`]). Losing the journal costs an upload, therefore it is not synced.

use crate::error::{Error, Result};
use crate::model::{BlobId, VaultId};
use crate::repository::segment::PackInfo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// One stored pack and what is in it.
#[derive(Serialize, Deserialize)]
pub struct Uploaded {
    /// The vault, since a state directory may be pointed at another one.
    pub vault: VaultId,
    /// The store's clock when it was stored, or a little before.
    pub at: Timestamp,
    /// The pack.
    pub pack: PackInfo,
    /// Its blobs: id, offset, length.
    pub blobs: Vec<(BlobId, u32, u32)>,
}

/// The open journal.
pub struct UploadJournal {
    path: PathBuf,
    file: File,
}

impl UploadJournal {
    /// Opens the journal and reads what is in it. A torn last line, the mark of a kill, is passed over.
    pub fn open(path: &Path) -> Result<(Self, Vec<Uploaded>)> {
        let failed = |e| Error::io("cannot open the upload journal", path, e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let mut entries = Vec::new();
        let mut ends_whole = true;
        for line in BufReader::new(&file).split(b'\n') {
            let line = line.map_err(failed)?;
            let parsed = serde_json::from_slice(&line);
            ends_whole = parsed.is_ok();
            entries.extend(parsed.ok());
        }
        if !ends_whole {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok((UploadJournal { path: path.to_owned(), file }, entries))
    }

    /// Adds a stored pack.
    pub fn add(&mut self, uploaded: &Uploaded) -> Result<()> {
        let mut line = serde_json::to_vec(uploaded)
            .map_err(|e| Error::new(crate::error::Kind::Internal, "encoding the upload journal failed").because(e))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| Error::io("cannot write the upload journal", &self.path, e))
    }

    /// Empties the journal: a manifest names everything in it, or it is too old to count.
    pub fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::io("cannot empty the upload journal", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PackId, PackKey};

    #[test]
    fn a_torn_line_loses_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uploads");
        let entry = |n| Uploaded {
            vault: VaultId([1; 16]),
            at: Timestamp::UNIX_EPOCH,
            pack: PackInfo {
                key: PackKey { id: PackId([n; 32]), generation: 0 },
                epoch: 1,
                plain: 1,
                sealed: 1,
                crc: 1,
            },
            blobs: vec![(BlobId([n; 16]), 0, 1)],
        };
        let (mut journal, _) = UploadJournal::open(&path).unwrap();
        journal.add(&entry(1)).unwrap();
        journal.file.write_all(b"{\"vault\":\"01").unwrap();
        let (mut journal, read) = UploadJournal::open(&path).unwrap();
        assert_eq!(read.len(), 1);
        journal.add(&entry(2)).unwrap();
        let (mut journal, read) = UploadJournal::open(&path).unwrap();
        assert_eq!(read.iter().map(|u| u.pack.key.id.0[0]).collect::<Vec<_>>(), [1, 2]);
        journal.clear().unwrap();
        assert!(UploadJournal::open(&path).unwrap().1.is_empty());
    }
}
