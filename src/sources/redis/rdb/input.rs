//! Reading an RDB as a stream: bytes, lengths and strings, with a running checksum.

use super::Fault;
use super::lzf;
use crc_fast::{CrcAlgorithm, Digest};
use std::io::Read;

/// How much is read at once.
const BUFFER: usize = 256 << 10;
/// Strings that are looked into (names, libraries of functions) are no longer than this.
const STRING: u64 = 64 << 20;
/// Bytes of the checksum at the end.
pub const FOOTER: usize = 8;

/// A length, or the mark of a specially encoded string.
pub enum Length {
    /// A plain length or number.
    Plain(u64),
    /// An integer of so many bytes.
    Integer(u64),
    /// Compressed by LZF.
    Lzf,
}

/// The stream with its position and its checksum so far.
pub struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Up to here the buffer is in the checksum.
    summed: usize,
    crc: Digest,
    offset: u64,
}

/// What follows behind that which was read.
pub type Rest<R> = std::io::Chain<std::io::Cursor<Vec<u8>>, R>;

impl<R: Read> Input<R> {
    /// What was not taken.
    pub fn into_rest(self) -> Rest<R> {
        std::io::Cursor::new(self.buffer[self.start..self.end].to_vec()).chain(self.reader)
    }

    /// Wraps a reader.
    pub fn new(reader: R) -> Self {
        let crc = Digest::new(CrcAlgorithm::Crc64Redis);
        Input { reader, buffer: vec![0; BUFFER], start: 0, end: 0, summed: 0, crc, offset: 0 }
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A fault at this place.
    pub fn corrupt(&self, what: impl Into<String>) -> Fault {
        Fault::Corrupt { offset: self.offset, what: what.into() }
    }

    fn sum(&mut self) {
        self.crc.update(&self.buffer[self.summed..self.start]);
        self.summed = self.start;
    }

    /// Makes sure that something is buffered; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, Fault> {
        if self.start < self.end {
            return Ok(true);
        }
        self.sum();
        (self.start, self.end, self.summed) = (0, 0, 0);
        loop {
            match self.reader.read(&mut self.buffer) {
                Ok(n) => {
                    self.end = n;
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Fault::Read(e)),
            }
        }
    }

    fn need(&mut self) -> Result<(), Fault> {
        if self.fill()? { Ok(()) } else { Err(Fault::Truncated { offset: self.offset }) }
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.need()?;
        let b = self.buffer[self.start];
        self.start += 1;
        self.offset += 1;
        Ok(b)
    }

    /// So many bytes, in memory.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        for b in &mut out {
            *b = self.byte()?;
        }
        Ok(out)
    }

    /// Passes over bytes.
    pub fn skip(&mut self, mut n: u64) -> Result<(), Fault> {
        while n > 0 {
            self.need()?;
            let step = usize::try_from(n).unwrap_or(usize::MAX).min(self.end - self.start);
            self.start += step;
            self.offset += step as u64;
            n -= step as u64;
        }
        Ok(())
    }

    fn take(&mut self, n: u64) -> Result<Vec<u8>, Fault> {
        if n > STRING {
            return Err(self.corrupt(format!("a name of {n} bytes")));
        }
        let mut out = Vec::new();
        while (out.len() as u64) < n {
            self.need()?;
            let step = (n as usize - out.len()).min(self.end - self.start);
            out.extend_from_slice(&self.buffer[self.start..self.start + step]);
            self.start += step;
            self.offset += step as u64;
        }
        Ok(out)
    }

    /// A length or the mark of an encoding.
    pub fn encoded(&mut self) -> Result<Length, Fault> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first & 63)),
            1 => Length::Plain(u64::from(first & 63) << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.bytes()?))),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.bytes()?)),
            3 => match first & 63 {
                n @ 0..=2 => Length::Integer(1 << n),
                3 => Length::Lzf,
                n => return Err(self.corrupt(format!("an unknown encoding of a string ({n})"))),
            },
            _ => return Err(self.corrupt(format!("an unknown form of a length ({first:#x})"))),
        })
    }

    /// A plain length or number.
    pub fn length(&mut self) -> Result<u64, Fault> {
        match self.encoded()? {
            Length::Plain(n) => Ok(n),
            _ => Err(self.corrupt("a string where a number belongs")),
        }
    }

    /// Passes over a string.
    pub fn skip_string(&mut self) -> Result<(), Fault> {
        match self.encoded()? {
            Length::Plain(n) | Length::Integer(n) => self.skip(n),
            Length::Lzf => {
                let packed = self.length()?;
                let plain = self.length()?;
                if packed == 0 || plain == 0 {
                    return Err(self.corrupt("a compressed string of no length"));
                }
                self.skip(packed)
            }
        }
    }

    /// A string.
    pub fn string(&mut self) -> Result<Vec<u8>, Fault> {
        match self.encoded()? {
            Length::Plain(n) => self.take(n),
            Length::Integer(n) => {
                let mut wide = [0; 8];
                let bytes = self.take(n)?;
                wide[..bytes.len()].copy_from_slice(&bytes);
                // Sign-extended from its own width.
                let shift = 64 - 8 * n as u32;
                Ok(((i64::from_le_bytes(wide) << shift) >> shift).to_string().into_bytes())
            }
            Length::Lzf => {
                let packed = self.length()?;
                let plain = self.length()?;
                if plain > STRING {
                    return Err(self.corrupt(format!("a name of {plain} bytes")));
                }
                let bytes = self.take(packed)?;
                lzf::decompress(&bytes, plain as usize).ok_or_else(|| self.corrupt("a compressed string is damaged"))
            }
        }
    }

    /// Takes the checksum at the end: what is written there, and what it should be.
    pub fn footer(&mut self) -> Result<(u64, u64), Fault> {
        self.sum();
        let computed = self.crc.finalize();
        let stored = u64::from_le_bytes(self.bytes::<FOOTER>()?);
        Ok((stored, computed))
    }

    /// True when nothing follows.
    pub fn at_end(&mut self) -> Result<bool, Fault> {
        Ok(!self.fill()?)
    }

    /// Passes over all that follows, whatever it is; the last eight bytes are the checksum.
    pub fn rest(&mut self) -> Result<(u64, u64), Fault> {
        self.sum();
        let mut held: Vec<u8> = Vec::new();
        while self.fill()? {
            held.extend_from_slice(&self.buffer[self.start..self.end]);
            self.offset += (self.end - self.start) as u64;
            // These bytes go into the checksum from `held`, not from the buffer.
            self.start = self.end;
            self.summed = self.end;
            let ready = held.len().saturating_sub(FOOTER);
            self.crc.update(&held[..ready]);
            held.drain(..ready);
        }
        let stored: [u8; FOOTER] = held.try_into().map_err(|_| Fault::Truncated { offset: self.offset })?;
        Ok((u64::from_le_bytes(stored), self.crc.finalize()))
    }
}
