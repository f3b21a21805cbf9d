//! Letting everybody else on this machine go first: for work that nobody waits for.

use super::exec::Program;

/// How nice; the greatest is 19.
const NICE: &str = "15";

/// Lowers the priority of every thread of this process for processor and disk. Threads and programs that it starts later
/// have it too. What cannot be lowered stays as it is: nothing depends on it.
pub async fn lower() {
    let threads: Vec<String> = std::fs::read_dir("/proc/self/task")
        .map(|tasks| tasks.flatten().filter_map(|task| task.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    let with =
        |words: &[&str]| words.iter().map(|w| (*w).to_owned()).chain(threads.iter().cloned()).collect::<Vec<_>>();
    // The idle class.
    let _ = Program::new("ionice", with(&["-c", "3", "-p"])).output().await;
    let _ = Program::new("renice", with(&["-n", NICE, "-p"])).output().await;
}
