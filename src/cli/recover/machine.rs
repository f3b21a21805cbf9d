//! The machine itself: accounts, packages, files, keys.

use super::running::Recovery;
use crate::cli::output::notice;
use crate::config::load::{self, DEFAULT_FILE};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::host::inventory::{Inventory, accounts, system::System};
use crate::host::people::{self as host_people, NewUser};
use crate::host::{apt, systemd};
use crate::io::durable;
use crate::model::size;
use crate::recovery::fresh::merge::{Merge, Merged, Which};
use crate::recovery::fresh::people::{self, Make};
use crate::recovery::fresh::phase::Phase;
use crate::recovery::fresh::{before, fetch, packages, place, start, waiting};
use crate::repository::{access, keyring};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folders of apt whose files say where packages of others come from.
const SOURCES: &[&str] = &[
    "/etc/apt/sources.list.d",
    "/etc/apt/keyrings",
    "/etc/apt/trusted.gpg.d",
    "/etc/apt/preferences.d",
    "/etc/apt/auth.conf.d",
    "/usr/share/keyrings",
];
/// Programs that make what files alone do not: the first that is there of each.
const APPLY: &[(&str, &[&str])] = &[
    ("/usr/sbin/locale-gen", &[]),
    ("/usr/sbin/update-ca-certificates", &[]),
    ("/usr/sbin/ldconfig", &[]),
    ("/usr/sbin/sysctl", &["--system", "--quiet"]),
    ("/usr/bin/systemd-tmpfiles", &["--create"]),
];
/// How long one of them may take.
const TO_APPLY: Duration = Duration::from_secs(600);
/// The file that gives the host its name, where its own configuration does not.
const NAMED: &str = "/etc/backstay/conf.d/zz-recovered.toml";

impl Recovery<'_> {
    pub(super) async fn accounts(&self) -> Result<Vec<String>> {
        let here = accounts::read().map_err(|e| e.kind(Kind::Restore))?;
        let plan = people::plan(&self.facts()?.inventory.accounts, &here);
        let mut notes = plan.notes;
        for make in &plan.make {
            let made = match make {
                Make::Group { name, id, system } => host_people::make_group(name, *id, *system).await,
                Make::User { name, id, group, home, shell, system } => {
                    let user = NewUser { name, id: *id, group, home, shell, system: *system };
                    host_people::make_user(&user).await
                }
                Make::Member { user, group } => host_people::join(user, group).await,
            };
            // Somebody who is missing is no reason to leave the application lying.
            notes.extend(made.err().map(|e| e.one_line()));
        }
        Ok(notes)
    }

    pub(super) async fn fetch(&self) -> Result<Vec<String>> {
        let (reader, staged) = (self.reader("fetch")?, self.staged());
        let (mut files, mut bytes, mut unknown) = (0, 0, BTreeSet::new());
        fetch::begin(&staged)?;
        let machine = self.lost.machine().map(|(_, record)| (record, None));
        let shared = self.lost.shared();
        for (record, paths) in machine.into_iter().chain(shared.iter().map(|(r, paths)| (*r, Some(&paths[..])))) {
            let (restored, names) = fetch::fetch(&reader, record, paths, &staged).await?;
            files += restored.files;
            bytes += restored.bytes;
            unknown.extend(names);
        }
        let mut notes = vec![format!("{}, {}", size::plural(files, "file"), size::human(bytes))];
        if !unknown.is_empty() {
            let names: Vec<String> = unknown.into_iter().collect();
            notes.push(format!("nobody here has these names, so what they own keeps its number: {}", names.join(", ")));
        }
        Ok(notes)
    }

    pub(super) async fn packages(&self) -> Result<Vec<String>> {
        let inventory = &self.facts()?.inventory;
        let here = Inventory::take().await;
        let (Some(then), Some(now)) = (&inventory.packages, &here.packages) else { return Ok(Vec::new()) };
        let mut notes = Vec::new();
        if same_release(&inventory.system, &here.system) {
            let added = place::add(&self.staged(), Path::new("/"), SOURCES)?;
            if added > 0 {
                notes.push(format!("{} that say where packages come from", size::plural(added, "file")));
            }
        }
        let wanted = packages::wanted(then, now, &inventory.postgres_clusters);
        if !wanted.left_out.is_empty() {
            notes.push(format!("of the other machine, left out: {}", wanted.left_out.join(", ")));
        }
        let found = match wanted.missing.is_empty() {
            // An earlier try may have been killed while nothing was allowed to start.
            true => apt::allow_starts().map(|()| Vec::new()),
            false => install(wanted.missing, &then.sources, &mut notes).await,
        };
        // Also when one of them could not be configured: the others are enabled by then.
        notes.extend(self.hold_back().await?);
        let found = found?;
        let held: Vec<String> =
            wanted.held.into_iter().filter(|n| now.installed.contains_key(n) || found.contains(n)).collect();
        if !held.is_empty() {
            apt::hold(&held).await?;
            notes.push(format!("held, as they were: {}", held.join(", ")));
        }
        Ok(notes)
    }

    /// Keeps what packages have enabled from starting at a boot before its data is there.
    async fn hold_back(&self) -> Result<Vec<String>> {
        let here = Inventory::take().await.units.unwrap_or_default();
        let early = start::too_early(&here, &self.about.enabled.iter().cloned().collect());
        if early.is_empty() {
            return Ok(Vec::new());
        }
        // First, so that whatever is disabled is known to be.
        let all: BTreeSet<String> = self.waiting().into_iter().chain(early.iter().cloned()).collect();
        let text: String = all.iter().map(|unit| format!("{unit}\n")).collect();
        write_private(&waiting(&self.state_dir), text.as_bytes())?;
        let mut notes = Vec::new();
        for unit in &early {
            notes.extend(systemd::disable(unit).await.err().map(|e| e.one_line()));
        }
        let until = if self.about.exercise {
            "disabled, since this is an exercise"
        } else {
            "disabled until its data is there"
        };
        notes.push(format!("{until}: {}", early.join(", ")));
        Ok(notes)
    }

    /// Units that are disabled until their data is there.
    pub(super) fn waiting(&self) -> Vec<String> {
        let text = std::fs::read_to_string(waiting(&self.state_dir)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Puts files in place.
    pub(super) async fn merge(&self, which: Which) -> Result<Merged> {
        let (staged, before) = (self.staged(), before(&self.state_dir));
        let same = self.lost.newest().is_some_and(|m| m.machine == self.machine);
        let here = Inventory::take().await.system;
        let same_release = match &self.lost.facts {
            Some(facts) => same_release(&facts.inventory.system, &here),
            None => release_of(&staged).is_some_and(|then| Some(then) == release_of(Path::new("/"))),
        };
        let stay = match same_release {
            true => BTreeSet::new(),
            false => apt::configuration_files().await?,
        };
        let mut never: Vec<PathBuf> = vec!["/usr/share/keyrings".into()];
        never.extend(std::env::current_exe());
        let clusters = self.lost.facts.iter().flat_map(|f| &f.inventory.postgres_clusters);
        never.extend(clusters.map(|c| Path::new("/etc/postgresql").join(&c.version).join(&c.name)));
        let work = tokio::task::spawn_blocking(move || {
            let root = Path::new("/");
            Merge { staged: &staged, root, before: &before, same_machine: same, never: &never, stay: &stay }.run(which)
        });
        work.await.map_err(Error::panicked("writing"))?
    }

    pub(super) async fn configure(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if self.about.phases.contains(&Phase::Fetch) {
            let merged = self.merge(Which::Lying).await?;
            // Links and bundles there are made by programs; certificates of one's own lie among them.
            let certificates = place::add(&self.staged(), Path::new("/"), &["/etc/ssl/certs"])?;
            notes.push(format!("{} put in place, {} were so already", merged.put + certificates, merged.same));
            if merged.replaced > 0 {
                let kept = before(&self.state_dir);
                notes.push(format!("{} replaced something, which is kept below {}", merged.replaced, kept.display()));
            }
            let list =
                |paths: Vec<&PathBuf>| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            if !merged.bound.is_empty() {
                notes.push(format!("left out, since this is another machine: {}", list(merged.bound.keys().collect())));
            }
            if !merged.stayed.is_empty() {
                let text = "left as this release has them, look whether yours are needed";
                notes.push(format!("{text}: {}", list(merged.stayed.iter().collect())));
            }
            if !merged.aside.is_empty() {
                notes.push(format!(
                    "put aside, since the host did not have them: {}",
                    list(merged.aside.iter().collect())
                ));
            }
            notes.extend(merged.problems);
            notes.extend(self.passwords().await?);
        }
        if !Path::new(DEFAULT_FILE).exists() {
            let text = self.reader("configuration")?.small(self.lost.configuration()?).await?;
            write_private(Path::new(DEFAULT_FILE), &text)?;
            notes.push("the configuration came without the files that it names: secrets in files of their own are to be put there".into());
        }
        notes.extend(self.name()?);
        systemd::reload().await?;
        for (program, args) in APPLY.iter().filter(|(program, _)| Path::new(program).exists()) {
            let work =
                async { Program::new(*program, args.iter().copied()).alone().await?.finish(Kind::Restore).await };
            let ended = tokio::time::timeout(TO_APPLY, work).await;
            match ended {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => notes.push(e.one_line()),
                Err(_) => notes.push(format!("{program} does not end")),
            }
        }
        Ok(notes)
    }

    /// Gives the host its name, where the configuration takes that of the machine; in an exercise another one, under which
    /// nobody can take the two for each other.
    fn name(&self) -> Result<Option<String>> {
        let config = load::load(Path::new(DEFAULT_FILE))?;
        let host = &self.about.host;
        let name = match self.about.exercise {
            true => {
                let stem: String = host.as_str().chars().take(55).collect();
                format!("{stem}-exercise")
            }
            false => host.to_string(),
        };
        let moved = (config.storage.url != self.url).then(|| {
            format!(
                "{} the configuration names the repository {}, and this was recovered from {}: correct it if the first is gone",
                notice("look:"),
                config.storage.url,
                self.url
            )
        });
        if config.host.as_str() != name {
            let text = format!("# Written by `backstay recover`.\nhost = \"{name}\"\n");
            write_private(Path::new(NAMED), text.as_bytes())?;
        }
        Ok(moved)
    }

    /// People get their passwords back, those who have none here.
    async fn passwords(&self) -> Result<Option<String>> {
        let staged = self.staged().join("etc/shadow");
        let Ok(then) = std::fs::read_to_string(&staged) else { return Ok(None) };
        let now = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
        let lines = hashes(&then, &now, &|name| {
            self.lost.facts.as_ref().and_then(|f| f.inventory.accounts.users.get(name)).is_some_and(|u| !u.system)
        });
        if lines.is_empty() {
            return Ok(None);
        }
        Ok(host_people::set_hashes(&lines).await.err().map(|e| e.one_line()))
    }

    pub(super) async fn trust(&self) -> Result<Vec<String>> {
        let config = self.context.config()?;
        let vault = self.catalog.vault();
        access::write_trust(&config.trust_file(), vault)?;
        keyring::keep_copies(vault, &config.state_dir.join("keys")).await?;
        let Some(file) = &config.identity_file else {
            return Ok(vec!["the host is sealed, as it was: it backs up and cannot read".to_owned()]);
        };
        if file.exists() {
            return Ok(Vec::new());
        }
        match (&self.identity, self.about.keep_identity) {
            (Some(given), true) => {
                let text = std::fs::read(given)
                    .map_err(|e| Error::io("the identity file cannot be read", given, e).kind(Kind::Key))?;
                write_private(file, &text)?;
                Ok(vec![format!("the given identity is in {}", file.display())])
            }
            _ => Ok(vec![format!(
                "{} was not backed up, so the host is sealed: it backs up and cannot read, drills need an identity there",
                file.display()
            )]),
        }
    }
}

/// Installs what can be had, and nothing starts by that; what was installed.
async fn install(missing: Vec<String>, sources: &[String], notes: &mut Vec<String>) -> Result<Vec<String>> {
    if let Err(e) = apt::update().await {
        notes.push(format!("the lists of packages are not all fresh: {}", e.one_line()));
    }
    let candidates = apt::candidates(&missing).await?;
    let (found, unknown): (Vec<String>, Vec<String>) =
        missing.into_iter().partition(|name| candidates.contains_key(name));
    if !unknown.is_empty() {
        notes.push(format!(
            "cannot be had here, install by hand: {} (packages came from: {})",
            unknown.join(", "),
            sources.join("; ")
        ));
    }
    apt::deny_starts()?;
    let installed = if found.is_empty() { Ok(()) } else { apt::install(&found).await };
    apt::allow_starts()?;
    installed?;
    if !found.is_empty() {
        notes.push(format!("installed: {}", found.join(", ")));
    }
    Ok(found)
}

fn same_release(then: &System, now: &System) -> bool {
    (&then.id, &then.version_id) == (&now.id, &now.version_id)
}

/// The major release of Debian that a tree is of, as far as its files tell.
fn release_of(root: &Path) -> Option<String> {
    let text = std::fs::read_to_string(root.join("etc/debian_version")).ok()?;
    text.trim().split('.').next().map(str::to_owned)
}

/// Lines for `chpasswd`, of those who have a hash there and a locked password here.
fn hashes(then: &str, now: &str, is_person: &dyn Fn(&str) -> bool) -> String {
    let fields = |text: &str| -> Vec<(String, String)> {
        let two = |l: &str| {
            l.split_once(':').map(|(n, rest)| (n.to_owned(), rest.split(':').next().unwrap_or("").to_owned()))
        };
        text.lines().filter_map(two).collect()
    };
    let locked: BTreeSet<String> =
        fields(now).into_iter().filter(|(_, h)| h.trim_start_matches('!').is_empty()).map(|(n, _)| n).collect();
    let wanted = fields(then).into_iter().filter(|(n, h)| h.starts_with('$') && locked.contains(n) && is_person(n));
    wanted.map(|(name, hash)| format!("{name}:{hash}\n")).collect()
}

/// Writes a file that only root reads.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    durable::make_folder(path.parent().unwrap_or(Path::new("/")), 0o755)
        .and_then(|()| durable::replace(path, bytes, 0o600))
        .map_err(|e| Error::io("a file cannot be written", path, e).kind(Kind::Restore))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_their_passwords_and_nobody_elses_is_changed() {
        let then = "root:$y$a:1::::::\nann:$y$b:1::::::\nbob:$y$c:1::::::\npostgres:!:1::::::\neve:!:1::::::\n";
        let now = "root:*:1::::::\nann:!:1::::::\nbob:$y$mine:1::::::\neve:!:1::::::\n";
        assert_eq!(hashes(then, now, &|name| name != "root"), "ann:$y$b\n");
        assert_eq!(hashes(then, now, &|_| false), "");
    }
}
