//! What tells this machine from another one.

use crate::error::{Error, Kind, Result};
use std::path::Path;

/// Context of the derivation; part of the format.
const CONTEXT: &str = "backstay 2026 v1 machine";

/// A hash of the machine id, in 32 hex digits: the id itself should not leave the machine (machine-id(5)). A
/// machine without one gets a random id in the state directory.
///
/// # Errors
/// When neither can be read or written.
pub fn machine(state_dir: &Path) -> Result<String> {
    let of = |id: &str| crate::model::ids::to_hex(&blake3::derive_key(CONTEXT, id.trim().as_bytes())[..16]);
    if let Ok(id) = std::fs::read_to_string("/etc/machine-id")
        && id.trim().len() >= 32
    {
        return Ok(of(&id));
    }
    let path = state_dir.join("machine-id");
    if let Ok(id) = std::fs::read_to_string(&path) {
        return Ok(of(&id));
    }
    let id = crate::model::ids::to_hex(&rand::random::<[u8; 16]>());
    std::fs::create_dir_all(state_dir)
        .and_then(|()| std::fs::write(&path, &id))
        .map_err(|e| Error::io("cannot write the machine id", &path, e).kind(Kind::Config))?;
    Ok(of(&id))
}
