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
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// What it was asked for in each of them, as the daemon's API has it; not in older backups.
    pub endpoints: BTreeMap<String, EndpointSettings>,
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
            // What a backup had paused is to run, and so is what was on its way up.
            _ => then
                .containers
                .iter()
                .any(|c| c.name == self.name && ["running", "paused", "restarting"].contains(&c.state.as_str())),
        }
    }

    /// Whether a reference of the configuration means it: its name, or `PROJECT/SERVICE`.
    pub fn is(&self, reference: &str) -> bool {
        reference == self.name
            || reference.split_once('/').is_some_and(|(project, service)| {
                self.label(COMPOSE_PROJECT) == Some(project) && self.label(COMPOSE_SERVICE) == Some(service)
            })
    }

    /// What it is reached by in a network.
    fn endpoint(&self, network: &str) -> EndpointSettings {
        let then = self.endpoints.get(network);
        let own: Vec<String> = then.and_then(|e| e.aliases.clone()).unwrap_or_default();
        let own: Vec<String> = own.into_iter().filter(|alias| !is_own_choice(alias)).collect();
        let of_compose = || self.label(COMPOSE_SERVICE).map(|service| vec![service.to_owned(), self.name.clone()]);
        EndpointSettings {
            aliases: if own.is_empty() { of_compose() } else { Some(own) },
            ipam_config: then.and_then(|e| e.ipam_config.clone()),
            ..EndpointSettings::default()
        }
    }

    /// The networks that it is in, that which it is made with first; none where it has none of its own.
    fn joins(&self) -> Vec<String> {
        let mode = self.host_config.get("NetworkMode").and_then(Value::as_str).unwrap_or("default");
        let own = !["host", "none"].contains(&mode) && !mode.starts_with("container:");
        // What it is called in a list of networks.
        let mode = if mode == "default" { "bridge" } else { mode };
        let mut networks: Vec<String> = if own { self.networks.clone() } else { Vec::new() };
        // Older daemons take no other one there.
        networks.sort_by_key(|n| n != mode);
        networks
    }

    /// What the daemon is asked for, and the networks that it joins afterwards.
    fn body(&self, image: &str) -> Result<(ContainerCreateBody, Vec<String>)> {
        let mut body = self.config.clone();
        let unclear =
            || Error::new(Kind::Damaged, format!("how container {} was asked for cannot be understood", self.name));
        let fields = body.as_object_mut().ok_or_else(unclear)?;
        if fields.get("Hostname").and_then(Value::as_str).is_some_and(is_own_choice) {
            fields.remove("Hostname");
        }
        fields.insert("Image".to_owned(), json!(image));
        fields.insert("HostConfig".to_owned(), self.host_config.clone());
        let networks = self.joins();
        if let Some(first) = networks.first().filter(|n| *n != "bridge") {
            let endpoint = serde_json::to_value(self.endpoint(first)).map_err(|_| unclear())?;
            fields.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": { first: endpoint } }));
        }
        let body = serde_json::from_value(body).map_err(|e| unclear().because(e))?;
        Ok((body, networks.into_iter().skip(1).filter(|n| n != "bridge").collect()))
    }
}

/// Whether Docker chose a name itself: the beginning of the container's id.
fn is_own_choice(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit())
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

    /// Makes a container unless there is one of its name; `false` when there is, which joins the networks that it lacks. It
    /// does not run yet.
    ///
    /// # Errors
    /// When its image is not here, or the daemon refuses.
    pub async fn make_container(&self, wanted: &Specification) -> Result<bool> {
        if let Some(there) = self.container(&wanted.name).await?.filter(|c| c.name == wanted.name) {
            let lacks = wanted.joins().into_iter().filter(|n| n != "bridge" && !there.networks.contains(n)).collect();
            self.join(wanted, lacks).await?;
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
        self.join(wanted, more).await?;
        Ok(true)
    }

    /// Joins networks. That it is in one already, and that it must not be in one, is told in the same way: so it is looked
    /// at once more.
    async fn join(&self, wanted: &Specification, networks: Vec<String>) -> Result<()> {
        let mut refused = Vec::new();
        for network in networks {
            let endpoint_config = Some(wanted.endpoint(&network));
            let request = NetworkConnectRequest { container: wanted.name.clone(), endpoint_config };
            let Err(e) = self.api.connect_network(checked(&network)?, request).await else { continue };
            let perhaps = is_status(&e, 403);
            let error = failed(format!("container {} cannot join network {network}", wanted.name))(e);
            if !perhaps {
                return Err(error);
            }
            refused.push((network, error));
        }
        if refused.is_empty() {
            return Ok(());
        }
        let there = self.container(&wanted.name).await?.map(|c| c.networks).unwrap_or_default();
        refused.into_iter().find(|(network, _)| !there.contains(network)).map_or(Ok(()), |(_, error)| Err(error))
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

    #[test]
    fn a_container_has_its_names_and_addresses_in_each_network() {
        let mut asked = container("shop-web-1", "web", "");
        asked["endpoints"] = json!({
            "front": { "Aliases": ["www", "0123456789ab"], "IPAMConfig": { "IPv4Address": "10.9.0.7" } },
            "shop_default": { "Aliases": null, "IPAMConfig": null },
        });
        let text = serde_json::to_vec(&json!({ "containers": [asked] })).unwrap();
        let mut wanted = specifications(&text).unwrap().remove(0);
        assert_eq!(wanted.joins(), ["shop_default", "front"]);
        let front = wanted.endpoint("front");
        assert_eq!(front.aliases, Some(vec!["www".to_owned()]));
        assert_eq!(front.ipam_config.unwrap().ipv4_address.as_deref(), Some("10.9.0.7"));
        assert_eq!(wanted.endpoint("shop_default").aliases, Some(vec!["web".to_owned(), "shop-web-1".to_owned()]));
        wanted.host_config = json!({ "NetworkMode": "container:other" });
        assert!(wanted.joins().is_empty());
    }

    #[test]
    fn the_default_network_is_not_lost_beside_another() {
        let wanted = Specification {
            name: "web".into(),
            config: json!({ "Image": "web:1" }),
            host_config: json!({ "NetworkMode": "default" }),
            networks: vec!["alpha".into(), "bridge".into()],
            ..Specification::default()
        };
        assert_eq!(wanted.joins(), ["bridge", "alpha"]);
        let (body, more) = wanted.body("web:1").unwrap();
        assert!(body.networking_config.is_none());
        assert_eq!(more, ["alpha"]);
    }

    #[test]
    fn what_was_paused_ran() {
        let single = |state: &str| super::super::deployment::Single {
            name: "db".into(),
            state: state.into(),
            ..super::super::deployment::Single::default()
        };
        let wanted = Specification { name: "db".into(), ..Specification::default() };
        for (state, expected) in [("running", true), ("paused", true), ("restarting", true), ("exited", false)] {
            let then = Deployment { containers: vec![single(state)], ..Deployment::default() };
            assert_eq!(wanted.ran(&then), expected, "{state}");
        }
    }
}
