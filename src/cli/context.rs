//! From options and configuration to open stores, vaults and catalogs.

use super::Global;
use super::output::{notice, remark};
use super::progress;
use super::watch::{About, Watch};
use crate::config::{Config, load, repository};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::access::{self, Unlock};
use crate::repository::catalog::Catalog;
use crate::repository::vault::Vault;
use crate::storage::ObjectStore;
use crate::storage::open::{StorageOptions, open};
use crate::telemetry::monitor::{Event, Fan, Monitor};
use crate::telemetry::report::Report;
use crate::telemetry::scrub;
use age::secrecy::SecretString;
use std::num::NonZeroU64;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

/// What every command starts from.
pub struct Context {
    /// Options of all commands.
    pub global: Global,
    watch: OnceLock<Watch>,
}

impl Context {
    /// From the parsed options.
    pub fn new(global: Global) -> Self {
        Context { global, watch: OnceLock::new() }
    }

    /// Begins to watch a command, if its outcome matters afterwards.
    pub async fn watch(&self, about: Option<About>) {
        let Some(about) = about else { return };
        if let Some(watch) = Watch::begin(self, about).await {
            let _ = self.watch.set(watch);
        }
    }

    /// Whoever was asked to confirm the command did not: nothing was done, so it is no run.
    pub fn decline(&self) {
        self.watch.get().into_iter().for_each(Watch::decline);
    }

    /// Says which plan the watched command is about, where its command line could not.
    pub fn is_about(&self, plan: &Name) {
        self.watch.get().into_iter().for_each(|watch| watch.settle(Some(plan.clone())));
    }

    /// Tells whoever watches what the command came to.
    pub fn report(&self, report: Report) {
        if let Some(watch) = self.watch.get() {
            watch.listeners().event(Event::Reported(Box::new(report)));
        }
    }

    /// The command ended; whoever watches it is told.
    pub async fn ended(&self, result: &Result<ExitCode>) {
        if let Some(watch) = self.watch.get() {
            watch.ended(result).await;
        }
    }

    /// The configuration; an error when there is none.
    pub fn config(&self) -> Result<Config> {
        let mut config = load::load(&self.global.config)?;
        if let Some(url) = &self.global.repository {
            config.storage.url.clone_from(url);
        }
        if let Some(host) = &self.global.host {
            config.host = host.parse()?;
        }
        Ok(config)
    }

    /// The configuration, or with `--repository` a minimal one: a machine that only holds an identity reads, checks
    /// and restores without any file.
    pub fn config_or_url(&self) -> Result<(Option<Config>, StorageOptions, Option<Name>)> {
        match (&self.global.repository, self.global.config.exists()) {
            (Some(url), false) => {
                let host = self.global.host.as_deref().map(str::parse).transpose()?;
                Ok((None, repository::without_file(url, None)?, host))
            }
            _ => {
                let config = self.config()?;
                let (storage, host) = (config.storage.clone(), config.host.clone());
                Ok((Some(config), storage, Some(host)))
            }
        }
    }

    /// What opens key files: `--identity`, `--passphrase-file`, or the configured host identity.
    pub fn unlock(&self, config: Option<&Config>) -> Result<Option<Unlock>> {
        if let Some(file) = &self.global.identity {
            return access::read_identity_file(file).map(Some);
        }
        if let Some(file) = &self.global.passphrase_file {
            return read_passphrase(file).map(|p| Some(Unlock::Passphrase(p)));
        }
        match config.and_then(|c| c.identity_file.as_ref()) {
            Some(file) => access::read_identity_file(file).map(Some),
            None => Ok(None),
        }
    }

    /// Opens the store.
    pub async fn store(&self, options: &StorageOptions, state_dir: Option<&Path>) -> Result<Arc<dyn ObjectStore>> {
        let remember = state_dir.map(|d| d.join("stores.json"));
        Ok(open(options, remember.as_deref()).await?)
    }

    /// Opens the vault to read from it: with the trust file of this host, or with an identity alone.
    pub async fn vault(&self, need_packs: bool) -> Result<(Option<Config>, Arc<Vault>)> {
        self.vault_within(need_packs, None).await
    }

    /// The same with the identity that is at hand, if there is one: for what only its holder can tell. It works without.
    pub async fn vault_for_proofs(&self) -> Result<(Option<Config>, Arc<Vault>)> {
        let config = self.config_or_url()?.0;
        let at_hand = config.and_then(|c| c.identity_file).is_some_and(|file| file.exists());
        match self.vault(at_hand).await {
            Err(e) if at_hand && e.kind == Kind::Key => self.vault(false).await,
            opened => opened,
        }
    }

    /// The same with a limit of its own on what comes from the store, in bytes per second.
    pub async fn vault_within(
        &self,
        need_packs: bool,
        limit: Option<NonZeroU64>,
    ) -> Result<(Option<Config>, Arc<Vault>)> {
        let (config, mut storage, host) = self.config_or_url()?;
        storage.limit_download = limit.or(storage.limit_download);
        // The host's own identity is opened only when something needs it.
        let unlock = if need_packs
            || self.global.identity.is_some()
            || self.global.passphrase_file.is_some()
            || config.is_none()
        {
            self.unlock(config.as_ref())?
        } else {
            None
        };
        let store = self.store(&storage, config.as_ref().map(|c| c.state_dir.as_path())).await?;
        let host = match host {
            Some(host) => host,
            None => only_host(&*store).await?,
        };
        let vault = match &config {
            Some(config) => {
                let trust = trust_file(config);
                let unlock = if unlock.is_none() && !trust.exists() { self.unlock(Some(config))? } else { unlock };
                access::open_on_host(store, &host, &trust, unlock.as_ref()).await?
            }
            None => {
                let unlock = unlock.ok_or_else(|| {
                    Error::new(Kind::Key, "without a configuration this needs an identity")
                        .hint("Give --identity FILE or --passphrase-file FILE.")
                })?;
                access::open_with(store, &host, &unlock).await?
            }
        };
        if let Some(epoch) = vault.locked {
            remark(&format!(
                "{} the identity opens no key file of key epoch {epoch}, the newest: what is stored in it stays closed. Either this key was removed, or its key file is lost; `backstay check` tells.",
                notice("warning")
            ));
        }
        Ok((config, Arc::new(vault)))
    }

    /// The catalog of a vault, with the cache of this host.
    pub fn catalog(&self, config: Option<&Config>, vault: Arc<Vault>) -> Catalog {
        let cache = config.map(|c| c.state_dir.join("cache").join(vault.header.vault.to_string()));
        Catalog::new(vault, cache)
    }

    /// The plan that is meant: the one named, or the only one configured or found.
    pub async fn plan(&self, named: Option<&str>, config: Option<&Config>, catalog: &Catalog) -> Result<Name> {
        if let Some(name) = named {
            return name.parse().map_err(|e: Error| e.kind(Kind::Usage));
        }
        let mut plans: Vec<Name> = config.map(|c| c.plans.keys().cloned().collect()).unwrap_or_default();
        if plans.is_empty() {
            plans = catalog.ids(None).await?.into_iter().map(|(plan, _)| plan).collect();
            plans.sort();
            plans.dedup();
        }
        match &plans[..] {
            [only] => {
                self.is_about(only);
                Ok(only.clone())
            }
            [] => {
                Err(Error::new(Kind::NotFound, "there is no plan")
                    .hint("Configure one as [plans.NAME], or back up first."))
            }
            several => {
                let names: Vec<&str> = several.iter().map(Name::as_str).collect();
                Err(Error::new(Kind::Usage, "there are several plans")
                    .hint(format!("Name one with --plan: {}.", names.join(", "))))
            }
        }
    }

    /// Where this host keeps its state.
    pub fn state_dir(&self, config: Option<&Config>) -> PathBuf {
        config.map_or_else(|| PathBuf::from(load::DEFAULT_STATE), |c| c.state_dir.clone())
    }

    /// A monitor that shows progress, and tells whoever watches.
    pub fn monitor(&self, title: &str) -> Arc<dyn Monitor> {
        let shown = progress::monitor(title, self.global.quiet || self.global.json, self.global.log);
        match self.watch.get() {
            Some(watch) => Arc::new(Fan::new(vec![shown, watch.listeners()])),
            None => shown,
        }
    }
}

/// The trust file of a host.
pub fn trust_file(config: &Config) -> PathBuf {
    config.trust_file()
}

/// Makes the state directory for us alone.
pub fn make_state_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| {
        Error::io("the state directory cannot be made", dir, e)
            .kind(Kind::Config)
            .hint("Set `state_dir` to a place where the agent may write.")
    })
}

const PASSPHRASE_FILE: &str = "Give a file that this user may read and that holds the passphrase alone.";

/// Reads a passphrase; a line end at its end does not belong to it.
pub fn read_passphrase(file: &Path) -> Result<SecretString> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Error::io("the passphrase file cannot be read", file, e).kind(Kind::Key).hint(PASSPHRASE_FILE))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Error::new(Kind::Key, "the passphrase file is empty").at(file.display()).hint(PASSPHRASE_FILE));
    }
    scrub::register(text);
    Ok(SecretString::from(text.to_owned()))
}

async fn only_host(store: &dyn ObjectStore) -> Result<Name> {
    let hosts = store.folders("").await?;
    match &hosts[..] {
        [only] => only.parse(),
        [] => Err(Error::new(Kind::NotFound, "the repository holds no vault")
            .at(store.url())
            .hint("`backstay init` makes one; or correct the URL: the folders of the hosts lie directly below it.")),
        several => Err(Error::new(Kind::Usage, "the repository holds vaults of several hosts")
            .hint(format!("Name one with --host: {}.", several.join(", ")))),
    }
}
