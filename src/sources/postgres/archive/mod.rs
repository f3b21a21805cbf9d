//! PostgreSQL's custom archive format, as far as we need it: the head with its table of contents, and the blocks of
//! data behind it.
//!
//! `pg_dump` writes the archive and `pg_restore` reads it; what happens here lets big tables be dumped and loaded
//! side by side while the artifact stays one ordinary archive. On the way out the rows of big tables come over
//! sessions of our own, framed as blocks behind those of `pg_dump`, and the table of contents gets an entry for each.
//! On the way back a block is found by its offset and loaded by a session of our own, while `pg_restore` gets a
//! head without it. `pg_restore` alone can always load the whole.
//!
//! The format is that of `src/bin/pg_dump/pg_backup_archiver.c` and `pg_backup_custom.c` in PostgreSQL, versions 1.12
//! (9.0) to 1.16 (17 and 18). A newer version is not taken apart; such an archive passes through as it is.

pub mod blocks;
pub mod entry;
pub mod head;
pub mod made;
pub mod stored;

/// Why an archive cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not an archive, or it is damaged.
    #[error("this is not a custom-format archive of pg_dump: {0}")]
    Malformed(&'static str),
    /// Written by a newer pg_dump than we know, or for another kind of machine.
    #[error("archive version {0}.{1} with integers of {2} and offsets of {3} bytes")]
    Unknown(u8, u8, u8, u8),
    /// Reading it failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
