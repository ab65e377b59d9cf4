//! `Cache-Control` of requests and responses (RFC 9111 §5.2), and the targeted field that takes a
//! response's place (RFC 9213). Pure.
//!
//! Where a field contradicts itself, the answer lives too short, never too long: a lifetime that is
//! no number, or is given twice with different values, counts as 0 (RFC 9111 §4.2.1 allows to
//! take it as stale).

use http::header::{CACHE_CONTROL, CDN_CACHE_CONTROL, PRAGMA};
use http::{HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::fields::{Fields, is_closed, members};

/// The longest delta-seconds: greater ones count as this (RFC 9111 §1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// `no-cache` and `private`: of the whole answer, or of some fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// Not said.
    #[default]
    None,
    /// Of these fields only.
    Fields(Vec<HeaderName>),
    /// Of everything.
    All,
}

impl Scope {
    fn widen(&mut self, argument: Option<&str>) {
        // None: unqualified, or qualified by what are no names, or by none.
        let names =
            argument.and_then(|names| members(names).map(|name| name.parse().ok()).collect());
        let names = names.filter(|names: &Vec<HeaderName>| !names.is_empty());
        *self = match (std::mem::take(self), names) {
            (Self::Fields(mut held), Some(names)) => {
                held.extend(names);
                Self::Fields(held)
            }
            (Self::None, Some(names)) => Self::Fields(names),
            _ => Self::All,
        };
    }
}

/// The directives of a response that a shared cache obeys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseControl {
    pub(super) no_store: bool,
    pub(super) no_cache: Scope,
    pub(super) private: Scope,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// They came in `CDN-Cache-Control`: `Expires` is of no account (RFC 9213 §2.2).
    pub(super) targeted: bool,
}

impl ResponseControl {
    /// What a response says to us: in `CDN-Cache-Control` if there is a valid one, else in
    /// `Cache-Control`.
    pub(super) fn of(response: &impl Fields) -> Self {
        targeted(response).unwrap_or_else(|| {
            let mut control = Self::default();
            each(response, &CACHE_CONTROL, |name, argument| {
                control.take(name, argument);
            });
            control
        })
    }

    fn take(&mut self, name: &str, argument: Option<&str>) {
        match name {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache.widen(argument),
            "private" => self.private.widen(argument),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "max-age" => lifetime(&mut self.max_age, argument),
            "s-maxage" => lifetime(&mut self.s_maxage, argument),
            "stale-while-revalidate" => lifetime(&mut self.stale_while_revalidate, argument),
            "stale-if-error" => lifetime(&mut self.stale_if_error, argument),
            _ => {}
        }
    }

    /// The explicit lifetime of an answer in a shared cache (RFC 9111 §4.2.1).
    pub(super) fn lifetime(&self) -> Option<u64> {
        self.s_maxage.or(self.max_age)
    }

    /// Whether the answer may never be given stale unless that is explicitly allowed elsewhere: not
    /// for a client's `max-stale`, not when the origin is gone (RFC 9111 §4.2.4, §5.2.2.10).
    pub(super) fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || self.s_maxage.is_some()
            || self.no_cache == Scope::All
    }
}

/// `CDN-Cache-Control`, if it is a structured dictionary with anything in it.
fn targeted(response: &impl Fields) -> Option<ResponseControl> {
    let lines: Vec<&[u8]> = response
        .lines(&CDN_CACHE_CONTROL)
        .map(HeaderValue::as_bytes)
        .collect();
    let dictionary = match lines.as_slice() {
        [] => return None,
        lines => Parser::parse_dictionary(&lines.join(&b", "[..])).ok()?,
    };
    (!dictionary.is_empty()).then(|| from_dictionary(&dictionary))
}

/// A member whose value is not of its directive's type is passed over (RFC 9213 §2.1).
fn from_dictionary(dictionary: &Dictionary) -> ResponseControl {
    let mut control = ResponseControl {
        targeted: true,
        ..ResponseControl::default()
    };
    for (name, member) in dictionary {
        let ListEntry::Item(item) = member else {
            continue;
        };
        match &item.bare_item {
            BareItem::Boolean(true) if !is_lifetime(name) => control.take(name, None),
            BareItem::String(names) if matches!(name.as_str(), "no-cache" | "private") => {
                control.take(name, Some(names));
            }
            BareItem::Integer(seconds) if is_lifetime(name) => {
                control.take(name, Some(&seconds.to_string()));
            }
            _ => {}
        }
    }
    control
}

fn is_lifetime(name: &str) -> bool {
    matches!(
        name,
        "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error"
    )
}

/// What a client asks of caches on the way (RFC 9111 §5.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestControl {
    pub(super) max_age: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    pub(super) max_stale: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(super) only_if_cached: bool,
}

impl RequestControl {
    /// What a request says: in `Cache-Control`, or without that in `Pragma` (RFC 9111 §5.4).
    pub(super) fn of(request: &impl Fields) -> Self {
        let mut control = Self::default();
        if !request.has(&CACHE_CONTROL) {
            each(request, &PRAGMA, |name, _| {
                control.no_cache |= name == "no-cache";
            });
            return control;
        }
        each(request, &CACHE_CONTROL, |name, argument| {
            control.take(name, argument);
        });
        control
    }

    fn take(&mut self, name: &str, argument: Option<&str>) {
        match name {
            "max-age" => lifetime(&mut self.max_age, argument),
            // A strange demand is taken as the strictest.
            "min-fresh" => self.min_fresh = Some(seconds(argument).unwrap_or(MOST_SECONDS)),
            "max-stale" if argument.is_none() => self.max_stale = Some(u64::MAX),
            "max-stale" => lifetime(&mut self.max_stale, argument),
            "stale-if-error" => lifetime(&mut self.stale_if_error, argument),
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }
}

/// Each directive of a field: its name in lower case, its argument without quotes. No restriction may
/// be overlooked because of what stands beside it: bytes beyond ASCII spoil only the directive that
/// they are in, and where a quote is never closed every comma divides.
fn each(fields: &impl Fields, field: &HeaderName, mut take: impl FnMut(&str, Option<&str>)) {
    let mut directive = |text: &str| {
        let (name, argument) = match text.split_once('=') {
            Some((name, argument)) => (name, Some(unquoted(argument.trim()))),
            None => (text, None),
        };
        take(&name.trim().to_ascii_lowercase(), argument);
    };
    for line in fields.lines(field) {
        let line = String::from_utf8_lossy(line.as_bytes());
        if is_closed(&line) {
            members(&line).for_each(&mut directive);
        } else {
            line.split(',').for_each(&mut directive);
        }
    }
}

fn unquoted(argument: &str) -> &str {
    let inner = argument
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(argument)
}

fn lifetime(held: &mut Option<u64>, argument: Option<&str>) {
    let named = seconds(argument).unwrap_or(0);
    *held = Some(if held.is_none_or(|held| held == named) {
        named
    } else {
        0
    });
}

/// Delta-seconds (RFC 9111 §1.2.2). None: it is no such number.
pub(super) fn seconds(argument: Option<&str>) -> Option<u64> {
    let digits = argument.filter(|text| !text.is_empty())?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(MOST_SECONDS).min(MOST_SECONDS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields::testing::header;
    use super::*;

    fn response(control: &str) -> ResponseControl {
        ResponseControl::of(&header(&format!("Cache-Control: {control}")))
    }

    #[test]
    fn directives_are_read_whatever_their_spelling() {
        let control = response(r#"MAX-AGE=60 ,, s-maxage="30", Public, must-Revalidate, x=1"#);
        assert_eq!((control.max_age, control.s_maxage), (Some(60), Some(30)));
        assert!(control.public && control.must_revalidate && !control.no_store);
        assert_eq!(control.lifetime(), Some(30));
    }

    #[test]
    fn several_lines_are_one_field() {
        let control =
            ResponseControl::of(&header("Cache-Control: public\nCache-Control: no-store"));
        assert!(control.public && control.no_store);
    }

    #[test]
    fn what_is_malformed_hides_no_restriction() {
        for text in [
            "x=\u{e9}, no-store",
            "x=\"a, no-store",
            "max-age=\"9, no-store, x",
        ] {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            let fields = http::HeaderMap::from_iter([(CACHE_CONTROL, value)]);
            assert!(ResponseControl::of(&fields).no_store, "{text}");
        }
        assert_eq!(response("private=\"x-a, max-age=9").private, Scope::All);
        assert!(!response("x=\"no-store, \\\"no-store\"").no_store);
    }

    /// RFC 9111 §4.2.1: invalid freshness information is stale; §1.2.2: overflow is 2^31.
    #[test]
    fn a_strange_lifetime_is_none_and_a_huge_one_is_capped() {
        let table = [
            ("max-age=abc", 0),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age=", 0),
            ("max-age", 0),
            ("max-age=10, max-age=20", 0),
            ("max-age=10, max-age=10", 10),
            ("max-age=2147483649", MOST_SECONDS),
            ("max-age=99999999999999999999999", MOST_SECONDS),
        ];
        for (text, expected) in table {
            assert_eq!(response(text).max_age, Some(expected), "{text}");
        }
    }

    /// RFC 9111 §5.2.2.4, §5.2.2.7: with field names, or without.
    #[test]
    fn no_cache_and_private_may_be_of_some_fields() {
        let name = |text: &'static str| HeaderName::from_static(text);
        let some = Scope::Fields(vec![name("set-cookie"), name("x-a")]);
        assert_eq!(response(r#"no-cache="Set-Cookie, X-A""#).no_cache, some);
        assert_eq!(
            response(r#"private="set-cookie", private="x-a""#).private,
            some
        );
        assert_eq!(response(r#"private="x-a", private"#).private, Scope::All);
        assert_eq!(response(r#"private, private="x-a""#).private, Scope::All);
        assert_eq!(response(r#"no-cache="not a name""#).no_cache, Scope::All);
        assert_eq!(response(r#"no-cache="""#).no_cache, Scope::All);
        assert_eq!(response("private=").private, Scope::All);
        assert_eq!(
            response("private = x-a").private,
            Scope::Fields(vec![name("x-a")])
        );
        assert_eq!(response("max-age=1").no_cache, Scope::None);
    }

    /// RFC 9213 §2.2: a valid, non-empty targeted field takes the place of Cache-Control.
    #[test]
    fn the_targeted_field_takes_over() {
        let of = |text: &str| ResponseControl::of(&header(text));
        let control = of("Cache-Control: no-store\nCDN-Cache-Control: max-age=60");
        assert!(control.targeted && !control.no_store);
        assert_eq!(control.lifetime(), Some(60));
        let control = of("Cache-Control: max-age=9\nCDN-Cache-Control: no-store, max-age=\"a\"");
        assert!(control.no_store && control.max_age.is_none());
        let lines = of("CDN-Cache-Control: max-age=60\nCDN-Cache-Control: must-revalidate;x=1");
        assert!(lines.must_revalidate && lines.max_age == Some(60));
        let control = of("CDN-Cache-Control: private=\"set-cookie\", no-cache=?0, max-age=-5");
        assert_eq!(control.no_cache, Scope::None);
        assert_eq!(control.max_age, Some(0));
        assert!(matches!(control.private, Scope::Fields(_)));
    }

    /// RFC 9213 §2.1: what is no structured dictionary is as if it weren't there.
    #[test]
    fn a_malformed_targeted_field_is_ignored() {
        for text in [
            "",
            "max-age=",
            "&",
            "max-age=60,",
            "Max-Age=60",
            "max-age=60 x",
        ] {
            let fields = header(&format!(
                "Cache-Control: max-age=9\nCDN-Cache-Control: {text}"
            ));
            let control = ResponseControl::of(&fields);
            assert!(!control.targeted, "{text:?}");
            assert_eq!(control.max_age, Some(9), "{text:?}");
        }
    }

    #[test]
    fn requests_ask_in_cache_control_or_else_in_pragma() {
        let of = |text: &str| RequestControl::of(&header(text));
        let asks =
            of("Cache-Control: max-age=5, min-fresh=3, max-stale=9, only-if-cached, no-store");
        assert_eq!(
            (asks.max_age, asks.min_fresh, asks.max_stale),
            (Some(5), Some(3), Some(9))
        );
        assert!(asks.only_if_cached && asks.no_store && !asks.no_cache);
        assert_eq!(of("Cache-Control: max-stale").max_stale, Some(u64::MAX));
        assert_eq!(
            of("Cache-Control: min-fresh=x").min_fresh,
            Some(MOST_SECONDS)
        );
        assert!(of("Pragma: no-cache").no_cache);
        assert!(!of("Pragma: no-cache\nCache-Control: max-age=1").no_cache);
    }

    proptest! {
        #[test]
        fn nothing_a_peer_sends_is_too_strange(text in "[ -~]{0,80}") {
            let fields = header(&format!("Cache-Control: {text}\nCDN-Cache-Control: {text}"));
            let _ = (ResponseControl::of(&fields), RequestControl::of(&fields));
        }
    }
}
