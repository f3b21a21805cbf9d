//! What the configuration says of backups that another script makes.

use super::pattern::Pattern;
use super::when::Clock;
use crate::config::secret::Secret;
use crate::model::Name;
use crate::storage::open::StorageOptions;
use std::path::PathBuf;

/// `[foreign.NAME]`
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its name.
    pub name: Name,
    /// Where the files lie.
    pub storage: StorageOptions,
    /// The container whose directory that is: name, `PROJECT/SERVICE` of compose, or a swarm service.
    pub container: Option<String>,
    /// How the time is written in names.
    pub clock: Clock,
    /// What files there are.
    pub files: Vec<FileRule>,
    /// Where checksums are written.
    pub checksums: Option<Checksums>,
}

/// One kind of file in a set.
#[derive(Clone, Debug)]
pub struct FileRule {
    /// Its name, as it is written in the configuration.
    pub pattern: Pattern,
    /// What it holds.
    pub is: Is,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// The source that it is a backup of; without one it is checked and not restored.
    pub source: Option<Name>,
    /// The database that it holds, or the one that is cut out of a dump of a whole cluster.
    pub database: Option<String>,
    /// Of a ZIP: the file in it that counts.
    pub entry: Option<String>,
    /// A set without it is complete all the same.
    pub optional: bool,
    /// The file that it is on the machine, when it is a single one.
    pub path: Option<PathBuf>,
    /// Where the members of an archive of files belong.
    pub members: Vec<MemberRule>,
    /// They were not said: each of the source's paths is where it is on the machine, and the archive need not have all.
    pub rooted: bool,
}

impl FileRule {
    /// The sources that something of the file goes into.
    pub fn sources(&self) -> impl Iterator<Item = &Name> {
        let targets = self.members.iter().filter_map(|m| match &m.to {
            MemberTarget::Path(source, _) | MemberTarget::Volume(source, _) => Some(source),
            MemberTarget::Ignored => None,
        });
        targets.chain(self.source.iter().filter(|_| self.members.is_empty()))
    }

    /// Whether any of these sources takes something of it; all do when none is named.
    pub fn concerns(&self, only: &[Name]) -> bool {
        only.is_empty() || self.sources().any(|source| only.contains(source))
    }
}

/// Some members of an archive of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRule {
    /// The folder in the archive; empty for all of it.
    pub prefix: String,
    /// Where they go.
    pub to: MemberTarget,
}

/// Where members go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberTarget {
    /// The folder is this directory or file of a `files` source.
    Path(Name, PathBuf),
    /// The folder is the root of this volume of a `volume` source.
    Volume(Name, String),
    /// They are not restored.
    Ignored,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// `pg_dump --format=custom`
    PgCustom,
    /// `pg_dump --format=plain`
    PgPlain,
    /// `pg_dumpall`
    PgDumpall,
    /// Files.
    Tar,
    /// A snapshot of Redis.
    Rdb,
    /// An append-only file of Redis.
    Aof,
    /// JSON of Django's `dumpdata`.
    Fixture,
    /// `docker save`
    Image,
    /// `crontab -l`
    Crontab,
    /// Something else: it is read to its end and no more.
    Other,
}

impl Is {
    /// All of them, as they are written.
    pub const ALL: &'static [(&'static str, Is)] = &[
        ("pg-custom", Is::PgCustom),
        ("pg-plain", Is::PgPlain),
        ("pg-dumpall", Is::PgDumpall),
        ("tar", Is::Tar),
        ("rdb", Is::Rdb),
        ("aof", Is::Aof),
        ("fixture", Is::Fixture),
        ("image", Is::Image),
        ("crontab", Is::Crontab),
        ("other", Is::Other),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|row| row.1 == self).map_or("other", |row| row.0)
    }

    /// Whether it is one file of a machine, by itself.
    pub fn is_single(self) -> bool {
        matches!(self, Is::Crontab | Is::Other)
    }

    /// The kind of source that takes it back.
    pub fn source_kind(self) -> Option<&'static str> {
        match self {
            Is::PgCustom | Is::PgPlain | Is::PgDumpall => Some("postgres"),
            Is::Rdb | Is::Aof => Some("redis"),
            Is::Image => Some("image"),
            Is::Fixture => Some("command"),
            Is::Tar | Is::Crontab | Is::Other => None,
        }
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As its first bytes say.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// gzip, one member or several.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// A ZIP archive.
    Zip,
}

impl Compression {
    /// All of them, as they are written.
    pub const ALL: &'static [(&'static str, Compression)] = &[
        ("auto", Compression::Auto),
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("xz", Compression::Xz),
        ("zip", Compression::Zip),
    ];
}

/// How a file is encrypted.
#[derive(Clone, Debug, Default)]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// `openssl enc`
    Openssl(OpensslEnc),
    /// GnuPG.
    Gpg {
        /// The passphrase, of the file or of the key.
        passphrase: Option<Secret>,
        /// The private key, exported.
        key_file: Option<PathBuf>,
    },
    /// age.
    Age {
        /// The passphrase.
        passphrase: Option<Secret>,
        /// The identity.
        identity_file: Option<PathBuf>,
    },
}

/// The options of `openssl enc`.
#[derive(Clone, Debug)]
pub struct OpensslEnc {
    /// `aes-256-cbc`
    pub cipher: String,
    /// `-pbkdf2`; without it the old way of making a key.
    pub pbkdf2: bool,
    /// `-iter`
    pub iterations: u32,
    /// `-md`
    pub digest: String,
    /// `-k`, `-pass`
    pub password: Secret,
}

/// Where checksums are written.
#[derive(Clone, Debug)]
pub struct Checksums {
    /// The file that has them. Without a time in it, it is of all sets.
    pub manifest: Pattern,
    /// How its lines look.
    pub format: SumFormat,
}

/// How lines with checksums look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SumFormat {
    /// As `sha256sum` writes them.
    Sha256sum,
    /// Fields with bars between them.
    Fields(Vec<Field>),
}

/// One field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Name of the file, seen from where the manifest lies.
    File,
    /// Bytes.
    Size,
    /// SHA-256 in hexadecimal.
    Sha256,
    /// Something else.
    Any,
}
