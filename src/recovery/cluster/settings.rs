//! What a new cluster takes over from the data directory of the old one, besides its content: settings, access rules,
//! certificates.

use super::copy;
use super::made::{cannot, quoted};
use super::work::Stop;
use crate::error::Result;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::cluster::Owner;
use std::fs::{File, Metadata};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// Files of a data directory that belong to what is in it. The others are settings, certificates, and what was put there.
const CONTENT: &[&str] =
    &["PG_VERSION", "base", "global", "log", "postmaster.pid", "postmaster.opts", "current_logfiles"];
/// The same, by how their names begin.
const CONTENT_BEGINS: &[&str] = &["pg_", "backup_label", "tablespace_map", "standby.signal", "recovery.", "core"];
/// Access rules where none are left: everybody with a password, from this machine.
const PASSWORDS: &str =
    "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n";
/// A file of settings is no larger. Bytes.
const LARGEST: u64 = 1 << 20;

/// Something in a data directory that is no content.
struct Setting {
    from: PathBuf,
    name: String,
    meta: Metadata,
}

/// Settings, certificates, and what was put into a data directory: files, directories and links.
fn settings_of(data: &Path) -> Vec<Setting> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_content = CONTENT.contains(&name.as_str()) || CONTENT_BEGINS.iter().any(|b| name.starts_with(b));
        // Two of the settings begin like what is content.
        if is_content && !["pg_hba.conf", "pg_ident.conf"].contains(&name.as_str()) {
            continue;
        }
        let from = entry.path();
        if let Ok(meta) = from.symlink_metadata()
            && (meta.is_dir() || meta.is_file() || meta.is_symlink())
        {
            found.push(Setting { from, name, meta });
        }
    }
    found
}

/// Files of a data directory that are no content, and too large to be settings: they stay where they are.
pub fn too_large(data: &Path) -> Vec<String> {
    let large = settings_of(data).into_iter().filter(|s| s.meta.is_file() && s.meta.len() > LARGEST);
    let mut names: Vec<String> = large.map(|s| s.name).collect();
    names.sort();
    names
}

/// Takes over settings, access rules and certificates from an old data directory, right before the new one takes its
/// place: its server would go by them. With `inside` they are all there are, and where there are none any more it is said
/// where the server listened. Done twice it is done once.
///
/// # Errors
/// [`crate::error::Kind::Restore`] when they cannot be read or written.
pub fn adopt(old: &Path, new: &Path, inside: bool, listens: &Address, owner: &Owner) -> Result<()> {
    let mut has_settings = false;
    for Setting { from, name, meta } in settings_of(old) {
        let to = new.join(&name);
        let failed = cannot("a file of settings cannot be taken over", &from);
        if meta.is_dir() {
            copy::tree(&from, &to, &Stop::default())?;
            continue;
        }
        if meta.is_file() && meta.len() > LARGEST {
            continue;
        }
        // What a link leads to counts, and is not written through it.
        has_settings |= name == "postgresql.conf" && from.metadata().is_ok_and(|m| m.len() > 0);
        if let Err(e) = std::fs::remove_file(&to)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(e));
        }
        if meta.is_symlink() {
            copy::link(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).and_then(|_| chown(&to, Some(owner.uid), Some(owner.gid))).map_err(failed)?;
        }
    }
    if inside && !has_settings {
        say_where(old, new, listens)?;
    }
    let synced = File::open(new).and_then(|d| rustix::fs::syncfs(&d).map_err(std::io::Error::from));
    synced.map_err(cannot("settings of the new cluster cannot be synced", new))
}

/// Settings and access rules where none are left.
fn say_where(old: &Path, new: &Path, listens: &Address) -> Result<()> {
    let path = new.join("postgresql.conf");
    let failed = cannot("settings of the new cluster cannot be written", &path);
    let mut lines = format!("\nport = {}\n", listens.port());
    if listens.host().starts_with('/') {
        lines.push_str(&format!("unix_socket_directories = {}\n", quoted(listens.host())));
    }
    let text = std::fs::read_to_string(&path).map_err(&failed)?;
    if !text.ends_with(&lines) {
        std::fs::write(&path, text + &lines).map_err(&failed)?;
    }
    // Who comes with a password is not one whom the operating system vouches for.
    if listens.password().is_some() && !old.join("pg_hba.conf").exists() {
        std::fs::write(new.join("pg_hba.conf"), PASSWORDS).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn settings_are_taken_over_and_content_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (old, data) = (dir.path().join("old"), dir.path().join("new"));
        std::fs::create_dir_all(old.join("conf.d")).unwrap();
        std::fs::create_dir_all(old.join("pg_xact")).unwrap();
        std::fs::create_dir(&data).unwrap();
        for name in ["postgresql.conf", "pg_hba.conf", "server.key", "conf.d/x.conf", "PG_VERSION", "postmaster.pid"] {
            std::fs::write(old.join(name), name).unwrap();
        }
        std::fs::write(old.join("postgresql.auto.conf"), "work_mem = '7MB'\n").unwrap();
        std::fs::write(old.join("heap.dump"), vec![0; LARGEST as usize + 1]).unwrap();
        std::os::unix::fs::symlink("/etc/ssl/certs/nobody.pem", old.join("server.crt")).unwrap();
        std::fs::write(data.join("postgresql.conf"), "# as initdb wrote it\n").unwrap();
        let me = std::fs::metadata(&data).unwrap();
        let owner = Owner { uid: me.uid(), gid: me.gid(), name: None };
        let listens = Address::parse("postgresql://postgres@localhost:5433/erp?host=/run/it's").unwrap();
        // Killed in between, it is done once more.
        for _ in 0..2 {
            adopt(&old, &data, true, &listens, &owner).unwrap();
        }
        assert_eq!(std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap(), "work_mem = '7MB'\n");
        assert_eq!(std::fs::read_link(data.join("server.crt")).unwrap(), Path::new("/etc/ssl/certs/nobody.pem"));
        assert!(!data.join("heap.dump").exists());
        assert_eq!(too_large(&old), ["heap.dump"]);
        for name in ["postgresql.conf", "pg_hba.conf", "server.key", "conf.d/x.conf"] {
            assert_eq!(std::fs::read_to_string(data.join(name)).unwrap(), name);
        }
        assert!(
            !data.join("PG_VERSION").exists()
                && !data.join("postmaster.pid").exists()
                && !data.join("pg_xact").exists()
        );
        // Of one of which nothing is left.
        std::fs::write(data.join("postgresql.conf"), "# as initdb wrote it\n").unwrap();
        // Where they are in /etc nothing is said.
        adopt(&dir.path().join("gone"), &data, false, &listens, &owner).unwrap();
        for _ in 0..2 {
            adopt(&dir.path().join("gone"), &data, true, &listens, &owner).unwrap();
        }
        let text = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
        assert_eq!(text, "# as initdb wrote it\n\nport = 5433\nunix_socket_directories = '/run/it''s'\n");
    }
}
