//! The head of an archive: versions, and the table of contents.

use super::ArchiveError;
use std::collections::HashSet;
use std::io::Read;

const MAGIC: &[u8] = b"PGDMP";
/// The format byte of custom archives.
const CUSTOM: u8 = 1;
/// Oldest and newest version of the format that is read here, 1.x.
const VERSIONS: std::ops::RangeInclusive<u8> = 12..=16;
/// Version with the access method of a table in its entry.
const WITH_TABLE_AM: u8 = 14;
/// Version with the name of the compression instead of its level.
const WITH_ALGORITHM: u8 = 15;
/// Version with the kind of relation in its entry.
const WITH_RELKIND: u8 = 16;
/// No text of an entry is longer, not even the body of a function.
const MAX_TEXT: usize = 1 << 30;
/// State of an entry's data offset: to be searched for.
pub(super) const NOT_SET: u8 = 1;

/// Part of a dump that an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Definitions that rows need.
    PreData,
    /// Rows, sequences' values, large objects.
    Data,
    /// Indexes, constraints, triggers.
    PostData,
    /// What goes with another entry.
    None,
}

pub(super) type Text = Option<Vec<u8>>;

/// One entry of the table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in this archive.
    pub dump_id: i32,
    /// Whether a block of data belongs to it.
    pub has_data: bool,
    pub(super) table_oid: Text,
    /// OID of the object, in digits.
    pub oid: Text,
    /// Name.
    pub tag: Text,
    /// Kind: `TABLE`, `TABLE DATA`, `INDEX`.
    pub desc: Text,
    pub(super) section: i32,
    /// SQL that makes it.
    pub defn: Text,
    pub(super) drop: Text,
    /// For rows: the COPY statement, up to its line end.
    pub copy: Text,
    /// Schema.
    pub namespace: Text,
    pub(super) tablespace: Text,
    pub(super) table_am: Text,
    pub(super) relkind: i32,
    /// Owner.
    pub owner: Text,
    pub(super) with_oids: Text,
    /// Numbers of the entries that must come before.
    pub depends: Vec<i32>,
    pub(super) data_state: u8,
    pub(super) data_offset: u64,
}

impl Entry {
    /// The section.
    pub fn section(&self) -> Section {
        match self.section {
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            _ => Section::None,
        }
    }

    /// True for this kind.
    pub fn is(&self, desc: &str) -> bool {
        self.desc.as_deref() == Some(desc.as_bytes())
    }

    /// The statement that takes its rows, without its end.
    pub fn copy_from(&self) -> Option<&str> {
        std::str::from_utf8(self.copy.as_deref()?).ok()?.trim_end().strip_suffix(';')
    }

    /// Name with schema, for messages.
    pub fn name(&self) -> String {
        let text = |t: &Text| String::from_utf8_lossy(t.as_deref().unwrap_or_default()).into_owned();
        match &self.namespace {
            Some(schema) if !schema.is_empty() => format!("{}.{}", String::from_utf8_lossy(schema), text(&self.tag)),
            _ => text(&self.tag),
        }
    }
}

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
        let mut head = self.clone();
        head.entries.retain(|e| !dump_ids.contains(&e.dump_id));
        head
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

impl Entry {
    fn read(r: &mut Input<impl Read>, minor: u8) -> Result<Self, ArchiveError> {
        let dump_id = r.int()?;
        if dump_id <= 0 {
            return Err(ArchiveError::Malformed("an entry has no number"));
        }
        let mut entry = Entry {
            dump_id,
            has_data: r.int()? != 0,
            table_oid: r.text()?,
            oid: r.text()?,
            tag: r.text()?,
            desc: r.text()?,
            section: r.int()?,
            defn: r.text()?,
            drop: r.text()?,
            copy: r.text()?,
            namespace: r.text()?,
            tablespace: r.text()?,
            table_am: if minor >= WITH_TABLE_AM { r.text()? } else { None },
            relkind: if minor >= WITH_RELKIND { r.int()? } else { 0 },
            owner: r.text()?,
            with_oids: r.text()?,
            depends: Vec::new(),
            data_state: 0,
            data_offset: 0,
        };
        while let Some(number) = r.text()? {
            let number = std::str::from_utf8(&number).ok().and_then(|n| n.parse().ok());
            entry.depends.push(number.ok_or(ArchiveError::Malformed("a dependency is no number"))?);
        }
        entry.data_state = r.byte()?;
        let mut offset = [0; 8];
        r.fill(&mut offset)?;
        entry.data_offset = u64::from_le_bytes(offset);
        Ok(entry)
    }

    fn write(&self, out: &mut Vec<u8>, minor: u8) {
        put_int(out, self.dump_id);
        put_int(out, i32::from(self.has_data));
        for text in [&self.table_oid, &self.oid, &self.tag, &self.desc] {
            put_text(out, text);
        }
        put_int(out, self.section);
        for text in [&self.defn, &self.drop, &self.copy, &self.namespace, &self.tablespace] {
            put_text(out, text);
        }
        if minor >= WITH_TABLE_AM {
            put_text(out, &self.table_am);
        }
        if minor >= WITH_RELKIND {
            put_int(out, self.relkind);
        }
        put_text(out, &self.owner);
        put_text(out, &self.with_oids);
        for number in &self.depends {
            put_text(out, &Some(number.to_string().into_bytes()));
        }
        put_text(out, &None);
        out.push(self.data_state);
        out.extend(self.data_offset.to_le_bytes());
    }
}

/// An integer of the format: a byte for the sign, and the value.
pub fn put_int(out: &mut Vec<u8>, value: i32) {
    out.push(u8::from(value < 0));
    out.extend(value.unsigned_abs().to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &Text) {
    match text {
        None => put_int(out, -1),
        Some(text) => {
            put_int(out, text.len() as i32);
            out.extend(text);
        }
    }
}

struct Input<'a, R> {
    reader: &'a mut R,
}

impl<R: Read> Input<'_, R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        Ok(self.reader.read_exact(buffer)?)
    }

    fn byte(&mut self) -> Result<u8, ArchiveError> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    fn int(&mut self) -> Result<i32, ArchiveError> {
        let mut bytes = [0; 5];
        self.fill(&mut bytes)?;
        let value = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Ok(if bytes[0] == 0 { value } else { value.wrapping_neg() })
    }

    fn text(&mut self) -> Result<Text, ArchiveError> {
        let length = self.int()?;
        if length < 0 {
            return Ok(None);
        }
        let length = length as usize;
        if length > MAX_TEXT {
            return Err(ArchiveError::Malformed("a text in it is longer than any can be"));
        }
        // Grows with what is really there: a wrong length must not allocate a gigabyte.
        let mut text = Vec::new();
        self.reader.by_ref().take(length as u64).read_to_end(&mut text)?;
        if text.len() < length {
            return Err(ArchiveError::Malformed("it ends in its table of contents"));
        }
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_sign_and_magnitude() {
        for value in [0, 1, -1, 77, i32::MAX, -i32::MAX] {
            let mut out = Vec::new();
            put_int(&mut out, value);
            assert_eq!(Input { reader: &mut &out[..] }.int().unwrap(), value);
        }
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
