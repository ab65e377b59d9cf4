//! Reading tiles: from the store, else from the database, and never without proof.

use bytes::Bytes;
use futures::future::{join_all, try_join_all};

use super::{Client, Io, Remote, SignedHead, malformed};
use crate::digest::Sha256;
use crate::goproxy::{SumDbCall, Tile};
use crate::sumdb::tree::{self, HASH_BYTES, Plan, TreeHead, tile_in};
use crate::sumdb::{Forgery, SumError};

/// What a plan's tiles gave.
pub(super) struct Read {
    /// The hashes of the plan's nodes.
    pub(super) hashes: Vec<Sha256>,
    /// The plan's tiles, each as wide as the tree has it.
    tiles: Vec<(Tile, Found)>,
}

/// A tile that is authenticated by nobody yet.
struct Found {
    bytes: Bytes,
    stored: bool,
}

impl AsRef<[u8]> for Found {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<I: Io> Client<I> {
    /// A tile of height 8, of hashes or of records, proven to be part of the log.
    ///
    /// # Errors
    /// [`SumError::NotFound`] if the log has nothing there.
    pub async fn tile(&self, tile: &Tile) -> Result<Bytes, SumError> {
        let level = tile.level().unwrap_or(0);
        let known = Tile::new(tile.height(), Some(level), tile.number(), tile.width());
        let hashes_of = known.ok_or_else(|| no_tile(tile, &self.ours()))?;
        if let Some(found) = self.kept(tile).await {
            return Ok(found);
        }
        let hashes = self.hashes(&hashes_of).await?;
        if tile.is_data() {
            self.records(tile, &hashes).await
        } else {
            Ok(hashes)
        }
    }

    /// A tile of hashes. One that our tree has wider is read as wide as that.
    async fn hashes(&self, tile: &Tile) -> Result<Bytes, SumError> {
        let (head, plan) = self.plan_for(tile).await?;
        let read = self.read(&plan, head.size).await?;
        self.keep_tiles(&read).await;
        let mut tiles = read.tiles.into_iter();
        let whole = tiles.find(|(read, _)| read.full() == tile.full());
        let whole = whole.ok_or_else(|| malformed("fewer tiles than were asked for"))?;
        Ok(beginning(&whole.1.bytes, tile))
    }

    /// How to read a tile in our tree. Whoever asks for more than it has knows a newer one.
    async fn plan_for(&self, tile: &Tile) -> Result<(TreeHead, Plan), SumError> {
        let plan = |head: &SignedHead| {
            let whole = tile_in(head.tree.size, tile.level()?, tile.number())?;
            let has_it = whole.height() == tile.height() && whole.width() >= tile.width();
            let plan = Plan::for_tile(head.tree, &whole).filter(|_| has_it)?;
            Some((head.tree, plan))
        };
        if let Some(planned) = plan(&self.ours()) {
            return Ok(planned);
        }
        let newest = self.latest().await?;
        plan(&newest).ok_or_else(|| no_tile(tile, &newest))
    }

    /// A tile of records is what the tile of their hashes says.
    async fn records(&self, tile: &Tile, hashes: &[u8]) -> Result<Bytes, SumError> {
        let data = match self.io.remote(&SumDbCall::Tile(*tile)).await {
            Err(Remote::Absent(_)) if !tile.is_full() => {
                let full = self.io.remote(&SumDbCall::Tile(tile.full())).await?;
                let first = tree::first_records(&full, tile.width() as usize);
                first.map_or(full.clone(), |first| full.slice_ref(first))
            }
            other => other?,
        };
        if !tree::are_records(&data, hashes) {
            let (tile, size) = (tile.to_string(), self.ours().tree.size);
            return Err(Forgery::Tile { tile, size }.into());
        }
        self.io.keep_tile(tile, &data).await;
        Ok(data)
    }

    /// Reads and authenticates a plan's tiles. `shown` is the size of the tree that the database shows
    /// just now.
    ///
    /// They are part of the plan's tree. Only if that is part of our log may they be
    /// [kept](Self::keep_tiles): a fork's tiles fit their own signed head, and bear the names of ours.
    ///
    /// # Errors
    /// What the tiles say of who sent them.
    pub(super) async fn read(&self, plan: &Plan, shown: u64) -> Result<Read, SumError> {
        let mut found = self.fetch(plan, true, shown).await?;
        let mut hashes = plan.authenticate(&found);
        if hashes.is_err() && found.iter().any(|found| found.stored) {
            found = self.fetch(plan, false, shown).await?;
            hashes = plan.authenticate(&found);
        }
        let hashes = hashes.map_err(|unfit| plan.accuse(&unfit))?;
        Ok(Read {
            hashes,
            tiles: plan.tiles().iter().copied().zip(found).collect(),
        })
    }

    /// Keeps the tiles that are new, of a tree that is ours, or was when it was the largest.
    pub(super) async fn keep_tiles(&self, read: &Read) {
        let new = read.tiles.iter().filter(|(_, found)| !found.stored);
        join_all(new.map(|(tile, found)| self.io.keep_tile(tile, &found.bytes))).await;
    }

    async fn fetch(
        &self,
        plan: &Plan,
        from_store: bool,
        shown: u64,
    ) -> Result<Vec<Found>, SumError> {
        let tiles = plan.tiles().iter();
        try_join_all(tiles.map(|tile| self.one(plan, tile, from_store, shown))).await
    }

    async fn one(
        &self,
        plan: &Plan,
        tile: &Tile,
        from_store: bool,
        shown: u64,
    ) -> Result<Found, SumError> {
        if from_store && let Some(bytes) = self.kept(tile).await {
            return Ok(Found {
                bytes,
                stored: true,
            });
        }
        let bytes = match self.io.remote(&SumDbCall::Tile(*tile)).await {
            Err(Remote::Absent(_)) if !tile.is_full() => self.beginning_of_full(tile).await,
            other => other,
        };
        let bytes = bytes.map_err(|remote| match remote {
            Remote::Absent(text) => missing(tile, &text, plan.head().size, shown),
            other => other.into(),
        })?;
        Ok(Found {
            bytes,
            stored: false,
        })
    }

    /// A tile that was kept, or the beginning of a wider one. Nobody is asked.
    pub async fn kept(&self, tile: &Tile) -> Option<Bytes> {
        if let Some(bytes) = self.io.tile(tile).await {
            return Some(bytes);
        }
        if tile.is_full() {
            return None;
        }
        let wider = self.io.wider_tile(tile).await?;
        if tile.is_data() {
            let first = tree::first_records(&wider, tile.width() as usize)?;
            return Some(wider.slice_ref(first));
        }
        Some(beginning(&wider, tile))
    }

    /// A partial tile is gone once its full one is there, which begins with its entries. Only these
    /// can be authenticated, so only these are taken.
    async fn beginning_of_full(&self, tile: &Tile) -> Result<Bytes, Remote> {
        let full = self.io.remote(&SumDbCall::Tile(tile.full())).await?;
        if full.len() != tile.full().width() as usize * HASH_BYTES {
            return Err(Remote::Malformed(format!(
                "a {} of another length",
                tile.full()
            )));
        }
        Ok(beginning(&full, tile))
    }
}

/// As many entries as the tile is wide; fewer if there are fewer.
fn beginning(bytes: &Bytes, tile: &Tile) -> Bytes {
    let len = tile.width() as usize * HASH_BYTES;
    bytes.slice(..len.min(bytes.len()))
}

fn no_tile(tile: &Tile, head: &SignedHead) -> SumError {
    let size = head.tree.size;
    SumError::NotFound(format!("no {tile} in a log of {size} records"))
}

/// The database denies what the tree of `size` that it signed is made of.
fn missing(tile: &Tile, said: &str, size: u64, shown: u64) -> SumError {
    if shown < size {
        return Forgery::Shrunk {
            old: size,
            new: shown,
        }
        .into();
    }
    SumError::Malformed(format!(
        "no {tile}, of which the tree of {size} records that it signed is made: {said}"
    ))
}
