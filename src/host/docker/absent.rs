//! What a daemon lacks of a deployment that was recorded, in the order in which it has to come: a swarm, networks, volumes,
//! secrets, configs, images, and only then what uses them.

use super::Docker;
use super::deployment::{Deployment, Network};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};

/// How an image that was asked for can be had on a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// As it was asked for.
    Exactly,
    /// By its name alone: a digest that was asked for besides is known to no loaded image.
    ByName,
    /// Not at all.
    Nothing,
}

/// An image's name without its digest: `shop:1.4@sha256:…` is `shop:1.4`.
pub fn without_digest(reference: &str) -> &str {
    reference.split_once('@').map_or(reference, |(name, _)| name)
}

/// The name that a name without a tag means; ids are left as they are.
fn with_tag(reference: &str) -> String {
    let is_id = |id: &str| [12, 64].contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    let last = reference.rsplit('/').next().unwrap_or_default();
    let whole = last.contains([':', '@']) || is_id(reference);
    if whole { reference.to_owned() } else { format!("{reference}:latest") }
}

/// Whether an image is asked for by digest.
pub fn is_by_digest(reference: &str) -> bool {
    reference.contains("@sha256:")
}

impl Deployment {
    /// What must be made by hand or brought back before everything here runs on this daemon; each a sentence with what
    /// to do. Empty when nothing is missing.
    ///
    /// # Errors
    /// When the daemon does not answer as it should.
    pub async fn missing(&self, docker: &Docker) -> Result<Vec<String>> {
        let now = Deployment::read(docker).await?;
        let mut images = BTreeMap::new();
        for (reference, id) in self.images() {
            images.insert(reference.clone(), find_image(docker, &reference, id.as_deref()).await?);
        }
        Ok(self.lacks(&now, &images))
    }

    /// Images that somebody asks for, with their id where it is known.
    fn images(&self) -> BTreeMap<String, Option<String>> {
        let of_projects =
            self.projects.iter().flat_map(|p| &p.services).map(|s| (s.image.clone(), Some(s.image_id.clone())));
        let singly = self.containers.iter().map(|c| (c.image.clone(), Some(c.image_id.clone())));
        let of_swarm = self.services.iter().map(|s| (s.image.clone(), None));
        let all = of_swarm.chain(of_projects).chain(singly).filter(|(image, _)| !image.is_empty());
        all.map(|(image, id)| (with_tag(&image), id)).collect()
    }

    /// What is here and not `now`.
    fn lacks(&self, now: &Deployment, images: &BTreeMap<String, Found>) -> Vec<String> {
        let mut out = Vec::new();
        if let (Some(swarm), None) = (&self.swarm, &now.swarm) {
            let how = if swarm.role == "manager" && swarm.managers <= 1 {
                "`docker swarm init`"
            } else {
                "`docker swarm join`, or `docker swarm init` when the others are gone too"
            };
            out.push(format!("this node is in no swarm, and was a {} of {} nodes: {how}", swarm.role, swarm.nodes));
        }
        for network in &self.networks {
            // The others are made by what they belong to.
            if network.made_by.is_none() && !now.networks.iter().any(|n| n.name == network.name) {
                out.push(format!("network {} is missing: {}", network.name, create(network)));
            }
        }
        for volume in &self.volumes {
            if volume.made_by.is_none() && !now.volumes.iter().any(|v| v.name == volume.name) {
                let with = if volume.driver == "local" && volume.options.is_empty() {
                    String::new()
                } else {
                    let options: Vec<&str> = volume.options.iter().map(String::as_str).collect();
                    format!(" of driver {} with the options {}", volume.driver, options.join(", "))
                };
                out.push(format!(
                    "volume {}{with} is missing: restore it, or make it before what uses it",
                    volume.name
                ));
            }
        }
        let has = |all: &[super::deployment::Kept], name: &str| all.iter().any(|k| k.name == name);
        for secret in self.secrets.iter().filter(|s| !has(&now.secrets, &s.name)) {
            out.push(format!(
                "secret {} is missing, and a swarm gives no content back: `docker secret create {0} FILE`{}",
                secret.name,
                of_stack(secret.made_by.as_deref())
            ));
        }
        for config in self.configs.iter().filter(|c| !has(&now.configs, &c.name)) {
            out.push(format!(
                "config {} is missing: `docker config create {0} FILE`{}",
                config.name,
                of_stack(config.made_by.as_deref())
            ));
        }
        for (reference, found) in images {
            match found {
                Found::Exactly => {}
                Found::Nothing => out.push(format!("image {reference} is missing: restore it, or `docker pull` it")),
                Found::ByName => out.push(by_digest(reference, &self.services_of(reference))),
            }
        }
        for project in &self.projects {
            if !now.projects.iter().any(|p| p.name == project.name) {
                let files: String =
                    project.files.iter().map(|f| format!(" -f {}", word(&f.to_string_lossy()))).collect();
                out.push(format!(
                    "compose project {} has no containers: `docker compose -p {}{files} up -d`",
                    project.name,
                    word(&project.name)
                ));
            }
        }
        let gone: BTreeSet<(Option<&str>, &str)> = self
            .services
            .iter()
            .filter(|s| !now.services.iter().any(|n| n.name == s.name))
            .map(|s| (s.stack.as_deref(), s.name.as_str()))
            .collect();
        for (stack, service) in gone {
            out.push(match stack {
                Some(stack) => {
                    format!("service {service} is missing: `docker stack deploy --resolve-image never -c FILE {stack}`")
                }
                None => format!("service {service} is missing: `docker service create --no-resolve-image …`"),
            });
        }
        for container in &self.containers {
            let there = now.containers.iter().any(|c| c.name == container.name);
            if !there && container.restart != "no" {
                out.push(format!("container {} is missing: it was started with `docker run`", container.name));
            }
        }
        out
    }

    fn services_of(&self, reference: &str) -> Vec<String> {
        self.services.iter().filter(|s| s.image == reference).map(|s| s.name.clone()).collect()
    }
}

/// What to do about an image that is there by its name and is asked for by its digest too.
pub fn by_digest(reference: &str, services: &[String]) -> String {
    let name = without_digest(reference);
    let how = match services {
        [] => format!("name it as {name}"),
        some => {
            let each: Vec<String> =
                some.iter().map(|s| format!("`docker service update --no-resolve-image --image {name} {s}`")).collect();
            format!("deploy with `docker stack deploy --resolve-image never`, or {}", each.join(", "))
        }
    };
    format!("image {reference} can be had by its name only, since loading brings no digest back: {how}")
}

async fn find_image(docker: &Docker, reference: &str, id: Option<&str>) -> Result<Found> {
    if docker.image(reference).await?.is_some() {
        return Ok(Found::Exactly);
    }
    if is_by_digest(reference) && docker.image(without_digest(reference)).await?.is_some() {
        return Ok(Found::ByName);
    }
    // A container goes on with its image after the name has moved on.
    match id {
        Some(id) if !id.is_empty() && docker.image(id).await?.is_some() => Ok(Found::Exactly),
        _ => Ok(Found::Nothing),
    }
}

fn of_stack(made_by: Option<&str>) -> String {
    made_by.map(|stack| format!(", unless a file of the stack {stack} has it")).unwrap_or_default()
}

/// The command that makes a network as it was.
fn create(network: &Network) -> String {
    let mut words = vec!["docker network create".to_owned(), "--driver".to_owned(), word(&network.driver)];
    for (is, flag) in [(network.internal, "--internal"), (network.attachable, "--attachable"), (network.ipv6, "--ipv6")]
    {
        if is {
            words.push(flag.to_owned());
        }
    }
    for subnet in &network.subnets {
        words.extend(["--subnet".to_owned(), word(&subnet.subnet)]);
        for (value, flag) in [(&subnet.gateway, "--gateway"), (&subnet.range, "--ip-range")] {
            words.extend(value.iter().filter(|v| !v.is_empty()).flat_map(|v| [flag.to_owned(), word(v)]));
        }
    }
    for (key, value) in &network.options {
        // The swarm gives these numbers itself.
        if key != "com.docker.network.driver.overlay.vxlanid_list" {
            words.extend(["--opt".to_owned(), word(&format!("{key}={value}"))]);
        }
    }
    words.push(word(&network.name));
    format!("`{}`", words.join(" "))
}

/// A word for a shell.
fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=,@+".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::deployment::*;
    use super::*;

    fn kept(name: &str, made_by: Option<&str>) -> Kept {
        Kept { name: name.to_owned(), made_by: made_by.map(str::to_owned) }
    }

    #[test]
    fn what_is_missing_is_told_in_the_order_in_which_it_has_to_come() {
        let subnet = Subnet { subnet: "10.9.0.0/24".into(), gateway: Some("10.9.0.1".into()), range: None };
        let shared = Network {
            name: "shared".into(),
            driver: "overlay".into(),
            attachable: true,
            subnets: vec![subnet],
            options: BTreeMap::from([("encrypted".to_owned(), String::new()), ("x".to_owned(), "a b".to_owned())]),
            ..Network::default()
        };
        let own = Network { name: "shop_default".into(), made_by: Some("shop".into()), ..Network::default() };
        let digest = "shop:1@sha256:00".to_owned();
        let web = Service {
            name: "shop_web".into(),
            stack: Some("shop".into()),
            image: digest.clone(),
            ..Service::default()
        };
        let then = Deployment {
            swarm: Some(Swarm { role: "manager".into(), nodes: 1, managers: 1, ..Swarm::default() }),
            networks: vec![own, shared.clone()],
            volumes: vec![VolumeShape { name: "documents".into(), driver: "local".into(), ..VolumeShape::default() }],
            secrets: vec![kept("key", None), kept("shop_cert", Some("shop"))],
            configs: vec![kept("site", None)],
            services: vec![web],
            projects: vec![Project {
                name: "edms".into(),
                files: vec!["/opt/e d/compose.yml".into()],
                ..Project::default()
            }],
            ..Deployment::default()
        };
        let images = BTreeMap::from([(digest.clone(), Found::ByName), ("gone:2".to_owned(), Found::Nothing)]);
        let told = then.lacks(&Deployment::default(), &images);
        let begins: Vec<String> =
            told.iter().map(|t| t.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            begins,
            [
                "this node",
                "network shared",
                "volume documents",
                "secret key",
                "secret shop_cert",
                "config site",
                "image gone:2",
                &format!("image {digest}"),
                "compose project",
                "service shop_web"
            ]
        );
        assert!(
            told[1].ends_with(
                "`docker network create --driver overlay --attachable --subnet 10.9.0.0/24 --gateway 10.9.0.1 --opt encrypted= --opt 'x=a b' shared`"
            ),
            "{}",
            told[1]
        );
        assert!(told[7].contains("--no-resolve-image --image shop:1 shop_web"), "{}", told[7]);
        assert!(told[8].contains("-f '/opt/e d/compose.yml'"), "{}", told[8]);
        assert!(then.lacks(&then, &BTreeMap::new()).is_empty());
        // Another swarm, with everything but the secret.
        let now = Deployment { secrets: vec![kept("shop_cert", None)], ..then.clone() };
        assert_eq!(then.lacks(&now, &BTreeMap::from([(digest, Found::Exactly)])).len(), 1);
    }

    #[test]
    fn a_digest_is_taken_off_a_name_and_nothing_else() {
        assert_eq!(without_digest("reg:5000/a/b:1@sha256:ff"), "reg:5000/a/b:1");
        assert_eq!(without_digest("a"), "a");
        assert!(is_by_digest("a@sha256:ff") && !is_by_digest("sha256:ff"));
        for (reference, meant) in [
            ("reg:5000/a", "reg:5000/a:latest"),
            ("a:1", "a:1"),
            ("sha256:ff", "sha256:ff"),
            ("0123456789ab", "0123456789ab"),
        ] {
            assert_eq!(with_tag(reference), meant);
        }
    }
}
