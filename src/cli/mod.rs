//! The command line: one file per command. [`context`] turns options and configuration into open vaults,
//! [`output`] prints, [`progress`] and [`log`] show what goes on, [`watch`] tells those who are elsewhere.

pub mod context;
pub mod lock;
pub mod log;
pub mod output;
pub mod progress;
pub mod watch;

mod backup;
mod browse;
mod check;
mod completions;
mod doctor;
mod drill;
mod due;
mod foreign;
mod forget;
mod host_facts;
mod import;
mod init;
mod jobs;
mod journal;
mod key;
mod list;
mod maintenance;
mod man;
mod managed;
mod prune;
mod recover;
mod restore;
mod restores;
mod resume;
mod rollback;
mod serve;
mod show;
mod status;
mod timer;
mod unit_status;

use crate::error::{Error, Kind, Result};
use crate::host::notify::Manager;
use clap::{Parser, Subcommand};
use context::Context;
use jiff::SignedDuration;
use std::path::PathBuf;
use std::process::ExitCode;
use watch::About;

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
    /// Wait so long for other work of this host to end, like 2h; without it that is an error
    #[arg(long, global = true, value_name = "TIME", default_value = "0s", hide_default_value = true, value_parser = lock::parse_wait, help_heading = "Global options")]
    pub wait: SignedDuration,
    /// Print JSON for machines
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print nothing but errors and the result
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Log lines instead of a progress bar; `json` gives one object a line
    #[arg(long, global = true, env = "BACKSTAY_LOG", value_name = "FORM", help_heading = "Global options")]
    pub log: Option<log::Form>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make the vault of this host, its identity and a recovery identity
    Init(init::Args),
    /// Back up a plan
    Backup(backup::Args),
    /// Say how things are: problems first, plans, next runs, what is kept, keys
    Status(status::Args),
    /// Look for everything that could go wrong, and say how to mend it
    Doctor(doctor::Args),
    /// List backups
    List(list::Args),
    /// Show one backup: sources, facts, what was shipped
    Show(show::Args),
    /// List the files of a backup
    Ls(browse::LsArgs),
    /// Find files in all backups of a plan
    Find(browse::FindArgs),
    /// Write an artifact, or one file of it, to standard output
    Cat(browse::CatArgs),
    /// Restore files and databases
    Restore(Box<restore::Args>),
    /// Restore a backup into staging, for proof: verify it, measure, throw it away, and record how that went
    Drill(Box<drill::Args>),
    /// Make this fresh machine what a lost host was, out of its backups
    Recover(recover::Args),
    /// Take backups that another script made into the repository, with their own times
    Import(import::Args),
    /// Start again what a backup that was killed left stopped or paused
    Resume(resume::Args),
    /// Take the last restore back
    Rollback(rollback::Args),
    /// List the restores of this host, and what they keep
    Restores(restores::Args),
    /// Drop what restores kept and need not keep any longer
    Cleanup(rollback::CleanupArgs),
    /// Show nginx's clients a page while something is repaired, as a restore does
    Maintenance(maintenance::Args),
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
    /// Set when jobs run, by timers of systemd
    Timer(timer::Args),
    /// Serve metrics, health and a page over HTTP
    Serve(serve::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
    /// Carry out a restore that was handed to systemd
    #[command(hide = true)]
    Managed(managed::Args),
}

impl Command {
    /// What is watched: everything whose outcome matters after it ended.
    fn about(&self) -> Option<About> {
        match self {
            Command::Backup(args) => Some(args.about()),
            Command::Restore(args) => args.about(),
            Command::Drill(args) => Some(args.about()),
            Command::Rollback(args) => args.about(),
            Command::Cleanup(args) => args.about(),
            Command::Check(args) => args.about(),
            Command::Forget(args) => args.about(),
            Command::Prune(args) => args.about(),
            Command::Key(args) => args.about(),
            Command::Import(args) => Some(args.about()),
            Command::Maintenance(args) => args.about(),
            _ => None,
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if let Command::Managed(args) = &cli.command {
        cli = match managed::command(args) {
            Ok(cli) => cli,
            Err(e) => return fail(&e, cli.global.json),
        };
    }
    let json = cli.global.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&Error::new(Kind::Internal, "the runtime cannot be started").because(e), json),
    };
    let result = runtime.block_on(async {
        let manager = Manager::from_env();
        let _alive = manager.keep_alive();
        manager.ready();
        let Cli { global, command } = cli;
        let context = Context::new(global);
        // A restore or a drill that is stopped goes back first, and sees to that itself; a recovery stays where it is; to be
        // stopped is how `serve` ends.
        let sees_to_it = matches!(
            command,
            Command::Restore(_)
                | Command::Rollback(_)
                | Command::Recover(_)
                | Command::Drill(_)
                | Command::Serve(_)
        );
        // Before anybody can know of the run: one that is stopped is not to be taken for killed.
        let stopping = (!sees_to_it).then(listen);
        context.watch(command.about()).await;
        let result = match stopping {
            None => run(&context, command).await,
            Some(stopping) => tokio::select! {
                result = run(&context, command) => result,
                signal = stopping => Err(Error::new(Kind::Interrupted, format!("stopped by {signal}")).hint("Nothing was lost; the next run takes up what was uploaded.")),
            }
        };
        context.ended(&result).await;
        result
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
    listen().await
}

/// The signal to stop, from now on.
fn listen() -> impl Future<Output = &'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut term), Ok(mut int)) = signals else { return std::future::pending().await };
        let signal = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        Manager::from_env().stopping();
        signal
    }
}

fn fail(e: &Error, json: bool) -> ExitCode {
    output::error(e, json);
    ExitCode::from(e.kind.exit_code())
}

async fn run(context: &Context, command: Command) -> Result<ExitCode> {
    let says_itself = matches!(
        command,
        Command::Restore(_)
            | Command::Rollback(_)
            | Command::Recover(_)
            | Command::Status(_)
            | Command::Doctor(_)
            | Command::Completions(_)
            | Command::Man(_)
    );
    if !says_itself {
        tell_of_open_restore(context);
    }
    match command {
        Command::Init(args) => init::run(context, args).await,
        Command::Backup(args) => backup::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::List(args) => list::run(context, args).await,
        Command::Show(args) => show::run(context, args).await,
        Command::Ls(args) => browse::ls(context, args).await,
        Command::Find(args) => browse::find(context, args).await,
        Command::Cat(args) => browse::cat(context, args).await,
        Command::Restore(args) if args.is_managed() => managed::hand_over(context).await,
        Command::Restore(args) => restore::run(context, *args).await,
        Command::Drill(args) => drill::run(context, *args).await,
        Command::Recover(args) => recover::run(context, args).await,
        Command::Import(args) => import::run(context, args).await,
        Command::Resume(args) => resume::run(context, args).await,
        Command::Rollback(args) => rollback::run(context, args).await,
        Command::Restores(args) => restores::run(context, args).await,
        Command::Cleanup(args) => rollback::cleanup(context, args).await,
        Command::Maintenance(args) => maintenance::run(context, args).await,
        Command::Check(args) => check::run(context, args).await,
        Command::Forget(args) => forget::run(context, args).await,
        Command::Hold(args) => forget::hold(context, args).await,
        Command::Prune(args) => prune::run(context, args).await,
        Command::Key(args) => key::run(context, args).await,
        Command::Serve(args) => serve::run(context, args).await,
        Command::Timer(args) => timer::run(context, args).await,
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(&args),
        Command::Managed(_) => Err(Error::new(Kind::Internal, "an order was to be replaced by its command")),
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
