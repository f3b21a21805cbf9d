//! Docker images: what `docker save` wrote, looked at as a daemon would load it, and stored under the ids of its images.

use super::members::path_of;
use super::read::{Openable, unreadable};
use super::take::{Taken, Taking};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::sources::files::exclude::Excludes;
use crate::sources::files::members::Members;
use crate::sources::files::repack::{Repack, repack};
use crate::sources::files::whole::Whole;
use crate::sources::image::{ImageFacts, artifact_name};
use crate::telemetry::monitor::Monitor;
use openssl::sha::sha256;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

/// The list of what an archive holds.
const MANIFEST: &[u8] = b"manifest.json";
/// Files that are looked into (the list, descriptions of images) are no larger.
const SMALL: u64 = 4 << 20;

/// An image of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads an archive to its end: the images that it holds, and the bytes of its files. Every layer that one names is
/// there, and every description is what its name says.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole, or is none of images.
pub fn look(content: &mut dyn Read) -> Result<(Vec<Found>, u64)> {
    let broken = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => cut_short(),
        _ => unreadable(e),
    };
    let mut members = Members::new(Whole::new(content));
    let (mut there, mut small, mut bytes) = (BTreeSet::new(), BTreeMap::new(), 0);
    let mut manifest = None;
    while let Some(member) = members.next_member().map_err(broken)? {
        let path = path_of(&member)?;
        bytes += member.stored;
        if member.stored <= SMALL {
            let mut text = vec![0; member.stored as usize];
            members.read_exact(&mut text).map_err(broken)?;
            if path == MANIFEST {
                manifest = Some(text);
            } else {
                small.insert(path.clone(), sha256(&text));
            }
        }
        there.insert(path);
    }
    if !members.into_inner().ends().map_err(broken)? {
        return Err(cut_short());
    }
    let no_image = |why: String| {
        Error::new(Kind::Damaged, "the archive is none of images")
            .because(why)
            .hint("`docker save NAME` writes such archives; `docker export` writes files, without what makes an image of them.")
    };
    let manifest = manifest.ok_or_else(|| no_image("it has no manifest.json".into()))?;
    let listed: Vec<Listed> = serde_json::from_slice(&manifest).map_err(|e| no_image(format!("manifest.json: {e}")))?;
    let mut found = Vec::new();
    for Listed { config, repo_tags, layers } in listed {
        if let Some(missing) = [&config].into_iter().chain(&layers).find(|file| !there.contains(file.as_bytes())) {
            return Err(Error::new(Kind::Damaged, "an image is not whole").because(format!("{missing} is missing")));
        }
        let digest = small.get(config.as_bytes()).map(|sum| hex(sum));
        // `DIGEST.json`, or `blobs/sha256/DIGEST`.
        let said = config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        if digest.as_deref() != Some(said) {
            return Err(Error::new(Kind::Damaged, "the description of an image is not what its name says")
                .because(format!("{config} has the checksum {}", digest.unwrap_or_default())));
        }
        found.push(Found { id: format!("sha256:{said}"), tags: repo_tags.unwrap_or_default() });
    }
    if found.is_empty() {
        return Err(no_image("manifest.json lists nothing".into()));
    }
    Ok((found, bytes))
}

fn cut_short() -> Error {
    Error::new(Kind::Damaged, "the archive of images is cut short")
        .because("its end is missing")
        .hint("`docker save` did not come to its end, or the file was cut since; take another set.")
}

/// Takes all archives of a source.
pub(super) async fn take(
    taking: &Taking<'_>,
    name: &Name,
    writer: &BackupWriter,
    monitor: Arc<dyn Monitor>,
) -> Result<Taken> {
    let mut images: BTreeMap<String, ImageFacts> = BTreeMap::new();
    let mut artifacts = Vec::new();
    for file in taking.files_of(|r| r.source.as_ref() == Some(name)) {
        let (found, size) = file.with(|content| look(content)).await?;
        for Found { id, tags } in found {
            let facts = images.entry(id.clone()).or_default();
            let is_new = facts.used_by.is_empty();
            // Each image has an artifact of its own; of several in one archive all but the first cost nothing.
            if is_new {
                artifacts.push(store(&file, &id, writer, monitor.clone()).await?);
            }
            facts.size = size;
            facts.used_by.push(file.part.object.key.clone());
            facts.tags.extend(tags.into_iter().filter(|tag| !facts.tags.contains(tag)).collect::<Vec<_>>());
        }
    }
    Ok(Taken { artifacts, facts: serde_json::json!({ "images": images }), warnings: Vec::new() })
}

async fn store(file: &Openable, id: &str, writer: &BackupWriter, monitor: Arc<dyn Monitor>) -> Result<PendingArtifact> {
    let how = Repack {
        what: format!("the archive of image {id}"),
        excludes: Excludes::new(&[], &[])?,
        look: |_, _| Ok(()),
        monitor,
    };
    let (artifact, writer) = (writer.artifact(&artifact_name(id), "tar"), writer.clone());
    file.with(move |content| Ok(repack(content, artifact, &writer, &how)?.0)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_says_which_images_it_holds_and_what_it_lacks() {
        let config = br#"{"architecture":"amd64"}"#;
        let id = hex(&sha256(config));
        for place in [format!("{id}.json"), format!("blobs/sha256/{id}")] {
            let list = format!(r#"[{{"Config":"{place}","RepoTags":["shop:1"],"Layers":["l/layer.tar"]}}]"#);
            let whole = archive(&[(&place, config), ("l/layer.tar", b"layer"), ("manifest.json", list.as_bytes())]);
            let (found, _) = look(&mut &whole[..]).unwrap();
            assert_eq!(found, [Found { id: format!("sha256:{id}"), tags: vec!["shop:1".into()] }]);
            let e = look(&mut &whole[..whole.len() - 1024]).unwrap_err();
            assert!(e.what.contains("cut short"), "{e}");
            let e = look(&mut &archive(&[(&place, config), ("manifest.json", list.as_bytes())])[..]).unwrap_err();
            assert!(e.to_string().contains("l/layer.tar is missing"), "{e}");
            let e =
                look(&mut &archive(&[(&place, b"{}"), ("l/layer.tar", b"l"), ("manifest.json", list.as_bytes())])[..])
                    .unwrap_err();
            assert!(e.what.contains("not what its name says"), "{e}");
        }
        let e = look(&mut &archive(&[("etc/passwd", b"x")])[..]).unwrap_err();
        assert!(e.to_string().contains("docker export"), "{e}");
    }
}
