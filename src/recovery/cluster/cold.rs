//! A cold copy: the files of the whole server, copied while it is stopped. It stands for databases that are dropped and
//! that nobody can dump any more, since it asks nothing of them.
//!
//! The copy is kept beside the data directory, and takes its place again by renames; or on another disk, from where it
//! is copied back. Either way it takes back *every* database of the server.

use super::copy;
use super::pair::{Pair, Which, arrange};
use super::work::{Stop, Work};
use super::written;
use crate::error::{Error, Kind, Result};
use crate::host::holders::is_mount_point;
use crate::model::BackupId;
use crate::model::size::human;
use crate::recovery::exchange::identity;
use crate::recovery::inner::{rename, sync};
use crate::recovery::resource::{Findings, Previous, Space};
use crate::sources::postgres::PostgresSource;
use crate::sources::postgres::cluster::{Cluster, real};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a tablespace has what belongs to a version: `PG_15_202209061`.
const IN_TABLESPACE: &str = "PG_";

/// What is copied, and where to; for the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cold {
    /// The data directory first, then what links in it lead to.
    pairs: Vec<Pair>,
    major: Option<u32>,
}

/// How a server is copied.
pub struct ColdCopy {
    /// Its source.
    pub source: PostgresSource,
    to: Option<PathBuf>,
    id: BackupId,
    work: Work,
}

fn refused(what: &str, path: &Path) -> Error {
    Error::new(Kind::Refused, what.to_owned()).at(path.display())
}

/// Directories outside of the data directory that links in it lead to: the log, and what tablespaces have of this version.
fn linked(data: &Path, major: Option<u32>) -> Result<Vec<PathBuf>> {
    let real = |path: &Path| {
        path.canonicalize().map_err(|e| Error::io("a link of the server leads nowhere", path, e).kind(Kind::Refused))
    };
    let is_link = |path: &Path| path.symlink_metadata().is_ok_and(|m| m.is_symlink());
    let mut found = Vec::new();
    let wal = data.join("pg_wal");
    if is_link(&wal) {
        found.push(real(&wal)?);
    }
    let prefix = major.map_or_else(|| IN_TABLESPACE.to_owned(), |m| format!("{IN_TABLESPACE}{m}_"));
    let spaces = data.join("pg_tblspc");
    let unreadable = |e| Error::io("the tablespaces of the server cannot be read", &spaces, e).kind(Kind::Refused);
    for entry in std::fs::read_dir(&spaces).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !is_link(&path) {
            continue;
        }
        let space = real(&path)?;
        if space.starts_with(data) {
            continue;
        }
        for entry in std::fs::read_dir(&space).map_err(unreadable)?.flatten() {
            // Copies of an earlier restore have a name that goes on.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&prefix) && !name.contains("_before_") && !name.contains("_staged_") {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

impl ColdCopy {
    /// A copy named by the restore `id`: beside the data, or below a directory of another disk.
    pub fn new(source: PostgresSource, to: Option<PathBuf>, id: BackupId) -> Self {
        ColdCopy { source, to, id, work: Work::default() }
    }

    /// Decides what is copied, and where to. No effect.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the files of the server are not to be had, or cannot change places.
    pub async fn plan(&self) -> Result<Cold> {
        self.source.may_handle_files().await?;
        let cluster = self.source.cluster(None).await?;
        let data = &cluster.data;
        if !data.join("PG_VERSION").is_file() {
            return Err(refused("the data directory of the server is not on this host", data).hint(
                "Run the agent on the server's own host; for a safety that needs no files leave out --cold-copy.",
            ));
        }
        if cluster.processes().is_empty() {
            return Err(refused("no running server works in this directory, as far as we may look", data)
                .hint("Correct `data_dir` or the port in `url`: both must mean one server. Run this as root."));
        }
        if let (None, Ok(told)) = (self.source.address.container(), self.source.told_directory().await)
            && real(Path::new(&told)) != *data
        {
            return Err(refused("the server works in another directory than the one that is known of it", data)
                .because(told)
                .hint("Correct `data_dir` or the port in `url`: both must mean one server."));
        }
        let linked = linked(data, cluster.major)?;
        if let (Some(outside), true) = (linked.first(), self.source.address.container().is_some()) {
            return Err(refused("the server in the container has data outside of its directory", outside)
                .hint("Take a safety backup instead: leave out --cold-copy."));
        }
        let id = self.id.as_str();
        let mut pairs = Vec::new();
        for (n, place) in std::iter::once(data.clone()).chain(linked).enumerate() {
            if is_mount_point(&place) {
                return Err(refused("a directory of the server is a mount point and cannot change its place", &place)
                    .hint("Take a safety backup instead: leave out --cold-copy."));
            }
            let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let second = format!("{name}_before_{id}{}", if n == 0 { String::new() } else { format!(".{n}") });
            pairs.push(Pair {
                first: identity(&place)?,
                first_home: place.with_file_name(format!("{name}_staged_{id}")),
                second_home: self.to.as_ref().map_or_else(|| place.with_file_name(&second), |to| to.join(&second)),
                elsewhere: self.to.is_some(),
                place,
            });
        }
        Ok(Cold { pairs, major: cluster.major })
    }

    /// Adds what the copy needs and what the operator should know. `live` is what the dropped databases take. Bytes.
    ///
    /// # Errors
    /// [`Kind::Refused`] when there is no room, and for what cannot be copied or put back.
    pub async fn preflight(&self, found: &mut Findings, live: u64) -> Result<()> {
        let cold = self.plan().await?;
        let main = cold.main()?.clone();
        if let Some(to) = self.to.as_ref().filter(|to| !to.is_dir()) {
            return Err(refused("the directory for the cold copy is not there", to).hint("Make it, or mount its disk."));
        }
        let look = move |_: &Stop| cold.can_be_copied().and_then(|()| cold.spaces());
        let (spaces, shared) = self.work.run(look).await?;
        for space in spaces {
            let load = found.space.iter().filter(|s| device(&s.place) == device(&space.place));
            // What is dropped goes on taking room when its blocks are the copy's too.
            let load: u64 = load.map(|s| s.needed + if shared { live } else { 0 }).sum();
            if space.free.is_some_and(|free| free < space.needed + load) {
                let what = format!(
                    "there is no room for a cold copy: {} are needed, with {} for the load, and {} are free",
                    human(space.needed),
                    human(load),
                    human(space.free.unwrap_or(0))
                );
                return Err(refused(&what, &space.place).hint(
                    "Name a directory on another disk, --cold-copy DIRECTORY; or take a safety backup instead of a copy.",
                ));
            }
            found.space.push(space);
        }
        found.warnings.push(format!(
            "the server is stopped while {} is copied; putting the copy back takes back all of its databases: {}",
            main.place.display(),
            written::databases(&self.source).await?.join(", ")
        ));
        Ok(())
    }

    async fn cluster(&self, cold: &Cold) -> Result<Cluster> {
        self.source.cluster_at(&cold.main()?.place, cold.major).await
    }

    /// Makes the copy, unless it is whole already. The server runs afterwards.
    ///
    /// # Errors
    /// [`Kind::Restore`]; the server may be stopped then.
    pub async fn take(&self, cold: &Cold) -> Result<()> {
        self.work.ended().await;
        let main = cold.main()?;
        if main.in_place()? != Some(Which::First) {
            return Err(Error::new(Kind::Restore, "the data directory is not the one that was to be copied")
                .at(main.place.display())
                .hint("Somebody has put it there meanwhile. Look at it, and move it by hand."));
        }
        let cluster = self.cluster(cold).await?;
        if !main.second_is_home()? {
            cluster.stopped().await?;
            let cold = cold.clone();
            self.work.run(move |stop| cold.copied(stop)).await?;
        }
        cluster.service.start().await?;
        self.source.answering(&*cluster.service).await
    }

    /// Puts the copy in the place of the server's files; gives false when it was not whole, and hence nothing dropped. The
    /// server runs afterwards.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub async fn put_back(&self, cold: &Cold) -> Result<bool> {
        self.work.ended().await;
        let cluster = self.cluster(cold).await?;
        let main = cold.main()?;
        let whole = main.second_is_home()? || main.in_place()? != Some(Which::First);
        if whole {
            self.arranged(cold, &cluster, Which::Second).await?;
        }
        self.source.started_anew(&cluster).await?;
        Ok(whole)
    }

    /// Puts the restored files in place again, wherever putting the copy back ended. The server runs afterwards.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub async fn put_restored(&self, cold: &Cold) -> Result<()> {
        self.work.ended().await;
        let cluster = self.cluster(cold).await?;
        // Then nothing has begun, and nothing is to be moved.
        if !cold.is_lost()? {
            self.arranged(cold, &cluster, Which::First).await?;
        }
        self.source.started_anew(&cluster).await
    }

    async fn arranged(&self, cold: &Cold, cluster: &Cluster, which: Which) -> Result<()> {
        let main = cold.main()?;
        if main.in_place()? == Some(which) {
            if which == Which::Second && cold.is_lost()? {
                return Err(Error::new(Kind::Restore, "the data directory is neither what it was nor the copy of it")
                    .at(main.place.display())
                    .hint("Somebody has put it there meanwhile. Look at it, and move it by hand."));
            }
            return Ok(());
        }
        cluster.stopped().await?;
        let pairs = cold.pairs.clone();
        self.work.run(move |_| arrange(&pairs, which)).await
    }
}

fn device(path: &Path) -> Option<u64> {
    Some(path.ancestors().find_map(|p| p.metadata().ok())?.dev())
}

impl Cold {
    fn main(&self) -> Result<&Pair> {
        let none = || Error::new(Kind::Internal, "the journal names no directory of the server");
        self.pairs.first().ok_or_else(none)
    }

    /// Refuses what would fail when the server is stopped already: files whose owner only root can give to a copy, and
    /// directories in which nothing can be made or moved.
    fn can_be_copied(&self) -> Result<()> {
        for pair in &self.pairs {
            if let Some(path) = copy::first(&pair.place, &copy::is_anothers) {
                return Err(refused("a file of the server is somebody else's, so that only root can copy it", &path)
                    .hint("Run the agent as root, or give the file to the server's user, or move it away."));
            }
            for folder in [&pair.place, &pair.second_home].into_iter().filter_map(|path| path.parent()) {
                rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).map_err(|e| {
                    Error::io("nothing can be made in a directory that the cold copy needs", folder, e.into())
                        .kind(Kind::Refused)
                        .hint("Run the agent as root, or let it write there.")
                })?;
            }
        }
        Ok(())
    }

    /// Room by disk, and whether copies share their blocks with what is copied.
    fn spaces(&self) -> Result<(Vec<Space>, bool)> {
        let mut spaces: Vec<Space> = Vec::new();
        let mut shared = false;
        let version = self.main()?.place.join("PG_VERSION");
        for pair in &self.pairs {
            let parent = pair.second_home.parent().unwrap_or(Path::new("/"));
            let shares = copy::shares(&version, parent);
            shared |= shares;
            let needed = if shares { 0 } else { copy::bytes(&pair.place) };
            match spaces.iter_mut().find(|s| device(&s.place) == device(parent)) {
                Some(space) => space.needed += needed,
                None => spaces.push(Space { place: parent.to_owned(), needed, free: copy::free(parent) }),
            }
        }
        Ok((spaces, shared))
    }

    /// Copies all of it. What an earlier try has left goes first: the server may have run and written since, and directories of
    /// two moments are no cluster. Nothing was dropped as long as the copy is not whole.
    fn copied(&self, stop: &Stop) -> Result<()> {
        for pair in &self.pairs {
            copy::remove(&pair.second_home)?;
            copy::remove(&copy::part(&pair.second_home))?;
        }
        // The data directory comes last: with it all of the copy is whole.
        for pair in self.pairs.iter().rev() {
            let part = copy::part(&pair.second_home);
            copy::tree(&pair.place, &part, stop)?;
            stop.look()?;
            rename(&part, &pair.second_home)?;
            pair.second_home.parent().map_or(Ok(()), sync)?;
        }
        Ok(())
    }

    /// Where the copy was kept, when it is neither there nor in place any more.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be looked at.
    pub fn gone_from(&self) -> Result<Option<&Path>> {
        let main = self.main()?;
        let there = main.second_is_home()? || main.in_place()? == Some(Which::Second);
        Ok((!there).then_some(main.second_home.as_path()))
    }

    /// Whether the data directory is neither what it was nor the copy of it: that goes into place by a rename, and cannot be at home
    /// too. Somebody has moved it to another disk, or its disk has another number since a boot.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be looked at.
    pub fn is_lost(&self) -> Result<bool> {
        let main = self.main()?;
        Ok(!main.elsewhere && main.second_is_home()? && main.in_place()? == Some(Which::Second))
    }

    /// The data directory.
    ///
    /// # Errors
    /// [`Kind::Internal`] for a journal that names none.
    pub fn place(&self) -> Result<&Path> {
        Ok(&self.main()?.place)
    }

    /// What the copy has taken the place of, as far as it is kept: the data directory, and where its links led to.
    pub fn set_aside(&self) -> Vec<&Path> {
        let kept = self.pairs.iter().filter(|p| !p.elsewhere).map(|p| p.first_home.as_path());
        kept.filter(|path| path.symlink_metadata().is_ok()).collect()
    }

    /// Removes whatever of the copy, and of what was restored, is not in place; with `keep` not what the copy has taken the
    /// place of.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn remove(&self, keep: bool) -> Result<()> {
        for pair in &self.pairs {
            // Of one whose copy came from another disk there is nothing left but an empty directory.
            if !keep || pair.elsewhere {
                copy::remove(&pair.first_home)?;
            }
            copy::remove(&pair.second_home)?;
            copy::remove(&copy::part(&pair.second_home))?;
            copy::remove(&copy::part(&pair.place))?;
        }
        Ok(())
    }

    /// Deletes what the copy has taken the place of.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn drop_set_aside(&self) -> Result<()> {
        self.set_aside().into_iter().try_for_each(copy::remove)
    }

    /// The copy, when it is kept.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn previous(&self) -> Result<Option<Previous>> {
        let main = self.main()?;
        if !main.second_is_home()? {
            return Ok(None);
        }
        let bytes = self.pairs.iter().map(|p| copy::bytes(&p.second_home)).sum();
        Ok(Some(Previous { name: format!("cold copy {}", main.second_home.display()), bytes: Some(bytes) }))
    }

    /// Deletes the copy.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn drop_previous(&self) -> Result<()> {
        self.pairs.iter().try_for_each(|pair| copy::remove(&pair.second_home))
    }

    /// What somebody does to put the copy back.
    pub fn by_hand(&self) -> Vec<String> {
        let mut left = vec!["stop the server".to_owned()];
        left.extend(self.pairs.iter().map(|p| {
            format!(
                "when {} is there: move {} away, and bring the copy back in its place (cp -a where it is on another disk)",
                p.second_home.display(),
                p.place.display()
            )
        }));
        left.push("start the server".to_owned());
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_an_earlier_try_has_copied_is_copied_anew() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let pair = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("x"), "now").unwrap();
            Pair {
                first: identity(&at(name)).unwrap(),
                place: at(name),
                first_home: at(&format!("{name}_staged")),
                second_home: at(&format!("{name}_before")),
                elsewhere: false,
            }
        };
        let cold = Cold { pairs: vec![pair("data"), pair("space")], major: None };
        // A tablespace was home already, the data directory was not, and then the server ran.
        for name in ["space_before", "data_before.part"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("x"), "before").unwrap();
        }
        cold.copied(&Stop::default()).unwrap();
        for name in ["data_before", "space_before"] {
            assert_eq!(fs::read_to_string(at(name).join("x")).unwrap(), "now", "{name}");
        }
        assert!(!at("data_before.part").exists());
    }
}
