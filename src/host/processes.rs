//! Processes of this machine, also those in containers.

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processes of the given programs whose working directory is this one, whatever name it has for them: a container's
/// volume is recognised by device and inode. Their children count as one with them.
pub fn working_in(dir: &Path, programs: &[&str]) -> Vec<u32> {
    let Ok(wanted) = std::fs::metadata(dir).map(|m| (m.dev(), m.ino())) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let there = std::fs::metadata(entry.path().join("cwd")).is_ok_and(|m| (m.dev(), m.ino()) == wanted);
        if there && programs.contains(&program(&entry.path()).as_str()) {
            found.push((pid, parent(&entry.path())));
        }
    }
    let pids: Vec<u32> = found.iter().map(|(pid, _)| *pid).collect();
    found.into_iter().filter(|(_, parent)| !pids.contains(parent)).map(|(pid, _)| pid).collect()
}

/// The same for a program that sets the name of all its processes itself (`postgres`).
pub fn named_in(dir: &Path, name: &str) -> Vec<u32> {
    let Ok(wanted) = std::fs::metadata(dir).map(|m| (m.dev(), m.ino())) else { return Vec::new() };
    let works_there = |process: &Path| {
        std::fs::metadata(process.join("cwd")).is_ok_and(|m| (m.dev(), m.ino()) == wanted)
            && std::fs::read_to_string(process.join("comm")).is_ok_and(|n| n.trim() == name)
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter(|e| works_there(&e.path())).filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Processes that were started with just this argument, a path of our own that nobody else names.
pub fn with_argument(argument: &Path) -> Vec<u32> {
    let wanted = argument.as_os_str().as_bytes();
    let names_it = |process: &Path| {
        std::fs::read(process.join("cmdline")).is_ok_and(|line| line.split(|b| *b == 0).any(|word| word == wanted))
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id();
    let found = all.filter(|e| names_it(&e.path())).filter_map(|e| e.file_name().to_str()?.parse().ok());
    found.filter(|pid| *pid != own).collect()
}

/// Ends a process at once. One that is gone is fine.
pub fn end(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The process that it was forked from.
fn parent(process: &Path) -> u32 {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    status.lines().find_map(|l| l.strip_prefix("PPid:")).and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// The name of a process's program: `comm` is cut at 15 bytes and can be set, so the command line counts too, which
/// some servers rewrite (`/usr/bin/redis-server 127.0.0.1:6379`).
fn program(process: &Path) -> String {
    let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let words = line.split(['\0', ' ']).map(|w| w.rsplit('/').next().unwrap_or_default());
    // A loader (`ld.so --library-path … redis-server`) stands before the program.
    words
        .filter(|w| !w.is_empty())
        .find(|w| w.ends_with("-server") || w.ends_with("-sentinel"))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_an_argument_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("tail").arg("-f").arg("/dev/null").arg(dir.path()).spawn().unwrap();
        while with_argument(dir.path()) != [child.id()] {
            assert!(child.try_wait().unwrap().is_none());
        }
        end(child.id());
        assert!(!child.wait().unwrap().success());
        assert!(with_argument(&dir.path().join("x")).is_empty());
    }

    #[test]
    fn a_process_is_found_by_its_directory_and_program() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("my-server");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").current_dir(dir.path()).spawn().unwrap();
        // Between fork and exec it is another program.
        let mut found = Vec::new();
        for _ in 0..200 {
            found = working_in(dir.path(), &["my-server"]);
            if !found.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let other = working_in(dir.path(), &["another-server"]);
        assert_eq!(named_in(dir.path(), "my-server"), vec![child.id()]);
        assert!(named_in(dir.path(), "another").is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((found, other), (vec![child.id()], vec![]));
    }
}
