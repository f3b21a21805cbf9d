//! Restores that replace nothing, and hence need no journal: files to a directory, a snapshot or an output to a file.

use super::{Args, chosen, command, rdb, report};
use crate::cli::context::Context;
use crate::cli::output::{json, say};
use crate::config::Config;
use crate::error::Result;
use crate::model::{Name, size};
use crate::recovery::redis::Wanted;
use crate::recovery::restore::new_id;
use crate::recovery::{select, tree, volume};
use crate::repository::catalog::Catalog;
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::files::TREE;
use crate::telemetry::monitor::Event;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Writes what `--to` names, when that is beside everything live. `None` when it is not that kind of restore.
pub async fn written(
    context: &Context,
    config: Option<&Config>,
    catalog: &Catalog,
    m: &Manifest,
    only: &[Name],
    args: &Args,
    started: Instant,
) -> Result<Option<ExitCode>> {
    let chosen = chosen(m, only, args)?;
    let ([one], Some(to)) = (&chosen[..], &args.to) else { return Ok(None) };
    let reader = || Reader::new(catalog.clone(), context.monitor(&format!("restore {}", m.plan)));
    match one.kind.as_str() {
        "files" | "host" => files(context, &reader()?, m, one, args, Path::new(to), started).await?,
        "volume" if to.contains('/') => files(context, &reader()?, m, one, args, Path::new(to), started).await?,
        "redis" => {
            let (path, compared) = rdb::into_directory(Wanted::new(Some(reader()?), one)?, Path::new(to)).await?;
            report::rdb(context, m, &path, &compared, started)?;
        }
        "command" if !to.contains('/') && command::makes_a_database(config, one) => return Ok(None),
        "command" if args.dry_run => {
            would_write(context, one, one.bytes(), Path::new(to), "to")?;
        }
        "command" => {
            command::into_file(reader()?, new_id(), one, config, Path::new(to)).await?;
            report::output(context, m, one, Path::new(to), started)?;
        }
        _ => return Ok(None),
    }
    Ok(Some(ExitCode::SUCCESS))
}

/// What a dry run has to say.
fn would_write(context: &Context, source: &SourceRecord, bytes: u64, to: &Path, how: &str) -> Result<()> {
    if context.global.json {
        return json(&serde_json::json!({ "dry_run": true, "source": source.name, "to": to, "bytes": bytes }));
    }
    say(&format!("would write {} of source {} {how} {}", size::human(bytes), source.name, to.display()))
}

async fn files(
    context: &Context,
    reader: &Reader,
    m: &Manifest,
    record: &SourceRecord,
    args: &Args,
    to: &Path,
    started: Instant,
) -> Result<()> {
    let artifact = match record.kind.as_str() {
        "volume" => volume::chosen::artifact_of(record, &volume::chosen::one_of(record, args.volume.as_deref())?)?,
        _ => select::artifact(record, Some(TREE))?,
    };
    // Looked up before anything is made.
    let bytes = tree::size_of(reader, artifact, &args.path).await?;
    if args.dry_run {
        return would_write(context, record, bytes, to, "below");
    }
    reader.monitor().event(Event::Expect(bytes));
    let restored = tree::into_directory(reader, artifact, &args.path, to).await?;
    report::written(context, m, record, to, &restored, started)
}
