//! Maintenance: nginx answers every request with 503 and a page while a restore replaces what the application works on.
//!
//! Each server block includes a [`snippet`] of ours, which [`install`] puts there once. Maintenance on and off is
//! that file with another content, a test of the configuration, a reload, and asking every name at every place where
//! nginx listens. What does not come out as it should is put back. [`steps`] makes steps of a restore of it, [`page`] is
//! what clients see, [`site`] finds all of it, [`look`] says what is there, [`staged`] what a restored configuration
//! would bring.

pub mod install;
pub mod look;
pub mod page;
mod site;
pub mod snippet;
pub mod staged;
pub mod steps;

use crate::error::{Error, Kind, Result};
use crate::host::nginx::config::Settings;
use crate::host::nginx::probe::{self, Asked, Wanted};
use crate::host::nginx::{Drained, not_running};
use serde::Serialize;
use site::{Looked, Site};
use snippet::State;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long it may take until everybody answers as is wanted after a reload. Connections that waited in a queue of an
/// old worker are answered by it.
const SETTLE: Duration = Duration::from_secs(15);
/// A pause between two looks whether it runs.
const LOOK: Duration = Duration::from_millis(200);

/// Maintenance of one nginx.
#[derive(Clone, Debug)]
pub struct Maintenance {
    settings: Settings,
    state_dir: PathBuf,
}

/// What switching did.
#[derive(Clone, Debug, Serialize)]
pub struct Switched {
    /// What is shown now.
    pub state: State,
    /// What it was before.
    pub before: State,
    /// Whether nginx had to be reloaded.
    pub reloaded: bool,
    /// What everybody answers. Empty when nginx does not run.
    pub asked: Vec<Asked>,
    /// The snippet on this host.
    pub file: PathBuf,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// How far a configuration got.
enum Got {
    /// nginx does not accept it.
    Refused,
    /// It was asked to take it up, and goes on with the one before.
    NotTakenUp,
    /// It has taken it up.
    TakenUp,
}

impl Maintenance {
    /// Maintenance as it is configured. Looks at nothing.
    pub fn new(settings: Settings, state_dir: &Path) -> Self {
        Maintenance { settings, state_dir: state_dir.to_owned() }
    }

    /// What is configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn site(&self) -> Result<Site> {
        match Site::look(&self.settings, &self.state_dir).await? {
            Looked::Up(site) => Ok(*site),
            Looked::Down(e) => Err(e),
        }
    }

    /// Control groups of the processes of nginx that lead the others, as `/proc` has them. None when it does not run.
    pub async fn groups(&self) -> Vec<String> {
        match self.site().await {
            Ok(site) => site
                .told
                .processes()
                .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok())
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until nginx runs: after a boot it may still be starting. `false` when it does not in this time.
    pub async fn is_up_within(&self, limit: Duration) -> bool {
        let started = Instant::now();
        loop {
            if self.site().await.is_ok_and(|site| site.told.is_running()) {
                return true;
            }
            if started.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks whether maintenance can be switched on, and touches nothing. `replaced` are paths that a restore puts
    /// others in place of: the snippet must not be in one of them.
    ///
    /// # Errors
    /// [`Kind::Refused`] with everything that is in the way.
    pub async fn preflight(&self, replaced: &[PathBuf]) -> Result<Vec<String>> {
        let site = self.site().await.map_err(|e| e.kind(Kind::Refused))?;
        site.ready()?;
        site.snippet.state()?;
        page::page(self.settings.page.as_deref(), self.settings.retry_after)?;
        let file = site.snippet.file();
        if let Some(path) = replaced.iter().find(|path| file.starts_with(path)) {
            return Err(Error::new(Kind::Refused, "the maintenance snippet lies in what is restored")
                .at(file.display())
                .because(format!("{} is replaced, and the page would go with it", path.display()))
                .hint(site.other_place(&self.state_dir)));
        }
        Ok(site.warnings())
    }

    /// Switches maintenance on. When it is on already, by whomever, that stays, and is only made to show.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it cannot be; [`Kind::Restore`] when it did not come out, and all is as it was.
    pub async fn on(&self, id: &str) -> Result<Switched> {
        let site = self.site().await?;
        site.ready()?;
        let before = site.snippet.state()?;
        let wanted = match &before {
            State::On(_) => before.clone(),
            _ => State::On(id.to_owned()),
        };
        self.switch(&site, before, wanted).await
    }

    /// Switches maintenance off, to [`State::Off`] or [`State::Absent`]. When nginx does not run, only the file changes:
    /// it will start without the page. `known` is where the file is, for when its container does not run either.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it did not come out; the page is then still shown.
    pub async fn off(&self, to: State, known: Option<&Path>) -> Result<Switched> {
        let down = match Site::look(&self.settings, &self.state_dir).await? {
            Looked::Up(site) if site.told.is_running() => {
                let before = site.snippet.state()?;
                return self.switch(&site, before, to).await;
            }
            Looked::Up(site) => (not_running(&site.nginx.label), Some(site.snippet.file())),
            Looked::Down(e) => (e, known.map(Path::to_owned)),
        };
        let (why, Some(file)) = down else { return Err(down.0) };
        let before = snippet::state_of(&file)?;
        if matches!(before, State::On(_)) || to == State::Absent {
            snippet::put(&file, &to, &self.settings)?;
        }
        let warnings = vec![format!("{}: it will start without the page", why.what)];
        Ok(Switched { state: to, before, reloaded: false, asked: Vec::new(), file, warnings })
    }

    /// From one state to another, and back when it does not come out.
    async fn switch(&self, site: &Site, before: State, wanted: State) -> Result<Switched> {
        let expected = match &wanted {
            State::On(id) => Wanted::Page(id),
            _ => Wanted::NoPage,
        };
        let done = |reloaded, asked| Switched {
            state: wanted.clone(),
            before: before.clone(),
            reloaded,
            asked,
            file: site.snippet.file(),
            warnings: site.warnings(),
        };
        let same = before == wanted || !matches!((&before, &wanted), (State::On(_), _) | (_, State::On(_)));
        if same {
            // It may have been interrupted between the file and the reload.
            if before != wanted {
                site.snippet.write(&wanted, &self.settings)?;
            }
            let asked = probe::ask_all(&site.scope.targets, site.nginx.inside()).await;
            if !asked.is_empty() && asked.iter().all(|a| expected.is(&a.answer)) {
                return Ok(done(false, asked));
            }
        } else {
            site.snippet.write(&wanted, &self.settings)?;
        }
        match self.take_up(site, expected).await {
            Ok(asked) => Ok(done(true, asked)),
            Err((_, e)) if same => Err(e),
            Err((got, e)) => Err(self.back(site, &before, got, e).await),
        }
    }

    /// Puts the file back as it was, and nginx too when it may have taken up the new one.
    async fn back(&self, site: &Site, before: &State, got: Got, e: Error) -> Error {
        let back = async {
            site.snippet.write(before, &self.settings)?;
            match got {
                Got::Refused => Ok(()),
                // It should not do so late, when the file says something else.
                Got::NotTakenUp => site.nginx.ask_to_reload().await,
                Got::TakenUp => site.nginx.reload(&site.told).await,
            }
        };
        match back.await {
            Ok(()) => e,
            Err(second) => {
                let why = e.cause.as_ref().map(ToString::to_string).unwrap_or_default();
                let why = format!("{why}\nand it could not be put back as it was: {}", second.one_line());
                e.because(why.trim_start().to_owned())
            }
        }
    }

    /// Test, reload, ask.
    async fn take_up(&self, site: &Site, wanted: Wanted<'_>) -> std::result::Result<Vec<Asked>, (Got, Error)> {
        site.nginx.test().await.map_err(|e| (Got::Refused, e))?;
        site.nginx.reload(&site.told).await.map_err(|e| (Got::NotTakenUp, e))?;
        let asked = probe::until(&site.scope.targets, site.nginx.inside(), wanted, SETTLE).await;
        asked.map_err(|e| (Got::TakenUp, e))
    }

    /// Waits until workers that still have the old configuration have finished their requests, at most so long as is
    /// configured.
    ///
    /// # Errors
    /// When nginx cannot be found.
    pub async fn drain(&self) -> Result<Drained> {
        let site = self.site().await?;
        Ok(site.nginx.drain(&site.told, self.settings.drain).await)
    }

    /// Has nginx take up what is configured on disk, after a test: for a configuration that was restored, or taken back.
    /// What the page shows does not change, as long as the include is in both.
    ///
    /// # Errors
    /// [`Kind::Restore`] when nginx refuses it; it then goes on with the old one.
    pub async fn apply(&self) -> Result<()> {
        let site = self.site().await?;
        site.nginx.test().await?;
        site.nginx.reload(&site.told).await
    }

    /// The same, where it need not run: one that is stopped reads its files when it starts.
    ///
    /// # Errors
    /// [`Kind::Restore`] when nginx refuses it; it then goes on with the old one.
    pub async fn apply_if_up(&self) -> Result<()> {
        match Site::look(&self.settings, &self.state_dir).await? {
            Looked::Up(site) if site.told.is_running() => {
                site.nginx.test().await?;
                site.nginx.reload(&site.told).await
            }
            _ => Ok(()),
        }
    }
}
