//! Keeping a unit from starting, whoever asks for it: its timers, a reboot, a dependency, an administrator.
//!
//! A drop-in with a condition that fails as long as the drop-in itself is there. Removing the file is the release, even
//! before systemd reads its files again. It lies outside `/etc`, which a restore may exchange: the old tree would come
//! back with the hold in it.

use crate::error::{Error, Kind, Result};
use crate::io::durable;
use std::path::{Path, PathBuf};

/// Folder of units that are the machine's own and no package's; systemd reads it besides `/etc/systemd/system`.
const FOLDER: &str = "/usr/local/lib/systemd/system";
/// The last in its order, so that no other takes the condition back.
const NAME: &str = "zz-backstay-hold.conf";

/// The file that holds a unit.
pub fn file(unit: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{unit}.d")).join(NAME)
}

/// Holds a unit from the next time that systemd reads its files. Once it returns, that survives a power cut.
///
/// # Errors
/// [`Kind::Restore`] when the file cannot be written.
pub fn put(unit: &str) -> Result<()> {
    let path = file(unit);
    let failed = |e| {
        Error::io(format!("{unit} cannot be held"), &path, e)
            .kind(Kind::Restore)
            .hint("Nothing was stopped that is not held.")
    };
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new(FOLDER));
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A name may have `%` in it, which stands for something else there.
    let text = format!(
        "# A restore of Backstay is under way: {unit} must not start before it is over.\n\
         # `backstay status` tells what is open. Without this file it may start.\n\
         [Unit]\nConditionPathExists=!{}\n",
        path.display().to_string().replace('%', "%%")
    );
    durable::replace(&path, text.as_bytes(), 0o644).map_err(failed)?;
    // The folders above may be new as well, if not by us then by one that was cut off before it came to this.
    folder.ancestors().take(6).try_for_each(durable::sync_folder).map_err(failed)
}

/// Whether a unit is held.
pub fn is_held(unit: &str) -> bool {
    file(unit).exists()
}

/// Takes the hold off. `false` when there was none.
///
/// # Errors
/// [`Kind::Restore`] when the file cannot be removed.
pub fn take(unit: &str) -> Result<bool> {
    let path = file(unit);
    let failed = |e| Error::io(format!("the hold of {unit} cannot be taken off"), &path, e).kind(Kind::Restore);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(failed)?,
    }
    let folder = path.parent().unwrap_or(Path::new(FOLDER));
    durable::sync_folder(folder).map_err(failed)?;
    // Somebody may have other drop-ins there.
    let _ = std::fs::remove_dir(folder);
    Ok(true)
}
