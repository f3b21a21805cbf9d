//! Containers that need not run: found, stopped, started, and reached from the host.

use super::find::{COMPOSE_SERVICE, Container};
use super::{Docker, checked, failed};
use crate::error::{Error, Kind, Result};
use bollard::query_parameters::{InspectContainerOptions, StartContainerOptions, StopContainerOptionsBuilder};

/// Seconds that a program in a container gets to end by itself. A database may be saving.
const GRACE: i32 = 3600;

impl Docker {
    /// Like [`Docker::find`], for a container that may have stopped.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a swarm service, whose containers the swarm makes and removes.
    pub async fn find_any(&self, reference: &str) -> Result<Container> {
        let found = match reference.split_once('/') {
            Some((project, service)) => {
                let label = format!("{}={}", super::find::COMPOSE_PROJECT, checked(project)?);
                let mut of_project = self.containers("label", &label).await?;
                of_project.retain(|c| c.labels.get(COMPOSE_SERVICE).is_some_and(|s| s == service));
                // Copies of one service serve nothing together; a single one is meant.
                if of_project.len() == 1 { of_project.pop() } else { None }
            }
            None => self.container(reference).await?.filter(|c| c.name == reference || c.id == reference),
        };
        match found {
            Some(container) if container.swarm_service().is_some() => Err(Error::new(
                Kind::Refused,
                format!("{} belongs to a swarm, which would start it again", container.label()),
            )
            .at(reference)
            .hint("Scale the service to 0, restore with `data_dir` and without `container`, and scale it up again.")),
            Some(container) => Ok(container),
            // Says which of the reasons it is.
            None => self.find(reference).await,
        }
    }

    /// Stops a container and waits for its end; it may take as long as its program needs.
    pub async fn stop(&self, name: &str) -> Result<()> {
        let options = StopContainerOptionsBuilder::new().t(GRACE).build();
        let mut waiting = self.api.clone();
        waiting.set_timeout(std::time::Duration::from_secs(GRACE as u64 + 60));
        waiting
            .stop_container(checked(name)?, Some(options))
            .await
            .or_else(|e| if super::is_status(&e, 304) { Ok(()) } else { Err(e) })
            .map_err(failed(format!("container {name} cannot be stopped")))
    }

    /// Starts a container.
    pub async fn start(&self, name: &str) -> Result<()> {
        self.api
            .start_container(checked(name)?, None::<StartContainerOptions>)
            .await
            .or_else(|e| if super::is_status(&e, 304) { Ok(()) } else { Err(e) })
            .map_err(failed(format!("container {name} cannot be started")))
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
    pub fn on_host(&self, path: &str) -> Option<std::path::PathBuf> {
        let path = std::path::Path::new(path);
        let under = |m: &&super::find::Mount| path.starts_with(&m.destination) && m.kind != "tmpfs";
        let mount = self.mounts.iter().filter(under).max_by_key(|m| m.destination.len())?;
        let rest = path.strip_prefix(&mount.destination).ok()?;
        // Joining nothing would leave a slash at the end.
        let source = std::path::PathBuf::from(&mount.source);
        Some(if rest.as_os_str().is_empty() { source } else { source.join(rest) })
    }
}
