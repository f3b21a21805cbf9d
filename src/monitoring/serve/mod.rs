//! `backstay serve`: metrics, health and a page over HTTP. It looks at the repository now and then, notices runs that were
//! killed, and tells systemd that it lives.
//!
//! It keeps nothing in memory that matters: each answer is made of the files of the state directory, so it shows what other
//! commands did a moment ago, and starting it again loses nothing.

mod chart;
mod http;
pub mod notify;
mod page;

use super::deliver;
use super::overview::Overview;
use super::problems::problems;
use super::view::View;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::size;
use crate::telemetry::monitor::{Event, Monitor};
use crate::telemetry::runs::store::Store;
use notify::Notify;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A look at the repository may take so long.
const LOOK: Duration = Duration::from_secs(120);
/// How often it is looked whether a run was killed.
const TICK: Duration = Duration::from_secs(5);

/// What answers are made of.
pub struct State {
    /// The configuration.
    pub config: Config,
    /// True once the repository was seen, by this or an earlier process.
    pub ready: AtomicBool,
}

/// Serves until it is stopped.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    config: Config,
    monitor: Arc<dyn Monitor>,
    stopped: impl Future<Output = &'static str>,
) -> Result<()> {
    let listen = config.serve.listen;
    let listener = TcpListener::bind(listen).await.map_err(|e| {
        Error::new(Kind::Config, "the address cannot be listened on")
            .at(listen)
            .because(e)
            .hint("Give another one with --listen, or stop what listens there.")
    })?;
    let address = listener.local_addr().unwrap_or(listen);
    monitor.event(Event::Stage(format!("listening on http://{address}/")));
    let ready = AtomicBool::new(View::remembered(&config).is_some());
    let state = Arc::new(State { config, ready });
    let notify = Notify::from_environment();
    notify.tell("READY=1");
    let tasks = [
        tokio::spawn(http::accept(listener, state.clone())),
        tokio::spawn(look_again_and_again(state.clone(), monitor.clone())),
        tokio::spawn(look_at_others(state.clone(), monitor.clone())),
        tokio::spawn(keep_house(state, monitor, notify.clone())),
    ];
    stopped.await;
    notify.tell("STOPPING=1");
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Looks at the other hosts of the repository that it speaks for.
async fn look_at_others(state: Arc<State>, monitor: Arc<dyn Monitor>) {
    let config = &state.config;
    let mut failing = BTreeSet::new();
    loop {
        for host in config.serve.hosts.iter().filter(|host| **host != config.host) {
            match View::look_at(config, host, LOOK).await {
                Ok(_) => {
                    failing.remove(host);
                }
                Err(e) => {
                    if failing.insert(host) {
                        let hint = e.hint.as_deref().unwrap_or_default();
                        monitor.event(Event::Warning(format!("host {host}: {} {hint}", e.one_line())));
                    }
                }
            }
        }
        tokio::time::sleep(config.serve.refresh).await;
    }
}

async fn look_again_and_again(state: Arc<State>, monitor: Arc<dyn Monitor>) {
    let mut failing = false;
    loop {
        match View::look(&state.config, LOOK).await {
            Ok(_) => {
                state.ready.store(true, Ordering::Relaxed);
                failing = false;
            }
            // Told once, and not every quarter of an hour.
            Err(e) => {
                if !std::mem::replace(&mut failing, true) {
                    monitor.event(Event::Warning(e.one_line()));
                }
            }
        }
        tokio::time::sleep(state.config.serve.refresh).await;
    }
}

/// Notices runs that were killed, and tells systemd how things are.
async fn keep_house(state: Arc<State>, monitor: Arc<dyn Monitor>, notify: Notify) {
    let tick = notify.watchdog.map_or(TICK, |limit| (limit / 3).min(TICK));
    let mut told = String::new();
    let mut failing = false;
    let mut described = None::<Instant>;
    loop {
        notify.tell("WATCHDOG=1");
        match Store::new(&state.config.state_dir).close_lost() {
            Ok(lost) => {
                failing = false;
                let any = !lost.is_empty();
                lost.into_iter().for_each(|run| monitor.event(Event::Lost(run)));
                if any {
                    deliver::deliver(&state.config).await.iter().for_each(|e| {
                        monitor.event(Event::Warning(e.one_line()));
                    });
                }
            }
            Err(e) => {
                if !std::mem::replace(&mut failing, true) {
                    monitor.event(Event::Warning(e.one_line()));
                }
            }
        }
        if described.is_none_or(|at| at.elapsed() > TICK) {
            described = Some(Instant::now());
            let status = describe(&state.config);
            if status != told {
                notify.tell(&format!("STATUS={status}"));
                told = status;
            }
        }
        tokio::time::sleep(tick).await;
    }
}

/// One line for `systemctl status`.
fn describe(config: &Config) -> String {
    let overview = Overview::gather(config);
    let plans = size::plural(overview.plans.len() as u64, "plan");
    match problems(&overview).split_first() {
        None => format!("{plans}, no problem"),
        Some((worst, others)) => {
            format!("{plans}, {}: {}", size::plural(others.len() as u64 + 1, "problem"), worst.what)
        }
    }
}
