//! Sizes and rates as people read them and as the configuration writes them.

use crate::error::{Error, Kind, Result};

/// Bytes in binary units with three significant digits: `999 B`, `1.21 MiB`, `14.2 GiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 100.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A count with thin groups of three: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count with its noun: `1 file`, `1,204 files`.
pub fn plural(n: u64, noun: &str) -> String {
    let many = match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{noun}s"),
    };
    format!("{} {}", count(n), if n == 1 { noun } else { &many })
}

/// Parses `512`, `64KiB`, `10 MiB`, `1.5GiB`, `20MB` into bytes.
///
/// # Errors
/// [`Kind::Config`] with the text that is not a size.
pub fn parse(text: &str) -> Result<u64> {
    let bad = || {
        Error::new(Kind::Config, format!("{text:?} is not a size"))
            .hint("Write a number with B, KiB, MiB, GiB or TiB, like 10MiB.")
    };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let factor: f64 = match unit.trim().to_ascii_lowercase().trim_end_matches("/s") {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1048576.0,
        "gib" | "g" => 1073741824.0,
        "tib" | "t" => 1099511627776.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(bad()),
    };
    Ok((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(human(999), "999 B");
        assert_eq!(human(1023), "1.00 KiB");
        assert_eq!(human(1_268_777), "1.21 MiB");
        assert_eq!(human(15_247_473_664), "14.2 GiB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "file"), "1 file");
        assert_eq!(plural(2, "directory"), "2 directories");
    }

    #[test]
    fn sizes_parse_with_their_unit() {
        assert_eq!(parse("10MiB").unwrap(), 10 << 20);
        assert_eq!(parse("1.5 GiB").unwrap(), 3 << 29);
        assert_eq!(parse("20MB/s").unwrap(), 20_000_000);
        assert!(parse("ten").is_err());
        assert!(parse("10 parsecs").is_err());
    }
}
