//! Images of a backup, without a daemon: each is unpacked, and its configuration and layers are held against the hashes by
//! which the image knows them. The id of an image is the hash of its configuration, which has those of its layers: so what
//! passes is the image that was stored, whole.

use super::aside::Aside;
use super::tree;
use crate::error::{Error, Kind, Result};
use crate::recovery::resource::{Compared, Note, parse};
use crate::recovery::select;
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::image::{ImageFacts, artifact_name};
use async_trait::async_trait;
use openssl::sha::Sha256;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// See the module.
pub struct ImagesAside {
    /// The source.
    pub source: String,
    /// The directory that is made for them.
    pub directory: PathBuf,
    /// The source in the backup.
    pub record: SourceRecord,
    /// Reads it.
    pub reader: Reader,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: String,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Configuration {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// The images of a source, by id.
pub(super) fn facts_of(record: &SourceRecord) -> Result<BTreeMap<String, ImageFacts>> {
    let images = record.facts.get("images").cloned().unwrap_or_default();
    serde_json::from_value(images).map_err(|e| {
        Error::new(Kind::Damaged, format!("the facts of source {} cannot be read", record.name)).because(e)
    })
}

fn odd(what: &str, path: &Path) -> Error {
    Error::new(Kind::Mismatch, format!("an image of the backup is not whole: {what}")).at(path.display())
}

/// A path in an image's archive, which never leads out of it.
fn within(root: &Path, relative: &str) -> Result<PathBuf> {
    let path = Path::new(relative);
    match path.components().all(|c| matches!(c, Component::Normal(_))) {
        true => Ok(root.join(path)),
        false => Err(odd("it names a file outside of it", path)),
    }
}

/// What is not there was not in the backup; anything else speaks of this machine's disk.
fn unread(path: &Path, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::NotFound => odd("a file of it is missing", path),
        _ => Error::io("a part of an image cannot be read", path, e).kind(Kind::Restore),
    }
}

fn sha256(path: &Path) -> Result<String> {
    let failed = |e| unread(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(format!("sha256:{}", crate::model::ids::to_hex(&hash.finish()))),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Holds an unpacked image against its id.
fn look(root: &Path, id: &str) -> Result<Vec<Compared>> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| unread(path, e));
    let file = root.join("manifest.json");
    let manifests: Vec<Manifest> =
        serde_json::from_slice(&read(&file)?).map_err(|e| odd("it cannot be read", &file).because(e))?;
    let [manifest] = &manifests[..] else { return Err(odd("it is not one image", &file)) };
    let config = within(root, &manifest.config)?;
    let described: Configuration =
        serde_json::from_slice(&read(&config)?).map_err(|e| odd("it cannot be read", &config).because(e))?;
    let line = |what: String, expected: &str, found: String| Compared {
        what,
        good: expected == found,
        expected: expected.to_owned(),
        found,
    };
    let mut lines = vec![line("image".to_owned(), id, sha256(&config)?)];
    let layers = &described.rootfs.diff_ids;
    if layers.len() != manifest.layers.len() {
        return Err(odd("it has another number of layers than it says", &file));
    }
    for (n, (expected, layer)) in layers.iter().zip(&manifest.layers).enumerate() {
        lines.push(line(format!("layer {} of image {id}", n + 1), expected, sha256(&within(root, layer)?)?));
    }
    Ok(lines)
}

impl ImagesAside {
    fn at(&self, n: usize) -> PathBuf {
        self.directory.join(n.to_string())
    }
}

#[async_trait]
impl Aside for ImagesAside {
    fn label(&self) -> String {
        format!("images {}", self.source)
    }

    async fn plan_staging(&self) -> Result<Note> {
        Ok(json!({ "directory": self.directory }))
    }

    async fn stage(&self, _: &Note) -> Result<Note> {
        tree::make(&self.directory)?;
        let ids: Vec<String> = facts_of(&self.record)?.into_keys().collect();
        for (n, id) in ids.iter().enumerate() {
            tree::write(&self.reader, select::artifact(&self.record, Some(&artifact_name(id)))?, &self.at(n)).await?;
        }
        Ok(json!(ids))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let mut lines = Vec::new();
        for (n, id) in parse::<Vec<String>>(staged)?.into_iter().enumerate() {
            let root = self.at(n).join("content");
            let looking = tokio::task::spawn_blocking(move || look(&root, &id));
            let looked = looking.await.map_err(Error::panicked("reading"))?;
            lines.extend(looked?);
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_hashes_and_a_changed_layer_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::write(root.join("layer.tar"), b"a layer").unwrap();
        let layer = sha256(&root.join("layer.tar")).unwrap();
        std::fs::write(root.join("c.json"), json!({ "rootfs": { "diff_ids": [layer] } }).to_string()).unwrap();
        let id = sha256(&root.join("c.json")).unwrap();
        let manifest = |layer: &str| json!([{ "Config": "c.json", "Layers": [layer], "RepoTags": null }]).to_string();
        std::fs::write(root.join("manifest.json"), manifest("layer.tar")).unwrap();
        let lines = look(root, &id).unwrap();
        assert!(lines.len() == 2 && lines.iter().all(|l| l.good), "{lines:?}");
        std::fs::write(root.join("layer.tar"), b"another").unwrap();
        assert_eq!(look(root, &id).unwrap().iter().filter(|l| !l.good).count(), 1);
        std::fs::write(root.join("manifest.json"), manifest("../layer.tar")).unwrap();
        assert!(look(root, &id).is_err());
    }
}
