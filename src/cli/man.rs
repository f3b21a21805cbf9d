//! `backstay man`: the manual pages, made from the command line's own description. For packages.

use crate::error::{Error, Result};
use clap::CommandFactory;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to write them
    directory: PathBuf,
}

/// Writes one page for each command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let failed = |e| Error::io("the manual pages cannot be written", &args.directory, e);
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(super::Cli::command(), &args.directory).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
