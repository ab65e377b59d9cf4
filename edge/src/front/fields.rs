//! The fields of a request's header, as they came.
//!
//! Names (in lower case) and values lie one behind the other in one piece of memory, in their order.
//! A request for a module is asked for five of them, by name; only for a plain HTTP mount are all of
//! them made a [`HeaderMap`]. So a hit pays for two allocations and no hashing.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Names and values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    text: Vec<u8>,
    spans: Vec<Span>,
}

/// Where a field's name and value end; each begins where the one before it ends.
#[derive(Clone, Copy, Debug)]
struct Span {
    name: usize,
    value: usize,
}

impl Fields {
    /// Room for an everyday header.
    pub(crate) fn new() -> Fields {
        Fields {
            text: Vec::with_capacity(384),
            spans: Vec::with_capacity(12),
        }
    }

    /// Adds a field whose name is a token and whose value holds no control character: that was
    /// checked by whoever read it.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend(name.iter().map(u8::to_ascii_lowercase));
        let name = self.text.len();
        self.text.extend_from_slice(value);
        let value = self.text.len();
        self.spans.push(Span { name, value });
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Names and values, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut begin = 0;
        self.spans.iter().map(move |span| {
            let field = (
                &self.text[begin..span.name],
                &self.text[span.name..span.value],
            );
            begin = span.value;
            field
        })
    }

    /// All values of the field of that name.
    pub(crate) fn all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str().as_bytes();
        let of_name = move |(found, value)| (found == name).then_some(value);
        self.iter().filter_map(of_name)
    }

    /// The first value of the field of that name.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Whether a list has this token, whatever its case.
    pub(crate) fn has_token(&self, name: &HeaderName, token: &str) -> bool {
        let mut tokens = self
            .all(name)
            .flat_map(|line| line.split(|byte| *byte == b','));
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// All of them, for whoever has to look at more than a few. A field that the `http` crate doesn't
    /// take is left out; the readers of both protocols let none through.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in self.iter() {
            let field = HeaderName::from_bytes(name).ok();
            if let Some((name, value)) = field.zip(HeaderValue::from_bytes(value).ok()) {
                map.append(name, value);
            }
        }
        map
    }
}

#[cfg(test)]
impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(fields: I) -> Fields {
        let mut all = Fields::default();
        for (name, value) in fields {
            all.push(name.as_bytes(), value.as_bytes());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, HOST};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_found_by_name_whatever_its_case() {
        let fields: Fields = [("Host", "a"), ("X", ""), ("hOST", "b"), ("x", "é")]
            .into_iter()
            .collect();
        let hosts: Vec<_> = fields.all(&HOST).collect();
        assert_eq!(hosts, [b"a", b"b"]);
        assert_eq!((fields.len(), fields.get(&CONNECTION)), (4, None));
        let map = fields.to_map();
        assert_eq!(map.get_all("x").iter().count(), 2);
    }

    #[test]
    fn tokens_are_told_apart_at_commas() {
        let fields: Fields = [("connection", "x,  Close"), ("connection", "closer")]
            .into_iter()
            .collect();
        assert!(fields.has_token(&CONNECTION, "close"));
        assert!(!fields.has_token(&CONNECTION, "clos"));
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(pairs in prop::collection::vec(("[a-z-]{1,9}", "[ -~]{0,20}"), 0..20)) {
            let fields: Fields = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let out: Vec<_> = fields.iter().collect();
            let expected: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
