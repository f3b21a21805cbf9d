//! The files of the lost machine, fetched to one side.

use crate::error::{Error, Kind, Result};
use crate::recovery::{host, select, tree};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::repository::selection::Selection;
use crate::sources::files::TREE;
use crate::sources::files::untar::Restored;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes the directory of our own into which files are fetched. What an earlier try left there is removed.
///
/// # Errors
/// [`Kind::Restore`].
pub fn begin(target: &Path) -> Result<()> {
    let failed = |e| Error::io("the place for the fetched files cannot be made", target, e).kind(Kind::Restore);
    match std::fs::remove_dir_all(target) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    // Keys and hashes of passwords lie there meanwhile.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(target).map_err(failed)
}

/// Writes files of a source there, all or those at `paths`, with owners by their names here. With the names that nobody
/// has here.
///
/// # Errors
/// When they cannot be read or written, or differ from the index.
pub async fn fetch(
    reader: &Reader,
    record: &SourceRecord,
    paths: Option<&[PathBuf]>,
    target: &Path,
) -> Result<(Restored, Vec<String>)> {
    let (ids, unknown) = host::ids(record)?;
    let artifact = select::artifact(record, Some(TREE))?;
    let selection = match paths {
        None => Selection::of(*b"."),
        Some(paths) => Selection::new(paths.iter().map(|p| tree::member_name(p)).collect()),
    };
    let restored = tree::write(reader, artifact, &selection, target, 0, &Arc::new(ids)).await?;
    Ok((restored, unknown))
}
