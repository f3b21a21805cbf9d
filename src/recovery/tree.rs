//! Restoring files and directories.
//!
//! What is restored is first written beside its place, on the same file system, and compared with the index.
//! Only then it takes its place: by a rename where nothing is, and by an exchange where something is; what was
//! there stays beside it as `NAME_before_ID`.

use crate::error::{Error, Kind, Result};
use crate::repository::manifest::{Artifact, Manifest};
use crate::repository::reader::{BlockingStream, Reader};
use crate::repository::segment::{Bytes, FileType};
use crate::sources::files::untar::{Options, Restored, untar};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What happened to one path.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where it is now.
    pub path: PathBuf,
    /// What was written.
    pub restored: Restored,
    /// Where the previous content is, if there was any.
    pub previous: Option<PathBuf>,
}

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

fn below(path: &[u8], root: &[u8]) -> bool {
    root == b"." || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn member_name(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let name = bytes.strip_prefix(b"/").unwrap_or(bytes);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    if name.is_empty() { b".".to_vec() } else { name.to_vec() }
}

/// Restores the whole artifact, or what lies at `paths` of it, below a new or empty directory. Full paths are kept.
pub async fn into_directory(reader: &Reader, artifact: &Artifact, paths: &[PathBuf], target: &Path) -> Result<Placed> {
    let taken = || {
        Error::new(Kind::Refused, "the target directory is not empty")
            .at(target.display())
            .hint("Give a new or empty directory with --to.")
    };
    match std::fs::read_dir(target) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(taken());
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(target)
                .map_err(|e| Error::io("the target directory cannot be made", target, e).kind(Kind::Restore))?;
        }
        Err(e) => return Err(Error::io("the target cannot be used", target, e).kind(Kind::Restore)),
    }
    let roots: Vec<Vec<u8>> =
        if paths.is_empty() { vec![b".".to_vec()] } else { paths.iter().map(|p| member_name(p)).collect() };
    let restored = write(reader, artifact, roots, target, 0).await?;
    Ok(Placed { path: target.to_owned(), restored, previous: None })
}

/// Restores `paths` to where they were. Nothing is touched that could not be put back: what is there is exchanged
/// with what was restored and kept.
pub async fn in_place(
    reader: &Reader,
    manifest: &Manifest,
    artifact: &Artifact,
    paths: &[PathBuf],
    own: &[PathBuf],
) -> Result<Vec<Placed>> {
    for path in paths {
        if let Some(own) = own.iter().find(|o| o.starts_with(path)) {
            return Err(Error::new(
                Kind::Refused,
                format!("{} holds {}, which this restore itself needs", path.display(), own.display()),
            )
            .hint("Restore it with --to DIRECTORY, or only what lies beside it with --path."));
        }
        if path.parent().is_none() {
            return Err(Error::new(Kind::Refused, "the root directory cannot be exchanged")
                .hint("Restore it with --to DIRECTORY, or parts of it with --path."));
        }
    }
    let mut placed = Vec::new();
    for path in paths {
        placed.push(one_in_place(reader, manifest, artifact, path).await?);
    }
    Ok(placed)
}

async fn one_in_place(reader: &Reader, manifest: &Manifest, artifact: &Artifact, path: &Path) -> Result<Placed> {
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
        _ => return Err(Error::new(Kind::Usage, "not a path that can be restored").at(path.display())),
    };
    std::fs::create_dir_all(parent)
        .map_err(|e| Error::io("the directory of the path cannot be made", parent, e).kind(Kind::Restore))?;
    let staging = parent.join(format!(".{name}.backstay-{}", manifest.id));
    match std::fs::symlink_metadata(&staging) {
        // Left by an interrupted run of this very restore; the name is ours.
        Ok(_) => std::fs::remove_dir_all(&staging)
            .map_err(|e| Error::io("an old staging directory cannot be removed", &staging, e).kind(Kind::Restore))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("the staging directory cannot be used", &staging, e).kind(Kind::Restore)),
    }
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&staging)
        .map_err(|e| Error::io("the staging directory cannot be made", &staging, e).kind(Kind::Restore))?;
    let member = member_name(path);
    let depth = member.split(|b| *b == b'/').count() - 1;
    let result = write(reader, artifact, vec![member], &staging, depth).await.and_then(|restored| {
        let new = staging.join(&name);
        if std::fs::symlink_metadata(&new).is_err() {
            return Err(Error::new(Kind::NotFound, format!("backup {} does not hold this path", manifest.id))
                .at(path.display())
                .hint("`backstay find` searches a backup."));
        }
        Ok((swap(&new, path, manifest.id.as_str())?, restored))
    });
    let removed = std::fs::remove_dir_all(&staging);
    let (previous, restored) = result?;
    removed.map_err(|e| Error::io("the staging directory cannot be removed", &staging, e).kind(Kind::Restore))?;
    Ok(Placed { path: path.to_owned(), restored, previous })
}

/// Puts `new` at `path`; what was there goes to `path_before_ID`.
fn swap(new: &Path, path: &Path, id: &str) -> Result<Option<PathBuf>> {
    let failed = |e: rustix::io::Errno| {
        Error::new(Kind::Restore, "the restored data cannot take its place; what was there is untouched")
            .at(path.display())
            .because(std::io::Error::from(e))
    };
    let sync = |p: &Path| {
        p.parent()
            .map_or(Ok(()), |d| std::fs::File::open(d)?.sync_all())
            .map_err(|e| Error::io("the directory cannot be synced", p, e).kind(Kind::Restore))
    };
    match renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {
            sync(path)?;
            return Ok(None);
        }
        Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(failed(e)),
    }
    let previous = (0..1000)
        .map(|n| {
            PathBuf::from(if n == 0 {
                format!("{}_before_{id}", path.display())
            } else {
                format!("{}_before_{id}.{n}", path.display())
            })
        })
        .find(|p| std::fs::symlink_metadata(p).is_err())
        .ok_or_else(|| Error::new(Kind::Restore, "a thousand previous copies are in the way").at(path.display()))?;
    // The new content first takes the name that the previous one will have, and then both change places. In this
    // order a crash never leaves live data in the staging directory, which the next run would remove.
    renameat_with(CWD, new, CWD, &previous, RenameFlags::NOREPLACE).map_err(failed)?;
    renameat_with(CWD, &previous, CWD, path, RenameFlags::EXCHANGE).map_err(failed)?;
    sync(path)?;
    Ok(Some(previous))
}

/// Writes the selected members below `target` and compares counts with the index.
async fn write(
    reader: &Reader,
    artifact: &Artifact,
    roots: Vec<Vec<u8>>,
    target: &Path,
    strip: usize,
) -> Result<Restored> {
    let expected = expect(reader, artifact, &roots).await?;
    let options = Options { owners: rustix::process::geteuid().is_root(), strip };
    let orphans: BTreeSet<Vec<u8>> = expected.orphans.values().flatten().cloned().collect();
    let (skip, chosen) = (orphans.clone(), roots.clone());
    let wanted = move |e: &crate::repository::segment::Entry| {
        e.path().is_some_and(|p| chosen.iter().any(|r| below(&p.0, r)) && !skip.contains(&p.0))
    };
    let mut restored = unpack(reader, artifact, wanted, target, &options).await?;
    for (first, links) in &expected.orphans {
        restored.links += place_orphan(reader, artifact, first, links, target, strip, &options).await?;
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

async fn unpack(
    reader: &Reader,
    artifact: &Artifact,
    wanted: impl Fn(&crate::repository::segment::Entry) -> bool + Send + 'static,
    target: &Path,
    options: &Options,
) -> Result<Restored> {
    let pieces = reader.stream(artifact, wanted);
    let (target, options) = (target.to_owned(), options.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut stream = BlockingStream::new(pieces);
        let result = untar(&mut stream, &target, &options);
        // The archive's error only says that reading failed; the stream knows why.
        result.map_err(|e| stream.take_error().unwrap_or(e))
    });
    work.await.map_err(|_| Error::new(Kind::Internal, "the writing thread ended by a panic"))?
}

async fn expect(reader: &Reader, artifact: &Artifact, roots: &[Vec<u8>]) -> Result<Expected> {
    let mut expected = Expected::default();
    for reference in &artifact.segments {
        let segment = reader.catalog().segment(reference).await?;
        for file in
            segment.entries.iter().filter_map(|e| e.file.as_ref()).filter(|f| roots.iter().any(|r| below(&f.path.0, r)))
        {
            match file.kind {
                FileType::File => {
                    expected.files += 1;
                    expected.bytes += file.size;
                }
                FileType::Dir => expected.dirs += 1,
                FileType::Symlink => expected.links += 1,
                FileType::Hardlink => {
                    expected.links += 1;
                    let first = file.link.clone().unwrap_or_default().0;
                    if !roots.iter().any(|r| below(&first, r)) {
                        expected.orphans.entry(first).or_default().push(file.path.0.clone());
                    }
                }
                _ => expected.other += 1,
            }
        }
    }
    Ok(expected)
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
    let unpacked = unpack(reader, artifact, move |e| e.path().is_some_and(|p| p.0 == name), &aside, &options).await;
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
