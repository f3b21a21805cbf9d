//! `[sources.NAME]` with `kind = "command"`, from keys to the checked type.

use super::SourceConfig;
use super::raw_source::RawCommand;
use super::secret::{Secret, either};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::sources::command::run::Runner;
use crate::sources::command::{Back, Bound, CommandSource, Target};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a dump may take when nobody says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The same for the programs of a restore, where ending one too early does more harm than waiting.
const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);
/// What the output is when nobody says otherwise.
const DEFAULT_MEDIA: &str = "stream";

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

/// The source of these keys; `sources` are those that it may be bound to.
///
/// # Errors
/// [`Kind::Config`] for what does not fit together.
pub(super) fn command_of(
    raw: RawCommand,
    key: &str,
    dir: &Path,
    sources: &BTreeMap<Name, SourceConfig>,
) -> Result<CommandSource> {
    let programs = [
        ("dump", Some(&raw.dump)),
        ("check", raw.check.as_ref()),
        ("load", raw.load.as_ref()),
        ("prepare", raw.prepare.as_ref()),
        ("verify", raw.verify.as_ref()),
        ("undo", raw.undo.as_ref()),
    ];
    for (name, argv) in programs {
        if argv.is_some_and(|argv| argv.first().is_none_or(String::is_empty)) {
            return Err(wrong(format!("`{name}` names no program"))
                .hint("Write the program and each of its arguments: [\"program\", \"argument\"]."));
        }
    }
    let limit = |text: &Option<String>, default| -> Result<Duration> {
        let Some(text) = text else { return Ok(default) };
        let limit = time::parse_duration(text)?;
        Duration::try_from(limit).ok().filter(|d| !d.is_zero()).ok_or_else(|| wrong(format!("{text:?} is no time")))
    };
    let media = raw.media.clone().unwrap_or_else(|| DEFAULT_MEDIA.to_owned());
    if media.is_empty() || !media.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._/".contains(&b)) {
        return Err(wrong(format!("`media` is {media:?}")).hint("Write one word, like \"sql\" or \"json\"."));
    }
    Ok(CommandSource {
        limit: limit(&raw.timeout, DEFAULT_TIMEOUT)?,
        media,
        may_be_empty: raw.may_be_empty,
        runner: Runner {
            container: raw.container.clone(),
            os_user: raw.os_user.clone(),
            dir: raw.dir.clone(),
            secrets: secrets_of(&raw.env, &raw.secrets, &raw.secrets_file, key, dir)?,
            env: raw.env.clone().into_iter().collect(),
        },
        back: Back {
            limit: limit(&raw.load_timeout, DEFAULT_LOAD_TIMEOUT)?,
            into: into_of(&raw, sources)?,
            load: raw.load,
            verify: raw.verify,
        },
        dump: raw.dump,
        check: raw.check,
    })
}

/// Secrets given directly and by file, one of both for each variable.
pub(super) fn secrets_of(
    env: &BTreeMap<String, String>,
    direct: &BTreeMap<String, Secret>,
    files: &BTreeMap<String, PathBuf>,
    key: &str,
    dir: &Path,
) -> Result<Vec<(String, Secret)>> {
    let mut all: Vec<&String> = direct.keys().chain(files.keys()).collect();
    all.sort();
    all.dedup();
    for name in all.iter().copied().chain(env.keys()) {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(wrong(format!("{name:?} cannot be the name of a variable")));
        }
    }
    let mut secrets = Vec::new();
    for name in all {
        if env.contains_key(name) {
            return Err(wrong(format!("{name} is in `env` and in `secrets`")).hint("Keep one of them."));
        }
        let (direct, file) = (direct.get(name).cloned(), files.get(name).map(PathBuf::as_path));
        if direct.is_some() && file.is_some() {
            return Err(wrong(format!("{name} is in `secrets` and in `secrets_file`")).hint("Keep one of them."));
        }
        if let Some(secret) = either(direct, file, &format!("{key}.secrets"), dir)? {
            secrets.push((name.clone(), secret));
        }
    }
    Ok(secrets)
}

/// The one of the three ways back that is meant.
fn into_of(raw: &RawCommand, sources: &BTreeMap<Name, SourceConfig>) -> Result<Target> {
    let ways = [raw.stage_path.is_some(), raw.database.is_some(), raw.in_place];
    if ways.iter().filter(|w| **w).count() > 1 {
        return Err(wrong("it is not clear what a restore replaces")
            .hint("Set just one of `stage_path`, `database` and `in_place`."));
    }
    let speaks_of = |key: &str, of: &str| Err(wrong(format!("`{key}` is set, and means something with {of} only")));
    if raw.prepare.is_some() && raw.database.is_none() {
        return speaks_of("prepare", "`database`");
    }
    if raw.verify.is_some() && raw.database.is_none() && raw.stage_path.is_none() {
        return speaks_of("verify", "`database` or `stage_path`");
    }
    if raw.undo.is_some() && !raw.in_place {
        return speaks_of("undo", "`in_place`");
    }
    if let Some(path) = &raw.stage_path {
        if !path.is_absolute() || path.file_name().is_none() {
            return Err(wrong("`stage_path` is not the absolute path of a file").at(path.display()));
        }
        if raw.container.is_some() {
            return Err(wrong("`stage_path` is a path of this machine, and programs in a container do not see it")
                .hint("Leave `container` out, and let the programs call docker exec themselves."));
        }
        if raw.load.as_ref().is_some_and(|load| !load.iter().any(|a| a.contains("{staging}"))) {
            return Err(wrong("`load` does not say where to write")
                .hint("Put {staging} into its arguments: it stands for the path beside `stage_path`."));
        }
        return Ok(Target::File(path.clone()));
    }
    if let Some(bound) = &raw.database {
        let name: Name = bound.source.parse()?;
        let Some(SourceConfig::Postgres(server)) = sources.get(&name) else {
            return Err(wrong(format!("`database` names the source {name}, which is no configured postgres source"))
                .hint(format!("Add [sources.{name}] with kind = \"postgres\"; a plan need not name it.")));
        };
        if raw.load.is_none() {
            return Err(wrong("`database` is set and there is no `load`"));
        }
        let bound = Bound { server: (**server).clone(), name: bound.name.clone(), prepare: raw.prepare.clone() };
        return Ok(Target::Database(Box::new(bound)));
    }
    match (&raw.load, raw.in_place) {
        (Some(_), true) => Ok(Target::InPlace { undo: raw.undo.clone() }),
        (None, false) => Ok(Target::Nothing),
        (None, true) => Err(wrong("`in_place` is set and there is no `load`")),
        (Some(_), false) => Err(wrong("it is not said what `load` replaces").hint(
            "Set `stage_path` or `database`, so that it is loaded beside the live one; or in_place = true when it acts on \
             the live one by itself, which cannot be taken back without `undo`.",
        )),
    }
}
