//! Patterns of what to leave out.
//!
//! * `*.pyc`, `node_modules`: without a slash, the name of a file or directory anywhere;
//! * `/opt/erp/venv`, `/var/lib/*/tmp`: with a leading slash, a path; `*` stays within one component, `**` does not;
//! * `cache/*.tmp`: with a slash elsewhere, the end of a path.
//!
//! What is below an excluded directory is excluded too.

use crate::error::{Error, Kind, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Compiled patterns.
#[derive(Clone, Debug)]
pub struct Excludes {
    names: GlobSet,
    paths: GlobSet,
    never: Vec<PathBuf>,
}

impl Excludes {
    /// Compiles the patterns of a source.
    ///
    /// # Errors
    /// [`Kind::Config`] with the pattern that is none.
    pub fn new(patterns: &[String], never: &[PathBuf]) -> Result<Self> {
        let bad = |pattern: &str, e: globset::Error| {
            Error::new(Kind::Config, format!("{pattern:?} is not an exclude pattern"))
                .because(e)
                .hint("Put a backslash before a character that is meant as it is; in TOML write such a pattern between single quotes.")
        };
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let trimmed = pattern.trim_end_matches('/');
            let build = |text: &str| {
                GlobBuilder::new(text)
                    .literal_separator(true)
                    .backslash_escape(true)
                    .build()
                    .map_err(|e| bad(pattern, e))
            };
            if trimmed.starts_with('/') {
                paths.add(build(trimmed)?);
            } else if trimmed.contains('/') {
                paths.add(build(&format!("**/{trimmed}"))?);
            } else if !trimmed.is_empty() {
                names.add(build(trimmed)?);
            }
        }
        let set = |b: GlobSetBuilder| {
            b.build().map_err(|e| {
                Error::new(Kind::Config, "the exclude patterns are too many or too large")
                    .because(e)
                    .hint("Exclude whole directories by their paths.")
            })
        };
        Ok(Excludes { names: set(names)?, paths: set(paths)?, never: never.to_vec() })
    }

    /// Whether the entry at an absolute path is left out. Directories above it were asked before.
    pub fn matches(&self, path: &[u8], name: &[u8]) -> bool {
        let as_path = |b| Path::new(OsStr::from_bytes(b));
        (!self.names.is_empty() && self.names.is_match(as_path(name)))
            || (!self.paths.is_empty() && self.paths.is_match(as_path(path)))
            || self.never.iter().any(|n| n.as_os_str().as_bytes() == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_paths_and_ends_of_paths() {
        let e = Excludes::new(
            &["*.pyc".into(), "/opt/erp/venv/".into(), "/var/*/tmp".into(), "cache/x".into()],
            &[PathBuf::from("/var/lib/backstay")],
        )
        .unwrap();
        let out = |p: &str| e.matches(p.as_bytes(), p.rsplit('/').next().unwrap().as_bytes());
        for path in ["/a/b.pyc", "/opt/erp/venv", "/var/lib/tmp", "/home/cache/x", "/var/lib/backstay"] {
            assert!(out(path), "{path}");
        }
        for path in ["/a/b.py", "/opt/erp/venv2", "/var/lib/a/tmp", "/cachet/x", "/opt/erp"] {
            assert!(!out(path), "{path}");
        }
        assert!(Excludes::new(&["[".into()], &[]).is_err());
    }
}
