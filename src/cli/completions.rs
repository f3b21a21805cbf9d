//! `backstay completions`

use crate::error::Result;
use clap::CommandFactory;
use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Shell
    shell: clap_complete::Shell,
}

/// Prints the script.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "backstay", &mut script);
    super::output::raw(&script)?;
    Ok(ExitCode::SUCCESS)
}
