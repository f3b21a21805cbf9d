//! `backstay key`

use super::context::{Context, read_passphrase, trust_file};
use super::output::{Align, Table, bad, good, json, notice, say};
use super::watch::About;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size, time};
use crate::repository::access::{self, KeyRecipient};
use crate::repository::keyring;
use crate::repository::marks;
use crate::repository::vault::Vault;
use crate::telemetry::monitor::Verb;
use crate::telemetry::report::Report;
use age::x25519;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// A recovery key should be proven this often.
const PROVE_EVERY: SignedDuration = SignedDuration::from_hours(24 * 90);

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List the keys and when each was proven
    List,
    /// Let another identity or passphrase open the vault
    Add {
        /// Name of the key (a person, a safe)
        name: String,
        /// Seal to this age recipient (age1…)
        #[arg(long, value_name = "AGE1…")]
        recipient: Option<String>,
        /// Make an identity and write it to this file
        #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
        out: Option<PathBuf>,
        /// Seal to the passphrase in this file
        #[arg(long, value_name = "FILE", conflicts_with_all = ["recipient", "out"])]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Remove a key and begin a new key epoch, so that it opens nothing that is stored from now on
    Remove {
        /// Name of the key
        name: String,
    },
    /// Begin a new key epoch for the same keys
    Rotate,
    /// Write the sealed key files to a directory, for the safe
    Export {
        /// Directory
        directory: PathBuf,
    },
    /// Prove that an identity or passphrase opens the vault, without touching data, and record when
    Check,
}

impl Args {
    /// What is watched of it: the proof.
    pub fn about(&self) -> Option<About> {
        matches!(self.command, Command::Check).then(|| About::vault_or(Verb::KeyCheck, None))
    }
}

/// Runs a subcommand.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args.command {
        Command::List => list(context).await,
        Command::Add { name, recipient, out, new_passphrase_file } => {
            add(context, &name, recipient, out, new_passphrase_file).await
        }
        Command::Remove { name } => remove(context, &name).await,
        Command::Rotate => rotate(context).await,
        Command::Export { directory } => export(context, &directory).await,
        Command::Check => check(context).await,
    }
}

async fn list(context: &Context) -> Result<ExitCode> {
    let (_, vault) = context.vault(false).await?;
    let keys = keyring::list(&vault).await?;
    let proofs = marks::proofs(&vault).await?;
    if context.global.json {
        let rows: Vec<_> = keys.iter().map(|k| serde_json::json!({ "name": k.label.name, "role": k.label.role, "recipient": k.label.recipient, "epochs": k.epochs, "added": k.label.added, "proven": proofs.get(k.label.name.as_str()) })).collect();
        json(&serde_json::json!({ "fingerprint": vault.secret.fingerprint(), "keys": rows }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("vault {} of host {}, fingerprint {}", vault.header.vault, vault.host(), vault.secret.fingerprint()))?;
    let now = Timestamp::now();
    let mut table = Table::new(&[
        ("key", Align::Left),
        ("role", Align::Left),
        ("epochs", Align::Left),
        ("proven", Align::Left),
        ("recipient", Align::Left),
    ]);
    for k in &keys {
        let proven = match proofs.get(k.label.name.as_str()) {
            Some(at) if now.duration_since(*at) <= PROVE_EVERY => good(&time::ago(*at, now)),
            Some(at) => notice(&time::ago(*at, now)),
            None if k.label.role == "recovery" => bad("never"),
            None => "never".to_owned(),
        };
        let epochs = k.epochs.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        table.row(vec![k.label.name.to_string(), k.label.role.clone(), epochs, proven, k.label.recipient.clone()]);
    }
    table.print()?;
    if keys.iter().any(|k| k.label.role == "recovery" && !proofs.contains_key(k.label.name.as_str())) {
        say(&notice(
            "A recovery key that was never proven is a hope. Where it is kept: backstay --identity FILE key check",
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the vault with an identity, which every change of keys needs.
async fn unlocked(context: &Context) -> Result<(Option<Config>, Arc<Vault>)> {
    let (config, vault) = context.vault(true).await?;
    keyring::require_identity(&vault).await?;
    Ok((config, vault))
}

async fn add(
    context: &Context,
    name: &str,
    recipient: Option<String>,
    out: Option<PathBuf>,
    passphrase: Option<PathBuf>,
) -> Result<ExitCode> {
    let (config, vault) = unlocked(context).await?;
    let name: Name = name.parse().map_err(|e: Error| e.kind(Kind::Usage))?;
    keyring::ensure_free(&vault, &name).await?;
    let recipient = match (recipient, &out, passphrase) {
        (Some(text), _, _) => KeyRecipient::X25519(access::parse_recipient(&text)?),
        (None, Some(path), _) => {
            let identity = x25519::Identity::generate();
            access::write_identity_file(path, &identity, name.as_str(), vault.host(), &vault.header, &vault.secret)?;
            KeyRecipient::X25519(identity.to_public())
        }
        (None, None, Some(file)) => KeyRecipient::Passphrase(read_passphrase(&file)?),
        (None, None, None) => {
            return Err(Error::new(Kind::Usage, "whom should the key be sealed to?")
                .hint("Give --recipient, --out or --new-passphrase-file."));
        }
    };
    let epochs = keyring::add(&vault, &name, "recovery", &recipient).await?;
    if config.is_some() {
        after_change(config.as_ref(), &vault).await?;
    }
    said(
        context,
        serde_json::json!({ "added": name, "epochs": epochs, "identity_file": out }),
        &format!("{} key {name} to {}", good("added"), size::plural(epochs.len() as u64, "key epoch")),
    )
}

async fn remove(context: &Context, name: &str) -> Result<ExitCode> {
    let (config, vault) = unlocked(context).await?;
    let name: Name = name.parse().map_err(|e: Error| e.kind(Kind::Usage))?;
    let passphrase = context.global.passphrase_file.as_deref().map(read_passphrase).transpose()?;
    let rotated = keyring::remove(&vault, &name, passphrase).await?;
    after_change(config.as_ref(), &rotated).await?;
    said(
        context,
        serde_json::json!({ "removed": name, "epoch": rotated.epoch()?.number }),
        &format!(
            "{} key {name}; what is stored from now on belongs to key epoch {}.\n{}",
            good("removed"),
            rotated.epoch()?.number,
            notice(
                "Whoever kept a copy of the key files or of the vault secret can still open everything stored before, and could\nstill write records if the store lets them: take away their access to the store too."
            )
        ),
    )
}

async fn rotate(context: &Context) -> Result<ExitCode> {
    let (config, vault) = unlocked(context).await?;
    let passphrase = context.global.passphrase_file.as_deref().map(read_passphrase).transpose()?;
    let rotated = keyring::rotate(&vault, None, passphrase).await?;
    after_change(config.as_ref(), &rotated).await?;
    let epoch = rotated.epoch()?.number;
    let names: Vec<String> = keyring::list(&rotated)
        .await?
        .iter()
        .filter(|k| k.epochs.contains(&epoch))
        .map(|k| format!("{} ({})", k.label.name, k.label.recipient))
        .collect();
    said(
        context,
        serde_json::json!({ "epoch": epoch, "keys": names }),
        &format!("{} key epoch {epoch}, which these keys open:\n  {}", good("began"), names.join("\n  ")),
    )
}

/// A change on the host is pinned at once, and the sealed key files are copied; elsewhere the host has to be told.
async fn after_change(config: Option<&Config>, vault: &Vault) -> Result<()> {
    match config {
        Some(config) => {
            access::write_trust(&trust_file(config), vault)?;
            keyring::keep_copies(vault, &config.state_dir.join("keys")).await
        }
        None => {
            super::output::remark(
                "The host goes on with its old key epoch until it is told: run there `backstay --identity FILE key check`.",
            );
            Ok(())
        }
    }
}

async fn export(context: &Context, directory: &std::path::Path) -> Result<ExitCode> {
    let (_, vault) = context.vault(false).await?;
    let files = keyring::export(&vault, directory).await?;
    said(
        context,
        serde_json::json!({ "directory": directory, "files": files }),
        &format!(
            "{} {} to {}",
            good("exported"),
            size::plural(files.len() as u64, "sealed key file"),
            directory.display()
        ),
    )
}

async fn check(context: &Context) -> Result<ExitCode> {
    let (config, vault) = context.vault(true).await?;
    let unlock = context.unlock(config.as_ref())?.ok_or_else(|| {
        Error::new(Kind::Key, "there is no identity to check").hint("Give --identity FILE or --passphrase-file FILE.")
    })?;
    access::prove(&vault).await?;
    let names = keyring::opened_by(&vault, &unlock).await?;
    context.report(Report::KeyCheck { keys: names.iter().map(Name::to_string).collect() });
    let mut recorded = true;
    for name in &names {
        if let Err(e) = marks::record_proof(&vault, name.as_str()).await {
            // A machine that may only read still proves the key.
            super::output::remark(&format!("{} the proof could not be recorded: {}", notice("warning"), e.one_line()));
            recorded = false;
        }
    }
    if config.is_some() {
        after_change(config.as_ref(), &vault).await?;
    }
    let list = names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    said(
        context,
        serde_json::json!({ "proven": names, "recorded": recorded, "fingerprint": vault.secret.fingerprint() }),
        &format!(
            "{} key {list} opens the vault of host {} (fingerprint {})",
            good("proven:"),
            vault.host(),
            vault.secret.fingerprint()
        ),
    )
}

fn said(context: &Context, value: serde_json::Value, text: &str) -> Result<ExitCode> {
    if context.global.json {
        json(&value)?
    } else {
        say(text)?
    }
    Ok(ExitCode::SUCCESS)
}
