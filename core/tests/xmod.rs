//! The grammar judges as golang.org/x/mod does: both read the same few ten thousand generated
//! texts. Needs `go` and, through its module proxy, golang.org/x/mod.

use std::{
    fs::File,
    io::{Seek, Write},
    process::{Command, Stdio},
};

use modcdn_core::goproxy::{FilePath, MAX_ELEMENT, ModulePath, Pattern, Request, Tile, Version};

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
fn patterns_match_as_x_mod_says() {
    let mut random = Random(7);
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
    let mut input: File = tempfile::tempfile().expect("a temporary file");
    let mut count = 0;
    for (op, a, b) in lines {
        writeln!(input, "{op}\t{}\t{}", hex(a), hex(b)).expect("a written line");
        count += 1;
    }
    input.rewind().expect("a rewound file");
    let output = Command::new("go")
        .args(["run", "."])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xmod"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .stdin(input)
        .stderr(Stdio::piped())
        .output()
        .expect("this test needs the go command on PATH (Go 1.23 or later)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "go run core/tests/xmod failed:\n{errors}"
    );
    let text = String::from_utf8(output.stdout).expect("x/mod answers in ASCII");
    let verdicts: Vec<_> = text
        .lines()
        .map(|l| l.strip_prefix("ok ").map(str::to_owned))
        .collect();
    assert_eq!(verdicts.len(), count);
    verdicts
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

/// Generates the same texts every time (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn module_path(&mut self) -> String {
        let hosts = [
            "example.com",
            "gopkg.in",
            "gopkg.in",
            "github.com",
            "a-b.c",
            "x.y.",
            ".x.y",
            "con.x",
            "localhost",
            "-a.b",
            "A.b",
            "a_b.c",
            "x~1.y",
            "v1.0",
            "gopkg.in.x",
            "0.1",
            "a.b..c",
            "",
        ];
        let elements = [
            "x",
            "yaml.v2",
            "yaml.v0",
            "check.v1",
            "z.v2-unstable",
            "z.v01",
            "v2",
            "v1",
            "v0",
            "v10",
            "v02",
            "v2.0",
            "v",
            "v2x",
            ".v2",
            "x.v3.1",
            "con",
            "CON.txt",
            "Aux",
            "nul",
            "com1",
            "lpt0",
            "LPT9.x",
            "com10",
            "a~1",
            "a~",
            "~1",
            "a~1.b",
            "a.b~1",
            "a~1~x",
            "Foo",
            "x-unstable",
            "_",
            "-",
            ".git",
            "a.",
            "a..b",
            ".",
            "..",
            "a+b",
            "a b",
            "a@b",
            "ä",
            "\u{212a}",
            "a!b",
            "",
            "sumdb",
        ];
        let mut path = self.pick(&hosts).to_owned();
        for _ in 0..self.below(4) {
            path += "/";
            path += self.pick(&elements);
        }
        self.mutate(path)
    }

    /// A module path that says something about its major version, mostly a valid one.
    fn suffixed_path(&mut self) -> String {
        let paths = [
            "example.com",
            "example.com/x",
            "github.com/A/x/v2",
            "example.com/v3",
            "example.com/x/v10",
            "example.com/x/v99999999999999999999",
            "gopkg.in/z.v0",
            "gopkg.in/check.v1",
            "gopkg.in/yaml.v2",
            "gopkg.in/a/yaml.v3-unstable",
            "gopkg.in/yaml.v1-unstable",
            "example.com/x.v2",
        ];
        if self.one_in(10) {
            self.module_path()
        } else {
            self.pick(&paths).to_owned()
        }
    }

    fn short_path(&mut self) -> String {
        let hosts = ["a.b", "x.a.b", "ab.c"];
        let elements = ["a", "b", "ab", "ba", "aab", "v2"];
        let mut path = self.pick(&hosts).to_owned();
        for _ in 0..self.below(4) {
            path += "/";
            path += self.pick(&elements);
        }
        path
    }

    /// A pattern that has a chance with [`Self::short_path`].
    fn pattern(&mut self) -> String {
        let parts = [
            "*", "*", "a", "b", "a.b", "/", "?", "[ab]", "[^a]", "[a-c]", "\\a", ".", "v2", "[",
            "]", "-", "[]a]", "[a-]", "\\",
        ];
        let mut pattern = self
            .mostly(&["*", "a.b", "*.b", "x.*", "ab.?", "/", ""], 5)
            .to_owned();
        for _ in 0..self.below(5) {
            pattern += self.pick(&parts);
        }
        pattern
    }

    fn escaped_path(&mut self) -> String {
        let path = self.module_path();
        self.escape(&path)
    }

    fn version(&mut self) -> String {
        let numbers = [
            "0",
            "1",
            "2",
            "3",
            "10",
            "99999999999999999999",
            "01",
            "",
            "x",
            "-1",
        ];
        let suffixes = [
            "",
            "",
            "",
            "-pre",
            "-RC.1",
            "-0.20191109021931-daa7c04131f5",
            "-rc.0.20191109021931-daa7",
            "-20191109021931-daa7c04131f5",
            "-20191109021931-dAA7.x",
            "-rc.20191109021931-daa7",
            "-a-b.0.20191109021931-x",
            "-0.2019110902193-x",
            "-0.20191109021931-x-y",
            "-01",
            "-0",
            "-",
            "-a..b",
            "-a.",
            "-go1.22.0.linux-amd64",
            "-0.0",
            "-0.0.20191109021931-x",
            "-a_b",
            "-10",
            "-9",
            "-alpha.1",
            "-alpha.beta",
            "-00a",
            "-0.20191109021931-",
            "-.0.20191109021931-x",
        ];
        let builds = [
            "",
            "",
            "",
            "+incompatible",
            "+incompatible",
            "+meta",
            "+",
            "+incompatible.x",
            "+a-b",
        ];
        let mut version = "v".to_owned();
        for i in 0..if self.one_in(15) { self.below(5) } else { 3 } {
            if i > 0 {
                version += ".";
            }
            let choice = if self.one_in(12) { numbers.len() } else { 5 };
            version += numbers[self.below(choice)];
        }
        version += self.pick(&suffixes);
        version += self.pick(&builds);
        if self.one_in(10) {
            self.mutate(version)
        } else {
            version
        }
    }

    fn query(&mut self) -> String {
        let parts = [
            "master", "HEAD", "v1", "v1.2", "4cf3ae1", ".", "..", "-", "@", "#", "%", "&", "$",
            "(", ")", "+", ",", "=", "[", "]", "^", "_", "{", "}", "~", "~1", " ", "!", "/", ":",
            ";", "*", "'", "\"", "<", "|", "\\", "`", "ä", "\t", "con", "CON", "com1", "A", "z",
            "0",
        ];
        (0..=self.below(4)).map(|_| self.pick(&parts)).collect()
    }

    fn escaped_query(&mut self) -> String {
        let query = if self.one_in(3) {
            self.version()
        } else {
            self.query()
        };
        // The request line can't carry a slash or a control byte in a version at all.
        let query = query.replace(['/', '\t', 'ä'], "x");
        self.escape(&query)
    }

    fn file_path(&mut self) -> String {
        let elements = [
            "a",
            "B.go",
            "go.mod",
            "x y",
            ".git",
            "..",
            ".",
            "a..b",
            "a.",
            "con",
            "CON.txt",
            "com1",
            "com10",
            "lpt9.a.b",
            "-x",
            "+x",
            "a~1",
            "ä",
            "日本",
            "\u{301}",
            "Ⅷ",
            "a:b",
            "a\\b",
            "a\0",
            "a\n",
            "a'b",
            "a\"b",
            "`",
            "*",
            "?",
            "<",
            "|",
            "[]{}^_=@,;",
            "[]{}^_=@,",
            "!#$%&()",
            "",
            "\u{212a}",
            "\u{fffd}",
            "ﬀ",
            "nul",
            "aux ",
            " ",
        ];
        let mut path = self.mostly(&elements, 8).to_owned();
        for _ in 0..self.below(4) {
            path += "/";
            path += self.mostly(&elements, 3);
        }
        self.mutate(path)
    }

    fn tile(&mut self) -> String {
        let heights = ["8", "8", "1", "30", "0", "31", "08", "+8", "", "-1"];
        let levels = ["0", "1", "63", "64", "data", "-1", "00", "", "Data"];
        let groups = [
            "000", "001", "234", "999", "x000", "x001", "x234", "1", "0000", "x", "xx01", "+01", "",
        ];
        let widths = [
            "", "", ".p/1", ".p/17", ".p/255", ".p/256", ".p/0", ".p/01", ".p/", ".p", ".p/x",
        ];
        let mut path = format!(
            "tile/{}/{}",
            self.mostly(&heights, 4),
            self.mostly(&levels, 5)
        );
        for _ in 0..self.below(4) {
            path += "/";
            path += ["x001", "x234", "x000"][self.below(3)];
        }
        path += "/";
        path += self.mostly(&groups, 4);
        path += self.mostly(&widths, 5);
        if self.one_in(10) {
            self.mutate(path)
        } else {
            path
        }
    }

    /// One of the first `good`, now and then any.
    fn mostly<'a>(&mut self, items: &[&'a str], good: usize) -> &'a str {
        let choice = if self.one_in(8) { items.len() } else { good };
        items[self.below(choice)]
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    /// x/mod's escape, now and then with a mistake.
    fn escape(&mut self, text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            if c.is_ascii_uppercase() && !self.one_in(20) {
                out.push('!');
            }
            out.push(if self.one_in(40) {
                c
            } else {
                c.to_ascii_lowercase()
            });
            if self.one_in(60) {
                out.push('!');
            }
        }
        out
    }

    fn mutate(&mut self, text: String) -> String {
        if !self.one_in(3) {
            return text;
        }
        let mut chars: Vec<char> = text.chars().collect();
        let at = self.below(chars.len() + 1);
        let odd: Vec<char> = "/.-_~+!@%vV019 Aa".chars().collect();
        if at < chars.len() && self.one_in(2) {
            chars.remove(at);
        } else {
            chars.insert(at, odd[self.below(odd.len())]);
        }
        chars.into_iter().collect()
    }
}
