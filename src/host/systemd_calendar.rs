//! systemd's calendar events as the five fields of cron, for those who know nothing else.
//!
//! systemd says more than cron can: seconds, years, weekdays and days of the month at once, several events. What cron
//! cannot say is not approximated: a watchdog that waits for another moment than the timer's is worse than none.

use std::collections::BTreeSet;

/// A schedule as cron says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crontab {
    /// Minute, hour, day of the month, month, day of the week.
    pub fields: String,
    /// The zone of the hours, when the events name one.
    pub timezone: Option<String>,
}

/// Weekdays as systemd writes them in its normal form, whose weeks begin with Monday. cron's begin with Sunday, as 0.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// One event, taken apart.
#[derive(PartialEq)]
struct Event {
    minute: String,
    hour: String,
    day: String,
    month: String,
    weekday: String,
    timezone: Option<String>,
}

/// Calendar events, each in systemd's normal form, as one line of cron. Nothing when cron cannot say it.
pub fn crontab(events: &[String]) -> Option<Crontab> {
    let mut all = events.iter().map(|text| event(text)).collect::<Option<Vec<Event>>>()?;
    let mut first = all.pop()?;
    // Several can be one line when they differ in their hour only.
    let mut hours = vec![std::mem::take(&mut first.hour)];
    for mut other in all {
        hours.push(std::mem::take(&mut other.hour));
        if other != first {
            return None;
        }
    }
    if hours.len() > 1 && hours.iter().any(|h| h == "*") {
        return None;
    }
    hours.reverse();
    let Event { minute, day, month, weekday, timezone, .. } = first;
    Some(Crontab { fields: format!("{minute} {} {day} {month} {weekday}", hours.join(",")), timezone })
}

/// `Mon..Fri *-*-* 22:30:00 Europe/Berlin`.
fn event(text: &str) -> Option<Event> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let weekday = match words.first()?.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => weekdays(words.remove(0))?,
        false => "*".to_owned(),
    };
    let (date, time) = (*words.first()?, *words.get(1)?);
    let timezone = match words.len() {
        2 => None,
        3 => Some(words[2].to_owned()),
        _ => return None,
    };
    let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().ok()?;
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>().try_into().ok()?;
    let (month, day) = (field(month, 1, 12)?, field(day, 1, 31)?);
    // cron takes either, systemd both.
    if year != "*" || second != "00" || (weekday != "*" && day != "*") {
        return None;
    }
    Some(Event { minute: field(minute, 0, 59)?, hour: field(hour, 0, 23)?, day, month, weekday, timezone })
}

/// `Mon,Thu`, `Mon..Fri`, or both, as a list of numbers: a range over the end of cron's week is none that it takes.
fn weekdays(text: &str) -> Option<String> {
    let place = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = part.split_once("..").unwrap_or((part, part));
        numbers.extend((place(from)?..=place(to)?).map(|n| (n + 1) % DAYS.len()));
    }
    Some(numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// `*`, or a list of numbers, ranges `1..5`, and steps `0/6`.
fn field(text: &str, first: u32, last: u32) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| (first..=last).contains(n));
    let part = |part: &str| {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (from, to) = match (range, range.split_once("..")) {
            ("*", _) => (first, Some(last)),
            (_, Some((from, to))) => (number(from)?, Some(number(to)?)),
            _ => (number(range)?, step.map(|_| last)),
        };
        let range = to.map_or_else(|| from.to_string(), |to| format!("{from}-{to}"));
        match step {
            Some(step) => Some(format!("{range}/{}", step.parse::<u32>().ok().filter(|n| *n > 0)?)),
            None => Some(range),
        }
    };
    Some(text.split(',').map(part).collect::<Option<Vec<_>>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(events: &[&str]) -> Option<String> {
        let crontab = crontab(&events.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>())?;
        Some(format!("{}{}", crontab.fields, crontab.timezone.map(|z| format!(" {z}")).unwrap_or_default()))
    }

    #[test]
    fn what_cron_can_say_is_said() {
        for (event, cron) in [
            ("*-*-* 02:00:00", "0 2 * * *"),
            ("*-*-* *:00:00", "0 * * * *"),
            ("Mon *-*-* 03:15:00", "15 3 * * 1"),
            ("Mon..Fri *-*-* 22:30:00 UTC", "30 22 * * 1,2,3,4,5 UTC"),
            ("Mon,Thu,Sat..Sun *-*-* 12:00:00 Europe/Berlin", "0 12 * * 0,1,4,6 Europe/Berlin"),
            ("*-*-01,15 04:05:00", "5 4 1,15 * *"),
            ("*-01..03-01 04:05:00", "5 4 1 1-3 *"),
            ("*-*-* 00/6:00:00", "0 0-23/6 * * *"),
            ("*-*-* 02,14:30:00", "30 2,14 * * *"),
        ] {
            assert_eq!(of(&[event]).as_deref(), Some(cron), "{event}");
        }
        assert_eq!(of(&["*-*-* 02:00:00", "*-*-* 12:00:00"]).as_deref(), Some("0 2,12 * * *"));
    }

    #[test]
    fn what_cron_cannot_say_is_not_approximated() {
        for events in [
            &["*-*-* 02:00:30"][..],
            &["2027-*-* 02:00:00"],
            &["Mon *-*-01..07 02:00:00"],
            &["*-*~01 02:00:00"],
            &["*-*-* *:*:00/3"],
            &["*-*-* 02:00:00", "*-*-* 12:30:00"],
            &["*-*-* 02:00:00 UTC", "*-*-* 12:00:00"],
            &["*-*-* 02:00:00", "*-*-* *:00:00"],
            &[],
            &["daily"],
        ] {
            assert_eq!(of(events), None, "{events:?}");
        }
    }
}
