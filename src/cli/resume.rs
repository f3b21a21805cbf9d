//! `backstay resume`

use super::context::Context;
use super::output::{good, json, say};
use super::restore::open;
use crate::backup::quiesce;
use crate::error::Result;
use crate::host::docker::Docker;
use crate::model::size;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the daemon may take to come up at boot.
const AT_BOOT: Duration = Duration::from_secs(120);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Takes up the restore that is open, and puts back what a dead backup left. For the unit at boot, and by hand.
pub async fn run(context: &Context, _: Args) -> Result<ExitCode> {
    let restored = open::at_boot(context).await;
    let put_back = backups(context).await;
    let restored = restored?;
    put_back?;
    Ok(restored.unwrap_or(ExitCode::SUCCESS))
}

async fn backups(context: &Context) -> Result<()> {
    let config = context.config()?;
    // A backup that runs puts its own back.
    let _lock = context.lock(&config, "resume").await?;
    let started = Instant::now();
    while !quiesce::journals(&config.state_dir)?.is_empty()
        && Docker::connect().await.is_err()
        && started.elapsed() < AT_BOOT
    {
        tokio::time::sleep(LOOK).await;
    }
    let put_back = quiesce::replay(&config.state_dir, context.monitor("resume")).await?;
    if context.global.json {
        json(&serde_json::json!({ "put_back": put_back }))?;
    } else if put_back == 0 {
        say("nothing was left stopped")?;
    } else {
        say(&format!("{} what {} left", good("put back"), size::plural(put_back as u64, "interrupted backup")))?;
    }
    Ok(())
}
