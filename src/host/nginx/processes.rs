//! nginx's processes: the master, whose number is in the pid file, and its workers, of which those of an older
//! configuration say so in their title.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A worker; the moment of its start tells it from another with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    pid: u32,
    started: u64,
    /// Whether it only finishes what it had begun.
    pub leaving: bool,
}

impl Worker {
    /// Whether both are the same process.
    pub fn is(&self, other: &Worker) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

/// The master process, by its number on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master(u32);

impl Master {
    /// The master of a pid file, in a container whose first process is given or on the host. Nothing when it does not
    /// run.
    pub fn find(init: Option<u32>, pid_file: &Path) -> Option<Self> {
        let number: u32 = read_in(init, pid_file)?.trim().parse().ok()?;
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let here = namespace(&init.map_or_else(|| "self".to_owned(), |pid| pid.to_string()))?;
        let candidates: Vec<u32> = match init {
            None => vec![number],
            Some(_) => numbers().collect(),
        };
        candidates
            .into_iter()
            .find(|pid| {
                title(*pid).starts_with("nginx: master process")
                    && number_inside(*pid) == Some(number)
                    && namespace(&pid.to_string()).as_ref() == Some(&here)
            })
            .map(Master)
    }

    /// Its number on this machine.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Its workers.
    pub fn workers(self) -> Vec<Worker> {
        let of_it = numbers().filter_map(|pid| {
            let title = title(pid);
            let (parent, started) = parent_and_start(pid)?;
            (parent == self.0 && title.starts_with("nginx: worker process")).then(|| Worker {
                pid,
                started,
                leaving: title.contains("is shutting down"),
            })
        });
        of_it.collect()
    }
}

fn numbers() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn title(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

/// The number that a process has in its own namespace.
fn number_inside(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}

/// The process that it was forked from, and the moment of its start in ticks.
fn parent_and_start(pid: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets; what follows its end does not.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// A file of the host, or of a container whose links are followed within it.
pub(super) fn open_in(init: Option<u32>, path: &Path, flags: OFlags) -> std::io::Result<OwnedFd> {
    let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::empty());
    match init {
        None => Ok(openat(CWD, path, flags, mode)?),
        Some(pid) => {
            let root = File::open(format!("/proc/{pid}/root"))?;
            Ok(openat2(root, path, flags, mode, ResolveFlags::IN_ROOT)?)
        }
    }
}

fn read_in(init: Option<u32>, path: &Path) -> Option<String> {
    let mut text = String::new();
    File::from(open_in(init, path, OFlags::RDONLY).ok()?).take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}
