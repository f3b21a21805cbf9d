//! What `backstay restore` does with the outputs of `command` sources besides taking them back.

use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::BackupId;
use crate::recovery::command::{Taking, facts_of};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::command::{CommandSource, Target};
use crate::telemetry::monitor::{Event, Monitor};
use std::path::Path;
use std::sync::Arc;

fn configured<'a>(config: Option<&'a Config>, record: &SourceRecord) -> Option<&'a CommandSource> {
    match config?.sources.get(&record.name)? {
        SourceConfig::Command(command) => Some(command),
        _ => None,
    }
}

/// Whether a restore of this output makes a database, which may then be one beside the live one.
pub fn makes_a_database(config: Option<&Config>, record: &SourceRecord) -> bool {
    configured(config, record).is_some_and(|c| matches!(c.back.into, Target::Database(_)))
}

/// Leaves out what nothing takes back, unless it was asked for by name: the rest of the plan must not fail for it.
pub fn with_a_way_back<'a>(
    config: Option<&Config>,
    chosen: Vec<&'a SourceRecord>,
    named: bool,
    monitor: &Arc<dyn Monitor>,
) -> Vec<&'a SourceRecord> {
    let nothing = |r: &SourceRecord| configured(config, r).is_some_and(|c| matches!(c.back.into, Target::Nothing));
    if named || chosen.iter().all(|r| nothing(r)) {
        return chosen;
    }
    let (left_out, kept): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|r| nothing(r));
    for record in left_out {
        let text =
            format!("source {} has no `load` and is left out; --source {0} --to FILE writes it out", record.name);
        monitor.event(Event::Warning(text));
    }
    kept
}

/// Writes an output to a new file, held against `check` when the source is configured here.
///
/// # Errors
/// [`Kind::Refused`] when the file exists. What is not whole is removed.
pub async fn into_file(
    reader: Reader,
    id: BackupId,
    record: &SourceRecord,
    config: Option<&Config>,
    to: &Path,
) -> Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(Error::new(Kind::Refused, "it exists")
            .at(to.display())
            .hint("Give the name of a new file with --to."));
    }
    let configured = configured(config, record).cloned().unwrap_or_else(CommandSource::unknown);
    let source = record.name.clone();
    let taking = Taking { source, id, configured, facts: facts_of(record)?, from: Some((reader, record.clone())) };
    let written = taking.write(to).await;
    if written.is_err() {
        // What is not whole must not be taken for it.
        let _ = std::fs::remove_file(to);
    }
    written.map(|_| ())
}
