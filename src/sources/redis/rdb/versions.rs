//! Which server reads which version of the format.
//!
//! From `RDB_VERSION` in `src/rdb.h` of the releases of Redis (2.6.0 to 8.0) and Valkey (7.2 to 8.1). Valkey 9
//! writes version 80, and refuses 12 to 79, which it leaves to Redis.

/// First release (major, minor), and the newest version of the format that it reads.
const REDIS: &[((u32, u32), u32)] =
    &[((2, 6), 6), ((3, 2), 7), ((4, 0), 8), ((5, 0), 9), ((7, 0), 10), ((7, 2), 11), ((7, 4), 12)];
const VALKEY: &[((u32, u32), u32)] = &[((7, 2), 11), ((9, 0), 80)];
/// Releases behind these may read more than the table says.
const NEWEST_REDIS: (u32, u32) = (8, 0);
const NEWEST_VALKEY: (u32, u32) = (9, 0);
/// Versions that Valkey leaves to Redis.
const FOREIGN_TO_VALKEY: std::ops::RangeInclusive<u32> = 12..=79;
/// The first version that only Valkey writes.
const VALKEY_ONLY: u32 = 80;

/// Whether a server can load a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// The server is newer than this program knows.
    Unknown,
}

/// `7.0.15` as (7, 0).
pub fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether a server of a product (`redis`, `valkey`) and version loads a file of a version of the format.
pub fn readable(format: u32, product: &str, server: &str) -> Readable {
    let Some(server) = parse(server) else { return Readable::Unknown };
    let valkey = product == "valkey";
    let (table, newest) = if valkey { (VALKEY, NEWEST_VALKEY) } else { (REDIS, NEWEST_REDIS) };
    if valkey && FOREIGN_TO_VALKEY.contains(&format) || !valkey && format >= VALKEY_ONLY {
        return Readable::No;
    }
    match table.iter().rev().find(|(first, _)| *first <= server) {
        Some((_, reads)) if format <= *reads => Readable::Yes,
        _ if server > newest => Readable::Unknown,
        _ => Readable::No,
    }
}

/// The oldest release that reads a version of the format, for messages.
pub fn oldest_reader(format: u32, valkey: bool) -> Option<String> {
    let (name, table) = if valkey { ("Valkey", VALKEY) } else { ("Redis", REDIS) };
    let ((major, minor), _) = table.iter().find(|(_, reads)| *reads >= format)?;
    Some(format!("{name} {major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_server_does_not_read_a_newer_file() {
        for (format, product, server, expected) in [
            (9, "redis", "6.0.16", Readable::Yes),
            (10, "redis", "6.2.7", Readable::No),
            (10, "redis", "7.0.15", Readable::Yes),
            (12, "redis", "7.2.4", Readable::No),
            (12, "redis", "8.0.2", Readable::Yes),
            (15, "redis", "8.0.2", Readable::No),
            (15, "redis", "8.10.0", Readable::Unknown),
            (80, "redis", "8.10.0", Readable::No),
            (11, "valkey", "8.1.1", Readable::Yes),
            (12, "valkey", "8.1.1", Readable::No),
            (12, "valkey", "9.5.0", Readable::No),
            (80, "valkey", "9.0.0", Readable::Yes),
            (3, "redis", "2.4.0", Readable::No),
        ] {
            assert_eq!(readable(format, product, server), expected, "{format} {product} {server}");
        }
        assert_eq!(oldest_reader(12, false).unwrap(), "Redis 7.4");
    }
}
