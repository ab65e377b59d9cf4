//! What the client of the checksum database is given of the world: the route to the database, the
//! mount's tree for tiles, a file for the head.
//!
//! The head lies in `.sumdb/<name>/head` of the store's folder, the note as it was signed. It is written
//! durably whatever `store.durable` says: losing it would let an old history be shown to us again.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use modcdn_core::durable;
use modcdn_core::goproxy::{Request, SumDb as Asked, SumDbCall, SumDbName, Tile};
use modcdn_core::sumdb::{self, Remote};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::route::Route;
use crate::config::SumDb;
use crate::disk;
use crate::fetch::flight::Flights;
use crate::store::tree::{Look, StoredBody, Tree};

/// See the module.
pub(super) struct Io {
    name: SumDbName,
    tree: Arc<Tree>,
    route: Arc<Route>,
    places: Arc<Semaphore>,
    timeout: Duration,
    /// Tiles and heads that are being fetched: many proofs need the same ones.
    flights: Flights<String, Result<Bytes, Remote>>,
}

impl Io {
    pub(super) fn new(config: &SumDb, tree: Arc<Tree>, route: Arc<Route>) -> Self {
        Self {
            name: config.key.name().clone(),
            tree,
            route,
            places: Arc::new(Semaphore::new(config.requests)),
            timeout: config.timeout.get(),
            flights: Flights::default(),
        }
    }

    fn request(&self, call: SumDbCall) -> Request {
        Request::SumDb(Asked {
            name: self.name.clone(),
            call,
        })
    }

    /// The partial tiles that are stored in a tile's place, narrowest first.
    async fn partials(&self, tile: &Tile) -> Vec<Tile> {
        let request = self.request(SumDbCall::Tile(*tile));
        let widths = self.tree.partial_widths(&request).await.into_iter();
        let of = |width| Tile::new(tile.height(), tile.level(), tile.number(), width);
        widths
            .filter_map(of)
            .filter(|tile| !tile.is_full())
            .collect()
    }

    fn head_file(&self) -> PathBuf {
        self.tree.head_file(&self.name)
    }

    /// The head that was kept last. Slow: for the blocking pool, or before anything else runs.
    ///
    /// # Errors
    /// If there may be one, and it can't be read.
    pub(super) fn kept_head(&self) -> io::Result<Option<Bytes>> {
        match fs::read(self.head_file()) {
            Ok(note) => Ok(Some(note.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a head that can't be used out of the way, for whoever wants to know why.
    pub(super) fn put_head_aside(&self) -> io::Result<()> {
        let file = self.head_file();
        fs::rename(&file, file.with_extension("unusable"))
    }
}

async fn ask(route: &Route, places: &Semaphore, call: &SumDbCall) -> Result<Bytes, Remote> {
    let place = places.acquire().await;
    let _place = place.map_err(|error| Remote::Unreachable(error.to_string()))?;
    route.ask(call).await
}

#[async_trait]
impl sumdb::Io for Io {
    async fn remote(&self, call: &SumDbCall) -> Result<Bytes, Remote> {
        let path = self.request(call.clone()).path();
        let limit = self.timeout;
        let (route, places, call) = (self.route.clone(), self.places.clone(), call.clone());
        let fly = |landing: crate::fetch::flight::Landing<_, _>| async move {
            // No longer than a proof: else later ones would wait for an answer that never comes.
            let answer = timeout(limit, ask(&route, &places, &call)).await;
            let late = |_| Err(Remote::Unreachable(format!("no answer within {limit:?}")));
            landing.say(answer.unwrap_or_else(late));
        };
        let news = self.flights.join(&path, fly).await.news;
        news.unwrap_or_else(|| Err(Remote::Unreachable("the request crashed".to_owned())))
    }

    async fn tile(&self, tile: &Tile) -> Option<Bytes> {
        match self.tree.look(&self.request(SumDbCall::Tile(*tile))).await {
            Look::Found(stored) => match stored.body {
                StoredBody::Small(bytes) => Some(bytes),
                // Tiles of hashes are small; one of records is looked for by whoever serves it.
                StoredBody::Large(_) => None,
            },
            // What the go command left there was proven to somebody else.
            Look::Unsummed(_) | Look::Absent | Look::Unknown => None,
        }
    }

    async fn wider_tile(&self, tile: &Tile) -> Option<Bytes> {
        if let Some(full) = self.tile(&tile.full()).await {
            return Some(full);
        }
        for wider in self.partials(tile).await {
            if wider.width() > tile.width()
                && let Some(bytes) = self.tile(&wider).await
            {
                return Some(bytes);
            }
        }
        None
    }

    /// Those that it begins with go once it is in place: else each step of the log's end would stay.
    async fn keep_tile(&self, tile: &Tile, bytes: &Bytes) {
        let request = self.request(SumDbCall::Tile(*tile));
        if let Err(error) = self.tree.put(&request, bytes.clone()).await {
            self.tree.note("put", &error);
            return;
        }
        for narrower in self.partials(tile).await {
            if narrower.width() < tile.width() {
                let request = self.request(SumDbCall::Tile(narrower));
                self.tree.remove(&request).await;
            }
        }
    }

    async fn keep_head(&self, note: &Bytes) {
        let (file, note) = (self.head_file(), note.clone());
        let written = disk::blocking(move || durable::write(&file, &note));
        if let Err(error) = written.await {
            self.tree.note("sumdb-head", &error);
        }
    }
}
