//! The way back: packs are fetched in parallel, authenticated, and delivered in artifact order.
//!
//! Nothing is delivered that was not proven: an object is opened by age, decompressed to exactly the recorded
//! length, and its keyed hash compared with its name. When one generation of a pack fails, the others are tried.

use super::ahead::{Job, Window, jobs};
use super::catalog::Catalog;
use super::frame;
use super::layout;
use super::manifest::Artifact;
use super::seal::{self, OpenError};
use super::segment::{Entry, PackInfo, Segment, SegmentRef};
use super::selection::Selection;
use super::vault::sealed_host;
use super::writer::pack::MAX;
use crate::error::{Error, Kind, Result};
use crate::model::{PackKey, cores};
use crate::telemetry::monitor::{Event, Monitor};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// How far a stream is ahead of who takes it.
#[derive(Clone, Copy)]
struct Ahead {
    /// Packs that are fetched and opened.
    packs: usize,
    /// Pieces of packs before those that wait to be taken.
    pieces: usize,
}

/// A whole artifact.
const WHOLE: Ahead = Ahead { packs: 8, pieces: 4 };
/// A range: several of those are read side by side, and each piece keeps its pack, up to 8 MiB, in memory.
const RANGE: Ahead = Ahead { packs: 3, pieces: 1 };
/// Opened packs that are kept, since a recipe of many generations goes back and forth between packs.
const KEPT: usize = 12;

/// Bytes of an artifact as they come.
pub type Pieces = mpsc::Receiver<Result<Bytes>>;

type Cell = Arc<OnceCell<Bytes>>;

/// Reads artifacts of one vault.
#[derive(Clone)]
pub struct Reader {
    catalog: Catalog,
    kept: Arc<Mutex<VecDeque<(PackKey, Cell)>>>,
    /// As many packs are opened at once as there are processors; more would only push each other out of their caches.
    cpu: Arc<Semaphore>,
    monitor: Arc<dyn Monitor>,
}

impl Reader {
    /// A reader.
    ///
    /// # Errors
    /// [`Kind::Key`] when no identity is at hand: better now than after the first download.
    pub fn new(catalog: Catalog, monitor: Arc<dyn Monitor>) -> Result<Self> {
        if !catalog.vault().can_read_packs() {
            return Err(sealed_host(""));
        }
        let cpu = Arc::new(Semaphore::new(cores()));
        Ok(Reader { catalog: catalog.remembering(), kept: Arc::default(), cpu, monitor })
    }

    /// The catalog that this reader reads by.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Who watches.
    pub fn monitor(&self) -> &Arc<dyn Monitor> {
        &self.monitor
    }

    /// The plaintext of a pack, from whichever generation is sound.
    pub async fn pack(&self, info: &PackInfo) -> Result<Bytes> {
        let cell = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            used(&mut kept, &info.key).unwrap_or_else(|| {
                if kept.len() >= KEPT {
                    kept.pop_front();
                }
                let cell = Cell::default();
                kept.push_back((info.key, cell.clone()));
                cell
            })
        };
        cell.get_or_try_init(|| self.fetch_any(info)).await.cloned()
    }

    /// A job needs it too: it is to be kept as long as one that was asked for now.
    fn keep(&self, key: &PackKey) {
        used(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner), key);
    }

    async fn fetch_any(&self, info: &PackInfo) -> Result<Bytes> {
        let first = match self.fetch(info, &info.key).await {
            Ok(plain) => return Ok(plain),
            // The store being away says nothing about the object; another generation would not come either.
            Err(e) if !matches!(e.kind, Kind::Damaged) => return Err(e),
            Err(e) => e,
        };
        for key in generations(&self.catalog, info).await? {
            if key != info.key
                && let Ok(plain) = self.fetch(info, &key).await
            {
                return Ok(plain);
            }
        }
        Err(first)
    }

    /// Fetches, opens and proves one generation.
    async fn fetch(&self, info: &PackInfo, key: &PackKey) -> Result<Bytes> {
        let vault = self.catalog.vault();
        let name = layout::pack(key);
        let sealed = vault.get_raw(&name).await?.ok_or_else(|| Error::damaged(&name, "the pack is missing"))?;
        let (vault, info) = (vault.clone(), *info);
        let turn = self.cpu.clone().acquire_owned().await.map_err(|_| gone())?;
        let opened = tokio::task::spawn_blocking(move || {
            // Kept until it is done, also when nobody waits for it any more.
            let _turn = turn;
            open_pack(&vault, &info, &name, sealed)
        });
        opened.await.map_err(|_| gone())?
    }

    /// A stream of an artifact's bytes, or of the entries that `wanted` picks out of all of them, in order. The channel is
    /// bounded; an error ends it.
    pub fn stream(&self, artifact: &Artifact, wanted: impl Fn(&Entry) -> bool + Send + 'static) -> Pieces {
        self.entries(artifact.segments.clone(), wanted)
    }

    /// A stream of those members of a tree that are selected and that `wanted` picks, in order. Only segments that can
    /// hold them are read.
    pub fn members(
        &self,
        artifact: &Artifact,
        selection: &Selection,
        wanted: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Pieces {
        let selected = selection.clone();
        self.entries(selection.segments(&artifact.segments), move |e| {
            e.path().is_some_and(|p| selected.contains(&p.0)) && wanted(e)
        })
    }

    fn entries(&self, segments: Vec<SegmentRef>, wanted: impl Fn(&Entry) -> bool + Send + 'static) -> Pieces {
        self.deliver(segments.into_iter().map(|s| (s, ())).collect(), WHOLE, move |segment, ()| {
            jobs(
                segment
                    .entries
                    .iter()
                    .filter(|e| wanted(e))
                    .flat_map(|e| &e.extents)
                    .map(|x| (segment.packs[x.pack as usize], x.offset, x.length)),
            )
        })
    }

    /// A stream of `length` bytes of an artifact from `offset` on. What lies before and behind is not fetched.
    pub fn range(&self, artifact: &Artifact, offset: u64, length: u64) -> Pieces {
        let end = offset.saturating_add(length);
        let mut begin = 0;
        let mut segments = Vec::new();
        for segment in &artifact.segments {
            if begin < end && begin + segment.bytes > offset {
                segments.push((segment.clone(), begin));
            }
            begin += segment.bytes;
        }
        self.deliver(segments, RANGE, move |segment, mut at| {
            jobs(segment.entries.iter().flat_map(|e| &e.extents).filter_map(|x| {
                let begin = at;
                at += u64::from(x.length);
                let (from, to) = (offset.max(begin), end.min(at));
                let skip = u32::try_from(from.saturating_sub(begin)).ok()?;
                (from < to).then(|| (segment.packs[x.pack as usize], x.offset + skip, (to - from) as u32))
            }))
        })
    }

    /// Fetches what `pick` takes of each segment, packs ahead of the reader, and delivers it in order.
    fn deliver<T: Send + 'static>(
        &self,
        segments: Vec<(SegmentRef, T)>,
        ahead: Ahead,
        mut pick: impl FnMut(&Segment, T) -> Vec<Job> + Send + 'static,
    ) -> Pieces {
        let (sender, receiver) = mpsc::channel(ahead.pieces);
        let reader = self.clone();
        tokio::spawn(async move {
            let catalog = reader.catalog.clone();
            let jobs = stream::iter(segments)
                .map(move |(reference, with)| {
                    let catalog = catalog.clone();
                    going_on(async move { catalog.segment(&reference).await.map(|segment| (segment, with)) })
                })
                .buffered(2)
                .flat_map(move |segment| {
                    stream::iter(match segment {
                        Ok((segment, with)) => pick(&segment, with).into_iter().map(Ok).collect::<Vec<_>>(),
                        Err(e) => vec![Err(e)],
                    })
                });
            let (mut jobs, mut window, mut more) = (std::pin::pin!(jobs), Window::new(ahead.packs), true);
            while more || !window.is_empty() {
                tokio::select! {
                    biased;
                    // What is still fetched then ends with this task.
                    () = sender.closed() => return,
                    job = jobs.next(), if more && window.has_room() => match job {
                        Some(job) => {
                            if let Ok(job) = &job {
                                reader.keep(&job.pack.key);
                            }
                            window.push(job, |pack| {
                                let reader = reader.clone();
                                AbortOnDropHandle::new(tokio::spawn(async move { reader.pack(&pack).await }))
                            });
                        }
                        None => more = false,
                    },
                    Some(pieces) = window.next() => {
                        let pieces = match pieces {
                            Ok(pieces) => pieces,
                            Err(e) => {
                                let _ = sender.send(Err(e)).await;
                                return;
                            }
                        };
                        for piece in pieces {
                            reader.monitor.event(Event::Restored(piece.len() as u64));
                            if sender.send(Ok(piece)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        });
        receiver
    }

    /// A whole small artifact in memory.
    pub async fn small(&self, artifact: &Artifact) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut pieces = self.stream(artifact, |_| true);
        while let Some(piece) = pieces.recv().await {
            out.extend_from_slice(&piece?);
        }
        Ok(out)
    }
}

/// A pack that is kept. It goes to the end: what is used again and again stays, whatever else comes by.
fn used(kept: &mut VecDeque<(PackKey, Cell)>, key: &PackKey) -> Option<Cell> {
    let hit = kept.iter().position(|(k, _)| k == key).and_then(|i| kept.remove(i))?;
    let cell = hit.1.clone();
    kept.push_back(hit);
    Some(cell)
}

/// A task of its own, which goes on while whoever takes the pieces is waited for, and ends with who asked for it. A request
/// that nobody goes on with would run into its time limit.
fn going_on<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async move { task.await.unwrap_or_else(|_| Err(gone())) }
}

fn gone() -> Error {
    Error::new(Kind::Internal, "a reading task is gone")
}

/// All stored generations of a pack's name.
pub async fn generations(catalog: &Catalog, info: &PackInfo) -> Result<Vec<PackKey>> {
    let stored = catalog.vault().list(&layout::pack_generations(&info.key.id)).await?;
    Ok(stored.iter().filter_map(|o| layout::parse_pack(&o.key)).collect())
}

/// What is said of a pack that no identity opens although all are at hand, as far as is known here.
pub(super) const STRANGER: &str = "the pack is sealed to a stranger";

/// Opens and proves the bytes of a pack.
///
/// # Errors
/// [`Kind::Key`] when no identity of its epoch is at hand, [`Kind::Damaged`] with the object's name otherwise.
pub fn open_pack(vault: &super::vault::Vault, info: &PackInfo, name: &str, sealed: Bytes) -> Result<Bytes> {
    // The length is authentic only as far as whoever knows the vault's secret is honest; no pack is larger.
    if info.plain as usize > MAX {
        return Err(Error::damaged(name, "the segment gives the pack a length that no pack has")
            .because(format!("{} bytes instead of at most {MAX}", info.plain)));
    }
    let identities: Vec<&dyn age::Identity> =
        vault.epochs().iter().rev().filter_map(|e| e.identity.as_ref()).map(|i| i as &dyn age::Identity).collect();
    let opened = seal::open(identities.into_iter(), &sealed, MAX * 2).map_err(|e| match e {
        OpenError::NoMatchingKey if !vault.epochs().iter().any(|e| e.number == info.epoch && e.identity.is_some()) => {
            Error::new(Kind::Key, format!("no identity at hand opens packs of key epoch {}", info.epoch))
                .at(name)
                .hint("Give one with --identity.")
        }
        OpenError::NoMatchingKey => Error::damaged(name, STRANGER),
        OpenError::Damaged(why) => Error::damaged(name, "the pack cannot be opened").because(why),
    })?;
    // As many are opened at once as there are processors: of each only two forms are in memory at a time.
    drop(sealed);
    let plain = frame::decompress(&opened, info.plain as usize)
        .map_err(|e| Error::damaged(name, "the pack cannot be decompressed").because(e))?;
    drop(opened);
    if vault.secret.name_of(&plain) != info.key.id {
        return Err(Error::damaged(name, "the pack does not hold what its name says"));
    }
    Ok(plain.into())
}
