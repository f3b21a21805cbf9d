//! What a unit said, for the message when it does not start.

use crate::host::exec::Program;
use jiff::Timestamp;
use std::time::Duration;

/// Lines that are shown.
const LINES: &str = "20";
/// How long the journal may take. A message must not wait for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last lines of a unit since a time. When they cannot be read, that is what it gives.
pub async fn last_lines(unit: &str, since: Timestamp) -> String {
    // What was written a moment ago may still be on its way.
    let sync = Program::new("journalctl", ["--sync"]);
    let _ = tokio::time::timeout(PATIENCE, sync.output()).await;
    let since = format!("--since=@{}", since.as_second());
    let args = ["--unit", unit, &since, "--lines", LINES, "--output=cat", "--no-pager", "--quiet"];
    let program = Program::new("journalctl", args);
    match tokio::time::timeout(PATIENCE, program.output()).await {
        Ok(Ok(out)) if out.is_empty() => "(its journal has no lines)".to_owned(),
        Ok(Ok(out)) => String::from_utf8_lossy(&out).trim_end().to_owned(),
        Ok(Err(e)) => format!("(its journal cannot be read: {})", e.one_line()),
        Err(_) => "(its journal cannot be read in time)".to_owned(),
    }
}
