//! Reading an RDB file: is it whole, and how many keys does it hold?
//!
//! The file is read once, as a stream, in constant memory. Keys are counted per database, those that expire apart:
//! a server drops what has expired while it loads, so only the others can be held against a restored server. A type
//! that is not known here (of a newer server) stops the count and not the check: the checksum at the end covers the
//! whole file whatever is in it.

pub mod input;
pub mod versions;

mod lzf;
mod values;

use input::{Input, Rest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

/// Keys of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Its number.
    pub db: u64,
    /// All keys.
    pub keys: u64,
    /// Keys with a time of expiry.
    pub expiring: u64,
    /// Keys without one, of whose fields some have one: they vanish with their last field.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fields_expire: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Counts {
    /// Keys that are there after any time.
    pub fn lasting(&self) -> u64 {
        self.keys - self.expiring - self.fields_expire
    }
}

/// What an RDB holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Version of the format.
    pub version: u32,
    /// True when it says `VALKEY` where Redis writes `REDIS`.
    pub valkey: bool,
    /// `redis-ver`, `ctime` and other such fields.
    pub aux: BTreeMap<String, String>,
    /// Databases that hold keys, by number.
    pub databases: Vec<Counts>,
    /// Names of the function libraries.
    pub functions: Vec<String>,
    /// Whether there is a checksum (and it is right; a wrong one is a [`Fault`]).
    pub checksum: bool,
    /// What could not be read because it is newer than this program. The counts are then not complete.
    pub unknown: Option<String>,
    /// Length of the file.
    pub bytes: u64,
}

/// Why a file is not a whole RDB.
#[derive(Debug)]
pub enum Fault {
    /// It could not be read.
    Read(std::io::Error),
    /// It ends too early.
    Truncated {
        /// Where.
        offset: u64,
    },
    /// It is not what it should be.
    Corrupt {
        /// Where.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// The checksum at its end is of other content.
    Checksum {
        /// As written.
        stored: u64,
        /// As it should be.
        computed: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Read(e) => write!(f, "{e}"),
            Fault::Truncated { offset } => write!(f, "it ends after {offset} bytes, in the middle"),
            Fault::Corrupt { offset, what } => write!(f, "at byte {offset}: {what}"),
            Fault::Checksum { stored, computed } => {
                write!(f, "its checksum is {stored:016x} and should be {computed:016x}")
            }
        }
    }
}

impl std::error::Error for Fault {}

/// Opcodes that are not types of values.
mod op {
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION: u8 = 245;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQUENCY: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZE: u8 = 251;
    pub const EXPIRES_MS: u8 = 252;
    pub const EXPIRES: u8 = 253;
    pub const SELECT: u8 = 254;
    pub const END: u8 = 255;
    /// Opcodes begin here or above; below are types of values.
    pub const LOWEST: u8 = 240;
}

/// Reads a whole file to its end.
///
/// # Errors
/// When it is not one whole RDB and nothing else.
pub fn read(reader: impl Read) -> Result<Summary, Fault> {
    let mut input = Input::new(reader);
    let (mut summary, whole) = content(&mut input)?;
    let sums = if whole { footer(&mut input, &summary)? } else { input.rest()? };
    if !input.at_end()? {
        return Err(input.corrupt("something follows behind the end"));
    }
    compare(&mut summary, sums)?;
    summary.bytes = input.offset();
    Ok(summary)
}

/// Reads one at the beginning of a stream, and gives what follows. Where something unknown is in it, its end cannot be
/// found, and nothing is given.
///
/// # Errors
/// When it does not begin with a whole RDB.
pub fn read_head<R: Read>(reader: R) -> Result<(Summary, Option<Rest<R>>), Fault> {
    let mut input = Input::new(reader);
    let (mut summary, whole) = content(&mut input)?;
    if !whole {
        return Ok((summary, None));
    }
    let sums = footer(&mut input, &summary)?;
    compare(&mut summary, sums)?;
    summary.bytes = input.offset();
    Ok((summary, Some(input.into_rest())))
}

/// Everything before the checksum; false when something unknown ended it.
fn content(input: &mut Input<impl Read>) -> Result<(Summary, bool), Fault> {
    let mut summary = Summary::default();
    (summary.valkey, summary.version) = header(input)?;
    let whole = body(input, &mut summary)?;
    Ok((summary, whole))
}

/// The checksum as it is written, and as it should be. Redis before 2.6 wrote none.
fn footer(input: &mut Input<impl Read>, summary: &Summary) -> Result<(u64, u64), Fault> {
    if summary.version >= 5 { input.footer() } else { Ok((0, 0)) }
}

fn compare(summary: &mut Summary, (stored, computed): (u64, u64)) -> Result<(), Fault> {
    // Zero stands for a server that was told not to compute any.
    summary.checksum = stored != 0;
    if stored != 0 && stored != computed {
        return Err(Fault::Checksum { stored, computed });
    }
    Ok(())
}

fn header(input: &mut Input<impl Read>) -> Result<(bool, u32), Fault> {
    let magic: [u8; 9] = input.bytes()?;
    let (valkey, digits) = match (magic.strip_prefix(b"REDIS"), magic.strip_prefix(b"VALKEY")) {
        (Some(digits), _) => (false, digits),
        (_, Some(digits)) => (true, digits),
        _ => return Err(input.corrupt("it does not begin like an RDB file")),
    };
    let version = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
    version.map(|v| (valkey, v)).ok_or_else(|| input.corrupt("it names no version"))
}

/// Reads up to the end mark; false when something unknown came first.
fn body(input: &mut Input<impl Read>, summary: &mut Summary) -> Result<bool, Fault> {
    let mut databases: BTreeMap<u64, Counts> = BTreeMap::new();
    let (mut db, mut expires) = (0, false);
    let whole = loop {
        let code = input.byte()?;
        match code {
            op::END => break true,
            op::SELECT => db = input.length()?,
            op::RESIZE => {
                input.length()?;
                input.length()?;
            }
            op::EXPIRES_MS => {
                input.skip(8)?;
                expires = true;
            }
            op::EXPIRES => {
                input.skip(4)?;
                expires = true;
            }
            op::IDLE => {
                input.length()?;
            }
            op::FREQUENCY => input.skip(1)?,
            op::AUX => {
                let (key, value) = (input.string()?, input.string()?);
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                summary.aux.insert(text(key), text(value));
            }
            op::FUNCTION => {
                let code = input.string()?;
                summary.functions.push(library_name(&code));
            }
            op::MODULE_AUX => {
                // Id of the module, then when it was saved as an integer with its own mark in front.
                input.length()?;
                input.length()?;
                input.length()?;
                values::module(input)?;
            }
            op::SLOT_INFO => {
                for _ in 0..3 {
                    input.length()?;
                }
            }
            code if code >= op::LOWEST => {
                summary.unknown = Some(format!("opcode {code} at byte {}", input.offset()));
                break false;
            }
            kind => {
                input.skip_string()?;
                if !values::skip(input, kind, summary.valkey)? {
                    summary.unknown = Some(format!("a value of type {kind} at byte {}", input.offset()));
                    break false;
                }
                let counts = databases.entry(db).or_insert(Counts { db, ..Counts::default() });
                counts.keys += 1;
                if std::mem::take(&mut expires) {
                    counts.expiring += 1;
                } else if values::fields_expire(kind, summary.valkey) {
                    counts.fields_expire += 1;
                }
            }
        }
    };
    summary.databases = databases.into_values().collect();
    Ok(whole)
}

/// `#!lua name=mylib` at the head of a library's code.
fn library_name(code: &[u8]) -> String {
    let head = String::from_utf8_lossy(code.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
    head.split_whitespace().find_map(|word| word.strip_prefix("name=")).unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tail` behind a header, with its checksum.
    fn sealed(tail: &[u8]) -> Vec<u8> {
        let mut file = [b"REDIS0010", tail].concat();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, &file);
        file.extend_from_slice(&crc.to_le_bytes());
        file
    }

    #[test]
    fn the_checksum_is_that_of_redis() {
        // The check value in the source of Redis (crc64.c).
        assert_eq!(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn keys_are_counted_and_an_unknown_type_stops_the_count_and_not_the_check() {
        let key = |kind: u8| [kind, 1, b'k', 1, b'v'];
        let counted = sealed(&[&[254, 3][..], &key(0), &[252, 0, 0, 0, 0, 0, 0, 0, 0], &key(0), &[255]].concat());
        let summary = read(&counted[..]).unwrap();
        assert_eq!(summary.databases, [Counts { db: 3, keys: 2, expiring: 1, fields_expire: 0 }]);
        assert!(summary.checksum && summary.bytes == counted.len() as u64);
        let mut newer = sealed(&[&key(0)[..], &key(99), &[1; 300_000], &[255]].concat());
        let summary = read(&newer[..]).unwrap();
        assert!(summary.unknown.unwrap().contains("type 99"));
        let middle = newer.len() / 2;
        newer[middle] ^= 1;
        assert!(matches!(read(&newer[..]), Err(Fault::Checksum { .. })));
    }

    #[test]
    fn what_follows_a_snapshot_is_given_byte_for_byte() {
        let file = sealed(&[254, 0, 0, 1, b'k', 1, b'v', 255]);
        let more = [&file[..], b"*1\r\n"].concat();
        let (summary, rest) = read_head(&more[..]).unwrap();
        let mut behind = Vec::new();
        rest.unwrap().read_to_end(&mut behind).unwrap();
        assert_eq!((summary.databases[0].keys, summary.bytes, &behind[..]), (1, file.len() as u64, &b"*1\r\n"[..]));
        assert!(read_head(&file[..file.len() - 1]).is_err());
    }

    #[test]
    fn every_cut_and_every_addition_is_noticed() {
        let file = sealed(&[254, 0, 0, 1, b'k', 1, b'v', 255]);
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err(), "{end}");
        }
        assert!(matches!(read(&[&file[..], b"x"].concat()[..]), Err(Fault::Corrupt { .. })));
    }
}
