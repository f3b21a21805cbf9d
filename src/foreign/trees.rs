//! Archives of files, unpacked into a room of our own and read from there like any tree: in order, with an index, as the
//! nightly backup would read it.

use super::check::{holds_what_is_wanted, refuse_server};
use super::layout::{Is, MemberRule, MemberTarget};
use super::members::{self, Sorted};
use super::owner::Owner;
use super::read::Openable;
use super::take::{Taken, Taking};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::sources::Delivered;
use crate::sources::files::read::{View, read_as};
use crate::sources::files::untar::{Options, untar};
use crate::sources::files::{FilesSource, TREE};
use crate::sources::volume::{VolumeFacts, WhileReading, artifact_name};
use crate::telemetry::monitor::Monitor;
use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that go over at once.
const PIECE: usize = 256 << 10;

/// What was unpacked.
pub(super) struct Trees {
    room: PathBuf,
    /// Paths of each `files` source, as they are on the machine.
    paths: BTreeMap<Name, Vec<PathBuf>>,
    /// Volumes of each `volume` source, and where they are unpacked.
    volumes: BTreeMap<Name, Vec<(String, PathBuf)>>,
    warnings: Vec<String>,
}

/// Unpacks all archives of a set that something is wanted of.
pub(super) async fn unpack(taking: &Taking<'_>) -> Result<Trees> {
    let mut trees =
        Trees { room: taking.room.clone(), paths: BTreeMap::new(), volumes: BTreeMap::new(), warnings: Vec::new() };
    let files = taking.files_of(|r| r.is == Is::Tar && !r.members.is_empty());
    for (n, file) in files.into_iter().enumerate() {
        let place = taking.room.join(format!("part-{n}"));
        std::fs::create_dir_all(&place)
            .map_err(|e| Error::io("a directory to unpack into cannot be made", &place, e))?;
        let sorted = unpack_one(&file, &place, taking.restores_a_server()).await?;
        let name = &file.part.object.key;
        trees.warnings.extend(sorted.lacks(&file.rule).into_iter().map(|what| format!("{name}: {what}")));
        if sorted.left_out > 0 {
            trees
                .warnings
                .push(format!("{} of the members of {name} belong to no source and are left out", sorted.left_out));
        }
        for (i, rule) in file.rule.members.iter().enumerate() {
            let from = place.join(i.to_string());
            if from.symlink_metadata().is_ok() {
                trees.place(rule, &from)?;
            }
        }
    }
    for file in taking.files_of(|r| r.path.is_some()) {
        trees.single(&file).await?;
    }
    Ok(trees)
}

async fn unpack_one(file: &Openable, place: &Path, restores_a_server: bool) -> Result<Sorted> {
    let (rule, place) = (file.rule.clone(), place.to_owned());
    file.with(move |content| {
        let (reader, writer) =
            std::io::pipe().map_err(|e| Error::new(Kind::Internal, "a pipe cannot be made").because(e))?;
        std::thread::scope(|scope| {
            let unpacking = scope.spawn(move || {
                let options = Options { owners: rustix::process::geteuid().is_root(), ..Options::default() };
                untar(&mut BufReader::with_capacity(PIECE, reader), &place, &options)
            });
            let mut pipe = BufWriter::with_capacity(PIECE, writer);
            let sorted = members::sort(content, &rule.members, &mut pipe);
            let flushed = pipe.flush();
            drop(pipe);
            let unpacked = unpacking.join().map_err(Error::panicked("unpacking"))?;
            // Where the unpacking broke off, sorting only finds that nobody listens; where sorting did, unpacking only finds
            // that nothing comes any more.
            let sorted = match (sorted, unpacked) {
                (Err(e), Err(unpacking)) => return Err(if lost_its_listener(&e) { unpacking } else { e }),
                (Err(e), Ok(_)) | (Ok(_), Err(e)) => return Err(e),
                (Ok(sorted), Ok(_)) => sorted,
            };
            flushed.map_err(super::read::unreadable)?;
            refuse_server(&sorted, restores_a_server)?;
            holds_what_is_wanted(&rule, &sorted)?;
            Ok(sorted)
        })
    })
    .await
}

/// Whether it says no more than that whoever took what was written had gone.
fn lost_its_listener(e: &Error) -> bool {
    let cause = e.cause.as_ref().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

impl Trees {
    /// Where the paths of a source are, as below a root.
    fn root(&self, source: &Name) -> PathBuf {
        self.room.join(format!("files-{source}"))
    }

    /// Whether anything of a source was unpacked.
    pub(super) fn has(&self, source: &Name) -> bool {
        self.paths.contains_key(source) || self.volumes.contains_key(source)
    }

    fn place(&mut self, rule: &MemberRule, from: &Path) -> Result<()> {
        match &rule.to {
            MemberTarget::Ignored => {}
            MemberTarget::Volume(source, volume) => {
                let all = self.volumes.entry(source.clone()).or_default();
                if all.iter().any(|(name, _)| name == volume) {
                    return Err(twice(&format!("volume {volume}")));
                }
                all.push((volume.clone(), from.to_owned()));
            }
            MemberTarget::Path(source, path) => {
                let to = self.root(source).join(path.strip_prefix("/").unwrap_or(path));
                if to.symlink_metadata().is_ok() {
                    return Err(twice(&path.display().to_string()));
                }
                let made = to.parent().map_or(Ok(()), std::fs::create_dir_all);
                made.and_then(|()| std::fs::rename(from, &to))
                    .map_err(|e| Error::io("what was unpacked cannot be put in its place", &to, e))?;
                self.paths.entry(source.clone()).or_default().push(path.clone());
            }
        }
        Ok(())
    }

    /// A file by itself.
    async fn single(&mut self, file: &Openable) -> Result<()> {
        let (Some(path), Some(source)) = (file.rule.path.clone(), &file.rule.source) else { return Ok(()) };
        super::check::file_of(file.clone(), false).await?;
        let to = self.root(source).join(path.strip_prefix("/").unwrap_or(&path));
        if to.symlink_metadata().is_ok() {
            return Err(twice(&path.display().to_string()));
        }
        let owner = Owner::of(&path, file.rule.is).await;
        if !owner.is_known {
            self.warnings.push(format!(
                "{} is not there now, so whose it is to be is not known: it becomes root's, and nobody else reads it",
                path.display()
            ));
        }
        file.with(move |content| owner.write(content, &to)).await?;
        self.paths.entry(source.clone()).or_default().push(path);
        Ok(())
    }

    /// The tree of a `files` source.
    pub(super) async fn files(&self, source: &Name, writer: &BackupWriter, monitor: Arc<dyn Monitor>) -> Result<Taken> {
        let paths = self.paths.get(source).cloned().unwrap_or_default();
        if paths.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("the set holds nothing of the paths of source {source}"))
                .hint("Say with `members` which folder of the archive is which path."));
        }
        let root = self.root(source);
        let below: Vec<PathBuf> = paths.iter().map(|p| root.join(p.strip_prefix("/").unwrap_or(p))).collect();
        let mut delivered = read(source, below, root, TREE.to_owned(), writer, monitor).await?;
        if let Some(facts) = delivered.facts.as_object_mut() {
            let paths: Vec<_> = paths.iter().map(|p| p.to_string_lossy()).collect();
            facts.insert("paths".into(), serde_json::json!(paths));
        }
        delivered.warnings.extend(self.warnings.iter().cloned());
        Ok(Taken { artifacts: delivered.artifacts, facts: delivered.facts, warnings: delivered.warnings })
    }

    /// The trees of a `volume` source.
    pub(super) async fn volumes(
        &self,
        source: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Taken> {
        let mut taken =
            Taken { artifacts: Vec::new(), facts: serde_json::Value::Null, warnings: self.warnings.clone() };
        let mut facts = BTreeMap::new();
        for (volume, root) in self.volumes.get(source).into_iter().flatten() {
            let artifact = artifact_name(volume);
            let delivered = read(source, vec![root.clone()], root.clone(), artifact, writer, monitor.clone()).await?;
            taken.artifacts.extend(delivered.artifacts);
            taken.warnings.extend(delivered.warnings);
            let tree = delivered.facts.as_object().cloned().unwrap_or_default();
            facts.insert(
                volume.clone(),
                VolumeFacts { driver: "local".into(), way: "foreign".into(), tree, ..VolumeFacts::default() },
            );
        }
        if taken.artifacts.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("the set holds nothing of the volumes of source {source}"))
                .hint("Say with `members` which folder of the archive is which volume."));
        }
        taken.facts = serde_json::json!({ "while_reading": WhileReading::Run, "volumes": facts });
        Ok(taken)
    }
}

fn twice(what: &str) -> Error {
    Error::new(Kind::Config, format!("two archives of the set hold {what}"))
        .hint("Let `members` take it from one of them, and ignore the other.")
}

async fn read(
    source: &Name,
    paths: Vec<PathBuf>,
    root: PathBuf,
    artifact: String,
    writer: &BackupWriter,
    monitor: Arc<dyn Monitor>,
) -> Result<Delivered> {
    let (name, writer) = (source.clone(), writer.clone());
    let work = tokio::task::spawn_blocking(move || {
        let tree =
            FilesSource { paths, exclude: Vec::new(), never: Vec::new(), one_file_system: false, reread_days: None };
        let view = View { artifact: &artifact, root: Some(&root), look: &|_, _| Ok(()) };
        read_as(&tree, &name, &writer, &*monitor, &view)
    });
    work.await.map_err(Error::panicked("reading"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_that_nobody_listens_to_has_no_verdict() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        drop(reader);
        let nobody = writer.write_all(b"x").unwrap_err();
        assert!(lost_its_listener(&super::super::read::unreadable(nobody)));
        let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert!(!lost_its_listener(&super::super::read::unreadable(cut)));
        assert!(!lost_its_listener(&Error::new(Kind::Damaged, "it is cut short")));
    }
}
