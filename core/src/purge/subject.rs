//! An answer as selectors see it: the names that a purge of each kind may know it by.

/// Between a key and its variant's name.
const VARIANT: char = '\t';

/// An answer that a purge may concern.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The store's key without the variant.
    key: &'a str,
    tags: Tags<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Tags<'a> {
    /// The answer's head isn't here yet: it may be tagged with anything.
    Unknown,
    /// The value of `Cache-Tag`.
    Known(&'a [u8]),
}

impl<'a> Subject<'a> {
    /// The answer of that key whose `Cache-Tag` has that value.
    #[must_use]
    pub fn new(key: &'a str, tags: &'a [u8]) -> Self {
        Self {
            key: base(key),
            tags: Tags::Known(tags),
        }
    }

    /// The answer of that key that isn't here yet.
    #[must_use]
    pub fn awaited(key: &'a str) -> Self {
        Self {
            key: base(key),
            tags: Tags::Unknown,
        }
    }

    /// The store's key without the variant.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The escaped module path, and the escaped version if the answer is about one; in whichever
    /// mount it lies. No element of a mount's prefix has a dot, a module path's first one has.
    #[must_use]
    pub fn module(&self) -> Option<(&'a str, Option<&'a str>)> {
        let mut path = self.key.strip_prefix('/')?;
        while let Some((element, rest)) = path.split_once('/')
            && !element.contains('.')
            && element != "sumdb"
        {
            path = rest;
        }
        if let Some(sumdb) = path.strip_prefix("sumdb/") {
            // No element of a database's name is `lookup`.
            let (_, asked) = sumdb.split_once("/lookup/")?;
            let (module, version) = asked.split_once('@')?;
            return Some((module, Some(version)));
        }
        // No module path has an '@'.
        let (module, call) = path.split_once("/@")?;
        let version = call.strip_prefix("v/").and_then(|file| {
            let (version, extension) = file.rsplit_once('.')?;
            matches!(extension, "info" | "mod" | "zip").then_some(version)
        });
        Some((module, version))
    }

    /// The path and each path above it, without the query.
    pub fn prefixes(&self) -> impl Iterator<Item = &'a str> {
        let path = self.key.split('?').next().unwrap_or_default();
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
        ends.chain([path.len()]).map(|end| &path[..end])
    }

    /// The tags, if they are known.
    pub fn tags(&self) -> Option<impl Iterator<Item = &'a str>> {
        match self.tags {
            Tags::Unknown => None,
            Tags::Known(field) => {
                let tags = field.split(|byte| *byte == b',');
                let tags = tags.filter_map(|tag| std::str::from_utf8(tag.trim_ascii()).ok());
                Some(tags.filter(|tag| !tag.is_empty()))
            }
        }
    }
}

fn base(key: &str) -> &str {
    key.split(VARIANT).next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::goproxy::{ModulePath, Request, Version};

    fn subject(key: &str) -> Subject<'_> {
        Subject::new(key, b"")
    }

    #[test]
    fn keys_name_their_module_and_version() {
        let module = "a.b/!upper";
        for (key, expected) in [
            ("/a.b/!upper/@v/list", Some((module, None))),
            ("/a.b/!upper/@latest", Some((module, None))),
            (
                "/a.b/!upper/@v/v1.0.0-!r!c.info",
                Some((module, Some("v1.0.0-!r!c"))),
            ),
            ("/a.b/!upper/@v/v1.0.0.zip", Some((module, Some("v1.0.0")))),
            (
                "/sumdb/sum.example.com/lookup/a.b/!upper@v1.0.0",
                Some((module, Some("v1.0.0"))),
            ),
            ("/team-a/a.b/!upper/@v/list", Some((module, None))),
            (
                "/eu/b/a.b/!upper/@v/v1.0.0.zip",
                Some((module, Some("v1.0.0"))),
            ),
            (
                "/team-a/sumdb/sum.example.com/lookup/a.b/!upper@v1.0.0",
                Some((module, Some("v1.0.0"))),
            ),
            ("/sumdb/sum.example.com/latest", None),
            ("/sumdb/sum.example.com/tile/8/0/000", None),
            ("/static/app.js?x=1", None),
            ("", None),
        ] {
            assert_eq!(subject(key).module(), expected, "{key}");
        }
    }

    #[test]
    fn prefixes_end_between_elements_and_before_the_query() {
        let of = |key| subject(key).prefixes().collect::<Vec<_>>();
        assert_eq!(of("/a/b/c"), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(of("/a?x=/y/z"), ["/a"]);
        assert_eq!(of("/a/\tgzip"), ["/a", "/a/"]);
    }

    #[test]
    fn tags_are_separated_by_commas() {
        let subject = Subject::new("/a", b" x, ,y,\xff,z ");
        assert_eq!(subject.tags().unwrap().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert!(Subject::awaited("/a").tags().is_none());
    }

    #[test]
    fn a_variant_is_its_keys_answer() {
        assert_eq!(subject("/a\tgzip").key(), "/a");
    }

    proptest! {
        #[test]
        fn module_and_version_are_those_that_the_grammar_finds(
            module in "[a-z]{1,3}\\.[a-z]{1,3}/[A-Za-z]{1,4}",
            version in "v1\\.[0-9]\\.[0-9](-[A-Za-z]{1,3})?",
            call in prop::sample::select(vec!["@v/list", "@latest", "info", "mod", "zip", "lookup"]),
        ) {
            // Some are names that no module may have: `aux`, `con`.
            let module = module.parse::<ModulePath>();
            prop_assume!(module.is_ok());
            let (module, version) = (module.unwrap(), version.parse::<Version>().unwrap());
            let (m, v) = (module.escaped(), version.escaped());
            let path = match call {
                "lookup" => format!("/sumdb/sum.example.com/lookup/{m}@{v}"),
                "info" | "mod" | "zip" => format!("/{m}/@v/{v}.{call}"),
                _ => format!("/{m}/{call}"),
            };
            let request = Request::parse(&path).unwrap();
            let key = request.path();
            let (found, of_version) = subject(&key).module().unwrap();
            prop_assert_eq!(request.module().map(ModulePath::escaped), Some(found.to_owned()));
            let expected = request.version().map(Version::escaped);
            prop_assert_eq!(expected.as_deref(), of_version);
        }
    }
}
