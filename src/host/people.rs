//! Making users and groups, by the tools of the machine.

use super::exec::Program;
use crate::error::{Error, Kind, Result};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Time limit of one call.
const LIMIT: Duration = Duration::from_secs(60);

async fn carry_out(program: &str, args: &[&str]) -> Result<()> {
    let work =
        async { Program::new(program, args.iter().copied()).alone().await?.finish(Kind::Restore).await.map(drop) };
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::Restore, format!("{program} does not end"))))
}

/// Makes a group.
///
/// # Errors
/// [`Kind::Restore`] with what `groupadd` says.
pub async fn make_group(name: &str, id: Option<u32>, system: bool) -> Result<()> {
    let id = id.map(|id| id.to_string());
    let mut args = Vec::new();
    args.extend(system.then_some("--system"));
    args.extend(id.iter().flat_map(|id| ["--gid", id.as_str()]));
    args.extend(["--", name]);
    carry_out("groupadd", &args).await.map_err(|e| e.at(format!("group {name}")))
}

/// What a user is made of.
pub struct NewUser<'a> {
    /// Name.
    pub name: &'a str,
    /// Number; `None` takes a free one.
    pub id: Option<u32>,
    /// Main group, which is there.
    pub group: &'a str,
    /// Home directory, which is made for people.
    pub home: &'a str,
    /// Login shell.
    pub shell: &'a str,
    /// One of a package or of the system.
    pub system: bool,
}

/// Makes a user who cannot log in by a password.
///
/// # Errors
/// [`Kind::Restore`] with what `useradd` says.
pub async fn make_user(user: &NewUser<'_>) -> Result<()> {
    let id = user.id.map(|id| id.to_string());
    let mut args = vec!["--gid", user.group, "--home-dir", user.home, "--shell", user.shell];
    args.extend(if user.system { &["--system", "--no-create-home"][..] } else { &["--create-home"][..] });
    args.extend(id.iter().flat_map(|id| ["--uid", id.as_str()]));
    args.extend(["--", user.name]);
    carry_out("useradd", &args).await.map_err(|e| e.at(format!("user {}", user.name)))
}

/// Makes a user a member of a group.
///
/// # Errors
/// [`Kind::Restore`] with what `usermod` says.
pub async fn join(user: &str, group: &str) -> Result<()> {
    carry_out("usermod", &["--append", "--groups", group, "--", user])
        .await
        .map_err(|e| e.at(format!("user {user} of group {group}")))
}

/// Sets hashed passwords: lines of `NAME:HASH`. They go by standard input, since arguments can be seen by everybody.
///
/// # Errors
/// [`Kind::Restore`] with what `chpasswd` says.
pub async fn set_hashes(lines: &str) -> Result<()> {
    let work = async {
        let (running, mut input) = Program::new("chpasswd", ["--encrypted"]).writing().await?;
        let written = input.write_all(lines.as_bytes()).await;
        drop(input);
        running.finish(Kind::Restore).await?;
        written.map_err(|e| Error::new(Kind::Restore, "passwords cannot be set").because(e))
    };
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| Err(Error::new(Kind::Restore, "chpasswd does not end")))
}
