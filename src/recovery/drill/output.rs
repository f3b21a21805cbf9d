//! The output of a `command` source whose programs are not to be had here: read to its end, and its hash compared. Programs that
//! a backup names are never run on another machine than the one that was backed up.

use super::aside::Aside;
use crate::error::Result;
use crate::recovery::resource::{Compared, Note, parse};
use crate::repository::manifest::Artifact;
use crate::repository::reader::Reader;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// See the module.
pub struct OutputAside {
    /// The source.
    pub source: String,
    /// Its output.
    pub artifact: Artifact,
    /// Reads it.
    pub reader: Reader,
}

#[derive(Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    blake3: String,
}

#[async_trait]
impl Aside for OutputAside {
    fn label(&self) -> String {
        format!("output {}", self.source)
    }

    async fn stage(&self, _: &Note) -> Result<Note> {
        let mut pieces = self.reader.stream(&self.artifact, |_| true);
        let (mut hash, mut bytes) = (blake3::Hasher::new(), 0);
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            bytes += piece.len() as u64;
            hash.update(&piece);
        }
        Ok(json!(Seen { bytes, blake3: hash.finalize().to_hex().to_string() }))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let seen: Seen = parse(staged)?;
        let line = |what: &str, expected: String, found: String| Compared {
            what: format!("{}: {what}", self.source),
            good: expected == found,
            expected,
            found,
        };
        let mut lines = vec![line("bytes", self.artifact.bytes.to_string(), seen.bytes.to_string())];
        lines.extend(self.artifact.blake3.as_ref().map(|hash| line("BLAKE3", hash.clone(), seen.blake3.clone())));
        Ok(lines)
    }
}
