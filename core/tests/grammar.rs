//! Properties of the GOPROXY grammar: print ∘ parse = id, and nothing outside it parses.

use http::HeaderValue;
use modcdn_core::{
    goproxy::{MAX_PATH, ModulePath, Request, Tile, Version},
    range::{self, RangeOutcome, RangeSpec},
};
use proptest::{prelude::*, sample::select, strategy::Union};

/// A valid module path without major version suffix.
fn module_base() -> impl Strategy<Value = String> {
    let host = "[a-z0-9][a-z0-9-]{0,8}\\.[a-z]{2,5}";
    let elements = prop::collection::vec("[A-Za-z0-9_][A-Za-z0-9_.~-]{0,8}", 0..4);
    (host, elements)
        .prop_map(|(host, elements)| [vec![host], elements].concat().join("/"))
        .prop_filter("outside the grammar", |path| {
            !path.starts_with("gopkg.in/") && path.parse::<ModulePath>().is_ok()
        })
}

fn prerelease() -> impl Strategy<Value = String> {
    let pseudo = "(0\\.|[A-Za-z]{1,4}\\.0\\.)[0-9]{14}-[0-9a-f]{12}";
    prop_oneof![
        Just(String::new()),
        "-[A-Za-z][A-Za-z0-9-]{0,6}(\\.(0|[1-9][0-9]{0,3}))?",
        pseudo.prop_map(|p| format!("-{p}")),
    ]
}

/// A module path and a canonical version that fits it.
fn module_version() -> impl Strategy<Value = (String, String)> {
    let numbers = (0..300_u32, 0..300_u32);
    (
        module_base(),
        0..12_u32,
        numbers,
        prerelease(),
        any::<bool>(),
    )
        .prop_filter_map(
            "the path already names a major version",
            |(base, major, (minor, patch), pre, suffix)| {
                let (path, build) = match (major, suffix) {
                    (0 | 1, _) => (base, ""),
                    (_, true) => (format!("{base}/v{major}"), ""),
                    (_, false) => (base, "+incompatible"),
                };
                let version = format!("v{major}.{minor}.{patch}{pre}{build}");
                let module: ModulePath = path.parse().ok()?;
                module
                    .allows(&version.parse().ok()?)
                    .then_some((path, version))
            },
        )
}

/// Queries of every character that they may have.
fn query() -> impl Strategy<Value = String> {
    "[A-Za-z0-9#$%&()+,=@\\[\\]^_{}~ .-]{0,15}[A-Za-z0-9#$%&()+,=@\\[\\]^_{}~ -]".prop_filter(
        "two dots or a name that Windows reserves",
        |query| {
            let stem = query
                .split('.')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            let reserved = ["con", "prn", "aux", "nul"].contains(&&*stem)
                || stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
            !reserved && !query.contains("..")
        },
    )
}

fn tile() -> impl Strategy<Value = String> {
    (
        1..=30_u8,
        prop::option::of(0..=63_u8),
        any::<u64>(),
        0..64_u32,
        any::<u32>(),
    )
        .prop_filter_map("no such tile", |(height, level, number, shift, width)| {
            let width = width % (1 << height) + 1;
            Tile::new(height, level, number >> shift, width).map(|tile| tile.to_string())
        })
}

/// Paths of every kind, all in the grammar, percent-encoded here and there.
fn raw_path() -> impl Strategy<Value = String> {
    let file = (module_version(), select(vec!["info", "mod", "zip"])).prop_map(|((m, v), kind)| {
        let (m, v) = (escape(&m), escape(&v));
        format!("/{m}/@v/{v}.{kind}")
    });
    let lookup = module_version()
        .prop_map(|(m, v)| format!("/sumdb/sum.example/x/lookup/{}@{}", escape(&m), escape(&v)));
    let queries = (module_base(), query())
        .prop_map(|(m, q)| format!("/{}/@v/{}.info", escape(&m), encode_all(&escape(&q))));
    let plain = (module_base(), select(vec!["@v/list", "@latest"]))
        .prop_map(|(m, call)| format!("/{}/{call}", escape(&m)));
    let sumdb = prop_oneof![
        Just("latest".to_owned()),
        Just("supported".to_owned()),
        tile()
    ]
    .prop_map(|call| format!("/sumdb/sum.example/{call}"));
    (
        Union::new([
            file.boxed(),
            lookup.boxed(),
            queries.boxed(),
            plain.boxed(),
            sumdb.boxed(),
        ]),
        any::<u64>(),
    )
        .prop_map(|(path, choice)| respell(&path, choice))
}

/// x/mod's escape, written down once more, so that a fault on one side is seen.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            c.is_ascii_uppercase()
                .then_some('!')
                .into_iter()
                .chain([c.to_ascii_lowercase()])
        })
        .collect()
}

fn encode_all(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

/// Percent-encodes some bytes that stand for themselves.
fn respell(path: &str, choice: u64) -> String {
    let mut out = String::new();
    for (i, c) in path.char_indices() {
        if c != '/' && c != '%' && choice >> (i % 64) & 1 == 1 && !path[..i].ends_with('%') {
            let after_percent = path[..i].rfind('%').is_some_and(|at| i - at < 3);
            if !after_percent {
                out += &format!("%{:02X}", c as u32);
                continue;
            }
        }
        out.push(c);
    }
    out
}

fn is_canonical(path: &str) -> bool {
    let safe =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/!@.~_+-$&(),=".contains(&b);
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let encoded = byte == b'%'
            && (0..2).all(|_| {
                bytes
                    .next()
                    .is_some_and(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
            });
        if !encoded && !safe(byte) {
            return false;
        }
    }
    path.starts_with('/') && !path.contains("//") && !path.contains("..") && !path.contains("!!")
}

fn assert_fixed_point(raw: &str) {
    let Ok(request) = Request::parse(raw) else {
        return;
    };
    let path = request.path();
    assert!(is_canonical(&path), "{raw:?} printed as {path:?}");
    assert!(
        path.len() <= raw.len() && path.len() <= MAX_PATH,
        "{raw:?} grew"
    );
    assert_eq!(
        Request::parse(&path).as_ref(),
        Ok(&request),
        "{raw:?} printed as {path:?}"
    );
    if let Some(tree) = request.tree_path() {
        assert_eq!(format!("/{tree}"), path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_generated_file_prints_as_it_parses((module, version) in module_version()) {
        for kind in ["info", "mod", "zip"] {
            let path = format!("/{}/@v/{}.{kind}", escape(&module), escape(&version));
            let request = Request::parse(&path).map_err(|e| TestCaseError::fail(format!("{path}: {e}")))?;
            prop_assert_eq!(request.path(), path);
            prop_assert!(request.is_immutable());
            prop_assert_eq!(request.module().map(ModulePath::as_str), Some(&*module));
            prop_assert_eq!(request.version().map(Version::as_str), Some(&*version));
        }
    }

    #[test]
    fn a_generated_tile_prints_as_it_parses(tile in tile()) {
        let path = format!("/sumdb/sum.example/{tile}");
        prop_assert_eq!(Request::parse(&path).map(|r| r.path()), Ok(path));
    }

    #[test]
    fn every_spelling_parses_to_the_canonical_one(raw in raw_path(), choice in any::<u64>()) {
        assert_fixed_point(&raw);
        let request =
            Request::parse(&raw).map_err(|e| TestCaseError::fail(format!("{raw}: {e}")))?;
        let respelled = respell(&request.path(), choice);
        prop_assert_eq!(Request::parse(&respelled), Ok(request));
    }

    #[test]
    fn a_mutated_path_never_escapes_the_grammar(
        raw in raw_path(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut bytes = raw.into_bytes();
        for (at, byte, edit) in edits {
            let interesting = b"/.!@%vV1~+-A?#;\\\0 2fFsu:\x7f\xc3";
            let byte = interesting[usize::from(byte) % interesting.len()];
            let at = at.index(bytes.len().max(1));
            match edit {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        assert_fixed_point(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_text_never_panics(raw in "\\PC{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for raw in [raw.clone(), format!("/{raw}"), format!("/x.y/@v/{raw}.info"), format!("/sumdb/{raw}"),
            format!("/sumdb/a.b/tile/{raw}"), String::from_utf8_lossy(&bytes).into_owned()] {
            assert_fixed_point(&raw);
        }
    }

    #[test]
    fn the_order_of_versions_is_total(versions in prop::collection::vec(module_version(), 3)) {
        let v: Vec<Version> = versions.iter().filter_map(|(_, v)| v.parse().ok()).collect();
        prop_assert_eq!(v[0] == v[1], v[0].cmp(&v[1]).is_eq());
        prop_assert_eq!(v[0].cmp(&v[1]), v[1].cmp(&v[0]).reverse());
        prop_assert!(!(v[0] <= v[1] && v[1] <= v[2]) || v[0] <= v[2]);
    }

    #[test]
    fn a_part_lies_within_the_body(text in "bytes=[0-9]{0,20}-[0-9]{0,20}", len in any::<u64>(), short in 0..100_u64) {
        let header = HeaderValue::try_from(text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        for len in [len, short] {
            let outcome = range::resolve(Some(&header), len);
            if let RangeOutcome::Part { start, end } = outcome {
                prop_assert!(start < end && end <= len);
                if let Some(RangeSpec::FromTo { first, last }) = range::parse(Some(&header)) {
                    prop_assert!(start == first && end - start <= (last - first).saturating_add(1));
                }
            }
        }
    }
}
