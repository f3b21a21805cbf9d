//! nginx: what it is configured to do, testing and reloading it, and what its clients see.
//!
//! [`config`] says where it runs. [`Nginx`] finds it there and calls it. What it tells of itself (`nginx -T`) is taken
//! apart by [`files`], [`lexer`] and [`servers`]; [`targets`] says whom to ask, [`probe`] asks, [`edit`] changes server
//! blocks, [`processes`] knows which workers still finish what they had begun.

pub mod config;
pub mod edit;
pub mod files;
pub mod lexer;
pub mod probe;
pub mod processes;
pub mod servers;
pub mod targets;

use super::docker::Docker;
use super::docker::exec::Inside;
use super::docker::find::Container;
use super::docker::lifecycle::Meant;
use super::exec::{Place, Program};
use crate::error::{Error, Kind, Result};
use config::{Settings, Where};
use files::{Dump, Root};
use processes::{Master, Worker};
use servers::Found;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one call of the program may take. It may have to resolve names of upstreams.
const CALL: Duration = Duration::from_secs(60);
/// How long it may take until workers with a new configuration are there.
const TAKE_OVER: Duration = Duration::from_secs(20);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// One running nginx. A service may have several tasks.
#[derive(Clone, Debug)]
struct Instance {
    place: Place,
    /// The first process of its container on this machine.
    init: Option<u32>,
}

/// nginx where the configuration says that it is.
#[derive(Clone, Debug)]
pub struct Nginx {
    /// For messages: `nginx`, `nginx in container shop_nginx_1`.
    pub label: String,
    /// The container whose mounts count; nothing on the host.
    pub container: Option<Container>,
    /// Files that are config objects of the swarm: path in the container, and name.
    pub objects: Vec<(String, String)>,
    command: Vec<String>,
    instances: Vec<Instance>,
}

/// What nginx tells of itself.
#[derive(Clone, Debug)]
pub struct Told {
    /// The configuration on disk.
    pub dump: Dump,
    /// Its server blocks.
    pub found: Found,
    /// The masters that run, one for each instance; nothing where none runs.
    masters: Vec<Option<Master>>,
}

impl Told {
    /// Whether nginx runs.
    pub fn is_running(&self) -> bool {
        self.masters.iter().all(Option::is_some)
    }

    /// The processes that lead the others, by their numbers on this machine.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.masters.iter().flatten().map(|master| master.number())
    }
}

/// How draining ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Workers of an older configuration that still finish requests.
    pub left: usize,
}

/// Whether there is an nginx to call.
pub enum Here {
    /// It can be called.
    Up(Box<Nginx>),
    /// Its container does not run.
    Down(Error),
}

impl Nginx {
    /// Finds it.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it is on another node or another machine, or there is no such container.
    pub async fn find(settings: &Settings) -> Result<Here> {
        let refused = |e: Error| e.kind(Kind::Refused);
        let nginx = |label: String| Nginx {
            label,
            container: None,
            objects: Vec::new(),
            command: settings.command.clone(),
            instances: Vec::new(),
        };
        let (docker, containers, nginx) = match &settings.r#where {
            Where::Host => {
                let instances = vec![Instance { place: Place::Host, init: None }];
                return Ok(Here::Up(Box::new(Nginx { instances, ..nginx("nginx".into()) })));
            }
            Where::Container(name) => {
                let docker = Docker::connect().await.map_err(refused)?;
                let found = match docker.meant(name).await.map_err(refused)? {
                    Meant::Container(container) => vec![*container],
                    Meant::Service(_) => vec![docker.find(name).await.map_err(refused)?],
                };
                (docker, found, nginx(format!("nginx in container {name}")))
            }
            Where::Service(name) => {
                let docker = Docker::connect().await.map_err(refused)?;
                let tasks = docker.placed(name).await.map_err(refused)?;
                if !tasks.elsewhere.is_empty() {
                    return Err(elsewhere(name, &tasks.elsewhere));
                }
                let objects = docker.configs(name).await.map_err(refused)?;
                (docker, tasks.here, Nginx { objects, ..nginx(format!("nginx in service {name}")) })
            }
        };
        if !docker.is_here().await.map_err(refused)? {
            return Err(Error::new(Kind::Refused, format!("{} is on another machine", nginx.label))
                .because(
                    "the Docker daemon is not one of this machine, so the directories of its containers are not either",
                )
                .hint("Run the agent on the machine of the daemon."));
        }
        let up: Vec<Container> = containers.into_iter().filter(|c| c.state == "running").collect();
        let Some(first) = up.first().cloned() else {
            return Ok(Here::Down(not_running(&nginx.label)));
        };
        let mut instances = Vec::new();
        for container in up {
            let init = docker.process(&container.name).await.map_err(refused)?;
            let place = Place::Container(Inside::new(docker.clone(), container.name));
            instances.push(Instance { place, init: Some(init) });
        }
        Ok(Here::Up(Box::new(Nginx { container: Some(first), instances, ..nginx })))
    }

    /// Where paths of its configuration are on this machine.
    pub fn root(&self) -> Root {
        Root { container: self.container.clone(), moved: Vec::new() }
    }

    /// The process in whose network it can be asked.
    pub fn inside(&self) -> Option<u32> {
        self.instances.first().and_then(|i| i.init)
    }

    async fn call(&self, instance: &Instance, args: &[&str]) -> Result<Vec<u8>> {
        let program = self.program(instance, args);
        self.in_time(program.output()).await
    }

    fn program(&self, instance: &Instance, args: &[&str]) -> Program {
        let (path, first) = self.command.split_first().map_or(("nginx", &[][..]), |(p, a)| (p.as_str(), a));
        let args = first.iter().map(String::as_str).chain(args.iter().copied());
        Program::new(path, args).at(instance.place.clone())
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let late = || {
            Error::new(Kind::Restore, format!("{} does not answer", self.label))
                .because(format!("no end within {} seconds", CALL.as_secs()))
        };
        tokio::time::timeout(CALL, work).await.map_err(|_| late())?.map_err(|e| e.kind(Kind::Restore))
    }

    /// Tests the configuration on disk.
    ///
    /// # Errors
    /// [`Kind::Restore`] with nginx's own words.
    pub async fn test(&self) -> Result<()> {
        for instance in &self.instances {
            self.call(instance, &["-t"]).await.map_err(|e| self.refuses(e))?;
        }
        Ok(())
    }

    fn refuses(&self, e: Error) -> Error {
        // Not the program's exit status, but what it says, is the reason.
        let why = e.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        let said: Vec<&str> = why.lines().filter(|l| !l.contains("[warn]")).collect();
        if !why.contains("nginx:") {
            return e;
        }
        Error::new(Kind::Restore, format!("{} refuses its configuration", self.label))
            .because(said.join("\n"))
            .hint("`nginx -t` says the same; mend it first.")
    }

    /// Reads the configuration on disk, testing it, and finds the processes. `ours` is the file whose includes are
    /// counted.
    ///
    /// # Errors
    /// [`Kind::Restore`] when nginx refuses its configuration.
    pub async fn tell(&self, ours: impl FnOnce(&Dump) -> Result<PathBuf>) -> Result<Told> {
        let Some(first) = self.instances.first() else {
            return Err(not_running(&self.label));
        };
        let dump = Dump::parse(&self.call(first, &["-T"]).await.map_err(|e| self.refuses(e))?)?;
        let ours = ours(&dump)?;
        let found = servers::read(&dump, dump.main(), &ours.to_string_lossy())?;
        let pid_file = self.pid_file(first, found.pid.as_deref()).await?;
        let masters = self.instances.iter().map(|i| Master::find(i.init, &pid_file)).collect();
        Ok(Told { dump, found, masters })
    }

    /// The pid file: of the command line, of the configuration, or the one that nginx was built with.
    async fn pid_file(&self, instance: &Instance, configured: Option<&str>) -> Result<PathBuf> {
        let option = |name: &str| {
            let at = self.command.iter().position(|a| a == name)?;
            self.command.get(at + 1).map(String::as_str)
        };
        let global = option("-g").and_then(|text| lexer::parse(text.as_bytes()).ok()).unwrap_or_default();
        let global = global.iter().find(|d| d.name() == "pid").and_then(|d| d.args().first());
        let written = global.map(String::as_str).or(configured);
        if let Some(path) = written.filter(|p| p.starts_with('/')) {
            return Ok(path.into());
        }
        let built = self.in_time(async { self.program(instance, &["-V"]).alone().await?.finish(Kind::Restore).await });
        let built = built.await?.join(" ");
        let built = |name: &str| built.split_whitespace().find_map(|w| w.strip_prefix(name)).map(str::to_owned);
        let prefix =
            option("-p").map(str::to_owned).or_else(|| built("--prefix=")).unwrap_or_else(|| "/usr/local/nginx".into());
        let path =
            written.map(str::to_owned).or_else(|| built("--pid-path=")).unwrap_or_else(|| "logs/nginx.pid".into());
        Ok(Path::new(&prefix).join(path))
    }

    /// Has nginx take up the configuration on disk, and returns when its workers have it. Test it before.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it does not run, or goes on with the old configuration.
    pub async fn reload(&self, told: &Told) -> Result<()> {
        for (instance, master) in self.instances.iter().zip(&told.masters) {
            let Some(master) = *master else { return Err(not_running(&self.label)) };
            let before = master.workers();
            self.signal(instance).await?;
            let started = Instant::now();
            while !took_over(&before, &master.workers()) {
                if started.elapsed() > TAKE_OVER {
                    return Err(Error::new(Kind::Restore, format!("{} did not take up its configuration", self.label))
                        .because(format!("after {} seconds the workers are the same", TAKE_OVER.as_secs()))
                        .hint("Its error log says why."));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn signal(&self, instance: &Instance) -> Result<()> {
        self.call(instance, &["-s", "reload"]).await.map(drop).map_err(|e| self.refuses(e))
    }

    /// Asks it to take up the configuration on disk and does not wait: for one that has just failed to.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be asked.
    pub async fn ask_to_reload(&self) -> Result<()> {
        for instance in &self.instances {
            self.signal(instance).await?;
        }
        Ok(())
    }

    /// Waits until no worker with an older configuration finishes requests any more, or the time is over.
    pub async fn drain(&self, told: &Told, limit: Duration) -> Drained {
        let started = Instant::now();
        loop {
            let leaving = |master: &Master| master.workers().iter().filter(|w| w.leaving).count();
            let left = told.masters.iter().flatten().map(leaving).sum();
            if left == 0 || started.elapsed() > limit {
                return Drained { left };
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether there are new workers, and all that were there before are on their way out.
fn took_over(before: &[Worker], now: &[Worker]) -> bool {
    let old = |w: &Worker| before.iter().any(|b| b.is(w));
    now.iter().any(|w| !old(w) && !w.leaving) && now.iter().all(|w| !old(w) || w.leaving)
}

/// nginx does not run.
pub fn not_running(label: &str) -> Error {
    Error::new(Kind::Refused, format!("{label} does not run"))
        .hint("Start it first. Without nginx there is no maintenance page.")
}

fn elsewhere(service: &str, nodes: &[String]) -> Error {
    Error::new(Kind::Refused, format!("service {service} runs on another node"))
        .at(nodes.join(", "))
        .because("the maintenance page is switched by a file and a reload on the node itself")
        .hint(format!(
            "Pin {service} to this node with a placement constraint, or run the agent on the node of its only task. With nginx on several nodes, take them out of the load balancer instead and leave `[maintenance]` out."
        ))
}
