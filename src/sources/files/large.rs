//! A large file is written past the page cache.
//!
//! A restore stages beside what is live. What goes through the page cache pushes out of it what the application still
//! reads, is copied once more, and makes whoever syncs on that disk wait. Few files are large, and most bytes are theirs: of a
//! /usr of 113,643 files, 575 are over 1 MiB and hold 71 % of it. Whatever cannot be written so is written as always.

use rustix::fs::OFlags;
use std::cell::Cell;
use std::fs::File;
use std::io::Result;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Files from this size on are worth it.
pub const LARGE: u64 = 1024 * 1024;
/// So much goes to the disk at once: long enough for a disk that has to seek.
const CHUNK: usize = 2 * 1024 * 1024;
/// Memory, place and length are multiples of this: no disk has larger blocks.
const ALIGN: usize = 4096;
/// `statfs(2)`: EXT4_SUPER_MAGIC (of ext2 and ext3 too), XFS_SUPER_MAGIC.
const SUITABLE: [i64; 2] = [0xef53, 0x5846_5342];

/// Whether the file system is one that is known to gain by it. On btrfs such bytes would not be compressed, on others they are
/// copied all the same.
pub fn suits(directory: impl AsFd) -> bool {
    // The number's type is not the same on every architecture.
    #[allow(clippy::useless_conversion)]
    let kind = rustix::fs::fstatfs(directory).map(|fs| i64::from(fs.f_type));
    kind.is_ok_and(|kind| SUITABLE.contains(&kind))
}

thread_local! {
    /// Room for a chunk that the next file takes over.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A file that is being written.
pub struct Large {
    file: File,
    /// Where what was given ends.
    end: u64,
    direct: Option<Direct>,
}

/// What is gathered for the next chunk.
struct Direct {
    room: Vec<u8>,
    /// Where the room is aligned.
    start: usize,
    filled: usize,
}

impl Direct {
    fn new() -> Self {
        let mut room = ROOM.take();
        room.resize(CHUNK + ALIGN, 0);
        let start = room.as_ptr().align_offset(ALIGN).min(ALIGN);
        Direct { room, start, filled: 0 }
    }

    /// Takes as much as there is room for.
    fn take(&mut self, content: &[u8]) -> usize {
        let n = content.len().min(CHUNK - self.filled);
        self.room[self.start + self.filled..][..n].copy_from_slice(&content[..n]);
        self.filled += n;
        n
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        ROOM.set(std::mem::take(&mut self.room));
    }
}

impl Large {
    /// An empty file; `past`: past the page cache, where the kernel lets it.
    pub fn new(file: File, past: bool) -> Self {
        let direct = past && set_direct(&file, true).is_ok();
        Large { file, end: 0, direct: direct.then(Direct::new) }
    }

    /// The file. What was given last may not be in it before [`Large::finish`].
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its next content, behind the one before; what lies between is a hole.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self, offset: u64, mut content: &[u8]) -> Result<()> {
        if offset != self.end {
            self.flush()?;
        }
        let end = offset + content.len() as u64;
        while let Some(direct) = &mut self.direct
            && !content.is_empty()
        {
            content = &content[direct.take(content)..];
            self.end = end - content.len() as u64;
            if direct.filled == CHUNK {
                self.put_chunk()?;
            }
        }
        self.file.write_all_at(content, end - content.len() as u64)?;
        self.end = end;
        Ok(())
    }

    /// Everything was given: the file gets its size, which may be behind it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(&mut self, size: u64) -> Result<()> {
        self.flush()?;
        if size != self.end { self.file.set_len(size) } else { Ok(()) }
    }

    /// Writes what is gathered, as far as it is whole blocks.
    fn put_chunk(&mut self) -> Result<()> {
        let Some(direct) = &mut self.direct else { return Ok(()) };
        let at = self.end - direct.filled as u64;
        let whole = direct.filled / ALIGN * ALIGN;
        let bytes = &direct.room[direct.start..][..whole];
        let refused = match self.file.write_all_at(bytes, at) {
            Ok(()) => false,
            // Larger blocks than any that are known, or a file system of another kind is mounted here.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => true,
            Err(e) => return Err(e),
        };
        if refused {
            set_direct(&self.file, false)?;
            self.file.write_all_at(bytes, at)?;
        }
        direct.room.copy_within(direct.start + whole..direct.start + direct.filled, direct.start);
        direct.filled -= whole;
        if refused { self.flush() } else { Ok(()) }
    }

    /// Writes all that is gathered, and goes on through the page cache.
    fn flush(&mut self) -> Result<()> {
        self.put_chunk()?;
        let Some(direct) = self.direct.take() else { return Ok(()) };
        set_direct(&self.file, false)?;
        self.file.write_all_at(&direct.room[direct.start..][..direct.filled], self.end - direct.filled as u64)
    }
}

fn set_direct(file: &File, direct: bool) -> Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().update(b"large").finalize_xof().fill(&mut out);
        out
    }

    /// Writes in pieces of this length; what is in the file then.
    fn written(content: &[u8], piece: usize, past: bool) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut large = Large::new(file.reopen().unwrap(), past);
        for (n, bytes) in content.chunks(piece).enumerate() {
            large.write((n * piece) as u64, bytes).unwrap();
        }
        large.finish(content.len() as u64).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn files_of_every_length_come_out_as_they_were_given() {
        let most = noise(3 * CHUNK);
        for length in
            [0, 1, 4095, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + ALIGN, 2 * CHUNK + ALIGN + 5, 3 * CHUNK]
        {
            for piece in [256 * 1024, 100_001, CHUNK + 3] {
                for past in [true, false] {
                    assert!(written(&most[..length], piece, past) == most[..length], "{length} in {piece}, {past}");
                }
            }
        }
    }

    #[test]
    fn it_is_past_the_cache_until_what_is_left_is_no_block() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let direct = |large: &Large| rustix::fs::fcntl_getfl(large.file()).unwrap().contains(OFlags::DIRECT);
        let file = File::create_new(dir.path().join("f")).unwrap();
        let suitable = suits(&file);
        let mut large = Large::new(file, suitable);
        large.write(0, &noise(CHUNK + 5)).unwrap();
        assert_eq!(direct(&large), suitable);
        assert_eq!(large.file().metadata().unwrap().len(), if suitable { CHUNK } else { CHUNK + 5 } as u64);
        large.finish(CHUNK as u64 + 10).unwrap();
        assert!(!direct(&large));
        let expected = [noise(CHUNK + 5), vec![0; 5]].concat();
        assert!(std::fs::read(dir.path().join("f")).unwrap() == expected);
    }

    #[test]
    fn what_the_kernel_refuses_goes_through_the_cache() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = dir.path().join("f");
        let mut large = Large::new(File::create_new(&path).unwrap(), true);
        // Memory that no disk takes.
        large.direct.as_mut().unwrap().start = 1;
        let content = noise(2 * CHUNK + 77);
        for (n, bytes) in content.chunks(300_000).enumerate() {
            large.write(n as u64 * 300_000, bytes).unwrap();
        }
        large.finish(content.len() as u64).unwrap();
        assert!(std::fs::read(path).unwrap() == content);
    }

    #[test]
    fn a_gap_is_a_hole() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = dir.path().join("f");
        let mut large = Large::new(File::create_new(&path).unwrap(), true);
        let content = noise(CHUNK + 100);
        large.write(0, &content).unwrap();
        large.write(8 << 20, &content[..10]).unwrap();
        large.finish(9 << 20).unwrap();
        let found = std::fs::read(path).unwrap();
        assert_eq!(found.len(), 9 << 20);
        assert!(found[..content.len()] == content && found[8 << 20..][..10] == content[..10]);
        assert!(found[content.len()..8 << 20].iter().chain(&found[(8 << 20) + 10..]).all(|b| *b == 0));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut large = Large::new(full, true);
        let outcome = large.write(0, &noise(CHUNK)).and_then(|()| large.finish(CHUNK as u64));
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()));
    }
}
