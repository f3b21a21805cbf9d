//! How a unit of systemd is doing, and what it wrote into the journal. Nothing here changes one.

use super::exec::{Output, Program};
use crate::error::{Error, Kind, Result};
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Longer lines are handed over in pieces.
const LONGEST: u64 = 1 << 20;

/// A unit at one moment, in systemd's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `activating`, `failed`, …
    pub active: String,
    /// `running`, `exited`, `auto-restart`, …
    pub sub: String,
    /// `success`, `exit-code`, `timeout`, …
    pub result: String,
    /// How often systemd has started it again by itself.
    pub restarts: String,
    /// Another one after each start, whoever asked for it.
    pub invocation: String,
}

/// Looks at a unit.
///
/// # Errors
/// [`Kind::Source`] when there is no systemd, or it does not answer.
pub async fn look(unit: &str) -> Result<Seen> {
    let properties = "--property=LoadState,ActiveState,SubState,Result,NRestarts,InvocationID";
    let out = Program::new("systemctl", ["show", properties, "--", unit]).output().await.map_err(|e| e.at(unit))?;
    let out = String::from_utf8_lossy(&out);
    let value = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    Ok(Seen {
        load: value("LoadState="),
        active: value("ActiveState="),
        sub: value("SubState="),
        result: value("Result="),
        restarts: value("NRestarts="),
        invocation: value("InvocationID="),
    })
}

/// Hands over the lines that a unit, and systemd about it, wrote since a moment.
///
/// # Errors
/// [`Kind::Source`] when there is no journal, or it cannot be read.
pub async fn log(unit: &str, since: Timestamp, each: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
    let since = format!("--since=@{}.{:06}", since.as_second(), since.subsec_microsecond().max(0));
    let args = ["--quiet", "--no-pager", "--output=cat", &since, "--unit", unit];
    let (running, output) = Program::new("journalctl", args).reading().await?;
    let lines = lines(output, each).await.map_err(|e| e.at(unit))?;
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
async fn lines(output: Output, each: &mut (dyn FnMut(&str) + Send)) -> Result<u64> {
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
