//! Which backups may go: a pure function of the manifests' own store times, and the store's time now.
//!
//! Computed per plan and source over backups in which that source is complete; a backup goes only when none of
//! its sources is kept. Never gone: the newest complete one of each source, one that is held, the one that a
//! drill proved last. A backup that is far smaller than usual does not count, and so cannot push a good one
//! out, until a person acknowledges it; nor does one that a check found damaged, until it is healed.

use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::repository::manifest::Manifest;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// How many to keep. A number of periods means the newest backup in each of the last so many periods that have
/// one. Periods are those of UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub last: u32,
    /// Hours.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// ISO weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
    /// Everything younger than this, by the store's clock.
    pub within: Option<SignedDuration>,
}

impl Keep {
    /// True when nothing is asked for; then everything is kept, since an empty rule is more often a mistake.
    pub fn is_empty(&self) -> bool {
        *self == Keep::default()
    }
}

/// A backup of less than one part in so many of the usual bytes of a source does not count.
const SUSPICIOUS: u64 = 4;
/// What is usual: the median of so many backups before.
const USUAL_OF: usize = 7;

/// One source's view of a backup.
#[derive(Clone, Debug)]
struct Candidate {
    backup: (Name, BackupId),
    at: Timestamp,
    bytes: u64,
}

/// What is to happen to a backup, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Plan.
    pub plan: Name,
    /// Backup.
    pub id: BackupId,
    /// Store time.
    pub at: Timestamp,
    /// Why it stays; empty when it may go.
    pub reasons: BTreeSet<String>,
}

/// Facts that retention respects and that are not in manifests.
#[derive(Clone, Debug, Default)]
pub struct Respect {
    /// Held by the operator.
    pub held: HashSet<(Name, BackupId)>,
    /// Small ones that a person looked at.
    pub acknowledged: HashSet<(Name, BackupId)>,
    /// The last that a drill proved, per plan.
    pub proven: HashSet<(Name, BackupId)>,
    /// Sources that no longer protect a backup: removed from the configuration for good.
    pub ignored: HashSet<Name>,
    /// Sources of backups that cannot be restored in full: plan, backup, source.
    pub damaged: HashSet<(Name, BackupId, Name)>,
}

/// Decides for every manifest of one plan.
///
/// # Errors
/// [`Kind::Refused`] when the store's now lies before a backup: one of the clocks is wrong, and a rule that
/// counts from now would delete too much.
pub fn decide(manifests: &[Manifest], keep: &Keep, respect: &Respect, now: Timestamp) -> Result<Vec<Verdict>> {
    if let Some(newest) = manifests.iter().max_by_key(|m| m.store_time)
        && newest.store_time > now + SignedDuration::from_mins(5)
    {
        return Err(Error::new(Kind::Refused, "the newest backup lies in the future by the store's clock")
            .at(format!("{} of plan {}, {}", newest.id, newest.plan, crate::model::time::utc(newest.store_time)))
            .hint("Set the clock right (for file:// it is the host's). When it is right by now and was wrong then, `backstay forget ID` removes that one backup, and the rules go on. Nothing was forgotten."));
    }
    let mut verdicts: BTreeMap<(Name, BackupId), Verdict> = manifests
        .iter()
        .map(|m| {
            (
                (m.plan.clone(), m.id.clone()),
                Verdict { plan: m.plan.clone(), id: m.id.clone(), at: m.store_time, reasons: BTreeSet::new() },
            )
        })
        .collect();
    let mut give = |backup: &(Name, BackupId), reason: String| {
        if let Some(v) = verdicts.get_mut(backup) {
            v.reasons.insert(reason);
        }
    };
    if keep.is_empty() {
        manifests.iter().for_each(|m| give(&(m.plan.clone(), m.id.clone()), "no rule".into()));
    }
    for backup in &respect.held {
        give(backup, "held".into());
    }
    for backup in &respect.proven {
        give(backup, "proven by a drill".into());
    }
    let mut sources: BTreeMap<(Name, Name), Vec<Candidate>> = BTreeMap::new();
    for m in manifests {
        for s in
            m.sources.iter().filter(|s| s.is_complete() && s.kind != "config" && !respect.ignored.contains(&s.name))
        {
            let candidate = Candidate { backup: (m.plan.clone(), m.id.clone()), at: m.store_time, bytes: s.bytes() };
            sources.entry((m.plan.clone(), s.name.clone())).or_default().push(candidate);
        }
    }
    let is_damaged = |(plan, id): &(Name, BackupId), source: &Name| {
        respect.damaged.contains(&(plan.clone(), id.clone(), source.clone()))
    };
    for ((_, source), candidates) in sources {
        // They stay nevertheless: the next backup may heal them, and most of what they hold comes back already.
        let (damaged, mut candidates): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|c: &Candidate| is_damaged(&c.backup, &source));
        for c in &damaged {
            give(&c.backup, format!("{source}: damaged, does not count"));
        }
        candidates.sort_by(|a, b| (a.at, &a.backup.1).cmp(&(b.at, &b.backup.1)));
        let (counting, small) = split_suspicious(candidates, &respect.acknowledged);
        for c in &small {
            give(&c.backup, format!("{source}: far smaller than usual, not acknowledged"));
        }
        for (backup, reason) in kept(&counting, keep, now) {
            give(&backup, format!("{source}: {reason}"));
        }
    }
    // By source, runs of single sources could let the last backup of the whole plan go.
    let whole = |m: &&Manifest| {
        let backup = (m.plan.clone(), m.id.clone());
        m.is_complete() && !m.sources.iter().any(|s| is_damaged(&backup, &s.name))
    };
    if let Some(newest) = manifests.iter().filter(whole).max_by_key(|m| (m.store_time, m.id.clone())) {
        give(&(newest.plan.clone(), newest.id.clone()), "newest of the whole plan".into());
    }
    // A backup in which nothing is complete protects nothing; the newest one stays to be looked at.
    if let Some(newest) = manifests.iter().max_by_key(|m| (m.store_time, m.id.clone())) {
        give(&(newest.plan.clone(), newest.id.clone()), "newest".into());
    }
    Ok(verdicts.into_values().collect())
}

/// Splits off, oldest first, those that are far smaller than the median of the counting ones before them.
fn split_suspicious(
    candidates: Vec<Candidate>,
    acknowledged: &HashSet<(Name, BackupId)>,
) -> (Vec<Candidate>, Vec<Candidate>) {
    let (mut counting, mut small): (Vec<Candidate>, Vec<Candidate>) = (Vec::new(), Vec::new());
    for c in candidates {
        let mut before: Vec<u64> = counting.iter().rev().take(USUAL_OF).map(|c| c.bytes).collect();
        before.sort_unstable();
        let usual = before.get(before.len() / 2).copied().unwrap_or(0);
        if c.bytes < usual / SUSPICIOUS && !acknowledged.contains(&c.backup) { small.push(c) } else { counting.push(c) }
    }
    (counting, small)
}

/// The period that a time lies in: two numbers that differ between any two periods.
type Period = fn(Timestamp) -> (i32, i32);

/// The kept ones of one source's counting backups, oldest first, with the reason.
fn kept(candidates: &[Candidate], keep: &Keep, now: Timestamp) -> Vec<((Name, BackupId), String)> {
    let mut out = Vec::new();
    if let Some(newest) = candidates.last() {
        out.push((newest.backup.clone(), "newest complete".to_owned()));
    }
    for c in candidates.iter().rev().take(keep.last as usize) {
        out.push((c.backup.clone(), "last".to_owned()));
    }
    if let Some(within) = keep.within {
        out.extend(candidates.iter().filter(|c| c.at + within >= now).map(|c| (c.backup.clone(), "within".to_owned())));
    }
    let periods: [(u32, &str, Period); 5] = [
        (keep.hourly, "hourly", |t| {
            let z = t.to_zoned(TimeZone::UTC);
            (i32::from(z.year()) * 1000 + i32::from(z.day_of_year()), i32::from(z.hour()))
        }),
        (keep.daily, "daily", |t| {
            let z = t.to_zoned(TimeZone::UTC);
            (i32::from(z.year()), i32::from(z.day_of_year()))
        }),
        (keep.weekly, "weekly", |t| {
            let week = t.to_zoned(TimeZone::UTC).date().iso_week_date();
            (i32::from(week.year()), i32::from(week.week()))
        }),
        (keep.monthly, "monthly", |t| {
            let z = t.to_zoned(TimeZone::UTC);
            (i32::from(z.year()), i32::from(z.month()))
        }),
        (keep.yearly, "yearly", |t| (i32::from(t.to_zoned(TimeZone::UTC).year()), 0)),
    ];
    for (number, reason, period) in periods {
        let mut seen: Option<(i32, i32)> = None;
        let mut left = number;
        for c in candidates.iter().rev() {
            let this = period(c.at);
            if left > 0 && seen != Some(this) {
                out.push((c.backup.clone(), reason.to_owned()));
                seen = Some(this);
                left -= 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VaultId;
    use crate::repository::manifest::{Artifact, SourceRecord, SourceState, Stats};

    fn backup(at: &str, bytes: u64) -> Manifest {
        let at: Timestamp = at.parse().unwrap();
        let artifact = Artifact { name: "a".into(), media: "tar".into(), bytes, blake3: None, segments: vec![] };
        let source = SourceRecord {
            name: "db".parse().unwrap(),
            kind: "postgres".into(),
            state: SourceState::Complete,
            artifacts: vec![artifact],
            facts: serde_json::Value::Null,
            warnings: vec![],
            seconds: 0.0,
        };
        Manifest {
            format: 1,
            vault: VaultId([0; 16]),
            host: "h".parse().unwrap(),
            machine: String::new(),
            plan: "p".parse().unwrap(),
            id: BackupId::new(at),
            store_time: at,
            started: at,
            finished: at,
            predecessor: None,
            epoch: 1,
            agent: String::new(),
            whole_plan: true,
            sources: vec![source],
            stats: Stats::default(),
            sparse_packs: vec![],
            imported: None,
            unseen: None,
        }
    }

    fn failed(at: &str) -> Manifest {
        let mut m = backup(at, 0);
        m.sources[0].state = SourceState::Failed("no".into());
        m
    }

    fn nightly(days: i64) -> (Vec<Manifest>, Timestamp) {
        let start: Timestamp = "2024-01-01T02:00:00Z".parse().unwrap();
        let all = (0..days).map(|d| backup(&(start + SignedDuration::from_hours(24 * d)).to_string(), 1000)).collect();
        (all, start + SignedDuration::from_hours(24 * (days - 1) + 1))
    }

    fn survivors(verdicts: &[Verdict]) -> Vec<String> {
        verdicts.iter().filter(|v| !v.reasons.is_empty()).map(|v| v.at.strftime("%Y-%m-%d").to_string()).collect()
    }

    fn gfs() -> Keep {
        Keep { last: 3, daily: 7, weekly: 4, monthly: 12, yearly: 2, ..Keep::default() }
    }

    #[test]
    fn three_simulated_years_applied_every_night_keep_what_one_application_would() {
        let (all, _) = nightly(3 * 365);
        let mut there: Vec<Manifest> = Vec::new();
        for m in all.clone() {
            let now = m.store_time + SignedDuration::from_mins(10);
            there.push(m);
            let verdicts = decide(&there, &gfs(), &Respect::default(), now).unwrap();
            there.retain(|m| verdicts.iter().any(|v| v.id == m.id && !v.reasons.is_empty()));
        }
        let (_, now) = nightly(3 * 365);
        let at_once = survivors(&decide(&all, &gfs(), &Respect::default(), now).unwrap());
        let nightly: Vec<String> = there.iter().map(|m| m.store_time.strftime("%Y-%m-%d").to_string()).collect();
        assert_eq!(nightly, at_once);
        // 7 days, of which the last 3 are among them; 3 more weeks, 11 more months, 1 more year, less overlaps.
        assert!((19..=22).contains(&nightly.len()), "{nightly:?}");
        assert_eq!(nightly.last().unwrap(), "2026-12-30");
    }

    #[test]
    fn three_empty_backups_do_not_push_the_good_ones_out() {
        let mut all = vec![backup("2026-01-01T02:00:00Z", 1000), backup("2026-01-02T02:00:00Z", 1000)];
        all.extend((3..9).map(|d| backup(&format!("2026-01-0{d}T02:00:00Z"), 10)));
        let keep = Keep { last: 2, ..Keep::default() };
        let now = "2026-01-09T00:00:00Z".parse().unwrap();
        let verdicts = decide(&all, &keep, &Respect::default(), now).unwrap();
        assert!(survivors(&verdicts).starts_with(&["2026-01-01".into(), "2026-01-02".into()]));
        // A person says that the small ones are right: now they count.
        let respect = Respect {
            acknowledged: all[2..].iter().map(|m| (m.plan.clone(), m.id.clone())).collect(),
            ..Respect::default()
        };
        assert_eq!(survivors(&decide(&all, &keep, &respect, now).unwrap()), ["2026-01-07", "2026-01-08"]);
    }

    #[test]
    fn damaged_backups_do_not_push_the_good_ones_out_and_stay_for_what_may_heal_them() {
        let (all, now) = nightly(6);
        let keep = Keep { last: 2, ..Keep::default() };
        let of = |damaged: &[usize]| {
            let part = |i: &usize| (all[*i].plan.clone(), all[*i].id.clone(), "db".parse().unwrap());
            let respect = Respect { damaged: damaged.iter().map(part).collect(), ..Respect::default() };
            decide(&all, &keep, &respect, now).unwrap()
        };
        assert_eq!(survivors(&of(&[4, 5])), ["2024-01-03", "2024-01-04", "2024-01-05", "2024-01-06"]);
        assert_eq!(survivors(&of(&[5])), ["2024-01-04", "2024-01-05", "2024-01-06"]);
        assert_eq!(survivors(&of(&[])), ["2024-01-05", "2024-01-06"]);
        let verdicts = of(&[5]);
        let newest = |reason: &str| verdicts.iter().find(|v| v.reasons.contains(reason)).map(|v| v.id.clone()).unwrap();
        assert_eq!(newest("db: newest complete"), all[4].id);
        assert_eq!(newest("newest of the whole plan"), all[4].id);
        assert_eq!(newest("db: damaged, does not count"), all[5].id);
    }

    #[test]
    fn outlines_are_judged_as_whole_manifests_are() {
        let mut all: Vec<Manifest> = (1..9).map(|d| backup(&format!("2026-01-0{d}T02:00:00Z"), 1000)).collect();
        all[5] = backup("2026-01-06T02:00:00Z", 10);
        all[6] = failed("2026-01-07T02:00:00Z");
        let segment = serde_json::json!({ "object": format!("{}-0", "ab".repeat(32)), "sealed": 1, "crc": 1, "entries": 1, "bytes": 1 });
        for m in &mut all {
            m.sources[0].artifacts[0].segments = vec![serde_json::from_value(segment.clone()).unwrap(); 1000];
        }
        let outlines: Vec<Manifest> = all.iter().cloned().map(Manifest::outline).collect();
        let keep = Keep { last: 2, ..Keep::default() };
        let now = "2026-01-09T00:00:00Z".parse().unwrap();
        let of = |manifests: &[Manifest]| decide(manifests, &keep, &Respect::default(), now).unwrap();
        assert_eq!(of(&outlines), of(&all));
        let size = |m: &Manifest| serde_json::to_vec(m).unwrap().len();
        assert!(outlines.iter().all(|m| size(m) < 1000) && size(&all[0]) > 100_000);
    }

    #[test]
    fn failed_backups_never_age_out_a_good_one() {
        let mut all = vec![backup("2026-01-01T02:00:00Z", 1000)];
        all.extend((2..9).map(|d| failed(&format!("2026-01-0{d}T02:00:00Z"))));
        let keep = Keep { last: 1, ..Keep::default() };
        let kept =
            survivors(&decide(&all, &keep, &Respect::default(), "2026-01-09T00:00:00Z".parse().unwrap()).unwrap());
        assert_eq!(kept, ["2026-01-01", "2026-01-08"]);
    }

    #[test]
    fn the_held_and_the_proven_stay_and_an_empty_rule_keeps_everything() {
        let (all, now) = nightly(30);
        let pick = |i: usize| HashSet::from([(all[i].plan.clone(), all[i].id.clone())]);
        let respect = Respect { held: pick(3), proven: pick(5), ..Respect::default() };
        let keep = Keep { last: 1, ..Keep::default() };
        assert_eq!(survivors(&decide(&all, &keep, &respect, now).unwrap()), ["2024-01-04", "2024-01-06", "2024-01-30"]);
        assert_eq!(survivors(&decide(&all, &Keep::default(), &respect, now).unwrap()).len(), 30);
    }

    #[test]
    fn a_clock_set_back_forgets_nothing() {
        let (all, _) = nightly(3);
        assert_eq!(
            decide(&all, &gfs(), &Respect::default(), "2023-01-01T00:00:00Z".parse().unwrap()).unwrap_err().kind,
            Kind::Refused
        );
    }

    #[test]
    fn within_counts_from_the_stores_now() {
        let (all, now) = nightly(30);
        let keep = Keep { within: Some(SignedDuration::from_hours(24 * 5)), ..Keep::default() };
        assert_eq!(survivors(&decide(&all, &keep, &Respect::default(), now).unwrap()).len(), 5);
    }

    /// Backups at equal distances, and the time of the last one.
    fn every(minutes: i64, number: i64) -> (Vec<Manifest>, Timestamp) {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |i: i64| start + SignedDuration::from_mins(i * minutes);
        ((0..number).map(|i| backup(&at(i).to_string(), 1000)).collect(), at(number - 1))
    }

    fn times(verdicts: &[Verdict]) -> Vec<String> {
        verdicts.iter().filter(|v| !v.reasons.is_empty()).map(|v| v.at.strftime("%d %H:%M").to_string()).collect()
    }

    #[test]
    fn of_each_hour_the_newest_stays_also_over_midnight() {
        let (all, now) = every(20, 76);
        let keep = Keep { hourly: 4, ..Keep::default() };
        let verdicts = decide(&all, &keep, &Respect::default(), now).unwrap();
        assert_eq!(times(&verdicts), ["01 22:40", "01 23:40", "02 00:40", "02 01:00"]);
        // Two days at the same hour are two hours.
        let (all, now) = every(24 * 60, 3);
        let keep = Keep { hourly: 2, ..Keep::default() };
        let verdicts = decide(&all, &keep, &Respect::default(), now).unwrap();
        assert_eq!(times(&verdicts), ["02 00:00", "03 00:00"]);
    }

    #[test]
    fn within_ends_with_its_last_second_and_counts_no_failed_backup() {
        let (mut all, now) = every(30, 5);
        let keep = Keep { within: Some(SignedDuration::from_hours(1)), ..Keep::default() };
        let of = |all: &[Manifest], now| times(&decide(all, &keep, &Respect::default(), now).unwrap());
        assert_eq!(of(&all, now), ["01 01:00", "01 01:30", "01 02:00"]);
        assert_eq!(of(&all, now + SignedDuration::from_secs(1)), ["01 01:30", "01 02:00"]);
        // However old: the newest one stays.
        assert_eq!(of(&all, now + SignedDuration::from_hours(9999)), ["01 02:00"]);
        all[3] = failed("2026-01-01T01:30:00Z");
        assert_eq!(of(&all, now), ["01 01:00", "01 02:00"]);
    }

    #[test]
    fn a_source_that_is_configured_no_more_protects_its_last_backup_until_it_is_named() {
        let (mut all, now) = nightly(10);
        for m in &mut all[..4] {
            let mut gone = m.sources[0].clone();
            gone.name = "gone".parse().unwrap();
            m.sources.push(gone);
        }
        let keep = Keep { last: 2, ..Keep::default() };
        let verdicts = decide(&all, &keep, &Respect::default(), now).unwrap();
        assert_eq!(survivors(&verdicts), ["2024-01-03", "2024-01-04", "2024-01-09", "2024-01-10"]);
        let respect = Respect { ignored: HashSet::from(["gone".parse().unwrap()]), ..Respect::default() };
        assert_eq!(survivors(&decide(&all, &keep, &respect, now).unwrap()), ["2024-01-09", "2024-01-10"]);
    }

    #[test]
    fn the_clock_of_the_host_counts_for_nothing() {
        let (all, now) = nightly(60);
        let mut wrong = all.clone();
        for (i, m) in wrong.iter_mut().enumerate() {
            // Three years back and forward by turns.
            let days = if i % 2 == 0 { 3 * 365 } else { -3 * 365 };
            let off = SignedDuration::from_hours(24 * days);
            (m.started, m.finished) = (m.started + off, m.finished + off);
            m.id = BackupId::new(m.started);
        }
        let keep = Keep { within: Some(SignedDuration::from_hours(24 * 20)), ..gfs() };
        let of = |manifests: &[Manifest]| {
            let mut kept = survivors(&decide(manifests, &keep, &Respect::default(), now).unwrap());
            kept.sort();
            kept
        };
        assert_eq!(of(&wrong), of(&all));
    }

    #[test]
    fn a_stores_clock_that_jumps_forward_costs_no_backup_that_a_number_keeps() {
        let (all, now) = nightly(60);
        let at = |now| decide(&all, &gfs(), &Respect::default(), now).unwrap();
        assert_eq!(at(now + SignedDuration::from_hours(24 * 3650)), at(now));
    }
}
