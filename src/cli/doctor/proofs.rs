//! What has happened, or should have: backups, drills, restores that are open. By what this host remembers.

use super::Patient;
use super::check::Check;
use crate::model::time;
use crate::monitoring::problems::{Severity, problems};
use crate::telemetry::monitor::Verb;
use crate::telemetry::runs::Ending;
use jiff::SignedDuration;

/// A restore of each plan should be proven this often.
const PROVE_EVERY: SignedDuration = SignedDuration::from_hours(24 * 35);

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let o = &p.overview;
    let mut checks = Vec::new();
    for name in o.plans.keys() {
        let newest = o.view.as_ref().and_then(|v| v.newest_complete(name));
        checks.extend(newest.map(|b| Check::good(format!("last backup of {name}"), time::ago(b.at, o.now))));
        let drill = o.record(Verb::Drill, Some(name)).and_then(|record| record.last.as_ref());
        let label = format!("restore of {name}");
        let mend = format!("backstay drill {name}");
        checks.push(match (drill, o.proven(&o.host, name)) {
            (Some(last), _) if last.ending != Ending::Success => {
                let why = last.error.as_deref().unwrap_or("it was killed");
                Check::bad(label, format!("the last drill, {}, failed: {why}", time::ago(last.ended, o.now)), mend)
            }
            (_, None) => Check::warning(label, "it was never proven that this plan can be restored", mend),
            (_, Some(at)) if o.now.duration_since(at) > PROVE_EVERY => {
                Check::warning(label, format!("last proven {}", time::ago(at, o.now)), mend)
            }
            (_, Some(at)) => Check::good(label, format!("last proven {}", time::ago(at, o.now))),
        });
    }
    for problem in problems(o) {
        let name = "state";
        checks.push(match problem.severity {
            Severity::Bad => Check::bad(name, problem.what, problem.todo),
            Severity::Notice => Check::warning(name, problem.what, problem.todo),
        });
    }
    checks
}
