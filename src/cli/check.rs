//! `backstay check`

use super::context::Context;
use super::output::{bad, good, json, notice, remark, say};
use super::watch::About;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, VaultId, size};
use crate::repository::catalog::Catalog;
use crate::repository::check::{self, Depth, Part};
use crate::repository::{keyring, newest};
use crate::telemetry::monitor::Verb;
use crate::telemetry::report::{self, Report};
use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Plan; all when left out
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Read packs too: all of them, or a share (5%), which goes on where the last one ended
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "100%")]
    read_data: Option<String>,
    /// Prove a backup that another script made instead: read all of it, restore nothing
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["plan", "read_data"])]
    foreign: Option<String>,
    /// With --foreign: its name, the beginning of it, or `latest`
    #[arg(value_name = "SET", default_value = "latest", requires = "foreign")]
    set: String,
}

impl Args {
    /// What is watched of it: a look at what another script made says nothing about the vault.
    pub fn about(&self) -> Option<About> {
        self.foreign.is_none().then(|| About::vault_or(Verb::Check, self.plan.as_ref()))
    }
}

fn share(text: &str) -> Result<f64> {
    let bad =
        || Error::new(Kind::Usage, format!("{text:?} is not a share")).hint("Write --read-data, or --read-data 5%.");
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| bad())?;
    if percent > 0.0 && percent <= 100.0 { Ok(percent / 100.0) } else { Err(bad()) }
}

/// The file that says how far shares were read: one for each choice of plans, since each goes its own round.
fn note_name(vault: VaultId, plan: Option<&Name>) -> String {
    match plan {
        Some(plan) => format!("{vault}~{plan}"),
        None => vault.to_string(),
    }
}

/// Checks.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    if let Some(name) = &args.foreign {
        return super::foreign::check(context, name, &args.set).await;
    }
    let share = args.read_data.as_deref().map(share).transpose()?;
    let (config, vault) = context.vault(share.is_some()).await?;
    if share.is_some() && !vault.can_read_packs() {
        let openers = keyring::openers(&vault).await;
        let hint = format!(
            "Give the recovery identity with --identity FILE, or run `check` without --read-data: it compares names \
             and sizes.{openers}"
        );
        return Err(
            Error::new(Kind::Key, "reading data needs an identity of the vault, and this host is sealed").hint(hint)
        );
    }
    let plan: Option<Name> = args.plan.as_deref().map(str::parse).transpose()?;
    // A copy elsewhere may lag behind, and other hosts remember for themselves.
    let elsewhere = context.global.repository.is_some() || context.global.host.is_some();
    let own_state = config.as_ref().filter(|_| !elsewhere).map(|c| c.state_dir.clone());
    let note = config.map(|c| c.state_dir.join("checked").join(note_name(vault.header.vault, plan.as_ref())));
    let depth = match share {
        None => Depth::Structure,
        Some(share) if share >= 1.0 => Depth::Read(Part::ALL),
        Some(share) => Depth::Read(Part::after(note.as_deref(), share)),
    };
    // No cache: what the store has is the question.
    let catalog = Catalog::new(vault, None);
    let monitor = context.monitor("check");
    let mut report = check::check(&catalog, plan.as_ref(), depth, monitor.clone()).await?;
    if let Some(state) = &own_state {
        // Of the newest one no later backup tells.
        for hidden in newest::hidden(&catalog, state, plan.as_ref()).await? {
            if !report.missing_predecessors.contains(&hidden) {
                report.missing_predecessors.push(hidden);
            }
        }
    }
    drop(monitor);
    if let (Depth::Read(part), Some(note)) = (depth, &note)
        && part != Part::ALL
        && let Err(e) = part.note(note)
    {
        let place = note.display();
        remark(&notice(&format!("what was read cannot be noted in {place}, so the next share may be the same: {e}")));
    }
    context.report(Report::Check(report::Check {
        backups: report.backups,
        whole: report.whole,
        damaged: (report.findings.len() + report.keys.len()) as u64,
        missing_predecessors: report.missing_predecessors.len() as u64,
        packs: report.packs,
        pack_bytes: report.pack_bytes,
        packs_read: report.packs_read,
        bytes_read: report.bytes_read,
    }));
    if context.global.json {
        json(&report)?;
    } else {
        let word = if report.is_clean() { good("clean") } else { bad("damaged") };
        say(&format!("{word}: {} of {} can be restored", report.whole, size::plural(report.backups, "backup")))?;
        say(&format!(
            "  {}, {} and {} looked at",
            size::plural(report.segments, "segment"),
            size::plural(report.packs, "pack"),
            size::plural(report.key_files, "key file")
        ))?;
        if depth != Depth::Structure {
            say(&format!(
                "  {} read and opened, {}",
                size::plural(report.packs_read, "pack"),
                size::human(report.bytes_read)
            ))?;
        }
        if report.healed > 0 {
            say(&notice(&format!(
                "  {} damaged and stored again since; every backup that names them is whole",
                size::plural(report.healed, "pack")
            )))?;
        }
        if report.taken_back > 0 {
            say(&format!(
                "  {} marked as damaged before and good now; the marks were taken back",
                size::plural(report.taken_back, "object")
            ))?;
        }
        if report.marks_kept > 0 {
            say(&notice(&format!(
                "  {} marked as damaged before and good now; the marks stay by a lock of the store, or since these credentials may not delete",
                size::plural(report.marks_kept, "object")
            )))?;
        }
        for f in &report.findings {
            say(&format!("  {}  {}", bad(&f.object), f.what))?;
        }
        for (backup, n) in &report.broken {
            say(&format!("  backup {backup} lacks {}", size::plural(*n, "object")))?;
        }
        for f in &report.keys {
            say(&format!("  {}  {}", bad(&f.object), f.what))?;
        }
        if !report.keys.is_empty() {
            say(&notice(
                "Key files come back from the copies that the host keeps in its state directory, or from `key export`.",
            ))?;
        }
        for (plan, id) in &report.missing_predecessors {
            say(&bad(&format!("  backup {plan}/{id} was there and is missing, and nobody forgot it")))?;
        }
        if report.unmarked > 0 {
            say(&notice("These credentials may not write, so damaged packs could not be marked for repair."))?;
        } else if !report.findings.is_empty() {
            say("Damaged packs are marked: the next backup stores again what the host still has.")?;
        }
    }
    Ok(ExitCode::from(if report.is_clean() { 0 } else { Kind::Damaged.exit_code() }))
}
