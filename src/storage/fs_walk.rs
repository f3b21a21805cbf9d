//! Reading a directory tree in the order of the keys, without reading more of it than asked for.

use super::fs_file::is_temporary;
use super::{ObjectInfo, Page};
use jiff::Timestamp;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// How many objects a page holds.
const PAGE: usize = 1000;

/// The write time of a file.
pub(super) fn modified(metadata: &Metadata) -> io::Result<Timestamp> {
    Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)
}

/// An object's entry in a listing.
pub(super) fn info(key: String, metadata: &Metadata) -> io::Result<ObjectInfo> {
    Ok(ObjectInfo { key, size: metadata.len(), modified: modified(metadata)? })
}

/// One page of the files below `root` whose key starts with `prefix` and is greater than `after`.
///
/// # Errors
/// A symbolic link is an error (`InvalidData`): to follow it could leave the tree, and to skip it would make a
/// listing look complete that is not. Files and directories that vanish meanwhile are skipped.
pub(super) fn page(root: &Path, prefix: &str, after: Option<&str>) -> io::Result<Page> {
    fs::read_dir(root)?;
    let mut walk = Walk { root, prefix, after: after.unwrap_or(""), found: Vec::new() };
    walk.directory(prefix.rfind('/').map_or("", |slash| &prefix[..=slash]))?;
    let more = walk.found.len() > PAGE;
    walk.found.truncate(PAGE);
    let next = walk.found.last().filter(|_| more).map(|last| last.key.clone());
    Ok(Page { objects: walk.found, next })
}

/// The directories in `prefix` (empty, or with a trailing slash) that have a file somewhere below them.
///
/// # Errors
/// As [`page`].
pub(super) fn folders(root: &Path, prefix: &str) -> io::Result<Vec<String>> {
    fs::read_dir(root)?;
    let mut names = Vec::new();
    for (name, _) in entries(root, prefix)? {
        if let Some(directory) = name.strip_suffix('/')
            && holds_a_file(root, &format!("{prefix}{name}"))?
        {
            names.push(directory.to_owned());
        }
    }
    // The entries are in the order of `name/`, which puts `a-b` before `a`.
    names.sort_unstable();
    Ok(names)
}

/// All unfinished files below `root`, with their write times.
pub(super) fn temporary_files(root: &Path) -> io::Result<Vec<(PathBuf, Timestamp)>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_temporary) {
                match entry.metadata() {
                    Ok(metadata) => found.push((entry.path(), modified(&metadata)?)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(found)
}

struct Walk<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    found: Vec<ObjectInfo>,
}

impl Walk<'_> {
    /// Visits a directory, given as a prefix of keys, until one object more than a page is found.
    fn directory(&mut self, at: &str) -> io::Result<()> {
        for (name, path) in entries(self.root, at)? {
            if self.found.len() > PAGE {
                break;
            }
            let key = format!("{at}{name}");
            if name.ends_with('/') {
                let wanted = key.starts_with(self.prefix) || self.prefix.starts_with(&key);
                let passed = self.after > key.as_str() && !self.after.starts_with(&key);
                if wanted && !passed {
                    self.directory(&key)?;
                }
            } else if key.starts_with(self.prefix) && key.as_str() > self.after {
                match fs::metadata(&path) {
                    Ok(metadata) => self.found.push(info(key, &metadata)?),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn holds_a_file(root: &Path, at: &str) -> io::Result<bool> {
    for (name, _) in entries(root, at)? {
        if !name.ends_with('/') || holds_a_file(root, &format!("{at}{name}"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The entries of a directory that can be part of a key; directories with a trailing slash, so that the order
/// of the names is the order of the keys. A directory that is not there is empty.
fn entries(root: &Path, at: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let listing = match fs::read_dir(root.join(at)) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry?;
        let name = match entry.file_name().into_string() {
            Ok(name) if !is_temporary(&name) && super::check_key("list", "", &name).is_ok() => name,
            _ => continue,
        };
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            names.push((format!("{name}/"), entry.path()));
        } else if kind.is_file() {
            names.push((name, entry.path()));
        } else if kind.is_symlink() {
            let text = format!("{} is a symbolic link", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    names.sort_unstable();
    Ok(names)
}
