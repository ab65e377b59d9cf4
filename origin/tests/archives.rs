//! Module zips: what is taken, and that every class of hostile archive is refused.

mod harness;

use harness::judge::{PREFIX, fault, judge, judge_as, judge_within};
use harness::zip::{Form, Item, Zip, extra, zip64};
use modcdn_core::digest::Sha256;
use modcdn_core::h1::H1;
use modcdn_origin::archive::Limits;

const GO_MOD: &[u8] = b"module example.com/M\n";
const UNICODE_PATH: u16 = 0x7075;

fn named(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn go_mod() -> Item {
    Item::deflated(named("go.mod"), GO_MOD)
}

/// A module with this entry.
fn with(item: Item) -> Vec<u8> {
    Zip::of([go_mod(), item, Item::stored(named("z.go"), b"package z\n")]).build()
}

fn code() -> Item {
    Item::deflated(named("a.go"), &b"package a\n".repeat(1000))
}

fn forms() -> impl Iterator<Item = Form> {
    [(true, false), (false, false), (true, true), (false, true)]
        .into_iter()
        .map(|(signature, wide)| Form { signature, wide })
}

#[test]
fn an_honest_zip_is_taken_with_its_h1_and_go_mod() {
    let content = b"package a\n".repeat(1000);
    let zip = Zip::of([
        Item::stored(named(""), b""),
        go_mod(),
        Item::stored(named("sub/"), b""),
        code(),
        Item::deflated(named("sub/empty"), b""),
    ]);
    let checked = judge(&zip.build()).unwrap();
    let names = ["", "go.mod", "sub/", "a.go", "sub/empty"].map(named);
    let contents: [&[u8]; 5] = [b"", GO_MOD, b"", &content, b""];
    let files = names.iter().zip(contents);
    let h1 = H1::of_files(files.map(|(name, content)| (name.as_str(), Sha256::of(content))));
    assert_eq!(checked.h1, h1);
    assert_eq!(checked.go_mod.as_deref(), Some(GO_MOD));
    assert_eq!((checked.files, checked.unpacked), (3, 10_021));
}

#[test]
fn every_form_of_descriptor_is_understood() {
    let plain = judge(&with(code())).unwrap();
    for form in forms() {
        let bytes = with(code().described(form));
        assert_eq!(judge(&bytes).unwrap(), plain, "{form:?}");
        // Stored data doesn't say where it ends: the directory does.
        let stored = Item::stored(named("s.go"), b"PK\x03\x04package s\n").described(form);
        assert!(judge(&with(stored)).is_ok(), "{form:?}");
        let last = Zip::of([go_mod(), code().described(form)]);
        assert!(judge(&last.build()).is_ok(), "{form:?}");
    }
}

#[test]
fn what_real_writers_do_is_taken() {
    let times = extra(0x5455, &[1, 0, 0, 0, 0]);
    let mut timed = code();
    timed.local.extra = [times.clone(), extra(0x7875, &[0; 11])].concat();
    timed.central.extra = times;
    let mut padded = code();
    padded.local.extra = vec![0; 3];
    let mut no_checksum = code();
    (no_checksum.local.crc, no_checksum.central.crc) = (0, 0);
    let mut said_twice = code().both(|header| header.extra = vec![]);
    said_twice.central.extra = extra(
        UNICODE_PATH,
        &[&[1, 0, 0, 0, 0], named("a.go").as_bytes()].concat(),
    );
    let mut jar_folder = Item::deflated(named("d/"), b"");
    assert_eq!(jar_folder.data, [3, 0]);
    jar_folder.attributes = 0x10;
    let mut other_order = Zip::of([code(), go_mod()]);
    let offset =
        u32::try_from(Zip::of([code()]).build().len() - 22 - 46 - code().central.name.len());
    other_order.items[0].offset = Some(offset.unwrap());
    other_order.items[1].offset = Some(0);
    for item in [
        timed,
        padded,
        no_checksum,
        said_twice,
        jar_folder,
        code().mode(0o100_644),
        Item::stored(named("d/"), b"").mode(0o040_755),
        Item::stored(named("d/"), b"").both(|header| header.flags = 8),
    ] {
        let shown = format!("{item:?}");
        assert!(judge(&with(item)).is_ok(), "{shown}");
    }
    let commented = Zip {
        comment: b"a Git archive has its commit here".to_vec(),
        ..Zip::of([go_mod()])
    };
    assert!(judge(&commented.build()).is_ok());
    let empty = judge(&Zip::default().build()).unwrap();
    assert_eq!(empty.h1, H1::of_files([]));
}

#[test]
fn zip_bombs_are_refused() {
    let zeros = vec![0; 4 << 20];
    // By what it declares.
    let limits = Limits {
        unpacked: 3 << 20,
        ..Limits::default()
    };
    let honest = with(Item::deflated(named("zeros"), &zeros));
    assert!(judge(&honest).is_ok());
    assert_eq!(
        judge_within(&honest, &limits).unwrap_err().name(),
        "unpacked-too-large"
    );
    // By all that it declares together.
    let many = Zip::of((0..4).map(|n| Item::deflated(named(&format!("f{n}")), &zeros[..1 << 20])));
    assert_eq!(
        judge_within(&many.build(), &limits).unwrap_err().name(),
        "unpacked-too-large"
    );
    // By what it holds, whatever it declares.
    for said in [0, 1000, (4 << 20) - 1] {
        let lying = Item::deflated(named("zeros"), &zeros).both(|header| header.size = said);
        assert_eq!(fault(&with(lying)), "size", "{said}");
    }
    let huge = with(Item::deflated(named("zeros"), &zeros).both(|header| header.size = u32::MAX));
    assert!(["zip64", "unpacked-too-large"].contains(&fault(&huge)));
    // One stretch of data for many files.
    let mut shared = Zip::of([go_mod(), code(), code(), code()]);
    for (n, item) in shared.items.iter_mut().enumerate().skip(2) {
        item.central.name = named(&format!("copy{n}")).into();
        item.local.name.clone_from(&item.central.name);
        item.offset = Some(0);
    }
    assert_eq!(fault(&shared.build()), "overlap");
}

#[test]
fn lying_sizes_are_refused() {
    type Lie = fn(&mut Item);
    let lies: [(Lie, &str); 10] = [
        (|item| item.central.size += 1, "headers-differ"),
        (|item| item.local.size -= 1, "headers-differ"),
        (|item| item.local.packed += 1, "headers-differ"),
        (|item| item.local.crc += 1, "headers-differ"),
        (|item| *item = item.clone().both(|h| h.size += 1), "size"),
        (|item| *item = item.clone().both(|h| h.size -= 1), "size"),
        (|item| *item = item.clone().both(|h| h.packed -= 1), "data"),
        (
            |item| {
                *item = item.clone().both(|h| h.packed += 1);
                item.data.push(0);
            },
            "data",
        ),
        (
            |item| *item = item.clone().both(|h| h.packed += 100_000),
            "overlap",
        ),
        (|item| *item = item.clone().both(|h| h.crc += 1), "crc"),
    ];
    for (n, (lie, name)) in lies.into_iter().enumerate() {
        let mut item = code();
        lie(&mut item);
        assert_eq!(fault(&with(item)), name, "lie {n}");
    }
    let stored = Item::stored(named("s"), b"content").both(|header| header.size = 6);
    assert_eq!(fault(&with(stored)), "size");
    let folder = Item::stored(named("d/"), b"content");
    assert_eq!(fault(&with(folder)), "size");
    for form in forms() {
        let mut item = code().described(form);
        let last = item.descriptor.len() - 1;
        item.descriptor[last] ^= 1;
        assert_eq!(fault(&with(item.clone())), "headers-differ", "{form:?}");
        item.descriptor.truncate(last);
        assert_eq!(fault(&with(item)), "junk", "{form:?}");
    }
}

#[test]
fn zip64_tricks_are_refused() {
    let truth = code();
    let (size, packed) = (
        u64::from(truth.central.size),
        u64::from(truth.central.packed),
    );
    let maxed = |extra: Vec<u8>| {
        code().both(|header| {
            (header.size, header.packed) = (u32::MAX, u32::MAX);
            header.extra.clone_from(&extra);
        })
    };
    // Needless, but true.
    for fine in [
        maxed(zip64(&[size, packed])),
        code().both(|header| header.extra = zip64(&[size, packed])),
        code().both(|header| header.extra = zip64(&[])),
    ] {
        assert!(judge(&with(fine)).is_ok());
    }
    let twice = [zip64(&[size, packed]), zip64(&[size, packed])].concat();
    let mut blank = code().described(Form {
        signature: true,
        wide: true,
    });
    blank.local.extra = zip64(&[0, 0]);
    assert!(judge(&with(blank)).is_ok());
    let mut only_local = code();
    only_local.local.extra = zip64(&[1, 1]);
    for (n, bad) in [
        maxed(zip64(&[size])),
        maxed(vec![]),
        maxed(zip64(&[size, packed, 0])),
        maxed(twice),
        code().both(|header| header.extra = zip64(&[size + 1, packed])),
        only_local,
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(fault(&with(bad)), "zip64", "trick {n}");
    }
    assert_eq!(fault(&with(maxed(zip64(&[size + 1, packed])))), "size");
    assert_eq!(
        fault(&with(maxed(zip64(&[u64::MAX, packed])))),
        "unpacked-too-large"
    );
}

#[test]
fn two_ends_must_say_the_same() {
    let honest = |end64| Zip {
        end64: Some(end64),
        ..Zip::of([go_mod(), code()])
    };
    assert!(judge(&honest([None; 3]).build()).is_ok());
    let needed = Zip {
        entries: Some(0xffff),
        directory_size: Some(u32::MAX),
        directory_start: Some(u32::MAX),
        ..honest([None; 3])
    };
    assert!(judge(&needed.build()).is_ok());
    for lie in [
        [Some(1), None, None],
        [None, Some(1), None],
        [None, None, Some(1)],
    ] {
        assert_eq!(fault(&honest(lie).build()), "zip64", "{lie:?}");
    }
    // Go doesn't look into the second end for the size alone.
    let unlooked = Zip {
        directory_size: Some(u32::MAX),
        ..honest([None; 3])
    };
    assert_eq!(fault(&unlooked.build()), "zip64");
    let displaced = Zip {
        end64: Some([None; 3]),
        comment: vec![0; 10],
        ..Zip::of([go_mod()])
    };
    assert!(judge(&displaced.build()).is_ok());
}

#[test]
fn paths_out_of_the_folder_are_refused() {
    for name in [
        "../x",
        "..",
        "a/../../x",
        "/etc/passwd",
        "a/./b",
        ".",
        "a//b",
        "a\\..\\b",
        "c:/x",
        "a\0",
        "d//",
        "a\nb",
        "con",
        "a/NUL.txt",
        "trailing.",
    ] {
        assert_eq!(
            fault(&with(Item::stored(named(name), b""))),
            "file-name",
            "{name:?}"
        );
    }
    let mut raw = named("x").into_bytes();
    raw.push(0xff);
    assert_eq!(fault(&with(Item::stored(raw, b""))), "file-name");
}

#[test]
fn symlinks_and_other_irregular_files_are_refused() {
    for mode in [
        0o120_777, 0o020_644, 0o060_644, 0o010_644, 0o140_644, 0o040_755,
    ] {
        let item = Item::stored(named("link"), b"/etc/passwd").mode(mode);
        assert_eq!(fault(&with(item)), "irregular", "{mode:o}");
    }
    let folder = Item::stored(named("link/"), b"").mode(0o120_777);
    assert_eq!(fault(&with(folder)), "irregular");
}

#[test]
fn names_that_are_one_without_case_are_refused() {
    for (one, other) in [
        ("a.go", "a.go"),
        ("a.go", "A.go"),
        ("x/a.go", "X/b.go"),
        ("\u{212a}.go", "k.go"),
        ("\u{3c3}", "\u{3c2}"),
        ("a", "a/b"),
        ("a", "a/"),
        ("A/b", "a"),
    ] {
        for [one, other] in [[one, other], [other, one]] {
            let zip = Zip::of([
                go_mod(),
                Item::stored(named(one), b""),
                Item::stored(named(other), b""),
            ]);
            assert_eq!(fault(&zip.build()), "collision", "{one} {other}");
        }
    }
}

#[test]
fn a_second_go_mod_is_refused() {
    for (name, want) in [
        ("sub/go.mod", "nested-module"),
        ("a/b/GO.MOD", "nested-module"),
        ("Go.mod", "go-mod-case"),
    ] {
        let zip = Zip::of([Item::stored(named(name), GO_MOD)]);
        assert_eq!(fault(&zip.build()), want, "{name}");
    }
    assert_eq!(fault(&with(go_mod())), "collision");
}

#[test]
fn a_wrong_prefix_is_refused() {
    for name in [
        "a.go",
        "example.com/M@v1.2.3",
        "example.com/m@v1.2.3/a.go",
        "example.com/M@v1.2.4/a.go",
        "example.com/!m@v1.2.3/a.go",
        "/example.com/M@v1.2.3/a.go",
        "",
    ] {
        assert_eq!(fault(&with(Item::stored(name, b""))), "prefix", "{name}");
    }
    let zip = with(code());
    let other = judge_as(&zip, "example.com/M", "v2.0.0", &Limits::default());
    assert_eq!(other.unwrap_err().name(), "version");
}

#[test]
fn headers_that_differ_are_refused() {
    type Lie = fn(&mut Item);
    let lies: [Lie; 6] = [
        |item| item.local.name = named("b.go").into(),
        |item| item.local.name.push(b'/'),
        |item| item.local.method = 0,
        |item| item.local.flags = 8,
        |item| item.central.flags = 8,
        |item| item.local.flags = 1,
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let mut item = code();
        lie(&mut item);
        assert!(
            ["headers-differ", "junk"].contains(&fault(&with(item))),
            "lie {n}"
        );
    }
    for side in [true, false] {
        let mut item = code();
        let other = extra(
            UNICODE_PATH,
            &[&[1, 0, 0, 0, 0], named("b.go").as_bytes()].concat(),
        );
        if side {
            item.local.extra = other;
        } else {
            item.central.extra = other;
        }
        assert_eq!(fault(&with(item)), "headers-differ");
    }
}

#[test]
fn encrypted_entries_and_unknown_methods_are_refused() {
    for flag in [1, 1 << 5, 1 << 6, 1 << 13] {
        let item = code().both(|header| header.flags |= flag);
        assert_eq!(fault(&with(item)), "encrypted");
    }
    for method in [1, 9, 12, 14, 93, 99] {
        let item = code().both(|header| header.method = method);
        assert_eq!(fault(&with(item)), "method");
    }
}

#[test]
fn bytes_that_belong_to_nobody_are_refused() {
    let zip = || Zip::of([go_mod(), code()]);
    let junk = b"PK\x03\x04 hidden".to_vec();
    let in_front = [&junk[..], &zip().build()].concat();
    assert_eq!(fault(&in_front), "junk", "a prefix that offsets don't know");
    let mut told = zip();
    told.items[0].before.clone_from(&junk);
    assert_eq!(fault(&told.build()), "junk", "a prefix that offsets know");
    let mut between = zip();
    between.items[1].before.clone_from(&junk);
    assert_eq!(fault(&between.build()), "junk");
    let mut before_directory = zip();
    before_directory.before_directory.clone_from(&junk);
    assert_eq!(fault(&before_directory.build()), "junk");
    let mut behind_directory = zip();
    behind_directory.behind_directory.clone_from(&junk);
    assert_eq!(fault(&behind_directory.build()), "junk");
    let behind = Zip {
        behind: junk,
        ..zip()
    };
    assert_eq!(fault(&behind.build()), "junk");
}

#[test]
fn a_comment_cannot_hide_another_end() {
    let inner = Zip::of([Item::stored(named("evil.go"), b"package evil\n")]).build();
    let outer = Zip {
        comment: inner,
        ..Zip::of([go_mod()])
    };
    assert_eq!(fault(&outer.build()), "junk");
    let fake = Zip {
        comment: b"PK\x05\x06".to_vec(),
        ..Zip::of([go_mod()])
    };
    assert_eq!(fault(&[fake.build(), vec![0; 18]].concat()), "junk");
    let mut short = Zip {
        comment: vec![b'x'; 2000],
        ..Zip::of([go_mod()])
    }
    .build();
    short.truncate(short.len() - 1);
    assert_eq!(fault(&short), "not-an-archive");
}

#[test]
fn a_directory_that_miscounts_is_refused() {
    for entries in [0, 1, 3, 0xffff] {
        let zip = Zip {
            entries: Some(entries),
            ..Zip::of([go_mod(), code()])
        };
        assert_eq!(fault(&zip.build()), "not-an-archive", "{entries}");
    }
    let small = Limits {
        files: 2,
        ..Limits::default()
    };
    let zip = with(code());
    assert_eq!(
        judge_within(&zip, &small).unwrap_err().name(),
        "too-many-files"
    );
    let small = Limits {
        directory: 100,
        ..Limits::default()
    };
    assert_eq!(
        judge_within(&zip, &small).unwrap_err().name(),
        "directory-too-large"
    );
    let small = Limits {
        packed: 100,
        ..Limits::default()
    };
    assert_eq!(judge_within(&zip, &small).unwrap_err().name(), "too-large");
}

#[test]
fn a_go_mod_and_a_license_have_bounds_of_their_own() {
    let limits = Limits {
        go_mod: 100,
        license: 200,
        ..Limits::default()
    };
    let sized = |name: &str, len| Zip::of([Item::deflated(named(name), &vec![b' '; len])]).build();
    for (name, fits) in [("go.mod", 100), ("LICENSE", 200)] {
        assert!(judge_within(&sized(name, fits), &limits).is_ok());
        let fault = judge_within(&sized(name, fits + 1), &limits).unwrap_err();
        assert_eq!(fault.name(), "file-too-large");
    }
    assert!(judge_within(&sized("License", 300), &limits).is_ok());
    assert!(judge_within(&sized("sub/LICENSE", 300), &limits).is_ok());
}

#[test]
fn every_truncation_is_refused() {
    let zip = Zip::of([
        go_mod(),
        code().described(Form {
            signature: true,
            wide: false,
        }),
    ])
    .build();
    for len in 0..zip.len() {
        assert!(judge(&zip[..len]).is_err(), "{len} of {} bytes", zip.len());
    }
}
