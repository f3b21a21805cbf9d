//! The head of an archive: versions, and the table of contents.

use super::ArchiveError;
use super::entry::{Entry, Input, NOT_SET, Section, Text, put_int, put_text};
use std::collections::HashSet;
use std::io::Read;

const MAGIC: &[u8] = b"PGDMP";
/// The format byte of custom archives.
const CUSTOM: u8 = 1;
/// Oldest and newest version of the format that is read here, 1.x.
const VERSIONS: std::ops::RangeInclusive<u8> = 12..=16;
/// Version with the name of the compression instead of its level.
const WITH_ALGORITHM: u8 = 15;

/// The head of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub(super) minor: u8,
    pub(super) revision: u8,
    /// Compression: a level, or from 1.15 on an algorithm.
    pub(super) compression: i32,
    pub(super) created: [i32; 7],
    /// The database that was dumped.
    pub database: Text,
    pub(super) server_version: Text,
    pub(super) dump_version: Text,
    /// The table of contents, in restore order.
    pub entries: Vec<Entry>,
}

/// How the blocks of an archive are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressed {
    /// Not at all.
    Not,
    /// zlib.
    Zlib,
    /// Zstandard.
    Zstd,
    /// Some other way.
    Other,
}

impl Head {
    /// How its blocks are compressed.
    pub fn compressed(&self) -> Compressed {
        match (self.minor >= WITH_ALGORITHM, self.compression) {
            (_, 0) => Compressed::Not,
            (false, _) | (true, 1) => Compressed::Zlib,
            (true, 3) => Compressed::Zstd,
            (true, _) => Compressed::Other,
        }
    }

    /// Says that its blocks are not compressed, and that nobody knows where they are.
    pub fn set_uncompressed(&mut self) {
        self.compression = 0;
        for entry in self.entries.iter_mut().filter(|e| e.has_data) {
            (entry.data_state, entry.data_offset) = (NOT_SET, 0);
        }
    }

    /// The major version of the oldest `pg_restore` that reads it; 0 when any does that there still is. A `pg_dump`
    /// may be newer than its server, and its archive with it.
    pub fn oldest_reader(&self) -> u32 {
        match self.minor {
            0..=13 => 0,
            14 => 12,
            15 => 16,
            _ => 17,
        }
    }

    /// The version of the server that was dumped, as it says it.
    pub fn server(&self) -> Option<String> {
        self.server_version.as_ref().map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// Bytes that tell whether the rest can be read.
    pub const START: usize = 11;

    /// Whether an archive that begins so can be taken apart.
    pub fn is_known(start: &[u8; Self::START]) -> bool {
        start.starts_with(MAGIC) && start[5] == 1 && VERSIONS.contains(&start[6]) && start[8..] == [4, 8, CUSTOM]
    }

    /// Reads a head and leaves the reader at the first block.
    ///
    /// # Errors
    /// [`ArchiveError`]; the reader has then moved.
    pub fn read(reader: &mut impl Read) -> Result<Self, ArchiveError> {
        let mut r = Input { reader };
        let mut magic = [0; 5];
        r.fill(&mut magic)?;
        if magic != MAGIC {
            return Err(ArchiveError::Malformed("it does not begin with PGDMP"));
        }
        let (major, minor, revision) = (r.byte()?, r.byte()?, r.byte()?);
        let (int_size, offset_size, format) = (r.byte()?, r.byte()?, r.byte()?);
        if major != 1 || !VERSIONS.contains(&minor) || int_size != 4 || offset_size != 8 {
            return Err(ArchiveError::Unknown(major, minor, int_size, offset_size));
        }
        if format != CUSTOM {
            return Err(ArchiveError::Malformed("it is of another format than custom"));
        }
        let compression = if minor >= WITH_ALGORITHM { i32::from(r.byte()?) } else { r.int()? };
        let mut created = [0; 7];
        for field in &mut created {
            *field = r.int()?;
        }
        let (database, server_version, dump_version) = (r.text()?, r.text()?, r.text()?);
        let count = r.int()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(Entry::read(&mut r, minor)?);
        }
        Ok(Head { minor, revision, compression, created, database, server_version, dump_version, entries })
    }

    /// The bytes of this head.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([1, self.minor, self.revision, 4, 8, CUSTOM]);
        if self.minor >= WITH_ALGORITHM {
            out.push(self.compression as u8);
        } else {
            put_int(&mut out, self.compression);
        }
        self.created.iter().for_each(|field| put_int(&mut out, *field));
        for text in [&self.database, &self.server_version, &self.dump_version] {
            put_text(&mut out, text);
        }
        put_int(&mut out, self.entries.len() as i32);
        self.entries.iter().for_each(|e| e.write(&mut out, self.minor));
        out
    }

    /// Adds an entry for the rows of a table that `pg_dump` was told to leave out, behind all other rows, and gives its
    /// number. `copy_columns` is the list of columns in parentheses.
    ///
    /// # Errors
    /// When the table is not in the archive, or its rows are there already.
    pub fn add_rows(&mut self, table_oid: u32, copy_columns: &str) -> Result<i32, ArchiveError> {
        let oid = table_oid.to_string().into_bytes();
        let of_table = |e: &&Entry, desc: &str| e.is(desc) && e.oid.as_ref() == Some(&oid);
        if self.entries.iter().any(|e| of_table(&e, "TABLE DATA")) {
            return Err(ArchiveError::Malformed("pg_dump has dumped rows that it was told to leave out"));
        }
        let table = self
            .entries
            .iter()
            .find(|e| of_table(e, "TABLE"))
            .ok_or(ArchiveError::Malformed("pg_dump has left out the definition of a table"))?;
        let dump_id = self.entries.iter().map(|e| e.dump_id).max().unwrap_or(0) + 1;
        let name = |text: &Text| quoted(text.as_deref().unwrap_or_default());
        let copy = [
            b"COPY ".as_slice(),
            &name(&table.namespace),
            b".",
            &name(&table.tag),
            b" ",
            copy_columns.as_bytes(),
            b" FROM stdin;\n",
        ]
        .concat();
        let entry = Entry {
            dump_id,
            has_data: true,
            table_oid: Some(b"0".to_vec()),
            oid: Some(oid),
            tag: table.tag.clone(),
            desc: Some(b"TABLE DATA".to_vec()),
            section: 3,
            defn: Some(Vec::new()),
            drop: Some(Vec::new()),
            copy: Some(copy),
            namespace: table.namespace.clone(),
            tablespace: None,
            table_am: None,
            relkind: 0,
            owner: table.owner.clone(),
            with_oids: table.with_oids.clone(),
            depends: vec![table.dump_id],
            data_state: NOT_SET,
            data_offset: 0,
        };
        let behind = self.entries.iter().rposition(|e| e.section() == Section::Data).map(|i| i + 1);
        let at = behind
            .or_else(|| self.entries.iter().position(|e| e.section() == Section::PostData))
            .unwrap_or(self.entries.len());
        self.entries.insert(at, entry);
        Ok(dump_id)
    }

    /// The same head without some entries.
    pub fn without(&self, dump_ids: &HashSet<i32>) -> Head {
        self.only(|e| !dump_ids.contains(&e.dump_id))
    }

    /// The same head with the entries for which something is true.
    pub fn only(&self, wanted: impl Fn(&Entry) -> bool) -> Head {
        Head {
            minor: self.minor,
            revision: self.revision,
            compression: self.compression,
            created: self.created,
            database: self.database.clone(),
            server_version: self.server_version.clone(),
            dump_version: self.dump_version.clone(),
            entries: self.entries.iter().filter(|e| wanted(e)).cloned().collect(),
        }
    }
}

/// An SQL identifier from the bytes of a name, in whatever encoding they are.
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for b in name {
        if *b == b'"' {
            out.push(b'"');
        }
        out.push(*b);
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_a_newer_pg_dump_than_its_server_wants_a_newer_pg_restore() {
        let of = |minor| Head { minor, ..Head::of_entries("erp", "15.4", Vec::new()) }.oldest_reader();
        assert_eq!([12, 13, 14, 15, 16].map(of), [0, 0, 12, 16, 17]);
    }

    #[test]
    fn garbage_is_named_and_allocates_nothing() {
        let read = |bytes: &[u8]| Head::read(&mut &bytes[..]).unwrap_err();
        assert!(matches!(read(b"-- SQL dump"), ArchiveError::Malformed(_)));
        assert!(matches!(read(b"PGDMP\x01\x63\x00\x04\x08\x01"), ArchiveError::Unknown(1, 0x63, 4, 8)));
        let mut long = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
        (0..8).for_each(|_| put_int(&mut long, 0));
        put_int(&mut long, 1 << 30);
        assert!(matches!(read(&long), ArchiveError::Malformed(_)));
    }
}
