//! What systemd knows of a unit.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// The properties that are asked for.
pub(super) const PROPERTIES: &str = "Id,LoadState,LoadError,ActiveState,SubState,UnitFileState,Result,Type,RemainAfterExit,\
    FragmentPath,DropInPaths,Transient,Triggers,TriggeredBy,RequiredBy,RequisiteOf,BoundBy,ConsistsOf,NRestarts,\
    InvocationID,TimeoutStartUSec,TimeoutStopUSec";

/// What is given to a unit whose own time is unknown.
const USUAL: Duration = Duration::from_secs(90);
/// What is given to a unit that has no limit.
const ENDLESS: Duration = Duration::from_secs(3600);

/// A unit as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name, not an alias of it.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    /// Why it could not be loaded.
    pub load_error: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// More exactly, by kind: `running`, `exited`, `dead`, `auto-restart`, `waiting`, `listening`.
    pub sub: String,
    /// `enabled`, `disabled`, `static`; empty when it has no file.
    pub enabled: String,
    /// How its last run ended: `success`, `exit-code`, `timeout`.
    pub result: String,
    /// True for a job that runs and ends, and is not active afterwards.
    pub job: bool,
    /// True when it is gone once it has stopped: it has no file.
    pub transient: bool,
    /// Files that add to its own.
    pub drop_ins: Vec<PathBuf>,
    /// Units that it starts: those of a timer, a socket, a path.
    pub triggers: Vec<String>,
    /// Timers, sockets and paths that start it.
    pub triggered_by: Vec<String>,
    /// Units that are stopped along with it.
    pub stopped_along: Vec<String>,
    /// How often it was started again by itself since somebody started it.
    pub restarts: u64,
    /// Another one after each start, whoever asked for it.
    pub invocation: String,
    /// How long its start may take.
    pub start_limit: Duration,
    /// How long its stop may take.
    pub stop_limit: Duration,
}

impl Unit {
    /// Reads the output of `systemctl show`.
    pub(super) fn parse(asked: &str, text: &str) -> Self {
        let values: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |key: &str| values.get(key).copied().unwrap_or_default();
        let list = |key: &str| value(key).split_whitespace().map(str::to_owned).collect::<Vec<String>>();
        let id = value("Id");
        let mut stopped_along: Vec<String> =
            ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"].iter().flat_map(|key| list(key)).collect();
        stopped_along.sort();
        stopped_along.dedup();
        Unit {
            name: if id.is_empty() { asked.to_owned() } else { id.to_owned() },
            load: value("LoadState").to_owned(),
            load_error: value("LoadError").to_owned(),
            active: value("ActiveState").to_owned(),
            sub: value("SubState").to_owned(),
            enabled: value("UnitFileState").to_owned(),
            result: value("Result").to_owned(),
            job: value("Type") == "oneshot" && value("RemainAfterExit") != "yes",
            transient: value("Transient") == "yes",
            drop_ins: list("DropInPaths").into_iter().map(Into::into).collect(),
            triggers: list("Triggers"),
            triggered_by: list("TriggeredBy"),
            stopped_along,
            restarts: value("NRestarts").parse().unwrap_or(0),
            invocation: value("InvocationID").to_owned(),
            // Before it is killed it may be given its time more than once: for each of its commands and signals.
            start_limit: 2 * time(value("TimeoutStartUSec")) + Duration::from_secs(30),
            stop_limit: 4 * time(value("TimeoutStopUSec")) + Duration::from_secs(30),
        }
    }

    /// Whether there is such a unit.
    pub fn exists(&self) -> bool {
        self.load != "not-found"
    }

    /// Whether it runs, or is about to start or to stop.
    pub fn is_up(&self) -> bool {
        !matches!(self.active.as_str(), "inactive" | "failed" | "")
    }

    /// Whether it is between two of its tries to run.
    pub fn is_looping(&self) -> bool {
        self.sub.starts_with("auto-restart")
    }

    /// For messages: `active (running)`.
    pub fn state(&self) -> String {
        format!("{} ({})", self.active, self.sub)
    }
}

/// A time as `systemctl show` writes it: `1min 30s`, `infinity`.
fn time(text: &str) -> Duration {
    if text == "infinity" {
        return ENDLESS;
    }
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed.filter(|d| !d.is_zero()).unwrap_or(USUAL)
}

/// The unit of the system to which a process belongs, by the control groups that `/proc/PID/cgroup` shows.
pub fn of_groups(groups: &str) -> Option<&str> {
    let path = |prefix: &str| groups.lines().find_map(|line| line.split_once(prefix)).map(|(_, path)| path);
    // With both hierarchies, systemd's own is the one that counts.
    let path = path(":name=systemd:").or_else(|| groups.lines().find_map(|line| line.strip_prefix("0::")))?;
    // Below a unit it may have made groups of its own, and a user's manager has units in it.
    path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice")).filter(|part| part.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_is_read() {
        let text = "Type=oneshot\nRemainAfterExit=no\nId=erp.service\nLoadState=loaded\nActiveState=activating\n\
            SubState=auto-restart\nTriggeredBy=erp.timer erp.path\nRequiredBy=a.service\nConsistsOf=b.service a.service\n\
            TimeoutStopUSec=1min 30s\nTimeoutStartUSec=infinity\nNRestarts=3\nDropInPaths=/a /b\n";
        let unit = Unit::parse("erp", text);
        assert_eq!((unit.name.as_str(), unit.job, unit.is_up(), unit.is_looping()), ("erp.service", true, true, true));
        assert_eq!(unit.triggered_by, ["erp.timer", "erp.path"]);
        assert_eq!(unit.stopped_along, ["a.service", "b.service"]);
        assert_eq!((unit.stop_limit.as_secs(), unit.start_limit.as_secs()), (390, 7230));
        assert_eq!((unit.restarts, unit.drop_ins.len()), (3, 2));
    }

    #[test]
    fn times_are_read_as_systemctl_writes_them() {
        for (text, seconds) in [("30s", 30), ("5min", 300), ("1h 30min", 5400), ("0", 90), ("", 90), ("2min 3s", 123)] {
            assert_eq!(time(text).as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn a_process_belongs_to_the_outermost_unit() {
        for (groups, unit) in [
            ("0::/system.slice/erp.service", Some("erp.service")),
            ("0::/system.slice/system-erp.slice/erp@1.service/worker", Some("erp@1.service")),
            ("4:memory:/x\n1:name=systemd:/erp.slice/erp-web.service\n0::/other.service", Some("erp-web.service")),
            ("0::/user.slice/user-0.slice/user@0.service/app.slice/erp.service", Some("user@0.service")),
            ("0::/", None),
            ("0::/docker/0123456789abcdef", None),
        ] {
            assert_eq!(of_groups(groups), unit, "{groups}");
        }
    }
}
