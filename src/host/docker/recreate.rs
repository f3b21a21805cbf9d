//! Networks and containers made anew, as they were asked for: by [`Docker::specifications`] and what is known of a
//! deployment. No file of compose is needed for it, and compose takes them for its own afterwards.

use super::deployment::{Deployment, Network};
use super::find::{COMPOSE_PROJECT, COMPOSE_SERVICE};
use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::models::{
    ContainerCreateBody, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// Label with the services on which one of compose depends: `db:service_started:false,cache:…`.
const DEPENDS: &str = "com.docker.compose.depends_on";
/// Label with the name of a network in its project.
const COMPOSE_NETWORK: &str = "com.docker.compose.network";

/// How a container was asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Specification {
    /// Name.
    pub name: String,
    /// Id of its image.
    pub image: String,
    /// As the daemon's API has it.
    pub config: Value,
    /// As the daemon's API has it.
    pub host_config: Value,
    /// Names of networks.
    pub networks: Vec<String>,
}

/// The containers of what [`Docker::specifications`] gave.
///
/// # Errors
/// [`Kind::Damaged`] when it cannot be understood.
pub fn specifications(text: &[u8]) -> Result<Vec<Specification>> {
    #[derive(Deserialize)]
    struct All {
        containers: Vec<Specification>,
    }
    let all: All = serde_json::from_slice(text).map_err(|e| {
        Error::new(Kind::Damaged, "the specifications of containers in the backup cannot be understood").because(e)
    })?;
    Ok(in_order(all.containers))
}

impl Specification {
    fn label(&self, key: &str) -> Option<&str> {
        self.config.get("Labels")?.get(key)?.as_str()
    }

    fn depends_on(&self) -> BTreeSet<&str> {
        let text = self.label(DEPENDS).unwrap_or_default();
        text.split(',').filter_map(|d| d.split(':').next()).filter(|d| !d.is_empty()).collect()
    }

    /// Whether it ran when the backup was taken.
    pub fn ran(&self, then: &Deployment) -> bool {
        match (self.label(COMPOSE_PROJECT), self.label(COMPOSE_SERVICE)) {
            (Some(project), Some(service)) => {
                let services = then.projects.iter().filter(|p| p.name == project).flat_map(|p| &p.services);
                services.filter(|s| s.name == service).any(|s| s.running > 0)
            }
            _ => then.containers.iter().any(|c| c.name == self.name && c.state == "running"),
        }
    }

    /// Whether a reference of the configuration means it: its name, or `PROJECT/SERVICE`.
    pub fn is(&self, reference: &str) -> bool {
        reference == self.name
            || reference.split_once('/').is_some_and(|(project, service)| {
                self.label(COMPOSE_PROJECT) == Some(project) && self.label(COMPOSE_SERVICE) == Some(service)
            })
    }

    /// What it is reached by in its networks.
    fn endpoint(&self) -> EndpointSettings {
        let aliases = self.label(COMPOSE_SERVICE).map(|service| vec![service.to_owned(), self.name.clone()]);
        EndpointSettings { aliases, ..EndpointSettings::default() }
    }

    /// What the daemon is asked for, and the networks that it joins afterwards.
    fn body(&self, image: &str) -> Result<(ContainerCreateBody, Vec<String>)> {
        let mut body = self.config.clone();
        let unclear =
            || Error::new(Kind::Damaged, format!("how container {} was asked for cannot be understood", self.name));
        let fields = body.as_object_mut().ok_or_else(unclear)?;
        // Docker's own choice was the beginning of its id.
        let own_choice = |h: &str| h.len() == 12 && h.bytes().all(|b| b.is_ascii_hexdigit());
        if fields.get("Hostname").and_then(Value::as_str).is_some_and(own_choice) {
            fields.remove("Hostname");
        }
        fields.insert("Image".to_owned(), json!(image));
        fields.insert("HostConfig".to_owned(), self.host_config.clone());
        let mode = self.host_config.get("NetworkMode").and_then(Value::as_str).unwrap_or("default");
        let own = !["host", "none"].contains(&mode) && !mode.starts_with("container:");
        let mut networks: Vec<String> = if own { self.networks.clone() } else { Vec::new() };
        // The one that it was made with comes first; older daemons take no other one there.
        networks.sort_by_key(|n| n != mode);
        if let Some(first) = networks.first().filter(|n| *n != "bridge") {
            let endpoint = serde_json::to_value(self.endpoint()).map_err(|_| unclear())?;
            fields.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": { first: endpoint } }));
        }
        let body = serde_json::from_value(body).map_err(|e| unclear().because(e))?;
        Ok((body, networks.into_iter().skip(1).filter(|n| n != "bridge").collect()))
    }
}

/// Those that others depend on come first; where that goes in a circle, by name.
fn in_order(mut left: Vec<Specification>) -> Vec<Specification> {
    left.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sorted: Vec<Specification> = Vec::new();
    while !left.is_empty() {
        let waits = |s: &Specification| {
            let project = s.label(COMPOSE_PROJECT);
            s.depends_on().into_iter().any(|on| {
                left.iter().any(|o| {
                    o.name != s.name && o.label(COMPOSE_PROJECT) == project && o.label(COMPOSE_SERVICE) == Some(on)
                })
            })
        };
        let next = left.iter().position(|s| !waits(s)).unwrap_or(0);
        sorted.push(left.remove(next));
    }
    sorted
}

impl Docker {
    /// Makes a network unless there is one of its name; `false` when there is.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub async fn make_network(&self, network: &Network, there: &Deployment) -> Result<bool> {
        if there.networks.iter().any(|n| n.name == network.name) {
            return Ok(false);
        }
        let ranges = network.subnets.iter().map(|s| IpamConfig {
            subnet: Some(s.subnet.clone()),
            gateway: s.gateway.clone().filter(|g| !g.is_empty()),
            ip_range: s.range.clone().filter(|r| !r.is_empty()),
            ..IpamConfig::default()
        });
        let ranges: Vec<IpamConfig> = ranges.collect();
        let labels = network.made_by.as_ref().map(|project| {
            let prefix = format!("{project}_");
            let short = network.name.strip_prefix(&prefix).unwrap_or(&network.name).to_owned();
            HashMap::from([(COMPOSE_PROJECT.to_owned(), project.clone()), (COMPOSE_NETWORK.to_owned(), short)])
        });
        let request = NetworkCreateRequest {
            name: network.name.clone(),
            driver: Some(network.driver.clone()),
            internal: Some(network.internal),
            attachable: Some(network.attachable),
            enable_ipv6: Some(network.ipv6),
            options: Some(network.options.clone().into_iter().collect()),
            ipam: (!ranges.is_empty()).then(|| Ipam { config: Some(ranges), ..Ipam::default() }),
            labels,
            ..NetworkCreateRequest::default()
        };
        let made = self.api.create_network(request).await;
        made.map(|_| true).map_err(failed(format!("network {} cannot be made", network.name)))
    }

    /// Makes a container unless there is one of its name; `false` when there is. It does not run yet.
    ///
    /// # Errors
    /// When its image is not here, or the daemon refuses.
    pub async fn make_container(&self, wanted: &Specification) -> Result<bool> {
        if self.container(&wanted.name).await?.is_some_and(|c| c.name == wanted.name) {
            return Ok(false);
        }
        let asked = wanted.config.get("Image").and_then(Value::as_str).unwrap_or_default();
        let image = match self.image(asked).await? {
            Some(_) => asked,
            None => match self.image(&wanted.image).await? {
                Some(_) => wanted.image.as_str(),
                None => {
                    return Err(Error::new(
                        Kind::Restore,
                        format!("the image of container {} is not here", wanted.name),
                    )
                    .at(asked)
                    .hint("Pull it, or add an `image` source to the plan for the next time."));
                }
            },
        };
        let (body, more) = wanted.body(image)?;
        let options = CreateContainerOptionsBuilder::new().name(checked(&wanted.name)?).build();
        let made = self.api.create_container(Some(options), body).await;
        made.map_err(failed(format!("container {} cannot be made", wanted.name)))?;
        for network in more {
            let request =
                NetworkConnectRequest { container: wanted.name.clone(), endpoint_config: Some(wanted.endpoint()) };
            match self.api.connect_network(checked(&network)?, request).await {
                Err(e) if !is_status(&e, 403) => {
                    return Err(failed(format!("container {} cannot join network {network}", wanted.name))(e));
                }
                _ => {}
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, service: &str, depends: &str) -> Value {
        json!({
            "name": name, "image": "sha256:00", "networks": ["front", "shop_default"],
            "config": {
                "Hostname": "0123456789ab", "Image": "web:1", "Env": ["A=b"],
                "Labels": { COMPOSE_PROJECT: "shop", COMPOSE_SERVICE: service, DEPENDS: depends },
            },
            "host_config": { "NetworkMode": "shop_default", "RestartPolicy": { "Name": "always" } },
        })
    }

    #[test]
    fn what_others_depend_on_comes_first() {
        let all = [
            container("a", "web", "db:service_healthy:true,cache:service_started:false"),
            container("b", "cache", "db:x:y"),
            container("c", "db", ""),
        ];
        let text = serde_json::to_vec(&json!({ "containers": all, "services": [], "volumes": [] })).unwrap();
        let names: Vec<String> = specifications(&text).unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["c", "b", "a"]);
        let circle = [container("a", "web", "db:x:y"), container("b", "db", "web:x:y")];
        let text = serde_json::to_vec(&json!({ "containers": circle })).unwrap();
        assert_eq!(specifications(&text).unwrap().len(), 2);
    }

    #[test]
    fn a_container_is_asked_for_as_it_was() {
        let text = serde_json::to_vec(&json!({ "containers": [container("shop-web-1", "web", "")] })).unwrap();
        let wanted = specifications(&text).unwrap().remove(0);
        assert!(wanted.is("shop-web-1") && wanted.is("shop/web") && !wanted.is("web"));
        let (body, more) = wanted.body("web:1").unwrap();
        assert_eq!((body.hostname, body.image.as_deref()), (None, Some("web:1")));
        assert_eq!(body.env, Some(vec!["A=b".to_owned()]));
        assert_eq!(more, ["front"]);
        let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
        let aliases = endpoints["shop_default"].aliases.clone().unwrap();
        assert_eq!(aliases, ["web", "shop-web-1"]);
        assert_eq!(body.host_config.unwrap().network_mode.as_deref(), Some("shop_default"));
    }
}
