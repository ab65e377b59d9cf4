use proptest::prelude::*;

use super::*;
use crate::sumdb::testing::Log;

fn log(size: u64) -> Log {
    Log::new((0..size).map(|n| format!("record {n}\n")))
}

fn tiles_of(log: &Log, plan: &Plan) -> Vec<Vec<u8>> {
    plan.tiles().iter().map(|tile| log.tile(tile)).collect()
}

/// RFC 6962 §2.1, by the book.
fn by_the_book(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => Sha256::of(b""),
        [one] => *one,
        many => {
            let k = many.len().next_power_of_two() / 2;
            node_hash(&by_the_book(&many[..k]), &by_the_book(&many[k..]))
        }
    }
}

#[test]
fn heads_print_as_they_parse() {
    let text = "go.sum database tree\n2\nnND/nri/U0xuHUrYSy0HtMeal2vzD9V4k/BO79C+QeI=\n";
    let head = TreeHead::parse(text).unwrap();
    assert_eq!(head.size, 2);
    assert_eq!(head.to_string(), text);
    // Later versions may add lines.
    assert_eq!(TreeHead::parse(&format!("{text}more\n")), Some(head));
    for bad in [
        "",
        "go.sum database tree\n",
        text.trim_end(),
        &text.replace("tree", "tree v2"),
        &text.replace("\n2\n", "\n02\n"),
        &text.replace("\n2\n", "\n+2\n"),
        &text.replace("\n2\n", "\n-2\n"),
        &text.replace("\n2\n", "\n\n"),
        &text.replace("\n2\n", "\n9223372036854775808\n"),
        &text.replace("nND/", "nND"),
        &text.replace("nND/", ""),
        &format!("{text}{}", "x".repeat(MAX_HEAD)),
    ] {
        assert_eq!(TreeHead::parse(bad), None, "{bad}");
    }
    let largest = text.replace("\n2\n", "\n9223372036854775807\n");
    let largest = TreeHead::parse(&largest).unwrap();
    assert_eq!(largest.size, i64::MAX as u64);
}

#[test]
fn trees_of_any_size_fall_into_their_nodes() {
    let nodes = |size| -> Vec<_> { Node::of_tree(size).map(|n| (n.level, n.number)).collect() };
    assert_eq!(nodes(0), []);
    assert_eq!(nodes(1), [(0, 0)]);
    assert_eq!(nodes(6), [(2, 0), (1, 2)]);
    assert_eq!(nodes(7), [(2, 0), (1, 2), (0, 6)]);
    assert_eq!(nodes(u64::MAX).len(), 64);
}

#[test]
fn the_largest_trees_have_plans() {
    for size in [1, 255, 256, 257, 65_535, 65_536, i64::MAX as u64] {
        let head = TreeHead {
            size,
            ..TreeHead::empty()
        };
        let plan = Plan::new(head, [Node::leaf(0), Node::leaf(size - 1)]).unwrap();
        assert!(plan.tiles().len() <= 24, "{size}: {:?}", plan.tiles());
        assert!(Plan::new(head, [Node::leaf(size)]).is_none());
    }
}

#[test]
fn tiles_are_as_wide_as_their_tree_allows() {
    let tile = |size, level, number| tile_in(size, level, number).map(|t| t.to_string());
    assert_eq!(tile(0, 0, 0), None);
    assert_eq!(tile(1, 0, 0).as_deref(), Some("tile/8/0/000.p/1"));
    assert_eq!(tile(256, 0, 0).as_deref(), Some("tile/8/0/000"));
    assert_eq!(tile(256, 0, 1), None);
    assert_eq!(tile(256, 1, 0).as_deref(), Some("tile/8/1/000.p/1"));
    assert_eq!(tile(600, 0, 2).as_deref(), Some("tile/8/0/002.p/88"));
    assert_eq!(tile(600, 1, 0).as_deref(), Some("tile/8/1/000.p/2"));
    assert_eq!(tile(u64::MAX, 8, 0), None);
    assert_eq!(tile(u64::MAX, 0, u64::MAX), None);
    assert_eq!(tile(u64::MAX, 255, 0), None);
}

#[test]
fn data_tiles_are_checked_record_by_record() {
    let log = log(3);
    let hashes = log.tile(&tile_in(3, 0, 0).unwrap());
    let data = "record 0\n\nrecord 1\n\nrecord 2\n\n";
    assert!(are_records(data.as_bytes(), &hashes));
    for bad in [
        "",
        &data[..data.len() - 1],
        &data.replace('1', "7"),
        &format!("{data}more\n\n"),
        &data.replace("record 1\n\n", "record 1\n"),
    ] {
        assert!(!are_records(bad.as_bytes(), &hashes), "{bad:?}");
    }
    let first = first_records(data.as_bytes(), 2).unwrap();
    assert!(are_records(first, &hashes[..2 * HASH_BYTES]));
    assert_eq!(first_records(data.as_bytes(), 4), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_record_of_every_tree_is_proven(size in 1_u64..1200, at: prop::sample::Index) {
        let log = log(size);
        prop_assert_eq!(log.head().hash, by_the_book(log.leaves()));
        let id = at.index(log.leaves().len());
        let plan = Plan::new(log.head(), [Node::leaf(id as u64)]).unwrap();
        let hashes = plan.authenticate(&tiles_of(&log, &plan)).unwrap();
        prop_assert_eq!(hashes, [log.leaves()[id]]);
    }

    #[test]
    fn every_tree_is_the_beginning_of_every_later_one(size in 1_u64..1200, at: prop::sample::Index) {
        let log = log(size);
        let older = log.head_at(at.index(log.leaves().len() + 1));
        let plan = Plan::new(log.head(), Node::of_tree(older.size)).unwrap();
        let hashes = plan.authenticate(&tiles_of(&log, &plan)).unwrap();
        prop_assert_eq!(root(&hashes), older.hash);
        prop_assert!(Plan::new(older, Node::of_tree(size)).is_none() || older.size == size);
    }

    #[test]
    fn one_flipped_bit_in_any_tile_is_refused(
        size in 1_u64..1200, id: prop::sample::Index,
        tile: prop::sample::Index, byte: prop::sample::Index, bit in 0_u8..8,
    ) {
        let log = log(size);
        let node = Node::leaf(id.index(log.leaves().len()) as u64);
        let plan = Plan::new(log.head(), [node]).unwrap();
        let mut data = tiles_of(&log, &plan);
        let tile = tile.index(data.len());
        let byte = byte.index(data[tile].len());
        data[tile][byte] ^= 1 << bit;
        prop_assert!(matches!(plan.authenticate(&data), Err(Unfit::Hash(_))));
    }

    #[test]
    fn tiles_of_another_length_are_refused(
        size in 1_u64..1200, tile: prop::sample::Index, longer: bool,
    ) {
        let log = log(size);
        let plan = Plan::new(log.head(), [Node::leaf(0)]).unwrap();
        let mut data = tiles_of(&log, &plan);
        let tile = tile.index(data.len());
        if longer { data[tile].push(0) } else { data[tile].pop(); }
        prop_assert_eq!(plan.authenticate(&data), Err(Unfit::Length(plan.tiles()[tile])));
        prop_assert!(plan.authenticate(&data[..tile]).is_err());
    }

    #[test]
    fn a_plan_for_a_tile_holds_it(size in 1_u64..70_000, level in 0_u8..3, number in 0_u64..300) {
        let head = TreeHead { size, ..TreeHead::empty() };
        let tile = tile_in(size, level, number);
        let plan = tile.and_then(|tile| Plan::for_tile(head, &tile));
        prop_assert_eq!(plan.is_some(), tile.is_some());
        if let (Some(plan), Some(tile)) = (plan, tile) {
            prop_assert!(plan.tiles().contains(&tile));
            let narrower = Tile::new(HEIGHT, Some(level), number, tile.width() - 1);
            prop_assert!(narrower.is_none_or(|n| Plan::for_tile(head, &n).is_none()));
        }
    }
}
