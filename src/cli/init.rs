//! `backstay init`

use super::context::{Context, make_state_dir, read_passphrase, trust_file};
use super::output::{good, json, notice, say};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::repository::access::{self, KeyRecipient, NewVault};
use crate::repository::keyring;
use crate::storage::fs::FsStore;
use age::x25519;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("recovery").required(true).args(["recovery_out", "recovery_recipient", "recovery_passphrase_file"])))]
pub struct Args {
    /// Where to write the recovery identity; keep that file away from this host
    #[arg(long, value_name = "FILE")]
    recovery_out: Option<PathBuf>,
    /// Seal to a recovery recipient that exists already (age1…)
    #[arg(long, value_name = "AGE1…")]
    recovery_recipient: Option<String>,
    /// Seal to a passphrase, read from this file, instead of an identity
    #[arg(long, value_name = "FILE")]
    recovery_passphrase_file: Option<PathBuf>,
    /// Time between condemning and deleting a pack; a backup must not take longer
    #[arg(long, value_name = "TIME", default_value = "7d")]
    grace: String,
}

/// Makes the vault.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "init").await?;
    let grace = time::parse_duration(&args.grace)?;
    if grace.as_secs() < 3600 {
        return Err(Error::new(Kind::Usage, "the grace time is too short")
            .hint("It must be longer than the longest backup; an hour is the least, 7d suits most."));
    }
    // Everything that can be wrong is looked at before anything is made.
    let trust = trust_file(&config);
    for file in [Some(&trust), args.recovery_out.as_ref(), config.identity_file.as_ref()].into_iter().flatten() {
        if file.exists() {
            return Err(Error::new(Kind::Refused, "the file exists and may hold a key")
                .at(file.display())
                .hint("If it belongs to an older vault, move it away first; nothing was made."));
        }
    }
    make_state_dir(&config.state_dir)?;
    if let Some(path) = config.storage.url.strip_prefix("file://") {
        FsStore::new(PathBuf::from(path).as_path(), config.storage.timeout)?.create_root().await?;
    }
    let store = context.store(&config.storage, Some(&config.state_dir)).await?;
    let new = NewVault::generate(store.now().await?, grace);
    let (header, secret) = (new.header.clone(), new.secret.clone());

    let recovery: Name = "recovery".parse()?;
    let host_key: Name = "host".parse()?;
    let mut keys = Vec::new();
    if let Some(path) = &args.recovery_out {
        let identity = x25519::Identity::generate();
        access::write_identity_file(path, &identity, "recovery", &config.host, &header, &secret)?;
        keys.push((recovery, "recovery", KeyRecipient::X25519(identity.to_public())));
    } else if let Some(recipient) = &args.recovery_recipient {
        keys.push((recovery, "recovery", KeyRecipient::X25519(access::parse_recipient(recipient)?)));
    } else if let Some(file) = &args.recovery_passphrase_file {
        keys.push((recovery, "recovery", KeyRecipient::Passphrase(read_passphrase(file)?)));
    }
    if let Some(path) = &config.identity_file {
        let identity = x25519::Identity::generate();
        access::write_identity_file(path, &identity, "host", &config.host, &header, &secret)?;
        keys.push((host_key, "host", KeyRecipient::X25519(identity.to_public())));
    }
    let written = new.write(store.clone(), config.host.clone(), &keys).await;
    let vault = match written {
        Ok(vault) => vault,
        Err(e) => {
            // Identities of a vault that was not made are worth nothing and would be in the way.
            for path in [args.recovery_out.as_ref(), config.identity_file.as_ref()].into_iter().flatten() {
                let _ = std::fs::remove_file(path);
            }
            return Err(e);
        }
    };
    access::write_trust(&trust, &vault)?;
    keyring::keep_copies(&vault, &config.state_dir.join("keys")).await?;

    if context.global.json {
        json(&serde_json::json!({
            "host": config.host, "repository": store.url(), "vault": header.vault, "fingerprint": secret.fingerprint(),
            "identity_file": config.identity_file, "recovery_file": args.recovery_out, "sealed": config.identity_file.is_none(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{} vault of host {} in {}", good("made"), config.host, store.url()))?;
    say(&format!("  fingerprint        {}", secret.fingerprint()))?;
    match &config.identity_file {
        Some(path) => say(&format!("  host identity      {}", path.display()))?,
        None => say("  host identity      none: this host is sealed, it backs up and cannot read")?,
    }
    if let Some(path) = &args.recovery_out {
        say(&format!("  recovery identity  {}", path.display()))?;
        say("")?;
        say(&notice(
            "Take the recovery identity off this host now: print it, or put it on a USB stick, and keep it with",
        ))?;
        say(&notice("the repository's URL. Without it, or another recovery key, a lost host cannot be restored."))?;
        say(&format!("Then prove it where it is kept: backstay --identity {} key check", path.display()))?;
    } else if let Some(recipient) = &args.recovery_recipient {
        say(&format!("  recovery recipient {recipient}"))?;
        say("")?;
        say(&notice(
            "Only the identity of that recipient, or another recovery key, opens the vault when this host is lost.",
        ))?;
        say("Prove it where it is kept: backstay --identity FILE key check")?;
    } else {
        say("  recovery key       a passphrase")?;
        say("")?;
        say(&notice(
            "Keep the passphrase off this host, with the repository's URL: the file that it was read from may be lost with it.",
        ))?;
        say("Prove it where it is kept: backstay --passphrase-file FILE key check")?;
    }
    Ok(ExitCode::SUCCESS)
}
