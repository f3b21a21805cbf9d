//! The `redis` sources of `backstay restore`.

use super::output::{notice, say};
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size, time};
use crate::recovery::redis::{RedisResource, Wanted, service_of, stage};
use crate::recovery::resource::{Compared, Previous, Resource};
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::{BlockingStream, Reader};
use jiff::SignedDuration;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What happened to one server.
pub struct Restored {
    /// The server, or the file that was written.
    pub place: String,
    /// Keys of the backup, when they were counted.
    pub keys: Option<u64>,
    /// Those without expiry.
    pub lasting: Option<u64>,
    /// What was compared.
    pub compared: Vec<Compared>,
    /// What was there before.
    pub previous: Option<Previous>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Seconds from the stop until it had loaded; `None` when a file was written.
    pub outage: Option<f64>,
}

/// Restores a server: beside its live data, verified, then in place; or the RDB alone into a directory.
pub async fn restore(
    reader: &Reader,
    m: &Manifest,
    record: &SourceRecord,
    config: Option<&Config>,
    to: Option<&str>,
) -> Result<Restored> {
    let wanted = Wanted::new(reader.clone(), record)?;
    let (keys, lasting) = (wanted.facts.keys(), wanted.facts.lasting());
    if let Some(to) = to {
        let (place, compared) = into_directory(wanted, Path::new(to)).await?;
        let place = place.display().to_string();
        return Ok(Restored { place, keys, lasting, compared, previous: None, warnings: Vec::new(), outage: None });
    }
    let Some(SourceConfig::Redis(source)) = config.and_then(|c| c.sources.get(&record.name)) else {
        return Err(Error::new(
            Kind::Config,
            format!("source {} is not configured here, so the server to restore to is unknown", record.name),
        )
        .hint(format!("Add [sources.{}] with kind = \"redis\" and the url of the server, or write the RDB out with --to DIRECTORY.", record.name)));
    };
    let service = service_of(source).await?;
    let started_here = service.is_some();
    let place = source.server.label();
    let resource = RedisResource::new(record.name.as_str(), m.id.clone(), source.clone(), service, Some(wanted));
    let mut warnings = resource.preflight().await?.warnings;
    let staging = resource.plan_staging().await?;
    let compared = match staged(&resource, &staging).await {
        Ok(compared) => compared,
        Err(e) => return Err(undone(e, resource.unstage(&staging).await)),
    };
    let (staged, compared) = compared;
    let swap = match resource.plan_swap(&staged).await {
        Ok(swap) => swap,
        Err(e) => return Err(undone(e, resource.unstage(&staged).await)),
    };
    let begun = Instant::now();
    if let Err(e) = resource.swap(&swap).await {
        let mut back = resource.unswap(&swap).await;
        if back.is_ok() {
            back = resource.unstage(&staged).await;
        }
        return Err(undone(e, back));
    }
    if !started_here {
        warnings.push("the restored data is in place; start the server now".to_owned());
    }
    let outage = started_here.then(|| begun.elapsed().as_secs_f64());
    let previous = resource.previous(&swap).await?;
    Ok(Restored { place, keys, lasting, compared, previous, warnings, outage })
}

/// Stages and verifies.
async fn staged(resource: &RedisResource, staging: &serde_json::Value) -> Result<(serde_json::Value, Vec<Compared>)> {
    let staged = resource.stage(staging).await?;
    let compared = all_good(resource.verify(&staged).await?)?;
    Ok((staged, compared))
}

fn all_good(compared: Vec<Compared>) -> Result<Vec<Compared>> {
    match compared.iter().find(|c| !c.good) {
        None => Ok(compared),
        Some(bad) => Err(Error::new(Kind::Mismatch, "the restored data differs from the facts of the backup")
            .because(format!("{}: {} instead of {}", bad.what, bad.found, bad.expected))),
    }
}

/// The error, with what could not be taken back, if anything.
fn undone(e: Error, back: Result<()>) -> Error {
    match back {
        Ok(()) => e,
        Err(undo) => {
            e.do_instead(format!("Going back failed too ({}): look after the server by hand.", undo.one_line()))
        }
    }
}

async fn into_directory(wanted: Wanted, dir: &Path) -> Result<(PathBuf, Vec<Compared>)> {
    std::fs::create_dir_all(dir)
        .map_err(|e| Error::io("the target directory cannot be made", dir, e).kind(Kind::Restore))?;
    let path = dir.join("dump.rdb");
    if path.exists() {
        return Err(Error::new(Kind::Refused, "the file exists")
            .at(path.display())
            .hint("Give another directory with --to."));
    }
    let stream = BlockingStream::new(wanted.reader.stream(&wanted.artifact, |_| true));
    let writing = tokio::task::spawn_blocking(move || {
        let written = stage::write(stream, &path, None);
        let compared = written.and_then(|summary| all_good(stage::compare(&wanted.facts, &summary)));
        if compared.is_err() {
            // What is not whole must not be taken for it.
            let _ = std::fs::remove_file(&path);
        }
        compared.map(|compared| (path, compared))
    });
    writing.await.map_err(|_| Error::new(Kind::Internal, "the writing thread ended by a panic"))?
}

impl Restored {
    /// Tells a person.
    pub fn say(&self, source: &Name) -> Result<()> {
        let keys = match (self.keys, self.lasting) {
            (Some(keys), Some(lasting)) => {
                format!("{}, {} of them without expiry", size::plural(keys, "key"), size::count(lasting))
            }
            _ => "keys not counted".to_owned(),
        };
        say(&format!("  {source}: {} with {keys}, equal to the facts of the backup", self.place))?;
        if let Some(seconds) = self.outage {
            let took = time::words(SignedDuration::from_millis((seconds * 1000.0) as i64));
            say(&format!("    it was away for {took}"))?;
        }
        if let Some(previous) = &self.previous {
            say(&format!("    what was there is kept as {}", previous.name))?;
        }
        for warning in &self.warnings {
            say(&format!("    {} {warning}", notice("note:")))?;
        }
        Ok(())
    }
}
