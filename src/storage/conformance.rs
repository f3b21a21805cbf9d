//! The promises of the port as a test suite for any store.
//!
//! The suite works below a random folder, so it can run on a bucket that is in use, and removes what it wrote.
//! A violated promise panics with a message that names it: the suite is for tests and for trying out a server,
//! never for a running backup.

use super::ObjectStore;
use super::conformance_checks as checks;
use std::sync::Arc;

/// What to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Whether creating one key from several sides at once must have one winner. Off for raw stores whose server
    /// ignores or races conditions.
    pub atomic_create: bool,
    /// Whether a conditional create must leave an existing object alone. Off for servers that ignore conditions.
    pub create_only: bool,
    /// How many objects the listing checks create; more than 1,000 makes stores return several pages.
    pub objects: usize,
}

impl Default for Suite {
    fn default() -> Self {
        Suite { atomic_create: true, create_only: true, objects: 1100 }
    }
}

/// Runs the whole suite.
///
/// # Panics
/// On the first violated promise.
pub async fn run(store: Arc<dyn ObjectStore>) {
    Suite::default().run(store).await;
}

impl Suite {
    /// Runs the chosen part of the suite.
    ///
    /// # Panics
    /// On the first violated promise.
    pub async fn run(self, store: Arc<dyn ObjectStore>) {
        let home = format!("conformance-{:016x}", rand::random::<u64>());
        checks::clock(&*store).await;
        checks::round_trips(&*store, &home).await;
        checks::missing_objects(&*store, &home).await;
        checks::size_limit(&*store, &home).await;
        checks::odd_keys(&*store, &home).await;
        checks::invalid_keys(&*store).await;
        if self.create_only {
            checks::create_only(&*store, &home).await;
        }
        if self.atomic_create {
            checks::one_winner(&store, &home).await;
        }
        checks::blind_write(&*store, &home).await;
        checks::prefixes_and_folders(&*store, &home).await;
        checks::deletion(&*store, &home).await;
        checks::pages(&store, &home, self.objects).await;
        checks::clean_up(&store, &home).await;
    }
}
