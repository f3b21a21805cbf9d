//! Whether every source that a plan names can be read, before the night in which it is.

use super::check::{Check, of_files, within};
use super::{Patient, postgres};
use crate::config::SourceConfig;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::model::{Name, size};
use crate::sources::command::CommandSource;
use crate::sources::host::HostSource;
use crate::sources::image::ImageSource;
use crate::sources::redis::{RedisSource, dump, live};
use crate::sources::volume::VolumeSource;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if needs_docker(p) {
        checks.push(within("docker", docker()).await);
    }
    for (name, source) in &p.config.sources {
        let label = format!("{name} ({})", source.kind());
        match source {
            SourceConfig::Files(files) => {
                let paths = files.paths.clone();
                checks.push(of_files(label, move |label| readable(label, &paths)).await);
            }
            SourceConfig::Postgres(source) => checks.extend(postgres::checks(name, source).await),
            SourceConfig::Volume(source) => checks.push(within(label.clone(), volumes(label, source)).await),
            SourceConfig::Redis(source) => checks.push(within(label.clone(), redis(label, source)).await),
            SourceConfig::Command(source) => checks.push(within(label.clone(), command(label, source)).await),
            SourceConfig::Image(source) => checks.push(within(label.clone(), images(label, name, source)).await),
            // What it looks for by itself may be missing.
            SourceConfig::Host(source) if source.compose.is_empty() && source.extra.is_empty() => {}
            SourceConfig::Host(source) => {
                let source = source.clone();
                checks.push(of_files(label, move |label| named(label, &source)).await);
            }
        }
    }
    checks
}

fn needs_docker(p: &Patient<'_>) -> bool {
    p.config.sources.values().any(|source| match source {
        SourceConfig::Volume(_) | SourceConfig::Image(_) => true,
        SourceConfig::Postgres(source) => source.address.container().is_some(),
        SourceConfig::Redis(source) => source.container.is_some(),
        SourceConfig::Command(source) => source.runner.container.is_some(),
        SourceConfig::Files(_) | SourceConfig::Host(_) => false,
    })
}

async fn docker() -> Result<Check> {
    let docker = Docker::connect().await?;
    let here = docker.is_here().await?;
    let root = docker.root_dir().await?;
    if here {
        return Ok(Check::good("docker", format!("the daemon answers; its data is in {}", root.display())));
    }
    Ok(Check::warning(
        "docker",
        "the daemon answers and is not of this machine: volumes are read through it, which loses extended attributes and more",
        "Run Backstay where the daemon runs.",
    ))
}

/// The paths of a `files` source, which are read as they are: a link is stored as a link.
fn readable(label: &str, paths: &[PathBuf]) -> Result<Check> {
    opened(label, "`paths`", paths.iter().map(|path| (path, std::fs::symlink_metadata(path))))
}

/// What a `host` source names: its backup follows links, and fails without one of them.
fn named(label: &str, source: &HostSource) -> Result<Check> {
    let paths = source.compose.iter().chain(&source.extra);
    opened(label, "`compose` and `extra`", paths.map(|path| (path, std::fs::metadata(path))))
}

fn opened<'a>(
    label: &str,
    keys: &str,
    paths: impl Iterator<Item = (&'a PathBuf, std::io::Result<Metadata>)>,
) -> Result<Check> {
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for (path, meta) in paths {
        looked_at += 1;
        let read = match meta {
            Ok(meta) if meta.is_dir() => std::fs::read_dir(path).map(drop),
            Ok(meta) if meta.is_file() => std::fs::File::open(path).map(drop),
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        };
        wrong.extend(read.err().map(|e| format!("{}: {e}", path.display())));
    }
    if wrong.is_empty() {
        return Ok(Check::good(label, format!("{} can be read", size::plural(looked_at, "path"))));
    }
    let mend = format!("Correct {keys}, bring them back, or run as a user who may read them.");
    Ok(Check::bad(label, wrong.join("; "), mend))
}

async fn volumes(label: String, source: &VolumeSource) -> Result<Check> {
    let docker = Docker::connect().await?;
    let chosen = source.which.choose(&docker).await?;
    let names: Vec<&str> = chosen.iter().map(|c| c.volume.name.as_str()).collect();
    Ok(Check::good(label, names.join(", ")))
}

async fn redis(label: String, source: &RedisSource) -> Result<Check> {
    let mut connection = source.connect().await?;
    let seen = live::live(&mut connection).await?;
    let mut warnings = Vec::new();
    dump::suitable(&seen, source, &mut warnings)?;
    let settings = live::settings(&mut connection).await;
    if let Err(e) = settings {
        warnings.push(e.one_line());
    }
    if warnings.is_empty() {
        return Ok(Check::good(label, format!("{} {} at {}", seen.product, seen.version, source.server.label())));
    }
    let mend = "A backup can be made; docs/configuration.md says what a restore needs besides.";
    Ok(Check::warning(label, warnings.join("; "), mend))
}

async fn command(label: String, source: &CommandSource) -> Result<Check> {
    if let Some(container) = &source.runner.container {
        let found = Docker::connect().await?.find(container).await?;
        return Ok(Check::good(label, format!("container {} runs", found.name)));
    }
    let programs = [Some(&source.dump), source.check.as_ref(), source.back.load.as_ref(), source.back.verify.as_ref()];
    let missing: Vec<&str> = programs
        .into_iter()
        .flatten()
        .filter(|argv| !argv.is_empty() && !source.runner.finds(argv))
        .filter_map(|argv| argv.first().map(String::as_str))
        .collect();
    if missing.is_empty() {
        let program = source.dump.first().map(|p| Path::new(p).display().to_string()).unwrap_or_default();
        return Ok(Check::good(label, format!("{program} is there")));
    }
    Ok(Check::bad(label, format!("not there: {}", missing.join(", ")), "Install it, or correct its path."))
}

async fn images(label: String, name: &Name, source: &ImageSource) -> Result<Check> {
    let docker = Docker::connect().await?;
    for image in &source.images {
        if docker.image(image).await?.is_none() {
            return Err(Error::new(Kind::Source, format!("there is no image {image}"))
                .at(format!("source {name}"))
                .hint("`docker image ls` shows those there are."));
        }
    }
    for container in &source.containers {
        if docker.container(container).await?.is_none() {
            return Err(Error::new(Kind::Source, format!("there is no container {container}"))
                .at(format!("source {name}"))
                .hint("`docker ps -a` shows those there are."));
        }
    }
    Ok(Check::good(label, "everything that it names is there"))
}
