//! Files and directories out of a tree artifact: written below a directory, and compared with the index.

use crate::error::{Error, Kind, Result};
use crate::io::BlockingStream;
use crate::model::paths::below;
use crate::repository::manifest::Artifact;
use crate::repository::reader::{Pieces, Reader};
use crate::repository::segment::{Bytes, FileEntry, FileType};
use crate::repository::selection::Selection;
use crate::sources::files::untar::{Ids, Options, Restored, untar};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

/// What the index says of a selection: for the comparison after writing.
#[derive(Default)]
struct Expected {
    files: u64,
    dirs: u64,
    links: u64,
    other: u64,
    bytes: u64,
    /// Hard links whose first name is not selected: that name, and where its content must go.
    orphans: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Expected {
    fn count(&mut self, file: &FileEntry, selected: impl Fn(&[u8]) -> bool) {
        match file.kind {
            FileType::File => {
                self.files += 1;
                self.bytes += file.size;
            }
            FileType::Dir => self.dirs += 1,
            FileType::Symlink => self.links += 1,
            FileType::Hardlink => {
                self.links += 1;
                let first = file.link.clone().unwrap_or_default().0;
                if !selected(&first) {
                    self.orphans.entry(first).or_default().push(file.path.0.clone());
                }
            }
            _ => self.other += 1,
        }
    }
}

pub(super) fn member_name(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let name = bytes.strip_prefix(b"/").unwrap_or(bytes);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    if name.is_empty() { b".".to_vec() } else { name.to_vec() }
}

const GIVE: &str = "Give a new or empty directory with --to.";

/// Restores the whole artifact, or what lies at `paths` of it, below a new or empty directory. Full paths are kept.
pub async fn into_directory(
    reader: &Reader,
    artifact: &Artifact,
    paths: &[PathBuf],
    target: &Path,
) -> Result<Restored> {
    let taken = || Error::new(Kind::Refused, "the target directory is not empty").at(target.display()).hint(GIVE);
    match std::fs::read_dir(target) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(taken());
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(target).map_err(|e| {
                Error::io("the target directory cannot be made", target, e).kind(Kind::Restore).hint(GIVE)
            })?;
        }
        Err(e) => return Err(Error::io("the target cannot be used", target, e).kind(Kind::Restore).hint(GIVE)),
    }
    write(reader, artifact, &selection_of(paths), target, 0, &Arc::default()).await
}

/// How many bytes [`into_directory`] would write.
///
/// # Errors
/// As there for a path that the backup does not hold.
pub async fn size_of(reader: &Reader, artifact: &Artifact, paths: &[PathBuf]) -> Result<u64> {
    match paths {
        [] => Ok(artifact.bytes),
        paths => Ok(expect(reader, artifact, &selection_of(paths)).await?.bytes),
    }
}

/// What lies at these paths; everything when there are none.
fn selection_of(paths: &[PathBuf]) -> Selection {
    match paths {
        [] => Selection::of(*b"."),
        paths => Selection::new(paths.iter().map(|p| member_name(p)).collect()),
    }
}

/// Writes the selected members below `target`, with `ids` for owners, and compares counts with the index.
pub(super) async fn write(
    reader: &Reader,
    artifact: &Artifact,
    selection: &Selection,
    target: &Path,
    strip: usize,
    ids: &Arc<Ids>,
) -> Result<Restored> {
    write_as(reader, artifact, selection, target, Options { strip, ids: ids.clone(), ..as_we_are() }).await
}

/// Makes a directory that is there and empty what the root of the archive was.
pub(super) async fn write_root(reader: &Reader, artifact: &Artifact, target: &Path) -> Result<Restored> {
    let options = Options { root: true, ..as_we_are() };
    write_as(reader, artifact, &Selection::of(*b"."), target, options).await
}

/// Makes a directory that is there and empty what the selected directory was, whose path has `strip` components.
pub(super) async fn write_as_root(
    reader: &Reader,
    artifact: &Artifact,
    selection: &Selection,
    target: &Path,
    strip: usize,
    ids: &Arc<Ids>,
) -> Result<Restored> {
    let options = Options { root: true, strip, ids: ids.clone(), ..as_we_are() };
    write_as(reader, artifact, selection, target, options).await
}

fn as_we_are() -> Options {
    Options { owners: rustix::process::geteuid().is_root(), ..Options::default() }
}

async fn write_as(
    reader: &Reader,
    artifact: &Artifact,
    selection: &Selection,
    target: &Path,
    options: Options,
) -> Result<Restored> {
    let strip = options.strip;
    let (mut restored, expected) = match selection.is_whole() {
        true => write_whole(reader, artifact, target, &options).await?,
        false => write_part(reader, artifact, selection, target, &options).await?,
    };
    for (first, links) in &expected.orphans {
        restored.links += place_orphan(reader, artifact, first, links, target, strip, &options).await?;
    }
    if !expected.orphans.is_empty() {
        // They came after the sync of what was unpacked.
        let synced = File::open(target).and_then(|d| rustix::fs::syncfs(&d).map_err(std::io::Error::from));
        synced.map_err(|e| Error::io("what was restored cannot be synced", target, e).kind(Kind::Restore))?;
    }
    let found = (restored.files, restored.dirs, restored.links, restored.other, restored.bytes);
    let promised = (expected.files, expected.dirs, expected.links, expected.other, expected.bytes);
    if found != promised {
        return Err(Error::new(Kind::Mismatch, "what was restored differs from the index of the backup")
            .at(target.display())
            .because(format!("files, directories, links, others, bytes: {found:?} instead of {promised:?}")));
    }
    Ok(restored)
}

/// Everything: what the index says is counted as it goes by.
async fn write_whole(
    reader: &Reader,
    artifact: &Artifact,
    target: &Path,
    options: &Options,
) -> Result<(Restored, Expected)> {
    let counted = Arc::new(Mutex::new(Expected::default()));
    let counting = counted.clone();
    let pieces = reader.stream(artifact, move |e| {
        if let Some(file) = &e.file {
            // No first name is missing where all are wanted.
            counting.lock().unwrap_or_else(PoisonError::into_inner).count(file, |_| true);
        }
        e.path().is_some()
    });
    let restored = unpack(pieces, target, options).await?;
    let expected = std::mem::take(&mut *counted.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((restored, expected))
}

/// A part: the index is read before, since the first name of a hard link may not belong to it.
async fn write_part(
    reader: &Reader,
    artifact: &Artifact,
    selection: &Selection,
    target: &Path,
    options: &Options,
) -> Result<(Restored, Expected)> {
    let expected = expect(reader, artifact, selection).await?;
    let orphans: BTreeSet<Vec<u8>> = expected.orphans.values().flatten().cloned().collect();
    let pieces = reader.members(artifact, selection, move |e| e.path().is_some_and(|p| !orphans.contains(&p.0)));
    Ok((unpack(pieces, target, options).await?, expected))
}

async fn unpack(pieces: Pieces, target: &Path, options: &Options) -> Result<Restored> {
    let (target, options) = (target.to_owned(), options.clone());
    let (mut stream, _waiting) = BlockingStream::awaited(pieces);
    let work = tokio::task::spawn_blocking(move || {
        let result = untar(&mut stream, &target, &options);
        // The archive's error only says that reading failed; the stream knows why.
        result.map_err(|e| stream.take_error().unwrap_or(e))
    });
    work.await.map_err(Error::panicked("writing"))?
}

/// What the index says of a part.
///
/// # Errors
/// [`Kind::NotFound`] for a path at which there is nothing, besides those of reading.
async fn expect(reader: &Reader, artifact: &Artifact, selection: &Selection) -> Result<Expected> {
    let mut expected = Expected::default();
    let mut missing: Vec<&Vec<u8>> = selection.roots().iter().collect();
    let mut segments = pin!(reader.catalog().read(selection.segments(&artifact.segments)));
    while let Some((_, segment)) = segments.next().await {
        for file in segment?.entries.iter().filter_map(|e| e.file.as_ref()).filter(|f| selection.contains(&f.path.0)) {
            expected.count(file, |path| selection.contains(path));
            missing.retain(|root| !below(&file.path.0, root));
        }
    }
    if missing.is_empty() {
        return Ok(expected);
    }
    let missing: Vec<String> = missing.into_iter().map(|root| format!("/{}", Bytes(root.clone()).display())).collect();
    Err(Error::new(Kind::NotFound, "the backup does not hold this path")
        .at(missing.join(", "))
        .hint("`backstay find` searches a backup."))
}

/// Restores a file whose content is stored under a name that was not selected.
async fn place_orphan(
    reader: &Reader,
    artifact: &Artifact,
    first: &[u8],
    links: &[Vec<u8>],
    target: &Path,
    strip: usize,
    options: &Options,
) -> Result<u64> {
    let aside = target.join(format!(".backstay-link-{:08x}", rand::random::<u32>()));
    std::fs::create_dir(&aside)
        .map_err(|e| Error::io("a directory for a hard link cannot be made", &aside, e).kind(Kind::Restore))?;
    let name = first.to_vec();
    let options = Options { strip: 0, ..options.clone() };
    // It may lie anywhere in the tree; only its own segments are read for it.
    let pieces = reader.members(artifact, &Selection::of(first), move |e| e.path().is_some_and(|p| p.0 == name));
    let unpacked = unpack(pieces, &aside, &options).await;
    let placed = unpacked.and_then(|_| {
        let from = aside.join(OsStr::from_bytes(first));
        for link in links {
            let parts: Vec<&[u8]> = link.split(|b| *b == b'/').skip(strip).collect();
            let to = target.join(OsStr::from_bytes(&parts.join(&b'/')));
            // With nothing else selected there is no directory yet.
            let made = to.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| std::fs::hard_link(&from, &to)).map_err(|e| {
                Error::new(Kind::Restore, "the hard link cannot be made").at(Bytes(link.clone()).display()).because(e)
            })?;
        }
        Ok(links.len() as u64)
    });
    let removed = std::fs::remove_dir_all(&aside);
    let placed = placed?;
    removed.map_err(|e| Error::io("a directory for a hard link cannot be removed", &aside, e).kind(Kind::Restore))?;
    Ok(placed)
}
