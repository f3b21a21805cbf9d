//! What a unit said: the end of it for the message when it does not start, or all of it for a check of a log.

use crate::error::{Error, Kind, Result};
use crate::host::exec::{Output, Program};
use jiff::Timestamp;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Lines that are shown.
const LINES: &str = "20";
/// How long the journal may take. A message must not wait for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer lines are handed over in pieces.
const LONGEST: u64 = 1 << 20;

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

/// Hands over the lines that a unit, and systemd about it, wrote since a moment.
///
/// # Errors
/// [`Kind::Source`] when there is no journal, or it cannot be read.
pub async fn lines_since(unit: &str, since: Timestamp, each: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
    let since = format!("--since=@{}.{:06}", since.as_second(), since.subsec_microsecond().max(0));
    let args = ["--quiet", "--no-pager", "--output=cat", &since, "--unit", unit];
    let (running, output) = Program::new("journalctl", args).reading().await?;
    let lines = read(output, each).await.map_err(|e| e.at(unit))?;
    running.finish(Kind::Source).await.map_err(|e| e.at(unit))?;
    if lines == 0 {
        // No lines are good news only where there would be some.
        let any = Program::new("journalctl", ["--quiet", "--no-pager", "--output=cat", "--lines=1"]).output().await?;
        if any.is_empty() {
            return Err(Error::new(Kind::Source, "the journal of the system is empty, or cannot be read")
                .hint("`journalctl -n 1` as root shows why."));
        }
    }
    Ok(())
}

/// Hands over the lines of an output and tells how many there were. What is no UTF-8 is replaced.
async fn read(output: Output, each: &mut (dyn FnMut(&str) + Send)) -> Result<u64> {
    let mut output = BufReader::new(output);
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = (&mut output).take(LONGEST).read_until(b'\n', &mut line).await;
        let read = read.map_err(|e| Error::new(Kind::Source, "the journal cannot be read to its end").because(e))?;
        if read == 0 {
            return Ok(number);
        }
        number += 1;
        each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
    }
}
