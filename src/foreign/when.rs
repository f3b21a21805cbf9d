//! The time in a name, and the moment that it means.
//!
//! The rule for local time: an hour that the clock showed twice (when summer time ends) is taken as the first of the
//! two, since nobody can tell and a backup must not pass for newer than it is; an hour that the clock
//! never showed cannot be in the name of a file that a script in that zone made, so it is refused: the zone is wrong.

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};

/// How times are written.
#[derive(Clone, Debug)]
pub struct Clock {
    /// As `date` takes it: `%Y%m%d_%H%M%S`.
    pub format: String,
    /// The zone of what is written without an offset.
    pub zone: TimeZone,
    /// The name of the zone, for messages.
    pub zone_name: String,
}

/// What a text means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This moment.
    At(Timestamp),
    /// The clock showed it twice; this is the first time.
    Twice(Timestamp),
    /// The clock of that zone never showed it.
    Never,
}

impl Clock {
    /// The moment of a text; nothing when it is not written so.
    pub fn read(&self, text: &str) -> Option<Moment> {
        let parts = BrokenDownTime::parse(&self.format, text).ok()?;
        // A format with seconds since the epoch or with an offset of its own says the moment by itself.
        if let Ok(at) = parts.to_timestamp() {
            return Some(Moment::At(at));
        }
        let civil = match parts.to_datetime() {
            Ok(civil) => civil,
            Err(_) => parts.to_date().ok()?.at(0, 0, 0, 0),
        };
        self.moment(civil)
    }

    fn moment(&self, civil: DateTime) -> Option<Moment> {
        let ambiguous = self.zone.to_ambiguous_zoned(civil);
        let twice = match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => return Some(Moment::Never),
            AmbiguousOffset::Fold { .. } => true,
            AmbiguousOffset::Unambiguous { .. } => false,
        };
        let at: Zoned = ambiguous.earlier().ok()?;
        Some(if twice { Moment::Twice(at.timestamp()) } else { Moment::At(at.timestamp()) })
    }

    /// The lengths that a text of this format can have, shortest first.
    pub fn lengths(&self) -> std::ops::RangeInclusive<usize> {
        let (mut least, mut most) = (0, 0);
        let mut chars = self.format.chars();
        while let Some(c) = chars.next() {
            let (a, b) = match (c, if c == '%' { chars.next() } else { None }) {
                ('%', Some('Y' | 'G')) => (4, 4),
                ('%', Some('m' | 'd' | 'H' | 'I' | 'M' | 'S' | 'y' | 'U' | 'W' | 'V' | 'p')) => (2, 2),
                ('%', Some('j' | 'b' | 'a' | 'h')) => (3, 3),
                ('%', Some('F')) => (10, 10),
                ('%', Some('T')) => (8, 8),
                ('%', Some('R')) => (5, 5),
                ('%', Some('%')) => (1, 1),
                ('%', _) => (1, 20),
                (c, _) => (c.len_utf8(), c.len_utf8()),
            };
            least += a;
            most += b;
        }
        least..=most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(format: &str, zone: &str) -> Clock {
        Clock { format: format.into(), zone: TimeZone::get(zone).unwrap(), zone_name: zone.into() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn local_times_become_moments() {
        let utc = clock("%Y%m%d_%H%M%S", "UTC");
        assert_eq!(utc.read("20260104_020000"), Some(Moment::At(at("2026-01-04T02:00:00Z"))));
        assert_eq!(utc.read("20260104-020000"), None);
        assert_eq!(utc.read("20261304_020000"), None);
        assert_eq!(utc.lengths(), 15..=15);
        let singapore = clock("%Y%m%d_%H%M%S", "Asia/Singapore");
        assert_eq!(singapore.read("20260101_210029"), Some(Moment::At(at("2026-01-01T13:00:29Z"))));
        // Only a date: its beginning.
        assert_eq!(clock("%F", "Asia/Singapore").read("2026-01-02"), Some(Moment::At(at("2026-01-01T16:00:00Z"))));
        assert_eq!(clock("%s", "Asia/Singapore").read("1767225600"), Some(Moment::At(at("2026-01-01T00:00:00Z"))));
    }

    #[test]
    fn an_hour_that_was_twice_is_the_first_and_one_that_never_was_is_told() {
        let berlin = clock("%Y%m%d_%H%M%S", "Europe/Berlin");
        assert_eq!(berlin.read("20251026_023000"), Some(Moment::Twice(at("2025-10-26T00:30:00Z"))));
        assert_eq!(berlin.read("20251026_013000"), Some(Moment::At(at("2025-10-25T23:30:00Z"))));
        assert_eq!(berlin.read("20260329_023000"), Some(Moment::Never));
        assert_eq!(clock("%Y%m%d_%H%M%S", "UTC").read("20260329_023000"), Some(Moment::At(at("2026-03-29T02:30:00Z"))));
    }
}
