//! Holes in files: found by `SEEK_DATA`, stored as a map, never read as zeros.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Pieces of data of a file with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMap {
    /// Offset and length of each piece, ascending.
    pub pieces: Vec<(u64, u64)>,
    /// Size of the file.
    pub size: u64,
}

/// More pieces than this are not worth a map: the file is then stored in full.
const MAX_PIECES: usize = 100_000;

impl DataMap {
    /// Bytes of data.
    pub fn stored(&self) -> u64 {
        self.pieces.iter().map(|p| p.1).sum()
    }

    /// The map of a file, or `None` when it has no holes or the file system does not tell.
    pub fn of(file: &File, size: u64) -> std::io::Result<Option<DataMap>> {
        use rustix::fs::{SeekFrom as At, seek};
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < size {
            let data = match seek(file, At::Data(at)) {
                Ok(data) => data.min(size),
                // Nothing but a hole up to the end.
                Err(rustix::io::Errno::NXIO) => break,
                Err(_) => return Ok(None),
            };
            if data >= size {
                break;
            }
            let end = seek(file, At::Hole(data)).map_or(size, |e| e.min(size));
            pieces.push((data, end - data));
            at = end;
            if pieces.len() > MAX_PIECES {
                return Ok(None);
            }
        }
        (&*file).seek(SeekFrom::Start(0))?;
        let map = DataMap { pieces, size };
        Ok((map.stored() < size).then_some(map))
    }
}

/// Reads the data of a file with holes, one piece after the other.
pub struct DataReader<'a> {
    file: &'a File,
    pieces: std::slice::Iter<'a, (u64, u64)>,
    left: u64,
}

impl<'a> DataReader<'a> {
    /// A reader over the pieces of a map.
    pub fn new(file: &'a File, map: &'a DataMap) -> Self {
        DataReader { file, pieces: map.pieces.iter(), left: 0 }
    }
}

impl Read for DataReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let Some((offset, length)) = self.pieces.next() else { return Ok(0) };
            self.file.seek(SeekFrom::Start(*offset))?;
            self.left = *length;
        }
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read(&mut buffer[..want])?;
        self.left -= n as u64;
        Ok(n)
    }
}
