//! Looking at the places of files before anything is touched.

use super::Trees;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::find::{Container, Mount};
use crate::host::holders::{self, Holder};
use crate::host::nginx::config::Where;
use crate::model::size;
use crate::recovery::exchange;
use crate::recovery::resource::{Findings, Space};
use std::path::Path;

/// Whether a directory cannot change its place: a mount point, or where nothing can be exchanged.
pub fn is_fixed(path: &Path) -> bool {
    holders::is_mount_point(path) || !path.parent().is_some_and(exchange::is_possible)
}

impl Trees {
    /// Whether what is in a directory changes places, and not the directory itself.
    pub(super) async fn stays(&self, path: &Path) -> Result<bool> {
        Ok(path.is_dir() && !path.is_symlink() && (is_fixed(path) || self.is_shown_to_nginx(path).await?))
    }

    /// Whether just this directory is mounted into the nginx that shows the page. It runs on, since it reads its
    /// configuration when it is told to and not before; of another directory in its place it would see nothing.
    async fn is_shown_to_nginx(&self, path: &Path) -> Result<bool> {
        let name = match &self.nginx {
            Where::Host => return Ok(false),
            Where::Container(name) | Where::Service(name) => name,
        };
        // Without a daemon nothing runs in a container.
        let Ok(docker) = Docker::connect().await else { return Ok(false) };
        let running = docker.running(name).await.map_err(|e| e.kind(Kind::Restore))?;
        Ok(running.iter().any(|nginx| nginx.mounts.iter().any(|mount| Path::new(&mount.source) == path)))
    }

    fn is_nginx(&self, container: &Container) -> bool {
        match &self.nginx {
            Where::Host => false,
            Where::Container(name) => {
                container.name == *name || name.split_once('/').is_some_and(|of| container.compose() == Some(of))
            }
            Where::Service(name) => container.swarm_service() == Some(name.as_str()),
        }
    }

    pub(super) async fn look(&self) -> Result<Findings> {
        let mut findings = Findings::default();
        for path in &self.paths {
            self.refuse(path)?;
            let stays = self.stays(path).await?;
            if stays {
                findings.warnings.push(format!(
                    "{} cannot change its place: its content is exchanged name by name, and what was there stays in it as .backstay-before-…",
                    path.display()
                ));
            }
            self.users_of(path, stays, &mut findings).await?;
        }
        let needed = self.from.as_ref().map_or(0, |(_, record)| record.bytes());
        let there = self.paths.first().and_then(|p| p.ancestors().find(|a| a.exists()));
        let space = there.map(|place| {
            let free = rustix::fs::statvfs(place).ok().map(|s| s.f_bavail * s.f_frsize);
            Space { place: place.to_owned(), needed, free }
        });
        if let Some(Space { place, needed, free: Some(free) }) = &space
            && free < needed
            && self.paths.len() == 1
        {
            return Err(Error::new(
                Kind::Refused,
                format!(
                    "there is no room for a second copy: {} are needed, {} are free",
                    size::human(*needed),
                    size::human(*free)
                ),
            )
            .at(place.display()));
        }
        findings.space.extend(space);
        Ok(findings)
    }

    /// Containers that see the path keep what was there before, so they must be stopped. A process does so only as long as
    /// it has something open: that is told.
    pub(super) async fn users_of(&self, path: &Path, stays: bool, findings: &mut Findings) -> Result<()> {
        let found = holders::of(path);
        let (boxed, others): (Vec<Holder>, Vec<Holder>) =
            found.into_iter().partition(|h| container_id(&h.cgroup).is_some());
        findings.lingering.extend(others.iter().map(|h| format!("process:{} {}", h.pid, h.name)));
        if boxed.is_empty() {
            return Ok(());
        }
        let docker = Docker::connect().await.map_err(|e| e.kind(Kind::Restore))?;
        for holder in boxed {
            let container = docker.container(container_id(&holder.cgroup).unwrap_or_default()).await?;
            // It sees what is exchanged in the directory that it has, and not what takes the place of one below that.
            if stays && container.as_ref().is_some_and(|c| self.is_nginx(c) && !has_below(&c.mounts, path)) {
                continue;
            }
            let user = match container {
                Some(c) => {
                    c.swarm_service().map_or_else(|| format!("container:{}", c.name), |s| format!("service:{s}"))
                }
                None => format!("process:{} {}", holder.pid, holder.name),
            };
            if !findings.users.contains(&user) {
                findings.users.push(user);
            }
        }
        Ok(())
    }

    fn refuse(&self, path: &Path) -> Result<()> {
        if let Some(own) = self.own.iter().find(|o| o.starts_with(path)) {
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
        if let Some(mount) = holders::mounts_below(path).first() {
            return Err(Error::new(
                Kind::Refused,
                format!("{} is mounted below {}, and an exchange would take it away", mount.display(), path.display()),
            )
            .hint("Restore what lies beside it with --path, or everything with --to DIRECTORY; or unmount it for the restore."));
        }
        Ok(())
    }
}

/// Whether something below a path is mounted by itself.
fn has_below(mounts: &[Mount], path: &Path) -> bool {
    mounts.iter().map(|mount| Path::new(&mount.source)).any(|mount| mount != path && mount.starts_with(path))
}

/// The id of the container that a control group is of.
fn container_id(cgroup: &str) -> Option<&str> {
    cgroup
        .split(['/', '-', '.', '\n', ':'])
        .find(|part| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_its_control_group() {
        let id = "0123456789abcdef".repeat(4);
        for cgroup in [format!("0::/docker/{id}\n"), format!("0::/system.slice/docker-{id}.scope\n")] {
            assert_eq!(container_id(&cgroup), Some(id.as_str()));
        }
        assert_eq!(container_id("0::/system.slice/nginx.service\n"), None);
    }

    #[test]
    fn what_is_mounted_below_a_path_is_told_from_the_path_itself_and_from_what_is_above() {
        let mount = |source: &str| Mount {
            kind: "bind".into(),
            volume: None,
            source: source.into(),
            destination: "/etc/nginx".into(),
            writable: false,
        };
        let below =
            |sources: &[&str]| has_below(&sources.iter().map(|s| mount(s)).collect::<Vec<_>>(), Path::new("/srv/conf"));
        assert!(!below(&["/srv/conf", "/srv", "/srv/conf.d"]));
        assert!(below(&["/srv/conf", "/srv/conf/sites"]));
    }
}
