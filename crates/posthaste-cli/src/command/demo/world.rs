//! What the demo takes place in: a new folder, databases with the tables of the shop and the
//! consumers, and a way for messages to go.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::failure::{Failure, sentence};
use crate::settings::address::Address;

use super::carrier;
use super::site::Site;
use super::stage::Stage;

/// Who receives the messages of the shop.
pub(super) const CONSUMERS: [&str; 2] = ["shipping", "billing"];
/// Where the messages of the shop go.
pub(super) const TOPIC: &str = "orders";
/// What the shop's database is called.
pub(super) const SHOP: &str = "app";

/// The world as this process sees it. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct World<S> {
    site: Site,
    shop: S,
    consumers: [S; CONSUMERS.len()],
    folder: Arc<Mutex<Option<TempDir>>>,
}

impl<S: Stage> World<S> {
    /// Makes a new folder, the databases and their tables.
    ///
    /// # Errors
    /// If there is no room for it, it cannot be written, or a server refuses. Nothing is left.
    pub(super) async fn create(
        database: Option<Address>,
        broker: Option<Address>,
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("posthaste-demo-").tempdir();
        let folder = folder.map_err(|error| no_room(&error.to_string()))?;
        let number = getrandom::u32()
            .map_err(|error| Failure::failed(format!("no random numbers to be had: {error}")))?;
        let name = format!("posthaste_demo_{number:08x}");
        let site = Site { folder: folder.path().to_path_buf(), name, database, broker };
        let shop = S::open(&site, SHOP, true)?;
        let [shipping, billing] = CONSUMERS.map(|name| S::open(&site, name, true));
        let consumers = [shipping?, billing?];
        carrier::reach(&site).await?;
        let folder = Arc::new(Mutex::new(Some(folder)));
        let world = Self { site, shop, consumers, folder };
        match world.furnish().await {
            Ok(()) => Ok(world),
            Err(failure) => {
                // Where nothing was made, or nobody answers, there is nothing to take away.
                let is_made = matches!(world.shop.version().await, Ok(Some(_)));
                let left = world.leave(!is_made).await;
                let removed = world.remove_folder(false).map(drop);
                Err(failure.and(left.and(removed).err()))
            }
        }
    }

    async fn furnish(&self) -> Result<(), Failure> {
        self.prepare(&self.shop).await?;
        self.shop.furnish_shop().await?;
        for (name, consumer) in self.consumers() {
            self.prepare(consumer).await?;
            consumer.furnish_ledger(name).await?;
        }
        Ok(())
    }

    /// Makes the tables of Posthaste.
    async fn prepare(&self, database: &S) -> Result<(), Failure> {
        let migrated = database.migrate().await;
        migrated.map(drop).map_err(|error| match self.site.database {
            Some(_) => error.into(),
            None => no_room(&sentence(&error)),
        })
    }

    /// Where it is.
    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// The shop's database.
    pub(super) fn shop(&self) -> &S {
        &self.shop
    }

    /// The consumers' databases, with their names.
    pub(super) fn consumers(&self) -> impl Iterator<Item = (&'static str, &S)> {
        CONSUMERS.into_iter().zip(&self.consumers)
    }

    /// Closes the databases and removes what was made at servers, unless it is to be kept.
    ///
    /// # Errors
    /// If something cannot be removed; the rest of it is.
    pub(super) async fn leave(&self, keep: bool) -> Result<(), Failure> {
        let cleared = if keep { Ok(()) } else { carrier::clear(&self.site).await };
        for consumer in &self.consumers {
            consumer.leave(&self.site, true).await?;
        }
        let left = self.shop.leave(&self.site, keep).await;
        match (cleared, left) {
            (Err(first), left) => Err(first.and(left.err())),
            (Ok(()), left) => left,
        }
    }

    /// Removes the folder, or returns where it is kept. To be done after [`World::leave`].
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove_folder(&self, keep: bool) -> Result<Option<PathBuf>, Failure> {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(folder) = folder else { return Ok(None) };
        if keep {
            return Ok(Some(folder.keep()));
        }
        let path = folder.path().display().to_string();
        folder.close().map_err(|error| {
            Failure::failed(format!("cannot remove {path}: {error}; remove it by hand"))
        })?;
        Ok(None)
    }
}

fn no_room(cause: &str) -> Failure {
    let folder = std::env::temp_dir();
    Failure::failed(format!(
        "cannot set up the demo in {}: {cause}; set TMPDIR to a folder with some room",
        folder.display()
    ))
}
