//! A volume that lies in a directory of this machine, read as the `files` source reads one.

use super::{VolumeSource, artifact_name, live};
use crate::error::{Error, Kind, Result};
use crate::host::docker::volumes::Volume;
use crate::host::holders::is_mount_point;
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::sources::Delivered;
use crate::sources::files::FilesSource;
use crate::sources::files::read::{View, read_as};
use crate::telemetry::monitor::Monitor;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether its content is where the daemon says. A local volume with options is a mount that is there only while a
/// container uses it; without it there is an empty directory, which must not pass for the content.
pub fn is_reachable(volume: &Volume) -> bool {
    let is_dir = volume.mountpoint.is_absolute() && volume.mountpoint.is_dir();
    is_dir && (volume.is_plain() || is_mount_point(&volume.mountpoint))
}

/// Reads a volume into its artifact. `live`: somebody may write meanwhile.
pub fn read(
    source: &VolumeSource,
    volume: &Volume,
    live: bool,
    name: &Name,
    writer: &BackupWriter,
    monitor: &dyn Monitor,
) -> Result<Delivered> {
    let root = &volume.mountpoint;
    let tree = FilesSource {
        paths: vec![root.clone()],
        exclude: source.exclude.iter().map(|pattern| below(pattern, root)).collect(),
        never: source.never.clone(),
        one_file_system: false,
        reread_days: source.reread_days,
    };
    let before = identity(root)?;
    let look = |path: &[u8], stat: &_| if live { live::refuse(path, stat) } else { Ok(()) };
    let view = View { artifact: &artifact_name(&volume.name), root: Some(root), look: &look };
    let delivered = read_as(&tree, name, writer, monitor, &view)?;
    // Removed, made anew or unmounted under the reader, it would come out as files that vanished.
    if identity(root).ok() != Some(before) {
        return Err(Error::new(Kind::Source, "the volume was removed or unmounted while it was read")
            .at(root.display())
            .hint("Run the backup again when nobody removes volumes."));
    }
    Ok(delivered)
}

fn identity(root: &Path) -> Result<(u64, u64)> {
    let meta = std::fs::metadata(root)
        .map_err(|e| Error::io("the volume's directory cannot be reached", root, e).kind(Kind::Source))?;
    Ok((meta.dev(), meta.ino()))
}

/// A pattern with a leading slash begins at the root of the volume.
pub fn below(pattern: &str, root: &Path) -> String {
    match pattern.strip_prefix('/') {
        Some(rest) => format!("{}/{rest}", globset::escape(&root.to_string_lossy())),
        None => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_begin_at_the_root_of_the_volume() {
        assert_eq!(below("/cache/*", Path::new("/var/v[1]")), "/var/v[[]1[]]/cache/*");
        assert_eq!(below("*.tmp", Path::new("/var/v")), "*.tmp");
    }
}
