//! A recovery under way: what every phase needs, and which function carries it out.

use crate::cli::context::Context;
use crate::config::load::DEFAULT_FILE;
use crate::error::{Error, Kind, Result};
use crate::host::machine::machine;
use crate::recovery::fresh;
use crate::recovery::fresh::journal::{Begin, Journal};
use crate::recovery::fresh::lost::Lost;
use crate::recovery::fresh::phase::{DATA, Phase, TREES};
use crate::repository::catalog::Catalog;
use crate::repository::reader::Reader;
use crate::sources::host::HostFacts;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;

/// See the module.
pub struct Recovery<'a> {
    /// Options as of a command on the recovered host.
    pub(super) context: Context,
    /// What was given as identity.
    pub(super) identity: Option<PathBuf>,
    /// Where the backups are.
    pub(super) url: &'a str,
    /// What there is.
    pub(super) catalog: Catalog,
    /// What the host was.
    pub(super) lost: Lost,
    /// What was asked for.
    pub(super) about: Begin,
    /// When it began.
    pub(super) began: Timestamp,
    /// Ours.
    pub(super) state_dir: PathBuf,
    /// This machine, as manifests name it.
    pub(super) machine: String,
}

impl<'a> Recovery<'a> {
    /// A recovery with its journal.
    ///
    /// # Errors
    /// When this machine has no id and none can be made.
    pub fn new(
        given: &Context,
        url: &'a str,
        catalog: Catalog,
        lost: Lost,
        journal: &Journal,
        state_dir: PathBuf,
    ) -> Result<Self> {
        let mut global = given.global.clone();
        global.config = DEFAULT_FILE.into();
        // The vault is that of the lost host, whatever the configuration names by then.
        global.host = Some(journal.about().host.to_string());
        global.wait = SignedDuration::ZERO;
        global.json = false;
        global.quiet = given.global.quiet || given.global.json;
        Ok(Recovery {
            machine: machine(&state_dir)?,
            identity: global.identity.clone(),
            context: Context::new(global),
            url,
            catalog,
            lost,
            about: journal.about().clone(),
            began: journal.began(),
            state_dir,
        })
    }

    /// Carries a phase out; what the operator should know of it. It may have been begun before.
    ///
    /// # Errors
    /// With what failed; it can be tried again.
    pub async fn carry_out(&self, phase: &Phase) -> Result<Vec<String>> {
        match phase {
            Phase::Accounts => self.accounts().await,
            Phase::Fetch => self.fetch().await,
            Phase::Packages => self.packages().await,
            Phase::Config => self.configure().await,
            Phase::Trust => self.trust().await,
            Phase::Clusters => self.clusters().await,
            Phase::Servers => self.servers().await,
            Phase::Trees(plan) => self.restore(plan, TREES).await,
            Phase::Containers => self.containers().await,
            Phase::Data(plan) => self.restore(plan, DATA).await,
            Phase::Enable => self.enable().await,
            Phase::Start => self.start().await,
            Phase::Checks => self.checks().await,
            Phase::Rest => self.rest().await,
            Phase::Claim => self.claim().await,
            Phase::Timers => self.timers().await,
        }
    }

    /// What the machine was.
    ///
    /// # Errors
    /// [`Kind::Internal`]: phases that need it are there only when it is known.
    pub(super) fn facts(&self) -> Result<&HostFacts> {
        self.lost
            .facts
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Internal, "a phase needs facts of the machine, and there are none"))
    }

    /// A reader that shows what goes on.
    ///
    /// # Errors
    /// [`Kind::Key`] when the identity opens no pack.
    pub(super) fn reader(&self, title: &str) -> Result<Reader> {
        Reader::new(self.catalog.clone(), self.context.monitor(title))
    }

    /// Where the fetched files are.
    pub(super) fn staged(&self) -> PathBuf {
        fresh::staged(&self.state_dir)
    }

    /// Removes what only the recovery needed.
    ///
    /// # Errors
    /// [`Kind::Restore`]: hashes of passwords must not be left lying about unnoticed.
    pub fn clear(&self) -> Result<()> {
        let (staged, waiting) = (self.staged(), fresh::waiting(&self.state_dir));
        for (path, removed) in [(&staged, std::fs::remove_dir_all(&staged)), (&waiting, std::fs::remove_file(&waiting))]
        {
            match removed {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("the fetched files cannot be removed", path, e).kind(Kind::Restore));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
