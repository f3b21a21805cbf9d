//! Finds what the entries of `stop` and `start_after_checks` mean, in the order in which it is stopped and started.

use super::Application;
use super::containers::Contained;
use super::snapshot::{Item, Snapshot, Who, normal};
use super::units::Families;
use crate::config::target::Target;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::systemd;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Something that is stopped.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// What it is, and how it is now.
    pub who: Who,
    /// Why, when nobody named it.
    pub why: Option<String>,
}

/// A refusal, before anything is touched.
pub(super) fn refused(what: impl Into<String>, why: Option<String>) -> Error {
    let error = Error::new(Kind::Refused, what);
    match why {
        Some(why) => error.because(why),
        None => error,
    }
}

/// What one entry means: in the order of stopping, and what may stop side by side together.
type Waves = Vec<Vec<Found>>;

/// Looks at everything, for so long that a daemon may still be starting.
///
/// # Errors
/// [`Kind::Refused`] with all that is wrong.
pub(super) async fn look(application: &Application, patience: Duration) -> Result<Snapshot> {
    let spare = spare(application).await?;
    let mut families = Families { spare: &spare, spared: BTreeSet::new() };
    let mut contained = None;
    let mut meant: BTreeMap<&Target, Waves> = BTreeMap::new();
    let mut wrong: Vec<Error> = Vec::new();
    for target in application.stop.iter().chain(&application.start_after_checks) {
        if meant.contains_key(target) {
            continue;
        }
        let waves = match target {
            Target::Unit(name) => families.of(name).await.map(|f| f.into_iter().map(|f| vec![f]).collect()),
            of_docker => {
                if contained.is_none() {
                    let swarm = application.targets().any(|t| matches!(t, Target::Service(_) | Target::Stack(_)));
                    let docker = Docker::connect_within(patience, swarm && !patience.is_zero()).await;
                    contained = Some(Contained::new(docker.map_err(|e| e.kind(Kind::Refused))?, &spare));
                }
                match &mut contained {
                    Some(contained) => contained.of(of_docker).await,
                    None => Ok(Vec::new()),
                }
            }
        };
        match waves {
            Ok(waves) => drop(meant.insert(target, waves)),
            Err(e) => wrong.push(e.at(target)),
        }
    }
    if !wrong.is_empty() {
        return Err(together(wrong));
    }
    let mut spared = families.spared;
    spared.extend(contained.into_iter().flat_map(|c| c.spared));
    Ok(Snapshot { items: arrange(application, &meant), spared, started: None })
}

/// What is never stopped. Units go by their own names here, whatever alias they were given.
async fn spare(application: &Application) -> Result<BTreeSet<String>> {
    let units = application.targets().any(|t| matches!(t, Target::Unit(_)));
    let mut spare = BTreeSet::new();
    for one in application.spare.iter().map(|s| normal(s)) {
        if let Some(name) = one.strip_prefix("unit:").filter(|_| units) {
            let unit = systemd::look(name).await.map_err(|e| e.kind(Kind::Refused))?;
            spare.insert(format!("unit:{}", unit.name));
        }
        spare.insert(one);
    }
    Ok(spare)
}

/// One error of several.
fn together(mut wrong: Vec<Error>) -> Error {
    if wrong.len() == 1 {
        return wrong.remove(0);
    }
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    refused(
        format!("{} entries of `stop` and `start_after_checks` cannot be stopped", wrong.len()),
        Some(lines.join("\n")),
    )
}

/// Gives everything its place in both orders. What is named only among those that start late stops first, the last
/// of them before the others; `stop` is followed as it is written. The start is the reverse, and what is named among those
/// that start late comes at the end, in the order in which it is written there.
fn arrange(application: &Application, meant: &BTreeMap<&Target, Waves>) -> Vec<Item> {
    let late_only = application.start_after_checks.iter().rev().filter(|t| !application.stop.contains(t));
    let order: Vec<&Target> = late_only.chain(&application.stop).collect();
    let none = Vec::new();
    let waves = |target: &Target| meant.get(target).unwrap_or(&none);

    let mut items: Vec<Item> = Vec::new();
    let mut stop = 0;
    for target in &order {
        for wave in waves(target) {
            stop += 1;
            for found in wave {
                // What was found with another first may be named itself.
                match items.iter_mut().find(|i| i.who.key() == found.who.key()) {
                    Some(known) => known.why = known.why.take().and(found.why.clone()),
                    None => {
                        let (who, why) = (found.who.clone(), found.why.clone());
                        items.push(Item { who, stop, start: 0, late: false, why });
                    }
                }
            }
        }
    }

    let mut late: Vec<BTreeSet<String>> = Vec::new();
    for target in &application.start_after_checks {
        late.extend(waves(target).iter().rev().map(|wave| wave.iter().map(|f| f.who.key()).collect()));
    }
    let last = stop;
    for item in &mut items {
        let place = late.iter().position(|wave| wave.contains(&item.who.key()));
        item.late = place.is_some();
        item.start = place.map_or(last - item.stop, |n| last + n);
    }
    sockets_first(&mut items);
    items
}

/// A socket does not start beside its service: it has to be there before.
fn sockets_first(items: &mut [Item]) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|n| items[*n].start);
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for n in order {
        match waves.last_mut() {
            Some(wave) if items[wave[0]].start == items[n].start => wave.push(n),
            _ => waves.push(vec![n]),
        }
    }
    for n in 0..items.len() {
        let Who::Unit(unit) = &items[n].who else { continue };
        if !unit.name.ends_with(".socket") {
            continue;
        }
        let starts = |k: &usize| matches!(&items[*k].who, Who::Unit(u) if unit.triggers.contains(&u.name));
        let own = waves.iter().position(|wave| wave.contains(&n));
        let first = waves.iter().position(|wave| wave.iter().any(starts));
        if let (Some(own), Some(first)) = (own, first)
            && first < own
        {
            waves[own].retain(|k| *k != n);
            waves.insert(first, vec![n]);
        }
    }
    for (start, wave) in waves.iter().enumerate() {
        for n in wave {
            items[*n].start = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{UnitBefore, Was};
    use super::*;

    fn found(name: &str, triggers: &[&str], why: Option<&str>) -> Found {
        let unit = UnitBefore {
            name: name.into(),
            was: Was::Running,
            state: String::new(),
            held: true,
            triggers: triggers.iter().map(|t| (*t).to_owned()).collect(),
        };
        Found { who: Who::Unit(unit), why: why.map(str::to_owned) }
    }

    fn target(name: &str) -> Target {
        Target::Unit(name.into())
    }

    fn orders(items: &[Item]) -> (Vec<String>, Vec<String>) {
        let by = |key: fn(&Item) -> usize| {
            let mut sorted: Vec<&Item> = items.iter().collect();
            sorted.sort_by_key(|i| key(i));
            sorted.iter().map(|i| i.who.key().trim_start_matches("unit:").to_owned()).collect()
        };
        (by(|i| i.stop), by(|i| i.start))
    }

    #[test]
    fn stop_is_followed_as_written_and_start_is_the_reverse() {
        let application = Application { stop: vec![target("a"), target("b"), target("c")], ..Application::default() };
        let targets = [target("a"), target("b"), target("c")];
        let meant = targets.iter().map(|t| (t, vec![vec![found(&t.to_string(), &[], None)]])).collect();
        let (stop, start) = orders(&arrange(&application, &meant));
        assert_eq!((stop.join(""), start.join("")), ("abc".into(), "cba".into()));
    }

    #[test]
    fn what_starts_late_stops_first_and_starts_last_in_its_own_order() {
        let (a, b, c, d) = (target("a"), target("b"), target("c"), target("d"));
        let application = Application {
            stop: vec![a.clone(), b.clone()],
            start_after_checks: vec![c.clone(), b.clone(), d.clone()],
            ..Application::default()
        };
        let meant = [&a, &b, &c, &d].map(|t| (t, vec![vec![found(&t.to_string(), &[], None)]])).into();
        let items = arrange(&application, &meant);
        let (stop, start) = orders(&items);
        assert_eq!((stop.join(""), start.join("")), ("dcab".into(), "acbd".into()));
        let late: Vec<bool> = items.iter().map(|i| i.late).collect();
        assert_eq!(late, [true, true, false, true]);
    }

    #[test]
    fn a_socket_starts_before_its_service_and_a_timer_after() {
        let (service, timer) = (target("x.service"), target("x.timer"));
        let application = Application { stop: vec![timer.clone(), service.clone()], ..Application::default() };
        let waves = vec![
            vec![found("x.socket", &["x.service"], Some("it starts x.service"))],
            vec![found("x.timer", &["x.service"], Some("it starts x.service"))],
            vec![found("x.service", &[], None)],
        ];
        let named = vec![vec![found("x.timer", &["x.service"], None)]];
        let items = arrange(&application, &[(&service, waves), (&timer, named)].into());
        let (stop, start) = orders(&items);
        assert_eq!(stop, ["x.timer", "x.socket", "x.service"]);
        assert_eq!(start, ["x.socket", "x.service", "x.timer"]);
        let why: Vec<bool> = items.iter().map(|i| i.why.is_some()).collect();
        assert_eq!(why, [false, true, false], "what is named is not there for another's sake");
    }
}
