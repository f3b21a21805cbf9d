//! Users of this machine, as the system's own name service knows them.

use super::exec::Program;
use crate::error::{Error, Kind, Result};

/// What a program that runs as this user needs to know.
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// Looks up a user by name. Through `getent`, since not every user is in `/etc/passwd`.
///
/// # Errors
/// [`Kind::Source`] when there is none.
pub async fn find(name: &str) -> Result<User> {
    let unknown = || {
        Error::new(Kind::Source, format!("this machine has no user {name}"))
            .hint("Correct the name, or leave it out to run as the agent's own user.")
    };
    let valid = !name.is_empty() && !name.starts_with('-') && !name.bytes().all(|b| b.is_ascii_digit());
    if !valid {
        return Err(unknown());
    }
    // It calls itself for another place only, hence the box.
    let line = Box::pin(Program::new("getent", ["passwd", name]).output()).await;
    let line = line.map_err(|e| if e.what.contains("exit status 2") { unknown() } else { e })?;
    let line = String::from_utf8_lossy(&line);
    let fields: Vec<&str> = line.lines().next().unwrap_or_default().split(':').collect();
    match fields[..] {
        [name, _, uid, gid, _, home, ..] => Ok(User {
            name: name.to_owned(),
            uid: uid.parse().map_err(|_| unknown())?,
            gid: gid.parse().map_err(|_| unknown())?,
            home: home.to_owned(),
        }),
        _ => Err(unknown()),
    }
}
