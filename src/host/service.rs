//! Stopping and starting what serves data, whoever looks after it.

use super::docker::Docker;
use super::docker::lifecycle::Meant;
use super::systemd;
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::Mutex;

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

/// A service whose stop goes to its end within our own process too when nobody waits for it any more: what is asked of it next
/// waits for that. Otherwise a start would find it still running, do nothing, and leave it stopped.
pub struct Finishing {
    service: Arc<dyn Service>,
    turn: Arc<Mutex<()>>,
}

impl Finishing {
    /// The same service.
    pub fn of(service: Arc<dyn Service>) -> Arc<dyn Service> {
        Arc::new(Finishing { service, turn: Arc::default() })
    }
}

#[async_trait]
impl Service for Finishing {
    fn label(&self) -> String {
        self.service.label()
    }

    async fn is_running(&self) -> Result<bool> {
        let _turn = self.turn.lock().await;
        self.service.is_running().await
    }

    async fn stop(&self) -> Result<()> {
        let turn = self.turn.clone().lock_owned().await;
        let service = self.service.clone();
        let stopped = tokio::spawn(async move {
            let stopped = service.stop().await;
            drop(turn);
            stopped
        });
        stopped.await.map_err(Error::panicked("stopping a server"))?
    }

    async fn start(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.service.start().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Goes on stopping by itself, and is not started while it runs: as a container.
    struct Slow(Arc<AtomicBool>);

    #[async_trait]
    impl Service for Slow {
        fn label(&self) -> String {
            "slow".to_owned()
        }

        async fn is_running(&self) -> Result<bool> {
            Ok(self.0.load(Ordering::SeqCst))
        }

        async fn stop(&self) -> Result<()> {
            let runs = self.0.clone();
            let stopping = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                runs.store(false, Ordering::SeqCst);
            });
            stopping.await.map_err(Error::panicked("stopping"))
        }

        async fn start(&self) -> Result<()> {
            self.0.store(true, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stop_that_nobody_waits_for_ends_before_the_start() {
        let service = Finishing::of(Arc::new(Slow(Arc::new(AtomicBool::new(true)))));
        tokio::select! {
            _ = service.stop() => panic!("it ended by itself"),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        service.start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(service.is_running().await.unwrap());
    }
}
