//! Names that are one where case doesn't count.

use std::borrow::Cow;
use std::collections::HashMap;

use modcdn_core::goproxy::FilePath;

use super::fault::{Fault, shown};

/// A text with every character in the one form that stands for all its cases: two texts are equal
/// under `strings.EqualFold` of Go just if their folded forms are equal.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| b.is_ascii() && !b.is_ascii_uppercase())
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(fold_char).collect())
}

/// Simple case folding of Unicode: the lower case of the upper case, where both are one character.
fn fold_char(c: char) -> char {
    // The one character whose upper case has another lower case, but which is no case of it.
    const DOTLESS_I: char = 'ı';
    if c == DOTLESS_I {
        return c;
    }
    let upper = single(c.to_uppercase()).unwrap_or(c);
    single(upper.to_lowercase()).unwrap_or(upper)
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next()?;
    chars.next().is_none().then_some(first)
}

/// The files and folders seen so far: each folder's elements, folded.
pub(super) struct Names<'a> {
    nodes: HashMap<(u32, Cow<'a, str>), Node<'a>>,
    most: usize,
    /// The folder of the last name: the next one is mostly in it, too.
    last: (&'a str, u32),
}

struct Node<'a> {
    number: u32,
    spelled: &'a str,
    is_dir: bool,
}

const ROOT: u32 = 0;

impl<'a> Names<'a> {
    /// Takes at most so many files and folders.
    pub(super) fn new(most: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            most,
            last: ("", ROOT),
        }
    }

    /// Takes a name in, and the folders that it is in.
    ///
    /// # Errors
    /// If one of them differs from an earlier one in case only, is both file and folder, or if the
    /// file was there before.
    pub(super) fn add(&mut self, path: FilePath<'a>, is_dir: bool) -> Result<(), Fault> {
        let (folder, base) = path
            .as_str()
            .rsplit_once('/')
            .unwrap_or(("", path.as_str()));
        let parent = match folder {
            "" => ROOT,
            same if same == self.last.0 => self.last.1,
            other => other.split('/').try_fold(ROOT, |parent, element| {
                self.step(parent, element, true, path)
            })?,
        };
        self.last = (folder, parent);
        self.step(parent, base, is_dir, path).map(drop)
    }

    /// One element of a path.
    fn step(
        &mut self,
        parent: u32,
        element: &'a str,
        is_dir: bool,
        path: FilePath<'a>,
    ) -> Result<u32, Fault> {
        if let Some(node) = self.nodes.get(&(parent, fold(element))) {
            let fits = node.spelled == element && node.is_dir && is_dir;
            let number = node.number;
            return fits.then_some(number).ok_or_else(|| {
                Fault::Collision(
                    shown(node.spelled.as_bytes()),
                    shown(path.as_str().as_bytes()),
                )
            });
        }
        if self.nodes.len() >= self.most {
            return Err(Fault::TooManyFiles(self.most));
        }
        // There are at most `most`, which was checked to fit.
        let number = self.nodes.len() as u32 + 1;
        let node = Node {
            number,
            spelled: element,
            is_dir,
        };
        self.nodes.insert((parent, fold(element)), node);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_all(names: &[&'static str]) -> Result<(), Fault> {
        let mut seen = Names::new(100);
        names.iter().try_for_each(|name| {
            let path = FilePath::parse(name.trim_end_matches('/')).unwrap();
            seen.add(path, name.ends_with('/'))
        })
    }

    #[test]
    fn names_that_differ_are_kept_apart() {
        for fine in [
            &["a", "b", "c/a", "c/b", "d/a/c", "ac"][..],
            &["a/", "a/", "a/b", "a/"],
            &["a/b/c", "a/b/"],
            &["ı", "i", "ß", "ss", "ﬁ", "fi", "İ"],
        ] {
            assert!(add_all(fine).is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn names_that_some_systems_take_for_one_are_refused() {
        for bad in [
            &["a", "a"][..],
            &["a", "A"],
            &["a/b", "A/c"],
            &["a/b", "A"],
            &["a", "a/b"],
            &["a/b", "a"],
            &["a", "a/"],
            &["a/x/b", "c", "a/X/"],
            &["k", "\u{212a}"],
            &["s", "ſ"],
            &["ß", "ẞ"],
            &["σ", "ς"],
            &["ǆ", "ǅ"],
        ] {
            assert!(matches!(add_all(bad), Err(Fault::Collision(..))), "{bad:?}");
        }
    }

    #[test]
    fn there_are_never_more_names_than_allowed() {
        let deep = "a/".repeat(101);
        let mut seen = Names::new(100);
        let added = seen.add(FilePath::parse(&deep[..deep.len() - 1]).unwrap(), false);
        assert!(matches!(added, Err(Fault::TooManyFiles(100))));
    }
}
