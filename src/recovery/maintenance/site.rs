//! Everything about one nginx that switching needs, found anew each time: containers get new ids, configurations
//! change, and what was found before a crash says nothing after it.

use super::snippet::Snippet;
use crate::error::{Error, Kind, Result};
use crate::host::nginx::config::{Settings, Where};
use crate::host::nginx::files::Dump;
use crate::host::nginx::servers::Server;
use crate::host::nginx::targets::{Scope, scope};
use crate::host::nginx::{Here, Nginx, Told, not_running};
use std::path::{Path, PathBuf};

/// The directory of the snippet in the state directory.
const STATE: &str = "nginx";
/// The directory of the snippet in a configuration directory that is mounted. Patterns of `include` do not see it.
const HIDDEN: &str = ".backstay";
/// Where the documents say that a directory of ours is mounted.
pub const MOUNTED: &str = "/var/lib/backstay/nginx";

/// What was found.
pub enum Looked {
    /// nginx, which may not run on the host.
    Up(Box<Site>),
    /// Its container does not run.
    Down(Error),
}

/// nginx with its snippet and with who is meant.
pub struct Site {
    /// Calls it.
    pub nginx: Nginx,
    /// What it told.
    pub told: Told,
    /// The file that is switched.
    pub snippet: Snippet,
    /// Who is meant, and whom to ask.
    pub scope: Scope,
}

impl Site {
    /// Finds it.
    ///
    /// # Errors
    /// [`Kind::Refused`] when there is none that we can switch; [`Kind::Restore`] when its configuration is broken.
    pub async fn look(settings: &Settings, state_dir: &Path) -> Result<Looked> {
        let nginx = match Nginx::find(settings).await? {
            Here::Up(nginx) => *nginx,
            Here::Down(e) => return Ok(Looked::Down(e)),
        };
        let mut snippet = None;
        let told = nginx
            .tell(|dump| {
                let located = locate(settings, state_dir, &nginx, dump)?;
                let seen = located.seen_file();
                snippet = Some(located);
                Ok(seen)
            })
            .await?;
        let snippet = snippet.ok_or_else(|| Error::new(Kind::Internal, "the maintenance snippet has no place"))?;
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let hostname = matches!(settings.r#where, Where::Host).then_some(hostname.as_str());
        let scope = scope(&told.found.servers, &settings.names, settings.probe.as_deref(), hostname);
        Ok(Looked::Up(Box::new(Site { nginx, told, snippet, scope })))
    }

    /// Whether maintenance can be switched on.
    ///
    /// # Errors
    /// [`Kind::Refused`] with all that is in the way.
    pub fn ready(&self) -> Result<()> {
        if !self.told.is_running() {
            return Err(not_running(&self.nginx.label));
        }
        if !self.scope.unknown.is_empty() {
            return Err(Error::new(Kind::Refused, "no server block has a name of `maintenance.names`")
                .because(self.scope.unknown.join(", "))
                .hint("`nginx -T | grep server_name` shows the names there are."));
        }
        if self.scope.servers.is_empty() {
            return Err(Error::new(Kind::Refused, format!("{} serves nothing", self.nginx.label))
                .because("there is no server block in its configuration"));
        }
        self.complete()
    }

    /// Whether every server block that is meant includes the snippet, once.
    ///
    /// # Errors
    /// [`Kind::Refused`] with those that do not.
    pub fn complete(&self) -> Result<()> {
        let lacking: Vec<&Server> = self.scope.servers.iter().filter(|s| s.includes == 0).collect();
        if !lacking.is_empty() {
            return Err(self.lacks(&lacking));
        }
        if let Some(twice) = self.scope.servers.iter().find(|s| s.includes > 1) {
            return Err(Error::new(Kind::Refused, "a server block includes the maintenance snippet more than once")
                .at(twice.label())
                .hint("Take out all but the first: nginx would refuse the page."));
        }
        Ok(())
    }

    /// What to do about server blocks without the include.
    fn lacks(&self, lacking: &[&Server]) -> Error {
        let mut lines: Vec<String> = lacking.iter().map(|s| s.label()).collect();
        for server in lacking {
            if let Some((file, name)) = self.nginx.objects.iter().find(|(file, _)| *file == server.file) {
                lines.push(format!("{file} is the swarm config object {name}, which cannot change"));
            }
        }
        lines.dedup();
        let objects = lines.iter().any(|l| l.contains("swarm config object"));
        let hint = if objects {
            format!(
                "Make a new config object with `{}` at the beginning of each server block, and give it to the service (`docker service update --config-rm … --config-add …`).",
                self.snippet.directive()
            )
        } else {
            format!(
                "`backstay maintenance install` writes `{}` at the beginning of each of them; or list the names that count in `maintenance.names`.",
                self.snippet.directive()
            )
        };
        Error::new(Kind::Refused, "server blocks do not include the maintenance snippet")
            .because(lines.join("\n"))
            .hint(hint)
    }

    /// What to do when the snippet lies in what is restored.
    pub fn other_place(&self, state_dir: &Path) -> String {
        match &self.nginx.container {
            None => "Set `maintenance.snippet_dir` to a directory outside of all sources, and run `backstay maintenance install` again.".into(),
            Some(_) => format!(
                "Mount {} at {MOUNTED} into it, read-only, and run `backstay maintenance install` again.",
                state_dir.join(STATE).display()
            ),
        }
    }

    /// What the operator should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.scope.skipped.iter().map(|s| format!("not asked: {}: {}", s.server, s.why)).collect();
        if self.scope.targets.is_empty() {
            warnings.push("nobody can be asked whether the page is shown".to_owned());
        }
        warnings
    }
}

/// Where the snippet is.
fn locate(settings: &Settings, state_dir: &Path, nginx: &Nginx, dump: &Dump) -> Result<Snippet> {
    let own = state_dir.join(STATE);
    let Some(container) = &nginx.container else {
        let dir = settings.snippet_dir.clone().unwrap_or(own);
        return Ok(Snippet { seen: dir.clone(), dir });
    };
    if let Some(seen) = &settings.snippet_dir {
        let dir = container.on_host(&seen.to_string_lossy()).ok_or_else(|| {
            Error::new(Kind::Refused, format!("`maintenance.snippet_dir` is not mounted into {}", container.label()))
                .at(seen.display())
                .hint(mount(&own))
        })?;
        return Ok(Snippet { dir, seen: seen.clone() });
    }
    let mut mounts: Vec<(PathBuf, PathBuf)> = container
        .mounts
        .iter()
        .filter(|m| m.kind != "tmpfs")
        .map(|m| (PathBuf::from(&m.source), PathBuf::from(&m.destination)))
        .filter(|(source, _)| source.is_dir())
        .collect();
    // One that is there for the snippet, else the innermost with a file of the configuration in it.
    if let Some((source, seen)) = mounts.iter().find(|(source, seen)| *source == own || seen == Path::new(MOUNTED)) {
        return Ok(Snippet { dir: source.clone(), seen: seen.clone() });
    }
    mounts.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.components().count()));
    let has_configuration =
        |seen: &Path| dump.paths().any(|file| Path::new(file).starts_with(seen) && seen != Path::new("/"));
    match mounts.into_iter().find(|(_, seen)| has_configuration(seen)) {
        Some((source, seen)) => Ok(Snippet { dir: source.join(HIDDEN), seen: seen.join(HIDDEN) }),
        None => {
            let why = match nginx.objects.is_empty() {
                true => "its configuration lies in the image, or in single files that are mounted".to_owned(),
                false => {
                    let names: Vec<&str> = nginx.objects.iter().map(|o| o.1.as_str()).collect();
                    format!("its configuration is swarm config objects, which cannot change: {}", names.join(", "))
                }
            };
            Err(Error::new(
                Kind::Refused,
                format!("no directory for the maintenance page is mounted into {}", container.label()),
            )
            .because(why)
            .hint(mount(&own)))
        }
    }
}

fn mount(own: &Path) -> String {
    format!(
        "Make it with `install -d -m 755 {0}`, and mount it: `-v {0}:{MOUNTED}:ro` for a container, `docker service update --mount-add type=bind,source={0},destination={MOUNTED},readonly SERVICE` for a service.",
        own.display()
    )
}
