//! A volume that lies elsewhere, read through the daemon: by a container that has it, or by one that is made, never
//! started, and removed again.

use super::{VolumeSource, artifact_name, live};
use crate::error::{Error, Result};
use crate::host::docker::Docker;
use crate::repository::writer::BackupWriter;
use crate::sources::Delivered;
use crate::sources::files::exclude::Excludes;
use crate::sources::files::repack::{Repack, repack};
use crate::telemetry::monitor::Monitor;
use std::sync::Arc;
use tokio_util::io::SyncIoBridge;

/// What the daemon does not put into its tar.
pub const LOSES: &[&str] = &[
    "extended attributes but for file capabilities",
    "ACLs",
    "parts of seconds of times",
    "sockets",
    "holes in sparse files, which come out as zeros",
    "files that the daemon itself could not read, which it leaves out without a word",
];

/// Reads a volume into its artifact. `live`: somebody may write meanwhile.
pub async fn read(
    source: &VolumeSource,
    docker: &Docker,
    chosen: &super::choose::Chosen,
    live: bool,
    writer: &BackupWriter,
    monitor: Arc<dyn Monitor>,
) -> Result<Delivered> {
    let how = Repack {
        what: format!("the daemon's archive of volume {}", chosen.volume.name),
        excludes: Excludes::new(&source.exclude, &[])?,
        look: if live { live::refuse } else { |_, _| Ok(()) },
        monitor,
    };
    let (stream, helper) = docker.volume_archive(&chosen.volume, &chosen.users).await?;
    let artifact = writer.artifact(&artifact_name(&chosen.volume.name), "tar");
    let writer = writer.clone();
    let work = tokio::task::spawn_blocking(move || repack(SyncIoBridge::new(stream), artifact, &writer, &how));
    let read = work.await.map_err(Error::panicked("reading"));
    // Whatever came of it, the helper goes.
    let removed = helper.remove().await;
    let (artifact, counted) = read??;
    removed?;
    let warning = format!("read through the daemon, which does not tell: {}", LOSES.join("; "));
    let facts = serde_json::json!({
        "files": counted.files,
        "directories": counted.dirs,
        "links": counted.links,
        "other": counted.other,
        "bytes": counted.bytes,
    });
    Ok(Delivered { artifacts: vec![artifact], facts, warnings: vec![warning] })
}
