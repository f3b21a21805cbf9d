//! `[foreign.NAME]`, from keys to checked types.

use super::SourceConfig;
use super::explain::{distance, named};
use super::raw_foreign::{RawChecksums, RawEncryption, RawFile, RawForeign, RawMember};
use super::repository::storage_of;
use super::secret::{Secret, either, resolve};
use crate::error::{Error, Kind, Result};
use crate::foreign::layout::{
    Checksums, Compression, Encryption, Field, FileRule, Is, Layout, MemberRule, MemberTarget, OpensslEnc, SumFormat,
};
use crate::foreign::pattern::{Pattern, TIMESTAMP};
use crate::foreign::read::openssl;
use crate::foreign::when::Clock;
use crate::model::Name;
use crate::sources::volume::choose::Which;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Sources = BTreeMap<Name, SourceConfig>;

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

/// The layout of these keys.
///
/// # Errors
/// [`Kind::Config`] for what does not fit together.
pub(super) fn layout_of(name: &str, raw: RawForeign, dir: &Path, sources: &Sources) -> Result<Layout> {
    let key = format!("foreign.{name}");
    let RawForeign(store, raw) = raw;
    for (option, is_set) in
        [("storage_class", store.storage_class.is_some()), ("limit_upload", store.limit_upload.is_some())]
    {
        if is_set {
            return Err(wrong(format!("`{option}` is set, and foreign backups are never written")));
        }
    }
    let storage = storage_of(store, dir).map_err(|e| named(e, &key))?;
    if raw.container.is_some() && !storage.url.starts_with("file://") {
        return Err(wrong(format!("`container` is set, and `url` is {}", storage.url))
            .hint("Write the directory as the container sees it: url = \"file:///app/backups\"."));
    }
    let clock = clock_of(raw.timestamp, raw.timezone)?;
    if raw.files.is_empty() {
        return Err(wrong("`files` is empty").hint(
            "Say what files a backup has: files = [ { pattern = \"db_{timestamp}.dump\", is = \"pg-custom\" } ].",
        ));
    }
    let all = encryption_of(raw.encryption, &key, dir)?;
    let mut files: Vec<FileRule> = Vec::new();
    for (n, file) in raw.files.into_iter().enumerate() {
        let at = format!("{key}.files[{n}]");
        files.push(file_of(file, &at, dir, sources, &all).map_err(|e| named(e, &at))?);
    }
    let words = files[0].pattern.words();
    if let Some(other) = files.iter().find(|f| f.pattern.words() != words) {
        return Err(wrong("the patterns of `files` do not have the same words in them")
            .because(format!("{} and {}", files[0].pattern, other.pattern))
            .hint("Files with the same words are one backup; make layouts of their own for what is made apart."));
    }
    let checksums = raw.checksums.map(|c| checksums_of(c, &files[0].pattern)).transpose()?;
    Ok(Layout { name: name.parse()?, storage, container: raw.container, clock, files, checksums })
}

fn clock_of(format: Option<String>, zone: Option<String>) -> Result<Clock> {
    let format = format.unwrap_or_else(|| "%Y%m%d_%H%M%S".to_owned());
    let zone_name = zone.unwrap_or_else(|| "UTC".to_owned());
    let zone = match zone_name.as_str() {
        "UTC" | "utc" => TimeZone::UTC,
        "local" => TimeZone::system(),
        other => TimeZone::get(other).map_err(|e| {
            wrong(format!("`timezone` is {other:?}"))
                .because(e)
                .hint("Write \"UTC\", \"local\", or a name like \"Europe/Berlin\"; tzdata must be installed.")
        })?,
    };
    let clock = Clock { format, zone, zone_name };
    let now = jiff::Timestamp::now().to_zoned(TimeZone::UTC);
    let written = jiff::fmt::strtime::format(&clock.format, &now).ok();
    if written.is_none_or(|text| clock.read(&text).is_none()) {
        return Err(wrong(format!("`timestamp` is {:?}, which does not name a day", clock.format))
            .hint("Write it as `date` takes it, like \"%Y%m%d_%H%M%S\"."));
    }
    Ok(clock)
}

fn choice<T: Copy>(what: &str, text: &str, all: &[(&str, T)]) -> Result<T> {
    if let Some((_, value)) = all.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let nearest = all.iter().map(|(name, _)| *name).min_by_key(|name| distance(name, text)).unwrap_or_default();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    Err(wrong(format!("`{what}` is {text:?}"))
        .hint(format!("Did you mean `{nearest}`? It is one of {}.", names.join(", "))))
}

fn file_of(raw: RawFile, key: &str, dir: &Path, sources: &Sources, all: &Encryption) -> Result<FileRule> {
    let pattern = Pattern::parse(&raw.pattern)?;
    if !pattern.words().contains(TIMESTAMP) {
        return Err(wrong(format!("the pattern {pattern} has no {{timestamp}} in it")));
    }
    let is = choice("is", &raw.is, Is::ALL)?;
    let compression = match &raw.compression {
        Some(text) => choice("compression", text, Compression::ALL)?,
        None => Compression::Auto,
    };
    let encryption = match raw.encryption {
        Some(own) => encryption_of(Some(own), key, dir)?,
        None => all.clone(),
    };
    if compression == Compression::Zip && !matches!(encryption, Encryption::None) {
        return Err(wrong("a ZIP is read from its end, which encryption around it does not allow")
            .hint("Decrypt it where it lies, or have the script write a tar."));
    }
    if raw.entry.is_some() && compression != Compression::Zip {
        return Err(wrong("`entry` is set, and means something with compression = \"zip\" only"));
    }
    if raw.database.is_some() && is.source_kind() != Some("postgres") {
        return Err(wrong("`database` is set, and means something with dumps of PostgreSQL only"));
    }
    let source = raw.source.as_deref().map(|s| source_of(s, sources)).transpose()?;
    if let Some(name) = &source {
        let kind = sources[name].kind();
        let fits = match (is, is.source_kind()) {
            (_, Some(wanted)) => wanted == kind,
            (Is::Tar, None) => kind == "files" || kind == "volume",
            _ => kind == "files",
        };
        if !fits {
            return Err(wrong(format!(
                "`source` is {name}, of kind {kind}, which does not take back what is {}",
                is.name()
            )));
        }
        if is.is_single() && raw.path.is_none() {
            return Err(wrong(format!("which file of source {name} it is is not said"))
                .hint("Set `path`, like path = \"/var/spool/cron/crontabs/root\"."));
        }
    }
    if raw.path.is_some() && !(is.is_single() && source.is_some()) {
        return Err(wrong("`path` is set, and means something with a crontab or another single file of a source only"));
    }
    if let (Some(path), Some(name)) = (&raw.path, &source) {
        within(path, name, sources)?;
    }
    if !raw.members.is_empty() && is != Is::Tar {
        return Err(wrong("`members` is set, and means something with is = \"tar\" only"));
    }
    let members =
        raw.members.into_iter().map(|m| member_of(m, source.as_ref(), sources)).collect::<Result<Vec<_>>>()?;
    let rooted = members.is_empty() && is == Is::Tar && source.is_some();
    let members = match &source {
        Some(source) if rooted => whole(source, sources)?,
        _ => members,
    };
    Ok(FileRule {
        pattern,
        is,
        compression,
        encryption,
        source,
        database: raw.database,
        entry: raw.entry,
        optional: raw.optional,
        path: raw.path,
        members,
        rooted,
    })
}

fn source_of(text: &str, sources: &Sources) -> Result<Name> {
    let name: Name = text.parse()?;
    if sources.contains_key(&name) {
        return Ok(name);
    }
    let nearest = sources.keys().min_by_key(|k| distance(k.as_str(), text));
    Err(wrong(format!("`source` is {text}, which is not configured")).hint(nearest.map_or_else(
        || format!("Add [sources.{text}]."),
        |n| format!("Did you mean `{n}`? Otherwise add [sources.{text}]."),
    )))
}

/// An archive without `members`: its paths are those of the machine, or those of the only volume.
fn whole(source: &Name, sources: &Sources) -> Result<Vec<MemberRule>> {
    let prefix = |path: &Path| path.to_string_lossy().trim_start_matches('/').to_owned();
    match &sources[source] {
        SourceConfig::Files(files) => Ok(files
            .paths
            .iter()
            .map(|p| MemberRule { prefix: prefix(p), to: MemberTarget::Path(source.clone(), p.clone()) })
            .collect()),
        SourceConfig::Volume(volumes) => match &volumes.which {
            Which::Named(names) if names.len() == 1 => {
                let to = MemberTarget::Volume(source.clone(), names[0].clone());
                Ok(vec![MemberRule { prefix: String::new(), to }])
            }
            _ => Err(wrong(format!(
                "source {source} has several volumes, and which members belong to which is not said"
            ))
            .hint("Write members = [ { prefix = \"folder\", volume = \"NAME\" }, … ].")),
        },
        _ => Err(wrong(format!("source {source} does not take back files"))),
    }
}

fn member_of(raw: RawMember, source: Option<&Name>, sources: &Sources) -> Result<MemberRule> {
    let prefix = raw.prefix.trim_matches('/').to_owned();
    let own = raw.source.as_deref().map(|s| source_of(s, sources)).transpose()?.or_else(|| source.cloned());
    let ways = [raw.ignore, raw.path.is_some(), raw.volume.is_some()];
    if ways.iter().filter(|w| **w).count() != 1 {
        return Err(wrong(format!("where the members below {prefix:?} belong is not clear"))
            .hint("Set just one of `path`, `volume` and `ignore`."));
    }
    if raw.ignore {
        return Ok(MemberRule { prefix, to: MemberTarget::Ignored });
    }
    let Some(own) = own else {
        return Err(
            wrong(format!("of which source the members below {prefix:?} are is not said")).hint("Set `source`.")
        );
    };
    let to = match (&sources[&own], raw.path, raw.volume) {
        (SourceConfig::Files(_), Some(path), None) => {
            within(&path, &own, sources)?;
            MemberTarget::Path(own, path)
        }
        (SourceConfig::Volume(_), None, Some(volume)) => MemberTarget::Volume(own, volume),
        (other, ..) => {
            return Err(wrong(format!("source {own} is of kind {}", other.kind()))
                .hint("`path` goes with a files source, `volume` with a volume source."));
        }
    };
    Ok(MemberRule { prefix, to })
}

/// Refuses a place that a `files` source does not cover: its next backup would not have it.
fn within(path: &Path, source: &Name, sources: &Sources) -> Result<()> {
    match &sources[source] {
        SourceConfig::Files(files) if path.is_absolute() && files.paths.iter().any(|p| path.starts_with(p)) => Ok(()),
        _ => Err(wrong(format!("`path` is {}, which is not in source {source}", path.display()))
            .hint("It must be one of the source's `paths`, or lie below one.")),
    }
}

fn checksums_of(raw: RawChecksums, first: &Pattern) -> Result<Checksums> {
    let manifest = Pattern::parse(&raw.manifest)?;
    if !manifest.words().is_empty() && manifest.words() != first.words() {
        return Err(wrong("`checksums.manifest` has other words in it than `files`")
            .because(format!("{manifest} and {first}"))
            .hint("Use the same words; with none at all it is of all backups."));
    }
    let format = match raw.format.as_str() {
        "sha256sum" => SumFormat::Sha256sum,
        fields => {
            let of = |field: &str| match field {
                "file" => Field::File,
                "size" => Field::Size,
                "sha256" => Field::Sha256,
                _ => Field::Any,
            };
            let fields: Vec<Field> = fields.split('|').map(|f| of(f.trim())).collect();
            if !fields.contains(&Field::File) || !(fields.contains(&Field::Sha256) || fields.contains(&Field::Size)) {
                return Err(wrong(format!("`checksums.format` is {:?}", raw.format))
                    .hint("Write \"sha256sum\", or the fields of a line like \"file|size|sha256\"."));
            }
            SumFormat::Fields(fields)
        }
    };
    Ok(Checksums { manifest, format })
}

fn encryption_of(raw: Option<RawEncryption>, key: &str, dir: &Path) -> Result<Encryption> {
    let secret = |direct: Option<Secret>, file: Option<PathBuf>, option: &str| {
        either(direct, file.as_deref(), &format!("{key}.encryption.{option}"), dir)
    };
    Ok(match raw {
        None | Some(RawEncryption::None) => Encryption::None,
        Some(RawEncryption::OpensslEnc { cipher, pbkdf2, iter, digest, password, password_file }) => {
            let cipher = cipher.unwrap_or_else(|| "aes-256-cbc".to_owned());
            let cipher = cipher.trim_start_matches('-').to_owned();
            if openssl::cipher(&cipher).is_none() {
                return Err(wrong(format!("the cipher {cipher:?} is not known")).hint("Mostly it is aes-256-cbc."));
            }
            let digest = digest.unwrap_or_else(|| "sha256".to_owned());
            if !openssl::is_digest(&digest) {
                return Err(wrong(format!("the digest {digest:?} is not known")).hint("Mostly it is sha256 or md5."));
            }
            let password = secret(password, password_file, "password")?
                .filter(|p| !p.expose().is_empty())
                .ok_or_else(|| wrong("`encryption` has no `password` and no `password_file`"))?;
            let iterations = iter.unwrap_or(openssl::DEFAULT_ITERATIONS);
            if iterations == 0 {
                return Err(wrong("`encryption.iter` is 0"));
            }
            // `-iter` turns it on by itself.
            let pbkdf2 = pbkdf2.unwrap_or(iter.is_some());
            Encryption::Openssl(OpensslEnc { cipher, pbkdf2, iterations, digest, password })
        }
        Some(RawEncryption::Gpg { passphrase, passphrase_file, key_file }) => {
            let passphrase = secret(passphrase, passphrase_file, "passphrase")?;
            if passphrase.is_none() && key_file.is_none() {
                return Err(wrong("`encryption` has neither a passphrase nor a `key_file`"));
            }
            Encryption::Gpg { passphrase, key_file: key_file.map(|f| resolve(&f, dir)) }
        }
        Some(RawEncryption::Age { passphrase, passphrase_file, identity_file }) => {
            let passphrase = secret(passphrase, passphrase_file, "passphrase")?;
            if passphrase.is_none() && identity_file.is_none() {
                return Err(wrong("`encryption` has neither a passphrase nor an `identity_file`"));
            }
            Encryption::Age { passphrase, identity_file: identity_file.map(|f| resolve(&f, dir)) }
        }
    })
}
