//! Which of a resource's variants answers a request (RFC 9111 §4.1). Pure.

use http::header::{ACCEPT_ENCODING, VARY};
use http::{HeaderMap, HeaderName};
use modcdn_core::digest::Hasher;

use super::fields::{Fields, all_members, members};

/// What an answer depends on beside its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selecting {
    /// Nothing.
    Nothing,
    /// These fields of the request.
    By(Names),
    /// `*`, or what can't be read: no other request is known to match.
    Never,
}

/// Names of request fields: sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names(Vec<HeaderName>);

impl Selecting {
    /// What `Vary` says, all its lines together.
    pub(super) fn of(response: &impl Fields) -> Self {
        let Some(members) = all_members(response, &VARY) else {
            return Self::Never;
        };
        if members.is_empty() {
            return Self::Nothing;
        }
        let names: Result<Vec<HeaderName>, _> = members.into_iter().map(str::parse).collect();
        match names {
            Ok(mut names) if !names.iter().any(|name| name == "*") => {
                names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
                names.dedup();
                Self::By(Names(names))
            }
            _ => Self::Never,
        }
    }

    /// Whether an answer to one request may serve the other.
    pub(super) fn alike(&self, one: &HeaderMap, other: &HeaderMap) -> bool {
        match self {
            Self::Nothing => true,
            Self::By(names) => names.variant(one, 0) == names.variant(other, 0),
            Self::Never => false,
        }
    }
}

impl Names {
    /// The variant that a request selects: hexadecimal digits. Another generation has others.
    pub(super) fn variant(&self, request: &HeaderMap, generation: u64) -> String {
        let mut hasher = Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        put(&generation.to_le_bytes());
        for name in &self.0 {
            put(name.as_str().as_bytes());
            match normal(request, name) {
                Some(value) => {
                    put(b"=");
                    put(&value);
                }
                None => put(b""),
            }
        }
        hasher.finish().to_string()
    }
}

/// A field's value, its lines joined and the space around commas taken out. The order of
/// `Accept-Encoding`'s members means nothing: they are sorted. None: the field is absent.
fn normal(request: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    if !request.contains_key(name) {
        return None;
    }
    let Some(mut parts) = all_members(request, name) else {
        let lines: Vec<&[u8]> = request
            .lines(name)
            .map(http::HeaderValue::as_bytes)
            .collect();
        return Some(lines.join(&b","[..]));
    };
    if name != ACCEPT_ENCODING {
        return Some(parts.join(",").into_bytes());
    }
    parts.sort_unstable();
    let lower = parts.join(",").to_ascii_lowercase();
    Some(
        lower
            .bytes()
            .filter(|byte| !matches!(byte, b' ' | b'\t'))
            .collect(),
    )
}

/// `Vary` as text, for the entry that remembers it.
pub(super) fn list(names: &Names) -> String {
    names
        .0
        .iter()
        .map(HeaderName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The names in [`list`]'s text.
pub(super) fn parse(text: &str) -> Option<Names> {
    let names: Result<Vec<HeaderName>, _> = members(text).map(str::parse).collect();
    names.ok().filter(|names| !names.is_empty()).map(Names)
}

#[cfg(test)]
mod tests {
    use super::super::fields::testing::header;
    use super::*;

    fn alike(vary: &str, one: &str, other: &str) -> bool {
        Selecting::of(&header(vary)).alike(&header(one), &header(other))
    }

    /// RFC 9111 §4.1: fields match if they are the same but for whitespace and how lines are
    /// combined; a field that is absent matches only one that is absent.
    #[test]
    fn requests_match_if_the_named_fields_do() {
        let table = [
            ("", "A: 1", "A: 2", true),
            ("Vary:", "A: 1", "A: 2", true),
            ("Vary: A", "A: 1", "A: 1", true),
            ("Vary: A", "A: 1", "A: 2", false),
            ("Vary: a", "A: 1\nB: 1", "A: 1\nB: 2", true),
            ("Vary: A, B", "A: 1\nB: 1", "A: 1\nB: 2", false),
            ("Vary: A\nVary: B", "A: 1\nB: 1", "A: 1\nB: 2", false),
            ("Vary: A", "", "", true),
            ("Vary: A", "", "A:", false),
            ("Vary: A", "A: x, y", "A: x ,y", true),
            ("Vary: A", "A: x, y", "A: x\nA: y", true),
            ("Vary: A", "A: x, y", "A: y, x", false),
            ("Vary: A", "A: x", "A: X", false),
            (
                "Vary: Accept-Encoding",
                "Accept-Encoding: gzip, br",
                "Accept-Encoding: BR,gzip",
                true,
            ),
            (
                "Vary: Accept-Encoding",
                "Accept-Encoding: br",
                "Accept-Encoding: gzip",
                false,
            ),
            ("Vary: *", "", "", false),
            ("Vary: A, *", "A: 1", "A: 1", false),
            ("Vary: not a name", "A: 1", "A: 1", false),
        ];
        for (vary, one, other, expected) in table {
            assert_eq!(
                alike(vary, one, other),
                expected,
                "{vary:?} {one:?} {other:?}"
            );
        }
    }

    #[test]
    fn values_can_not_run_into_each_other() {
        assert!(!alike("Vary: A, B", "A: b\nB: c", "A: b=\nB: c"));
        assert!(!alike("Vary: A, B", "A: x", "B: x"));
    }

    #[test]
    fn a_generation_has_variants_of_its_own() {
        let Selecting::By(names) = Selecting::of(&header("Vary: B, a, b")) else {
            panic!("no names");
        };
        let request = header("A: 1");
        assert_ne!(names.variant(&request, 1), names.variant(&request, 2));
        assert_eq!(names.variant(&request, 1).len(), 64);
        assert_eq!(list(&names), "a, b");
        assert_eq!(parse(&list(&names)), Some(names));
    }
}
