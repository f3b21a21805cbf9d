//! What was written to a log file since a moment, also when it was rotated in between.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longer lines are looked at in pieces.
const LONGEST: u64 = 1 << 20;

/// Where a file ended. A file that was not there ends at its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    offset: u64,
}

impl Mark {
    /// Where a file ends now.
    pub(super) fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(found) => Mark { device: found.dev(), inode: found.ino(), offset: found.len() },
            Err(_) => Mark::default(),
        }
    }

    fn is(&self, file: &Metadata) -> bool {
        (self.device, self.inode) == (file.dev(), file.ino())
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::io("the log file cannot be read", path, e).kind(Kind::Source)
}

/// Hands over the lines behind the mark.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such file, [`Kind::Source`] when it cannot be read.
pub(super) fn lines(path: &Path, mark: &Mark, each: &mut dyn FnMut(&str)) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::new(Kind::NotFound, "there is no such log file").at(path.display()));
        }
        Err(e) => return Err(failed(path)(e)),
    };
    let found = file.metadata().map_err(failed(path))?;
    if !found.is_file() {
        return Err(Error::new(Kind::Source, "the log file is no file").at(path.display()));
    }
    if mark.is(&found) {
        // Shorter than it was: emptied in place.
        let from = if found.len() < mark.offset { 0 } else { mark.offset };
        return read(file, from, path, each);
    }
    // Another one: what the first still got before it was rotated comes first.
    if let Some(rotated) = rotated(path, mark) {
        match File::open(&rotated) {
            Ok(file) => read(file, mark.offset, &rotated, each)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&rotated)(e)),
        }
    }
    read(file, 0, path, each)
}

/// The marked file under the name that it has now, beside the path.
fn rotated(path: &Path, mark: &Mark) -> Option<PathBuf> {
    let beside = std::fs::read_dir(path.parent()?).ok()?;
    beside.flatten().find(|e| e.metadata().is_ok_and(|m| m.is_file() && mark.is(&m))).map(|e| e.path())
}

fn read(mut file: File, from: u64, path: &Path, each: &mut dyn FnMut(&str)) -> Result<()> {
    file.seek(SeekFrom::Start(from)).map_err(failed(path))?;
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(failed(path))? == 0 {
            return Ok(());
        }
        each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn behind(path: &Path, mark: &Mark) -> Vec<String> {
        let mut found = Vec::new();
        lines(path, mark, &mut |line| found.push(line.to_owned())).unwrap();
        found
    }

    #[test]
    fn lines_behind_the_mark_are_found_across_rotation_truncation_and_birth() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let unborn = Mark::of(&path);
        assert_eq!(lines(&path, &unborn, &mut |_| ()).unwrap_err().kind, Kind::NotFound);
        append(&path, "old\n");
        assert_eq!(behind(&path, &unborn), ["old"]);
        let mark = Mark::of(&path);
        append(&path, "one\r\ntwo");
        assert_eq!(behind(&path, &mark), ["one", "two"]);
        std::fs::rename(&path, dir.path().join("app.log.1")).unwrap();
        append(&path, "three\n");
        assert_eq!(behind(&path, &mark), ["one", "two", "three"]);
        let mark = Mark::of(&path);
        File::create(&path).unwrap().write_all(b"x\n").unwrap();
        assert_eq!(behind(&path, &mark), ["x"]);
    }
}
