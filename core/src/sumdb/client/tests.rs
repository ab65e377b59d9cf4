use futures::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::sumdb::testing::{Database, module, record, version};

fn client(db: &Database) -> Client<&Database> {
    Client::new(db.signer.key.clone(), db)
}

fn tile(path: &str) -> Tile {
    path.parse().unwrap()
}

#[tokio::test]
async fn a_version_that_the_log_has_is_proven() {
    for size in [1, 2, 255, 256, 257, 700, 65_537] {
        let db = Database::new(size);
        let client = client(&db);
        for id in [0, size / 2, size - 1] {
            let proven = client.lookup(&module(id), &version()).await.unwrap();
            assert_eq!(proven.record, id);
            let lines = record(id, "v1.0.0");
            assert!(lines.contains(&format!("v1.0.0 {}\n", proven.zip)));
            assert!(lines.contains(&format!("v1.0.0/go.mod {}\n", proven.go_mod)));
        }
        assert_eq!(client.head().unwrap().tree, db.log.lock().head());
    }
}

#[tokio::test]
async fn not_found_and_unreachable_are_told_apart() {
    let db = Database::new(3);
    let client = client(&db);
    let missing = client.lookup(&module(3), &version()).await;
    assert!(matches!(missing, Err(SumError::NotFound(_))), "{missing:?}");
    db.lie(|_, _| Err(Remote::Unreachable("no route".to_owned())));
    let cut_off = client.lookup(&module(1), &version()).await;
    assert_eq!(cut_off, Err(SumError::Unreachable("no route".to_owned())));
    // A tile that can't be had says nothing against anyone.
    db.lie(|call, honest| match call {
        SumDbCall::Tile(_) => Err(Remote::Unreachable("no route".to_owned())),
        _ => honest,
    });
    let cut_off = client.lookup(&module(1), &version()).await;
    assert_eq!(cut_off, Err(SumError::Unreachable("no route".to_owned())));
}

#[tokio::test]
async fn a_proven_answer_can_be_proven_again_without_the_database() {
    let db = Database::new(300);
    let client = client(&db);
    let mut answers = Vec::new();
    for size in [300, 513, 700, 800] {
        db.grow(size);
        let proven = client.lookup(&module(size - 1), &version()).await.unwrap();
        answers.push((size - 1, proven));
    }
    db.lie(|_, _| Err(Remote::Unreachable("down".to_owned())));
    let kept = db.heads.lock().last().cloned().unwrap();
    let restarted = Client::resume(db.signer.key.clone(), kept, &db).unwrap();
    // And by someone who knows nothing yet, in any order.
    let newcomer = Client::new(db.signer.key.clone(), &db);
    for (n, before) in answers.iter().rev().chain(&answers) {
        for client in [&restarted, &newcomer] {
            let again = client.prove(&before.answer, &module(*n), &version()).await;
            let again = again.unwrap();
            assert_eq!(
                (again.zip, again.go_mod, again.record),
                (before.zip, before.go_mod, *n)
            );
        }
    }
}

#[tokio::test]
async fn our_head_only_advances_and_is_kept_before_anything_is_given_out() {
    let db = Database::new(10);
    let client = client(&db);
    client.lookup(&module(0), &version()).await.unwrap();
    let small = client.head().unwrap();
    assert_eq!(db.heads.lock()[..], [&small.note[..]]);
    db.grow(400);
    assert_eq!(client.latest().await.unwrap().tree.size, 400);
    // A mirror that lags behind shows the small head again.
    let note = small.note.clone();
    db.lie(move |call, honest| match call {
        SumDbCall::Latest => Ok(note.clone()),
        _ => honest,
    });
    assert_eq!(client.latest().await.unwrap().tree.size, 400);
    assert_eq!(db.heads.lock().len(), 2);
}

#[tokio::test]
async fn many_lookups_at_once_agree_on_one_head() {
    let db = Database::new(1000);
    let client = client(&db);
    // Each lookup is shown another head.
    let (log, signer) = (
        db.log.lock().clone(),
        crate::sumdb::note::signing::Signer::new("sum.example", 7),
    );
    db.lie(move |call, honest| match call {
        SumDbCall::Lookup(module, _) => {
            let n: u64 = module.as_str()[1..]
                .split('.')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            let head = log.head_at(n as usize + 1);
            let note = signer.sign(&head.to_string());
            let body = honest.unwrap();
            Ok(Lookup::parse(&body).unwrap().with_note(&note).into())
        }
        _ => honest,
    });
    let asked: Vec<_> = (0..1000).rev().step_by(37).map(module).collect();
    let lookups = asked.iter().map(|module| async {
        client.lookup(module, &version()).await.map(|proven| {
            // What was given out is kept by now.
            let kept = db.heads.lock().last().cloned().unwrap();
            let kept = open(client.key(), kept).unwrap().tree.size;
            assert!(kept > proven.record);
        })
    });
    for outcome in join_all(lookups).await {
        outcome.unwrap();
    }
    let heads = db.heads.lock();
    let sizes: Vec<u64> = heads
        .iter()
        .map(|note| open(client.key(), note.clone()).unwrap().tree.size)
        .collect();
    assert!(sizes.is_sorted(), "{sizes:?}");
    assert_eq!(client.head().unwrap().note, *heads.last().unwrap());
}

#[tokio::test]
async fn a_lookup_that_is_dropped_leaves_nothing_half_done() {
    let db = Database::new(700);
    let client = client(&db);
    let (module, version) = (module(3), version());
    for steps in 0..20 {
        let mut lookup = Box::pin(client.lookup(&module, &version));
        for _ in 0..steps {
            if futures::poll!(&mut lookup).is_ready() {
                break;
            }
        }
        drop(lookup);
        let proven = client.lookup(&module, &version).await.unwrap();
        let kept = db.heads.lock().last().cloned().unwrap();
        assert_eq!(kept, client.head().unwrap().note);
        assert!(proven.answer.ends_with(&kept));
        db.grow(701 + steps);
    }
}

#[tokio::test]
async fn a_kept_head_that_isnt_signed_is_an_error() {
    let db = Database::new(1);
    for kept in ["", "junk", "go.sum database tree\n0\n\n"] {
        let kept = Bytes::from_static(kept.as_bytes());
        assert!(Client::resume(db.signer.key.clone(), kept, &db).is_err());
    }
}

#[tokio::test]
async fn tiles_are_served_proven_and_wider_ones_have_the_narrow() {
    let db = Database::new(700);
    let client = client(&db);
    let log = db.log.lock().clone();
    for path in [
        "tile/8/0/000",
        "tile/8/0/001.p/3",
        "tile/8/0/002.p/188",
        "tile/8/0/002.p/5",
        "tile/8/1/000.p/2",
        "tile/8/data/000",
        "tile/8/data/002.p/188",
        "tile/8/data/001.p/2",
    ] {
        let bytes = client.tile(&tile(path)).await.unwrap();
        assert_eq!(bytes, log.tile(&tile(path)), "{path}");
    }
    for path in [
        "tile/8/0/002.p/189",
        "tile/8/0/003",
        "tile/8/2/000.p/1",
        "tile/8/data/002",
        "tile/4/0/000",
    ] {
        let missing = client.tile(&tile(path)).await;
        assert!(
            matches!(missing, Err(SumError::NotFound(_))),
            "{path} {missing:?}"
        );
    }
    // What was asked for once is there without the database.
    db.lie(|_, _| Err(Remote::Unreachable("down".to_owned())));
    for path in [
        "tile/8/0/000",
        "tile/8/0/000.p/9",
        "tile/8/0/002.p/5",
        "tile/8/data/000",
    ] {
        client
            .tile(&tile(path))
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[tokio::test]
async fn a_tile_beyond_our_tree_makes_us_look_for_a_newer_one() {
    let db = Database::new(10);
    let client = client(&db);
    client.lookup(&module(0), &version()).await.unwrap();
    db.grow(300);
    client.tile(&tile("tile/8/0/001.p/44")).await.unwrap();
    assert_eq!(client.head().unwrap().tree.size, 300);
}

#[tokio::test]
async fn narrow_tiles_that_were_kept_are_there_in_the_wider_ones_that_replace_them() {
    let db = Database::new(700);
    let client = client(&db);
    let narrow = [
        "tile/8/0/002.p/188",
        "tile/8/data/002.p/188",
        "tile/8/1/000.p/2",
    ];
    let mut right = Vec::new();
    for path in narrow {
        right.push(client.tile(&tile(path)).await.unwrap());
    }
    db.grow(720);
    for path in ["tile/8/0/002.p/208", "tile/8/data/002.p/208"] {
        client.tile(&tile(path)).await.unwrap();
    }
    assert!(!db.tiles.lock().contains_key(narrow[0]) && !db.tiles.lock().contains_key(narrow[1]));
    db.lie(|_, _| Err(Remote::Unreachable("down".to_owned())));
    for (path, right) in narrow.into_iter().zip(right) {
        assert_eq!(client.tile(&tile(path)).await.unwrap(), right, "{path}");
    }
    assert_eq!(client.kept(&tile("tile/8/0/002.p/209")).await, None);
}

#[tokio::test]
async fn partial_tiles_that_are_gone_are_taken_from_the_full_ones() {
    let db = Database::new(700);
    db.lie(|call, honest| match call {
        SumDbCall::Tile(tile) if !tile.is_full() => Err(Remote::Absent("gone".to_owned())),
        _ => honest,
    });
    // The right edge of a tree of 700 is nobody's full tile.
    let client = client(&db);
    let none = client.lookup(&module(5), &version()).await;
    assert!(matches!(none, Err(SumError::Malformed(_))), "{none:?}");
    // The database has grown since the answer was made.
    let old = db.log.lock().head();
    db.grow(66_000);
    let answer = db.answer(5, &record(5, "v1.0.0"), &old);
    client.prove(&answer, &module(5), &version()).await.unwrap();
    assert!(db.asked.lock().contains(&"tile/8/0/002".to_owned()));
    // The rest of the full one is unproven, and isn't kept.
    let tiles = db.tiles.lock();
    assert!(tiles.contains_key("tile/8/0/002.p/188") && !tiles.contains_key("tile/8/0/002"));
}

#[tokio::test]
async fn a_store_with_rotten_tiles_is_mended_and_nobody_accused() {
    let db = Database::new(700);
    let client = client(&db);
    client.lookup(&module(5), &version()).await.unwrap();
    let right = db.tiles.lock().clone();
    for path in right.keys() {
        let rotten = Bytes::from(vec![9; right[path].len()]);
        for rotten in [rotten.clone(), rotten.slice(1..), Bytes::new()] {
            db.tiles.lock().insert(path.clone(), rotten);
            client.lookup(&module(5), &version()).await.unwrap();
            assert_eq!(*db.tiles.lock(), right, "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_known_is_not_asked_for_again() {
    let db = Database::new(700);
    let client = client(&db);
    client.lookup(&module(5), &version()).await.unwrap();
    db.asked.lock().clear();
    client.lookup(&module(6), &version()).await.unwrap();
    assert_eq!(*db.asked.lock(), ["m6.example"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any answer may come with one byte changed: it is refused, or means the same.
    #[test]
    fn one_flipped_bit_in_any_answer_is_refused_or_changes_nothing(
        size in 1_u64..800, id: prop::sample::Index, earlier: prop::sample::Index,
        which: prop::sample::Index, byte: prop::sample::Index, bit in 0_u8..8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let id = id.index(size as usize) as u64;
        let (module, version) = (module(id), version());
        let earlier = earlier.index(size as usize + 1) as u64;
        // Once to count the answers, once with a lie in one of them.
        let ask = |lie_at: Option<usize>| {
            let db = Database::new(earlier);
            let client = Client::new(db.signer.key.clone(), &db);
            runtime.block_on(async {
                if earlier > 0 {
                    client.latest().await.unwrap();
                }
                db.grow(size);
                db.asked.lock().clear();
                let seen = std::sync::atomic::AtomicUsize::new(0);
                db.lie(move |_, honest| {
                    let turn = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let mut bytes = honest.unwrap().to_vec();
                    if Some(turn) == lie_at {
                        let at = byte.index(bytes.len());
                        bytes[at] ^= 1 << bit;
                    }
                    Ok(bytes.into())
                });
                let outcome = client.lookup(&module, &version).await;
                (outcome, db.asked.lock().len())
            })
        };
        let (honest, count) = ask(None);
        let honest = honest.unwrap();
        let (outcome, _) = ask(Some(which.index(count)));
        match outcome {
            // Bits that base64 doesn't use; a tile that was fetched anew, because stored ones could
            // have been at fault.
            Ok(proven) => prop_assert_eq!(
                (proven.zip, proven.go_mod, proven.record),
                (honest.zip, honest.go_mod, honest.record)
            ),
            Err(SumError::Forged(_) | SumError::Malformed(_)) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
