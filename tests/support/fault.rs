//! What befalls a program at the n-th write or sync of one of its files: it is killed, stopped or held, or the disk is full. By a
//! library that is loaded before the C library. strace can do the same; but it holds up every call of every child for it, and took
//! most of the time of these tests.

use std::path::Path;
use std::process::Command;

/// Where the library is in a machine.
pub const WITHIN: &str = "/usr/local/lib/fault.so";
/// What is there when a program is held.
pub const MARK: &str = "/run/held";

/// What happens, before the call has its effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// Killed.
    Kill,
    /// Asked to stop; the call goes on.
    Term,
    /// Waits until somebody kills it; [`MARK`] is there then.
    Hold,
    /// The call fails for want of room, and all later ones.
    Full,
}

/// One of them, at one call on one file.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// The file, by its absolute path.
    pub file: &'a str,
    /// `write` or `fdatasync`.
    pub call: &'a str,
    /// The number of the call, from 1.
    pub when: usize,
    pub what: What,
}

impl Fault<'_> {
    /// The environment of the program; the library is where the program can read it.
    pub fn environment(&self, library: impl AsRef<Path>) -> [(&'static str, String); 6] {
        let what = match self.what {
            What::Kill => "kill",
            What::Term => "term",
            What::Hold => "hold",
            What::Full => "full",
        };
        [
            ("LD_PRELOAD", library.as_ref().display().to_string()),
            ("FAULT_FILE", self.file.to_owned()),
            ("FAULT_CALL", self.call.to_owned()),
            ("FAULT_WHEN", self.when.to_string()),
            ("FAULT_WHAT", what.to_owned()),
            ("FAULT_MARK", MARK.to_owned()),
        ]
    }
}

/// Compiles the library into this file.
pub fn library(made: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fault.c");
    std::fs::create_dir_all(made.parent().unwrap()).unwrap();
    let out =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(made).arg(source).output();
    let out = out.expect("install build-essential");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
