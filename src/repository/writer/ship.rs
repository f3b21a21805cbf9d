//! Sealing and uploading beside the sources: the only place of the writer that runs tasks.

use super::journal::Uploaded;
use super::known;
use super::pack::OpenPack;
use super::{Shared, lock};
use crate::error::{Error, Kind, Result};
use crate::model::{PackId, PackKey};
use crate::repository::layout;
use crate::repository::record::{Audience, RecordKind};
use crate::repository::segment::{Bytes, PackInfo, SegmentRef};
use crate::storage::PutOutcome;
use crate::telemetry::monitor::Event;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use tokio::sync::OwnedSemaphorePermit;

/// Generations that are tried for one name before something must be very wrong.
const MAX_GENERATION: u32 = 1000;

impl Shared {
    /// Blocks until the budget has room for so many bytes.
    fn admit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = (bytes.div_ceil(1024) as u32).min((self.options.memory >> 10) as u32);
        self.runtime.block_on(self.budget.clone().acquire_many_owned(kib)).ok()
    }

    /// Seals and stores a pack in the background. Blocks only for the budget.
    pub(super) fn ship_pack(self: &Arc<Self>, pack: OpenPack) {
        // Plain and sealed at once, at worst.
        let permit = self.admit(pack.plain.len() * 2);
        self.spawn_pack(pack, permit);
    }

    /// As [`Shared::ship_pack`], for whom has been admitted or may not wait.
    pub(super) fn spawn_pack(self: &Arc<Self>, pack: OpenPack, permit: Option<OwnedSemaphorePermit>) {
        self.in_flight.begin();
        let shared = self.clone();
        self.runtime.spawn(async move {
            let slot = pack.slot.clone();
            match shared.store_pack(pack, None).await {
                Ok(info) => slot.stored(info),
                Err(e) => shared.fail(e),
            }
            drop(permit);
            shared.in_flight.end();
        });
    }

    /// How long the run has gone on.
    fn since_begin(&self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(self.begun.elapsed().as_secs() as i64)
    }

    /// Seals a pack, stores it under the first free generation and enters it into the upload journal. One that
    /// earlier backups name is taken as it is, unless a generation is asked for.
    pub(super) async fn store_pack(self: &Arc<Self>, pack: OpenPack, at_least: Option<u32>) -> Result<PackInfo> {
        let gone = || Error::new(Kind::Internal, "the sealing task is gone");
        let OpenPack { plain, blobs, .. } = pack;
        if at_least.is_none()
            && plain.len() < known::TINY
            // A thread that loads the table holds it for long, and this one must not wait.
            && let Ok(state) = self.known.try_lock()
            && let Some(info) = state.known.tiny(&self.vault.secret.name_of(&plain))
        {
            return Ok(info);
        }
        let plain_length = plain.len() as u32;
        let sealed = {
            let _cpu = self.cpu.acquire().await.map_err(|_| gone())?;
            let shared = self.clone();
            tokio::task::spawn_blocking(move || shared.sealer.seal(&plain)).await.map_err(|_| gone())??
        };
        let _upload = self.uploads.acquire().await.map_err(|_| gone())?;
        let epoch = self.vault.epoch()?.number;
        let (size, crc) = (sealed.bytes.len(), sealed.crc);
        let first = self.lowest_generation(&sealed.id).max(at_least.unwrap_or(0));
        // Taken before the put, hence rather too early than too late.
        let at = self.store_time + self.since_begin();
        let key = self.put_generation(sealed.id, first, sealed.bytes.into(), layout::pack).await?;
        let info = PackInfo { key, epoch, plain: plain_length, sealed: size as u32, crc };
        self.counters.packs.fetch_add(1, Ordering::Relaxed);
        self.counters.shipped.fetch_add(size as u64, Ordering::Relaxed);
        self.monitor.event(Event::Shipped(size as u64));
        lock(&self.journal).add(&Uploaded { vault: self.vault.header.vault, at, pack: info, blobs })?;
        Ok(info)
    }

    /// Stores an object under the first generation of its name that is free. One that exists already is left
    /// alone: what is in it cannot be known here, since a sealed host opens no pack.
    async fn put_generation(
        &self,
        id: PackId,
        first: u32,
        body: bytes::Bytes,
        place: impl Fn(&PackKey) -> String,
    ) -> Result<PackKey> {
        for generation in first..first + MAX_GENERATION {
            let key = PackKey { id, generation };
            if self.vault.put_raw(&place(&key), body.clone()).await? == PutOutcome::Created {
                return Ok(key);
            }
        }
        Err(Error::new(Kind::Storage, "the store says of a thousand names in a row that they exist").at(id))
    }

    /// Seals and stores a segment in the background; its reference appears in `coming`.
    pub(super) fn store_segment(
        self: &Arc<Self>,
        id: PackId,
        body: Vec<u8>,
        entries: u32,
        bytes: u64,
        first: Option<Bytes>,
        coming: Arc<OnceLock<SegmentRef>>,
    ) {
        let permit = self.admit(body.len() * 2);
        self.in_flight.begin();
        let shared = self.clone();
        self.runtime.spawn(async move {
            match shared.put_segment(id, &body).await {
                Ok((object, sealed, crc)) => {
                    shared.catalog.keep_segment(&id, &body);
                    let _ = coming.set(SegmentRef { object, sealed, crc, entries, bytes, first });
                }
                Err(e) => shared.fail(e),
            }
            drop(permit);
            shared.in_flight.end();
        });
    }

    pub(super) async fn put_segment(&self, id: PackId, body: &[u8]) -> Result<(PackKey, u32, u32)> {
        let _upload =
            self.uploads.acquire().await.map_err(|_| Error::new(Kind::Internal, "the upload queue is gone"))?;
        let lowest = self.lowest_generation(&id);
        for generation in lowest..lowest + MAX_GENERATION {
            let object = PackKey { id, generation };
            let key = layout::meta(&object);
            let sealed = self.vault.seal_record(RecordKind::Segment, Audience::Catalog, &key, body)?;
            let (size, crc) = (sealed.len() as u32, crc32c::crc32c(&sealed));
            if self.vault.put_raw(&key, sealed).await? == PutOutcome::Created {
                self.counters.shipped.fetch_add(u64::from(size), Ordering::Relaxed);
                self.monitor.event(Event::Shipped(u64::from(size)));
                return Ok((object, size, crc));
            }
            // Segments can be read here: an equal one from a killed or older run will do.
            if let Some(there) = self.vault.get_raw(&key).await?
                && self.vault.open_record(RecordKind::Segment, &key, &there).is_ok_and(|b| b == body)
            {
                return Ok((object, there.len() as u32, crc32c::crc32c(&there)));
            }
        }
        Err(Error::new(Kind::Storage, "the store says of a thousand names in a row that they exist").at(id))
    }
}
