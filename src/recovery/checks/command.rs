//! A check by a program: its exit status and what it prints.

use super::Verdict;
use super::http::{in_texts, wrong_texts};
use super::wanted;
use super::words::excerpt;
use crate::config::checks::Command;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Ended;
use crate::sources::command::run::Given;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// The longest output that is read.
const MAX_OUTPUT: u64 = 4 << 20;
/// Characters of the output that are told.
const TOLD: usize = 300;

/// What should be, in words.
pub(super) fn expected(command: &Command) -> String {
    let mut parts = vec![format!("exit status {}", command.exit)];
    parts.extend(in_texts(&command.texts));
    if !command.wanted.is_empty() {
        parts.push(format!("the output {}", wanted::expected(&command.wanted, "")));
    }
    parts.join(", ")
}

/// Whether the program can be found.
pub(super) fn preflight(command: &Command) -> Result<()> {
    match command.runner.finds(&command.argv) {
        true => Ok(()),
        false => {
            let program = command.argv.first().cloned().unwrap_or_default();
            Err(Error::new(Kind::Refused, format!("the program {program} is not there"))
                .hint(format!("Install {program}, or correct its path.")))
        }
    }
}

/// One run.
pub(super) async fn look(command: &Command, limit: Duration) -> Verdict {
    match run(command, limit).await {
        Ok(verdict) => verdict,
        Err(e) => Verdict::Bad(e.one_line()),
    }
}

async fn run(command: &Command, limit: Duration) -> Result<Verdict> {
    let call = command.runner.call("command", &command.argv, limit, &Given::default()).await?;
    let (running, output) = call.program().reading().await.map_err(|e| call.tell(e))?;
    let mut bytes = Vec::new();
    let read = output.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await;
    read.map_err(|e| call.tell(Error::new(Kind::Source, "the output of the program cannot be read").because(e)))?;
    if bytes.len() as u64 > MAX_OUTPUT {
        return Ok(Verdict::Final(format!("it prints more than {} MiB", MAX_OUTPUT >> 20)));
    }
    let Ended { code, how, stderr } = running.ended(Kind::Source).await.map_err(|e| call.tell(e))?;
    let output = call.hide(&String::from_utf8_lossy(&bytes));
    if code != Some(command.exit) {
        let said = if stderr.is_empty() { output } else { call.hide(&stderr.join(" ")) };
        return Ok(Verdict::Bad(format!("{how}: {}", excerpt(&said, TOLD))));
    }
    let wrong = wrong_texts(&command.texts, &output);
    if !wrong.is_empty() {
        return Ok(Verdict::Bad(format!("{how}; {}; output: {}", wrong.join("; "), excerpt(&output, TOLD))));
    }
    if command.wanted.is_empty() {
        return Ok(Verdict::Good(how));
    }
    Ok(wanted::judge(&command.wanted, &vec![vec![Some(output.trim().to_owned())]]))
}
