//! One entry of an archive's table of contents, and how numbers and texts are written in it.

use super::ArchiveError;
use std::io::Read;

/// Version with the access method of a table in its entry.
const WITH_TABLE_AM: u8 = 14;
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

/// A text, in whatever encoding it is.
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

impl Entry {
    pub(super) fn read(r: &mut Input<impl Read>, minor: u8) -> Result<Self, ArchiveError> {
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

    pub(super) fn write(&self, out: &mut Vec<u8>, minor: u8) {
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

pub(super) fn put_text(out: &mut Vec<u8>, text: &Text) {
    match text {
        None => put_int(out, -1),
        Some(text) => {
            put_int(out, text.len() as i32);
            out.extend(text);
        }
    }
}

/// What is read from.
pub(super) struct Input<'a, R> {
    pub(super) reader: &'a mut R,
}

impl<R: Read> Input<'_, R> {
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        Ok(self.reader.read_exact(buffer)?)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ArchiveError> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    pub(super) fn int(&mut self) -> Result<i32, ArchiveError> {
        let mut bytes = [0; 5];
        self.fill(&mut bytes)?;
        let value = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Ok(if bytes[0] == 0 { value } else { value.wrapping_neg() })
    }

    pub(super) fn text(&mut self) -> Result<Text, ArchiveError> {
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
}
