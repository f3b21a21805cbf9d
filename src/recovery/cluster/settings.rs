//! What a new cluster takes over from the data directory of the old one, besides its content: settings, access rules,
//! certificates.

use super::copy::{self, is_anothers};
use super::made::{cannot, quoted};
use crate::error::{Kind, Result};
use crate::recovery::inner::copy_meta;
use crate::sources::postgres::address::Address;
use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
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
/// What a directory of settings holds at most, in bytes and in names: an archive of the log is none.
const LARGEST_DIRECTORY: (u64, usize) = (16 << 20, 1_000);
/// How names end of what a server does not start without; a directory `conf.d` too.
const VITAL: &[&str] = &["conf", "d", "crt", "cer", "pem", "key", "crl"];
/// Says in a new data directory that everything was taken over.
const ADOPTED: &str = ".backstay-adopted";

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
        if name == ADOPTED {
            continue;
        }
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

impl Setting {
    /// Whether it is small enough to be settings. A link is.
    fn fits(&self) -> bool {
        match (self.meta.is_dir(), self.meta.is_file()) {
            (true, _) => {
                let (mut bytes, mut names) = LARGEST_DIRECTORY;
                holds(&self.from, &mut bytes, &mut names)
            }
            (_, true) => self.meta.len() <= LARGEST,
            _ => true,
        }
    }
}

/// Whether a directory holds no more than that; it is looked at no further than to the first name beyond.
fn holds(directory: &Path, bytes: &mut u64, names: &mut usize) -> bool {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        let size = if meta.is_file() { meta.len() } else { 0 };
        if *names == 0 || size > *bytes {
            return false;
        }
        (*bytes, *names) = (*bytes - size, *names - 1);
        if meta.is_dir() && !holds(&entry.path(), bytes, names) {
            return false;
        }
    }
    true
}

/// What is not as it was.
#[derive(Default)]
struct Told {
    /// What stays where it is, since it cannot be read.
    left: Vec<String>,
    /// What becomes the server's.
    given: Vec<String>,
}

/// What cannot be read is left where it is, unless the server needs it.
fn spared(path: &Path, e: std::io::Error, told: &mut Told) -> Result<()> {
    if path.extension().is_some_and(|end| VITAL.iter().any(|v| end == *v)) {
        return Err(cannot("a file of settings cannot be read", path)(e));
    }
    told.left.push(path.display().to_string());
    Ok(())
}

/// The mode of what becomes the server's: its group gets what everybody had. So nobody gets a right that he did not have, and
/// the server takes a key for one that only it can read.
fn as_its_own(mode: u32, is_directory: bool) -> u32 {
    let others = mode & 0o7;
    (mode & 0o700) | (others << 3) | others | if is_directory { 0o500 } else { 0o400 }
}

/// Owner, mode and attributes. An agent that is not root is the server's user and gives nothing away: what was somebody else's
/// becomes its own, which could read it.
fn dress(from: &Path, to: &Path) -> Result<()> {
    let failed = cannot("a file of settings cannot be taken over", to);
    let meta = from.metadata().map_err(&failed)?;
    match chown(to, Some(meta.uid()), Some(meta.gid())) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            let mode = as_its_own(meta.mode(), meta.is_dir());
            std::fs::set_permissions(to, Permissions::from_mode(mode)).map_err(failed)
        }
        Err(e) => Err(failed(e)),
        Ok(()) => copy_meta(from, to),
    }
}

/// What is in a directory.
fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)?.map(|e| e.map(|e| e.path())).collect()
}

/// Brings a file, a link or a directory; without a place to bring it to it only tries.
fn bring(from: &Path, to: Option<&Path>, told: &mut Told) -> Result<()> {
    let meta = match from.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) => return spared(from, e, told),
    };
    let failed = to.map(|to| cannot("a file of settings cannot be taken over", to));
    if meta.is_dir() {
        let within = match entries(from) {
            Ok(within) => within,
            Err(e) => return spared(from, e, told),
        };
        if let (Some(to), Some(failed)) = (to, &failed) {
            copy::remove(to)?;
            std::fs::create_dir(to).map_err(failed)?;
        }
        for path in within {
            let to = to.map(|to| to.join(path.file_name().unwrap_or_default()));
            bring(&path, to.as_deref(), told)?;
        }
        if is_anothers(&meta) {
            told.given.push(from.display().to_string());
        }
        return to.map_or(Ok(()), |to| dress(from, to));
    }
    let content = match meta.is_file().then(|| std::fs::read(from)).transpose() {
        Ok(content) => content,
        Err(e) => return spared(from, e, told),
    };
    // Whose a link is is of no account.
    if meta.is_file() && is_anothers(&meta) {
        told.given.push(from.display().to_string());
    }
    let (Some(to), Some(failed)) = (to, &failed) else { return Ok(()) };
    if let Err(e) = std::fs::remove_file(to)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(failed(e));
    }
    match content {
        // The owner too: a key of root's may be read by a group, and one of the server's own may not.
        Some(content) => std::fs::write(to, content).map_err(failed).and_then(|()| dress(from, to)),
        None if meta.is_symlink() => copy::link(from, to),
        None => Ok(()),
    }
}

/// What in a data directory is no content and will not be taken over, or not as it was, in words.
///
/// # Errors
/// [`Kind::Refused`] for what cannot be read and a server needs.
pub fn warnings(data: &Path) -> Result<Vec<String>> {
    let (fit, large): (Vec<Setting>, Vec<Setting>) = settings_of(data).into_iter().partition(Setting::fits);
    let mut large: Vec<String> = large.into_iter().map(|s| s.name).collect();
    large.sort();
    let mut told = Told::default();
    for setting in &fit {
        bring(&setting.from, None, &mut told).map_err(|e| {
            e.kind(Kind::Refused).hint("Mend it, or move it away: what is not there is not taken over.")
        })?;
    }
    let warnings = [
        ("in the old directory, and not taken over (too large to be settings)", large),
        ("in the old directory, and not taken over (no settings, and cannot be read)", told.left),
        ("the server's own afterwards, since only root gives files away", told.given),
    ];
    let warnings = warnings.into_iter().filter(|(_, names)| !names.is_empty());
    Ok(warnings.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect())
}

/// Takes over settings, access rules and certificates from an old data directory, right before the new one takes its
/// place for the first time: its server would go by them. With `inside` they are all there are, and where there are none any more
/// it is said where the server listened. Once all is done it is not done again: what was set in the new one since is its own.
///
/// # Errors
/// [`Kind::Restore`] when they cannot be read or written.
pub fn adopt(old: &Path, new: &Path, inside: bool, listens: &Address) -> Result<()> {
    let adopted = new.join(ADOPTED);
    if adopted.exists() {
        return Ok(());
    }
    let mut has_settings = false;
    for setting in settings_of(old).into_iter().filter(Setting::fits) {
        // What a link leads to counts, and is not written through it.
        has_settings |= setting.name == "postgresql.conf" && setting.from.metadata().is_ok_and(|m| m.len() > 0);
        // What is spared here was told before.
        bring(&setting.from, Some(&new.join(&setting.name)), &mut Told::default())?;
    }
    if inside && !has_settings {
        say_where(old, new, listens)?;
    }
    let synced = || File::open(new).and_then(|d| rustix::fs::syncfs(&d).map_err(std::io::Error::from));
    let failed = cannot("settings of the new cluster cannot be synced", new);
    synced().map_err(&failed)?;
    // The server's own: it reads every file of its directory when it makes a standby.
    new.metadata()
        .and_then(|meta| {
            std::fs::write(&adopted, "")?;
            std::fs::set_permissions(&adopted, Permissions::from_mode(0o600))?;
            chown(&adopted, Some(meta.uid()), Some(meta.gid()))
        })
        .and_then(|()| synced())
        .map_err(failed)
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
        // A key of root's, which the server may read as one of a group.
        std::fs::set_permissions(old.join("server.key"), Permissions::from_mode(0o640)).unwrap();
        chown(old.join("server.key"), None, Some(12_345)).unwrap();
        // An archive of the log, by its size and by its number of files.
        for name in ["archive", "wal"] {
            std::fs::create_dir_all(old.join(name).join("deep")).unwrap();
        }
        File::create(old.join("archive/deep/1")).unwrap().set_len(LARGEST_DIRECTORY.0 + 1).unwrap();
        (0..LARGEST_DIRECTORY.1).for_each(|n| std::fs::write(old.join(format!("wal/deep/{n}")), "").unwrap());
        let listens = Address::parse("postgresql://postgres@localhost:5433/erp?host=/run/it's").unwrap();
        // Killed in between, it is done once more.
        for _ in 0..2 {
            let _ = std::fs::remove_file(data.join(ADOPTED));
            adopt(&old, &data, true, &listens).unwrap();
        }
        let key = std::fs::metadata(data.join("server.key")).unwrap();
        assert_eq!((key.gid(), key.mode() & 0o777), (12_345, 0o640));
        assert_eq!(std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap(), "work_mem = '7MB'\n");
        assert_eq!(std::fs::read_link(data.join("server.crt")).unwrap(), Path::new("/etc/ssl/certs/nobody.pem"));
        let told = "in the old directory, and not taken over (too large to be settings): archive, heap.dump, wal";
        assert_eq!(warnings(&old).unwrap(), [told]);
        assert!(["heap.dump", "archive", "wal"].iter().all(|name| !data.join(name).exists()));
        for name in ["postgresql.conf", "pg_hba.conf", "server.key", "conf.d/x.conf"] {
            assert_eq!(std::fs::read_to_string(data.join(name)).unwrap(), name);
        }
        assert!(
            !data.join("PG_VERSION").exists()
                && !data.join("postmaster.pid").exists()
                && !data.join("pg_xact").exists()
        );
        // It was in place, and its own settings count.
        std::fs::write(data.join("postgresql.auto.conf"), "work_mem = '8MB'\n").unwrap();
        adopt(&old, &data, true, &listens).unwrap();
        assert_eq!(std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap(), "work_mem = '8MB'\n");
        // Of one of which nothing is left.
        std::fs::write(data.join("postgresql.conf"), "# as initdb wrote it\n").unwrap();
        // Where they are in /etc nothing is said.
        for inside in [false, true, true] {
            std::fs::remove_file(data.join(ADOPTED)).unwrap();
            adopt(&dir.path().join("gone"), &data, inside, &listens).unwrap();
        }
        let text = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
        assert_eq!(text, "# as initdb wrote it\n\nport = 5433\nunix_socket_directories = '/run/it''s'\n");
    }

    #[test]
    fn what_cannot_be_read_stays_unless_the_server_needs_it() {
        let mut told = Told::default();
        let bad = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for name in ["notes", "backups/monday.tar", "core"] {
            spared(Path::new(name), bad(), &mut told).unwrap();
        }
        assert_eq!(told.left, ["notes", "backups/monday.tar", "core"]);
        for name in ["pg_hba.conf", "conf.d", "conf.d/x.conf", "server.key", "ca.pem"] {
            assert!(spared(Path::new(name), bad(), &mut told).is_err(), "{name}");
        }
    }

    #[test]
    fn what_becomes_the_servers_is_for_nobody_who_could_not_have_it_before() {
        for (mode, is_directory, its_own) in [
            (0o640, false, 0o600),
            (0o644, false, 0o644),
            (0o040, false, 0o400),
            (0o750, true, 0o700),
            (0o755, true, 0o755),
            (0o4750, false, 0o700),
        ] {
            assert_eq!(as_its_own(mode, is_directory), its_own, "{mode:o}");
        }
    }
}
