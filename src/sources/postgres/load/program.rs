//! A `pg_restore`: its arguments and settings, and its input.

use super::{Loaded, Options, SETTINGS, Tools, What};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::sources::postgres::connect::{Server, conninfo_value};
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// A setting of sessions that fill tables which have their triggers and foreign keys already.
pub(super) fn replica(options: &Options) -> Option<(&'static str, &'static str)> {
    (options.what == What::Data && options.replica).then_some(("session_replication_role", "replica"))
}

/// A `pg_restore` into a database.
pub(super) fn restore(server: &Server, tools: &Tools, name: &str, options: &Options, args: &[&str]) -> Program {
    let mut all =
        vec!["--exit-on-error".to_owned(), "--no-password".into(), format!("--dbname=dbname={}", conninfo_value(name))];
    for (set, flag) in [
        (options.no_owner, "--no-owner"),
        (options.no_privileges, "--no-privileges"),
        (options.no_tablespaces || options.scratch, "--no-tablespaces"),
    ] {
        if set {
            all.push(flag.into());
        }
    }
    all.extend(args.iter().map(|a| (*a).to_owned()));
    let mut program = server.program(&tools.pg_restore, all);
    let mut settings = SETTINGS.to_owned();
    if let Some((name, value)) = replica(options) {
        settings.push_str(&format!(" -c {name}={value}"));
    }
    program.env.0.push(("PGOPTIONS".to_owned(), settings));
    program
}

/// Gives a program its input, and reads its exit status. One that wants the whole must take all of it.
pub(super) async fn feed(
    program: Program,
    first: Vec<u8>,
    mut rest: mpsc::Receiver<Result<Bytes>>,
    whole: bool,
    loaded: &mut Loaded,
) -> Result<()> {
    let (running, mut input) = program.writing().await?;
    let mut next = Some(Ok(Bytes::from(first)));
    let mut broken = None;
    while let Some(piece) = next {
        if let Err(e) = input.write_all(&piece?).await {
            // It is gone; its exit status says why.
            broken = Some(Error::new(Kind::Restore, "pg_restore stopped reading").because(e));
            break;
        }
        next = rest.recv().await;
    }
    let ended = input.shutdown().await;
    drop(input);
    loaded.warnings.extend(running.finish(Kind::Restore).await?);
    if let Some(e) = broken {
        return if whole { Err(e) } else { Ok(()) };
    }
    ended
        .or_else(|e| if e.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
        .map_err(|e| Error::new(Kind::Restore, "the input of pg_restore cannot be ended").because(e))
}
