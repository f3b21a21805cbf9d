//! Where bytes will be: a pack that is being filled, sealed or stored.
//!
//! Recipes are written while packs are still on their way. A slot stands for one pack plaintext until its name
//! is known and it is stored; the recipe keeps the slot and asks later.

use crate::repository::segment::PackInfo;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

enum State {
    /// Being filled, sealed or uploaded.
    Pending,
    /// Its bytes were appended to another slot, from this offset on.
    Moved(Arc<Slot>, u32),
    /// Durable in the store.
    Stored(PackInfo),
}

/// One pack plaintext on its way.
pub struct Slot(Mutex<State>);

impl Slot {
    /// A slot for a new plaintext.
    pub fn new() -> Arc<Self> {
        Arc::new(Slot(Mutex::new(State::Pending)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes went into `other`, from `base` on.
    pub fn moved(&self, other: Arc<Slot>, base: u32) {
        *self.lock() = State::Moved(other, base);
    }

    /// The pack is durable.
    pub fn stored(&self, info: PackInfo) {
        *self.lock() = State::Stored(info);
    }

    /// The stored pack and the offset in it, once there is one.
    pub fn resolve(&self, offset: u32) -> Option<(PackInfo, u32)> {
        match &*self.lock() {
            State::Pending => None,
            State::Moved(other, base) => other.resolve(base + offset),
            State::Stored(info) => Some((*info, offset)),
        }
    }
}

/// A pack that is stored, or a slot that will be one.
#[derive(Clone)]
pub enum Home {
    /// Stored by an earlier backup, or by this run a while ago.
    Stored(PackInfo),
    /// Of this run.
    Slot(Arc<Slot>),
}

impl Home {
    /// The stored pack and the offset in it, once there is one.
    pub fn resolve(&self, offset: u32) -> Option<(PackInfo, u32)> {
        match self {
            Home::Stored(info) => Some((*info, offset)),
            Home::Slot(slot) => slot.resolve(offset),
        }
    }
}

/// Counts packs on their way, so that a commit can wait for the last one.
#[derive(Default)]
pub struct InFlight {
    count: Mutex<usize>,
    changed: Condvar,
}

impl InFlight {
    /// One more.
    pub fn begin(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// One less.
    pub fn end(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.changed.notify_all();
    }

    /// Blocks until none is left. Call from a thread that may block.
    pub fn wait(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
