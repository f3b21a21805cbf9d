//! Containers that need not run, and where their data and their process are on this machine.

use super::find::{COMPOSE_PROJECT, COMPOSE_SERVICE, Container, Mount};
use super::{Docker, checked, failed};
use crate::error::{Error, Kind, Result};
use bollard::query_parameters::InspectContainerOptions;
use std::path::{Path, PathBuf};

/// What a reference of the configuration means.
#[derive(Clone, Debug)]
pub enum Meant {
    /// A container, which stays when it stops.
    Container(Box<Container>),
    /// A service of the swarm, whose containers come and go.
    Service(String),
}

impl Docker {
    /// What is meant by a container's name, by `PROJECT/SERVICE` of compose, or by the name of a swarm service; it may
    /// have stopped.
    ///
    /// # Errors
    /// Those of [`Docker::find`], when there is neither.
    pub async fn meant(&self, reference: &str) -> Result<Meant> {
        let found = match reference.split_once('/') {
            Some((project, service)) => {
                let label = format!("{COMPOSE_PROJECT}={}", checked(project)?);
                let mut of_project = self.containers("label", &label).await?;
                of_project.retain(|c| c.labels.get(COMPOSE_SERVICE).is_some_and(|s| s == service));
                // Of several copies none is meant by this name.
                if of_project.len() == 1 { of_project.pop() } else { None }
            }
            None => self.container(reference).await?.filter(|c| c.name == reference || c.id == reference),
        };
        match found {
            Some(container) => Ok(match container.swarm_service() {
                Some(service) => Meant::Service(service.to_owned()),
                None => Meant::Container(Box::new(container)),
            }),
            None if !reference.contains('/') && self.replicas(reference).await.is_ok_and(|r| r.is_some()) => {
                Ok(Meant::Service(reference.to_owned()))
            }
            None => self.find(reference).await.map(|c| Meant::Container(Box::new(c))),
        }
    }

    /// The process of a running container on this machine.
    pub async fn process(&self, name: &str) -> Result<u32> {
        let found = self
            .api
            .inspect_container(checked(name)?, None::<InspectContainerOptions>)
            .await
            .map_err(failed(format!("container {name} cannot be looked at")))?;
        let pid = found.state.and_then(|s| s.pid).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        pid.ok_or_else(|| {
            Error::new(Kind::Source, format!("container {name} does not run")).hint(format!("`docker start {name}`."))
        })
    }
}

impl Container {
    /// A path of the container as the host has it, when it is on a volume or a bind mount.
    pub fn on_host(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let under = |m: &&Mount| path.starts_with(&m.destination) && m.kind != "tmpfs";
        let mount = self.mounts.iter().filter(under).max_by_key(|m| m.destination.len())?;
        let rest = path.strip_prefix(&mount.destination).ok()?;
        let source = PathBuf::from(&mount.source);
        // Joining nothing would leave a slash at the end.
        Some(if rest.as_os_str().is_empty() { source } else { source.join(rest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_the_longest_mount() {
        let mount = |kind: &str, source: &str, destination: &str| Mount {
            kind: kind.into(),
            source: source.into(),
            destination: destination.into(),
            ..Mount::default()
        };
        let mounts = vec![
            mount("volume", "/var/lib/docker/volumes/v/_data", "/data"),
            mount("bind", "/srv/inner", "/data/inner"),
            mount("tmpfs", "", "/run"),
        ];
        let c = Container { mounts, ..Container::default() };
        assert_eq!(c.on_host("/data").unwrap(), Path::new("/var/lib/docker/volumes/v/_data"));
        assert_eq!(c.on_host("/data/inner/x").unwrap(), Path::new("/srv/inner/x"));
        assert_eq!((c.on_host("/database"), c.on_host("/run/x")), (None, None));
    }
}
