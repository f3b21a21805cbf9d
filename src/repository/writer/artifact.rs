//! One artifact on its way out: a stream, or a tar given member by member.

use super::pack::{self, OpenPack};
use super::recipe::{BaseSegment, Finished, Piece, RecipeBuilder};
use super::repair::Repair;
use super::slot::Home;
use super::{Shared, lock};
use crate::error::{Error, Kind, Result};
use crate::model::BlobId;
use crate::repository::chunker;
use crate::repository::manifest::Artifact;
use crate::repository::segment::{Bytes, Entry, FileEntry, SegmentRef};
use crate::telemetry::monitor::Event;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// A tar is made of blocks of this size.
const BLOCK: usize = 512;
/// How much of a stream is read ahead of the cutter.
const WINDOW: usize = 2 * chunker::MAX;

/// What will be a segment's reference.
pub(super) enum Reference {
    /// Known.
    Ready(SegmentRef),
    /// On its way to the store.
    Coming(Arc<OnceLock<SegmentRef>>),
}

/// Writes one artifact. All methods block.
pub struct ArtifactWriter {
    shared: Arc<Shared>,
    name: String,
    media: String,
    open: OpenPack,
    recipe: RecipeBuilder,
    references: Vec<Reference>,
    blake3: Option<String>,
    buffer: Vec<u8>,
    /// See [`ArtifactWriter::is_torn`].
    torn: bool,
}

/// An artifact whose bytes are all given; becomes part of the manifest at commit.
pub struct PendingArtifact {
    pub(super) name: String,
    pub(super) media: String,
    pub(super) parts: Vec<Part>,
    pub(super) blake3: Option<String>,
}

/// A run of an artifact's bytes that was written in one go.
pub(super) struct Part {
    pub(super) recipe: RecipeBuilder,
    pub(super) references: Vec<Reference>,
}

impl PendingArtifact {
    /// Bytes of the artifact.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.recipe.bytes).sum()
    }

    /// One artifact of several that were written side by side: the bytes of the first one, which also gives its name,
    /// then those of the second, and so on. Its hash as a whole is not known.
    #[must_use]
    pub fn join(mut self, behind: Vec<PendingArtifact>) -> PendingArtifact {
        if !behind.is_empty() {
            self.blake3 = None;
            self.parts.extend(behind.into_iter().flat_map(|a| a.parts));
        }
        self
    }
}

impl ArtifactWriter {
    pub(super) fn new(shared: Arc<Shared>, name: &str, media: &str) -> Self {
        ArtifactWriter {
            recipe: RecipeBuilder::new(shared.options.division),
            torn: false,
            shared,
            name: name.to_owned(),
            media: media.to_owned(),
            open: OpenPack::default(),
            references: Vec::new(),
            blake3: None,
            buffer: Vec::new(),
        }
    }

    /// Takes a whole stream. Whether its producer ended well is for the caller to find out before he uses the
    /// artifact.
    pub fn stream(&mut self, reader: &mut dyn Read) -> Result<()> {
        let mut hasher = blake3::Hasher::new();
        self.pieces(reader, |bytes| {
            hasher.update(bytes);
        })?;
        self.blake3 = Some(hasher.finalize().to_hex().to_string());
        Ok(())
    }

    /// The same for one of several that are [joined](PendingArtifact::join): the hash of the whole is not had from those of its parts.
    pub fn stream_part(&mut self, reader: &mut dyn Read) -> Result<()> {
        self.pieces(reader, |_| {})
    }

    fn pieces(&mut self, reader: &mut dyn Read, mut look: impl FnMut(&[u8])) -> Result<()> {
        self.chunks(reader, None, |writer, bytes, piece| {
            look(bytes);
            writer.shared.monitor.event(Event::Read(bytes.len() as u64));
            writer.recipe.push(None, vec![piece])?;
            writer.collect()
        })
    }

    /// Takes a small value as a stream.
    pub fn value(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream(&mut &bytes[..])
    }

    /// Cuts a reader into chunks, stores the unknown ones, and gives each with its piece, in order.
    /// With a length, exactly so many bytes are read.
    fn chunks(
        &mut self,
        reader: &mut dyn Read,
        length: Option<u64>,
        mut each: impl FnMut(&mut Self, &[u8], Piece) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() {
            // Zeroed by the system as it is touched: a short stream does not pay for the whole window.
            buffer = vec![0; WINDOW];
        }
        let (mut start, mut end) = (0, 0);
        let mut left = length.unwrap_or(u64::MAX);
        let mut at_end = false;
        loop {
            while !at_end && end - start < chunker::MAX {
                if end == WINDOW {
                    buffer.copy_within(start..end, 0);
                    end -= start;
                    start = 0;
                }
                let want = (WINDOW - end).min(usize::try_from(left).unwrap_or(usize::MAX));
                if want == 0 {
                    at_end = true;
                    break;
                }
                match reader.read(&mut buffer[end..end + want]) {
                    Ok(0) => at_end = true,
                    Ok(n) => {
                        end += n;
                        left -= n as u64;
                        self.shared.counters.read.fetch_add(n as u64, Ordering::Relaxed);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Error::new(Kind::Source, "reading failed").because(e)),
                }
            }
            if start == end {
                break;
            }
            let cut = self.shared.chunker.cut(&buffer[start..end]);
            let chunk = &buffer[start..start + cut];
            let piece = self.chunk(chunk)?;
            each(self, chunk, piece)?;
            start += cut;
        }
        self.buffer = buffer;
        if length.is_some() && left > 0 {
            return Err(Error::new(Kind::Source, "the file is shorter than it was")
                .because(format!("{left} bytes are missing")));
        }
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<Piece> {
        let id = self.shared.vault.secret.blob_id(bytes);
        self.mend(|repair| repair.chunk(&id, bytes));
        let length = bytes.len() as u32;
        if let Some((home, offset)) = self.find(&id, bytes.len())? {
            return Ok(Piece { home, offset, length, blob: Some(id) });
        }
        self.append(bytes, Some(id)).map(|(home, offset)| Piece { home, offset, length, blob: Some(id) })
    }

    /// Looks a blob up; the first look of a run reads what earlier backups know.
    fn find(&self, id: &BlobId, length: usize) -> Result<Option<(Home, u32)>> {
        let mut state = lock(&self.shared.known);
        if !state.loaded {
            state.loaded = true;
            let known = &mut state.known;
            self.shared.runtime.block_on(self.shared.each_earlier_segment(|reference, segment| {
                if !self.shared.damaged.contains(&reference.object) {
                    known.add_segment(segment);
                }
                !known.is_full()
            }))?;
        }
        Ok(state.known.find(id, length))
    }

    /// Puts bytes into the open pack.
    fn append(&mut self, bytes: &[u8], blob: Option<BlobId>) -> Result<(Home, u32)> {
        if self.open.plain.len() + bytes.len() > pack::MAX {
            self.flush()?;
        }
        let offset = self.open.plain.len() as u32;
        if self.open.plain.capacity() == 0 {
            self.open.plain.reserve_exact(pack::TARGET + chunker::MAX);
        }
        self.open.plain.extend_from_slice(bytes);
        self.shared.counters.new.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(id) = blob {
            let length = bytes.len() as u32;
            self.open.blobs.push((id, offset, length));
            let mut state = lock(&self.shared.known);
            let home = *self.open.home.get_or_insert_with(|| state.known.add_slot(self.open.slot.clone()));
            state.known.add(id, home, offset, length);
        }
        let home = Home::Slot(self.open.slot.clone());
        if self.open.plain.len() >= pack::TARGET {
            self.flush()?;
        }
        Ok((home, offset))
    }

    fn flush(&mut self) -> Result<()> {
        self.shared.failed()?;
        let full = std::mem::take(&mut self.open);
        if !full.plain.is_empty() {
            self.shared.ship_pack(full);
        }
        Ok(())
    }

    /// Adds a tar member without content: a directory, a link, a device, an empty file.
    pub fn member(&mut self, file: FileEntry, header: &[u8]) -> Result<()> {
        self.mend(|repair| repair.header(&file.path, header));
        let piece = self.raw(header)?;
        self.recipe.push(Some(file), vec![piece])?;
        self.collect()
    }

    /// Adds a small file with its content in hand.
    pub fn small(&mut self, mut file: FileEntry, header: &[u8], content: &[u8]) -> Result<()> {
        let id = self.shared.vault.secret.blob_id(content);
        file.blob = Some(id);
        let padding = &[0u8; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()];
        self.mend(|repair| {
            repair.header(&file.path, header);
            repair.chunk(&id, content);
        });
        let length = content.len() as u32;
        let mut pieces = vec![self.raw(header)?];
        match self.find(&id, content.len())? {
            Some((home, offset)) => pieces.push(Piece { home, offset, length, blob: None }),
            None => pieces.push(self.append(content, Some(id)).map(|(home, offset)| Piece {
                home,
                offset,
                length,
                blob: None,
            })?),
        }
        if !padding.is_empty() {
            pieces.push(self.raw(padding)?);
        }
        self.recipe.push(Some(file), pieces)?;
        self.collect()
    }

    /// Adds a large file: `stored` bytes of content from a reader (less than its size when it is sparse). Its entries
    /// leave as they fill, so that a file of any size takes the same memory.
    ///
    /// # Errors
    /// [`Kind::Source`] when reading fails; then see [`ArtifactWriter::is_torn`].
    pub fn large(&mut self, file: FileEntry, header: &[u8], stored: u64, reader: &mut dyn Read) -> Result<()> {
        let padding = &[0u8; BLOCK][..(stored.next_multiple_of(BLOCK as u64) - stored) as usize];
        self.mend(|repair| repair.header(&file.path, header));
        let path = file.path.clone();
        let mut file = Some(file);
        let mut pieces = vec![self.raw(header)?];
        self.chunks(reader, Some(stored), |writer, _, piece| {
            if writer.recipe.is_full(&pieces) {
                writer.torn = true;
                writer.part(file.take(), &path, std::mem::take(&mut pieces))?;
            }
            pieces.push(piece);
            Ok(())
        })?;
        if !padding.is_empty() {
            pieces.push(self.raw(padding)?);
        }
        self.torn = false;
        self.part(file, &path, pieces)
    }

    /// One entry of a large file; the first has the member.
    fn part(&mut self, file: Option<FileEntry>, path: &Bytes, pieces: Vec<Piece>) -> Result<()> {
        match file {
            Some(file) => self.recipe.push(Some(file), pieces)?,
            None => self.recipe.push_more(path.clone(), pieces)?,
        }
        self.collect()
    }

    /// Whether the beginning of a large file is given and its rest could not be read. It cannot be taken back: nothing
    /// can be made of this artifact any more, and the source has to begin a new one.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Adds bytes of the tar itself, like its end. They are the same in every backup, hence a blob.
    pub fn trailer(&mut self, bytes: &[u8]) -> Result<()> {
        let piece = self.chunk(bytes)?;
        self.recipe.push(None, vec![piece])?;
        self.collect()
    }

    /// Adds an unchanged entry of a base segment without reading anything.
    pub fn reuse(&mut self, base: &Arc<BaseSegment>, index: usize) -> Result<()> {
        self.recipe.reuse(base, index)?;
        self.collect()
    }

    /// Takes over a whole stream of an earlier backup that is known to be equal. False, and nothing to be used of
    /// this writer, when not all of it may be named again.
    pub fn same(&mut self, base: &Artifact) -> Result<bool> {
        for reference in &base.segments {
            let segment = self.shared.runtime.block_on(self.shared.base_segment(reference))?;
            for (index, entry) in segment.segment.entries.iter().enumerate() {
                if !self.reusable(&segment, entry) {
                    return Ok(false);
                }
                self.reuse(&segment, index)?;
            }
        }
        self.blake3.clone_from(&base.blake3);
        Ok(true)
    }

    /// Whether an entry may be named again without reading: all its packs may be, and no damaged pack waits for
    /// its bytes. What only a damaged segment names was not checked: the segment is known here from the cache.
    pub fn reusable(&self, base: &BaseSegment, entry: &Entry) -> bool {
        if self.shared.damaged.contains(&base.reference.object) {
            return false;
        }
        if entry.path().is_some_and(|path| lock(&self.shared.repair).waits_for(path)) {
            return false;
        }
        let state = lock(&self.shared.known);
        entry.extents.iter().all(|x| state.known.allows(&base.segment.packs[x.pack as usize].key))
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<Piece> {
        let length = bytes.len() as u32;
        self.append(bytes, None).map(|(home, offset)| Piece { home, offset, length, blob: None })
    }

    fn mend(&self, with: impl FnOnce(&mut Repair)) {
        let mut repair = lock(&self.shared.repair);
        if !repair.is_idle() {
            with(&mut repair);
        }
    }

    /// Sends finished segments on their way, and seals the open pack when too much waits for it.
    fn collect(&mut self) -> Result<()> {
        for finished in self.recipe.take_finished() {
            self.references.push(self.shared.ship_segment(finished)?);
        }
        // Only when this pack is what they wait for. While an earlier one is on its way, sealing the open one would
        // help nobody, and each change until then would become a tiny pack of its own.
        if self.recipe.waiting() > self.shared.options.waiting && self.recipe.waits_for(&self.open.slot) {
            self.flush()?;
        }
        Ok(())
    }

    /// All bytes are given. A short rest goes into the run's common last pack, so that small artifacts do not
    /// make small packs.
    pub fn finish(mut self) -> Result<PendingArtifact> {
        if self.torn {
            return Err(Error::new(Kind::Internal, "an artifact ended within a file"));
        }
        let rest = std::mem::take(&mut self.open);
        if rest.plain.len() >= pack::TAIL {
            self.shared.ship_pack(rest);
        } else if !rest.plain.is_empty() {
            let full = lock(&self.shared.tail).absorb(rest);
            if let Some(full) = full {
                self.shared.ship_pack(full);
            }
        }
        self.shared.failed()?;
        Ok(PendingArtifact {
            blake3: self.blake3.take(),
            name: std::mem::take(&mut self.name),
            media: std::mem::take(&mut self.media),
            parts: vec![Part {
                recipe: std::mem::take(&mut self.recipe),
                references: std::mem::take(&mut self.references),
            }],
        })
    }
}

/// An artifact that is given up leaves its open pack to the run: another artifact may have found a blob in it and
/// wait for it to be stored. Must not block, since it may happen anywhere.
impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.open);
        if !rest.blobs.is_empty() {
            self.shared.spawn_pack(rest, None);
        }
    }
}

impl OpenPack {
    /// Appends another pack's bytes. When this one is full then, it is given back and an empty one stays.
    fn absorb(&mut self, other: OpenPack) -> Option<OpenPack> {
        let base = self.plain.len() as u32;
        self.plain.extend_from_slice(&other.plain);
        self.blobs.extend(other.blobs.iter().map(|(id, offset, length)| (*id, base + offset, *length)));
        other.slot.moved(self.slot.clone(), base);
        (self.plain.len() >= pack::TARGET).then(|| std::mem::take(self))
    }
}

/// Turns a finished segment of a recipe into what the manifest will say.
impl Shared {
    pub(super) fn ship_segment(self: &Arc<Self>, finished: Finished) -> Result<Reference> {
        match finished {
            Finished::Same(reference) => Ok(Reference::Ready(reference)),
            Finished::New { body, entries, bytes, first } => {
                let id = self.vault.secret.name_of(&body);
                if let Some(known) = self.segments.get(&id) {
                    return Ok(Reference::Ready(known.clone()));
                }
                let coming = Arc::new(OnceLock::new());
                self.store_segment(id, body, entries, bytes, first, coming.clone());
                Ok(Reference::Coming(coming))
            }
        }
    }
}
