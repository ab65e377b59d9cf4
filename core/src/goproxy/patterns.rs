//! Patterns of module paths, as `GOPRIVATE`, `GONOSUMDB` and `GONOPROXY` have them.
//!
//! A pattern with N elements is matched against the first N elements of a module path, each by the
//! rules of Go's `path.Match`: `*` is any text, `?` any character, `[a-c]` and `[^a-c]` one of a
//! class, `\` takes the next character as it is. None of them crosses a `/`. So `corp.example`
//! means the domain with all below it, `*.corp.example/team` that folder of every subdomain
//! (x/mod's `module.MatchPrefixPatterns`).
//!
//! Failure rule: x/mod lets a malformed pattern match nothing. Here it is an error: what was meant to
//! be private must not become public by a slip of the pen.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ModulePath, escape::push_escaped};

/// A pattern is no longer than this, in bytes.
pub const MAX_PATTERN: usize = 1024;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or nothing between two slashes.
    #[error("{0:?}: a pattern has no empty path element")]
    Empty(String),
    /// No module path is so long.
    #[error("a pattern is no longer than {MAX_PATTERN} bytes")]
    TooLong,
    /// A class that isn't closed within its element, a range without an end, a lone `\`.
    #[error(
        "{0:?}: `[` begins a class such as [a-c] or [^x], and `\\` needs a character behind it"
    )]
    Malformed(String),
    /// Blanks and the like: no module path has them.
    #[error("{0:?}: no module path has such a character")]
    Character(String),
}

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
    elements: Box<[Box<[Token]>]>,
}

/// A part of an element's pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`.
    Any,
    /// `*`.
    Star,
    /// `[…]`: pairs of first and last.
    Class {
        negated: bool,
        ranges: Box<[(char, char)]>,
    },
}

impl Pattern {
    /// Whether the module, or a folder that it lies in, is meant.
    #[must_use]
    pub fn matches(&self, module: &ModulePath) -> bool {
        self.matches_text(module.as_str())
    }

    /// The pattern as it was written, without a `/` at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path, escaped as in URLs, that everything it matches is or lies below: the elements before
    /// the first one with a wildcard. None where that is the first.
    #[must_use]
    pub fn folder(&self) -> Option<String> {
        let plain = |tokens: &[Token]| -> Option<String> {
            let literal = |token: &Token| match token {
                Token::Literal(c) => Some(*c),
                _ => None,
            };
            tokens.iter().map(literal).collect()
        };
        let elements: Vec<String> = self.elements.iter().map_while(|e| plain(e)).collect();
        let mut folder = String::new();
        push_escaped(&mut folder, &elements.join("/"));
        (!folder.is_empty()).then_some(folder)
    }

    fn matches_text(&self, target: &str) -> bool {
        let mut found = target.split('/');
        self.elements
            .iter()
            .all(|tokens| found.next().is_some_and(|element| fits(tokens, element)))
    }
}

/// Without blanks around it; a `/` at the end makes no difference.
impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong);
        }
        if text.chars().any(|c| c == ',' || !c.is_ascii_graphic()) {
            return Err(PatternError::Character(text.to_owned()));
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let elements = text.split('/').map(|element| {
            if element.is_empty() {
                return Err(PatternError::Empty(text.to_owned()));
            }
            tokens(element).ok_or_else(|| PatternError::Malformed(text.to_owned()))
        });
        Ok(Self {
            elements: elements.collect::<Result<_, _>>()?,
            text: text.into(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What an element's pattern consists of; `None` if it is malformed.
fn tokens(element: &str) -> Option<Box<[Token]>> {
    let mut found = Vec::new();
    let mut rest = element.chars().peekable();
    while let Some(c) = rest.next() {
        found.push(match c {
            // Two stars are one, and would cost time.
            '*' if found.last() == Some(&Token::Star) => continue,
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Literal(rest.next()?),
            '[' => class(&mut rest)?,
            c => Token::Literal(c),
        });
    }
    Some(found.into())
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
        let first = member(rest)?;
        let last = match rest.next_if_eq(&'-') {
            Some(_) => member(rest)?,
            None => first,
        };
        ranges.push((first, last));
    }
    Some(Token::Class {
        negated,
        ranges: ranges.into(),
    })
}

/// A character in a class: `-` and `]` only behind a `\`.
fn member(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

/// Whether all of `element` is what the tokens say. The last star that was met takes one character
/// more with each mismatch: time grows with the product of both lengths, no faster.
fn fits(tokens: &[Token], element: &str) -> bool {
    let (mut at, mut rest) = (0, element.chars());
    let mut star = None;
    loop {
        match tokens.get(at) {
            Some(Token::Star) => {
                star = Some((at, rest.clone()));
                at += 1;
                continue;
            }
            Some(token) => {
                let mut ahead = rest.clone();
                if ahead.next().is_some_and(|c| is(token, c)) {
                    (at, rest) = (at + 1, ahead);
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => {}
        }
        let Some((behind, mut taken)) = star.take() else {
            return false;
        };
        if taken.next().is_none() {
            return false;
        }
        (at, rest) = (behind + 1, taken.clone());
        star = Some((behind, taken));
    }
}

fn is(token: &Token, c: char) -> bool {
    match token {
        Token::Literal(literal) => *literal == c,
        Token::Any | Token::Star => true,
        Token::Class { negated, ranges } => {
            let within = |(first, last): &(char, char)| (*first..=*last).contains(&c);
            ranges.iter().any(within) != *negated
        }
    }
}

/// Several patterns; what one of them matches is meant. In YAML a list, or a text as `GOPRIVATE` has
/// it: separated by commas, empty ones left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Whether one of them matches.
    #[must_use]
    pub fn matches(&self, module: &ModulePath) -> bool {
        self.first(module).is_some()
    }

    /// The first one that matches.
    #[must_use]
    pub fn first(&self, module: &ModulePath) -> Option<&Pattern> {
        self.0.iter().find(|pattern| pattern.matches(module))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, as written.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter()
    }
}

impl From<Vec<Pattern>> for Patterns {
    fn from(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }
}

impl FromStr for Patterns {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let parts = text.split(',').map(str::trim);
        let named = parts.filter(|part| !matches!(*part, "" | "/"));
        Ok(Self(named.map(str::parse).collect::<Result<_, _>>()?))
    }
}

/// As `GOPRIVATE` has them.
impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, pattern) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{pattern}")?;
        }
        Ok(())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PatternsVisitor)
    }
}

struct PatternsVisitor;

impl<'de> Visitor<'de> for PatternsVisitor {
    type Value = Patterns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of patterns such as [corp.example/*], or a text as GOPRIVATE has it")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Patterns, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Patterns, A::Error> {
        let mut patterns = Vec::new();
        while let Some(pattern) = list.next_element()? {
            patterns.push(pattern);
        }
        Ok(Patterns(patterns))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(patterns: &str, module: &str) -> bool {
        let patterns: Patterns = patterns.parse().unwrap();
        patterns.matches(&module.parse().unwrap())
    }

    #[test]
    fn a_pattern_means_what_it_matches_and_all_below() {
        for (patterns, module, meant) in [
            ("corp.example", "corp.example", true),
            ("corp.example", "corp.example/a/b", true),
            ("corp.example/", "corp.example/a", true),
            ("corp.example", "corp.examples/a", false),
            ("corp.example/a", "corp.example", false),
            ("corp.example/a", "corp.example/ab", false),
            ("*.corp.example", "git.corp.example/x", true),
            ("*.corp.example", "corp.example/x", false),
            ("*", "any.example/x", true),
            ("*/team", "a.b/team/x", true),
            ("*/team", "a.b/c/team", false),
            ("corp.example/te?m", "corp.example/team", true),
            ("corp.example/[a-c]*", "corp.example/bx/y", true),
            ("corp.example/[^a-c]*", "corp.example/bx/y", false),
            ("a.b/x,corp.example/*-go", "corp.example/my-go/v2", true),
            ("a.b/x,,corp.example/*a*b*", "corp.example/xxaxxbxx", true),
            ("corp.example/*a*b", "corp.example/xxaxxbxx", false),
            ("github.com/Corp", "github.com/corp/x", false),
            (r"corp.example/\x", "corp.example/x", true),
            ("", "corp.example", false),
        ] {
            assert_eq!(matches(patterns, module), meant, "{patterns} {module}");
        }
    }

    #[test]
    fn what_would_match_nothing_by_mistake_is_an_error() {
        for (text, said) in [
            ("", "no empty"),
            ("/", "no empty"),
            ("a.b//c", "no empty"),
            ("/a.b", "no empty"),
            ("a.b/[", "class"),
            ("a.b/[]", "class"),
            ("a.b/[a", "class"),
            ("a.b/[a-]", "class"),
            ("a.b/[-a]", "class"),
            ("a.b/[x/y]", "class"),
            ("a.b/\\", "class"),
            ("a.b c", "such a character"),
            ("a.b,c", "such a character"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let long = "x".repeat(MAX_PATTERN + 1).parse::<Pattern>();
        assert_eq!(long, Err(PatternError::TooLong));
    }

    #[test]
    fn the_folder_of_a_pattern_ends_before_its_first_wildcard() {
        for (pattern, folder) in [
            ("corp.example", Some("corp.example")),
            ("github.com/Acme/", Some("github.com/!acme")),
            ("github.com/acme/x-*/y", Some("github.com/acme")),
            (r"a.b/\x", Some("a.b/x")),
            ("*.corp.example/x", None),
            ("[ab].c", None),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.folder().as_deref(), folder, "{pattern}");
        }
    }

    #[test]
    fn yaml_has_them_as_a_list_or_as_goprivate_does() {
        let list: Patterns = serde_yaml::from_str("[corp.example, '*.b/c/']").unwrap();
        let text: Patterns = serde_yaml::from_str("corp.example, *.b/c").unwrap();
        assert_eq!(list, text);
        assert_eq!(list.to_string(), "corp.example,*.b/c");
        let written = serde_yaml::to_string(&list).unwrap();
        assert_eq!(serde_yaml::from_str::<Patterns>(&written).unwrap(), list);
        assert!(serde_yaml::from_str::<Patterns>("['[']").is_err());
    }

    #[test]
    fn many_stars_cost_no_more_than_a_product() {
        let pattern = "*a".repeat(MAX_PATTERN / 2);
        let pattern: Pattern = pattern.parse().unwrap();
        assert!(!pattern.matches_text(&"a".repeat(300).replace("aaa", "aab")));
    }

    /// By the book: each star is tried with every length.
    fn slowly(tokens: &[Token], text: &[char]) -> bool {
        match (tokens.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((Token::Star, after)), _) => {
                (0..=text.len()).any(|taken| slowly(after, &text[taken..]))
            }
            (Some((token, after)), Some((c, behind))) => is(token, *c) && slowly(after, behind),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_last_star_is_enough_to_go_back_to(
            pattern in "[ab*?]{1,8}", text in "[abc]{0,8}",
        ) {
            let tokens = tokens(&pattern).unwrap();
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(fits(&tokens, &text), slowly(&tokens, &chars));
        }

        #[test]
        fn no_text_panics(pattern in "\\PC{0,20}", target in "\\PC{0,20}") {
            if let Ok(pattern) = pattern.parse::<Pattern>() {
                pattern.matches_text(&target);
                prop_assert_eq!(pattern.to_string().parse::<Pattern>(), Ok(pattern));
            }
        }
    }
}
