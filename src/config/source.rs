//! A section of `[sources]` as what the sources take.

use super::SourceConfig;
use super::raw_source::{RawDatabases, RawSource};
use super::secret::either;
use crate::error::{Error, Kind, Result};
use crate::model::{size, time};
use crate::sources::files::FilesSource;
use crate::sources::host::HostSource;
use crate::sources::image::ImageSource;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::{Databases, PostgresSource};
use crate::sources::redis::{self, RedisSource};
use crate::sources::volume::VolumeSource;
use crate::sources::volume::choose::Which;
use std::path::{Path, PathBuf};

/// Unchanged files are read again after this, spread over half of it.
const DEFAULT_REREAD_DAYS: u32 = 30;
/// Tables above this size are estimated.
const DEFAULT_COUNT: u64 = 1 << 30;
/// Below this a table of its own session costs more than it brings.
const DEFAULT_BIG: u64 = 64 << 20;
/// Sessions beside each other on a server that others use too.
const MAX_JOBS: usize = 4;

/// A source of any kind but `command`, which may be bound to one of the others and is read after them. `key` is its
/// section, `dir` the folder of the configuration, `never` what no source may hold.
///
/// # Errors
/// [`Kind::Config`] with what cannot be used.
pub(super) fn source_of(source: RawSource, key: &str, dir: &Path, never: &[PathBuf]) -> Result<SourceConfig> {
    Ok(match source {
        RawSource::Command(_) => return Err(Error::new(Kind::Internal, "a command is read elsewhere")),
        RawSource::Files { paths, exclude, one_file_system, reread, group: _ } => {
            if paths.is_empty() {
                return Err(Error::new(Kind::Config, "`paths` is empty")
                    .hint("Name directories and files by their absolute paths, or remove the source."));
            }
            paths.iter().try_for_each(|path| absolute(path))?;
            crate::sources::files::exclude::Excludes::new(&exclude, &[])?;
            let reread_days = reread_of(reread.as_deref())?;
            not_our_own(&paths, never)?;
            SourceConfig::Files(FilesSource {
                paths: paths.into_iter().map(PathBuf::from).collect(),
                exclude,
                never: never.to_vec(),
                one_file_system,
                reread_days,
            })
        }
        RawSource::Host { compose, extra, exclude, swarm_configs, reread, group: _ } => {
            crate::sources::files::exclude::Excludes::new(&exclude, &[])?;
            compose.iter().chain(&extra).try_for_each(|path| absolute(path))?;
            not_our_own(&compose, never)?;
            not_our_own(&extra, never)?;
            SourceConfig::Host(HostSource {
                compose: compose.into_iter().map(PathBuf::from).collect(),
                extra: extra.into_iter().map(PathBuf::from).collect(),
                exclude,
                swarm_configs,
                never: never.to_vec(),
                reread_days: reread_of(reread.as_deref())?,
            })
        }
        RawSource::Image { images, containers, compose_project, services, group: _ } => {
            let source = ImageSource { images, containers, compose_project, services };
            if source == ImageSource::default() {
                return Err(Error::new(Kind::Config, "no image is named")
                    .hint("Set at least one of `images`, `containers`, `compose_project` and `services`."));
            }
            SourceConfig::Image(source)
        }
        RawSource::Volume { volume, label, compose_project, all_but, while_reading, exclude, reread, group: _ } => {
            let which = [
                volume.map(Which::Named),
                label.map(Which::Label),
                compose_project.map(Which::ComposeProject),
                all_but.map(Which::AllBut),
            ];
            let mut which: Vec<Which> = which.into_iter().flatten().collect();
            let (1, Some(which)) = (which.len(), which.pop()) else {
                return Err(Error::new(Kind::Config, "which volumes are meant is not clear").hint(
                    "Set just one of `volume`, `label`, `compose_project` and `all_but` (an empty list means all).",
                ));
            };
            if which == Which::Named(Vec::new()) {
                return Err(Error::new(Kind::Config, "`volume` is empty"));
            }
            crate::sources::files::exclude::Excludes::new(&exclude, &[])?;
            let reread_days = reread_of(reread.as_deref())?;
            SourceConfig::Volume(VolumeSource { which, while_reading, exclude, never: never.to_vec(), reread_days })
        }
        RawSource::Postgres {
            url,
            container,
            os_user,
            password,
            password_file,
            unit,
            data_dir,
            databases,
            exclude_databases,
            count_rows_up_to,
            big_tables,
            jobs,
            group: _,
        } => {
            if url.is_none() && container.is_none() {
                return Err(Error::new(Kind::Config, "a postgres source needs a url or a container")
                    .at(key)
                    .hint("Write url = \"postgresql://USER@HOST:5432/DATABASE\", or container = \"NAME\"."));
            }
            let address = Address::parse(&url.unwrap_or_else(|| "postgresql:///".into()))?
                .with_password(either(password, password_file.as_deref(), &format!("{key}.password"), dir)?)
                .in_container(container)
                .as_os_user(os_user);
            let databases = match databases {
                None => Databases::Named(vec![address.database().to_owned()]),
                Some(RawDatabases::One(all)) if all == "all" => Databases::All,
                Some(RawDatabases::One(one)) => Databases::Named(vec![one]),
                Some(RawDatabases::Many(names)) => Databases::Named(names),
            };
            let bytes = |text: Option<String>, default| text.map_or(Ok(default), |t| size::parse(&t));
            let cores = crate::model::cores();
            if unit.is_some() && address.container().is_some() {
                return Err(Error::new(Kind::Config, "a server is looked after by a unit or is in a container")
                    .at(key)
                    .hint("Leave out `unit` or `container`."));
            }
            if let Some(relative) = data_dir.as_ref().filter(|d| !d.is_absolute()) {
                return Err(Error::new(Kind::Config, "`data_dir` is not an absolute path").at(relative.display()));
            }
            SourceConfig::Postgres(Box::new(PostgresSource {
                address,
                unit,
                data_dir,
                databases,
                exclude: exclude_databases,
                count_rows_up_to: bytes(count_rows_up_to, DEFAULT_COUNT)?,
                big_tables: bytes(big_tables, DEFAULT_BIG)?,
                jobs: jobs.unwrap_or(cores.min(MAX_JOBS)),
            }))
        }
        RawSource::Redis {
            url,
            password,
            password_file,
            tls_ca,
            tls_cert,
            tls_key,
            unit,
            container,
            data_dir,
            config_file,
            include_aof,
            group: _,
        } => {
            let mut server = redis::address::Server::parse(&url)?;
            if let Some(secret) = either(password, password_file.as_deref(), &format!("{key}.password"), dir)? {
                server.password = Some(secret);
            }
            let resolve = |path: Option<PathBuf>| path.map(|p| super::secret::resolve(&p, dir));
            let given = redis::address::Tls { ca: resolve(tls_ca), cert: resolve(tls_cert), key: resolve(tls_key) };
            if given.cert.is_some() != given.key.is_some() {
                return Err(Error::new(Kind::Config, "`tls_cert` and `tls_key` belong together").hint("Set both."));
            }
            match &mut server.tls {
                Some(tls) => *tls = given,
                None if given != redis::address::Tls::default() => {
                    return Err(Error::new(Kind::Config, "a `tls_…` key is set, and the URL does not ask for TLS")
                        .hint("Write rediss:// in the URL."));
                }
                None => {}
            }
            if unit.is_some() && container.is_some() {
                return Err(Error::new(Kind::Config, "both `unit` and `container` are set")
                    .hint("Keep the one that starts the server."));
            }
            SourceConfig::Redis(RedisSource { server, unit, container, data_dir, config_file, include_aof })
        }
    })
}

fn absolute(path: &str) -> Result<()> {
    match Path::new(path).is_absolute() {
        true => Ok(()),
        false => Err(Error::new(Kind::Config, format!("the path {path} is not absolute"))
            .hint("Write it from / on: the agent runs in no directory of yours.")),
    }
}

fn not_our_own(paths: &[String], never: &[PathBuf]) -> Result<()> {
    for path in paths {
        if let Some(own) = never.iter().find(|n| Path::new(path).starts_with(n)) {
            return Err(Error::new(Kind::Config, format!("the path {path} lies in {}", own.display()))
                .hint("Backstay's own state and repository cannot be a source."));
        }
    }
    Ok(())
}

fn reread_of(text: Option<&str>) -> Result<Option<u32>> {
    Ok(match text {
        None => Some(DEFAULT_REREAD_DAYS),
        Some("never") => None,
        Some(text) => Some((time::parse_duration(text)?.as_secs() / 86_400).clamp(1, 10_000) as u32),
    })
}
