//! What commands do with backups that other scripts made: `list --foreign`, `check --foreign`, `import`, and the
//! beginning of `restore --foreign`.

use super::context::Context;
use super::output::{Align, Table, bad, dim, good, json, notice, say};
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::foreign::check;
use crate::foreign::layout::Layout;
use crate::foreign::sets::{self, Problem, Set};
use crate::foreign::take::Target;
use crate::host::docker::Docker;
use crate::model::{Name, size, time};
use crate::sources::command::Target as Into;
use crate::sources::postgres::Databases;
use crate::storage::readonly::{self, ReadOnly};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// The layouts that are meant: the one named, or all of them.
fn layouts<'a>(config: &'a Config, named: &str) -> Result<Vec<&'a Layout>> {
    let names = || config.foreign.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
    if config.foreign.is_empty() {
        return Err(Error::new(Kind::NotFound, "no foreign backups are configured")
            .at(config.file.display())
            .hint("Describe them in [foreign.NAME]; docs/foreign.md shows how."));
    }
    if named.is_empty() {
        return Ok(config.foreign.values().collect());
    }
    let found = config.foreign.iter().find(|(name, _)| name.as_str() == named).map(|(_, layout)| vec![layout]);
    found.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the foreign backups {named} are not configured"))
            .hint(format!("Configured are: {}.", names()))
    })
}

/// The one layout that is meant.
pub fn layout<'a>(config: &'a Config, named: &str) -> Result<&'a Layout> {
    match &layouts(config, named)?[..] {
        [one] => Ok(one),
        several => {
            let names: Vec<&str> = several.iter().map(|l| l.name.as_str()).collect();
            Err(Error::new(Kind::Usage, "several foreign backups are configured")
                .hint(format!("Name one with --foreign: {}.", names.join(", "))))
        }
    }
}

/// What there is of a layout.
struct Found {
    store: Arc<dyn ReadOnly>,
    sets: Vec<Set>,
    /// What is to be known of the place.
    note: Option<String>,
}

async fn found(layout: &Layout) -> Result<Found> {
    let (store, note) = place(layout).await?;
    let sets = sets::find(layout, &*store).await?;
    Ok(Found { store, sets, note })
}

/// Where the files of a layout are, and what is to be known of that place.
async fn place(layout: &Layout) -> Result<(Arc<dyn ReadOnly>, Option<String>)> {
    let Some(container) = &layout.container else { return Ok((readonly::open(&layout.storage).await?, None)) };
    let path = layout.storage.url.strip_prefix("file://").unwrap_or_default();
    let directory = Docker::connect().await?.directory(container, Path::new(path)).await?;
    let name = &directory.container;
    let lost = format!(
        "{path} is in container {name} alone, on no volume: the backups of {} are gone when it is made anew. Import them, \
         or mount a directory there.",
        layout.name
    );
    let note = (!directory.outlives).then_some(lost);
    let url = format!("{name}:{path}");
    Ok((readonly::enclosed(directory.place, url, &layout.storage), note))
}

#[derive(serde::Serialize)]
struct Listed<'a> {
    foreign: &'a Name,
    set: &'a str,
    time: Option<Timestamp>,
    bytes: u64,
    complete: bool,
    problems: &'a [Problem],
    remarks: Vec<&'a str>,
    parts: Vec<ListedPart<'a>>,
}

#[derive(serde::Serialize)]
struct ListedPart<'a> {
    name: &'a str,
    is: &'static str,
    bytes: u64,
    source: Option<&'a Name>,
}

fn listed<'a>(layout: &'a Layout, set: &'a Set, note: Option<&'a str>) -> Listed<'a> {
    let parts = set.parts.iter().map(|p| ListedPart {
        name: &p.object.key,
        is: layout.files[p.rule].is.name(),
        bytes: p.object.size,
        source: layout.files[p.rule].source.as_ref(),
    });
    Listed {
        foreign: &layout.name,
        set: &set.name,
        time: set.time,
        bytes: set.bytes(),
        complete: set.is_complete(),
        problems: &set.problems,
        remarks: set.remarks.iter().map(String::as_str).chain(note).collect(),
        parts: parts.collect(),
    }
}

/// `backstay list --foreign [NAME]`
pub async fn list(context: &Context, named: &str) -> Result<ExitCode> {
    let config = context.config()?;
    let (mut all, mut whole) = (Vec::new(), true);
    for layout in layouts(&config, named)? {
        let found = found(layout).await?;
        whole &= found.sets.iter().all(Set::is_complete);
        all.push((layout, found));
    }
    let code = ExitCode::from(if whole { 0 } else { Kind::Damaged.exit_code() });
    if context.global.json {
        let mut values: Vec<Listed<'_>> = Vec::new();
        for (layout, found) in &all {
            values.extend(found.sets.iter().map(|set| listed(layout, set, found.note.as_deref())));
        }
        json(&values)?;
        return Ok(code);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&[
        ("foreign", Align::Left),
        ("set", Align::Left),
        ("local time", Align::Left),
        ("age", Align::Right),
        ("files", Align::Right),
        ("size", Align::Right),
        ("state", Align::Left),
    ]);
    for (layout, found) in &all {
        for set in &found.sets {
            let (at, age) = set.time.map_or(("-".into(), "-".into()), |at| (time::local(at), time::ago(at, now)));
            let state = match &set.problems[..] {
                [] if set.remarks.is_empty() => good("complete"),
                [] => good(&format!("complete ({})", set.remarks.join("; "))),
                problems => bad(&problems.iter().map(Problem::words).collect::<Vec<_>>().join("; ")),
            };
            let (files, bytes) = (set.count().to_string(), size::human(set.bytes()));
            table.row(vec![layout.name.to_string(), set.name.clone(), at, age, files, bytes, state]);
        }
    }
    if all.iter().all(|(_, found)| found.sets.is_empty()) {
        say("no foreign backups were found; the patterns of `files` fit no name")?;
        return Ok(code);
    }
    table.print()?;
    tell_notes(all.iter().map(|(_, found)| found))?;
    Ok(code)
}

fn tell_notes<'a>(found: impl Iterator<Item = &'a Found>) -> Result<()> {
    found.filter_map(|f| f.note.as_deref()).try_for_each(|note| say(&format!("{}: {note}", notice("note"))))
}

/// `backstay check --foreign [NAME] [SET]`
pub async fn check(context: &Context, named: &str, which: &str) -> Result<ExitCode> {
    let config = context.config()?;
    let layout = layout(&config, named)?;
    let found = found(layout).await?;
    let set = sets::choose(layout, &found.sets, which, &[])?;
    let monitor = context.monitor(&format!("check {}", set.name));
    let checked = check::check(layout, set, &found.store).await;
    drop(monitor);
    let clean = set.is_complete() && checked.bad.is_empty();
    // What is wrong with the set by its names comes before what is in its files.
    let worst = set.fault().into_iter().chain(checked.bad.iter().map(|b| b.error.kind)).next();
    if context.global.json {
        let bad: Vec<_> = checked
            .bad
            .iter()
            .map(|b| {
                let why = b.error.cause.as_ref().map(ToString::to_string);
                serde_json::json!({ "name": b.name, "kind": b.error.kind.name(), "what": b.error.what, "why": why,
                    "do": b.error.hint, "optional": b.optional })
            })
            .collect();
        json(
            &serde_json::json!({ "set": listed(layout, set, found.note.as_deref()), "clean": clean, "good": checked.good, "bad": bad }),
        )?;
    } else {
        let word = if clean { good("good") } else { bad("not good") };
        say(&format!("{word}: foreign backup {} of {}, {}", set.name, layout.name, when(set)))?;
        for p in &checked.good {
            let sum = if p.checksum { ", checksum compared" } else { "" };
            say(&format!(
                "  {} {}: {} {}",
                good("good"),
                p.name,
                p.holds,
                dim(&format!("({} read{sum})", size::human(p.bytes)))
            ))?;
            p.remarks.iter().try_for_each(|r| say(&format!("       {} {r}", notice("note"))))?;
        }
        for b in &checked.bad {
            say(&format!("  {} {}: {}", bad("bad"), b.name, b.error))?;
        }
        for problem in &set.problems {
            say(&format!("  {} {}", bad("bad"), problem.words()))?;
        }
        tell_notes(std::iter::once(&found))?;
    }
    Ok(ExitCode::from(worst.map_or(0, Kind::exit_code)))
}

fn when(set: &Set) -> String {
    set.time.map_or_else(|| "of no known time".to_owned(), |at| format!("made {} ({})", time::utc(at), time::local(at)))
}

/// What the configured sources are, as far as a set needs to know.
pub fn targets(config: &Config) -> BTreeMap<Name, Target> {
    let target = |source: &SourceConfig| match source {
        SourceConfig::Postgres(postgres) => Target::Postgres {
            server: postgres.clone(),
            default: match &postgres.databases {
                Databases::Named(names) if names.len() == 1 && !names[0].contains(['*', '?']) => names[0].clone(),
                _ => postgres.address.database().to_owned(),
            },
        },
        SourceConfig::Files(_) | SourceConfig::Host(_) => Target::Files,
        SourceConfig::Volume(_) => Target::Volume,
        SourceConfig::Redis(_) => Target::Redis,
        SourceConfig::Image(_) => Target::Image,
        SourceConfig::Command(command) => Target::Command {
            media: command.media.clone(),
            database: match &command.back.into {
                Into::Database(bound) => Some(bound.clone()),
                _ => None,
            },
        },
    };
    config.sources.iter().map(|(name, source)| (name.clone(), target(source))).collect()
}

/// All sets of a layout, oldest first, and its store.
///
/// # Errors
/// As [`sets::find`].
pub async fn all(layout: &Layout) -> Result<(Arc<dyn ReadOnly>, Vec<Set>)> {
    let Found { store, sets, .. } = found(layout).await?;
    Ok((store, sets))
}
