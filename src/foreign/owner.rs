//! Whose a file is that comes by itself, without what an archive says of owners and modes.

use super::layout::Is;
use crate::error::{Error, Result};
use crate::host::user;
use rustix::fs::{Gid, Uid};
use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Owner and mode of a file.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
    /// False when nothing told it.
    pub is_known: bool,
}

impl Owner {
    /// Of the file that is there now. A crontab that is not there belongs to the user that it is named by, and to the group
    /// of its directory.
    pub async fn of(path: &Path, is: Is) -> Self {
        if let Ok(m) = path.symlink_metadata()
            && m.is_file()
        {
            return Owner { uid: m.uid(), gid: m.gid(), mode: m.mode() & 0o7777, is_known: true };
        }
        let nobody = Owner { uid: 0, gid: 0, mode: 0o600, is_known: false };
        let named = path.file_name().and_then(|name| name.to_str()).filter(|_| is == Is::Crontab);
        let directory = path.parent().and_then(|dir| dir.metadata().ok());
        match (named, directory) {
            (Some(name), Some(directory)) => match user::find(name).await {
                Ok(user) => Owner { uid: user.uid, gid: directory.gid(), mode: 0o600, is_known: true },
                Err(_) => nobody,
            },
            _ => nobody,
        }
    }

    /// Writes a file that is his.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, content: &mut dyn Read, to: &Path) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("a file of the set cannot be unpacked", to, e);
        if let Some(above) = to.parent() {
            std::fs::create_dir_all(above).map_err(failed)?;
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
        std::io::copy(content, &mut file).map_err(failed)?;
        if rustix::process::geteuid().is_root() {
            rustix::fs::fchown(&file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
                .map_err(|e| failed(e.into()))?;
        }
        file.set_permissions(Permissions::from_mode(self.mode)).map_err(failed)
    }
}
