//! A directory of a running container, as this machine sees it: through the root of the container's first process. It works
//! for every storage driver, and sees what is mounted in the container.

use super::find::Container;
use super::{Docker, checked, failed};
use crate::error::{Error, Kind, Result};
use bollard::query_parameters::InspectContainerOptions;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is mounted in a container may hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Such a directory.
#[derive(Debug)]
pub struct Directory {
    /// It, open; it stays what it is when the container ends.
    pub place: OwnedFd,
    /// The name of the container.
    pub container: String,
    /// Whether what lies in it outlives the container: it is in a volume, or in a directory of the machine.
    pub outlives: bool,
}

impl Docker {
    /// A directory of a running container: its name, `PROJECT/SERVICE` of compose, or a swarm service. Links in the path lead
    /// where they lead in the container.
    ///
    /// # Errors
    /// [`Kind::Source`] when the container does not run, or runs elsewhere; [`Kind::NotFound`] without such a directory.
    pub async fn directory(&self, reference: &str, path: &Path) -> Result<Directory> {
        let container = self.find(reference).await?;
        let what = format!("the files of container {} cannot be reached", container.name);
        let options = None::<InspectContainerOptions>;
        let inspected = self.api.inspect_container(checked(&container.id)?, options).await.map_err(failed(&what))?;
        let process = inspected.state.and_then(|s| s.pid).unwrap_or(0);
        let (id, wanted) = (container.id.clone(), path.to_owned());
        let opening = tokio::task::spawn_blocking(move || opened(process, &id, &wanted));
        let place = match tokio::time::timeout(LIMIT, opening).await {
            Ok(Ok(Ok(place))) => place,
            Ok(Ok(Err(Errno::NOENT | Errno::NOTDIR))) => {
                return Err(Error::new(Kind::NotFound, format!("container {} has no directory", container.name))
                    .at(path.display())
                    .hint(format!("`docker exec {} ls {}` shows what there is.", container.name, path.display())));
            }
            Ok(Ok(Err(e))) => {
                return Err(Error::new(Kind::Source, what)
                    .at(path.display())
                    .because(e)
                    .hint("The daemon must run on this machine, and we as root; or copy them out with `docker cp`."));
            }
            Ok(Err(e)) => return Err(Error::panicked("opening")(e)),
            Err(_) => {
                return Err(Error::new(Kind::Source, what)
                    .at(path.display())
                    .because("what is mounted there does not answer"));
            }
        };
        Ok(Directory { place, outlives: outlives(&container, path), container: container.name })
    }
}

/// Opens a directory within the root of a process, if that is one of the container.
fn opened(process: i64, id: &str, path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Without a process of that number the daemon is elsewhere.
    let root = open(folder.join("root").as_path(), flags, Mode::empty()).map_err(|e| match e {
        Errno::NOENT => Errno::SRCH,
        e => e,
    })?;
    // Opened first and looked at then: the number cannot have passed to another process in between.
    let group = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    if !group.contains(id) {
        return Err(Errno::SRCH);
    }
    let below = path.strip_prefix("/").ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(&root, below, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Whether a path lies in a volume or in a directory of the machine; the innermost mount counts.
fn outlives(container: &Container, path: &Path) -> bool {
    let above = container.mounts.iter().filter(|m| path.starts_with(&m.destination));
    let innermost = above.max_by_key(|m| m.destination.len());
    innermost.is_some_and(|m| matches!(m.kind.as_str(), "volume" | "bind"))
}

#[cfg(test)]
mod tests {
    use super::super::find::Mount;
    use super::*;

    #[test]
    fn the_innermost_mount_says_what_outlives_a_container() {
        let mount = |kind: &str, at: &str| Mount { kind: kind.into(), destination: at.into(), ..Mount::default() };
        let mounts = vec![mount("bind", "/app"), mount("tmpfs", "/app/tmp"), mount("volume", "/app/tmp/keep")];
        let container = Container { mounts, ..Container::default() };
        let so = |path: &str| outlives(&container, Path::new(path));
        assert!(so("/app/backups") && so("/app/tmp/keep/x"));
        assert!(!so("/app/tmp/x") && !so("/application") && !so("/"));
    }
}
