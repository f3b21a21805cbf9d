//! Who carries out a run, in words that survive him: a process id alone is given to another process some day.

use serde::{Deserialize, Serialize};

/// A process of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it was started, in the kernel's ticks since boot.
    pub started: u64,
    /// The boot of the machine in which it ran.
    pub boot: String,
}

impl Process {
    /// This very process.
    pub fn this() -> Self {
        let pid = std::process::id();
        Process { pid, started: started(pid).unwrap_or(0), boot: boot() }
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.boot == boot() && started(self.pid) == Some(self.started)
    }
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The 22nd field of `/proc/PID/stat`, counted from behind the program's name, which may hold anything.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // A zombie has ended, and nobody has asked how.
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends_and_another_one_with_its_id_is_not_it() {
        let me = Process::this();
        assert!(me.is_alive() && me.started > 0);
        assert!(!Process { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!Process { boot: "another".into(), ..me }.is_alive());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let it = Process { pid: child.id(), started: started(child.id()).unwrap(), boot: boot() };
        assert!(it.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!it.is_alive());
    }
}
