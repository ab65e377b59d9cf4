//! `<meta name="go-import" content="PREFIX VCS URL [FOLDER]">`: what a page says about repositories.
//! Pure.
//!
//! As the go command does, only what comes before `</head>` or `<body>` is looked at. A page is not
//! trusted: whatever is in it, it says something or nothing.

use super::hosts::Vcs;

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Import {
    pub(crate) prefix: String,
    pub(crate) kind: Kind,
    /// Of the repository, or of a module proxy.
    pub(crate) url: String,
    /// Where in the repository the prefix's folder is; empty for its root.
    pub(crate) folder: String,
}

/// What the tag leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A repository.
    Vcs(Vcs),
    /// A module proxy (`mod`).
    Proxy,
    /// Something with another name.
    Other(String),
}

/// Why none of a page's tags is the module's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoMatch {
    /// It has none, or none for this module.
    None,
    /// It has several.
    Several,
}

/// All tags of a page: proxies first, and no repository whose prefix a proxy has too.
pub(crate) fn imports(page: &str) -> Vec<Import> {
    let tags = Tags { rest: page };
    let all: Vec<Import> = tags.filter_map(|tag| import(&tag)).collect();
    let is_proxy = |import: &&Import| import.kind == Kind::Proxy;
    let proxies: Vec<Import> = all.iter().filter(is_proxy).cloned().collect();
    let others = all.into_iter().filter(|import| {
        import.kind != Kind::Proxy && proxies.iter().all(|p| p.prefix != import.prefix)
    });
    proxies.iter().cloned().chain(others).collect()
}

/// The tag of those that `imports` gave whose prefix the module lies under.
pub(crate) fn matching<'a>(imports: &'a [Import], module: &str) -> Result<&'a Import, NoMatch> {
    let mut fits = imports
        .iter()
        .filter(|import| is_under(module, &import.prefix));
    let first = fits.next().ok_or(NoMatch::None)?;
    match fits.next() {
        Some(second) if first.kind != Kind::Proxy || second.kind == Kind::Proxy => {
            Err(NoMatch::Several)
        }
        _ => Ok(first),
    }
}

/// Whether a path is a prefix, or lies under it.
pub(crate) fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

fn import(tag: &Tag<'_>) -> Option<Import> {
    if !tag.name.eq_ignore_ascii_case("meta") || tag.attribute("name")? != "go-import" {
        return None;
    }
    let content = tag.attribute("content")?;
    let fields: Vec<&str> = content.split_whitespace().collect();
    let (prefix, kind, url, folder) = match fields[..] {
        [prefix, kind, url] => (prefix, kind, url, ""),
        [prefix, kind, url, folder] => (prefix, kind, url, folder),
        _ => return None,
    };
    let kind = match (kind, Vcs::of(kind)) {
        ("mod", _) => Kind::Proxy,
        (_, Some(vcs)) => Kind::Vcs(vcs),
        _ => Kind::Other(kind.to_owned()),
    };
    Some(Import {
        prefix: prefix.to_owned(),
        kind,
        url: url.to_owned(),
        folder: folder.to_owned(),
    })
}

/// A start tag.
struct Tag<'a> {
    name: &'a str,
    attributes: &'a str,
}

/// The start tags of a page, up to the end of its head.
struct Tags<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            let (_, after) = self.rest.split_once('<')?;
            self.rest = after;
            if let Some(end) = skipped(after) {
                self.rest = after.split_once(end)?.1;
                continue;
            }
            let (closes, after) = match after.strip_prefix('/') {
                Some(after) => (true, after),
                None => (false, after),
            };
            let len = after.find(|c: char| !is_name(c)).unwrap_or(after.len());
            let (name, after) = after.split_at(len);
            let name = name.rsplit(':').next().unwrap_or(name);
            let ends = if closes { "head" } else { "body" };
            if name.eq_ignore_ascii_case(ends) {
                return None;
            }
            let end = tag_end(after);
            let attributes = &after[..end];
            self.rest = &after[end..];
            if !closes && !name.is_empty() {
                return Some(Tag { name, attributes });
            }
        }
    }
}

impl Tag<'_> {
    /// The value of an attribute, if it is there.
    fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes;
        loop {
            rest = rest.trim_start_matches(|c: char| !is_name(c));
            if rest.is_empty() {
                return None;
            }
            let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
            let name = name.rsplit(':').next().unwrap_or(name);
            let (value, after) = match after.trim_start().strip_prefix('=') {
                Some(after) => value(after.trim_start()),
                None => (name, after),
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(decoded(value));
            }
            rest = after;
        }
    }
}

/// What ends the comment, declaration or instruction that begins so.
fn skipped(after: &str) -> Option<&'static str> {
    if after.starts_with("!--") {
        Some("-->")
    } else if after.starts_with("![CDATA[") {
        Some("]]>")
    } else if after.starts_with('!') {
        Some(">")
    } else if after.starts_with('?') {
        Some("?>")
    } else {
        None
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

/// Where a tag ends, quotes heeded.
fn tag_end(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// A value, quoted or not, and what comes after it.
fn value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.split_once(quote).unwrap_or((inner, ""));
        }
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    text.split_at(end)
}

/// Character references undone, where they are known.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let known = after
            .split_once(';')
            .and_then(|(name, behind)| Some((reference(name)?, behind)));
        match known {
            Some((c, behind)) => {
                out.push(c);
                rest = behind;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod invariants {
    use super::*;

    /// Any page can be read; what it says are words, and the tag that is taken fits.
    ///
    /// # Panics
    /// If that isn't so.
    pub fn page(page: &str) {
        let all = imports(page);
        for import in &all {
            let Import {
                prefix,
                url,
                folder,
                ..
            } = import;
            assert!(!prefix.is_empty() && !url.is_empty());
            for word in [prefix, url, folder] {
                assert!(!word.contains(char::is_whitespace));
            }
        }
        if let Ok(import) = matching(&all, "a.example/x/y") {
            assert!(is_under("a.example/x/y", &import.prefix));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(page: &str) -> Vec<(String, String)> {
        let all = imports(page).into_iter();
        all.map(|import| (import.prefix, import.url)).collect()
    }

    const TAG: &str = r#"<meta name="go-import" content="a.example/x git https://git.example/x">"#;

    #[test]
    fn tags_are_read_in_every_spelling() {
        for page in [
            TAG,
            &format!("<!DOCTYPE html><html><head>{TAG}</head></html>"),
            "<META CONTENT='a.example/x git https://git.example/x' NAME=go-import />",
            "<meta name = \"go-import\"\n content = \"\n a.example/x\tgit  https://git.example/x \">",
            "<meta name=\"go-import\" content=\"a.example/x git https:&#47;&#x2F;git.example/x\">",
            &format!("<script>if (a < b) {{ c = '<' }}</script><title>x</title>{TAG}<body>"),
            &format!("<!-- {TAG}{TAG} -->{TAG}"),
            &format!("<?xml version=\"1.0\"?>{TAG}</head>{TAG}{TAG}"),
            "<html:meta name=\"go-import\" content=\"a.example/x git https://git.example/x\"/>",
        ] {
            let expected = [("a.example/x".to_owned(), "https://git.example/x".to_owned())];
            assert_eq!(found(page), expected, "{page}");
        }
    }

    #[test]
    fn what_is_no_tag_says_nothing() {
        for page in [
            "",
            &format!("<html><body>{TAG}</body></html>"),
            &format!("<head></head>{TAG}"),
            &format!("<!-- {TAG}"),
            &TAG.replace("go-import", "Go-Import"),
            &TAG.replace("go-import", "go-source"),
            "<meta name=\"go-import\" content=\"a.example/x git\">",
            "<meta name=\"go-import\" content=\"a b c d e\">",
            "<meta name=\"go-import\">",
            "<",
            "<meta",
            "plain text",
        ] {
            assert_eq!(found(page), [], "{page}");
        }
    }

    fn import(prefix: &str, kind: Kind) -> Import {
        Import {
            prefix: prefix.to_owned(),
            kind,
            url: "https://git.example/x".to_owned(),
            folder: String::new(),
        }
    }

    #[test]
    fn a_fourth_field_is_a_folder() {
        let page = TAG.replace("example/x\"", "example/x sub/dir\"");
        assert_eq!(imports(&page)[0].folder, "sub/dir");
    }

    #[test]
    fn proxies_come_first_and_hide_repositories_of_their_prefix() {
        let page = format!(
            "{TAG}{}{}",
            TAG.replace(" git ", " mod "),
            TAG.replace("/x git", " git")
        );
        let kinds: Vec<(String, Kind)> = imports(&page)
            .into_iter()
            .map(|import| (import.prefix, import.kind))
            .collect();
        let git = Kind::Vcs(Vcs::Git);
        let expected = [("a.example/x", Kind::Proxy), ("a.example", git)];
        assert_eq!(
            kinds,
            expected.map(|(prefix, kind)| (prefix.to_owned(), kind))
        );
    }

    #[test]
    fn one_tag_must_be_the_modules() {
        let git = || Kind::Vcs(Vcs::Git);
        let (x, y) = (import("a.example/x", git()), import("a.example/y", git()));
        let (above, proxy) = (import("a.example", git()), import("a.example", Kind::Proxy));
        let module = "a.example/x/sub";
        assert_eq!(matching(&[y.clone(), x.clone()], module), Ok(&x));
        assert_eq!(
            matching(std::slice::from_ref(&y), module),
            Err(NoMatch::None)
        );
        assert_eq!(matching(&[], module), Err(NoMatch::None));
        assert_eq!(matching(&[x.clone(), above], module), Err(NoMatch::Several));
        assert_eq!(matching(&[proxy.clone(), x], module), Ok(&proxy));
        assert_eq!(matching(&[y], "a.example/yy"), Err(NoMatch::None));
    }

    proptest! {
        #[test]
        fn any_page_can_be_read(text in "(<|>|/|!--|-->|meta|name|content|go-import|=|\"|'|&|#x|;| |\\PC){0,60}") {
            invariants::page(&text);
        }
    }
}
