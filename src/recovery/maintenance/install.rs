//! Putting the include into each server block, once, and taking it out again.
//!
//! nginx must accept its configuration before and after. Each file is copied first, to a place where no pattern of
//! `include` finds the copy, and all are put back when nginx does not like one.

use super::Maintenance;
use super::site::Site;
use super::snippet::State;
use crate::error::{Error, Kind, Result};
use crate::host::nginx::edit;
use crate::host::nginx::files::{Files, Root, fits};
use crate::host::nginx::servers::Server;
use crate::io::durable;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// What stands beside the include.
pub const COMMENT: &str = "Backstay: the maintenance page while a restore runs";
/// Where copies of the files are, in the state directory. Not beside the snippet, which nginx reads whole.
const COPIES: &str = "nginx-before";

/// What was changed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changed {
    /// The include.
    pub include: String,
    /// Files, as nginx has them, each with how many server blocks were changed.
    pub files: BTreeMap<String, usize>,
    /// Where the files are as they were before.
    pub copies: Option<PathBuf>,
}

/// A file with what it is to hold.
pub(super) struct Edit {
    /// As nginx has it.
    pub path: String,
    /// On this host, links followed.
    pub place: PathBuf,
    /// What it holds.
    pub before: Vec<u8>,
    /// What it is to hold.
    pub after: Vec<u8>,
    /// How many server blocks are changed.
    pub blocks: usize,
}

impl Maintenance {
    /// The line for those who write it themselves.
    ///
    /// # Errors
    /// Those of finding nginx.
    pub async fn include_line(&self) -> Result<String> {
        Ok(format!("{} # {COMMENT}", self.site().await?.snippet.directive()))
    }

    /// Writes the include into each server block that is meant and lacks it. Nothing is reloaded: until the snippet is
    /// filled it changes nothing.
    ///
    /// # Errors
    /// [`Kind::Refused`] when a file cannot be changed; [`Kind::Restore`] when nginx does not accept the result, and all
    /// files are as they were.
    pub async fn install(&self) -> Result<Changed> {
        let site = self.site().await?;
        let lacking: Vec<&Server> = site.scope.servers.iter().filter(|s| s.includes == 0).collect();
        let edits = additions(&site, &site.nginx.root(), &lacking, &site.told.dump)?;
        let changed = self.carry_out(&site, &edits).await?;
        if !edits.is_empty()
            && let Err(e) = self.site().await.and_then(|s| s.complete())
        {
            put_back(&site, &edits)?;
            return Err(e);
        }
        Ok(changed)
    }

    /// Takes the include out of every file of the configuration.
    ///
    /// # Errors
    /// Those of [`Maintenance::install`]; [`Kind::Refused`] while maintenance is on.
    pub async fn uninstall(&self) -> Result<Changed> {
        let site = self.site().await?;
        if let State::On(id) = site.snippet.state()? {
            return Err(Error::new(Kind::Refused, format!("maintenance is on ({id})"))
                .hint("`backstay maintenance off` first: without the include the page would go at the next reload."));
        }
        let ours = site.snippet.seen_file().display().to_string();
        let prefix = Path::new(site.told.dump.main()).parent().unwrap_or(Path::new("/")).to_owned();
        let means = |arg: &str| fits(&prefix.join(arg).display().to_string(), &ours);
        let mut edits = Vec::new();
        for path in site.told.dump.paths().filter(|path| *path != ours) {
            let text = site.told.dump.text(path).unwrap_or_default();
            if let Some(after) = edit::remove(path, &text, &means, COMMENT)? {
                let place = place(&site, &site.nginx.root(), path)?;
                let blocks = site.told.found.servers.iter().filter(|s| s.file == path && s.includes > 0).count();
                edits.push(Edit { path: path.to_owned(), before: unchanged(&place, &text)?, place, after, blocks });
            }
        }
        let changed = self.carry_out(&site, &edits).await?;
        site.snippet.write(&State::Absent, &self.settings)?;
        Ok(changed)
    }

    /// Writes the files, and puts them back when nginx does not accept them.
    async fn carry_out(&self, site: &Site, edits: &[Edit]) -> Result<Changed> {
        let include = site.snippet.directive();
        if edits.is_empty() {
            return Ok(Changed { include, ..Changed::default() });
        }
        let copies = self.state_dir.join(COPIES).join(Timestamp::now().strftime("%Y%m%dT%H%M%S.%fZ").to_string());
        for edit in edits {
            keep(&copies, edit)?;
        }
        let written = edits.iter().try_for_each(|e| write(&site.nginx.root(), e, &e.after));
        let tested = match written {
            Ok(()) => site.nginx.test().await,
            Err(e) => Err(e),
        };
        if let Err(e) = tested {
            put_back(site, edits)?;
            return Err(e.hint("All files are as they were."));
        }
        let files = edits.iter().map(|e| (e.path.clone(), e.blocks)).collect();
        Ok(Changed { include, files, copies: Some(copies) })
    }
}

fn put_back(site: &Site, edits: &[Edit]) -> Result<()> {
    edits.iter().try_for_each(|e| write(&site.nginx.root(), e, &e.before))
}

/// The edits that put the include into these server blocks.
pub(super) fn additions(site: &Site, root: &Root, lacking: &[&Server], files: &dyn Files) -> Result<Vec<Edit>> {
    let mut by_file: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for server in lacking {
        by_file.entry(&server.file).or_default().push(server.opened);
    }
    let mut edits: Vec<Edit> = Vec::new();
    for (path, opened) in by_file {
        let text = files.text(path).unwrap_or_default();
        let place = place(site, root, path)?;
        // The same file by another name: a link, say.
        if edits.iter().any(|e| e.place == place) {
            continue;
        }
        let after = edit::add(&text, &opened, &site.snippet.directive(), COMMENT);
        let before = unchanged(&place, &text)?;
        edits.push(Edit { path: path.to_owned(), place, before, after, blocks: opened.len() });
    }
    Ok(edits)
}

/// Where a file of the configuration is on this host.
fn place(site: &Site, root: &Root, path: &str) -> Result<PathBuf> {
    if let Some((_, object)) = site.nginx.objects.iter().find(|(file, _)| file == path) {
        return Err(Error::new(Kind::Refused, format!("the swarm config object {object} cannot change")).at(path).hint(
            format!(
                "Make a new one with `{}` at the beginning of each server block, and give it to the service: `docker config create NEW FILE`, `docker service update --config-rm {object} --config-add source=NEW,target={path} SERVICE`.",
                site.snippet.directive()
            ),
        ));
    }
    root.find(Path::new(path)).ok_or_else(|| {
        Error::new(Kind::Refused, "a file of nginx's configuration lies in the image of its container")
            .at(path)
            .because("what is changed there is gone with the container")
            .hint(format!(
                "Write `{}` at the beginning of each server block and build the image anew, or mount the directory of the configuration.",
                site.snippet.directive()
            ))
    })
}

/// The file must be what nginx told, or offsets mean something else.
fn unchanged(place: &Path, told: &[u8]) -> Result<Vec<u8>> {
    let text = std::fs::read(place)
        .map_err(|e| Error::io("a file of nginx's configuration cannot be read", place, e).kind(Kind::Refused))?;
    if text == told {
        return Ok(text);
    }
    Err(Error::new(Kind::Refused, "a file of nginx's configuration is not what nginx says that it is")
        .at(place.display())
        .hint("Somebody may be changing it right now; try again."))
}

/// Copies a file to where it can be found by hand.
fn keep(copies: &Path, edit: &Edit) -> Result<()> {
    let copy = copies.join(edit.path.trim_start_matches('/'));
    let failed =
        |e: std::io::Error| Error::io("a file of nginx's configuration cannot be copied", &copy, e).kind(Kind::Restore);
    let dir = copy.parent().unwrap_or(copies);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&copy).map_err(failed)?;
    file.write_all(&edit.before).and_then(|()| file.sync_all()).map_err(failed)
}

/// Writes a file, with the owner and mode that it has.
fn write(root: &Root, edit: &Edit, text: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::io("a file of nginx's configuration cannot be written", &edit.place, e).kind(Kind::Restore)
    };
    // A file that is mounted by itself must stay the same file, or its container goes on with the old one.
    let mounted = root.container.iter().flat_map(|c| &c.mounts).any(|m| Path::new(&m.source) == edit.place);
    if mounted {
        let mut file = OpenOptions::new().write(true).truncate(true).open(&edit.place).map_err(failed)?;
        return file.write_all(text).and_then(|()| file.sync_all()).map_err(failed);
    }
    let meta = std::fs::metadata(&edit.place).map_err(failed)?;
    durable::replace_with(&edit.place, |new| {
        new.write_all(text)?;
        fchown(&*new, Some(meta.uid()), Some(meta.gid()))?;
        new.set_permissions(meta.permissions())
    })
    .map_err(failed)
}
