//! The append-only file: which files it is made of, and reading them while the server writes.
//!
//! Nothing is switched off for that. All files that the manifest names are opened first and the manifest is read
//! again: if it is the same, the open files are one consistent set, whatever the server renames or deletes from now
//! on. Parts before the last are never written again; the last is read up to the length that it had then, and may
//! end in the middle of a command, which a server cuts off at load (`aof-load-truncated`, its default).

use super::conf;
use super::live::Settings;
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

/// How often the files are opened while the server rewrites them.
const TRIES: usize = 10;
/// Pause between.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// One file of the append-only file.
pub struct Part {
    /// File name.
    pub name: String,
    /// Its content up to the length at that moment.
    pub content: Box<dyn Read + Send>,
}

/// The manifest of a directory of parts.
pub fn manifest_name(appendfilename: &str) -> String {
    format!("{appendfilename}.manifest")
}

/// A manifest that names one file, an RDB, as the base.
pub fn manifest_of(base: &str) -> String {
    // As Redis writes it: in quotes when there is anything but letters in it.
    let plain = base.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let escaped = base.replace('\\', "\\\\").replace('"', "\\\"");
    let name = if plain { base.to_owned() } else { format!("\"{escaped}\"") };
    format!("file {name} seq 1 type b\n")
}

/// Opens the append-only file below the server's directory, as the host sees it: the manifest first, then the parts
/// in order, or before Redis 7 the only file. May wait for a moment.
///
/// # Errors
/// [`Kind::Source`] when there is none, or when the server goes on rewriting it.
pub fn open(dir: &Path, settings: &Settings) -> Result<Vec<Part>> {
    let missing = |path: &Path, e: std::io::Error| {
        Error::io("the append-only file cannot be read", path, e)
            .kind(Kind::Source)
            .hint("Set `data_dir` to where the server's directory is on this host, or leave `include_aof` out.")
    };
    if settings.appenddirname.is_empty() {
        let path = dir.join(&settings.appendfilename);
        return Ok(vec![part(&path, &settings.appendfilename).map_err(|e| missing(&path, e))?]);
    }
    let folder = dir.join(&settings.appenddirname);
    let manifest = folder.join(manifest_name(&settings.appendfilename));
    let read = || std::fs::read_to_string(&manifest).map_err(|e| missing(&manifest, e));
    for _ in 0..TRIES {
        let before = read()?;
        let opened: std::io::Result<Vec<Part>> =
            files(&before).iter().map(|name| part(&folder.join(name), name)).collect();
        // A file that is gone was rewritten between the two; so was a manifest that has changed.
        if let Ok(mut parts) = opened
            && read()? == before
        {
            let name = manifest_name(&settings.appendfilename);
            parts.insert(0, Part { name, content: Box::new(Cursor::new(before.into_bytes())) });
            return Ok(parts);
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::new(Kind::Source, "the server rewrote its append-only file during each try to read it")
        .at(folder.display())
        .hint("Run the backup at a quieter time."))
}

fn part(path: &Path, name: &str) -> std::io::Result<Part> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok(Part { name: name.to_owned(), content: Box::new(file.take(length)) })
}

/// The files that a manifest names and a load reads: `file NAME seq 1 type b`. Those of type `h` are history, which
/// the server is about to delete.
fn files(manifest: &str) -> Vec<String> {
    let of = |line: &str| {
        let words = conf::split(line);
        let value = |key: &str| words.chunks(2).find(|pair| pair[0] == key).and_then(|pair| pair.get(1));
        let name = value("file").filter(|name| !name.contains('/'))?;
        (value("type").is_none_or(|kind| kind != "h")).then(|| name.clone())
    };
    manifest.lines().filter(|l| !l.starts_with('#')).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_base_and_increments_and_no_history() {
        let manifest = "file a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\n# x\nfile a.2.incr.aof seq 2 type i startoffset 5\n";
        assert_eq!(files(manifest), ["a.2.base.rdb", "a.2.incr.aof"]);
        for odd in ["my file.1.base.rdb", "a\"b\\c.rdb", "ünïcode.rdb"] {
            assert_eq!(files(&manifest_of(odd)), [odd]);
        }
    }

    /// The server rewrites the file after we have opened a part: the base is a pipe, whose opening waits until that
    /// has happened.
    #[test]
    fn a_set_that_changed_while_it_was_opened_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("d").join(name);
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("a.1.base.rdb"), pipe, rustix::fs::Mode::RUSR, 0).unwrap();
        std::fs::write(at("a.2.base.rdb"), "second").unwrap();
        std::fs::write(at("a.manifest"), manifest_of("a.1.base.rdb")).unwrap();
        let (new, pipe) = (at("a.manifest"), at("a.1.base.rdb"));
        let rewriting = std::thread::spawn(move || {
            std::fs::write(&new, manifest_of("a.2.base.rdb")).unwrap();
            File::options().write(true).open(pipe).unwrap()
        });
        let settings = Settings { appenddirname: "d".into(), appendfilename: "a".into(), ..Settings::default() };
        // Read at once, before the thread has changed it, or else the pipe would not be opened at all.
        let parts = open(dir.path(), &settings).unwrap();
        let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a.manifest", "a.2.base.rdb"]);
        drop(rewriting);
    }
}
