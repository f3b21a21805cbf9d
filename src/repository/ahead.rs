//! What is fetched ahead of whoever takes the bytes of an artifact.
//!
//! Packs are counted, not the pieces of the recipe: where small files and large ones take turns, or an old generation and
//! a new one, hundreds of pieces in a row come from the same two or three packs, and the processors would wait for the one
//! that is next.

use super::layout;
use super::segment::PackInfo;
use crate::error::{Error, Kind, Result};
use crate::model::PackKey;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use tokio_util::task::AbortOnDropHandle;

/// Jobs in the window at most: an artifact may be the same few packs over and over.
const JOBS: usize = 1024;
/// Of a pack of which a job takes less than one part in so many that part is copied: whoever lets pieces wait, as who
/// writes files does, would keep all of the pack in memory for it.
const LITTLE: usize = 4;

/// Consecutive ranges of one pack: offset and length.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    /// The pack.
    pub pack: PackInfo,
    /// The ranges, in order.
    pub ranges: Vec<(u32, u32)>,
}

/// Runs of bytes, joined where they lie side by side, grouped by pack.
pub fn jobs(runs: impl Iterator<Item = (PackInfo, u32, u32)>) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for (pack, from, bytes) in runs {
        match jobs.last_mut() {
            Some(job) if job.pack.key == pack.key => match job.ranges.last_mut() {
                Some((offset, length)) if *offset + *length == from => *length += bytes,
                _ => job.ranges.push((from, bytes)),
            },
            _ => jobs.push(Job { pack, ranges: vec![(from, bytes)] }),
        }
    }
    jobs
}

/// Work that ends when nobody waits for it any more.
pub type Task = AbortOnDropHandle<Result<Bytes>>;

/// Jobs that were begun, in order, and their packs.
pub struct Window {
    most: usize,
    jobs: VecDeque<Result<Job>>,
    packs: HashMap<PackKey, Pack>,
    failed: bool,
}

/// A pack that jobs in the window need.
struct Pack {
    task: Task,
    plain: Option<Bytes>,
    /// Jobs that need it.
    jobs: usize,
}

impl Window {
    /// A window of so many packs.
    pub fn new(most: usize) -> Self {
        Window { most, jobs: VecDeque::new(), packs: HashMap::new(), failed: false }
    }

    /// Whether no job is in it.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether more may be begun.
    pub fn has_room(&self) -> bool {
        self.packs.len() < self.most && self.jobs.len() < JOBS && !self.failed
    }

    /// Begins a job; `fetch` is called for a pack that is not under way yet. Nothing is begun behind a failure.
    pub fn push(&mut self, job: Result<Job>, fetch: impl FnOnce(PackInfo) -> Task) {
        match &job {
            Err(_) => self.failed = true,
            Ok(job) => {
                let new = || Pack { task: fetch(job.pack), plain: None, jobs: 0 };
                self.packs.entry(job.pack.key).or_insert_with(new).jobs += 1;
            }
        }
        self.jobs.push_back(job);
    }

    /// The pieces of the next job; nothing when no job is in the window. May be given up and called again.
    ///
    /// # Errors
    /// That of the job, or [`Kind::Damaged`] for a range that its pack does not have. Nothing comes behind one.
    pub async fn next(&mut self) -> Option<Result<Vec<Bytes>>> {
        let Some(Ok(job)) = self.jobs.front() else { return self.jobs.pop_front().map(|job| job.map(|_| Vec::new())) };
        let pack = self.packs.get_mut(&job.pack.key)?;
        if pack.plain.is_none() {
            match (&mut pack.task).await.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "a reading task is gone"))) {
                Ok(plain) => pack.plain = Some(plain),
                Err(e) => return Some(Err(e)),
            }
        }
        let pieces = cut(job, pack.plain.as_ref()?);
        pack.jobs -= 1;
        if pack.jobs == 0 {
            let key = job.pack.key;
            self.packs.remove(&key);
        }
        self.jobs.pop_front();
        Some(pieces)
    }
}

/// What a job takes of its pack.
fn cut(job: &Job, plain: &Bytes) -> Result<Vec<Bytes>> {
    let taken: usize = job.ranges.iter().map(|(_, length)| *length as usize).sum();
    let little = taken < plain.len() / LITTLE;
    let pieces = job.ranges.iter().map(|(offset, length)| {
        let (from, to) = (*offset as usize, *offset as usize + *length as usize);
        match little {
            _ if to > plain.len() => Err(Error::damaged(
                layout::pack(&job.pack.key),
                "the segment takes bytes from behind the end of the pack",
            )),
            true => Ok(Bytes::copy_from_slice(&plain[from..to])),
            false => Ok(plain.slice(from..to)),
        }
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PackId;
    use std::cell::RefCell;

    fn info(n: u8) -> PackInfo {
        PackInfo { key: PackKey { id: PackId([n; 32]), generation: 0 }, epoch: 1, plain: 100, sealed: 90, crc: 0 }
    }

    fn job(n: u8, from: u32) -> Result<Job> {
        Ok(Job { pack: info(n), ranges: vec![(from, 10)] })
    }

    /// A pack whose bytes are its number.
    fn bytes(n: u8) -> Task {
        AbortOnDropHandle::new(tokio::spawn(async move { Ok(Bytes::from(vec![n; 100])) }))
    }

    #[tokio::test]
    async fn packs_are_counted_and_each_is_fetched_once_while_it_is_needed() {
        let fetched = RefCell::new(Vec::new());
        let mut window = Window::new(3);
        let push = |window: &mut Window, n: u8| {
            window.push(job(n, 0), |pack| {
                fetched.borrow_mut().push(pack.key.id.0[0]);
                bytes(n)
            })
        };
        for n in [1, 2, 1, 2, 1, 2, 1] {
            assert!(window.has_room());
            push(&mut window, n);
        }
        assert!(window.has_room());
        push(&mut window, 3);
        assert!(!window.has_room());
        assert_eq!(*fetched.borrow(), [1, 2, 3]);
        let mut came = Vec::new();
        while let Some(pieces) = window.next().await {
            let pieces = pieces.unwrap();
            assert_eq!(pieces.len(), 1);
            came.push(pieces[0][0]);
            // The last job of pack 2 lets another one in, and not an earlier one.
            assert_eq!(window.has_room(), came.len() >= 6);
        }
        assert_eq!(came, [1, 2, 1, 2, 1, 2, 1, 3]);
        push(&mut window, 1);
        assert_eq!(*fetched.borrow(), [1, 2, 3, 1]);
    }

    #[tokio::test]
    async fn what_came_before_a_failure_is_delivered_and_nothing_is_begun_behind_it() {
        let mut window = Window::new(3);
        window.push(job(1, 0), |_| bytes(1));
        window.push(Err(Error::damaged("meta/x", "torn")), |_| unreachable!());
        assert!(!window.has_room());
        assert!(window.next().await.unwrap().is_ok());
        assert!(window.next().await.unwrap().unwrap_err().to_string().contains("torn"));
        let mut window = Window::new(3);
        window.push(job(1, 91), |_| bytes(1));
        let e = window.next().await.unwrap().unwrap_err();
        assert!(e.kind == Kind::Damaged && e.to_string().contains("behind the end of the pack"), "{e}");
    }

    #[tokio::test]
    async fn a_job_that_was_waited_for_in_vain_comes_later() {
        let (go, gone) = tokio::sync::oneshot::channel();
        let mut window = Window::new(3);
        window.push(job(1, 0), |_| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                let _ = gone.await;
                Ok(Bytes::from(vec![7; 100]))
            }))
        });
        tokio::select! {
            biased;
            _ = window.next() => panic!("nothing was fetched"),
            () = tokio::task::yield_now() => {}
        }
        go.send(()).unwrap();
        assert_eq!(window.next().await.unwrap().unwrap()[0][0], 7);
    }

    #[test]
    fn what_is_little_of_its_pack_is_copied() {
        let plain = Bytes::from(vec![1; 100]);
        let inside = |piece: &Bytes| plain.as_ptr_range().contains(&piece.as_ptr());
        let job = |ranges| Job { pack: info(1), ranges };
        assert!(!inside(&cut(&job(vec![(0, 10)]), &plain).unwrap()[0]));
        assert!(inside(&cut(&job(vec![(0, 10), (50, 15)]), &plain).unwrap()[0]));
    }

    #[test]
    fn neighbours_are_joined_and_a_change_of_pack_begins_a_job() {
        let runs = [(info(1), 0, 5), (info(1), 5, 5), (info(1), 20, 1), (info(2), 0, 1), (info(1), 21, 1)];
        let found: Vec<_> = jobs(runs.into_iter()).into_iter().map(|j| (j.pack.key.id.0[0], j.ranges)).collect();
        assert_eq!(found, [(1, vec![(0, 10), (20, 1)]), (2, vec![(0, 1)]), (1, vec![(21, 1)])]);
    }
}
