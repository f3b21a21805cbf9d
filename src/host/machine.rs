//! What tells this machine from another one.

use crate::error::{Error, Kind, Result};
use crate::io::durable;
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
    Ok(of(&own(state_dir)?))
}

/// The random id in the state directory, which is made unless it is there. An empty file holds none: a power cut may
/// have left it, and machines with nothing for an id would all be the same.
fn own(state_dir: &Path) -> Result<String> {
    let path = state_dir.join("machine-id");
    if let Ok(id) = std::fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return Ok(id);
    }
    let id = crate::model::ids::to_hex(&rand::random::<[u8; 16]>());
    durable::make_folder(state_dir, 0o755)
        .and_then(|()| durable::replace(&path, id.as_bytes(), 0o644))
        .map_err(|e| Error::io("cannot write the machine id", &path, e).kind(Kind::Config))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_our_own_is_made_once_and_an_empty_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("lib/backstay");
        let made = own(&state_dir).unwrap();
        assert_eq!((made.len(), own(&state_dir).unwrap()), (32, made.clone()));
        std::fs::write(state_dir.join("machine-id"), "").unwrap();
        let anew = own(&state_dir).unwrap();
        assert!(anew.len() == 32 && anew != made);
        assert_eq!(own(&state_dir).unwrap(), anew);
    }
}
