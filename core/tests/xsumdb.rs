//! The checksum database's formats are judged as golang.org/x/mod judges them: both read the same
//! generated notes, heads, records, logs and files. Needs `go` and, through its module proxy,
//! golang.org/x/mod.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::Tile;
use modcdn_core::h1::H1;
use modcdn_core::sumdb::note::VerifierKey;
use modcdn_core::sumdb::record::Lookup;
use modcdn_core::sumdb::tree::{Node, Plan, TreeHead, leaf_hash};

use self::random::Random;
use self::reference::go_run;

#[path = "../../tests/harness/random.rs"]
mod random;
mod reference;

/// How many texts of each kind are generated.
const TEXTS: usize = 2000;

#[test]
fn keys_are_judged_as_x_mod_does() {
    let mut random = Random(1);
    let keys = signed(&mut random).into_iter().map(|(key, _)| key);
    let keys: Vec<String> = keys.map(|key| random.mutated(&key)).collect();
    let verdicts = x_mod(keys.iter().map(|key| ("key", vec![key.as_str()])));
    assert_sane(&verdicts);
    for (key, theirs) in keys.iter().zip(verdicts) {
        // Go's base64 passes over line ends; no key has them.
        if key.contains(['\r', '\n']) {
            continue;
        }
        let ours = key.parse::<VerifierKey>().ok();
        let ours = ours.map(|key| hex(key.name().as_bytes()));
        assert_eq!(ours, theirs, "{key:?}");
    }
}

#[test]
fn notes_are_judged_as_x_mod_does() {
    let mut random = Random(2);
    let signed = signed(&mut random);
    let cases: Vec<(String, String)> = (0..TEXTS)
        .map(|_| {
            let (key, note) = &signed[random.below(signed.len())];
            let (_, other) = &signed[random.below(signed.len())];
            (key.clone(), random.note(note, other))
        })
        .collect();
    let asked = cases
        .iter()
        .map(|(key, note)| ("note", vec![key.as_str(), note]));
    let verdicts = x_mod(asked);
    assert_sane(&verdicts);
    for ((key, note), theirs) in cases.iter().zip(verdicts) {
        let key: VerifierKey = key.parse().expect("a key of x/mod's");
        let ours = key.open(note.as_bytes()).ok();
        assert_eq!(ours.map(|text| hex(text.as_bytes())), theirs, "{note:?}");
    }
}

#[test]
fn heads_are_judged_as_x_mod_does() {
    let mut random = Random(3);
    let texts: Vec<String> = (0..TEXTS)
        .map(|_| {
            let hash = STANDARD.encode(Sha256::of(&random.next().to_be_bytes()).as_bytes());
            let size = random.next() >> random.below(64);
            random.mutated(&format!("go.sum database tree\n{size}\n{hash}\n"))
        })
        .collect();
    let verdicts = x_mod(texts.iter().map(|text| ("head", vec![text.as_str()])));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        // Go's base64 passes over them; no note has them.
        if text.contains('\r') {
            continue;
        }
        let ours = TreeHead::parse(text);
        let ours = ours.map(|head| format!("{} {}", head.size, head.base64()));
        assert_eq!(ours, theirs, "{text:?}");
    }
}

#[test]
fn records_are_judged_as_x_mod_does() {
    let mut random = Random(4);
    let texts: Vec<String> = (0..TEXTS)
        .map(|_| {
            let lines = "a.example v1.0.0 h1:x=\n".repeat(random.below(3));
            let (number, rest) = (random.next() >> random.below(64), random.text());
            random.mutated(&format!("{number}\n{lines}\n{rest}"))
        })
        .collect();
    let verdicts = x_mod(texts.iter().map(|text| ("record", vec![text.as_str()])));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        // We take a number in its canonical form only.
        let first = text.split('\n').next().unwrap_or_default();
        if first.starts_with('+') || first.starts_with('0') && first.len() > 1 || first == "-0" {
            continue;
        }
        let ours = Lookup::parse(text.as_bytes());
        let ours = ours.map(|l| format!("{} {} {}", l.id, hex(l.record.as_bytes()), hex(l.note)));
        assert_eq!(ours, theirs, "{text:?}");
    }
}

#[test]
fn the_same_tiles_prove_the_same_hashes() {
    let mut random = Random(5);
    let cases: Vec<(u64, Vec<(u8, u64)>)> = (0..150).map(|_| random.nodes()).collect();
    let asked = cases.iter().map(|(size, nodes)| {
        let numbers = nodes
            .iter()
            .flat_map(|(l, n)| [l.to_string(), n.to_string()]);
        [size.to_string()]
            .into_iter()
            .chain(numbers)
            .collect::<Vec<_>>()
    });
    let asked: Vec<Vec<String>> = asked.collect();
    let verdicts = x_mod(
        asked
            .iter()
            .map(|args| ("tiles", args.iter().map(String::as_str).collect())),
    );
    for ((size, nodes), theirs) in cases.iter().zip(verdicts) {
        let theirs = Tiles::read(&theirs.expect("an honest log"));
        let head = TreeHead {
            size: *size,
            hash: theirs.root,
        };
        let plan = plan(head, nodes);
        let mut names: Vec<String> = plan.tiles().iter().map(Tile::to_string).collect();
        let data: Vec<&[u8]> = names.iter().map(|name| theirs.tile(name)).collect();
        assert_eq!(plan.authenticate(&data).as_ref(), Ok(&theirs.hashes));
        for ((level, number), hash) in nodes.iter().zip(&theirs.hashes) {
            let leaf = leaf_hash(format!("record {number}\n").as_bytes());
            assert!(*level > 0 || *hash == leaf);
        }
        // Neither reads a tile more than the other.
        let mut read: Vec<&str> = theirs.tiles.iter().map(|(name, _)| name.as_str()).collect();
        read.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, read, "{size} {nodes:?}");
    }
}

/// x/mod before v0.24 lets some of them pass: we must refuse at least what it does.
#[test]
fn a_flipped_tile_that_x_mod_refuses_is_refused() {
    let mut random = Random(6);
    let cases: Vec<(u64, (u8, u64))> = (0..100)
        .map(|_| {
            let (size, nodes) = random.nodes();
            (size, nodes[0])
        })
        .collect();
    let asked = |case: &(u64, (u8, u64))| {
        let (size, (level, number)) = case;
        [size.to_string(), level.to_string(), number.to_string()]
    };
    let honest: Vec<_> = cases.iter().map(asked).collect();
    let honest = x_mod(
        honest
            .iter()
            .map(|args| ("tiles", args.each_ref().map(String::as_str).to_vec())),
    );
    let honest: Vec<Tiles> = honest
        .iter()
        .map(|text| Tiles::read(text.as_ref().expect("an honest log")))
        .collect();
    let flips: Vec<(String, usize)> = honest
        .iter()
        .map(|tiles| {
            let (name, bytes) = &tiles.tiles[random.below(tiles.tiles.len())];
            (name.clone(), random.below(bytes.len()))
        })
        .collect();
    let asked: Vec<Vec<String>> = cases
        .iter()
        .zip(&flips)
        .map(|(case, (name, at))| {
            asked(case)
                .into_iter()
                .chain([name.clone(), at.to_string()])
                .collect()
        })
        .collect();
    let verdicts = x_mod(
        asked
            .iter()
            .map(|args| ("flipped", args.iter().map(String::as_str).collect())),
    );
    assert!(
        verdicts.iter().any(Option::is_none),
        "x/mod refuses something"
    );
    for (((size, node), tiles), (name, at)) in cases.iter().zip(&honest).zip(&flips) {
        let plan = plan(
            TreeHead {
                size: *size,
                hash: tiles.root,
            },
            &[*node],
        );
        let data: Vec<Vec<u8>> = plan
            .tiles()
            .iter()
            .map(|tile| {
                let mut bytes = tiles.tile(&tile.to_string()).to_vec();
                if tile.to_string() == *name {
                    bytes[*at] ^= 1;
                }
                bytes
            })
            .collect();
        assert!(
            plan.authenticate(&data).is_err(),
            "{size} {node:?} {name} {at}"
        );
    }
}

#[test]
fn files_hash_as_x_mod_does() {
    let mut random = Random(7);
    let modules: Vec<Vec<String>> = (0..300)
        .map(|_| {
            let count = random.below(6);
            (0..count)
                .flat_map(|n| {
                    [
                        format!("m@v1/{}{n}", random.text().replace('\n', "/")),
                        random.text(),
                    ]
                })
                .collect()
        })
        .collect();
    let verdicts = x_mod(
        modules
            .iter()
            .map(|files| ("h1", files.iter().map(String::as_str).collect())),
    );
    for (files, theirs) in modules.iter().zip(verdicts) {
        let pairs = files
            .chunks(2)
            .map(|file| (file[0].as_str(), Sha256::of(file[1].as_bytes())));
        assert_eq!(Some(H1::of_files(pairs).to_string()), theirs, "{files:?}");
    }
}

/// Notes that x/mod signed, with the keys to open them.
fn signed(random: &mut Random) -> Vec<(String, String)> {
    let cases: Vec<[String; 3]> = (0..TEXTS)
        .map(|_| {
            let name = ["a.example", "sum.b.example/x", "ä", "A_b"][random.below(4)];
            [
                random.below(5).to_string(),
                name.to_owned(),
                random.text() + "\n",
            ]
        })
        .collect();
    let signed = x_mod(
        cases
            .iter()
            .map(|case| ("sign", case.each_ref().map(String::as_str).to_vec())),
    );
    let pair = |text: Option<String>| {
        let text = text.expect("x/mod signs any text");
        let (key, note) = text.split_once(' ').expect("two fields");
        (
            key.to_owned(),
            String::from_utf8(unhex(note)).expect("a note is text"),
        )
    };
    signed.into_iter().map(pair).collect()
}

fn plan(head: TreeHead, nodes: &[(u8, u64)]) -> Plan {
    let nodes = nodes
        .iter()
        .map(|(level, number)| Node::new(*level, *number).expect("a low level"));
    Plan::new(head, nodes).expect("the tree has them")
}

/// What x/mod read of a log.
struct Tiles {
    root: Sha256,
    tiles: Vec<(String, Vec<u8>)>,
    hashes: Vec<Sha256>,
}

impl Tiles {
    fn read(text: &str) -> Self {
        let (read, hashes) = text.split_once(" [").expect("a list of hashes");
        let mut fields = read.split(' ');
        let root = hash(fields.next().expect("a root"));
        let tile = |field: &str| {
            let (name, bytes) = field.split_once('=').expect("a tile and its bytes");
            (name.to_owned(), unhex(bytes))
        };
        Self {
            root,
            tiles: fields.map(tile).collect(),
            hashes: hashes
                .trim_end_matches(']')
                .split_whitespace()
                .map(hash)
                .collect(),
        }
    }

    fn tile(&self, name: &str) -> &[u8] {
        let mut tiles = self.tiles.iter();
        let found = tiles.find(|(read, _)| read == name);
        &found
            .unwrap_or_else(|| panic!("x/mod did not read {name}"))
            .1
    }
}

fn hash(text: &str) -> Sha256 {
    let bytes = STANDARD.decode(text).expect("base64");
    Sha256::from_bytes(bytes.try_into().expect("32 bytes"))
}

/// A corpus that is nearly all good or nearly all bad tests nothing.
fn assert_sane(verdicts: &[Option<String>]) {
    let good = verdicts.iter().flatten().count();
    let all = verdicts.len();
    assert!(
        good > all / 20 && good < all * 19 / 20,
        "{good} of {all} are good"
    );
}

/// Asks x/mod; `None` is its no.
fn x_mod<'a>(lines: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> Vec<Option<String>> {
    let lines = lines.map(|(op, args)| {
        let hexed = args.iter().map(|arg| format!("\t{}", hex(arg.as_bytes())));
        format!("{op}{}", hexed.collect::<String>())
    });
    let verdicts = go_run("tests/xsumdb", lines);
    let verdict = |line: &String| line.strip_prefix("ok ").map(str::to_owned);
    verdicts.iter().map(verdict).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    pairs.map(byte).collect()
}

impl Random {
    /// Some lines, blank ones among them; no newline at the end.
    fn text(&mut self) -> String {
        let parts = [
            "a",
            "line",
            " ",
            "\n",
            "\n",
            "ä",
            "\u{2014} ",
            "+",
            "b c",
            "1",
            "\u{7f}",
        ];
        let text: String = (0..self.below(8))
            .map(|_| parts[self.below(parts.len())])
            .collect();
        text.trim_end_matches('\n').to_owned()
    }

    /// Half of the time with one or two characters replaced, left out or doubled.
    fn mutated(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        if self.below(2) == 0 {
            return text.to_owned();
        }
        let odd: Vec<char> = "\n\n +=/aA0123-\u{2014}\u{85}\u{3000}\t\r\0\u{fffd}"
            .chars()
            .collect();
        for _ in 0..=self.below(2) {
            let at = self.below(chars.len());
            let new = odd[self.below(odd.len())];
            match self.below(4) {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, chars[at]),
                2 => chars.insert(at, new),
                _ => chars[at] = new,
            }
            if chars.is_empty() {
                break;
            }
        }
        chars.into_iter().collect()
    }

    /// A note, often one that isn't good any more: signatures of another one before or behind
    /// its own, doubled, missing; or a character changed.
    fn note(&mut self, note: &str, other: &str) -> String {
        let split = |note: &str| {
            let at = note.rfind("\n\n").expect("x/mod's notes have a blank line") + 2;
            (note[..at].to_owned(), note[at..].to_owned())
        };
        let ((text, own), (_, foreign)) = (split(note), split(other));
        let lines = match self.below(8) {
            0 => foreign,
            1 => foreign + &own,
            2 => own + &foreign,
            3 => own.clone() + &own,
            4 => own.repeat(99 + self.below(3)),
            5 => String::new(),
            _ => own,
        };
        self.mutated(&(text + &lines))
    }

    /// A size, and some nodes that a tree of it has.
    fn nodes(&mut self) -> (u64, Vec<(u8, u64)>) {
        let sizes = [1, 2, 255, 256, 257, 511, 768, 65_536, 65_792, 66_304];
        let size = match self.below(3) {
            0 => sizes[self.below(sizes.len())],
            1 => 1 + self.below(2_000),
            _ => 1 + self.below(70_000),
        };
        let nodes = (0..=self.below(3)).map(|_| {
            let highest = size.ilog2() as usize;
            let level = if self.below(2) == 0 {
                0
            } else {
                self.below(highest + 1)
            };
            (level as u8, self.below(size >> level) as u64)
        });
        let nodes = nodes.collect();
        (size as u64, nodes)
    }
}
