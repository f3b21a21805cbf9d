//! What has happened, or should have: backups, drills, restores that are open. By what this host remembers.

use super::Patient;
use super::check::Check;
use crate::model::time;
use crate::monitoring::problems::{Severity, problems, stale_keys};
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
        let drilled = match o.record(Verb::Drill, Some(name)).and_then(|record| record.last.as_ref()) {
            None => "never drilled".to_owned(),
            Some(last) => {
                let word = if last.ending == Ending::Success { "a success" } else { "a failure" };
                format!("last drilled {}, {word}", time::ago(last.ended, o.now))
            }
        };
        let label = format!("restore of {name}");
        let mend = format!("backstay drill {name}");
        checks.push(match o.proven(&o.host, name) {
            None => Check::warning(label, format!("{drilled}; it was never proven that it can be restored"), mend),
            Some(at) => {
                let detail = format!("{drilled}; last proven {}", time::ago(at, o.now));
                let stale = o.now.duration_since(at) > PROVE_EVERY;
                if stale { Check::warning(label, detail, mend) } else { Check::good(label, detail) }
            }
        });
    }
    // The area of keys asks the repository itself.
    let keys = stale_keys(o);
    for problem in problems(o).into_iter().filter(|problem| !keys.contains(problem)) {
        checks.push(match problem.severity {
            Severity::Bad => Check::bad("noted", problem.what, problem.todo),
            Severity::Notice => Check::warning("noted", problem.what, problem.todo),
        });
    }
    checks
}
