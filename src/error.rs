//! The agent's error: what failed, where, why, and what to do about it.
//!
//! One kind per thing that a caller or a script can react to, each with a stable exit code. The table in
//! `docs/exit-codes.md` is checked against [`Kind::ALL`] by a test.

use crate::storage::{self, StorageError};
use std::fmt;

/// What a script can react to. The number is the exit code and never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fault of Backstay itself, or of something that has no kind of its own.
    Internal,
    /// The command line is wrong (also what clap reports).
    Usage,
    /// The configuration is wrong.
    Config,
    /// The named backup, plan, source, host or path does not exist.
    NotFound,
    /// No identity, the wrong identity, or a wrong passphrase.
    Key,
    /// The store cannot be reached, refuses us, or is full.
    Storage,
    /// An object is damaged, forged, swapped or missing.
    Damaged,
    /// The backup was committed, but at least one of its sources failed.
    Partial,
    /// Another run holds the lock.
    Busy,
    /// Going on could lose something, therefore nothing was done.
    Refused,
    /// A source could not be read, or the tool that reads it failed.
    Source,
    /// A restore could not be carried out.
    Restore,
    /// Restored data differs from the facts of the backup, or a check of the plan fails.
    Mismatch,
    /// Stopped by a signal.
    Interrupted,
    /// The repository was written by a newer version.
    Newer,
    /// A restore failed, and taking it back failed too: both copies stay, and somebody must look.
    Stuck,
    /// What was looked at is not as it should be.
    Unwell,
}

impl Kind {
    /// Every kind with its exit code, name and meaning: the one table behind the exit codes.
    pub const ALL: &'static [(Kind, u8, &'static str, &'static str)] = &[
        (Kind::Internal, 1, "internal", "a fault that has no code of its own"),
        (Kind::Usage, 2, "usage", "the command line is wrong"),
        (Kind::Config, 3, "config", "the configuration is wrong"),
        (Kind::NotFound, 4, "not-found", "the named backup, plan, source, host or path does not exist"),
        (Kind::Key, 5, "key", "no identity, the wrong identity or a wrong passphrase"),
        (Kind::Storage, 6, "storage", "the store cannot be reached, refuses us or is full"),
        (Kind::Damaged, 7, "damaged", "an object of the repository is damaged, forged, swapped or missing"),
        (Kind::Partial, 8, "partial", "the backup was committed, but at least one of its sources failed"),
        (Kind::Busy, 9, "busy", "another run holds the lock"),
        (Kind::Refused, 10, "refused", "going on could lose something; nothing was done"),
        (Kind::Source, 11, "source", "a source could not be read; nothing was committed"),
        (Kind::Restore, 12, "restore", "the restore could not be carried out; what was there before is untouched"),
        (
            Kind::Mismatch,
            13,
            "mismatch",
            "restored data differs from the facts of the backup, or a check of the plan fails",
        ),
        (Kind::Interrupted, 14, "interrupted", "stopped by a signal"),
        (Kind::Newer, 15, "newer", "the repository was written by a newer version of Backstay"),
        (
            Kind::Stuck,
            16,
            "stuck",
            "a restore failed and could not be taken back; both copies stay, and the rest is to be done by hand",
        ),
        (Kind::Unwell, 17, "unwell", "`status` or `doctor` found something that needs somebody"),
    ];

    /// The process exit code.
    pub fn exit_code(self) -> u8 {
        Self::ALL.iter().find(|row| row.0 == self).map_or(1, |row| row.1)
    }

    /// The kind's stable name, as `--json` prints it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).map_or("internal", |row| row.2)
    }
}

/// An error with its place and its remedy.
#[derive(Debug)]
pub struct Error {
    /// What a script can react to.
    pub kind: Kind,
    /// True when the store refused the request for lack of permission.
    pub denied: bool,
    /// What failed, as a lower-case phrase without a full stop.
    pub what: String,
    /// The file, object, source or option concerned.
    pub place: Option<String>,
    /// What the operator can do, as a sentence.
    pub hint: Option<String>,
    /// Why: the lower layer's own error.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of everything above the storage port.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a kind with what failed.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error { kind, denied: false, what: what.into(), place: None, hint: None, cause: None }
    }

    /// Adds the place, unless a lower layer already named a more exact one.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Sets what to do, whatever a lower layer said: the caller knows better what the failure means.
    #[must_use]
    pub fn do_instead(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// An object that does not hold what its name promises.
    pub fn damaged(key: impl fmt::Display, what: impl Into<String>) -> Self {
        Error::new(Kind::Damaged, what).at(key).hint(
            "Run `backstay check` to see which backups are affected; the next backup repairs what the host still has.",
        )
    }

    /// The end of a thread of ours that did not come to its end, by what it was doing: "reading".
    pub fn panicked<E>(doing: &'static str) -> impl Fn(E) -> Self + Copy {
        move |_| Error::new(Kind::Internal, format!("the {doing} thread ended by a panic"))
    }

    /// A failed operation on a local file.
    pub fn io(what: impl Into<String>, path: impl AsRef<std::path::Path>, cause: std::io::Error) -> Self {
        Error::new(Kind::Internal, what).at(path.as_ref().display()).because(cause)
    }

    /// The same error as another kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error once more, for several who wait for the same thing; the cause becomes text.
    #[must_use]
    pub fn again(&self) -> Self {
        Error {
            kind: self.kind,
            denied: self.denied,
            what: self.what.clone(),
            place: self.place.clone(),
            hint: self.hint.clone(),
            cause: self.cause.as_ref().map(|c| c.to_string().into()),
        }
    }

    /// One line for logs and for the manifest of a failed source.
    pub fn one_line(&self) -> String {
        let mut line = self.what.clone();
        if let Some(place) = &self.place {
            line.push_str(&format!(": {place}"));
        }
        if let Some(cause) = &self.cause {
            line.push_str(&format!(": {cause}"));
        }
        line.replace('\n', " ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(place) = &self.place {
            write!(f, "\n  where: {place}")?;
        }
        let mut cause: Option<&dyn std::error::Error> = self.cause.as_deref().map(|c| c as _);
        while let Some(c) = cause {
            write!(f, "\n  why:   {}", c.to_string().trim_end().replace('\n', "\n         "))?;
            cause = c.source();
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  do:    {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<StorageError> for Error {
    fn from(e: StorageError) -> Self {
        use storage::ErrorKind as S;
        let (kind, what, hint) = match e.kind {
            S::NotFound => {
                (Kind::Damaged, "an object is missing", "Run `backstay check` to see which backups are affected.")
            }
            S::NoBucket => (
                Kind::Storage,
                "the repository's bucket or directory does not exist",
                "Create it, or correct `repository.url`.",
            ),
            S::Denied => (
                Kind::Storage,
                "the store refuses the request",
                "Check the permissions of the credentials; docs/storage.md lists what each command needs.",
            ),
            S::Credentials => (
                Kind::Storage,
                "the store does not accept the credentials",
                "Set the credentials for this store (environment, file or instance role) and try again.",
            ),
            S::Timeout | S::Unavailable | S::Throttled => (
                Kind::Storage,
                "the store does not answer as it should",
                "Check the network and `repository.endpoint`; a backup that was interrupted goes on with what was uploaded.",
            ),
            S::Full => (
                Kind::Storage,
                "the repository has no space left",
                "Free some space or prune; nothing that was committed is affected.",
            ),
            S::TooLarge | S::Corrupt => (Kind::Damaged, "the store returned a damaged object", "Run `backstay check`."),
            S::Archived => (
                Kind::Storage,
                "the object is in an archive storage class",
                "Restore it from the archive tier first; keep backups out of archive classes.",
            ),
            S::Invalid => {
                (Kind::Storage, "the store refused the request as invalid", "Check `repository.url` and its options.")
            }
        };
        let denied = e.kind == S::Denied;
        let error = Error { denied, ..Error::new(kind, what).hint(hint) };
        match kind {
            // Whoever reads the object knows its name better.
            Kind::Damaged => error.because(e),
            _ => error.at(&e.url).because(format!("{}: {}", e.op, e.words())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_unique_and_complete() {
        let mut codes: Vec<u8> = Kind::ALL.iter().map(|row| row.1).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert_eq!(Kind::Partial.exit_code(), 8);
    }

    #[test]
    fn an_error_says_what_where_why_and_what_to_do() {
        let e = Error::new(Kind::Config, "unknown key `souces`")
            .at("/etc/backstay/backstay.toml")
            .hint("Did you mean `sources`?");
        assert_eq!(
            e.to_string(),
            "unknown key `souces`\n  where: /etc/backstay/backstay.toml\n  do:    Did you mean `sources`?"
        );
    }
}
