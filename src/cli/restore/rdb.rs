//! The RDB of a `redis` source, written to a directory of its own.

use crate::error::{Error, Kind, Result};
use crate::io::BlockingStream;
use crate::recovery::redis::{Wanted, stage};
use crate::recovery::resource::Compared;
use std::path::{Path, PathBuf};

/// Writes `dump.rdb` and compares it with the facts.
///
/// # Errors
/// [`Kind::Refused`] when the file exists, [`Kind::Mismatch`] when it differs; then it is removed again.
pub async fn into_directory(wanted: Wanted, dir: &Path) -> Result<(PathBuf, Vec<Compared>)> {
    std::fs::create_dir_all(dir)
        .map_err(|e| Error::io("the target directory cannot be made", dir, e).kind(Kind::Restore))?;
    let path = dir.join("dump.rdb");
    if path.exists() {
        return Err(Error::new(Kind::Refused, "the file exists")
            .at(path.display())
            .hint("Give another directory with --to."));
    }
    let stream = BlockingStream::new(wanted.stream()?);
    let writing = tokio::task::spawn_blocking(move || {
        let written = stage::write(stream, &path, None);
        let compared = written.and_then(|summary| all_good(stage::compare(&wanted.facts, &summary)));
        if compared.is_err() {
            // What is not whole must not be taken for it.
            let _ = std::fs::remove_file(&path);
        }
        compared.map(|compared| (path, compared))
    });
    writing.await.map_err(Error::panicked("writing"))?
}

fn all_good(compared: Vec<Compared>) -> Result<Vec<Compared>> {
    match compared.iter().find(|c| !c.good) {
        None => Ok(compared),
        Some(bad) => Err(Error::new(Kind::Mismatch, "the restored data differs from the facts of the backup")
            .because(format!("{}: {} instead of {}", bad.what, bad.found, bad.expected))),
    }
}
