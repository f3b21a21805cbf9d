//! A volume that was made for this restore and whose directory is not one of this machine: filled through the daemon, and
//! counted by reading it back.

use super::Staging;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::archive::Root;
use crate::host::docker::volumes::Volume;
use crate::recovery::count::Counted;
use crate::repository::manifest::Artifact;
use crate::repository::reader::Reader;
use crate::repository::segment::{Bytes, FileType};
use crate::repository::selection::Selection;
use crate::sources::files::members::Members;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::pin::pin;
use tar::EntryType;
use tokio_util::io::SyncIoBridge;

/// What is said before.
pub(super) fn warning(driver: &str, options: &BTreeMap<String, String>) -> String {
    let left = if driver == "local" {
        "when the restore is taken back, what was filled in stays behind it".to_owned()
    } else {
        format!("when the restore is taken back, it is left, since {driver} might remove more than came with it")
    };
    let with = if options.is_empty() { String::new() } else { format!(" with the options {options:?}") };
    format!(
        "it is missing and will be made with the driver {driver}{with} and filled through the daemon, which must find it empty; {left}"
    )
}

/// Fills a volume, which must be empty: whatever its driver found behind it is somebody's.
pub(super) async fn fill(
    docker: &Docker,
    volume: &Volume,
    reader: &Reader,
    artifact: &Artifact,
    staging: &mut Staging,
) -> Result<()> {
    let there = count(docker, &volume.name).await?;
    if there.files + there.links + there.other > 0 || there.dirs > 1 {
        return Err(Error::new(
            Kind::Restore,
            format!("volume {} was made, and what its driver has behind it is not empty", volume.name),
        )
        .because(format!("it holds {} files and {} directories", there.files, there.dirs.saturating_sub(1)))
        .hint("Look at it from a container. Restore with --to OTHER_NAME into a new volume, or empty it first."));
    }
    let (expected, root) = expected(reader, artifact).await?;
    let pieces = reader.stream(artifact, |_| true);
    let tar = futures::stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
    docker.fill_volume(volume, tar, &root).await.map_err(|e| e.kind(Kind::Restore))?;
    (staging.files, staging.dirs, staging.links) = (expected.files, expected.dirs, expected.links);
    (staging.other, staging.bytes) = (expected.other, expected.bytes);
    Ok(())
}

/// What the index of the backup promises, and what the root was.
async fn expected(reader: &Reader, artifact: &Artifact) -> Result<(Counted, Root)> {
    let (mut expected, mut root) = (Counted::default(), Root::default());
    let mut segments = pin!(reader.catalog().read(Selection::of(*b".").segments(&artifact.segments)));
    while let Some((_, segment)) = segments.next().await {
        for file in segment?.entries.iter().filter_map(|e| e.file.as_ref()) {
            match file.kind {
                FileType::File => {
                    expected.files += 1;
                    expected.bytes += file.size;
                }
                FileType::Dir => {
                    expected.dirs += 1;
                    if file.path.0 == b"." {
                        let mtime = u64::try_from(file.mtime / 1_000_000_000).unwrap_or(0);
                        root = Root { mode: file.mode, uid: file.uid, gid: file.gid, mtime };
                    }
                }
                FileType::Hardlink | FileType::Symlink => expected.links += 1,
                _ => expected.other += 1,
            }
        }
    }
    Ok((expected, root))
}

/// What the daemon reads in a volume.
pub(super) async fn count(docker: &Docker, name: &str) -> Result<Counted> {
    let volume = docker.volume(name).await?;
    let volume = volume.ok_or_else(|| Error::new(Kind::Restore, format!("volume {name} is gone")))?;
    let (stream, helper) = docker.volume_archive(&volume, &[]).await.map_err(|e| e.kind(Kind::Restore))?;
    let work = tokio::task::spawn_blocking(move || read(SyncIoBridge::new(stream)));
    let counted = work.await.map_err(Error::panicked("counting"));
    helper.remove().await?;
    counted?
}

fn read(stream: impl std::io::Read) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut members = Members::new(stream);
    let broken = |e: std::io::Error| Error::new(Kind::Restore, "what was filled in cannot be read back").because(e);
    while let Some(member) = members.next_member().map_err(broken)? {
        match member.kind {
            EntryType::Directory => counted.dirs += 1,
            EntryType::Link | EntryType::Symlink => counted.links += 1,
            EntryType::Char | EntryType::Block | EntryType::Fifo => counted.other += 1,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                counted.files += 1;
                // Holes come out as zeros.
                counted.bytes += member.stored;
            }
            other => {
                let path = Bytes(member.path).display();
                return Err(Error::new(Kind::Restore, format!("the daemon gave an entry of type {other:?}")).at(path));
            }
        }
    }
    Ok(counted)
}
