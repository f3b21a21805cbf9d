//! The head of an archive in a file where `pg_restore` runs: it reads that file several times at once.

use super::archive::head::Head;
use super::connect::Server;
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// The name of the head of all.
const ALL: &str = "head.dump";

/// The file, in a directory of its own, and others beside it.
pub struct HeadFile {
    directory: PathBuf,
}

impl HeadFile {
    /// Makes the directory, readable by its maker only: a head may name what nobody should know. Beside the socket of a scratch
    /// server it goes with that, whatever happens.
    ///
    /// # Errors
    /// When that cannot be done there.
    pub async fn make(server: &Server, scratch: bool) -> Result<Self> {
        let beside = scratch && server.is_direct() && server.host.starts_with('/');
        let arguments = if beside { vec!["-d", "-p", server.host.as_str()] } else { vec!["-d"] };
        let made = server.program(Path::new("mktemp"), arguments).output().await?;
        let directory = PathBuf::from(String::from_utf8_lossy(&made).trim_end());
        Ok(HeadFile { directory })
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
