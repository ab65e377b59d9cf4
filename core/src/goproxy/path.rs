//! Module paths, by the rules of x/mod's `module.CheckPath`.

use std::{fmt, str::FromStr};

use super::{
    GrammarError, Version,
    escape::{escaped_len, push_escaped, unescape},
};

/// How long one element of a path may be, in bytes, `!`-escaped. It becomes a file's or folder's
/// name, which file systems bound to 255; the rest is for `.ziphash` and the like.
pub const MAX_ELEMENT: usize = 240;

/// A module path, such as `github.com/BurntSushi/toml`, that x/mod's `module.CheckPath` accepts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModulePath(Box<str>);

impl ModulePath {
    /// The path as Go source and go.mod write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as URLs and file names write it: upper-case letters as `!` + lower case.
    pub fn escaped(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 8);
        push_escaped(&mut out, &self.0);
        out
    }

    pub(super) fn push_escaped(&self, out: &mut String) {
        push_escaped(out, &self.0);
    }

    /// Parses the escaped form, without percent-encodings.
    pub fn from_escaped(escaped: &str) -> Result<Self, GrammarError> {
        unescape(escaped)?.parse()
    }

    /// Whether a module of this path may have this version (`module.CheckPathMajor`): `/vN` and
    /// `gopkg.in/….vN` want `vN`, other paths `v0`, `v1` or `+incompatible`.
    pub fn allows(&self, version: &Version) -> bool {
        match major_of(&self.0) {
            Ok(Major::None) => matches!(version.major(), "v0" | "v1") || version.is_incompatible(),
            Ok(Major::Slash(major)) => version.major() == major,
            // Old go commands made v0.0.0 pseudo-versions for .v1 paths; go.mod files still have them.
            Ok(Major::Gopkg(major)) => {
                version.major() == major || major == "v1" && version.as_str().starts_with("v0.0.0-")
            }
            Err(_) => false,
        }
    }
}

/// Splits what a path says about its major version off its end (`module.SplitPathVersion`):
/// `/v2`, or `.v1` and `.v1-unstable` of `gopkg.in`; empty where it says nothing. The path need not
/// be a module's.
///
/// # Errors
/// If what it says can't be: `/v1`, `/v02`, no version at `gopkg.in`.
pub fn split_major(path: &str) -> Result<(&str, &str), GrammarError> {
    let cut = |len: usize| path.split_at(path.len() - len);
    Ok(match major_of(path)? {
        Major::None => (path, ""),
        Major::Slash(major) => cut(major.len() + 1),
        Major::Gopkg(major) if path.ends_with("-unstable") => cut(major.len() + 10),
        Major::Gopkg(major) => cut(major.len() + 1),
    })
}

impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ModulePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// From the unescaped form.
impl FromStr for ModulePath {
    type Err = GrammarError;

    fn from_str(path: &str) -> Result<Self, GrammarError> {
        let mut elements = path.split('/');
        check_domain(elements.next().unwrap_or_default())?;
        elements.try_for_each(check_module_element)?;
        major_of(path)?;
        Ok(Self(path.into()))
    }
}

/// The first element: a lower-case domain name with a dot.
fn check_domain(element: &str) -> Result<(), GrammarError> {
    check_module_element(element)?;
    let lower_ldh = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if element.starts_with('-') || !element.contains('.') || !element.bytes().all(lower_ldh) {
        return Err(GrammarError::NotADomain);
    }
    Ok(())
}

fn check_module_element(element: &str) -> Result<(), GrammarError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    check_element(element, allowed)?;
    if element.starts_with('.') {
        return Err(GrammarError::LeadingDot);
    }
    match stem(element).rsplit_once('~') {
        Some((_, digits)) if !digits.is_empty() && all_digits(digits) => {
            Err(GrammarError::ShortName)
        }
        _ => Ok(()),
    }
}

/// What holds for elements of module paths and for versions (both become file names). `allowed`
/// must refuse what isn't ASCII.
pub(super) fn check_element(
    element: &str,
    allowed: impl Fn(u8) -> bool,
) -> Result<(), GrammarError> {
    if element.is_empty() {
        return Err(GrammarError::EmptyElement);
    }
    let mut previous = b'/';
    for (at, byte) in element.bytes().enumerate() {
        if !allowed(byte) {
            let bad = element
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .unwrap_or_default();
            return Err(GrammarError::BadCharacter(bad));
        }
        if byte == b'.' && previous == b'.' {
            return Err(GrammarError::DoubleDot);
        }
        previous = byte;
    }
    if element.ends_with('.') {
        return Err(GrammarError::TrailingDot);
    }
    if is_reserved(stem(element)) {
        return Err(GrammarError::ReservedName);
    }
    if element.len() > MAX_ELEMENT / 2 && escaped_len(element) > MAX_ELEMENT {
        return Err(GrammarError::ElementTooLong);
    }
    Ok(())
}

/// What stands before the first dot: Windows looks at nothing else.
pub(super) fn stem(element: &str) -> &str {
    element.split_once('.').map_or(element, |(stem, _)| stem)
}

/// Device names of Windows, in any case.
pub(super) fn is_reserved(stem: &str) -> bool {
    match stem.as_bytes() {
        name @ [_, _, _] => [b"con", b"prn", b"aux", b"nul"]
            .iter()
            .any(|r| name.eq_ignore_ascii_case(*r)),
        [name @ .., b'1'..=b'9'] => {
            name.eq_ignore_ascii_case(b"com") || name.eq_ignore_ascii_case(b"lpt")
        }
        _ => false,
    }
}

/// What a module path says about its major version.
enum Major<'a> {
    /// Nothing: v0, v1 and `+incompatible` versions.
    None,
    /// `/vN`, N ≥ 2.
    Slash(&'a str),
    /// `.vN` or `.vN-unstable` of `gopkg.in`, N ≥ 0.
    Gopkg(&'a str),
}

fn major_of(path: &str) -> Result<Major<'_>, GrammarError> {
    if path.starts_with("gopkg.in/") {
        return gopkg_major_of(path);
    }
    let Some((_, last)) = path.rsplit_once('/') else {
        return Ok(Major::None);
    };
    let numeric = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match last.strip_prefix('v') {
        Some(n) if numeric(n) => {
            if n == "1" || n.starts_with('0') || n.contains('.') {
                return Err(GrammarError::BadMajorSuffix);
            }
            Ok(Major::Slash(last))
        }
        _ => Ok(Major::None),
    }
}

fn gopkg_major_of(path: &str) -> Result<Major<'_>, GrammarError> {
    let stable = path.strip_suffix("-unstable").unwrap_or(path);
    let (_, major) = stable
        .rsplit_once('.')
        .ok_or(GrammarError::BadGopkgSuffix)?;
    match major.strip_prefix('v') {
        Some("0") => Ok(Major::Gopkg(major)),
        Some(n) if !n.is_empty() && all_digits(n) && !n.starts_with('0') => Ok(Major::Gopkg(major)),
        _ => Err(GrammarError::BadGopkgSuffix),
    }
}

pub(super) fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{GrammarError::*, *};

    #[test]
    fn paths_of_real_modules_are_accepted() {
        for path in [
            "golang.org/x/mod",
            "github.com/BurntSushi/toml",
            "github.com/go-chi/chi/v5",
            "gopkg.in/yaml.v3",
            "gopkg.in/check.v1",
            "gopkg.in/src-d/go-git.v4",
            "gopkg.in/yaml.v0",
            "gopkg.in/yaml.v2-unstable",
            "k8s.io/api",
            "rsc.io",
            "example.com/_a/~b/-c",
            "example.com/v",
            "example.com/v2x",
            "example.com/xv1",
            "example.com/v1/x",
            "example.com/a.v1",
            "example.com/v10",
            "example.com/x~",
            "example.com/x~1a",
            "example.com/x.y~1",
            "example.com/com10/com0/conx/xcon/x.con",
            "0.example/x",
            "v1.0",
            "git.sr.ht/~sircmpwn/scdoc",
        ] {
            let parsed: ModulePath = path.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(parsed.as_str(), path);
            assert_eq!(ModulePath::from_escaped(&parsed.escaped()), Ok(parsed));
        }
    }

    #[test]
    fn paths_outside_the_grammar_are_refused_with_their_reason() {
        let cases = [
            ("", EmptyElement),
            ("/", EmptyElement),
            ("/example.com", EmptyElement),
            ("example.com/", EmptyElement),
            ("example.com//x", EmptyElement),
            ("example", NotADomain),
            ("-example.com/x", NotADomain),
            ("Example.com/x", NotADomain),
            ("exa_mple.com/x", NotADomain),
            ("exa~mple.com/x", NotADomain),
            ("sumdb/x.y", NotADomain),
            (".example.com/x", LeadingDot),
            ("example.com/.git", LeadingDot),
            ("example.com/.", TrailingDot),
            ("example.com./x", TrailingDot),
            ("example.com/x.", TrailingDot),
            ("example.com/..", DoubleDot),
            ("example.com/../x", DoubleDot),
            ("example.com/a..b", DoubleDot),
            ("example.com/a@b", BadCharacter('@')),
            ("example.com/a!b", BadCharacter('!')),
            ("example.com/a b", BadCharacter(' ')),
            ("example.com/a+b", BadCharacter('+')),
            ("example.com/a%20", BadCharacter('%')),
            ("example.com/a;x", BadCharacter(';')),
            ("example.com:80/a", BadCharacter(':')),
            ("example.com/a\\b", BadCharacter('\\')),
            ("example.com/ä", BadCharacter('ä')),
            ("example.com/\u{212a}", BadCharacter('\u{212a}')),
            ("example.com/con", ReservedName),
            ("example.com/CoN.txt", ReservedName),
            ("example.com/lpt9/x", ReservedName),
            ("example.com/COM1.a.b", ReservedName),
            ("nul.example/x", ReservedName),
            ("example.com/longna~1", ShortName),
            ("example.com/longna~1.txt", ShortName),
            ("example.com/~1", ShortName),
            ("example.com/x/v1", BadMajorSuffix),
            ("example.com/x/v0", BadMajorSuffix),
            ("example.com/x/v02", BadMajorSuffix),
            ("example.com/x/v1.2", BadMajorSuffix),
            ("example.com/x/v2.0", BadMajorSuffix),
            ("gopkg.in/yaml", BadGopkgSuffix),
            ("gopkg.in/yaml.v", BadGopkgSuffix),
            ("gopkg.in/yaml.v01", BadGopkgSuffix),
            ("gopkg.in/yaml.v00", BadGopkgSuffix),
            ("gopkg.in/yaml/v2", BadGopkgSuffix),
            ("gopkg.in/yaml.v2/x", BadGopkgSuffix),
            ("gopkg.in/yaml.v2-stable", BadGopkgSuffix),
        ];
        for (path, want) in cases {
            assert_eq!(path.parse::<ModulePath>(), Err(want), "{path}");
        }
    }

    #[test]
    fn an_element_is_bounded_in_its_escaped_form() {
        let with = |element: &str| format!("example.com/{element}").parse::<ModulePath>();
        assert!(with(&"x".repeat(MAX_ELEMENT)).is_ok());
        assert_eq!(with(&"x".repeat(MAX_ELEMENT + 1)), Err(ElementTooLong));
        assert!(with(&"X".repeat(MAX_ELEMENT / 2)).is_ok());
        assert_eq!(with(&"X".repeat(MAX_ELEMENT / 2 + 1)), Err(ElementTooLong));
    }

    #[test]
    fn a_path_allows_the_versions_of_its_major() {
        let cases = [
            ("example.com/x", "v0.1.0", true),
            ("example.com/x", "v1.9.0-rc.1", true),
            ("example.com/x", "v2.0.0", false),
            ("example.com/x", "v2.0.0+incompatible", true),
            ("example.com/x", "v10.0.0", false),
            ("example.com/x/v2", "v2.1.0", true),
            ("example.com/x/v2", "v20.1.0", false),
            ("example.com/x/v2", "v1.0.0", false),
            ("example.com/x/v2", "v3.0.0+incompatible", false),
            ("gopkg.in/yaml.v2", "v2.4.0", true),
            ("gopkg.in/yaml.v2", "v3.0.0", false),
            ("gopkg.in/yaml.v2-unstable", "v2.0.0", true),
            (
                "gopkg.in/yaml.v2",
                "v0.0.0-20161208181325-20d25e280405",
                false,
            ),
            (
                "gopkg.in/check.v1",
                "v0.0.0-20161208181325-20d25e280405",
                true,
            ),
            ("gopkg.in/check.v1", "v0.0.0", false),
            ("gopkg.in/x.v0", "v0.5.0", true),
        ];
        for (path, version, want) in cases {
            let path: ModulePath = path.parse().expect("a valid path");
            let version: Version = version.parse().expect("a valid version");
            assert_eq!(path.allows(&version), want, "{path}@{version}");
        }
    }
}
