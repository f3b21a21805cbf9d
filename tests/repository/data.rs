//! Synthetic sources: streams and small trees of files, and the bytes that their artifacts must have.
//!
//! The expected bytes are put together here, without the writer: whatever the repository does with chunks,
//! packs and recipes, a restore must give exactly these.

use std::collections::BTreeMap;

/// Files from this size on are given to the writer as large ones, as `sources::files` does.
pub const LARGE: usize = 1 << 20;

/// A small generator of pseudo-random numbers, so that a seed in a log repeats a run.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }

    /// True once in so many.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        blake3::Hasher::new().update(&self.next().to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }
}

/// One file of a tree; the version stands for what `stat` would show as changed.
#[derive(Clone, Debug)]
pub struct File {
    /// Content; `None` is a directory.
    pub content: Option<Vec<u8>>,
    /// Changes with the content.
    pub version: i64,
}

/// A tree by path.
pub type Tree = BTreeMap<String, File>;

/// What a source has.
#[derive(Clone, Debug)]
pub enum Content {
    /// One byte stream.
    Stream(Vec<u8>),
    /// A tree, archived as a tar.
    Tree(Tree),
    /// A source that breaks after these bytes of a tree.
    Broken(Tree),
}

/// A source of a run.
#[derive(Clone, Debug)]
pub struct Source {
    /// Name.
    pub name: String,
    /// Content.
    pub content: Content,
}

/// A stream source.
pub fn stream(name: &str, bytes: impl Into<Vec<u8>>) -> Source {
    Source { name: name.into(), content: Content::Stream(bytes.into()) }
}

/// A tree source.
pub fn tree(name: &str, files: &Tree) -> Source {
    Source { name: name.into(), content: Content::Tree(files.clone()) }
}

/// A file of a tree.
pub fn file(content: impl Into<Vec<u8>>) -> File {
    let content = content.into();
    let hash = blake3::hash(&content);
    let version = i64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
    File { content: Some(content), version }
}

/// A directory of a tree.
pub fn dir() -> File {
    File { content: None, version: 7 }
}

/// The tar header of a member.
pub fn header(path: &str, file: &File) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_mode(if file.content.is_some() { 0o644 } else { 0o755 });
    header.set_entry_type(if file.content.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory });
    header.set_size(file.content.as_ref().map_or(0, |c| c.len() as u64));
    header.set_mtime(1_700_000_000 + file.version.unsigned_abs() % 1_000_000);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Zeros up to the next block of a tar.
pub fn padding(length: usize) -> Vec<u8> {
    vec![0; length.next_multiple_of(512) - length]
}

/// The end of a tar.
pub const END: [u8; 1024] = [0; 1024];

/// The bytes of a tree's artifact.
pub fn tar_of(files: &Tree) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, file) in files {
        out.extend(header(path, file));
        let content = file.content.as_deref().unwrap_or_default();
        out.extend_from_slice(content);
        out.extend(padding(content.len()));
    }
    out.extend_from_slice(&END);
    out
}

/// The bytes of each artifact that a run over these sources must have stored, by source.
pub fn expected(sources: &[Source]) -> BTreeMap<String, Vec<u8>> {
    sources
        .iter()
        .filter_map(|s| match &s.content {
            Content::Stream(bytes) => Some((s.name.clone(), bytes.clone())),
            Content::Tree(files) => Some((s.name.clone(), tar_of(files))),
            Content::Broken(_) => None,
        })
        .collect()
}

/// Changes a tree and a stream a little, as days do: some files come, go, change, move or become copies of
/// another's.
pub fn mutate(random: &mut Random, files: &mut Tree, bytes: &mut Vec<u8>, borrowed: &[u8]) {
    for _ in 0..random.below(4) {
        let path = format!("data/{}", random.below(12));
        match random.below(6) {
            0 => drop(files.remove(&path)),
            1 => drop(files.insert(path, file(borrowed.to_vec()))),
            2 if random.one_in(12) => drop(files.insert(path, file(random.noise(1_100_000)))),
            3 => {
                if let Some(moved) = files.remove(&path) {
                    files.insert(format!("data/{}", random.below(12)), moved);
                }
            }
            _ => {
                let length = random.below(6000);
                files.insert(path, file(random.noise(length)));
            }
        }
    }
    match random.below(5) {
        0 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1;
        }
        1 => bytes.extend(random.noise(1000)),
        2 if random.one_in(3) => *bytes = random.noise(700_000),
        3 if bytes.len() > 200_000 => bytes.truncate(150_000),
        _ => {}
    }
}
