//! Which Go a go.mod is written for, as x/mod's zip package finds it out: by `modfile.ParseLax`.
//!
//! Failure rule: a go.mod that ParseLax refuses is written for no Go that can be told.

use super::{lex, unquote};
use crate::goproxy::Version;

/// A version of the Go language, such as 1.24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Language(u64, u64);

impl Language {
    /// From which on vendored packages are told apart in another way.
    pub const GO_1_24: Self = Self(1, 24);

    /// The language of a go.mod's `go` line; `None` if it has none, or isn't a go.mod.
    #[must_use]
    pub fn of(go_mod: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(go_mod);
        let mut parser = Parser::default();
        text.split('\n').try_for_each(|line| parser.line(line))?;
        match parser.block {
            Some(_) => None,
            None => parser.go,
        }
    }
}

#[derive(Default)]
struct Parser {
    go: Option<Language>,
    has_module: bool,
    /// In a block in parentheses: what its lines are about.
    block: Option<String>,
}

/// What blocks that are about nothing that is read here are said to be about.
const OTHER: &str = "";

impl Parser {
    fn line(&mut self, line: &str) -> Option<()> {
        let (tokens, _) = lex(line).ok()?;
        if let Some(verb) = self.block.take() {
            return self.block_line(verb, &tokens);
        }
        match &tokens[..] {
            [] | [_, .., "(", ")"] => Some(()),
            [verb @ .., "("] if !verb.is_empty() => {
                let verb = if let [verb] = verb { verb } else { OTHER };
                self.block = Some(verb.to_owned());
                Some(())
            }
            [verb, arguments @ ..] => self.directive(verb, arguments),
        }
    }

    /// A line of a block; the block goes on unless this is its end.
    fn block_line(&mut self, verb: String, tokens: &[&str]) -> Option<()> {
        match tokens {
            [")"] => return Some(()),
            [")", ..] => return None,
            [] => {}
            // A go line stands alone: a block of them is nothing.
            _ if verb == "go" => {}
            arguments => self.directive(&verb, arguments)?,
        }
        self.block = Some(verb);
        Some(())
    }

    fn directive(&mut self, verb: &str, arguments: &[&str]) -> Option<()> {
        match (verb, arguments) {
            ("go", [version]) if self.go.is_none() => {
                self.go = Some(language(version)?);
                Some(())
            }
            ("module", [path]) if !self.has_module => {
                self.has_module = true;
                unquote(path).map(drop)
            }
            ("require", [path, version]) => {
                unquote(path)?;
                is_version(unquote(version)?).then_some(())
            }
            ("go" | "module" | "require", _) => None,
            _ => Some(()),
        }
    }
}

/// `1.24`, `1.24.1`, `1.24rc1`; of other forms that begin like one the beginning counts.
fn language(version: &str) -> Option<Language> {
    let bare = version.strip_prefix('v');
    let (major, rest) = split_number(bare.unwrap_or(version))?;
    let (minor, rest) = split_number(rest.strip_prefix('.')?)?;
    let goes_on = !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit());
    let fits = goes_on || rest.is_empty() && bare.is_none();
    (fits && major != "0").then(|| Language(number(major), number(minor)))
}

/// A number without leading zeros, and what follows.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let len = if text.starts_with('0') { 1 } else { digits };
    (len > 0).then(|| text.split_at(len))
}

/// A number too large for anything is as good as any large one.
fn number(digits: &str) -> u64 {
    digits.parse().unwrap_or(u64::MAX)
}

/// What `module.CanonicalVersion` takes: a semantic version, or the beginning of one.
fn is_version(text: &str) -> bool {
    let (version, build) = text.split_once('+').unwrap_or((text, "none"));
    let is_id =
        |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let numbers = version.split('-').next().unwrap_or_default();
    let missing = 2usize.saturating_sub(numbers.matches('.').count());
    let full = version.to_owned() + &".0".repeat(missing);
    let is_whole = missing == 0 || numbers.len() == text.len();
    is_whole && build.split('.').all(is_id) && full.parse::<Version>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_line_says_the_language() {
        for (text, language) in [
            ("go 1.24\n", Some(Language(1, 24))),
            (
                "module a.b/m\n\ngo 1.24rc1 // soon\n",
                Some(Language(1, 24)),
            ),
            ("go 1.24.3", Some(Language(1, 24))),
            ("go v1.24.x", Some(Language(1, 24))),
            ("go 1.9", Some(Language(1, 9))),
            ("go 2.0", Some(Language(2, 0))),
            ("go 1.99999999999999999999", Some(Language(1, u64::MAX))),
            (
                "require (\n\ta.b/c v1\n\t\"a.b/d\" v1.0.0+meta\n)\ngo 1.21\r\n",
                Some(Language(1, 21)),
            ),
            (
                "odd ( ) line\nodd (\n\tx ( y\n)\ngo 1.21",
                Some(Language(1, 21)),
            ),
            ("", None),
            ("go (\n\t1.24\n)\n", None),
            ("module m", None),
        ] {
            assert_eq!(Language::of(text.as_bytes()), language, "{text}");
        }
    }

    #[test]
    fn what_is_no_go_mod_has_no_language() {
        for bad in [
            "go 1.24\ngo 1.24",
            "go 1.24 x",
            "go v1.24",
            "go 1",
            "go 01.24",
            "go 1.024",
            "go 0.24",
            "module a.b/m\nmodule a.b/m\ngo 1.24",
            "module \"a.b/m\ngo 1.24",
            "require a.b/c\ngo 1.24",
            "require a.b/c main\ngo 1.24",
            "require (\n\ta.b/c v1.0.0\ngo 1.24",
            "require (\n\ta.b/c v1.0.0\n) x\ngo 1.24",
            "/* no */\ngo 1.24",
            "\u{feff}go 1.24",
            "x \u{7}\ngo 1.24",
        ] {
            assert_eq!(Language::of(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
