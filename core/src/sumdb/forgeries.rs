//! Every way that is known to make a client believe what isn't in the log, as a test each.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::client::{Client, Proven, Remote};
use super::note::NoteError;
use super::note::signing::Signer;
use super::record::Fault;
use super::testing::{Database, Log, NAME, module, record, version};
use super::tree::{HASH_BYTES, TreeHead, tile_in};
use super::{Forgery, SumError};
use crate::digest::Sha256;
use crate::goproxy::{SumDbCall, Tile};

fn client(db: &Database) -> Client<&Database> {
    Client::new(db.signer.key.clone(), db)
}

async fn lookup(client: &Client<&Database>, n: u64) -> Result<Proven, SumError> {
    client.lookup(&module(n), &version()).await
}

async fn prove(client: &Client<&Database>, answer: &[u8], n: u64) -> Result<Proven, SumError> {
    client.prove(answer, &module(n), &version()).await
}

/// From now on `path` has these bytes.
fn replace(db: &Database, path: &str, bytes: Vec<u8>) {
    let tile: Tile = path.parse().unwrap();
    db.lie(move |call, honest| match call {
        SumDbCall::Tile(asked) if *asked == tile => Ok(bytes.clone().into()),
        _ => honest,
    });
}

/// The module's record with hashes of the attacker's choice.
fn evil_record(id: u64) -> String {
    record(666, "v1.0.0").replace("m666.", &format!("m{id}."))
}

/// An evil record in an answer with the honest head, and a leaf
/// tile that has its hash.
fn forged_leaf(db: &Database, id: u64) -> (Vec<u8>, Vec<u8>) {
    let evil = evil_record(id);
    let log = db.log.lock();
    let answer = db.answer(id, &evil, &log.head());
    let mut leaves = log.tile(&tile_in(log.head().size, 0, id >> 8).unwrap());
    let at = (id & 255) as usize * HASH_BYTES;
    leaves[at..at + HASH_BYTES].copy_from_slice(super::tree::leaf_hash(evil.as_bytes()).as_bytes());
    (answer, leaves)
}

/// The right edge of a tree whose size is a multiple of 256 lies in one tile, several times. A client
/// that counts those tiles before it has removed the duplicates begins its checks behind
/// the tiles that it should check.
#[tokio::test]
async fn a_forged_leaf_tile_is_refused_where_parents_are_duplicates() {
    for size in [3 * 256, 7 * 256, 255 * 256, 256 * 256 + 3 * 256, 1023, 700] {
        let db = Database::new(size);
        let id = 300;
        let (answer, leaves) = forged_leaf(&db, id);
        replace(&db, "tile/8/0/001", leaves);
        let refused = prove(&client(&db), &answer, id).await;
        let tile = "tile/8/0/001".to_owned();
        assert_eq!(refused, Err(Forgery::Tile { tile, size }.into()));
        assert!(!db.tiles.lock().contains_key("tile/8/0/001"));
    }
}

/// The same one level up: leaf tile and parent fit each other, and nothing else.
#[tokio::test]
async fn a_forged_parent_with_its_leaf_tile_is_refused() {
    let db = Database::new(256 * 256 + 3 * 256);
    let (answer, leaves) = forged_leaf(&db, 300);
    let parent: Tile = "tile/8/1/000".parse().unwrap();
    let mut parents = db.log.lock().tile(&parent);
    parents[HASH_BYTES..2 * HASH_BYTES].copy_from_slice(hash_over(&leaves).as_bytes());
    let leaf: Tile = "tile/8/0/001".parse().unwrap();
    db.lie(move |call, honest| match call {
        SumDbCall::Tile(asked) if *asked == leaf => Ok(leaves.clone().into()),
        SumDbCall::Tile(asked) if *asked == parent => Ok(parents.clone().into()),
        _ => honest,
    });
    let refused = prove(&client(&db), &answer, 300).await;
    assert!(
        matches!(refused, Err(SumError::Forged(Forgery::Tile { .. }))),
        "{refused:?}"
    );
    // The right edge was proven before; neither of the forged ones is there.
    let tiles = db.tiles.lock();
    assert!(
        ["tile/8/0/001", "tile/8/1/000"]
            .iter()
            .all(|path| !tiles.contains_key(*path))
    );
}

fn hash_over(hashes: &[u8]) -> Sha256 {
    if hashes.len() == HASH_BYTES {
        return Sha256::from_bytes(hashes.try_into().unwrap());
    }
    let (left, right) = hashes.split_at(hashes.len() / 2);
    super::tree::node_hash(&hash_over(left), &hash_over(right))
}

#[tokio::test]
async fn a_forged_tile_at_the_right_edge_is_refused() {
    let db = Database::new(700);
    let (answer, leaves) = forged_leaf(&db, 650);
    replace(&db, "tile/8/0/002.p/188", leaves);
    let refused = prove(&client(&db), &answer, 650).await;
    let tile = "the tree's right edge".to_owned();
    assert_eq!(refused, Err(Forgery::Tile { tile, size: 700 }.into()));
}

#[tokio::test]
async fn a_shrinking_tree_is_refused() {
    let db = Database::new(700);
    let client = client(&db);
    lookup(&client, 699).await.unwrap();
    // It forgets what it had, and gives the same numbers to something else.
    *db.log.lock() = Log::new((0..300).map(|n| record(n, "v1.0.0")));
    db.log.lock().push(record(9_999, "v1.0.0"));
    let refused = lookup(&client, 9_999).await;
    assert!(matches!(refused, Err(SumError::Forged(_))), "{refused:?}");
    assert_eq!(client.head().unwrap().tree.size, 700);
}

/// The smaller tree is the beginning of ours, but the larger one is gone.
#[tokio::test]
async fn a_tree_that_lost_its_end_is_refused() {
    let db = Database::new(300);
    let client = client(&db);
    lookup(&client, 5).await.unwrap();
    db.grow(700);
    client.latest().await.unwrap();
    *db.log.lock() = Log::new((0..600).map(|n| record(n, "v1.0.0")));
    db.tiles.lock().clear();
    let refused = lookup(&client, 599).await;
    assert_eq!(refused, Err(Forgery::Shrunk { old: 700, new: 600 }.into()));
}

#[tokio::test]
async fn a_fork_of_the_same_size_a_larger_and_a_smaller_one_is_refused() {
    for size in [500, 501, 900, 499, 300, 1] {
        let db = Database::new(500);
        let client = client(&db);
        let before = lookup(&client, 0).await.unwrap();
        let (kept, tiles) = (db.heads.lock().clone(), db.tiles.lock().clone());
        // Another history from the first record on, signed with the same key.
        *db.log.lock() = Log::new((1..=size).map(|n| record(n, "v1.0.0")));
        let refused = lookup(&client, 1).await;
        let forged = matches!(
            refused,
            Err(SumError::Forged(
                Forgery::Fork { .. } | Forgery::Tile { .. }
            ))
        );
        assert!(forged, "{size}: {refused:?}");
        assert_eq!(*db.heads.lock(), kept);
        let refused = client.latest().await;
        assert!(
            matches!(refused, Err(SumError::Forged(_))),
            "{size}: {refused:?}"
        );
        // The fork's tiles fit the fork's head. They are no reason to forget what was proven.
        assert!(*db.tiles.lock() == tiles, "{size}");
        db.lie(|_, _| Err(Remote::Unreachable("down".into())));
        prove(&client, &before.answer, 0).await.unwrap();
    }
}

/// Two heads, each of which begins with ours, and which contradict each other, shown at once:
/// whichever comes first, the store must not end up with tiles of the other.
#[tokio::test]
async fn two_futures_at_once_are_refused_but_one_and_no_tile_of_the_other_stays() {
    let mut believed = [0, 0];
    for turn in 0..16 {
        let db = Database::new(500);
        let client = client(&db);
        client.latest().await.unwrap();
        let futures = [(100, 400), (9_000, 600)].map(|(from, count)| {
            let mut log = db.log.lock().clone();
            (from..from + count).for_each(|n| log.push(record(n, "v1.0.0")));
            log
        });
        let answers = futures.each_ref().map(|log| {
            let head = log.head();
            db.answer(3, &record(3, "v1.0.0"), &head)
        });
        // Partial tiles of the two differ in their width. Of full ones the database has the one's
        // or the other's, by turns.
        let (lies, asked) = (futures.clone(), AtomicUsize::new(turn));
        db.lie(move |call, honest| match call {
            SumDbCall::Tile(tile) => {
                let has = |log: &&Log| {
                    tile_in(log.head().size, tile.level().unwrap(), tile.number()) == Some(*tile)
                };
                let having: Vec<&Log> = lies.iter().filter(has).collect();
                let turn = asked.fetch_add(1, Ordering::Relaxed);
                Ok(having[turn % having.len()].tile(tile).into())
            }
            _ => honest,
        });
        let ways = [0, 1].map(|n| (n + turn) % 2);
        let proofs = ways.map(|way| prove(&client, &answers[way], 3));
        let mut outcomes = [false; 2];
        for (way, outcome) in ways
            .into_iter()
            .zip(futures::future::join_all(proofs).await)
        {
            outcomes[way] = outcome.is_ok();
        }
        assert_ne!(outcomes, [true, true], "both of two histories");
        let ours = client.head().unwrap().tree;
        for (at, log) in futures.iter().enumerate() {
            believed[at] += usize::from(outcomes[at]);
            if ours.size > 500 && log.head() != ours {
                continue;
            }
            for (path, bytes) in &*db.tiles.lock() {
                let tile: Tile = path.parse().unwrap();
                assert!(bytes[..] == log.tile(&tile)[..], "{turn} {path}");
            }
        }
    }
    assert!(believed.iter().all(|times| *times > 0), "{believed:?}");
}

#[tokio::test]
async fn a_fork_is_told_with_both_heads() {
    let db = Database::new(500);
    let client = client(&db);
    let ours = client.latest().await.unwrap().tree;
    *db.log.lock() = Log::new((1..=500).map(|n| record(n, "v1.0.0")));
    let theirs = db.log.lock().head();
    let text = client.latest().await.unwrap_err().to_string();
    assert!(
        text.contains(&ours.base64()) && text.contains(&theirs.base64()),
        "{text}"
    );
}

#[tokio::test]
async fn an_empty_lookup_is_refused() {
    let db = Database::new(10);
    let client = client(&db);
    let head = db.log.lock().head();
    let note = db.signed(&head);
    for body in [
        Vec::new(),
        note.clone(),
        [b"\n", &note[..]].concat(),
        [b"3\n", &note[..]].concat(),
        [b"3\n\n", &note[..]].concat(),
        [b"3\n\n\n", &note[..]].concat(),
    ] {
        let refused = prove(&client, &body, 3).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(
            matches!(refused, Err(SumError::Malformed(_) | SumError::Forged(_))),
            "{text:?} {refused:?}"
        );
    }
}

/// A record that is in the log, and says nothing: hashes must not be taken from anywhere else.
#[tokio::test]
async fn an_empty_record_that_is_in_the_log_is_refused() {
    let db = Database::new(0);
    db.log.lock().push("\n".to_owned());
    let answer = db.answer(0, "\n", &db.log.lock().head());
    // "0\n\n\n…": the record is one empty line.
    let refused = prove(&client(&db), &answer, 3).await;
    assert!(
        matches!(refused, Err(SumError::Forged(Forgery::Unrelated { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_record_of_another_module_or_version_is_refused() {
    let db = Database::new(10);
    let client = client(&db);
    for (id, other) in [(4, record(4, "v1.0.0")), (10, record(3, "v1.0.1"))] {
        if id == 10 {
            db.log.lock().push(other.clone());
        }
        let answer = db.answer(id, &other, &db.log.lock().head());
        let refused = prove(&client, &answer, 3).await;
        let fault = Fault::Other;
        assert_eq!(refused, Err(Forgery::Unrelated { id, fault }.into()));
    }
}

/// The hashes stand beside the record, in the note's text: they are signed, and mean nothing.
#[tokio::test]
async fn hashes_outside_the_record_are_not_taken() {
    let db = Database::new(10);
    let head = db.log.lock().head();
    let note = db.signer.sign(&format!("{head}{}", record(3, "v1.0.0")));
    let answer = [format!("4\n{}\n", record(4, "v1.0.0")).into_bytes(), note].concat();
    let refused = prove(&client(&db), &answer, 3).await;
    assert!(
        matches!(refused, Err(SumError::Forged(Forgery::Unrelated { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn two_zip_lines_are_refused() {
    let db = Database::new(0);
    let (one, other) = (record(3, "v1.0.0"), evil_record(3));
    let faults = [Fault::Zip(2), Fault::GoMod(2)];
    for (extra, fault) in other.lines().zip(faults) {
        let id = db.log.lock().leaves().len() as u64;
        let doubled = format!("{one}{extra}\n");
        db.log.lock().push(doubled.clone());
        let answer = db.answer(id, &doubled, &db.log.lock().head());
        let refused = prove(&client(&db), &answer, 3).await;
        assert_eq!(refused, Err(Forgery::Unrelated { id, fault }.into()));
    }
}

#[tokio::test]
async fn a_record_outside_the_tree_is_refused() {
    let db = Database::new(10);
    let client = client(&db);
    let head = db.log.lock().head();
    for id in [10, 11, i64::MAX as u64] {
        let answer = db.answer(id, &record(3, "v1.0.0"), &head);
        let refused = prove(&client, &answer, 3).await;
        assert_eq!(refused, Err(Forgery::Record { id, size: 10 }.into()));
    }
    let answer = format!("{}\n{}\n", u64::MAX, record(3, "v1.0.0"));
    let answer = [answer.as_bytes(), &db.signed(&head)].concat();
    assert!(matches!(
        prove(&client, &answer, 3).await,
        Err(SumError::Malformed(_))
    ));
}

#[tokio::test]
async fn a_record_at_another_number_is_refused() {
    let db = Database::new(10);
    let head = db.log.lock().head();
    let answer = db.answer(4, &record(3, "v1.0.0"), &head);
    let refused = prove(&client(&db), &answer, 3).await;
    assert_eq!(refused, Err(Forgery::Record { id: 4, size: 10 }.into()));
}

#[tokio::test]
async fn a_head_signed_by_another_key_is_refused() {
    let db = Database::new(10);
    let head = db.log.lock().head();
    let start = format!("3\n{}\n", record(3, "v1.0.0"));
    for signer in [Signer::new(NAME, 8), Signer::new("sum.other.example", 7)] {
        let answer = [start.as_bytes(), &signer.sign(&head.to_string())].concat();
        let refused = prove(&client(&db), &answer, 3).await;
        assert_eq!(refused, Err(Forgery::Signature(NoteError::Unsigned).into()));
    }
    // The right key's signature of something else.
    let line = db.signer.line("something else\n");
    let answer = format!("{start}{head}\n{line}");
    let refused = prove(&client(&db), answer.as_bytes(), 3).await;
    assert_eq!(
        refused,
        Err(Forgery::Signature(NoteError::WrongSignature).into())
    );
}

#[tokio::test]
async fn a_head_whose_hash_is_not_that_of_its_size_is_refused_and_not_kept() {
    let db = Database::new(700);
    let right = db.log.lock().head();
    for (size, hash) in [
        (700, Sha256::of(b"other")),
        (699, right.hash),
        (701, right.hash),
        (0, right.hash),
        (i64::MAX as u64, right.hash),
    ] {
        let client = client(&db);
        let answer = db.answer(3, &record(3, "v1.0.0"), &TreeHead { size, hash });
        let refused = prove(&client, &answer, 3).await;
        let refused_well = matches!(refused, Err(SumError::Forged(_) | SumError::Malformed(_)));
        assert!(refused_well, "{size}: {refused:?}");
        assert_eq!(client.head(), None);
        assert!(db.heads.lock().is_empty() && db.tiles.lock().is_empty());
    }
}

#[tokio::test]
async fn partial_tiles_that_are_too_short_or_too_long_are_refused() {
    for lie in [0, 31, 32, 187 * 32, 189 * 32, 256 * 32] {
        let db = Database::new(700);
        let mut bytes = db.log.lock().tile(&"tile/8/0/002.p/188".parse().unwrap());
        bytes.resize(lie, 7);
        replace(&db, "tile/8/0/002.p/188", bytes);
        let refused = lookup(&client(&db), 3).await;
        assert!(
            matches!(refused, Err(SumError::Malformed(_))),
            "{lie}: {refused:?}"
        );
        assert!(db.tiles.lock().is_empty());
    }
}

/// The full tile in the place of a partial one that is gone: right as far as the tree goes, and
/// forged behind that. A later, larger tree must not find it in the store.
#[tokio::test]
async fn the_end_of_a_full_tile_that_stood_in_for_a_partial_one_is_not_believed() {
    let db = Database::new(700);
    let mut full = db.log.lock().tile(&"tile/8/0/002.p/188".parse().unwrap());
    full.resize(256 * HASH_BYTES, 7);
    let lie = Bytes::from(full);
    db.lie(move |call, honest| match call {
        SumDbCall::Tile(tile) if tile.to_string() == "tile/8/0/002.p/188" => {
            Err(Remote::Absent("gone".into()))
        }
        SumDbCall::Tile(tile) if tile.to_string() == "tile/8/0/002" => Ok(lie.clone()),
        _ => honest,
    });
    let client = client(&db);
    lookup(&client, 650).await.unwrap();
    assert!(!db.tiles.lock().contains_key("tile/8/0/002"));
    db.grow(1000);
    let refused = lookup(&client, 900).await;
    assert!(
        matches!(refused, Err(SumError::Forged(Forgery::Tile { .. }))),
        "{refused:?}"
    );
    db.lie.lock().take();
    lookup(&client, 900).await.unwrap();
}

#[tokio::test]
async fn a_full_tile_of_another_length_in_the_place_of_a_partial_one_is_refused() {
    for len in [0, 188 * HASH_BYTES, 255 * HASH_BYTES, 257 * HASH_BYTES] {
        let db = Database::new(700);
        db.lie(move |call, honest| match call {
            SumDbCall::Tile(tile) if !tile.is_full() => Err(Remote::Absent("gone".into())),
            SumDbCall::Tile(_) => Ok(vec![0; len].into()),
            _ => honest,
        });
        let refused = lookup(&client(&db), 3).await;
        assert!(
            matches!(refused, Err(SumError::Malformed(_))),
            "{len}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn forged_records_in_a_data_tile_are_refused() {
    let db = Database::new(700);
    let client = client(&db);
    client.latest().await.unwrap();
    let path = "tile/8/data/001";
    let data = String::from_utf8(db.log.lock().tile(&path.parse().unwrap())).unwrap();
    let evil = data.replace("m300.example", "m666.example");
    replace(&db, path, evil.into_bytes());
    let refused = client.tile(&path.parse().unwrap()).await;
    assert!(
        matches!(refused, Err(SumError::Forged(Forgery::Tile { .. }))),
        "{refused:?}"
    );
    assert!(!db.tiles.lock().contains_key(path));
}
