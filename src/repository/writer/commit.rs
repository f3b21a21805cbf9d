//! The end of a run: the last packs, the segments, the manifest.

use super::artifact::{PendingArtifact, Reference};
use super::pack::OpenPack;

use super::slot::Slot;
use super::usage::{PackUse, Usage};
use super::{BackupWriter, Shared, lock};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::model::ids::PackPrefix;
use crate::repository::manifest::{Artifact, Import, Manifest, SourceRecord, SourceState, Stats};
use crate::repository::record::RecordKind;
use crate::repository::segment::SegmentRef;
use crate::repository::{claims, layout};
use crate::storage::PutOutcome;
use crate::telemetry::monitor::Event;
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A pack of which a backup uses less than one part in so many is stored anew by the next run.
const SPARSE: u64 = 4;
/// Packs below this many bytes are small; when there are more than [`MANY_SMALL`], they are joined.
const SMALL: u64 = 1024 * 1024;
/// See [`SMALL`].
const MANY_SMALL: usize = 128;
/// Sparse packs that one manifest names; the rest is for the next run.
const SPARSE_LISTED: usize = 10_000;

/// A source as it ended.
pub struct Outcome {
    /// Name in the configuration.
    pub name: Name,
    /// Kind in the configuration.
    pub kind: String,
    /// Artifacts, or why there are none.
    pub result: Result<Vec<PendingArtifact>>,
    /// Facts for the manifest.
    pub facts: serde_json::Value,
    /// Warnings for the manifest.
    pub warnings: Vec<String>,
    /// Seconds.
    pub seconds: f64,
}

impl BackupWriter {
    /// Ends the run and commits it, unless no source is complete.
    ///
    /// # Errors
    /// Whatever failed beside the sources, and [`Kind::Source`] when every source failed. Then nothing is
    /// committed, and what was uploaded is taken up by the next run.
    pub async fn commit(self, outcomes: Vec<Outcome>, whole_plan: bool, finished: Timestamp) -> Result<Manifest> {
        let shared = self.shared;
        if let [only] = &outcomes[..]
            && let Err(e) = &only.result
        {
            return Err(e.again());
        }
        if outcomes.iter().all(|o| o.result.is_err()) {
            let reasons: Vec<String> = outcomes
                .iter()
                .filter_map(|o| Some(format!("{}: {}", o.name, o.result.as_ref().err()?.one_line())))
                .collect();
            return Err(Error::new(Kind::Source, "every source failed").because(reasons.join("\n")));
        }
        shared.flush_tail().await?;
        shared.rebuild_damaged().await?;
        shared.renew_segments().await?;
        let (sources, usage) = shared.finish_artifacts(outcomes).await?;
        let manifest = shared.manifest(sources, &usage, whole_plan, finished)?;
        // Somebody may have taken the name over while this run went on.
        if let Some(claim) = claims::newest(&shared.vault).await? {
            claims::only_for(&claim, &shared.machine, &shared.vault)?;
        }
        shared.put_manifest(&manifest).await?;
        shared.confirm(&manifest, &usage).await?;
        // The backup exists: what is left in the journal costs nothing but a few lines.
        if let Err(e) = lock(&shared.journal).clear() {
            shared.monitor.event(Event::Warning(e.one_line()));
        }
        shared.monitor.event(Event::Committed(manifest.plan.clone(), manifest.id.clone()));
        Ok(manifest)
    }
}

impl Shared {
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        f: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> Result<T> {
        let shared = self.clone();
        tokio::task::spawn_blocking(move || f(&shared))
            .await
            .map_err(|_| Error::new(Kind::Internal, "a task of the run is gone"))
    }

    async fn flush_tail(self: &Arc<Self>) -> Result<()> {
        let tail = std::mem::take(&mut *lock(&self.tail));
        if !tail.plain.is_empty() {
            self.blocking(move |shared| shared.ship_pack(tail)).await?;
        }
        self.settle().await
    }

    /// Waits for everything on its way.
    async fn settle(self: &Arc<Self>) -> Result<()> {
        self.blocking(|shared| shared.in_flight.wait()).await?;
        self.failed()
    }

    async fn rebuild_damaged(self: &Arc<Self>) -> Result<()> {
        let rebuilt = lock(&self.repair).complete(&self.vault.secret);
        for (key, plain) in rebuilt {
            // The run may have stored the very same pack for itself.
            let stored = self.vault.list(&layout::pack_generations(&key.id)).await?;
            let lowest = self.generations.get(&key.id).copied().unwrap_or(0);
            if stored.iter().filter_map(|o| layout::parse_pack(&o.key)).any(|k| k.generation >= lowest) {
                self.counters.repaired.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let pack = OpenPack { plain, blobs: Vec::new(), slot: Slot::new(), home: None };
            self.store_pack(pack, Some(key.generation + 1)).await?;
            self.counters.repaired.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Stores marked segments of earlier backups again that the cache still has.
    async fn renew_segments(&self) -> Result<()> {
        let mut seen = HashSet::new();
        for reference in self.earlier.iter().flat_map(Manifest::segments) {
            if self.damaged.contains(&reference.object)
                && seen.insert(reference.object)
                && let Some(body) = self.catalog.cached_body(reference)
            {
                self.put_segment(reference.object.id, &body).await?;
            }
        }
        Ok(())
    }

    async fn finish_artifacts(self: &Arc<Self>, outcomes: Vec<Outcome>) -> Result<(Vec<SourceRecord>, Usage)> {
        let mut sources = Vec::new();
        let mut usage = Usage::default();
        let mut waiting = Vec::new();
        for outcome in outcomes {
            let (state, pending) = match outcome.result {
                Ok(artifacts) => (SourceState::Complete, artifacts),
                Err(e) => (SourceState::Failed(e.one_line()), Vec::new()),
            };
            let mut ended = Vec::new();
            for mut artifact in pending {
                for part in &mut artifact.parts {
                    part.recipe.end()?;
                    let last = part.recipe.take_finished();
                    let last = self
                        .blocking(move |shared| {
                            last.into_iter().map(|f| shared.ship_segment(f)).collect::<Result<Vec<_>>>()
                        })
                        .await??;
                    part.references.extend(last);
                    usage.merge(std::mem::take(&mut part.recipe.usage));
                }
                ended.push(artifact);
            }
            waiting.push(ended);
            sources.push(SourceRecord {
                name: outcome.name,
                kind: outcome.kind,
                state,
                artifacts: Vec::new(),
                facts: outcome.facts,
                warnings: outcome.warnings,
                seconds: outcome.seconds,
            });
        }
        self.settle().await?;
        for (source, artifacts) in sources.iter_mut().zip(waiting) {
            for artifact in artifacts {
                let bytes = artifact.bytes();
                let references = artifact.parts.into_iter().flat_map(|p| p.references);
                let segments = references.map(resolve).collect::<Result<Vec<SegmentRef>>>()?;
                source.artifacts.push(Artifact {
                    name: artifact.name,
                    media: artifact.media,
                    bytes,
                    blake3: artifact.blake3,
                    segments,
                });
            }
        }
        Ok((sources, usage))
    }

    fn manifest(
        &self,
        sources: Vec<SourceRecord>,
        usage: &Usage,
        whole_plan: bool,
        finished: Timestamp,
    ) -> Result<Manifest> {
        let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
        Ok(Manifest {
            format: super::super::vault::FORMAT,
            vault: self.vault.header.vault,
            host: self.vault.host().clone(),
            machine: self.machine.clone(),
            plan: self.plan.clone(),
            id: self.id.clone(),
            // What somebody else made counts from when that was.
            store_time: self.options.imported.as_ref().map_or(self.store_time, |i| i.time),
            started: self.started,
            finished,
            predecessor: match self.options.imported {
                Some(_) => None,
                None => self.earlier.first().map(|m| m.id.clone()),
            },
            unseen: self.options.unseen.clone(),
            epoch: self.vault.epoch()?.number,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            whole_plan,
            stats: Stats {
                bytes: sources.iter().map(SourceRecord::bytes).sum(),
                read: count(&self.counters.read),
                new: count(&self.counters.new),
                shipped: count(&self.counters.shipped),
                packs: count(&self.counters.packs),
                repaired: count(&self.counters.repaired),
            },
            sources,
            sparse_packs: sparse_packs(usage),
            imported: self.options.imported.as_ref().map(|i| Import { from: i.from.clone(), at: self.store_time }),
        })
    }

    /// Writes the manifest last, in time, and reads it back.
    async fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let (elapsed, in_time) = self.in_time(self.vault.now().await?);
        // Beyond this a prune that began after us may delete packs that we name.
        if !in_time {
            return Err(Error::new(
                Kind::Refused,
                "the run took longer than the grace time of this vault allows, or the store's clock was set back",
            )
            .because(format!(
                "by the store's clock {} passed, {} are allowed",
                crate::model::time::words(elapsed),
                crate::model::time::words(self.allowed())
            ))
            .hint("Run the backup again: what was uploaded is taken up, so it will be quick."));
        }
        let key = layout::manifest(&self.plan, &self.id);
        if self.vault.write_record(RecordKind::Manifest, &key, manifest).await? == PutOutcome::Exists {
            return Err(Error::new(Kind::Internal, "a manifest of this very name exists").at(&key));
        }
        let back: Manifest =
            self.vault.read_record(RecordKind::Manifest, &key).await?.ok_or_else(|| {
                Error::new(Kind::Storage, "the manifest was written and cannot be read back").at(&key)
            })?;
        if back.id != manifest.id || back.sources.len() != manifest.sources.len() {
            return Err(Error::damaged(&key, "the manifest does not read back as it was written"));
        }
        Ok(())
    }
}

fn resolve(reference: Reference) -> Result<SegmentRef> {
    match reference {
        Reference::Ready(reference) => Ok(reference),
        Reference::Coming(coming) => {
            coming.get().cloned().ok_or_else(|| Error::new(Kind::Internal, "a segment was not stored"))
        }
    }
}

/// The packs that the next run should not name again: those of which little is used, and the small ones when
/// there are many.
fn sparse_packs(usage: &Usage) -> Vec<PackPrefix> {
    let small = |u: &PackUse| u64::from(u.plain) < SMALL;
    let many_small = usage.packs().filter(|(_, u)| small(u)).count() > MANY_SMALL;
    let sparse = |u: &PackUse| u64::from(u.used) * SPARSE < u64::from(u.plain);
    let mut listed: Vec<PackPrefix> =
        usage.packs().filter(|(_, u)| sparse(u) || (many_small && small(u))).map(|(id, _)| *id).collect();
    listed.sort_unstable();
    listed.truncate(SPARSE_LISTED);
    listed
}
