//! `[foreign.NAME]` as it is written.

use super::explain::distance;
use super::raw::RawRepository;
use super::raw_value::some_loose;
use super::secret::Secret;
use config::Value;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::path::PathBuf;

/// What `[foreign.NAME]` says of what lies in its store.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLayout {
    /// The container that the path of the URL is in.
    pub container: Option<String>,
    /// How the time is written, as `date` takes it.
    pub timestamp: Option<String>,
    /// `UTC`, `local`, or the name of a zone.
    pub timezone: Option<String>,
    /// Files of a backup.
    pub files: Vec<RawFile>,
    /// Checksums beside them.
    pub checksums: Option<RawChecksums>,
    /// The encryption of all files that say nothing else.
    pub encryption: Option<RawEncryption>,
}

/// One of `files`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    /// Its name: `db_{timestamp}.dump`.
    pub pattern: String,
    /// What it is.
    pub is: String,
    /// How it is compressed.
    pub compression: Option<String>,
    /// How it is encrypted.
    pub encryption: Option<RawEncryption>,
    /// The source that it is a backup of.
    pub source: Option<String>,
    /// The database in it.
    pub database: Option<String>,
    /// The file of a `files` source that it is.
    pub path: Option<PathBuf>,
    /// The file in a ZIP that counts.
    pub entry: Option<String>,
    /// A set without it is complete.
    #[serde(default)]
    pub optional: bool,
    /// Where members of an archive go.
    #[serde(default)]
    pub members: Vec<RawMember>,
}

/// One of `members`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMember {
    /// The folder in the archive.
    pub prefix: String,
    /// The source that they belong to; default: that of the file.
    pub source: Option<String>,
    /// The directory of a `files` source that the folder is.
    pub path: Option<PathBuf>,
    /// The volume of a `volume` source that the folder is.
    pub volume: Option<String>,
    /// They are not restored.
    #[serde(default)]
    pub ignore: bool,
}

/// `checksums = { … }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawChecksums {
    /// The file that has them.
    pub manifest: String,
    /// `sha256sum`, or fields with bars between them: `file|size|sha256`.
    pub format: String,
}

/// `encryption = { … }`
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RawEncryption {
    /// `kind = "none"`
    None,
    /// `kind = "openssl-enc"`
    OpensslEnc {
        /// `-aes-256-cbc`
        cipher: Option<String>,
        /// `-pbkdf2`
        #[serde(default, deserialize_with = "some_loose")]
        pbkdf2: Option<bool>,
        /// `-iter`
        #[serde(default, deserialize_with = "some_loose")]
        iter: Option<u32>,
        /// `-md`
        digest: Option<String>,
        /// `-k`
        password: Option<Secret>,
        /// File of the password.
        password_file: Option<PathBuf>,
    },
    /// `kind = "gpg"`
    Gpg {
        /// Passphrase of the file or of the key.
        passphrase: Option<Secret>,
        /// File of the passphrase.
        passphrase_file: Option<PathBuf>,
        /// The private key, exported.
        key_file: Option<PathBuf>,
    },
    /// `kind = "age"`
    Age {
        /// Passphrase.
        passphrase: Option<Secret>,
        /// File of the passphrase.
        passphrase_file: Option<PathBuf>,
        /// Identity.
        identity_file: Option<PathBuf>,
    },
}

/// `[foreign.NAME]`: the options of a store, as in `[repository]`, and what lies in it.
#[derive(Debug)]
pub struct RawForeign(pub RawRepository, pub RawLayout);

/// The keys of the layout; all others are of the store.
const OF_LAYOUT: &[&str] = &["container", "timestamp", "timezone", "files", "checksums", "encryption"];
/// Letters by which a name may be mistyped and still be of the layout.
const MISTYPED: usize = 2;

impl<'de> Deserialize<'de> for RawForeign {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all: HashMap<String, Value> = HashMap::deserialize(deserializer)?;
        let of_layout = |key: &str| OF_LAYOUT.iter().any(|known| distance(known, key) <= MISTYPED);
        let (layout, store): (HashMap<_, _>, HashMap<_, _>) = all.into_iter().partition(|(key, _)| of_layout(key));
        let store = RawRepository::deserialize(Value::from(store)).map_err(D::Error::custom)?;
        let layout = RawLayout::deserialize(Value::from(layout)).map_err(D::Error::custom)?;
        Ok(RawForeign(store, layout))
    }
}
