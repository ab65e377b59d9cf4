//! Names of files inside a module, by the rules of x/mod's `module.CheckFilePath`.

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};

use super::GrammarError;
use super::path::{is_reserved, stem};

/// ASCII punctuation that a name may have, the space included.
const PUNCTUATION: &[u8] = b"!#$%&()+,-.=@[]^_{}~ ";

/// A file's name relative to its module's root, such as `internal/Über.go`, that x/mod's
/// `module.CheckFilePath` accepts: clean, relative, and possible on every platform.
///
/// Letters are those of the Unicode version this was built with; an older go command may refuse
/// one that was added since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath<'a>(&'a str);

impl<'a> FilePath<'a> {
    /// Takes a name.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(name: &'a str) -> Result<Self, GrammarError> {
        name.split('/').try_for_each(check_element)?;
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// What stands behind the last slash.
    #[must_use]
    pub fn base(self) -> &'a str {
        self.0.rsplit_once('/').map_or(self.0, |(_, base)| base)
    }
}

fn check_element(element: &str) -> Result<(), GrammarError> {
    if element.is_empty() {
        return Err(GrammarError::EmptyElement);
    }
    // `.` and `..` are among these.
    if element.ends_with('.') {
        return Err(GrammarError::TrailingDot);
    }
    if let Some(bad) = element.chars().find(|c| !is_allowed(*c)) {
        return Err(GrammarError::BadCharacter(bad));
    }
    if is_reserved(stem(element)) {
        return Err(GrammarError::ReservedName);
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => byte.is_ascii_alphanumeric() || PUNCTUATION.contains(&byte),
        _ => {
            let category = CodePointMapData::<GeneralCategory>::new().get(c);
            GeneralCategoryGroup::Letter.contains(category)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GrammarError::*;
    use super::*;

    #[test]
    fn names_of_real_files_are_accepted() {
        for name in [
            "go.mod",
            ".github/workflows/ci.yml",
            "a..b/-c/+d",
            "docs/Hello World (1).md",
            "testdata/é/日本語.go",
            "x/longna~1",
            "com10/conx/x.con",
            "!#$%&()+,-.=@[]^_{}~ x",
        ] {
            assert_eq!(FilePath::parse(name).map(FilePath::as_str), Ok(name));
        }
        assert_eq!(FilePath::parse("a/b").unwrap().base(), "b");
        assert_eq!(FilePath::parse("b").unwrap().base(), "b");
    }

    #[test]
    fn names_outside_the_rules_are_refused_with_their_reason() {
        for (name, want) in [
            ("", EmptyElement),
            ("/a", EmptyElement),
            ("a/", EmptyElement),
            ("a//b", EmptyElement),
            (".", TrailingDot),
            ("..", TrailingDot),
            ("a/../b", TrailingDot),
            ("a.", TrailingDot),
            ("a\\b", BadCharacter('\\')),
            ("c:d", BadCharacter(':')),
            ("a*", BadCharacter('*')),
            ("a\0b", BadCharacter('\0')),
            ("a\nb", BadCharacter('\n')),
            ("a'b", BadCharacter('\'')),
            ("a\u{301}", BadCharacter('\u{301}')),
            ("Ⅷ", BadCharacter('Ⅷ')),
            ("١", BadCharacter('١')),
            ("a\u{a0}b", BadCharacter('\u{a0}')),
            ("x/CoN.txt", ReservedName),
            ("nul", ReservedName),
        ] {
            assert_eq!(FilePath::parse(name), Err(want), "{name:?}");
        }
    }
}
