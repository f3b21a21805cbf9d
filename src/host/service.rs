//! Stopping and starting what serves data, whoever looks after it.

use super::docker::Docker;
use super::docker::lifecycle::Meant;
use super::systemd;
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;

/// Something that can be stopped and started by name, and stays stopped in between.
#[async_trait]
pub trait Service: Send + Sync {
    /// For messages: `unit redis-server.service`.
    fn label(&self) -> String;

    /// Whether it runs, or is about to start or to stop.
    async fn is_running(&self) -> Result<bool>;

    /// Stops it, and returns when it has stopped. Nothing to do when it does not run.
    async fn stop(&self) -> Result<()>;

    /// Starts it. Nothing to do when it runs.
    async fn start(&self) -> Result<()>;
}

/// A unit of systemd.
#[derive(Clone, Debug)]
pub struct Unit(pub String);

impl Unit {
    async fn look(&self) -> Result<systemd::unit::Unit> {
        let unit = systemd::look(&self.0).await?;
        if unit.load == "loaded" {
            return Ok(unit);
        }
        Err(Error::new(Kind::Refused, format!("there is no unit {}", self.0))
            .because(format!("systemd says {:?}", unit.load))
            .hint("Correct `unit`; `systemctl list-units --type=service` shows what there is."))
    }
}

#[async_trait]
impl Service for Unit {
    fn label(&self) -> String {
        format!("unit {}", self.0)
    }

    async fn is_running(&self) -> Result<bool> {
        Ok(self.look().await?.is_up())
    }

    async fn stop(&self) -> Result<()> {
        systemd::stop(&self.look().await?).await
    }

    async fn start(&self) -> Result<()> {
        systemd::start(&self.look().await?).await
    }
}

/// A container by its name or as `PROJECT/SERVICE` of compose, or a swarm service.
#[derive(Clone, Debug)]
pub struct Contained {
    /// The daemon.
    pub docker: Docker,
    /// Which one.
    pub reference: String,
}

impl Contained {
    /// A service that is scaled to nothing and to one again must be one that runs once.
    async fn single(&self, service: &str) -> Result<()> {
        match self.docker.replicas(service).await? {
            Some(0 | 1) => Ok(()),
            other => Err(Error::new(Kind::Refused, format!("service {service} is not one that runs once"))
                .because(other.map_or("it has no number of replicas".to_owned(), |n| format!("it has {n} replicas")))
                .hint("Only one server can work with the data. Scale it to 1.")),
        }
    }

    fn gone(&self) -> Error {
        Error::new(Kind::Restore, format!("{} is gone", self.label()))
            .hint("Something removed it meanwhile; make it again.")
    }
}

#[async_trait]
impl Service for Contained {
    fn label(&self) -> String {
        format!("container {}", self.reference)
    }

    async fn is_running(&self) -> Result<bool> {
        match self.docker.meant(&self.reference).await? {
            Meant::Container(container) => Ok(container.is_up()),
            Meant::Service(service) => {
                self.single(&service).await?;
                Ok(!self.docker.tasks_here(&service).await?.is_empty())
            }
        }
    }

    async fn stop(&self) -> Result<()> {
        match self.docker.meant(&self.reference).await? {
            Meant::Container(container) if container.is_up() => self.docker.stop(&container.name).await.map(drop),
            Meant::Container(_) => Ok(()),
            Meant::Service(service) => {
                self.single(&service).await?;
                self.docker.scale(&service, 0).await.map(drop)
            }
        }
    }

    async fn start(&self) -> Result<()> {
        let there = match self.docker.meant(&self.reference).await? {
            Meant::Container(container) => self.docker.start(&container.name).await?,
            Meant::Service(service) => self.docker.scale(&service, 1).await?,
        };
        if there { Ok(()) } else { Err(self.gone()) }
    }
}
