//! The grammar judges as golang.org/x/mod does: both read the same few ten thousand generated
//! texts. Needs `go` and, through its module proxy, golang.org/x/mod.

use modcdn_core::gomod::Notices;
use modcdn_core::goproxy::{
    FilePath, MAX_ELEMENT, ModulePath, Pattern, Pseudo, Request, Stamp, Tile, Version, split_major,
    tag,
};

use self::random::Random;
use self::reference::go_run;

#[path = "../../tests/harness/random.rs"]
mod random;
mod reference;
#[path = "xmod/texts.rs"]
mod texts;

/// How many texts of each kind are generated.
const TEXTS: usize = 5000;

#[test]
fn module_paths_are_judged_as_x_mod_does() {
    let mut random = Random(1);
    let texts: Vec<_> = (0..TEXTS).map(|_| random.module_path()).collect();
    let escaped: Vec<_> = (0..TEXTS).map(|_| random.escaped_path()).collect();

    let verdicts = x_mod(texts.iter().map(|t| ("module", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        let ours = text.parse::<ModulePath>().map(|p| p.escaped());
        assert_same(text, &ours, theirs);
    }
    let verdicts = x_mod(escaped.iter().map(|t| ("path", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in escaped.iter().zip(verdicts) {
        let ours = ModulePath::from_escaped(text).map(|p| p.to_string());
        assert_same(text, &ours, theirs);
    }
}

#[test]
fn versions_are_judged_as_x_mod_does() {
    let mut random = Random(2);
    let texts: Vec<_> = (0..TEXTS).map(|_| random.version()).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("canonical", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        let ours = text
            .parse::<Version>()
            .map(|v| format!("{} {} {}", v.is_pseudo(), v.is_prerelease(), v.major()));
        assert_same(text, &ours, theirs);
    }

    let valid: Vec<Version> = texts.iter().filter_map(|t| t.parse().ok()).collect();
    let pairs: Vec<_> = (0..TEXTS)
        .map(|_| {
            (
                &valid[random.below(valid.len())],
                &valid[random.below(valid.len())],
            )
        })
        .collect();
    let verdicts = x_mod(
        pairs
            .iter()
            .map(|(a, b)| ("compare", a.as_str(), b.as_str())),
    );
    for ((a, b), theirs) in pairs.into_iter().zip(verdicts) {
        // Theirs calls versions equal that differ in build metadata only; ours goes on by text.
        let theirs = match theirs.as_deref() {
            Some("0") => a.as_str().cmp(b.as_str()),
            Some("-1") => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        assert_eq!(a.cmp(b), theirs, "{a} {b}");
    }
}

#[test]
fn queries_are_judged_as_x_mod_does() {
    let mut random = Random(3);
    let module: ModulePath = "example.com/x".parse().expect("a module path");
    let texts: Vec<_> = (0..TEXTS).map(|_| random.escaped_query()).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("version", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        let raw: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
        let ours = Request::parse(&format!("/{module}/@v/{raw}.info")).map(|r| asked(&r));
        assert_same(text, &ours, theirs);
    }
}

#[test]
fn versions_fit_module_paths_as_x_mod_says() {
    let mut random = Random(4);
    let pairs: Vec<_> = (0..TEXTS)
        .map(|_| (random.suffixed_path(), random.version()))
        .collect();
    let verdicts = x_mod(pairs.iter().map(|(m, v)| ("check", m.as_str(), v.as_str())));
    assert_sane(&verdicts);
    for ((module, version), theirs) in pairs.into_iter().zip(verdicts) {
        let ours = module
            .parse()
            .and_then(|module| Request::zip(module, &version))
            .map(|_| String::new());
        assert_same(&format!("{module} {version}"), &ours, theirs);
    }
}

#[test]
fn major_versions_are_split_off_as_x_mod_does() {
    let mut random = Random(11);
    let texts: Vec<_> = (0..TEXTS).map(|_| random.suffixed_path()).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("split", t.as_str(), "")));
    for (text, theirs) in texts.iter().zip(verdicts) {
        let ours = split_major(text).map(|(prefix, major)| format!("{prefix} {major}"));
        assert_eq!(ours.ok(), theirs, "{text:?}");
    }
}

#[test]
fn what_the_go_command_sends_is_understood() {
    let mut random = Random(5);
    let pairs: Vec<_> = (0..TEXTS)
        .map(|i| {
            let version = if i % 2 == 0 {
                random.version()
            } else {
                random.query()
            };
            (random.module_path(), version)
        })
        .collect();
    let sent = x_mod(pairs.iter().map(|(m, v)| ("ask", m.as_str(), v.as_str())));
    assert_sane(&sent);
    for ((module, version), sent) in pairs.iter().zip(sent) {
        let Some(sent) = sent.filter(|s| !s.contains("..")) else {
            continue;
        };
        let request = Request::parse(&sent).unwrap_or_else(|e| panic!("{sent}: {e}"));
        assert_eq!(
            request.module().map(ModulePath::as_str),
            Some(module.as_str()),
            "{sent}"
        );
        assert_eq!(asked(&request), *version, "{sent}");
    }
}

#[test]
fn tiles_are_judged_as_x_mod_does() {
    let mut random = Random(6);
    let texts: Vec<_> = (0..TEXTS).map(|_| random.tile()).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("tile", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        let ours = text.parse::<Tile>().map(|t| {
            let level = t.level().map_or(-1, i16::from);
            format!("{} {level} {} {}", t.height(), t.number(), t.width())
        });
        assert_same(text, &ours, theirs);
    }
}

#[test]
fn file_names_are_judged_as_x_mod_does() {
    let mut random = Random(7);
    let texts: Vec<_> = (0..TEXTS).map(|_| random.file_path()).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("file", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        let ours = FilePath::parse(text);
        assert_eq!(ours.is_ok(), theirs.is_some(), "{text:?}: {ours:?}");
    }
}

/// Ours may know letters that were added to Unicode after Go's tables were made.
#[test]
fn every_character_is_judged_as_x_mod_does() {
    let texts: Vec<String> = ('\0'..=char::MAX).map(String::from).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("character", t.as_str(), "")));
    for (text, theirs) in texts.iter().zip(verdicts) {
        let theirs = theirs.expect("x/mod judges every character");
        if theirs.starts_with("true") {
            let ours = format!("true {}", FilePath::parse(text).is_ok());
            assert_eq!(ours, theirs, "{text:?}");
        }
    }
}

#[test]
fn tags_are_judged_as_x_mod_does() {
    let mut random = Random(7);
    let texts: Vec<_> = (0..TEXTS).map(|_| random.tag()).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("tag", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        assert_eq!(tag::is_semver(text), theirs.is_some(), "{text:?}");
        let ours = tag::canonical(text).map(|v| format!("{v} {}", tag::build(text)));
        assert_eq!(ours, theirs, "{text:?}");
    }
}

#[test]
fn pseudo_versions_are_taken_apart_as_x_mod_does() {
    let mut random = Random(8);
    let texts: Vec<_> = (0..TEXTS).map(|_| random.pseudo_version()).collect();
    let verdicts = x_mod(texts.iter().map(|t| ("pseudo", t.as_str(), "")));
    assert_sane(&verdicts);
    for (text, theirs) in texts.iter().zip(verdicts) {
        let version: Option<Version> = text.parse().ok();
        let ours = version.as_ref().and_then(Pseudo::of).map(|parts| {
            let base = match parts.base() {
                Ok(base) => base.map_or(String::new(), |base| base.to_string()),
                Err(_) => "impossible".to_owned(),
            };
            let time = parts.time();
            let time = time.map_or("never".to_owned(), |time| time.unix().to_string());
            format!("{base} {time} {}", parts.revision())
        });
        assert_eq!(ours, theirs, "{text:?}");
    }
}

#[test]
fn pseudo_versions_are_made_as_x_mod_does() {
    let mut random = Random(9);
    let cases: Vec<_> = (0..TEXTS)
        .map(|_| {
            let base = random.version();
            let base = base
                .parse::<Version>()
                .map_or(String::new(), |b| b.to_string());
            let unix = random.below(1 << 36) as i64 - (1 << 34);
            (
                base,
                format!("v{} {unix} daa7c04131f5", random.below(4)),
                unix,
            )
        })
        .collect();
    let made = x_mod(
        cases
            .iter()
            .map(|(base, rest, _)| ("make", base.as_str(), rest.as_str())),
    );
    for ((base, rest, unix), theirs) in cases.iter().zip(made) {
        let major = rest.split(' ').next().expect("a major version");
        let base: Option<Version> = base.parse().ok();
        let time = Stamp::from_unix(*unix).expect("a time of four-digit years");
        let ours = Version::pseudo(major, base.as_ref(), time, "daa7c04131f5");
        assert_eq!(ours.map(|v| v.to_string()), theirs, "{base:?} {rest}");
    }
}

#[test]
fn patterns_match_as_x_mod_says() {
    let mut random = Random(10);
    let pairs: Vec<_> = (0..TEXTS)
        .map(|_| (random.pattern(), random.short_path()))
        .collect();
    let verdicts = x_mod(
        pairs
            .iter()
            .map(|(p, m)| ("pattern", p.as_str(), m.as_str())),
    );
    assert_sane(&verdicts);
    let mut matched = 0;
    for ((pattern, module), theirs) in pairs.into_iter().zip(verdicts) {
        let module: ModulePath = module.parse().expect("a module path");
        let ours = pattern.parse::<Pattern>();
        // We refuse more on purpose: classes that hold a slash, and elements without a pattern.
        let Ok(ours) = ours else {
            let odd = ["//", "[", "\\/"].iter().any(|odd| pattern.contains(odd))
                || pattern.is_empty()
                || pattern.starts_with('/');
            assert!(
                odd || theirs.is_none(),
                "{pattern:?} is a pattern of theirs"
            );
            continue;
        };
        let ours = ours.matches(&module);
        matched += usize::from(ours);
        assert_eq!(Some(ours.to_string()), theirs, "{pattern:?} {module}");
    }
    assert!((TEXTS / 20..TEXTS).contains(&matched), "{matched} match");
}

#[test]
fn retractions_and_deprecations_are_those_that_x_mod_finds() {
    let mut random = Random(12);
    let pairs: Vec<_> = (0..TEXTS)
        .map(|_| (random.go_mod(), random.minor_version()))
        .collect();
    let verdicts = x_mod(
        pairs
            .iter()
            .map(|(text, version)| ("gomod", text.as_str(), version.as_str())),
    );
    assert_sane(&verdicts);
    let found = |text: &str| {
        verdicts
            .iter()
            .flatten()
            .filter(|v| v.contains(text))
            .count()
    };
    assert!(found("retracted") > TEXTS / 20 && found("new") > TEXTS / 20);
    for ((text, version), theirs) in pairs.iter().zip(&verdicts) {
        let version: Version = version.parse().expect("a version");
        let ours = Notices::parse(text.as_bytes()).map(|notices| {
            let deprecated = notices.deprecated.clone().unwrap_or_default();
            match notices.retraction(&version) {
                Some(one) => format!("{deprecated:?} retracted {:?}", one.rationale),
                None => format!("{deprecated:?}"),
            }
        });
        assert_eq!(
            ours.as_ref().ok(),
            theirs.as_ref(),
            "{version}\n{text}\n{ours:?}"
        );
    }
}

/// The version or query of an `.info` request.
fn asked(request: &Request) -> String {
    match request {
        Request::Info(_, version) => version.to_string(),
        Request::Query(_, query) => query.to_string(),
        other => panic!("{other} is no .info request"),
    }
}

/// Two dots in a row are refused on purpose: x/mod's documentation says so, its code does not.
fn assert_same<E: std::fmt::Debug>(text: &str, ours: &Result<String, E>, theirs: Option<String>) {
    assert!(text.len() < MAX_ELEMENT, "longer than we allow on purpose");
    let want = theirs.filter(|_| !text.contains(".."));
    assert_eq!(ours.as_ref().ok(), want.as_ref(), "{text:?}: {ours:?}");
}

/// A corpus that is nearly all good or nearly all bad tests nothing.
fn assert_sane(verdicts: &[Option<String>]) {
    let good = verdicts.iter().flatten().count();
    assert!(
        good > TEXTS / 20 && good < TEXTS * 19 / 20,
        "{good} of {TEXTS} are good"
    );
}

/// Asks x/mod; `None` is its no.
fn x_mod<'a>(lines: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Vec<Option<String>> {
    let lines = lines.map(|(op, a, b)| format!("{op}\t{}\t{}", hex(a), hex(b)));
    let verdicts = go_run("tests/xmod", lines);
    let verdict = |line: &String| line.strip_prefix("ok ").map(str::to_owned);
    verdicts.iter().map(verdict).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}
