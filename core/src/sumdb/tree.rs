//! The log as a tree of hashes (RFC 6962 §2.1), read in tiles of height 8 (x/mod's `sumdb/tlog`).
//!
//! A leaf is SHA-256(0x00 ‖ record), an inner node SHA-256(0x01 ‖ left ‖ right). A [`Node`] of level
//! *l* and number *n* stands for the 2^*l* records from *n*·2^*l* on; x/mod counts the same nodes by
//! their index in storage. A tree of any size is a row of such nodes, the largest first.
//!
//! A tile of level *L* holds the hashes of up to 256 nodes of level 8·*L*. In a tree of a given size
//! a tile is either full, and then its hash is an entry of its parent, or it is the last one of its level,
//! and then all its entries are among the nodes whose hashes make up the tree's. So there are two ways
//! to authenticate a tile, and [`Plan::authenticate`] decides for each tile by its width alone: no tile is
//! left out because of where it stands in a list.
//!
//! Everything here is computed from bytes that are handed in. A hash is handed out only once all
//! that it depends on is authenticated.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::BASE64;
use super::{Forgery, SumError};
use crate::digest::{Hasher, Sha256};
use crate::goproxy::Tile;

/// The height of tiles that the go command asks for.
pub const HEIGHT: u8 = 8;

/// Bytes of one hash in a tile.
pub const HASH_BYTES: usize = 32;

/// The first line of a tree head.
const FIRST_LINE: &str = "go.sum database tree";

/// A head's text is no longer than that, as x/mod has it.
const MAX_HEAD: usize = 1_000_000;

/// The size and hash of the log at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// How many records it has; at most a signed 64-bit integer holds.
    pub size: u64,
    /// The hash of its root.
    pub hash: Sha256,
}

impl TreeHead {
    /// The log before its first record: SHA-256 of nothing (RFC 6962 §2.1).
    #[must_use]
    pub fn empty() -> Self {
        Self {
            size: 0,
            hash: Sha256::of(b""),
        }
    }

    /// Reads a note's text: three lines (below), and whatever later versions add behind them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (first, size, hash) = (lines.next()?, lines.next()?, lines.next()?);
        // The third line must have ended.
        lines.next()?;
        if first != FIRST_LINE || text.len() > MAX_HEAD {
            return None;
        }
        let decoded = BASE64.decode(hash).ok()?;
        Some(Self {
            size: parse_number(size)?,
            hash: Sha256::from_bytes(decoded.try_into().ok()?),
        })
    }

    /// The hash as notes write it.
    #[must_use]
    pub fn base64(&self) -> String {
        STANDARD.encode(self.hash.as_bytes())
    }
}

/// As a note's text: `go.sum database tree`, size and hash in base64, a line each.
impl fmt::Display for TreeHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\n{}\n{}", self.size, self.base64())
    }
}

/// A number in its only canonical spelling, within a signed 64-bit integer.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then(|| u64::try_from(number).ok())?
}

/// The hash of a record's text.
#[must_use]
pub fn leaf_hash(record: &[u8]) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(record);
    hasher.finish()
}

/// The hash of a node with two others below it.
#[must_use]
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update(&[1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}

/// A complete subtree of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    level: u8,
    number: u64,
}

impl Node {
    /// The record of that number, as a subtree of its own.
    #[must_use]
    pub const fn leaf(number: u64) -> Self {
        Self { level: 0, number }
    }

    /// The node of these coordinates; `None` if no log is so high.
    #[must_use]
    pub fn new(level: u8, number: u64) -> Option<Self> {
        (u32::from(level) < u64::BITS).then_some(Self { level, number })
    }

    /// The nodes whose hashes make up that of a tree of `size`, from left to right: one for each
    /// bit of its size, the largest first.
    pub fn of_tree(size: u64) -> impl Iterator<Item = Self> {
        let bits = (0..u64::BITS as u8).rev();
        bits.filter(move |level| size >> level & 1 == 1)
            .map(move |level| Self {
                level,
                // All larger subtrees stand to the left of it.
                number: (size >> level) - 1,
            })
    }

    /// The tile with its hash, or with the hashes below it, in a tree of `size`; `None` if the tree
    /// doesn't have all of its records.
    fn tile(self, size: u64) -> Option<Tile> {
        let is_within = self.number < size >> self.level;
        let (level, below) = (self.level / HEIGHT, self.level % HEIGHT);
        is_within.then(|| tile_in(size, level, self.number >> (HEIGHT - below)))?
    }

    /// Which of the tile's entries stand for the node.
    fn entries(self) -> std::ops::Range<usize> {
        let below = self.level % HEIGHT;
        // At most 255: what the tile's number leaves over.
        let start = ((self.number << below) & (WIDTH - 1)) as usize;
        start..start + (1 << below)
    }
}

/// Entries of a full tile.
const WIDTH: u64 = 1 << HEIGHT;

/// The tile of these coordinates, as wide as it is in a tree of `size`; `None` if that tree has
/// nothing there.
#[must_use]
pub fn tile_in(size: u64, level: u8, number: u64) -> Option<Tile> {
    let nodes = size.checked_shr(u32::from(level) * u32::from(HEIGHT))?;
    let width = nodes.checked_sub(number.checked_mul(WIDTH)?)?.min(WIDTH);
    Tile::new(HEIGHT, Some(level), number, u32::try_from(width).ok()?)
}

/// The entry of a full tile in the one above it.
fn parent_node(level: u8, tile: &Tile) -> Node {
    Node {
        level: (level + 1) * HEIGHT,
        number: tile.number(),
    }
}

/// What must be read to know the hashes of some nodes of a tree.
#[derive(Clone, Debug)]
pub struct Plan {
    head: TreeHead,
    nodes: Vec<Node>,
    tiles: Vec<Tile>,
}

/// Why tiles are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A tile isn't as long as it is wide.
    Length(Tile),
    /// A tile's hash isn't the one its parent has; of the tiles at the right edge, which
    /// are authenticated together, `None`.
    Hash(Option<Tile>),
}

impl Plan {
    /// A plan to read the hashes of `nodes`; `None` if the tree doesn't have them all.
    #[must_use]
    pub fn new(head: TreeHead, nodes: impl IntoIterator<Item = Node>) -> Option<Self> {
        let nodes: Vec<Node> = nodes.into_iter().collect();
        let mut tiles = Vec::new();
        // The right edge authenticates all others, so it is always needed.
        for node in Node::of_tree(head.size).chain(nodes.iter().copied()) {
            add_with_parents(&mut tiles, head.size, node)?;
        }
        Some(Self { head, nodes, tiles })
    }

    /// A plan to read a tile, which must be as wide as it is in that tree.
    #[must_use]
    pub fn for_tile(head: TreeHead, tile: &Tile) -> Option<Self> {
        let level = tile.level()?;
        if tile_in(head.size, level, tile.number()) != Some(*tile) {
            return None;
        }
        let first = Node {
            level: level * HEIGHT,
            number: tile.number() << HEIGHT,
        };
        Self::new(head, [first])
    }

    /// The tiles to read: none twice, in no order.
    #[must_use]
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// Authenticates every tile, and takes the hashes of the nodes asked for, in their order.
    /// `data` holds the bytes of each of [`tiles`](Self::tiles), in that order.
    ///
    /// # Errors
    /// The first tile that can't be part of the tree.
    pub fn authenticate<B: AsRef<[u8]>>(&self, data: &[B]) -> Result<Vec<Sha256>, Unfit> {
        let mut read = Read::default();
        let mut data = data.iter().map(B::as_ref);
        for tile in &self.tiles {
            let bytes = data.next().unwrap_or_default();
            if bytes.len() != tile.width() as usize * HASH_BYTES {
                return Err(Unfit::Length(*tile));
            }
            read.0.insert(key(tile), bytes);
        }
        // First what the root's hash covers, then whatever hangs from it.
        let edge = Node::of_tree(self.head.size).map(|node| read.hash(self.head.size, node));
        let edge: Option<Vec<Sha256>> = edge.collect();
        if edge.as_deref().map(root) != Some(self.head.hash) {
            return Err(Unfit::Hash(None));
        }
        for tile in &self.tiles {
            read.check(self.head.size, tile)?;
        }
        let hashes = self.nodes.iter().map(|node| {
            let hash = read.hash(self.head.size, *node);
            hash.ok_or(Unfit::Hash(None))
        });
        hashes.collect()
    }
}

/// Adds a node's tile with all above it that aren't there yet.
fn add_with_parents(tiles: &mut Vec<Tile>, size: u64, node: Node) -> Option<()> {
    let mut tile = node.tile(size)?;
    while !tiles.contains(&tile) {
        tiles.push(tile);
        if !tile.is_full() {
            break;
        }
        tile = parent_node(tile.level()?, &tile).tile(size)?;
    }
    Some(())
}

/// A tree's hash, from those of [its nodes](Node::of_tree): each stands to the left of all behind it.
/// Where these come from a larger tree, it tells whether that begins as the smaller one does
/// (RFC 6962 §2.1.2).
#[must_use]
pub fn root(nodes: &[Sha256]) -> Sha256 {
    let mut from_right = nodes.iter().rev().copied();
    let Some(last) = from_right.next() else {
        return TreeHead::empty().hash;
    };
    from_right.fold(last, |right, left| node_hash(&left, &right))
}

/// Level and number: in one tree these determine the width.
fn key(tile: &Tile) -> (Option<u8>, u64) {
    (tile.level(), tile.number())
}

/// Tiles as they were read; right or not.
#[derive(Default)]
struct Read<'a>(BTreeMap<(Option<u8>, u64), &'a [u8]>);

impl Read<'_> {
    /// A node's hash, computed from the tile it lies in.
    fn hash(&self, size: u64, node: Node) -> Option<Sha256> {
        let bytes = self.0.get(&key(&node.tile(size)?))?;
        let entries = node.entries();
        let bytes = bytes.get(entries.start * HASH_BYTES..entries.end * HASH_BYTES)?;
        Some(subtree_hash(bytes))
    }

    /// A full tile is what its parent's entry says. One that isn't full lies at the right edge: the
    /// root's hash has covered every entry of it.
    fn check(&self, size: u64, tile: &Tile) -> Result<(), Unfit> {
        let wrong = Unfit::Hash(Some(*tile));
        if !tile.is_full() {
            return Ok(());
        }
        let (Some(level), Some(bytes)) = (tile.level(), self.0.get(&key(tile))) else {
            return Err(wrong);
        };
        let expected = self.hash(size, parent_node(level, tile));
        if expected != Some(subtree_hash(bytes)) {
            return Err(wrong);
        }
        Ok(())
    }
}

/// The hash over a power of two of hashes, one behind the other.
fn subtree_hash(bytes: &[u8]) -> Sha256 {
    if bytes.len() <= HASH_BYTES {
        let hash = bytes.try_into().unwrap_or_default();
        return Sha256::from_bytes(hash);
    }
    let (left, right) = bytes.split_at(bytes.len() / 2);
    node_hash(&subtree_hash(left), &subtree_hash(right))
}

impl Plan {
    /// The tree this is a plan for.
    #[must_use]
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// What unfit tiles say of the one who sent them.
    #[must_use]
    pub fn accuse(&self, unfit: &Unfit) -> SumError {
        match unfit {
            Unfit::Length(tile) => SumError::Malformed(format!("a {tile} of another length")),
            Unfit::Hash(tile) => {
                let edge = || "the tree's right edge".to_owned();
                let tile = tile.as_ref().map_or_else(edge, ToString::to_string);
                let size = self.head.size;
                Forgery::Tile { tile, size }.into()
            }
        }
    }
}

/// Whether a tile of records (`data`) holds what the tile of hashes at the same place says: records
/// one behind the other, a blank line after each.
#[must_use]
pub fn are_records(data: &[u8], hashes: &[u8]) -> bool {
    let mut rest = data;
    for hash in hashes.chunks(HASH_BYTES) {
        let Some((record, behind)) = first_record(rest) else {
            return false;
        };
        if leaf_hash(record).as_bytes()[..] != *hash {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

/// The first `count` records of a tile of records; `None` if it has fewer.
#[must_use]
pub fn first_records(data: &[u8], count: usize) -> Option<&[u8]> {
    let mut rest = data;
    for _ in 0..count {
        (_, rest) = first_record(rest)?;
    }
    Some(&data[..data.len() - rest.len()])
}

/// A record's text, and what stands behind its blank line.
fn first_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    Some((&data[..=end], &data[end + 2..]))
}

#[cfg(test)]
mod tests;
