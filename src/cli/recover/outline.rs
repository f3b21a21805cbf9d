//! What the lost host was and what will be done, before anything is.

use super::{Args, data, docker};
use crate::cli::context::Context;
use crate::cli::host_facts;
use crate::cli::output::{Align, Table, bad, json, notice, say};
use crate::config::recorded;
use crate::error::{Error, Kind, Result};
use crate::host::apt;
use crate::host::inventory::Inventory;
use crate::host::machine::machine;
use crate::model::{BackupId, Name, size, time};
use crate::recovery::fresh::lost::Lost;
use crate::recovery::fresh::packages::{self, Wanted};
use crate::recovery::fresh::phase::{DATA, TREES, phases};
use crate::recovery::fresh::whose::{Whose, whose};
use crate::recovery::fresh::{look, people, room};
use crate::repository::catalog::Catalog;
use crate::repository::manifest::Manifest;
use crate::repository::reader::Reader;
use crate::telemetry::monitor::Silent;
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Names that are shown of a long list.
const SHOWN: usize = 40;

/// See the module.
#[derive(Debug, Serialize)]
pub struct Outline {
    host: Name,
    repository: String,
    exercise: bool,
    plans: Vec<PlanOf>,
    packages: Packages,
    accounts: usize,
    left_out: Vec<String>,
    not_restored: Vec<String>,
    not_fresh: Vec<String>,
    too_small: Vec<String>,
    phases: Vec<String>,
    notes: Vec<String>,
    /// Sources whose servers are other machines, whatever is done with them.
    #[serde(skip)]
    pub(super) elsewhere: Vec<Name>,
}

#[derive(Debug, Serialize)]
struct PlanOf {
    plan: Name,
    backup: BackupId,
    taken: Timestamp,
    bytes: u64,
    sources: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Packages {
    missing: Vec<String>,
    left_out: Vec<String>,
    /// Without these nothing goes.
    needed: Vec<String>,
}

/// Looks at everything and touches nothing.
pub async fn of(catalog: &Catalog, lost: &Lost, here: &Inventory, args: &Args, state_dir: &Path) -> Outline {
    let will = lost.will();
    let mut not_fresh = look::not_fresh(Path::new("/"), &will, &here.postgres_clusters);
    // What cannot be looked at is not fresh.
    not_fresh.extend(here.why_no_clusters().filter(|_| will.postgres));
    // Without an id of the system one would be written; such a machine was never backed up.
    let known = Path::new("/etc/machine-id").exists();
    if known && lost.newest().is_some_and(|m| machine(state_dir).is_ok_and(|here| here == m.machine)) {
        not_fresh.push("/etc/machine-id: this is the very machine that was backed up".to_owned());
    }
    let then = lost.facts.as_ref().map(|f| &f.inventory);
    let both = then.and_then(|i| i.packages.as_ref()).zip(here.packages.as_ref());
    let (wanted, needed) = match (then, both) {
        (Some(inventory), Some((then, now))) => {
            let kinds: Vec<&str> = lost.records().map(|s| s.kind.as_str()).collect();
            (packages::wanted(then, now, &inventory.postgres_clusters), packages::servers(then, now, &kinds))
        }
        _ => (Wanted::default(), Vec::new()),
    };
    let plan = |m: &Manifest| PlanOf {
        plan: m.plan.clone(),
        backup: m.id.clone(),
        taken: m.started,
        bytes: m.stats.bytes,
        sources: m
            .sources
            .iter()
            .filter(|s| s.kind != "config" && s.is_complete())
            .map(|s| s.name.to_string())
            .collect(),
    };
    let (not_restored, elsewhere) = not_restored(catalog, lost, args).await;
    Outline {
        host: catalog.vault().host().clone(),
        repository: catalog.vault().store().url().to_owned(),
        exercise: args.exercise,
        plans: lost.backups.iter().map(plan).collect(),
        packages: Packages { missing: wanted.missing, left_out: wanted.left_out, needed },
        accounts: then.map_or(0, |i| people::plan(&i.accounts, &here.accounts).make.len()),
        not_restored,
        left_out: lost.facts.iter().flat_map(|f| &f.bound).map(|b| b.path.display().to_string()).collect(),
        not_fresh,
        too_small: room::too_small(&lost.needs(state_dir), room::free),
        phases: phases(&lost.has(args.install, args.exercise)).iter().map(ToString::to_string).collect(),
        notes: notes(lost, here),
        elsewhere,
    }
}

/// Sources that will not be restored, in words, as far as the configuration in the backup tells; and those whose servers
/// are other machines.
async fn not_restored(catalog: &Catalog, lost: &Lost, args: &Args) -> (Vec<String>, Vec<Name>) {
    let read = async {
        let reader = Reader::new(catalog.clone(), Arc::new(Silent))?;
        let text = reader.small(lost.configuration()?).await?;
        let containers = if args.exercise { docker::specifications_of(lost, &reader).await? } else { Vec::new() };
        Ok::<_, Error>((recorded::sources(&String::from_utf8_lossy(&text))?, containers))
    };
    let (sources, containers) = match read.await {
        Ok(both) => both,
        Err(e) => {
            let why = format!("which sources will not be restored is not known: {}", e.one_line());
            return (vec![why], Vec::new());
        }
    };
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for (m, record) in lost.backups.iter().flat_map(|m| m.sources.iter().map(move |s| (m, s))) {
        let kind = record.kind.as_str();
        if !TREES.contains(&kind) && !DATA.contains(&kind) {
            continue;
        }
        if !record.is_complete() {
            found.push(data::not_restored(&record.name, &format!("it failed in backup {}", m.id)));
            continue;
        }
        let Some(source) = sources.get(&record.name) else { continue };
        let whose = match whose(source, lost.hostname()).await {
            Whose::Here => None,
            Whose::Named(host) => {
                found.push(format!(
                    "source {}: its server is {host}, as the lost host was called: that name must lead to this machine",
                    record.name
                ));
                None
            }
            Whose::Elsewhere => {
                others.push(record.name.clone());
                (!args.other_servers).then(data::elsewhere)
            }
        };
        let alone = || docker::not_alone(source, &containers);
        let why = data::why_not(source, kind, args.exercise).or_else(alone).or(whose);
        found.extend(why.map(|why| data::not_restored(&record.name, &why)));
    }
    others.sort();
    others.dedup();
    (found, others)
}

fn notes(lost: &Lost, here: &Inventory) -> Vec<String> {
    let mut notes = lost.notes.clone();
    let Some(facts) = &lost.facts else {
        notes.push(
            "no backup has a source of kind \"host\": packages, units and settings of the lost machine are not known"
                .to_owned(),
        );
        return notes;
    };
    let (then, now) = (&facts.inventory.system, &here.system);
    if (&then.id, &then.version_id) != (&now.id, &now.version_id) {
        notes.push(format!(
            "the host ran {}, this is {}: files of packages stay as this release has them",
            then.pretty_name, now.pretty_name
        ));
    }
    if then.architecture != now.architecture {
        notes.push(format!(
            "the host was {}, this machine is {}: programs and images of the other one do not run here",
            then.architecture, now.architecture
        ));
    }
    notes
}

/// A list, cut where it gets long.
fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

impl Outline {
    /// Prints it.
    pub fn print(&self, context: &Context, lost: &Lost, dry_run: bool) -> Result<()> {
        if context.global.json {
            // When more is to come, the result is its report.
            return if dry_run { json(self) } else { Ok(()) };
        }
        say(&format!("host {} of {}, last backed up {}", self.host, self.repository, lost.last_seen()))?;
        for line in lost.facts.iter().flat_map(host_facts::lines) {
            say(&format!("  {line}"))?;
        }
        let now = Timestamp::now();
        let mut table = Table::new(&[
            ("plan", Align::Left),
            ("backup", Align::Left),
            ("local time", Align::Left),
            ("age", Align::Right),
            ("data", Align::Right),
            ("sources", Align::Left),
        ]);
        for plan in &self.plans {
            table.row(vec![
                plan.plan.to_string(),
                plan.backup.to_string(),
                time::local(plan.taken),
                time::ago(plan.taken, now),
                size::human(plan.bytes),
                plan.sources.join(", "),
            ]);
        }
        table.print()?;
        let lists = [
            ("not installed here", &self.packages.missing),
            ("packages of the other machine, left out", &self.packages.left_out),
            ("files of the other machine, left out", &self.left_out),
        ];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            say(&format!("{what} ({}): {}", names.len(), some(names)))?;
        }
        for (n, phase) in self.phases.iter().enumerate() {
            say(&format!("  {:>2}. {phase}", n + 1))?;
        }
        for note in &self.notes {
            say(&notice(note))?;
        }
        self.not_restored.iter().try_for_each(|what| say(&bad(what)))?;
        self.not_fresh.iter().chain(&self.too_small).try_for_each(|what| say(&bad(what)))
    }

    /// Fails for what would go wrong.
    ///
    /// # Errors
    /// [`Kind::Refused`]; nothing was written.
    pub fn refuse(&self, args: &Args) -> Result<()> {
        let refused = |what: &str, why: String| Error::new(Kind::Refused, what).because(why);
        if !self.not_fresh.is_empty() && !args.onto_existing {
            return Err(refused("this machine is not fresh; nothing was written", self.not_fresh.join("\n"))
                .hint("Take a fresh machine. To go on with this one, --onto-existing: what is in the way is kept beside its place."));
        }
        if !self.too_small.is_empty() {
            return Err(refused(
                "this machine has no room for the host; nothing was written",
                self.too_small.join("\n"),
            )
            .hint("Give it a larger disk, or mount one where the data goes, and run the same command again."));
        }
        if args.install {
            return if self.packages.missing.is_empty() { Ok(()) } else { apt::require() };
        }
        if self.packages.needed.is_empty() {
            return Ok(());
        }
        let needed = self.packages.needed.join(", ");
        Err(refused("servers that hold the data are not installed here; nothing was written", needed)
            .hint("Give --install, or install them first."))
    }
}
