//! The command line: one file per command. [`context`] turns options and configuration into open vaults,
//! [`output`] prints, [`progress`] shows what goes on.

pub mod context;
pub mod output;
pub mod progress;

mod backup;
mod browse;
mod check;
mod completions;
mod forget;
mod host_facts;
mod init;
mod key;
mod list;
mod prune;
mod restore;
mod resume;
mod rollback;

use crate::error::{Error, Kind, Result};
use clap::{Parser, Subcommand};
use context::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Encrypted, deduplicated backups of a host to S3, GCS or a directory, and their way back.
#[derive(Parser, Debug)]
#[command(name = "backstay", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of all commands.
#[derive(clap::Args, Debug, Clone)]
pub struct Global {
    /// Configuration file
    #[arg(long, global = true, env = "BACKSTAY_CONFIG", value_name = "FILE", default_value = crate::config::load::DEFAULT_FILE, help_heading = "Global options")]
    pub config: PathBuf,
    /// Repository URL, instead of the configured one; with --identity no configuration is needed to read
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub repository: Option<String>,
    /// Host whose vault is meant, instead of this one
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub host: Option<String>,
    /// Identity file that opens the vault (the recovery identity, say)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub identity: Option<PathBuf>,
    /// File with the passphrase of a passphrase key
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "identity", help_heading = "Global options")]
    pub passphrase_file: Option<PathBuf>,
    /// Print JSON for machines
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print nothing but errors and the result
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make the vault of this host, its identity and a recovery identity
    Init(init::Args),
    /// Back up a plan
    Backup(backup::Args),
    /// List backups
    List(list::Args),
    /// Show one backup: sources, facts, what was shipped
    Show(list::ShowArgs),
    /// List the files of a backup
    Ls(browse::LsArgs),
    /// Find files in all backups of a plan
    Find(browse::FindArgs),
    /// Write an artifact, or one file of it, to standard output
    Cat(browse::CatArgs),
    /// Restore files and databases
    Restore(restore::Args),
    /// Start again what a backup that was killed left stopped or paused
    Resume(resume::Args),
    /// Take the last restore back
    Rollback(rollback::Args),
    /// List the restores of this host, and what they keep
    Restores(rollback::RestoresArgs),
    /// Drop what restores kept and need not keep any longer
    Cleanup(rollback::CleanupArgs),
    /// Check that what backups promise is there
    Check(check::Args),
    /// Remove backups that the plan's `keep` does not keep
    Forget(forget::Args),
    /// Keep a backup whatever the rules say
    Hold(forget::HoldArgs),
    /// Delete what no backup needs any more, in two phases
    Prune(prune::Args),
    /// Manage who can open the vault
    Key(key::Args),
    /// Print completions for a shell
    Completions(completions::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&Error::new(Kind::Internal, "the runtime cannot be started").because(e), json),
    };
    let result = runtime.block_on(async {
        // A restore that is stopped goes back first, and sees to that itself.
        if matches!(cli.command, Command::Restore(_) | Command::Rollback(_)) {
            return run(cli).await;
        }
        tokio::select! {
            result = run(cli) => result,
            signal = stopped() => Err(Error::new(Kind::Interrupted, format!("stopped by {signal}")).hint("Nothing was lost; the next run takes up what was uploaded.")),
        }
    });
    // Threads that read files may be in the middle of one: nothing they do is worth waiting for any more.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(e) => fail(&e, json),
    }
}

/// Waits for the signal to stop.
pub async fn stopped() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

fn fail(e: &Error, json: bool) -> ExitCode {
    output::error(e, json);
    ExitCode::from(e.kind.exit_code())
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let context = Context::new(cli.global);
    if !matches!(cli.command, Command::Restore(_) | Command::Rollback(_) | Command::Completions(_)) {
        tell_of_open_restore(&context);
    }
    match cli.command {
        Command::Init(args) => init::run(&context, args).await,
        Command::Backup(args) => backup::run(&context, args).await,
        Command::List(args) => list::run(&context, args).await,
        Command::Show(args) => list::show(&context, args).await,
        Command::Ls(args) => browse::ls(&context, args).await,
        Command::Find(args) => browse::find(&context, args).await,
        Command::Cat(args) => browse::cat(&context, args).await,
        Command::Restore(args) => restore::run(&context, args).await,
        Command::Resume(args) => resume::run(&context, args).await,
        Command::Rollback(args) => rollback::run(&context, args).await,
        Command::Restores(args) => rollback::restores(&context, args).await,
        Command::Cleanup(args) => rollback::cleanup(&context, args).await,
        Command::Check(args) => check::run(&context, args).await,
        Command::Forget(args) => forget::run(&context, args).await,
        Command::Hold(args) => forget::hold(&context, args).await,
        Command::Prune(args) => prune::run(&context, args).await,
        Command::Key(args) => key::run(&context, args).await,
        Command::Completions(args) => completions::run(args),
    }
}

/// A restore that was interrupted must not be forgotten, whatever else is being done.
fn tell_of_open_restore(context: &Context) {
    let Ok(config) = context.config() else { return };
    let journal = crate::recovery::restore::journal_file(&config.state_dir);
    if journal.exists() {
        let text =
            "a restore of this host was interrupted and is still open: `backstay restore --resume` or `--unwind`";
        output::remark(&output::notice(&format!("warning: {text}")));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
