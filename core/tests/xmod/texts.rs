//! Texts of each kind, good ones and bad ones, the same every time.

use super::random::Random;

impl Random {
    pub(crate) fn module_path(&mut self) -> String {
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
    pub(crate) fn suffixed_path(&mut self) -> String {
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

    pub(crate) fn minor_version(&mut self) -> String {
        format!("v1.{}.{}", self.below(4), self.below(2))
    }

    /// A go.mod with something to say, now and then a broken one.
    pub(crate) fn go_mod(&mut self) -> String {
        let parts = [
            "retract v1.1.0\n",
            "retract v1.2.0 // two\n",
            "retract [v1.0.0, v1.2.0]\n",
            "retract [v1.2.0,v1.3.0] //three\n",
            "retract v1.1 later\n",
            "retract [v1, v1.1]\r\n",
            "retract \"v1.0.0\"\n",
            "retract [\"v1.0.0\" , v1.0.1 ] x\n",
            "retract `v1.0.0`\n",
            "retract (v1.0.0)\n",
            "retract (v1.0.0\n",
            "retract [v1.0.0]\n",
            "retract ()\n",
            "retract ( ) // none\n",
            "retract\n",
            "retract (\n\tv1.0.0\n\t// five\n\tv1.1.0\n\n\tv1.2.0 // six\n\n\n\t[v1.3.0, v1.3.1]\n)\n",
            "retract ( // seven\n\n\t// eight\n\n\t// nine\n\tv1.3.0\n\t) // ten\n",
            "retract (\n\tv1.0.0 // (\n\t( v1.1.0\n\t) \n",
            "// eleven\n",
            "// twelve\r\n//\n",
            "  //thirteen\n",
            "// Deprecated: new\n",
            "// Deprecated:new\n//\n// end\n",
            "\n",
            " \t\r\n",
            "godebug x=y\n",
            "require a.b/c v1.0.0 // indirect\n",
            "replace a.b/c => ../c\n",
            "future x (\n\tretract v1.1.0\n)\n",
            "future (\n\tretract v1.1.0\n)\n",
        ];
        let modules = [
            "module a.b/m\n",
            "module a.b/m // Deprecated: new\n",
            "module \"a.b/m\"\n",
            "module (\n\ta.b/m\n)\n",
            "module (\n// Deprecated: newer\n\ta.b/m\n)\n",
        ];
        let odd = [
            "module a.b/n\n",
            "module\n",
            "module 'a'\n",
            ")\n",
            "(\n",
            "(\n)\n",
            "\"\n",
            "/*\n",
            "retract (\n",
            "retract (\n) v1.0.0\n",
            "a/*b\n",
            "[ ] , {}\n",
            "x//y\n",
            "`\n",
            "\u{b}\n",
        ];
        let mut text = String::new();
        let at = self.below(6);
        for n in 0..7 {
            text += if n == at {
                self.pick(&modules)
            } else {
                self.pick(&parts)
            };
        }
        if self.one_in(3) {
            text += self.pick(&odd);
            text += self.pick(&parts);
        }
        if self.one_in(10) {
            text.trim_end().to_owned()
        } else {
            text
        }
    }

    pub(crate) fn escaped_path(&mut self) -> String {
        let path = self.module_path();
        self.escape(&path)
    }

    pub(crate) fn version(&mut self) -> String {
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

    /// A tag: often short, or with something behind the version.
    pub(crate) fn tag(&mut self) -> String {
        let mut tag = self.version();
        if self.one_in(3) {
            let short = ["v1", "v1.2", "v01", "v1-pre", "v1.2+x", "v1.", "v"];
            tag = self.pick(&short).to_owned();
        }
        if self.one_in(3) {
            tag += self.pick(&["+a.b", "+007", "+a..b", "+a_b", "+", "+a-b+c"]);
        }
        tag
    }

    /// A version that looks like a pseudo-version, mostly rightly.
    pub(crate) fn pseudo_version(&mut self) -> String {
        let numbers = ["0", "1", "2", "9", "10", "100", "99999999999999999999"];
        let mut version = "v".to_owned();
        for dot in ["", ".", "."] {
            version += dot;
            version += self.pick(&numbers);
        }
        if self.one_in(3) {
            version = ["v0.0.0", "v2.0.0", "v1.2.0"][self.below(3)].to_owned();
        }
        let fronts = ["-", "-0.", "-pre.0.", "-a-b.0.", "-0.0.", "-1.", "-pre."];
        version += self.mostly(&fronts, 5);
        let times = [
            "20191109021931",
            "00000101000000",
            "20191309021931",
            "2019110902193",
        ];
        version += self.mostly(&times, 2);
        version += self.mostly(&["-daa7c04131f5", "-A", "-", "-a.b", ""], 2);
        version += self.mostly(&["", "+incompatible", "+meta"], 2);
        version
    }

    pub(crate) fn query(&mut self) -> String {
        let parts = [
            "master", "HEAD", "v1", "v1.2", "4cf3ae1", ".", "..", "-", "@", "#", "%", "&", "$",
            "(", ")", "+", ",", "=", "[", "]", "^", "_", "{", "}", "~", "~1", " ", "!", "/", ":",
            ";", "*", "'", "\"", "<", "|", "\\", "`", "ä", "\t", "con", "CON", "com1", "A", "z",
            "0",
        ];
        (0..=self.below(4)).map(|_| self.pick(&parts)).collect()
    }

    pub(crate) fn escaped_query(&mut self) -> String {
        let query = if self.one_in(3) {
            self.version()
        } else {
            self.query()
        };
        // The request line can't carry a slash or a control byte in a version at all.
        let query = query.replace(['/', '\t', 'ä'], "x");
        self.escape(&query)
    }

    pub(crate) fn file_path(&mut self) -> String {
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

    pub(crate) fn tile(&mut self) -> String {
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
    pub(crate) fn mostly<'a>(&mut self, items: &[&'a str], good: usize) -> &'a str {
        let choice = if self.one_in(8) { items.len() } else { good };
        items[self.below(choice)]
    }

    /// x/mod's escape, now and then with a mistake.
    pub(crate) fn escape(&mut self, text: &str) -> String {
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

    pub(crate) fn mutate(&mut self, text: String) -> String {
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

    /// A pattern that has a chance with [`Self::short_path`].
    pub(crate) fn pattern(&mut self) -> String {
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

    pub(crate) fn short_path(&mut self) -> String {
        let hosts = ["a.b", "x.a.b", "ab.c"];
        let elements = ["a", "b", "ab", "ba", "aab", "v2"];
        let mut path = self.pick(&hosts).to_owned();
        for _ in 0..self.below(4) {
            path += "/";
            path += self.pick(&elements);
        }
        path
    }
}
