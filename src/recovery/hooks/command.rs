//! Programs of a hook.

use super::{HookContext, Target, role_of};
use crate::config::checks::{Hook, InDatabase, Task, When};
use crate::error::{Error, Kind, Result};
use crate::sources::command::Bound;
use crate::sources::command::run::{Given, Runner, database_url};
use crate::sources::postgres::attributes::{Attributes, Setting};
use crate::sources::postgres::connect::{Server, ident};
use crate::sources::postgres::session::Session;
use std::collections::{BTreeMap, BTreeSet};
use tokio::io::AsyncReadExt;

/// Bytes of the end of the output that are kept for the message of a failure.
const KEPT: usize = 4000;

/// Runs the program of a hook.
pub(super) async fn run(hook: &Hook, target: Option<&Target>, context: &HookContext) -> Result<()> {
    let Task::Command { argv, runner, place, role, .. } = &hook.task else {
        return Err(Error::new(Kind::Internal, "the hook has no program"));
    };
    let (Some(place), Some(target)) = (place.as_deref(), target) else {
        return call(hook, argv, runner, given(hook, None, context)).await;
    };
    let server = place.server.address.reach().await?;
    let admin = server.admin_beside(&target.now).await?;
    let role = role_of(&admin, target, role.as_deref(), &server.user).await?;
    let mut given = given(hook, Some((place, &server, target)), context);
    if hook.when == When::AfterSwap {
        // What is live has its own settings, and keeps them.
        given.env.extend(role.map(|role| ("PGOPTIONS".to_owned(), format!("-c role={}", escaped(&role)))));
        return call(hook, argv, runner, given).await;
    }
    dress(&admin, target, role.as_deref()).await?;
    let ran = call(hook, argv, runner, given).await;
    let undressed = undress(&admin, target).await;
    ran.and(undressed)
}

/// Runs what takes it back.
pub(super) async fn undo(hook: &Hook, argv: &[String], target: Option<&Target>, context: &HookContext) -> Result<()> {
    let Task::Command { runner, place, .. } = &hook.task else { return Ok(()) };
    let given = match (place.as_deref(), target) {
        (Some(place), Some(target)) => {
            let server = place.server.address.reach().await?;
            given(hook, Some((place, &server, target)), context)
        }
        _ => given(hook, None, context),
    };
    call(hook, argv, runner, given).await
}

/// A value in `PGOPTIONS`.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(' ', "\\ ")
}

/// Gives what is staged the settings of the live database, and lets whoever connects make objects for its owner. Both
/// come with the name only, and for whoever connects as an administrator the second never does.
async fn dress(admin: &Session, target: &Target, role: Option<&str>) -> Result<()> {
    let failed = |e: crate::sources::postgres::session::SqlError| {
        e.says("the staging database cannot be prepared").kind(Kind::Restore)
    };
    let mut statements = vec![format!("ALTER DATABASE {} RESET ALL", ident(&target.now))];
    // A database that is gone has none.
    if let Ok(Attributes { settings, .. }) = Attributes::read(admin, &target.live).await {
        let settings: Vec<Setting> = settings.into_iter().filter(|s| s.role.is_none()).collect();
        statements.extend(Attributes { settings, ..Attributes::default() }.statements(&target.now, &BTreeSet::new()).0);
    }
    if let Some(role) = role {
        statements.push(format!("ALTER DATABASE {} SET role TO {}", ident(&target.now), ident(role)));
    }
    admin.run_all(&statements).await.map_err(failed)
}

async fn undress(admin: &Session, target: &Target) -> Result<()> {
    let reset = format!("ALTER DATABASE {} RESET ALL", ident(&target.now));
    admin.run(&reset).await.map_err(|e| e.says("a setting of the staging database cannot be taken back"))
}

/// What the program is told.
fn given(hook: &Hook, database: Option<(&InDatabase, &Server, &Target)>, context: &HookContext) -> Given {
    let mut given = match database {
        None => Given::default(),
        Some((place, server, target)) => {
            let bound = Bound { server: place.server.clone(), name: target.live.clone(), prepare: None };
            bound.given(server, &target.now)
        }
    };
    given.words.push(("{restore}", context.restore.clone()));
    let mut set = |name: &str, value: String| given.env.push((name.to_owned(), value));
    set("BACKSTAY_HOOK", hook.when.key().to_owned());
    set("BACKSTAY_BACKUP_ID", context.backup.clone());
    set("BACKSTAY_RESTORE_ID", context.restore.clone());
    for (n, path) in context.paths.iter().enumerate() {
        set(&format!("BACKSTAY_PATH_{}", n + 1), path.live.display().to_string());
        if hook.when == When::AfterStage {
            set(&format!("BACKSTAY_STAGING_PATH_{}", n + 1), path.staging.display().to_string());
        }
    }
    let only = match &context.databases[..] {
        [one] => Some((one.live.clone(), one.staging.clone())),
        _ => None,
    };
    let staging = hook.when == When::AfterStage;
    match database {
        Some((_, server, target)) => {
            set("BACKSTAY_DATABASE", target.live.clone());
            if staging {
                set("BACKSTAY_STAGING_DATABASE", target.now.clone());
                let mut open: BTreeMap<String, String> = server.env().into_iter().collect();
                open.remove("PGPASSWORD");
                open.insert("PGDATABASE".to_owned(), target.now.clone());
                set("BACKSTAY_STAGING_URL", database_url(&open));
            }
        }
        // Of several nobody could tell which.
        None => {
            if let Some((live, staged)) = only {
                set("BACKSTAY_DATABASE", live);
                if staging {
                    set("BACKSTAY_STAGING_DATABASE", staged);
                }
            }
        }
    }
    given
}

async fn call(hook: &Hook, argv: &[String], runner: &Runner, given: Given) -> Result<()> {
    let call = runner.call("command", argv, hook.timeout, &given).await?;
    let (running, mut output) = call.program().reading().await.map_err(|e| call.tell(e))?;
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    loop {
        let read = output.read(&mut buffer).await;
        match read.map_err(|e| call.tell(Error::new(Kind::Restore, "its output cannot be read").because(e)))? {
            0 => break,
            n => kept.extend_from_slice(&buffer[..n]),
        }
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    let ended = running.ended(Kind::Restore).await.map_err(|e| call.tell(e))?;
    if ended.code == Some(0) {
        return Ok(());
    }
    // Some programs say why they fail on the wrong one of the two.
    let mut said = ended.stderr.join("\n");
    if said.trim().is_empty() {
        said = String::from_utf8_lossy(&kept).into_owned();
    }
    Err(call.tell(Error::new(Kind::Restore, format!("it ended with {}", ended.how)).because(said)))
}
