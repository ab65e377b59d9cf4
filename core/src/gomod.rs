//! What a go.mod file says about versions of its own module: which are retracted, and whether the
//! module is deprecated; and which [`Language`] it is written in. Nothing else of it is looked at.
//!
//! The go command takes both from the go.mod of a module's latest version, read as x/mod's
//! `modfile.ParseLax` does: line by line, `//` comments, blocks in parentheses, strings in quotes.
//! What it says of a line stands in the comment above it or behind it; a line of a block without one
//! has the block's.
//!
//! Failure rule: a file that isn't a go.mod's syntax says nothing at all ([`GoModError`]). A
//! `retract` that isn't understood is left out, as x/mod does: later Go versions may have other forms.

mod language;

use std::cmp::Ordering;

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};

pub use self::language::Language;
use crate::goproxy::Version;

/// What a module's latest go.mod says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Why the module is deprecated; may be empty. None: it isn't.
    pub deprecated: Option<String>,
    /// Retracted versions.
    pub retractions: Vec<Retraction>,
}

/// Versions that their author took back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// The first of them.
    pub low: Version,
    /// The last of them.
    pub high: Version,
    /// Why; may be empty, and may have several lines.
    pub rationale: String,
}

/// Why a file is no go.mod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct GoModError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Notices {
    /// Reads a go.mod.
    ///
    /// # Errors
    /// It has no such syntax, or not exactly one module directive.
    pub fn parse(bytes: &[u8]) -> Result<Self, GoModError> {
        let text = String::from_utf8_lossy(bytes);
        let mut parser = Parser::default();
        for (line, number) in text.split('\n').zip(1..) {
            parser
                .line(line)
                .map_err(|what| GoModError { line: number, what })?;
        }
        let line = text.split('\n').count();
        match parser {
            Parser { block: Some(_), .. } => Err("a block without its end"),
            Parser { modules: 0, .. } => Err("no module directive"),
            Parser { notices, .. } => Ok(notices),
        }
        .map_err(|what| GoModError { line, what })
    }

    /// The first retraction that means a version.
    #[must_use]
    pub fn retraction(&self, version: &Version) -> Option<&Retraction> {
        self.retractions.iter().find(|one| one.means(version))
    }
}

impl Retraction {
    /// Whether it means this version.
    #[must_use]
    pub fn means(&self, version: &Version) -> bool {
        self.low.cmp_precedence(version) != Ordering::Greater
            && version.cmp_precedence(&self.high) != Ordering::Greater
    }
}

/// A comment above a line; None: a blank line between comments of a block.
type Above = Option<String>;

#[derive(Default)]
struct Parser {
    notices: Notices,
    modules: usize,
    /// Comments and blanks since the last statement.
    above: Vec<Above>,
    block: Option<Block>,
}

/// `verb ( …`
struct Block {
    /// None: a block of something else.
    verb: Option<String>,
    comments: Vec<Above>,
    lines: usize,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        let (tokens, comment) = lex(line)?;
        match (tokens.as_slice(), comment) {
            ([], Some(comment)) => self.above.push(Some(comment.to_owned())),
            ([], None) => self.blank(),
            ([")"], _) if self.block.is_some() => {
                self.block = None;
                self.above.clear();
            }
            ([")", ..], _) if self.block.is_some() => return Err("something behind a block's end"),
            (tokens, comment) if self.block.is_some() => self.block_line(tokens, comment)?,
            (tokens, comment) => self.statement(tokens, comment)?,
        }
        Ok(())
    }

    fn blank(&mut self) {
        match &self.block {
            None => self.above.clear(),
            Some(block) => {
                let first = self.above.is_empty() && block.lines > 0;
                let after_comment = self.above.last().is_some_and(Option::is_some);
                if first || after_comment {
                    self.above.push(None);
                }
            }
        }
    }

    fn statement(&mut self, tokens: &[&str], comment: Option<&str>) -> Result<(), &'static str> {
        let above = std::mem::take(&mut self.above);
        match tokens {
            [_, .., "(", ")"] => {}
            [before @ .., "("] if !before.is_empty() => {
                let verb = match before {
                    [verb] => Some((*verb).to_owned()),
                    _ => None,
                };
                self.block = Some(Block {
                    verb,
                    comments: above,
                    lines: 0,
                });
            }
            [verb, arguments @ ..] => self.directive(verb, arguments, &said(&above, comment))?,
            [] => {}
        }
        Ok(())
    }

    fn block_line(&mut self, tokens: &[&str], comment: Option<&str>) -> Result<(), &'static str> {
        let above = std::mem::take(&mut self.above);
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        block.lines += 1;
        let Some(verb) = block.verb.clone() else {
            return Ok(());
        };
        let said = if above.is_empty() && comment.is_none() {
            said(&block.comments, None)
        } else {
            said(&above, comment)
        };
        self.directive(&verb, tokens, &said)
    }

    fn directive(
        &mut self,
        verb: &str,
        arguments: &[&str],
        said: &str,
    ) -> Result<(), &'static str> {
        match verb {
            "module" => {
                self.modules += 1;
                if self.modules > 1 {
                    return Err("a second module directive");
                }
                let [path] = arguments else {
                    return Err("a module directive has one path");
                };
                unquote(path).ok_or("a string that isn't quoted as it should be")?;
                self.notices.deprecated = deprecation(said).map(str::to_owned);
            }
            "retract" => {
                if let Some((low, high)) = interval(arguments) {
                    self.notices.retractions.push(Retraction {
                        low,
                        high,
                        rationale: said.to_owned(),
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The text of a directive's comments.
fn said(above: &[Above], behind: Option<&str>) -> String {
    let lines = above.iter().flatten().map(String::as_str).chain(behind);
    lines.collect::<Vec<_>>().join("\n")
}

/// The paragraph that begins with `Deprecated:`.
fn deprecation(said: &str) -> Option<&str> {
    const MARK: &str = "Deprecated:";
    let mut marks = said.match_indices(MARK).map(|(at, _)| at);
    let at = marks.find(|at| *at == 0 || said[..*at].ends_with("\n\n"))?;
    let text = said[at + MARK.len()..].trim_start_matches(' ');
    Some(text.split("\n\n").next().unwrap_or_default())
}

/// `v1.0.0` or `[v1.0.0, v1.2.0]`. What comes behind it is for later Go versions.
fn interval(tokens: &[&str]) -> Option<(Version, Version)> {
    match tokens {
        ["[", low, ",", high, "]", ..] => Some((version(low)?, version(high)?)),
        ["[", ..] | [] => None,
        [one, ..] => {
            let one = version(one)?;
            Some((one.clone(), one))
        }
    }
}

/// A version, shortened ones (`v1`, `v1.2`) filled up, since precedence knows them.
fn version(token: &str) -> Option<Version> {
    let text = unquote(token)?;
    let missing = 2usize.saturating_sub(text.matches('.').count());
    if text.contains(['-', '+']) {
        return text.parse().ok();
    }
    (text.to_owned() + &".0".repeat(missing)).parse().ok()
}

/// The string that a token stands for. Escapes are refused: neither paths nor versions need any.
fn unquote(token: &str) -> Option<&str> {
    let (inner, reserved) = match token.strip_prefix('"') {
        Some(rest) => (rest.strip_suffix('"')?, &['"', '\\'][..]),
        None => (token, &['"', '\'', '`'][..]),
    };
    (!inner.contains(reserved)).then_some(inner)
}

/// A line's tokens, and the text of its comment.
fn lex(line: &str) -> Result<(Vec<&str>, Option<&str>), &'static str> {
    let mut tokens = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r']);
        let Some(first) = rest.chars().next() else {
            return Ok((tokens, None));
        };
        if let Some(comment) = rest.strip_prefix("//") {
            return Ok((tokens, Some(comment.trim())));
        }
        let length = match first {
            '(' | ')' | '[' | ']' | '{' | '}' | ',' => 1,
            '"' | '`' => string(rest, first).ok_or("a string without its end")?,
            _ => word(rest)?,
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after;
    }
}

/// The length of a string with its quotes.
fn string(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some(at + 1);
        }
        if c == '\\' && quote == '"' {
            chars.next();
        }
    }
    None
}

/// The length of a word.
fn word(text: &str) -> Result<usize, &'static str> {
    let end = text.find(|c| !is_of_word(c)).unwrap_or(text.len());
    let end = text.find("//").map_or(end, |comment| comment.min(end));
    if text.find("/*").is_some_and(|comment| comment < end) {
        return Err("comments begin with //");
    }
    if end == 0 {
        return Err("a character that can't stand here");
    }
    Ok(end)
}

/// What Go's `unicode.IsPrint` takes, without space and brackets.
fn is_of_word(c: char) -> bool {
    use GeneralCategoryGroup as Group;
    const PRINTED: Group = Group::Letter
        .union(Group::Mark)
        .union(Group::Number)
        .union(Group::Punctuation)
        .union(Group::Symbol);
    if c.is_ascii() {
        return c.is_ascii_graphic() && !"()[]{},".contains(c);
    }
    PRINTED.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Notices {
        Notices::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn retracted(text: &str) -> Vec<String> {
        let shown = |one: Retraction| format!("{} {} {}", one.low, one.high, one.rationale);
        parse(text).retractions.into_iter().map(shown).collect()
    }

    #[test]
    fn retractions_are_read_with_their_reasons() {
        let text = "module a.b/m\n\ngo 1.22\n\n\
            // broken build\nretract v1.0.0\n\
            retract [v1.1.0, v1.2.0] // loses data\n\
            // all of these\nretract (\n\tv1.3.0\n\t// worse\n\t[v1.4.0,v1.5.0]\n\n\tv1.6.0\n)\n";
        assert_eq!(
            retracted(text),
            [
                "v1.0.0 v1.0.0 broken build",
                "v1.1.0 v1.2.0 loses data",
                "v1.3.0 v1.3.0 all of these",
                "v1.4.0 v1.5.0 worse",
                "v1.6.0 v1.6.0 ",
            ]
        );
    }

    #[test]
    fn an_interval_means_what_lies_in_it() {
        let notices = parse("module a.b/m\nretract [v1.0.0, v1.9]\nretract \"v2.0.0\"\n");
        let means = |text: &str| notices.retraction(&text.parse().unwrap()).is_some();
        for text in ["v1.0.0", "v1.2.3-rc.1", "v1.9.0", "v2.0.0+incompatible"] {
            assert!(means(text), "{text}");
        }
        for text in ["v1.0.0-rc.1", "v1.9.1", "v2.0.1"] {
            assert!(!means(text), "{text}");
        }
    }

    #[test]
    fn a_deprecation_is_a_paragraph_of_the_modules_comment() {
        for (text, said) in [
            ("// Deprecated: use a.b/n\nmodule a.b/m", Some("use a.b/n")),
            ("module a.b/m // Deprecated:   gone", Some("gone")),
            ("// Deprecated:\nmodule a.b/m", Some("")),
            (
                "// Package m.\n//\n// Deprecated: use n,\n// really\n//\n// More.\nmodule a.b/m",
                Some("use n,\nreally"),
            ),
            ("// Deprecated: old\nmodule (\n\ta.b/m\n)", Some("old")),
            ("// Deprecated: far away\n\nmodule a.b/m", None),
            ("// This is not Deprecated: no\nmodule a.b/m", None),
            ("// Hello.\n// Deprecated: no\nmodule a.b/m", None),
            ("// deprecated: no\nmodule a.b/m", None),
        ] {
            assert_eq!(parse(text).deprecated.as_deref(), said, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let text = "module a.b/m\nfuture ( x )\nretract (v1.0.0, v2.0.0)\nretract >v1.0.0\n\
            retract [v1.0.0, v1.2.0\nretract [v1.0.0]\nretract `v1.0.0`\nretract\nretract ()\n\
            replace a.b/c => ../c\nretract v1.0.0 later\nfuture x (\n\tretract v9.9.9\n)\n\
            require (\n\ta.b/c v1.0.0 // indirect\n)\n";
        assert_eq!(retracted(text), ["v1.0.0 v1.0.0 "]);
    }

    #[test]
    fn what_is_no_go_mod_says_nothing() {
        for (text, line) in [
            ("", 1),
            ("go 1.22\n", 2),
            ("module a.b/m\nmodule a.b/n\n", 2),
            ("module a.b/m a.b/n\n", 1),
            ("module 'a.b/m'\n", 1),
            ("module a.b/m\nretract (\n\tv1.0.0\n", 4),
            ("module a.b/m\nretract (\n\tv1.0.0\n) v1.0.0\n", 4),
            ("module a.b/m\n/* no */\n", 2),
            ("module a.b/m/*no*/\n", 1),
            ("module \"a.b/m\n", 1),
            ("module a.b/m\u{7}\n", 1),
        ] {
            let error = Notices::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Notices::parse(&bytes);
        }

        #[test]
        fn nothing_like_a_go_mod_panics(
            parts in prop::collection::vec(prop::sample::select(vec![
                "module", "retract", "(", ")", "[", "]", ",", "\n", "//", "\"", "`", "\\", "v1.0.0",
                " ", "a.b/m", "Deprecated: x", "/*", "ä", "\r\n",
            ]), 0..40),
        ) {
            let _ = Notices::parse(parts.concat().as_bytes());
        }
    }
}
