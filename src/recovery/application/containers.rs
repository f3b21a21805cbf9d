//! Containers and services that an entry means: compose projects, labels, stacks, single ones.

use super::look::{Found, refused};
use super::snapshot::{ContainerBefore, ServiceBefore, Who};
use crate::config::target::Target;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::find::{COMPOSE_PROJECT, COMPOSE_SERVICE, Container};
use crate::host::docker::services::{Mode, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a compose project was started.
const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// Its files, with commas between; older versions give them as they were typed.
const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// What a container needs of its project: `db:service_healthy:false,redis:service_started:true`.
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Names that are told of those that there are.
const TOLD: usize = 20;

/// Finds what one entry after the other means.
pub(super) struct Contained<'a> {
    docker: Docker,
    /// What is never stopped, as `container:NAME`, `service:NAME`.
    spare: &'a BTreeSet<String>,
    /// What of that was meant.
    pub spared: BTreeSet<String>,
}

impl<'a> Contained<'a> {
    /// On a daemon.
    pub fn new(docker: Docker, spare: &'a BTreeSet<String>) -> Self {
        Contained { docker, spare, spared: BTreeSet::new() }
    }

    /// What an entry means, in the order of stopping; what may stop side by side together.
    ///
    /// # Errors
    /// [`Kind::Refused`] for one that there is not, or that could not be put back.
    pub async fn of(&mut self, target: &Target) -> Result<Vec<Vec<Found>>> {
        self.meant(target).await.map_err(|e| e.kind(Kind::Refused))
    }

    async fn meant(&mut self, target: &Target) -> Result<Vec<Vec<Found>>> {
        match target {
            Target::Unit(_) => Ok(Vec::new()),
            Target::Compose(path) => {
                let all = self.docker.all_containers().await?;
                let project = project_at(path, &all)?;
                self.containers(of_project(all, &project)).await
            }
            Target::ComposeProject(name) => {
                let all = self.docker.all_containers().await?;
                let known = names(all.iter().filter_map(|c| c.labels.get(COMPOSE_PROJECT)));
                match of_project(all, name) {
                    none if none.is_empty() => {
                        Err(missing(&format!("no container of a compose project {name}"), &known))
                    }
                    found => self.containers(found).await,
                }
            }
            Target::Container(name) => match self.docker.container(name).await? {
                Some(c) if c.name == *name => self.containers(vec![c]).await,
                _ => {
                    let all = self.docker.all_containers().await?;
                    Err(missing(&format!("no container {name}"), &names(all.iter().map(|c| &c.name))))
                }
            },
            Target::Label { key, value } => match self.docker.containers("label", &format!("{key}={value}")).await? {
                none if none.is_empty() => {
                    Err(refused(format!("there is no container with the label {key}={value}"), None)
                        .hint("`docker ps -a --format '{{.Names}} {{.Labels}}'` shows what there is."))
                }
                found => self.containers(found).await,
            },
            Target::Service(name) => match self.docker.service(name).await? {
                Some(service) => self.services(vec![service]).await,
                None => {
                    let all = self.docker.services().await?;
                    Err(missing(&format!("no service {name}"), &names(all.iter().map(|s| &s.name))))
                }
            },
            Target::Stack(name) => {
                let all = self.docker.services().await?;
                let known = names(all.iter().filter_map(Service::stack));
                let found: Vec<Service> = all.into_iter().filter(|s| s.stack() == Some(name)).collect();
                if found.is_empty() {
                    return Err(missing(&format!("no service of a stack {name}"), &known));
                }
                self.services(found).await
            }
        }
    }

    /// Whether it must be left running.
    fn is_spared(&mut self, key: String) -> bool {
        let spared = self.spare.contains(&key);
        if spared {
            self.spared.insert(key);
        }
        spared
    }

    async fn containers(&mut self, found: Vec<Container>) -> Result<Vec<Vec<Found>>> {
        let (tasks, mut own): (Vec<Container>, Vec<Container>) =
            found.into_iter().partition(|c| c.swarm_service().is_some());
        // A task is started again by its swarm: its service is what can be stopped.
        let mut services = Vec::new();
        for name in tasks.iter().filter_map(Container::swarm_service).collect::<BTreeSet<_>>() {
            services.extend(self.docker.service(name).await?);
        }
        own.retain(|c| !self.is_spared(format!("container:{}", c.name)) && c.state != "removing");
        if let Some(c) = own.iter().find(|c| c.auto_remove && c.is_up()) {
            return Err(refused(format!("container {} is removed when it stops (--rm)", c.name), None).hint(format!(
                "Stop it by hand before the restore (`docker stop {}`), or run it without --rm.",
                c.name
            )));
        }
        if let Some(c) = own.iter().find(|c| c.state == "dead") {
            return Err(refused(format!("container {} is dead: Docker could not remove it", c.name), None)
                .hint(format!("`docker rm -f {}`, and make it anew.", c.name)));
        }
        let mut waves = in_waves(own);
        if !services.is_empty() {
            waves.extend(self.services(services).await?);
        }
        Ok(waves)
    }

    async fn services(&mut self, found: Vec<Service>) -> Result<Vec<Vec<Found>>> {
        let mut wave = Vec::new();
        for service in found {
            if self.is_spared(format!("service:{}", service.name)) {
                continue;
            }
            let tasks = self.docker.tasks(&service.name).await?;
            if service.banished {
                return Err(refused(
                    format!("service {} is still kept from all nodes by an earlier restore", service.name),
                    None,
                )
                .hint(format!("If none is open (`backstay status`): {}.", Docker::recall_by_hand(&service.name))));
            }
            let replicas = match service.mode {
                Mode::Replicated(n) => Some(n),
                Mode::Global => None,
                // One that has ended does nothing, and starts only when somebody updates it.
                Mode::Job if tasks.iter().all(|t| t.ended) => continue,
                Mode::Job => {
                    return Err(refused(
                        format!("service {} is a job that runs, and could only begin anew", service.name),
                        None,
                    )
                    .hint("Wait until it has ended, or remove it."));
                }
            };
            let ids = self.docker.tasks_here(&service.name).await?.into_iter().map(|c| c.id).collect();
            let running = tasks.iter().filter(|t| t.state == "running").count();
            let who = Who::Service(ServiceBefore { name: service.name, replicas, running, ids });
            wave.push(Found { who, why: None });
        }
        Ok(if wave.is_empty() { Vec::new() } else { vec![wave] })
    }
}

fn of_project(all: Vec<Container>, project: &str) -> Vec<Container> {
    all.into_iter().filter(|c| c.labels.get(COMPOSE_PROJECT).is_some_and(|p| p == project)).collect()
}

fn names<S: AsRef<str>>(all: impl Iterator<Item = S>) -> BTreeSet<String> {
    all.map(|n| n.as_ref().to_owned()).collect()
}

fn missing(what: &str, known: &BTreeSet<String>) -> Error {
    let mut told: Vec<&str> = known.iter().map(String::as_str).take(TOLD).collect();
    if known.len() > told.len() {
        told.push("…");
    }
    refused(format!("there is {what}"), None).hint(match told.is_empty() {
        true => "There are none at all.".to_owned(),
        false => format!("There are: {}.", told.join(", ")),
    })
}

/// The one project that was started in a directory, or from a file.
fn project_at(path: &Path, all: &[Container]) -> Result<String> {
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_owned());
    let wanted = real(path);
    let mut projects: BTreeMap<&str, PathBuf> = BTreeMap::new();
    let mut here: BTreeSet<&str> = BTreeSet::new();
    for container in all {
        let (Some(project), Some(dir)) =
            (container.labels.get(COMPOSE_PROJECT), container.labels.get(WORKING_DIR).map(PathBuf::from))
        else {
            continue;
        };
        let files = container.labels.get(CONFIG_FILES).map(String::as_str).unwrap_or_default();
        let is_file = files.split(',').filter(|f| !f.is_empty()).any(|f| real(&dir.join(f)) == wanted);
        if is_file || real(&dir) == wanted {
            here.insert(project);
        }
        projects.insert(project, dir);
    }
    let known: BTreeSet<String> = projects.iter().map(|(name, dir)| format!("{name} in {}", dir.display())).collect();
    match here.len() {
        1 => Ok(here.pop_first().unwrap_or_default().to_owned()),
        0 => Err(missing(&format!("no compose project of {}", path.display()), &known)),
        _ => Err(refused(
            format!("several compose projects are of {}", path.display()),
            Some(here.iter().copied().collect::<Vec<_>>().join(", ")),
        )
        .hint("Name the one that is meant: `compose-project:NAME`.")),
    }
}

/// Services that a container needs, each with whether it must be healthy. `None` when it does not say.
fn needs(container: &Container) -> Option<Vec<(&str, bool)>> {
    let needs = container.labels.get(DEPENDS_ON)?.split(',').filter(|need| !need.is_empty());
    let needs = needs.map(|need| need.split_once(':').unwrap_or((need, "")));
    Some(needs.map(|(name, how)| (name, how.starts_with("service_healthy"))).collect())
}

/// Who needs another stops before it. Where the labels do not tell, the younger stops first, one after the other: what
/// was made later most likely uses what was there.
fn in_waves(mut containers: Vec<Container>) -> Vec<Vec<Found>> {
    containers.sort_by(|a, b| b.created.cmp(&a.created).then(a.name.cmp(&b.name)));
    if containers.iter().any(|c| needs(c).is_none()) {
        return containers.iter().map(|c| vec![found(c)]).collect();
    }
    let mut waves = Vec::new();
    let mut left: Vec<&Container> = containers.iter().collect();
    while !left.is_empty() {
        let needed = |c: &Container| {
            left.iter().any(|other| {
                other.name != c.name
                    && other.compose().map(|o| o.0) == c.compose().map(|c| c.0)
                    && needs(other)
                        .unwrap_or_default()
                        .iter()
                        .any(|(s, _)| c.labels.get(COMPOSE_SERVICE).is_some_and(|l| l == s))
            })
        };
        let (mut wave, mut rest): (Vec<&Container>, Vec<&Container>) = left.iter().copied().partition(|c| !needed(c));
        if wave.is_empty() {
            // Compose allows no circle; whoever made one gets some order.
            wave = vec![rest.remove(0)];
        }
        waves.push(wave.iter().map(|c| found(c)).collect());
        left = rest;
    }
    waves
}

fn found(c: &Container) -> Found {
    let after_healthy = needs(c).unwrap_or_default();
    Found {
        who: Who::Container(ContainerBefore {
            name: c.name.clone(),
            state: c.state.clone(),
            restart: c.restart.clone(),
            project: c.labels.get(COMPOSE_PROJECT).cloned(),
            after_healthy: after_healthy.into_iter().filter(|n| n.1).map(|n| n.0.to_owned()).collect(),
            id: c.id.clone(),
        }),
        why: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, created: i128, labels: &[(&str, &str)]) -> Container {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Container { name: name.into(), created, labels, state: "running".into(), ..Container::default() }
    }

    fn of_compose(name: &str, needs: &str) -> Container {
        container(name, 0, &[(COMPOSE_PROJECT, "p"), (COMPOSE_SERVICE, name), (DEPENDS_ON, needs)])
    }

    fn words(waves: &[Vec<Found>]) -> String {
        let wave = |wave: &Vec<Found>| {
            let mut names: Vec<String> = wave.iter().map(|f| f.who.key().replace("container:", "")).collect();
            names.sort();
            names.join(" ")
        };
        waves.iter().map(wave).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn who_needs_another_stops_before_it_and_others_side_by_side() {
        let all = vec![
            of_compose("cache", ""),
            of_compose("web", "api:service_started:true,cache:service_started:false"),
            of_compose("api", "db:service_healthy:true"),
            of_compose("beat", "db:service_healthy:true,cache:service_started:true"),
        ];
        let waves = in_waves(all);
        assert_eq!(words(&waves), "beat web, api cache");
        let Who::Container(api) = &waves[1].iter().find(|f| f.who.key() == "container:api").unwrap().who else {
            panic!()
        };
        assert_eq!(api.after_healthy, ["db"]);
    }

    #[test]
    fn without_labels_the_younger_stops_first_and_a_circle_ends() {
        let all = vec![container("old", 1, &[]), container("young", 3, &[]), container("middle", 2, &[])];
        assert_eq!(words(&in_waves(all)), "young, middle, old");
        let circle = vec![of_compose("a", "b:service_started:true"), of_compose("b", "a:service_started:true")];
        assert_eq!(in_waves(circle).len(), 2);
    }

    #[test]
    fn a_project_is_known_by_its_directory_or_one_of_its_files() {
        let at = |name: &str, dir: &str, files: &str| {
            container(name, 0, &[(COMPOSE_PROJECT, name), (WORKING_DIR, dir), (CONFIG_FILES, files)])
        };
        let all = [
            at("one", "/nowhere/one", "/nowhere/one/compose.yml,/nowhere/one/extra.yml"),
            at("two", "/nowhere/two", "docker-compose.yml"),
            at("prod", "/nowhere/both", "/nowhere/both/prod.yml"),
            at("staging", "/nowhere/both", "/nowhere/both/staging.yml"),
        ];
        let find = |path: &str| project_at(Path::new(path), &all);
        assert_eq!(find("/nowhere/one").unwrap(), "one");
        assert_eq!(find("/nowhere/one/extra.yml").unwrap(), "one");
        assert_eq!(find("/nowhere/two/docker-compose.yml").unwrap(), "two");
        assert_eq!(find("/nowhere/both/staging.yml").unwrap(), "staging");
        let several = find("/nowhere/both").unwrap_err().to_string();
        assert!(several.contains("prod, staging") && several.contains("compose-project:NAME"), "{several}");
        let none = find("/nowhere/three").unwrap_err().to_string();
        assert!(
            none.contains("no compose project of /nowhere/three") && none.contains("one in /nowhere/one"),
            "{none}"
        );
    }
}
