//! Extended attributes, ACLs and file capabilities among them.

use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names and values, by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Those of a path, not of what a link points at; none when it has vanished.
pub fn of_path(path: &[u8]) -> Result<Xattrs, Errno> {
    let path = Path::new(OsStr::from_bytes(path));
    match collect(
        |buffer| rustix::fs::llistxattr(path, buffer),
        |name, buffer| rustix::fs::lgetxattr(path, name, buffer),
    ) {
        Err(Errno::NOENT) => Ok(Vec::new()),
        other => other,
    }
}

/// Those of an open file.
pub fn of_file(file: &File) -> Result<Xattrs, Errno> {
    collect(|buffer| rustix::fs::flistxattr(file, buffer), |name, buffer| rustix::fs::fgetxattr(file, name, buffer))
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&std::ffi::CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Xattrs, Errno> {
    let mut names = vec![0u8; 256];
    let length = loop {
        match list(&mut names) {
            Ok(n) => break n,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        }
    };
    let mut found = Xattrs::new();
    for name in names[..length].split_inclusive(|b| *b == 0) {
        let Ok(c_name) = std::ffi::CStr::from_bytes_with_nul(name) else { continue };
        // The kernel's own bookkeeping, which it makes anew.
        if c_name.to_bytes().starts_with(b"system.nfs4")
            || c_name.to_bytes() == b"security.ima"
            || c_name.to_bytes() == b"security.evm"
        {
            continue;
        }
        let mut value = vec![0u8; 256];
        let length = loop {
            match get(c_name, &mut value) {
                Ok(n) => break Some(n),
                Err(Errno::RANGE) => value.resize(value.len() * 4, 0),
                // Gone since it was listed, or not for us to read.
                Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => break None,
                Err(e) => return Err(e),
            }
        };
        if let Some(n) = length {
            value.truncate(n);
            found.push((c_name.to_bytes().to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}
