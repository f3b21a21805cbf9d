//! Ids and names, each a type of its own so that one cannot be taken for another.

use crate::error::{Error, Kind, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Lower-case hex of a byte string.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)] as char);
        out.push(DIGITS[usize::from(b & 15)] as char);
    }
    out
}

/// Bytes of a lower-case hex string of exactly `N` bytes; `None` for anything else.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0u8; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = digit(text[2 * i])? << 4 | digit(text[2 * i + 1])?;
    }
    Some(out)
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> {
                from_hex::<$bytes>(s).map($name).ok_or_else(|| {
                    Error::new(Kind::Damaged, concat!("not a valid ", stringify!($name))).at(format!("{s:?}"))
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                s.serialize_str(&to_hex(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                struct V;
                impl serde::de::Visitor<'_> for V {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "{} hex digits", $bytes * 2)
                    }
                    fn visit_str<E: serde::de::Error>(self, s: &str) -> std::result::Result<$name, E> {
                        from_hex::<$bytes>(s).map($name).ok_or_else(|| E::custom("not a hex id"))
                    }
                }
                d.deserialize_str(V)
            }
        }
    };
}

hex_id!(
    /// The random id of a vault; bound into every authentication code.
    VaultId, 16
);
hex_id!(
    /// A pack's name: the keyed BLAKE3 of its plaintext.
    PackId, 32
);
hex_id!(
    /// The first bytes of a pack's name, where a rare mistake costs nothing but space.
    PackPrefix, 8
);
hex_id!(
    /// A blob's id: the first 128 bits of the keyed BLAKE3 of its bytes. Collisions cannot be searched for
    /// without the vault secret, and by chance need about 2^64 blobs.
    BlobId, 16
);

impl PackId {
    /// The first bytes.
    pub fn prefix(&self) -> PackPrefix {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        PackPrefix(first)
    }
}

impl VaultId {
    /// A fresh random id.
    pub fn random() -> Self {
        VaultId(rand::random())
    }
}

/// One stored pack object: the name of its plaintext and a generation.
///
/// Generation 0 comes first. A later one is stored when the earlier is condemned by prune or marked damaged;
/// all generations of a name hold the same plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackKey {
    /// Name of the plaintext.
    pub id: PackId,
    /// Which storing of it.
    pub generation: u32,
}

impl fmt::Display for PackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.id, self.generation)
    }
}

impl FromStr for PackKey {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::new(Kind::Damaged, "not a valid pack name").at(format!("{s:?}"));
        let (id, generation) = s.split_once('-').ok_or_else(bad)?;
        let canonical = generation == "0" || !generation.starts_with(['0', '+']);
        let generation = generation.parse().ok().filter(|_| canonical).ok_or_else(bad)?;
        Ok(PackKey { id: id.parse().map_err(|_| bad())?, generation })
    }
}

impl Serialize for PackKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PackKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(|e: Error| serde::de::Error::custom(e.one_line()))
    }
}

/// The id of a backup: the host's UTC time to the second and a tail, `20260103T220000Z-k3v9q2`. The tail's first two
/// letters are the fraction of the second and the other four are random, so that ids sort by time as text. The time
/// is for people; retention uses the store's time in the manifest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

impl BackupId {
    /// In ascending order, without those that are easily misread.
    const TAIL: &'static [u8; 32] = b"023456789abcdefghjkmnpqrstuvwxyz";

    /// A new id at a time.
    pub fn new(at: Timestamp) -> Self {
        let letter = |n: u32| Self::TAIL[(n & 31) as usize] as char;
        let fraction = (i64::from(at.subsec_nanosecond().unsigned_abs()) * 1024 / 1_000_000_000) as u32;
        let random: String = (0..4).map(|_| letter(rand::random())).collect();
        BackupId(format!("{}-{}{}{random}", at.strftime("%Y%m%dT%H%M%SZ"), letter(fraction >> 5), letter(fraction)))
    }

    /// A new id that sorts behind another one, also when the clock was set back since.
    pub fn after(at: Timestamp, newest: Option<&BackupId>) -> Self {
        match newest {
            Some(newest) if BackupId::new(at) <= *newest => {
                // The next whole second behind it: later than any fraction.
                BackupId::new(newest.time() + jiff::SignedDuration::from_secs(1))
            }
            _ => BackupId::new(at),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host's time in the id.
    pub fn time(&self) -> Timestamp {
        Self::parse_time(&self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn parse_time(text: &str) -> Option<Timestamp> {
        let time = text.get(..16)?;
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time)
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|z| z.timestamp())
    }
}

impl FromStr for BackupId {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let tail_ok = s
            .get(16..)
            .is_some_and(|t| t.len() == 7 && t.starts_with('-') && t[1..].bytes().all(|b| Self::TAIL.contains(&b)));
        if tail_ok && Self::parse_time(s).is_some() {
            Ok(BackupId(s.to_owned()))
        } else {
            Err(Error::new(Kind::NotFound, "not a backup id")
                .at(format!("{s:?}"))
                .hint("An id looks like 20260103T220000Z-k3v9q2; `backstay list` shows them."))
        }
    }
}

impl TryFrom<String> for BackupId {
    type Error = String;
    fn try_from(s: String) -> std::result::Result<Self, String> {
        s.parse().map_err(|e: Error| e.one_line())
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> String {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a host, plan, source or key: it becomes part of object keys and file names, therefore
/// 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let good = (1..=64).contains(&s.len())
            && s.as_bytes()[0].is_ascii_alphanumeric()
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good {
            Ok(Name(s.to_owned()))
        } else {
            Err(Error::new(Kind::Config, format!("{s:?} cannot be used as a name"))
                .hint("Use 1 to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit."))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(s: String) -> std::result::Result<Self, String> {
        s.parse().map_err(|e: Error| e.one_line())
    }
}

impl From<Name> for String {
    fn from(n: Name) -> String {
        n.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_a_round_trip_and_nothing_else_is_taken_for_one() {
        let id = BackupId::new("2026-01-03T22:00:00Z".parse().unwrap());
        assert_eq!(id.as_str().parse::<BackupId>().unwrap(), id);
        assert_eq!(id.time().to_string(), "2026-01-03T22:00:00Z");
        for bad in [
            "",
            "latest",
            "20260103T220000Z",
            "20261303T220000Z-abcdef",
            "20260103T220000Z-abcde/",
            "20260103T220000Z-abcdeé",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_sort_by_time_also_within_a_second_and_after_a_clock_was_set_back() {
        let at = |millis: i64| Timestamp::from_millisecond(1_767_477_600_000 + millis).unwrap();
        for step in [2, 50, 900, 1000] {
            assert!(BackupId::new(at(0)) < BackupId::new(at(step)), "{step}");
        }
        let newest = BackupId::new(at(5_000_999));
        let next = BackupId::after(at(0), Some(&newest));
        assert!(next > newest && BackupId::after(at(0), Some(&next)) > next);
    }

    #[test]
    fn pack_keys_have_one_spelling() {
        let key = PackKey { id: PackId([7; 32]), generation: 10 };
        assert_eq!(key.to_string().parse::<PackKey>().unwrap(), key);
        for bad in ["-0", "+1", "01", "", "4294967296"] {
            assert!(format!("{}-{bad}", PackId([7; 32])).parse::<PackKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for bad in ["", "..", ".hidden", "a/b", "ä", "a b", "-x"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!("erp-1.example_com".parse::<Name>().is_ok());
    }
}
