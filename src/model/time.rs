//! Times and durations as people read them and as the configuration writes them.

use crate::error::{Error, Kind, Result};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// `2026-01-03 22:00:00 UTC`.
pub fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2026-01-03 23:00 CET`: the same moment on the host's clock.
pub fn local(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// A duration in its two largest units: `3 d 4 h`, `12 min 5 s`, `1.24 s`.
pub fn words(d: SignedDuration) -> String {
    let s = d.as_secs().max(0);
    match s {
        0..=9 => format!("{:.2} s", d.as_secs_f64().max(0.0)),
        10..=59 => format!("{:.1} s", d.as_secs_f64()),
        60..=3599 => format!("{} min {} s", s / 60, s % 60),
        3600..=86399 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// How long ago: `4 h 12 min ago`; `in the future` for a clock that was set back.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let d = now.duration_since(at);
    if d.as_secs() < -60 { "in the future".into() } else { format!("{} ago", words(d)) }
}

/// Parses `500ms`, `90s`, `15m`, `36h`, `7d`, `4w`, `6mo`, `2y` (months of 30 days, years of 365).
///
/// # Errors
/// [`Kind::Config`] with the text that is not a duration.
pub fn parse_duration(text: &str) -> Result<SignedDuration> {
    let bad = || {
        Error::new(Kind::Config, format!("{text:?} is not a duration"))
            .hint("Write a number with ms, s, m, h, d, w, mo or y, like 7d.")
    };
    let t = text.trim();
    let split = t.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let n: i64 = t[..split].parse().map_err(|_| bad())?;
    let unit = match t[split..].trim() {
        "ms" => return Ok(SignedDuration::from_millis(n)),
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "mo" => 30 * 86_400,
        "y" => 365 * 86_400,
        _ => return Err(bad()),
    };
    n.checked_mul(unit).map(SignedDuration::from_secs).ok_or_else(bad)
}

/// Parses what an operator types for a moment: `2026-01-03T22:00:00Z`, or without a zone in local time,
/// `2026-01-03 22:00` or `2026-01-03`.
///
/// # Errors
/// [`Kind::Usage`] with the text that is not a time.
pub fn parse_moment(text: &str) -> Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let bad = || {
        Error::new(Kind::Usage, format!("{text:?} is not a time"))
            .hint("Write 2026-01-03T22:00:00Z, or \"2026-01-03 22:00\" in the host's local time.")
    };
    let civil: jiff::civil::DateTime = text
        .parse()
        .or_else(|_| jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M", text))
        .or_else(|_| text.parse::<jiff::civil::Date>().map(|d| d.at(23, 59, 59, 0)))
        .map_err(|_| bad())?;
    civil.to_zoned(TimeZone::system()).map(|z| z.timestamp()).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_and_read_back() {
        assert_eq!(parse_duration("7d").unwrap().as_secs(), 604_800);
        assert_eq!(words(parse_duration("100h").unwrap()), "4 d 4 h");
        assert!(parse_duration("7").is_err());
        assert!(parse_duration("7 fortnights").is_err());
    }

    #[test]
    fn moments_parse_with_and_without_a_zone() {
        assert_eq!(parse_moment("2026-01-03T22:00:00Z").unwrap().to_string(), "2026-01-03T22:00:00Z");
        assert!(parse_moment("2026-01-03 22:00").is_ok());
        assert!(parse_moment("yesterday").is_err());
    }
}
