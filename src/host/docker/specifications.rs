//! How containers, services and configs were asked for, in the daemon's own words.

use super::find::COMPOSE_SERVICE;
use super::stilled::Stilled;
use super::{Docker, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::models;
use bollard::query_parameters::{ListConfigsOptions, ListServicesOptions};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The content of a config of the swarm.
pub struct ConfigContent {
    /// Name.
    pub name: String,
    /// Content.
    pub content: Vec<u8>,
}

impl Docker {
    /// Services, those that stand still for a backup as they were asked for.
    pub(super) async fn service_specs(&self, state_dirs: &[PathBuf]) -> Result<Vec<models::ServiceSpec>> {
        let mut stilled = Stilled::read(state_dirs);
        let listed = self.api.list_services(None::<ListServicesOptions>).await;
        stilled.read_again(state_dirs);
        let listed = listed.map_err(failed("services cannot be listed"))?.into_iter();
        let mut specs: Vec<_> = listed.filter_map(|s| s.spec).map(|spec| stilled.put_back(spec)).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    }

    /// Configs of the swarm.
    pub(super) async fn config_specs(&self) -> Result<Vec<models::ConfigSpec>> {
        match self.api.list_configs(None::<ListConfigsOptions>).await {
            Ok(configs) => Ok(configs.into_iter().filter_map(|c| c.spec).collect()),
            // Not a manager, or no swarm at all.
            Err(e) if is_status(&e, 503) => Ok(Vec::new()),
            Err(e) => Err(failed("configs cannot be listed")(e)),
        }
    }

    /// The contents of all configs of the swarm.
    pub async fn config_contents(&self) -> Result<Vec<ConfigContent>> {
        let mut contents = Vec::new();
        for spec in self.config_specs().await? {
            let name = spec.name.unwrap_or_default();
            let content = openssl::base64::decode_block(&spec.data.unwrap_or_default())
                .map_err(|e| Error::new(Kind::Source, format!("config {name} cannot be read")).because(e))?;
            contents.push(ConfigContent { name, content });
        }
        contents.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(contents)
    }

    /// How containers and services were asked for, whole, with the values of their variables: for somebody who has
    /// lost the files that they were deployed from. What changes from day to day is not in it.
    pub async fn specifications(&self, manager: bool, state_dirs: &[PathBuf]) -> Result<serde_json::Value> {
        let mut containers = Vec::new();
        for c in self.all_containers().await?.into_iter().filter(|c| c.swarm_service().is_none()) {
            let inspected = self.api.inspect_container(&c.id, None).await;
            let inspected = match inspected {
                Err(e) if is_status(&e, 404) => continue,
                other => other.map_err(failed(format!("container {} cannot be looked at", c.name)))?,
            };
            let endpoints = inspected.network_settings.and_then(|n| n.networks).unwrap_or_default();
            let endpoints: BTreeMap<String, serde_json::Value> = endpoints
                .into_iter()
                .map(|(name, e)| (name, json!({ "Aliases": e.aliases, "IPAMConfig": e.ipam_config })))
                .collect();
            containers.push(json!({
                "name": c.name, "image": c.image_id, "config": inspected.config, "host_config": inspected.host_config,
                "networks": c.networks, "endpoints": endpoints, "service": c.labels.get(COMPOSE_SERVICE),
            }));
        }
        let services = if manager { self.service_specs(state_dirs).await? } else { Vec::new() };
        let volumes: Vec<_> = self
            .volumes()
            .await?
            .into_iter()
            .map(|v| json!({ "name": v.name, "driver": v.driver, "options": v.options, "labels": v.labels }))
            .collect();
        Ok(json!({ "containers": containers, "services": services, "volumes": volumes }))
    }
}
