//! Which volumes are meant, and who uses them.

use super::{User, VolumeFacts, archive};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::find::{COMPOSE_PROJECT, Container};
use crate::host::docker::volumes::{Volume, named};

/// Which volumes, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those named.
    Named(Vec<String>),
    /// Those with a label: `KEY` or `KEY=VALUE`.
    Label(String),
    /// Those of a compose project.
    ComposeProject(String),
    /// All but those named.
    AllBut(Vec<String>),
}

/// A volume that is meant.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The volume.
    pub volume: Volume,
    /// Containers that use it, stopped ones too.
    pub users: Vec<Container>,
}

impl Which {
    /// Finds them.
    ///
    /// # Errors
    /// When one that is named does not exist, or when none is left: an empty choice would pass for a backup.
    pub async fn choose(&self, docker: &Docker) -> Result<Vec<Chosen>> {
        let all = docker.volumes().await?;
        let chosen: Vec<&Volume> = match self {
            Which::Named(names) => names.iter().map(|name| named(&all, name)).collect::<Result<_>>()?,
            Which::Label(label) => all.iter().filter(|v| has(v, label)).collect(),
            Which::ComposeProject(project) => all.iter().filter(|v| v.compose_project() == Some(project)).collect(),
            Which::AllBut(names) => {
                // One that is misspelt here would be in the backup unnoticed.
                for name in names {
                    named(&all, name)?;
                }
                all.iter().filter(|v| !names.contains(&v.name)).collect()
            }
        };
        if chosen.is_empty() {
            let what = match self {
                Which::Named(_) => "no volume is named".to_owned(),
                Which::Label(label) => format!("no volume has the label {label}"),
                Which::ComposeProject(project) => {
                    format!("the compose project {project} has no volume (label {COMPOSE_PROJECT})")
                }
                Which::AllBut(_) => "there is no volume besides those left out".to_owned(),
            };
            return Err(Error::new(Kind::Source, what)
                .hint("`docker volume ls` and `docker volume inspect` show names and labels."));
        }
        let mut found = Vec::new();
        for volume in chosen {
            found.push(Chosen { volume: volume.clone(), users: docker.users(volume).await? });
        }
        Ok(found)
    }
}

fn has(volume: &Volume, label: &str) -> bool {
    match label.split_once('=') {
        Some((key, value)) => volume.labels.get(key).is_some_and(|v| v == value),
        None => volume.labels.contains_key(label),
    }
}

impl Chosen {
    /// For the manifest.
    pub fn facts(&self, way: &str, tree: serde_json::Value) -> VolumeFacts {
        let mut tree = match tree {
            serde_json::Value::Object(tree) => tree,
            _ => serde_json::Map::new(),
        };
        // Where it lay says nothing on another machine.
        tree.remove("paths");
        VolumeFacts {
            driver: self.volume.driver.clone(),
            options: self.volume.options.clone(),
            labels: self.volume.labels.clone(),
            compose_project: self.volume.compose_project().map(str::to_owned),
            way: way.to_owned(),
            loses: if way == "archive" { archive::LOSES.iter().map(|l| (*l).to_owned()).collect() } else { Vec::new() },
            used_by: self.users.iter().map(|c| User::of(c, &self.volume)).collect(),
            tree,
        }
    }
}
