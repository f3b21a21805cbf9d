//! `[foreign.NAME]` as it is written.

use super::raw::RawRepository;
use super::secret::Secret;
use serde::Deserialize;
use std::path::PathBuf;

/// `[foreign.NAME]`: the options of a store, and what lies in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawForeign {
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///path`.
    pub url: String,
    /// The container that the path of the URL is in.
    pub container: Option<String>,
    /// Endpoint of a server that is not Amazon's or Google's.
    pub endpoint: Option<String>,
    /// S3 region.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: Option<bool>,
    /// Bytes per second.
    pub limit_download: Option<String>,
    /// Time limit of one call.
    pub timeout: Option<String>,
    /// S3 key id; else the standard chain.
    pub access_key_id: Option<String>,
    /// S3 secret.
    pub secret_access_key: Option<Secret>,
    /// File of the S3 secret.
    pub secret_access_key_file: Option<PathBuf>,
    /// S3 session token.
    pub session_token: Option<Secret>,
    /// File of the session token.
    pub session_token_file: Option<PathBuf>,
    /// GCS service account key.
    pub service_account_file: Option<PathBuf>,
    /// GCS without credentials.
    pub anonymous: Option<bool>,
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

impl RawForeign {
    /// The options of the store.
    pub fn take_store(&mut self) -> RawRepository {
        RawRepository {
            url: std::mem::take(&mut self.url),
            endpoint: self.endpoint.take(),
            region: self.region.take(),
            path_style: self.path_style,
            storage_class: None,
            limit_upload: None,
            limit_download: self.limit_download.take(),
            timeout: self.timeout.take(),
            access_key_id: self.access_key_id.take(),
            secret_access_key: self.secret_access_key.take(),
            secret_access_key_file: self.secret_access_key_file.take(),
            session_token: self.session_token.take(),
            session_token_file: self.session_token_file.take(),
            service_account_file: self.service_account_file.take(),
            anonymous: self.anonymous,
        }
    }
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
        pbkdf2: Option<bool>,
        /// `-iter`
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
