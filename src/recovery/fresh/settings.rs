//! Settings of a cluster that reach beyond its machine: where its WAL is archived, what it fetches, which jobs it runs.

use super::place::copy;
use crate::error::{Error, Kind, Result};
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
    std::fs::write(&alone, as_file())
        .and_then(|()| std::fs::set_permissions(&alone, PermissionsExt::from_mode(0o644)))
        .map_err(|e| failed(&alone, e))?;
    let line = format!("include '{ALONE}'");
    let text = std::fs::read(&main).map_err(|e| failed(&main, e))?;
    if String::from_utf8_lossy(&text).trim_end().ends_with(&line) {
        return Ok(());
    }
    // A file of its own: this one may be a link of that which was fetched.
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

/// Whether a cluster archives its WAL, by the files of its settings.
pub fn archives(folder: &Path) -> bool {
    let inner = std::fs::read_dir(folder.join("conf.d")).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = inner.filter(|p| p.extension().is_some_and(|e| e == "conf")).collect();
    files.push(folder.join(MAIN));
    files.iter().filter_map(|f| std::fs::read_to_string(f).ok()).any(|text| says_so(&text))
}

fn says_so(text: &str) -> bool {
    let set = |line: &str| {
        let line = line.split('#').next().unwrap_or_default().to_ascii_lowercase();
        let value = line.trim().strip_prefix("archive_mode")?.trim_start_matches([' ', '\t', '=']).trim();
        Some(["on", "always", "true", "yes", "1"].contains(&value.trim_matches('\'')))
    };
    text.lines().filter_map(set).next_back().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_last_setting_counts() {
        for (text, expected) in [
            ("#archive_mode = on\n", false),
            ("archive_mode = on\t# (change requires restart)\n", true),
            ("archive_mode 'always'\n", true),
            ("archive_mode = on\narchive_mode = off\n", false),
            ("archive_command = 'x'\n", false),
        ] {
            assert_eq!(says_so(text), expected, "{text}");
        }
    }
}
