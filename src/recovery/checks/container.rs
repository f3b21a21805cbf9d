//! A check of containers: running, healthy where there is a health check, and not starting over and over.

use super::Verdict;
use super::words::{excerpt, listed};
use crate::config::checks::Stays;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::find::Container;
use crate::host::docker::watch::Watched;
use std::time::Duration;

/// Characters of what a health check said that are told.
const TOLD: usize = 150;

/// What should be, in words.
pub(super) fn expected(stays: &Stays) -> String {
    let settle = stays.settle.as_secs_f64();
    format!("{} running, healthy where it has a health check, and not started again for {settle} s", stays.reference)
}

/// Whether there is such a container or service.
pub(super) async fn preflight(reference: &str) -> Result<()> {
    Docker::connect().await?.watch(reference).await.map(drop)
}

/// Looks, and looks again after a while. A daemon that does not answer has the limit of one try.
pub(super) async fn look(stays: &Stays, limit: Duration) -> Verdict {
    let once = async || {
        let watching = async { Docker::connect().await?.watch(&stays.reference).await };
        let late = |_| Err(Error::new(Kind::Source, "the Docker daemon does not answer in time"));
        tokio::time::timeout(limit, watching).await.unwrap_or_else(late)
    };
    let before = match once().await {
        Ok(watched) => watched,
        Err(e) => return Verdict::Bad(e.one_line()),
    };
    if let Err(why) = judge(&before) {
        return Verdict::Bad(why);
    }
    tokio::time::sleep(stays.settle).await;
    let after = match once().await {
        Ok(watched) => watched,
        Err(e) => return Verdict::Bad(e.one_line()),
    };
    match (judge(&after), &before, &after) {
        (Err(why), ..) => Verdict::Bad(why),
        (Ok(_), Watched::Containers(before), Watched::Containers(after)) if starts(before) != starts(after) => {
            Verdict::Bad(format!("running, and started again within {} s", stays.settle.as_secs_f64()))
        }
        (Ok(found), ..) => Verdict::Good(found),
    }
}

fn starts(seen: &[Container]) -> Vec<(&str, &str, i64)> {
    seen.iter().map(|c| (c.name.as_str(), c.started.as_str(), c.restarts)).collect()
}

fn judge(watched: &Watched) -> std::result::Result<String, String> {
    let containers = match watched {
        Watched::Service(running, wanted) => {
            let found = format!("{running} of {wanted} tasks running");
            return if *wanted > 0 && running == wanted { Ok(found) } else { Err(found) };
        }
        Watched::Containers(containers) => containers,
    };
    // One that has done its work, as those that migrate at the start of a project.
    let done = |c: &Container| c.is_job() && c.state == "exited" && c.exit_code == 0 && containers.len() > 1;
    let wrong: Vec<String> = containers.iter().filter(|c| !done(c)).filter_map(wrong).collect();
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    match containers.iter().filter(|c| !done(c)).collect::<Vec<_>>()[..] {
        [] => Err("all containers have ended".to_owned()),
        ref up => Ok(listed(up.iter().map(|c| format!("{} {}", c.name, c.health.as_ref().unwrap_or(&c.state))), ", ")),
    }
}

fn wrong(c: &Container) -> Option<String> {
    match (c.state.as_str(), c.health.as_deref()) {
        ("running", None | Some("healthy")) => None,
        ("running", Some(health)) => {
            let said = excerpt(&c.said, TOLD);
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            Some(format!("{} {health}{said}", c.name))
        }
        ("exited", _) => Some(format!("{} exited with status {}", c.name, c.exit_code)),
        (state, _) => Some(format!("{} {state}", c.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(name: &str, state: &str, health: Option<&str>, exit_code: i64, ends: bool) -> Container {
        let (health, restart) = (health.map(str::to_owned), if ends { "no" } else { "always" }.to_owned());
        Container { name: name.into(), state: state.into(), health, exit_code, restart, ..Container::default() }
    }

    #[test]
    fn running_and_healthy_is_well_and_nothing_else_is() {
        let of = |list: &[Container]| judge(&Watched::Containers(list.to_vec()));
        let (web, db) = (c("web", "running", None, 0, false), c("db", "running", Some("healthy"), 0, false));
        let migrated = c("migrate", "exited", None, 0, true);
        assert_eq!(of(&[web.clone(), db.clone(), migrated.clone()]).unwrap(), "web running, db healthy");
        assert_eq!(of(std::slice::from_ref(&migrated)).unwrap_err(), "migrate exited with status 0");
        assert_eq!(of(&[migrated.clone(), migrated]).unwrap_err(), "all containers have ended");
        let failed = c("migrate", "exited", None, 3, true);
        assert_eq!(of(&[web.clone(), failed]).unwrap_err(), "migrate exited with status 3");
        let stopped = c("worker", "exited", None, 0, false);
        assert!(of(&[web, stopped]).is_err() && of(&[c("x", "restarting", None, 1, false)]).is_err());
        assert!(of(&[c("x", "running", Some("starting"), 0, false)]).is_err());
        assert!(judge(&Watched::Service(3, 3)).is_ok() && judge(&Watched::Service(2, 3)).is_err());
        assert!(judge(&Watched::Service(0, 0)).is_err());
    }
}
