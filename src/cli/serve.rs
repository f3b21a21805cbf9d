//! `backstay serve`

use super::context::{Context, make_state_dir};
use super::due::Due;
use super::log::{Form, Log};
use super::watch::Told;
use crate::error::{Error, Kind, Result};
use crate::monitoring::serve;
use crate::telemetry::monitor::Fan;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Address and port; default: `serve.listen` of the configuration, 127.0.0.1:9814
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

/// Serves until it is stopped.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let mut config = context.config()?;
    if let Some(text) = args.listen {
        let listen: SocketAddr = text.parse().map_err(|_| {
            Error::new(Kind::Usage, format!("{text:?} is no address with a port")).hint("Write it like 127.0.0.1:9814.")
        })?;
        config.serve.listen = listen;
    }
    make_state_dir(&config.state_dir)?;
    // Nothing that it tells is due at some time.
    let told = Told::start(&config, Due::default());
    let mut listeners = told.listeners();
    if !context.global.quiet {
        listeners.push(Arc::new(Log::new(context.global.log.unwrap_or(Form::Text))));
    }
    serve::serve(config, Arc::new(Fan::new(listeners)), super::stopped()).await?;
    told.finish().await;
    Ok(ExitCode::SUCCESS)
}
