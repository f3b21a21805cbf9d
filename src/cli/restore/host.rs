//! What `backstay restore` does with `host` sources, and what it says of Docker after any restore that brought volumes or
//! images back.

use super::Args;
use crate::error::Result;
use crate::host::docker::Docker;
use crate::host::machine::machine;
use crate::recovery::asked::Part;
use crate::recovery::host;
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::host::HostFacts;
use crate::telemetry::monitor::{Event, Monitor};
use std::path::Path;
use std::sync::Arc;

/// Leaves a machine's files out of the restore of a whole plan: they are put in place one by one.
pub fn without<'a>(chosen: Vec<&'a SourceRecord>, args: &Args, monitor: &Arc<dyn Monitor>) -> Vec<&'a SourceRecord> {
    if !args.source.is_empty() || !args.path.is_empty() || chosen.iter().all(|r| r.kind == "host") {
        return chosen;
    }
    let (left_out, kept): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|r| r.kind == "host");
    for record in left_out {
        let text = format!(
            "source {} is left out: files of a machine are put in place with --source {0} --path PATH, or written out with --to",
            record.name
        );
        monitor.event(Event::Warning(text));
    }
    kept
}

/// Of several sources of files the one that holds what was asked for, when just one does.
pub fn that_holds<'a>(chosen: Vec<&'a SourceRecord>, args: &Args) -> Vec<&'a SourceRecord> {
    if args.path.is_empty() || chosen.len() < 2 {
        return chosen;
    }
    let holds = |record: &&SourceRecord| {
        let roots = record.facts.get("paths").and_then(|p| p.as_array()).cloned().unwrap_or_default();
        args.path
            .iter()
            .all(|path| roots.iter().filter_map(|r| r.as_str()).any(|root| path.starts_with(Path::new(root))))
    };
    let holding: Vec<_> = chosen.iter().copied().filter(holds).collect();
    if holding.len() == 1 { holding } else { chosen }
}

/// What is put in place, and what is said about it first.
///
/// # Errors
/// [`crate::error::Kind::Refused`] when nothing may be.
pub async fn part(
    reader: &Reader,
    m: &Manifest,
    record: &SourceRecord,
    args: &Args,
    state_dir: &Path,
) -> Result<(Part, Vec<String>)> {
    let same = machine(state_dir)? == m.machine;
    let chosen = host::choose(reader.catalog(), record, &args.path, same).await?;
    let mut warnings = chosen.warnings;
    let (_, unknown) = host::ids(record)?;
    if !same && !unknown.is_empty() {
        let who = unknown.join(", ");
        warnings.push(format!("nobody here has these names, so what they own keeps its number: {who}"));
    }
    Ok((Part::Files { source: record.name.clone(), paths: chosen.paths }, warnings))
}

/// What the Docker daemon lacks of what was deployed when the backup was taken; nothing when no `host` source tells.
pub async fn missing(m: &Manifest) -> Vec<String> {
    let Some(then) = m.sources.iter().find_map(|s| HostFacts::of(&s.facts)?.docker) else { return Vec::new() };
    let now = async { then.missing(&Docker::connect().await?).await };
    now.await.unwrap_or_else(|e| vec![format!("what Docker lacks is not known: {}", e.one_line())])
}
