//! Images, as a restore brings them back: what is missing by its id is loaded, and named as it was.
//!
//! Nothing live is replaced. A name that means another image by now keeps meaning that one. Names with digests are
//! lost by loading; whoever refers to one needs a registry, or a name instead. An image that a swarm's node pulled by
//! digest had no name at all, and gets the one that its service asked for.

use super::resource::{Class, Compared, Findings, Note, Previous, Resource, parse};
use super::select;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::absent::{self, is_by_digest};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::image::{ImageFacts, artifact_name};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// The images of one source.
pub struct Images {
    /// The source.
    pub source: String,
    /// The source in the backup, and the reader; only staging needs them.
    pub from: Option<(Reader, SourceRecord)>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Staging {
    /// All that the backup has.
    ids: Vec<String>,
    /// Those that are not here, hence ours.
    missing: Vec<String>,
    /// Names that mean nothing here, and what they are to mean.
    names: BTreeMap<String, String>,
}

/// The images of a source, by id.
fn facts_of(record: &SourceRecord) -> Result<BTreeMap<String, ImageFacts>> {
    let images = record.facts.get("images").cloned().unwrap_or_default();
    serde_json::from_value(images).map_err(|e| {
        Error::new(Kind::Damaged, format!("the facts of source {} cannot be read", record.name)).because(e)
    })
}

impl Images {
    fn record(&self) -> Result<(&Reader, &SourceRecord)> {
        let from = self.from.as_ref().map(|(reader, record)| (reader, record));
        from.ok_or_else(|| Error::new(Kind::Internal, "a restore without a backup cannot stage"))
    }

    async fn docker(&self) -> Result<Docker> {
        Docker::connect().await.map_err(|e| e.kind(Kind::Restore))
    }
}

#[async_trait]
impl Resource for Images {
    fn label(&self) -> String {
        format!("images {}", self.source)
    }

    fn class(&self) -> Class {
        Class::Tree
    }

    async fn preflight(&self) -> Result<Findings> {
        let mut findings = Findings::default();
        let docker = self.docker().await?;
        for (id, facts) in facts_of(self.record()?.1)? {
            if docker.image(&id).await?.is_none() {
                let by_digest: Vec<_> = facts.asked_as.iter().filter(|(asked, _)| is_by_digest(asked)).collect();
                if by_digest.is_empty() && !facts.repo_digests.is_empty() {
                    findings.warnings.push(format!(
                        "{} will be loaded without its digests ({}): whoever names it by digest needs a registry, or its tag",
                        facts.tags.first().unwrap_or(&id),
                        facts.repo_digests.join(", ")
                    ));
                }
                for (asked, users) in by_digest {
                    let services = users.iter().filter_map(|u| u.strip_prefix("service ")).map(str::to_owned);
                    findings.warnings.push(absent::by_digest(asked, &services.collect::<Vec<_>>()));
                }
            }
            for tag in &facts.names() {
                if docker.image(tag).await?.is_some_and(|now| now.id != id) {
                    findings.warnings.push(format!(
                        "{tag} means another image by now and is left as it is; the one of the backup is {id}"
                    ));
                }
            }
        }
        Ok(findings)
    }

    async fn plan_staging(&self) -> Result<Note> {
        let docker = self.docker().await?;
        let mut staging = Staging::default();
        for (id, facts) in facts_of(self.record()?.1)? {
            if docker.image(&id).await?.is_none() {
                staging.missing.push(id.clone());
            }
            for tag in facts.names() {
                if docker.image(&tag).await?.is_none() {
                    staging.names.insert(tag, id.clone());
                }
            }
            staging.ids.push(id);
        }
        Ok(json!(staging))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let (reader, record) = self.record()?;
        let (docker, plan) = (self.docker().await?, parse::<Staging>(staging)?);
        for id in &plan.missing {
            let artifact = select::artifact(record, Some(&artifact_name(id)))?;
            let pieces = reader.stream(artifact, |_| true);
            let tar = futures::stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
            docker.load(tar).await.map_err(|e| e.at(format!("image {id}")))?;
        }
        for (name, id) in &plan.names {
            docker.tag(id, name).await.map_err(|e| e.kind(Kind::Restore))?;
        }
        Ok(staging.clone())
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let docker = self.docker().await?;
        let mut compared = Vec::new();
        for id in parse::<Staging>(staged)?.ids {
            let found = docker.image(&id).await?.map_or_else(|| "nothing".to_owned(), |image| image.id);
            compared.push(Compared { what: "image".to_owned(), good: found == id, expected: id, found });
        }
        Ok(compared)
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        let (docker, plan) = (self.docker().await?, parse::<Staging>(staging)?);
        for (name, id) in &plan.names {
            if docker.image(name).await?.is_some_and(|now| now.id == *id) {
                docker.remove_image(name).await?;
            }
        }
        for id in &plan.missing {
            // It is gone with its last name, unless it had none. One that is used by now is left.
            if docker.image(id).await?.is_some_and(|image| image.tags.is_empty()) {
                let _ = docker.remove_image(id).await;
            }
        }
        Ok(())
    }

    async fn plan_swap(&self, _: &Note) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn swap(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    async fn unswap(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    async fn previous(&self, _: &Note) -> Result<Vec<Previous>> {
        Ok(Vec::new())
    }

    async fn drop_previous(&self, _: &Note) -> Result<()> {
        Ok(())
    }
}
