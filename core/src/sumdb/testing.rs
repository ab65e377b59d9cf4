//! A checksum database for tests: a log in memory, signed with a key of its own, that lies on
//! command.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::client::{Io, Remote};
use super::note::signing::Signer;
use super::tree::{HASH_BYTES, TreeHead, leaf_hash, node_hash};
use crate::digest::Sha256;
use crate::goproxy::{ModulePath, SumDbCall, Tile, Version};

/// The database's name.
pub(super) const NAME: &str = "sum.example";

/// A log with all of its hashes.
#[derive(Clone, Default)]
pub(super) struct Log {
    records: Vec<String>,
    /// Hashes of complete subtrees, by level.
    levels: Vec<Vec<Sha256>>,
}

impl Log {
    pub(super) fn new(records: impl IntoIterator<Item = String>) -> Self {
        let mut log = Self::default();
        records.into_iter().for_each(|record| log.push(record));
        log
    }

    pub(super) fn push(&mut self, record: String) {
        let mut hash = leaf_hash(record.as_bytes());
        self.records.push(record);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            let [.., left, right] = &hashes[..] else {
                break;
            };
            if hashes.len() % 2 == 1 {
                break;
            }
            hash = node_hash(left, right);
        }
    }

    pub(super) fn leaves(&self) -> &[Sha256] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    pub(super) fn head(&self) -> TreeHead {
        self.head_at(self.records.len())
    }

    pub(super) fn head_at(&self, size: usize) -> TreeHead {
        TreeHead {
            size: size as u64,
            hash: self.hash_of(0, size),
        }
    }

    /// RFC 6962 §2.1, with stored hashes where the subtree is complete.
    fn hash_of(&self, from: usize, to: usize) -> Sha256 {
        let size = to - from;
        match size {
            0 => TreeHead::empty().hash,
            _ if size.is_power_of_two() => {
                let level = size.trailing_zeros() as usize;
                self.levels[level][from >> level]
            }
            _ => {
                let k = size.next_power_of_two() / 2;
                node_hash(&self.hash_of(from, from + k), &self.hash_of(from + k, to))
            }
        }
    }

    /// A tile's bytes; shorter than asked for if the log doesn't have all of it.
    pub(super) fn tile(&self, tile: &Tile) -> Vec<u8> {
        let first = tile.number() as usize * 256;
        let range = |len: usize| first.min(len)..(first + tile.width() as usize).min(len);
        let Some(level) = tile.level() else {
            let records = &self.records[range(self.records.len())];
            let text: String = records.iter().map(|record| format!("{record}\n")).collect();
            return text.into_bytes();
        };
        let hashes = self.levels.get(level as usize * 8);
        let hashes = hashes.map_or(&[][..], Vec::as_slice);
        let hashes = &hashes[range(hashes.len())];
        hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }
}

/// What stands in the way of an honest answer: changes it, or puts another in its place.
pub(super) type Lie =
    Box<dyn Fn(&SumDbCall, Result<Bytes, Remote>) -> Result<Bytes, Remote> + Send + Sync>;

/// A database that answers from a log, and the store of its client.
pub(super) struct Database {
    pub(super) signer: Signer,
    pub(super) log: Mutex<Log>,
    pub(super) lie: Mutex<Option<Lie>>,
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) tiles: Mutex<BTreeMap<String, Bytes>>,
    pub(super) heads: Mutex<Vec<Bytes>>,
}

impl Database {
    /// With that many records, of `m0.example v1.0.0`, `m1.example v1.0.0`, and so on.
    pub(super) fn new(size: u64) -> Self {
        Self {
            signer: Signer::new(NAME, 7),
            log: Mutex::new(Log::new((0..size).map(|n| record(n, "v1.0.0")))),
            lie: Mutex::default(),
            asked: Mutex::default(),
            tiles: Mutex::default(),
            heads: Mutex::default(),
        }
    }

    pub(super) fn grow(&self, to: u64) {
        let mut log = self.log.lock();
        for n in log.records.len() as u64..to {
            log.push(record(n, "v1.0.0"));
        }
    }

    pub(super) fn lie(
        &self,
        lie: impl Fn(&SumDbCall, Result<Bytes, Remote>) -> Result<Bytes, Remote> + Send + Sync + 'static,
    ) {
        *self.lie.lock() = Some(Box::new(lie));
    }

    pub(super) fn signed(&self, head: &TreeHead) -> Vec<u8> {
        self.signer.sign(&head.to_string())
    }

    /// A lookup's answer.
    pub(super) fn answer(&self, id: u64, record: &str, head: &TreeHead) -> Vec<u8> {
        [format!("{id}\n{record}\n").into_bytes(), self.signed(head)].concat()
    }

    fn honest(&self, call: &SumDbCall) -> Result<Bytes, Remote> {
        let log = self.log.lock();
        let absent = || Remote::Absent("404".to_owned());
        let bytes = match call {
            SumDbCall::Supported => Vec::new(),
            SumDbCall::Latest => self.signed(&log.head()),
            SumDbCall::Lookup(module, version) => {
                let start = format!("{module} {version} ");
                let id = log
                    .records
                    .iter()
                    .position(|record| record.starts_with(&start));
                let id = id.ok_or_else(absent)?;
                self.answer(id as u64, &log.records[id], &log.head())
            }
            SumDbCall::Tile(tile) => {
                let bytes = log.tile(tile);
                let records = bytes.windows(2).filter(|pair| *pair == b"\n\n").count();
                let has = if tile.is_data() {
                    records
                } else {
                    bytes.len() / HASH_BYTES
                };
                if has < tile.width() as usize {
                    return Err(absent());
                }
                bytes
            }
        };
        Ok(bytes.into())
    }
}

#[async_trait]
impl Io for &Database {
    async fn remote(&self, call: &SumDbCall) -> Result<Bytes, Remote> {
        // Others get their turn, as over a network.
        tokio::task::yield_now().await;
        self.asked.lock().push(match call {
            SumDbCall::Tile(tile) => tile.to_string(),
            SumDbCall::Lookup(module, _) => module.to_string(),
            SumDbCall::Latest => "latest".to_owned(),
            SumDbCall::Supported => "supported".to_owned(),
        });
        let honest = self.honest(call);
        match &*self.lie.lock() {
            Some(lie) => lie(call, honest),
            None => honest,
        }
    }

    async fn tile(&self, tile: &Tile) -> Option<Bytes> {
        self.tiles.lock().get(&tile.to_string()).cloned()
    }

    async fn wider_tile(&self, tile: &Tile) -> Option<Bytes> {
        let tiles = self.tiles.lock();
        let mut wider = in_place_of(tile, tile.width() + 1..=tile.full().width());
        wider.find_map(|wider| tiles.get(&wider).cloned())
    }

    async fn keep_tile(&self, tile: &Tile, bytes: &Bytes) {
        let mut tiles = self.tiles.lock();
        tiles.insert(tile.to_string(), bytes.clone());
        for narrower in in_place_of(tile, 1..=tile.width() - 1) {
            tiles.remove(&narrower);
        }
    }

    async fn keep_head(&self, note: &Bytes) {
        tokio::task::yield_now().await;
        self.heads.lock().push(note.clone());
    }
}

/// Names of tiles in the place of one, of these widths.
fn in_place_of(tile: &Tile, widths: RangeInclusive<u32>) -> impl Iterator<Item = String> {
    let tile = *tile;
    widths.filter_map(move |width| {
        let other = Tile::new(tile.height(), tile.level(), tile.number(), width);
        other.map(|other| other.to_string())
    })
}

/// The go.sum lines of one module; their hashes are made up.
pub(super) fn record(n: u64, version: &str) -> String {
    let h1 = |what: &str| crate::h1::H1::of_mod(format!("{what}{n}{version}").as_bytes());
    let (zip, go_mod) = (h1("zip"), h1("mod"));
    format!("m{n}.example {version} {zip}\nm{n}.example {version}/go.mod {go_mod}\n")
}

pub(super) fn module(n: u64) -> ModulePath {
    format!("m{n}.example").parse().unwrap()
}

pub(super) fn version() -> Version {
    "v1.0.0".parse().unwrap()
}
