//! Settings of a cluster that reach beyond its machine: where its WAL is archived, what it fetches, which jobs it runs.

use super::place::copy;
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The main file of a cluster's settings.
const MAIN: &str = "postgresql.conf";
/// What keeps an exercise to itself, below the folder of the settings.
const ALONE: &str = "conf.d/zz-backstay-exercise.conf";
/// Why it is there.
const WHY: &str =
    "# Of `backstay recover --exercise`: the lost host may live, and this cluster must not meet its archive.\n";
/// What keeps an exercise to itself. A name with a prefix that no extension has taken is a placeholder, so the last one does
/// no harm where `pg_cron` is not.
const KEPT_BACK: &[(&str, &str)] = &[
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("max_logical_replication_workers", "0"),
    ("cron.launch_active_jobs", "off"),
    ("synchronous_standby_names", ""),
];

/// What keeps a server of an exercise to itself, as options of the server.
pub fn options() -> Vec<String> {
    KEPT_BACK.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
}

/// The same as a file of settings.
fn as_file() -> String {
    let lines = KEPT_BACK.iter().map(|(name, value)| format!("{name} = '{value}'\n"));
    std::iter::once(WHY.to_owned()).chain(lines).collect()
}

/// Keeps a cluster of an exercise from archiving, subscribing and running jobs. The file is named at the end of the main
/// one, where it counts whatever stands before it.
///
/// # Errors
/// [`Kind::Restore`] when that cannot be written; the cluster must not start then.
pub fn keep_alone(folder: &Path) -> Result<()> {
    let failed = |path: &Path, e| {
        Error::io("what keeps the cluster of an exercise to itself cannot be written", path, e).kind(Kind::Restore)
    };
    let (main, alone) = (folder.join(MAIN), folder.join(ALONE));
    let inner = alone.parent().unwrap_or(folder);
    if !inner.is_dir() {
        std::fs::create_dir(inner)
            .and_then(|()| std::fs::set_permissions(inner, PermissionsExt::from_mode(0o755)))
            .map_err(|e| failed(inner, e))?;
    }
    let text = as_file();
    if !std::fs::read(&alone).is_ok_and(|there| there == text.as_bytes()) {
        durable::replace(&alone, text.as_bytes(), 0o644).map_err(|e| failed(&alone, e))?;
    }
    let line = format!("include '{ALONE}'");
    let text = std::fs::read(&main).map_err(|e| failed(&main, e))?;
    if String::from_utf8_lossy(&text).trim_end().ends_with(&line) {
        return Ok(());
    }
    // A file of its own: this one may be a link of that which was fetched. Not by `io::durable`, since it is copied
    // with owner, mode and access list: the server reads it as its own user.
    let new = folder.join(".postgresql.conf.backstay-new");
    let _ = std::fs::remove_file(&new);
    main.metadata()
        .and_then(|meta| copy(&main, &meta, &new))
        .and_then(|()| std::fs::File::options().append(true).open(&new))
        .and_then(|mut file| {
            file.write_all(format!("\n{line}\n").as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, &main))
        .map_err(|e| failed(&main, e))
}

/// The same before a cluster gets the settings that were fetched: in those that it has, and in those that come. A boot in
/// between starts it, with some of either. A main file that comes as a link becomes a file: what the link leads to has nothing of
/// ours, and lies here already.
///
/// # Errors
/// As [`keep_alone`].
pub fn keep_alone_meanwhile(folder: &Path, staged: &Path) -> Result<()> {
    keep_alone(folder)?;
    match staged.join(MAIN).symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        _ => keep_alone(staged),
    }
}

/// What the operator should know of the settings of a cluster that takes the lost one's place.
pub fn told(folder: &Path) -> Vec<String> {
    let archives = archives(folder)
        .then(|| "archives its WAL to where the lost host did: look that nothing there is overwritten".to_owned());
    let waits = waits_for(folder).map(|names| {
        format!("has its commits wait for the standby `{names}` until that is made anew; until then `ALTER SYSTEM SET synchronous_standby_names = ''` and `SELECT pg_reload_conf()` let them through")
    });
    archives.into_iter().chain(waits).collect()
}

/// Whether a cluster archives its WAL, by the files of its settings.
fn archives(folder: &Path) -> bool {
    let on = |value: &String| ["on", "always", "true", "yes", "1"].contains(&value.to_ascii_lowercase().as_str());
    texts(folder).iter().filter_map(|text| last(text, "archive_mode")).any(|value| on(&value))
}

/// The standbys for which its commits wait, by the files of its settings; none are made by a recovery.
fn waits_for(folder: &Path) -> Option<String> {
    let said = texts(folder).iter().filter_map(|text| last(text, "synchronous_standby_names")).next_back();
    said.filter(|names| !names.is_empty())
}

/// The main file, and those that it includes after what it says itself.
fn texts(folder: &Path) -> Vec<String> {
    let inner = std::fs::read_dir(folder.join("conf.d")).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = inner.filter(|p| p.extension().is_some_and(|e| e == "conf")).collect();
    files.sort();
    files.insert(0, folder.join(MAIN));
    files.iter().filter_map(|f| std::fs::read_to_string(f).ok()).collect()
}

/// What a text sets a setting to; the last line counts.
fn last(text: &str, name: &str) -> Option<String> {
    let set = |line: &str| {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (key, rest) = line.split_at_checked(name.len())?;
        let rest = rest.trim_start();
        let ends = line.as_bytes().get(name.len()).is_some_and(|b| [b' ', b'\t', b'='].contains(b));
        let value = rest.strip_prefix('=').unwrap_or(rest).trim();
        (ends && key.eq_ignore_ascii_case(name)).then(|| value.trim_matches('\'').to_owned())
    };
    text.lines().filter_map(set).next_back()
}

#[cfg(test)]
mod tests {
    use super::super::merge::Merge;
    use super::super::place::below;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_cluster_of_an_exercise_archives_nothing_whatever_its_settings_say() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let main = folder.join(MAIN);
        let staged = folder.join("staged");
        std::fs::write(&staged, "include_dir 'conf.d'\narchive_mode = on\n").unwrap();
        std::fs::hard_link(&staged, &main).unwrap();
        assert!(archives(folder));
        keep_alone(folder).unwrap();
        keep_alone(folder).unwrap();
        let text = std::fs::read_to_string(&main).unwrap();
        assert!(text.ends_with("archive_mode = on\n\ninclude 'conf.d/zz-backstay-exercise.conf'\n"), "{text}");
        let alone = folder.join(ALONE);
        assert!(std::fs::read_to_string(&alone).unwrap().contains("archive_mode = 'off'\narchive_command = ''\n"));
        assert_eq!(std::fs::metadata(&alone).unwrap().permissions().mode() & 0o777, 0o644);
        // What was fetched is as it was.
        assert!(!std::fs::read_to_string(&staged).unwrap().contains("backstay"));
        assert_eq!(keep_alone(&folder.join("none")).unwrap_err().kind, Kind::Restore);
    }

    #[test]
    fn a_cluster_archives_nothing_while_its_settings_come() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, staged) = (dir.path().join("main"), dir.path().join("staged"));
        for (at, text) in [(&folder, "include_dir 'conf.d'\n"), (&staged, "archive_mode = on\ninclude_dir 'conf.d'\n")]
        {
            std::fs::create_dir_all(at.join("conf.d")).unwrap();
            std::fs::write(at.join(MAIN), text).unwrap();
        }
        std::fs::write(staged.join("conf.d/wal.conf"), "archive_mode = on\n").unwrap();
        keep_alone_meanwhile(&folder, &staged).unwrap();
        let kept = |at: &Path| {
            let main = std::fs::read_to_string(at.join(MAIN)).unwrap();
            main.ends_with("\ninclude 'conf.d/zz-backstay-exercise.conf'\n")
                && std::fs::read_to_string(at.join(ALONE)).unwrap().contains("archive_mode = 'off'")
        };
        assert!(kept(&folder) && kept(&staged));
        // Cut between two files, whichever has come.
        std::fs::copy(staged.join("conf.d/wal.conf"), folder.join("conf.d/wal.conf")).unwrap();
        assert!(kept(&folder));
        std::fs::copy(staged.join(MAIN), folder.join(MAIN)).unwrap();
        assert!(kept(&folder));
        // Nothing was fetched, as of another major.
        keep_alone_meanwhile(&folder, &dir.path().join("none")).unwrap();
    }

    #[test]
    fn settings_that_come_by_a_link_are_kept_to_themselves_too() {
        for target in ["../../../common/pg.conf", "ABSOLUTE"] {
            let dir = tempfile::tempdir().unwrap();
            let [root, fetched, before] = ["root", "fetched", "before"].map(|name| dir.path().join(name));
            let folder = Path::new("/etc/postgresql/15/main");
            let (here, staged) = (below(&root, folder), below(&fetched, folder));
            std::fs::create_dir_all(here.join("conf.d")).unwrap();
            std::fs::create_dir_all(&staged).unwrap();
            std::fs::write(here.join(MAIN), "include_dir 'conf.d'\n").unwrap();
            // What it leads to came before, with the rest of /etc.
            for common in [fetched.join("etc/common"), root.join("etc/common")] {
                std::fs::create_dir(&common).unwrap();
                std::fs::write(common.join("pg.conf"), "archive_mode = on\n").unwrap();
            }
            let common = root.join("etc/common/pg.conf");
            let target = target.replace("ABSOLUTE", &common.display().to_string());
            std::os::unix::fs::symlink(target, staged.join(MAIN)).unwrap();
            keep_alone_meanwhile(&here, &staged).unwrap();
            let stay = BTreeSet::new();
            let (staged, root, before) = (&fetched, &root, &before);
            Merge { staged, root, before, same_machine: true, never: &[], stay: &stay }.only(folder).unwrap();
            // The power is cut now.
            let main = std::fs::read_to_string(here.join(MAIN)).unwrap();
            assert!(main.starts_with("archive_mode = on\n"), "{main}");
            assert!(main.ends_with("\ninclude 'conf.d/zz-backstay-exercise.conf'\n"), "{main}");
            assert!(std::fs::read_to_string(here.join(ALONE)).unwrap().contains("archive_mode = 'off'"));
            assert_eq!(std::fs::read_to_string(common).unwrap(), "archive_mode = on\n");
        }
    }

    #[test]
    fn the_last_setting_counts() {
        for (text, expected) in [
            ("#archive_mode = on\n", None),
            ("archive_mode = on\t# (change requires restart)\n", Some("on")),
            ("Archive_Mode 'always'\n", Some("always")),
            ("archive_mode=on\narchive_mode = off\n", Some("off")),
            ("archive_command = 'x'\narchive_mode_x = on\n", None),
            ("archive_mode = ''\n", Some("")),
        ] {
            assert_eq!(last(text, "archive_mode").as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn standbys_that_are_not_there_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        std::fs::write(folder.join(MAIN), "synchronous_standby_names = 'FIRST 1 (berlin)'\n").unwrap();
        assert_eq!(waits_for(folder).as_deref(), Some("FIRST 1 (berlin)"));
        assert!(told(folder).len() == 1 && told(folder)[0].contains("berlin"));
        // The setting alone does nothing to a server that runs.
        assert!(told(folder)[0].contains("pg_reload_conf()"));
        // Nobody is there to confirm the first commit of an exercise.
        keep_alone(folder).unwrap();
        assert_eq!(waits_for(folder), None);
        assert!(options().contains(&"synchronous_standby_names=".to_owned()));
    }
}
