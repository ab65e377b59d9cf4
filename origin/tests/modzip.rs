//! Module zips are judged as golang.org/x/mod does: both read the same generated archives, honest
//! ones and such with lies in them. What theirs refuses, ours refuses; what theirs takes, ours takes
//! with the same h1, or it names why other readers would see other files in it.

mod harness;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::judge::{MODULE, PREFIX, VERSION, judge, judge_within};
use harness::random::Random;
use harness::reference::x_mod;
use harness::zip::{Form, Header, Item, Zip, extra, zip64};
use modcdn_core::h1::H1;
use modcdn_origin::archive::{Checked, Fault, Input, Kind, Limits, write};
use serde_json::{Value, json};

/// How many archives of each kind are made.
const ARCHIVES: usize = 600;

/// Faults for which ours refuses what x/mod takes.
const STRICTER: &[&str] = &[
    "data",
    "encrypted",
    "headers-differ",
    "irregular",
    "junk",
    "not-an-archive",
    "overlap",
    "zip64",
];

/// Has both judge; returns how often ours was stricter, by fault, and how many both took.
fn compare(archives: &[Vec<u8>]) -> (BTreeMap<&'static str, usize>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: usize| dir.path().join(format!("{n}.zip"));
    for (n, archive) in archives.iter().enumerate() {
        std::fs::write(path(n), archive).unwrap();
    }
    let question =
        |n| json!({"Op": "check", "Path": path(n), "Module": MODULE, "Version": VERSION});
    let theirs = x_mod((0..archives.len()).map(question));
    let mut stricter = BTreeMap::new();
    let mut taken = 0;
    for (n, (archive, theirs)) in archives.iter().zip(theirs).enumerate() {
        match (judge(archive), theirs) {
            (Ok(ours), Ok(h1)) => {
                assert_eq!(ours.h1.to_string(), h1, "archive {n}");
                taken += 1;
            }
            (Err(fault), Ok(_)) if may_be_stricter(&fault) => {
                *stricter.entry(fault.name()).or_default() += 1;
            }
            (Err(_), Err(_)) => {}
            (ours, theirs) => disagree(dir, n, &ours, &theirs),
        }
    }
    (stricter, taken)
}

/// Go looks at no folder's data, and at none at all if the folder is named twice.
fn may_be_stricter(fault: &Fault) -> bool {
    let of_a_folder = || fault.to_string().ends_with('/');
    STRICTER.contains(&fault.name())
        || matches!(fault.name(), "size" | "crc" | "method") && of_a_folder()
}

fn disagree(
    dir: tempfile::TempDir,
    n: usize,
    ours: &Result<Checked, Fault>,
    theirs: &Result<String, String>,
) -> ! {
    let kept = dir.keep();
    panic!(
        "{}: we say {ours:?}, x/mod says {theirs:?}",
        kept.join(format!("{n}.zip")).display()
    );
}

/// An honest archive, by the rules or against them.
fn tree(random: &mut Random) -> Zip {
    let mut zip = Zip::default();
    for _ in 0..random.below(6) {
        let item = item(random);
        zip.items.push(item);
    }
    if random.one_in(3) {
        let len = random.below(2000);
        zip.comment = vec![b'c'; len];
    }
    if random.one_in(8) {
        zip.end64 = Some([None; 3]);
    }
    zip
}

fn item(random: &mut Random) -> Item {
    let good = [
        "a.go",
        "b.go",
        "c/d.go",
        "go.mod",
        "LICENSE",
        "c/",
        "e/f/",
        "x y",
        "ä.go",
        "日本/語",
    ];
    let bad = [
        "A.go", "a.go/x", "c", "c/go.mod", "Go.Mod", "../x", "a//b", "con", "ß", "ẞ", "\u{301}",
        "x.", "", "c/D.go", "e", "/",
    ];
    let name = if random.one_in(6) {
        random.pick(&bad)
    } else {
        random.pick(&good)
    };
    let prefix = if random.one_in(60) { "" } else { PREFIX };
    let name = format!("{prefix}{name}");
    let len = if name.ends_with('/') && !random.one_in(20) {
        0
    } else {
        random.below(3000)
    };
    let content: Vec<u8> = (0..len).map(|_| random.below(4) as u8).collect();
    let item = if random.one_in(3) {
        Item::stored(name, &content)
    } else {
        Item::deflated(name, &content)
    };
    dress(item, random)
}

/// What writers add.
fn dress(mut item: Item, random: &mut Random) -> Item {
    if random.one_in(3) {
        item = item.described(Form {
            signature: !random.one_in(3),
            wide: random.one_in(4),
        });
    }
    if random.one_in(5) {
        item.local.extra = extra(0x5455, &[1, 2, 3, 4, 5]);
        item.central.extra = extra(0x5455, &[1, 0]);
    }
    if random.one_in(10) {
        let mode = random.pick(&[0o100_644, 0o100_755, 0o644, 0o120_777, 0o040_755]);
        item = item.mode(mode);
    }
    if random.one_in(15) {
        item.comment = b"about a file".to_vec();
    }
    item
}

/// A lie in one field.
fn lie(zip: &mut Zip, random: &mut Random) {
    let number = random.pick(&[0, 1, 7, 8, 20, 0xffff, 0xffff_ffff]);
    if zip.items.is_empty() || random.one_in(4) {
        match random.below(7) {
            0 => zip.entries = Some(number as u16),
            1 => zip.directory_size = Some(number),
            2 => zip.directory_start = Some(number),
            3 => zip.before_directory = vec![b'j'; random.below(40)],
            4 => zip.behind_directory = vec![b'j'; random.below(40)],
            5 => zip.behind = vec![b'j'; random.below(40)],
            _ => {
                let mut said = [None; 3];
                said[random.below(3)] = Some(number.into());
                zip.end64 = Some(said);
            }
        }
        return;
    }
    let at = random.below(zip.items.len());
    let offsets = [0, 10, 1000, 0xffff_ffff];
    let item = &mut zip.items[at];
    match random.below(6) {
        0 => lie_in(&mut item.local, number, random),
        1 => lie_in(&mut item.central, number, random),
        2 => {
            let (mut one, mut other) = (Random(random.0), Random(random.0));
            lie_in(&mut item.local, number, &mut one);
            lie_in(&mut item.central, number, &mut other);
        }
        3 => item.offset = Some(random.pick(&offsets)),
        4 => item.before = vec![b'j'; random.below(40)],
        _ => {
            if item.descriptor.is_empty() {
                item.data.push(0);
            } else {
                let at = random.below(item.descriptor.len());
                item.descriptor[at] ^= 1;
            }
        }
    }
}

fn lie_in(header: &mut Header, number: u32, random: &mut Random) {
    match random.below(8) {
        0 => header.flags ^= 1 << random.below(16),
        1 => header.method = random.pick(&[0, 8, 9, 12]),
        2 => header.crc = random.pick(&[0, 1, number]),
        3 => header.packed = number,
        4 => header.size = number,
        5 => header.size = header.size.wrapping_add(random.pick(&[1, u32::MAX])),
        6 => header.extra = zip64(&vec![u64::from(number); random.below(4)]),
        _ => header.name.push(random.pick(b"/x\xff\0")),
    }
}

/// Bytes flipped, put in, taken out.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.insert(at, random.next() as u8),
            _ => drop(bytes.remove(at)),
        }
    }
}

#[test]
fn honest_archives_are_judged_as_x_mod_does() {
    let mut random = Random(1);
    let archives: Vec<_> = (0..ARCHIVES).map(|_| tree(&mut random).build()).collect();
    let (stricter, taken) = compare(&archives);
    assert!(
        taken > ARCHIVES / 10 && taken < ARCHIVES,
        "{taken} were taken"
    );
    // Links and pipes, which x/mod's documentation forbids and its code takes for files.
    assert!(
        stricter
            .keys()
            .all(|name| matches!(*name, "irregular" | "size")),
        "{stricter:?}"
    );
}

#[test]
fn lying_archives_are_judged_as_x_mod_does() {
    let mut random = Random(2);
    let archives: Vec<_> = (0..3 * ARCHIVES)
        .map(|_| {
            let mut zip = tree(&mut random);
            lie(&mut zip, &mut random);
            zip.build()
        })
        .collect();
    let (stricter, taken) = compare(&archives);
    assert!(taken > 0 && stricter.len() > 3, "{taken} {stricter:?}");
}

#[test]
fn damaged_archives_are_judged_as_x_mod_does() {
    let mut random = Random(3);
    let archives: Vec<_> = (0..3 * ARCHIVES)
        .map(|_| {
            let mut bytes = tree(&mut random).build();
            mutate(&mut bytes, &mut random);
            bytes
        })
        .collect();
    compare(&archives);
}

/// Damage in the data alone, with everything else told right: what deflate is to one is to the
/// other.
#[test]
fn damaged_data_is_judged_as_go_does() {
    let mut random = Random(4);
    let archives: Vec<_> = (0..3 * ARCHIVES)
        .map(|_| {
            let content: Vec<u8> = (0..200).map(|_| random.below(7) as u8).collect();
            let mut item = Item::deflated(format!("{PREFIX}a"), &content);
            mutate(&mut item.data, &mut random);
            let packed = u32::try_from(item.data.len()).unwrap();
            Zip::of([item.both(|header| (header.packed, header.crc) = (packed, 0))]).build()
        })
        .collect();
    let (_, taken) = compare(&archives);
    assert!(taken > 0);
}

/// Every letter in every case, against the classes that Go's `SimpleFold` makes of them.
#[test]
fn letters_are_one_where_they_are_for_go() {
    let folds = x_mod([json!({"Op": "fold"})]).remove(0).unwrap();
    let letter = |hex: &str| char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap();
    let mut classes: HashMap<char, Vec<char>> = HashMap::new();
    for pair in folds.split(' ') {
        let (one, least) = pair.split_once(':').unwrap();
        classes.entry(letter(least)).or_default().push(letter(one));
    }
    let named = |letter: char| Item::stored(format!("{PREFIX}x{letter}"), b"");
    let apart = Zip {
        entries: Some(0xffff),
        end64: Some([None; 3]),
        ..Zip::of(classes.values().map(|class| named(class[0])))
    };
    let apart = judge(&apart.build()).unwrap();
    assert_eq!(apart.files as usize, classes.len());
    for class in classes.values() {
        for other in &class[1..] {
            let fault = judge(&Zip::of([named(class[0]), named(*other)]).build()).unwrap_err();
            assert_eq!(fault.name(), "collision", "{class:?}");
        }
    }
}

/// Modules as they are published, small and large; their h1 is what `go mod download` proved.
#[test]
fn modules_from_a_proxy_are_taken_with_the_h1_of_go_sum() {
    let modules = [
        "github.com/BurntSushi/toml@v1.4.0",
        "gopkg.in/yaml.v3@v3.0.1",
        "golang.org/x/text@v0.19.0",
        "golang.org/x/tools@v0.26.0",
        "github.com/google/go-cmp@v0.6.0",
        "github.com/stretchr/testify@v1.9.0",
        "github.com/go-chi/chi/v5@v5.1.0",
        "github.com/dgrijalva/jwt-go@v3.2.0+incompatible",
        "github.com/pkg/errors@v0.9.1",
        "rsc.io/quote@v1.5.2",
        "k8s.io/client-go@v0.31.1",
        "golang.org/x/sys@v0.26.0",
    ];
    let downloaded = harness::reference::download(&modules);
    assert_eq!(downloaded.len(), modules.len());
    for module in downloaded {
        let file = std::fs::File::open(Path::new(&module.zip)).unwrap();
        let len = file.metadata().unwrap().len();
        let (path, version) = (
            module.path.parse().unwrap(),
            module.version.parse().unwrap(),
        );
        let limits = Limits::default();
        let checked = modcdn_origin::archive::check(&file, len, &path, &version, &limits);
        assert_eq!(
            checked.unwrap().h1.to_string(),
            module.sum,
            "{}",
            module.path
        );
    }
}

/// A tree that may become a module: names and contents that the rules are about.
fn module_tree(random: &mut Random) -> Vec<Value> {
    let names = [
        "a.go",
        "b.go",
        "LICENSE",
        "sub/a.go",
        "sub/deep/b.go",
        "sub/go.mod",
        "sub/deep/go.mod",
        "vendor/modules.txt",
        "vendor/x.go",
        "vendor/a.b/c/c.go",
        "sub/vendor/x.go",
        "sub/vendor/a/x.go",
        "a/vendor/vendor/x.go",
        "longer/than/vendor/x.go",
        "vendor",
        "ä/vendor/x/y.go",
        "vendors/a/b.go",
        ".hg_archival.txt",
        "sub/.hg_archival.txt",
        ".git/config",
        "日本/語",
        "x y",
        "go.mod/x",
        "sub/GO.MOD",
    ];
    let bad = [
        "A.go",
        "sub/A.go",
        "a.go",
        "a.go/x",
        "con",
        "a//b",
        "../x",
        "/x",
        "./x",
        "x.",
        "a:b",
        "",
        "vendor/a/con",
        "vendor/a//b",
        "Go.mod",
        "sub",
        "..",
        ".",
        "../vendor/a/b",
    ];
    let mut files: Vec<Value> = Vec::new();
    if !random.one_in(5) {
        let content = go_mod_text(random);
        files.push(entry("go.mod", REGULAR, &content));
    }
    for _ in 0..random.below(8) {
        let all = if random.one_in(12) {
            &bad[..]
        } else {
            &names[..]
        };
        let mode = if random.one_in(10) {
            random.pick(&[SYMLINK, FOLDER, PIPE])
        } else {
            REGULAR
        };
        let name = random.pick(all);
        let is_there = files.iter().any(|file| file["Name"] == name);
        if !is_there || random.one_in(20) {
            let content = name.repeat(random.below(500));
            files.push(entry(name, mode, content.as_bytes()));
        }
    }
    files
}

const REGULAR: u32 = 0;
const SYMLINK: u32 = 1 << 27;
const FOLDER: u32 = 1 << 31;
const PIPE: u32 = 1 << 25;

fn entry(name: &str, mode: u32, content: &[u8]) -> Value {
    let encoded = STANDARD.encode(content);
    json!({"Name": name, "Mode": mode, "Size": content.len(), "Content": encoded})
}

fn go_mod_text(random: &mut Random) -> Vec<u8> {
    let lines = [
        "module example.com/M",
        "module \"example.com/M\"",
        "module example.com/M // deprecated",
        "go 1.21",
        "go 1.23",
        "go 1.24",
        "go 1.24.0",
        "go 1.24rc1",
        "go 1.25.1",
        "go 2.0",
        "go 1.24 // comment",
        "go\t1.24\r",
        "go v1.24.x",
        "go v1.24",
        "go 1",
        "go 1.024",
        "go 1.24x",
        "go 1.24.",
        "go (",
        "1.24",
        ")",
        "require (",
        "\ta.b/c v1.0.0",
        "\ta.b/c v1.0.0 // indirect",
        "require a.b/c v1",
        "require a.b/c v1.2.3+incompatible",
        "require a.b/c main",
        "require a.b/c",
        "require \"a.b/c\" \"v1.0.0\"",
        "require 'a.b/c' v1.0.0",
        "require a.b/c v1.0.0-x+y.z",
        "require a.b/c v1.0-x",
        "exclude a.b/c main",
        "replace a.b/c => ../c",
        "retract [v1, v2]",
        "retract (",
        "toolchain go1.24.0",
        "future ( ) x",
        "future x (",
        "x ( y",
        "// comment",
        "",
        "/* no */",
        "x/*y",
        "x//y",
        "`raw`",
        "`raw",
        "\"a",
        "\u{feff}go 1.24",
        "ä 日本",
        "x\u{a0}y",
        "x\u{7}",
        "go",
        "( go 1.24",
        "{",
        "tool a.b/c",
        "ignore ./x",
        "godebug x=y",
    ];
    let mut text = String::new();
    for at in 0..random.below(6) {
        let likely = if at == 0 { 3 } else { 12 };
        let all = if random.one_in(3) {
            &lines[..]
        } else {
            &lines[..likely]
        };
        let line: &str = random.pick::<&str>(all);
        text.push_str(line);
        text.push('\n');
    }
    text.into_bytes()
}

/// A file of a tree, as ours wants it.
struct TreeFile {
    name: String,
    kind: Kind,
    content: Vec<u8>,
}

impl TreeFile {
    fn of(value: &Value) -> Self {
        let kind = match value["Mode"].as_u64().unwrap() as u32 {
            REGULAR => Kind::File,
            FOLDER => Kind::Folder,
            _ => Kind::Other,
        };
        Self {
            name: value["Name"].as_str().unwrap().to_owned(),
            kind,
            content: STANDARD.decode(value["Content"].as_str().unwrap()).unwrap(),
        }
    }
}

impl Input for TreeFile {
    fn path(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(&self.content[..]))
    }
}

/// Makes a zip, twice, and has it checked.
fn make(files: &[TreeFile], limits: &Limits) -> Result<(H1, Vec<u8>), Fault> {
    let (module, version) = (MODULE.parse().unwrap(), VERSION.parse().unwrap());
    let mut zip = Vec::new();
    let h1 = write(&mut zip, &module, &version, files, limits)?;
    let mut again = Vec::new();
    write(&mut again, &module, &version, files, limits)?;
    assert!(zip == again, "the same files make the same bytes");
    assert_eq!(judge_within(&zip, limits)?.h1, h1);
    Ok((h1, zip))
}

#[test]
fn zips_are_made_as_x_mod_makes_them() {
    let mut random = Random(5);
    let trees: Vec<_> = (0..2 * ARCHIVES)
        .map(|_| module_tree(&mut random))
        .collect();
    let theirs = x_mod(trees.iter().map(
        |files| json!({"Op": "create", "Module": MODULE, "Version": VERSION, "Files": files}),
    ));
    let mut made = 0;
    for (tree, theirs) in trees.iter().zip(theirs) {
        let files: Vec<_> = tree.iter().map(TreeFile::of).collect();
        let ours = make(&files, &Limits::default());
        match (&ours, &theirs) {
            (Ok((h1, _)), Ok(theirs)) => {
                assert_eq!(h1.to_string(), *theirs, "{tree:#?}");
                made += 1;
            }
            (Err(_), Err(_)) => {}
            _ => panic!("we say {ours:?}, x/mod says {theirs:?}: {tree:#?}"),
        }
    }
    let all = trees.len();
    assert!(
        made > all / 4 && made < all * 9 / 10,
        "{made} of {all} were made"
    );
}

#[test]
fn what_is_too_large_is_not_made() {
    let file = |name: &str, len: usize| TreeFile {
        name: name.to_owned(),
        kind: Kind::File,
        content: vec![0; len],
    };
    let limits = Limits {
        packed: 600,
        unpacked: 10_000,
        go_mod: 100,
        license: 200,
        files: 3,
        directory: 300,
    };
    let fits = [file("go.mod", 100), file("LICENSE", 200), file("a", 9_700)];
    assert!(make(&fits, &limits).is_ok());
    for (files, fault) in [
        (vec![file("go.mod", 101)], "file-too-large"),
        (vec![file("LICENSE", 201)], "file-too-large"),
        (
            vec![file("a", 5_000), file("b", 5_001)],
            "unpacked-too-large",
        ),
        (vec![file("a/b", 1), file("c/d", 1)], "too-many-files"),
        (vec![file(&"x".repeat(280), 1)], "directory-too-large"),
    ] {
        let made = make(&files, &limits).map(|(h1, _)| h1);
        assert_eq!(made.unwrap_err().name(), fault);
    }
    let limits = Limits {
        packed: 300,
        ..Limits::default()
    };
    assert!(make(&[file("a", 10)], &limits).is_ok());
    let made = make(&[file(&"x".repeat(100), 1)], &limits);
    assert_eq!(made.unwrap_err().name(), "too-large");
}

#[test]
fn a_file_that_is_not_as_long_as_said_is_not_put_in() {
    struct Lying(u64);
    impl Input for Lying {
        fn path(&self) -> &'static str {
            "a.go"
        }
        fn kind(&self) -> Kind {
            Kind::File
        }
        fn size(&self) -> u64 {
            self.0
        }
        fn open(&self) -> io::Result<Box<dyn Read + '_>> {
            match self.0 {
                0 => Err(io::Error::other("gone")),
                _ => Ok(Box::new(&b"package a"[..])),
            }
        }
    }
    let (module, version) = (MODULE.parse().unwrap(), VERSION.parse().unwrap());
    for said in [0, 8, 10] {
        let mut zip = Vec::new();
        let made = write(
            &mut zip,
            &module,
            &version,
            &[Lying(said)],
            &Limits::default(),
        );
        assert_eq!(made.unwrap_err().name(), "source", "{said}");
    }
}

#[test]
fn a_zip_of_many_files_says_how_many() {
    let name = |n: usize| format!("f{n}");
    let files: Vec<_> = (0..70_000)
        .map(|n| TreeFile {
            name: name(n),
            kind: Kind::File,
            content: Vec::new(),
        })
        .collect();
    let (h1, zip) = make(&files, &Limits::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("many.zip");
    std::fs::write(&path, zip).unwrap();
    let question = json!({"Op": "hash", "Path": path});
    assert_eq!(x_mod([question]), [Ok(h1.to_string())]);
}
