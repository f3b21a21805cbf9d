//! The head of an archive in a file where `pg_restore` runs: it reads that file several times at once.

use super::archive::head::Head;
use super::connect::Server;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Place;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// The name of the head of all.
const ALL: &str = "head.dump";

/// What the names of the directories begin with.
const NAME: &str = "backstay-head.";
/// A directory that is older was left behind by a load that was killed. Days.
const OLD: u32 = 7;

/// The file, in a directory of its own, and others beside it. It goes with its load, unless that is killed, or stopped
/// while it works in a container; then a later load removes it.
pub struct HeadFile {
    directory: PathBuf,
    /// True when the directory is one of this machine.
    here: bool,
}

impl HeadFile {
    /// Makes the directory, readable by its maker only: a head may name what nobody should know. Beside the socket of a scratch
    /// server it goes with that, whatever happens; elsewhere what is old is removed.
    ///
    /// # Errors
    /// When that cannot be done there.
    pub async fn make(server: &Server, scratch: bool) -> Result<Self> {
        let beside = scratch && server.is_direct() && server.host.starts_with('/');
        let template = format!("{NAME}XXXXXXXX");
        let (template, host) = (template.as_str(), server.host.as_str());
        let arguments = if beside { vec!["-d", "-p", host, template] } else { vec!["-d", "-t", template] };
        let made = server.program(Path::new("mktemp"), arguments).output().await?;
        let directory = PathBuf::from(String::from_utf8_lossy(&made).trim_end());
        let file = HeadFile { directory, here: !matches!(server.place, Place::Container(_)) };
        if !beside {
            file.sweep(server).await;
        }
        Ok(file)
    }

    /// Removes what is old beside it. Where that cannot be done it stays; the load does not hang on it.
    async fn sweep(&self, server: &Server) {
        let Some(beside) = self.directory.parent() else { return };
        let script =
            "find \"$1\" -maxdepth 1 -type d -name \"$2*\" -user \"$(id -u)\" -mtime \"+$3\" -exec rm -r -- {} +";
        let (beside, above) = (beside.display().to_string(), (OLD - 1).to_string());
        let arguments = ["-c", script, "sh", beside.as_str(), NAME, above.as_str()];
        let _ = server.program(Path::new("sh"), arguments).output().await;
    }

    /// Writes a head, over the one that was there.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub async fn put(&self, server: &Server, head: &Head) -> Result<()> {
        self.put_as(server, ALL, head).await.map(|_| ())
    }

    /// Writes a head under another name beside it, and says where that is.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub async fn put_as(&self, server: &Server, name: &str, head: &Head) -> Result<String> {
        let path = self.directory.join(name).display().to_string();
        let (running, mut input) =
            server.program(Path::new("sh"), ["-c", "cat > \"$1\"", "sh", &path]).writing().await?;
        let written = async {
            input.write_all(&head.encode()).await?;
            input.shutdown().await
        };
        let written = written.await;
        drop(input);
        running.finish(Kind::Restore).await?;
        written.map_err(|e| Error::io("the head of the archive cannot be written", &path, e).kind(Kind::Restore))?;
        Ok(path)
    }

    /// Where it is.
    pub fn path(&self) -> String {
        self.directory.join(ALL).display().to_string()
    }

    /// Removes them.
    ///
    /// # Errors
    /// When that cannot be done there.
    pub async fn remove(self, server: &Server) -> Result<()> {
        let directory = self.directory.display().to_string();
        server.program(Path::new("rm"), ["-r", "--", &directory]).output().await.map(|_| ())
    }
}

impl Drop for HeadFile {
    fn drop(&mut self) {
        if self.here {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_with_a_load_that_is_stopped() {
        let tmp = tempfile::tempdir().unwrap();
        let directory = tmp.path().join("head");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join(ALL), "what nobody should know").unwrap();
        drop(HeadFile { directory: directory.clone(), here: true });
        assert!(!directory.exists());
    }
}
