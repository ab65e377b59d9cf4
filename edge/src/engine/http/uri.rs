//! Paths and queries in their normal form (RFC 3986 §6.2.2). Pure.
//!
//! Key and upstream URL are made of the normal form alone: percent-encoded unreserved characters
//! are decoded, other escapes written in upper case, dot segments taken out, and printable ASCII
//! that a URI may not contain is escaped. What can't be brought into that form is refused, so no
//! client's raw byte gets into a key or to an origin.

use http::uri::PathAndQuery;

/// The longest path and query, in its normal form, that is taken. Servers take no less than 8,000
/// (RFC 9110 §4.1).
pub(crate) const MAX_TARGET: usize = 8 * 1024;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// It doesn't begin with a slash.
    #[error("the path doesn't begin with /")]
    NotAPath,
    /// A `%` without two hexadecimal digits.
    #[error("a % is not followed by two hexadecimal digits")]
    Escape,
    /// A byte that no URI has: a space, a control character, a `#`, or beyond ASCII.
    #[error("a character that may not be in a URL: it must be percent-encoded")]
    Character,
    /// Longer than [`MAX_TARGET`].
    #[error("the path is longer than {MAX_TARGET} bytes")]
    TooLong,
}

/// The normal form of a path with its query.
///
/// # Errors
/// Why there is none.
pub(crate) fn normal(target: &str) -> Result<PathAndQuery, TargetError> {
    if target.len() > 3 * MAX_TARGET {
        return Err(TargetError::TooLong);
    }
    if !target.starts_with('/') {
        return Err(TargetError::NotAPath);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut out = without_dots(&escaped(path, is_in_path)?);
    if let Some(query) = query {
        out.push('?');
        out.push_str(&escaped(query, is_in_query)?);
    }
    if out.len() > MAX_TARGET {
        return Err(TargetError::TooLong);
    }
    out.parse().map_err(|_| TargetError::Character)
}

/// RFC 3986 §6.2.2.1 and §6.2.2.2.
fn escaped(text: &str, is_allowed: fn(u8) -> bool) -> Result<String, TargetError> {
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
                let pair = digit(bytes.next()).zip(digit(bytes.next()));
                let (high, low) = pair.ok_or(TargetError::Escape)?;
                let meant = u8::try_from(high * 16 + low).map_err(|_| TargetError::Escape)?;
                if is_unreserved(meant) {
                    out.push(char::from(meant));
                } else {
                    escape(&mut out, meant);
                }
            }
            byte if is_allowed(byte) => out.push(char::from(byte)),
            b'#' => return Err(TargetError::Character),
            0x21..=0x7e => escape(&mut out, byte),
            _ => return Err(TargetError::Character),
        }
    }
    Ok(out)
}

fn escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_sub_delim(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

const fn is_in_path(byte: u8) -> bool {
    is_unreserved(byte) || is_sub_delim(byte) || matches!(byte, b':' | b'@' | b'/')
}

const fn is_in_query(byte: u8) -> bool {
    is_in_path(byte) || byte == b'?'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(target: &str) -> Result<String, TargetError> {
        normal(target).map(|target| target.as_str().to_owned())
    }

    #[test]
    fn equivalent_paths_have_one_form() {
        let table = [
            ("/", "/"),
            ("/a", "/a"),
            ("/%61%2D%2e%5F%7e", "/a-._~"),
            ("/%2f%3a", "/%2F%3A"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/a//b", "/a//b"),
            ("//a", "//a"),
            ("/a?x=%7e&y=%c3%bc", "/a?x=~&y=%C3%BC"),
            ("/a?b?c/../d", "/a?b?c/../d"),
            ("/a?", "/a?"),
            ("/a|b\\c", "/a%7Cb%5Cc"),
            ("/a?f[]={1}^`\"<>", "/a?f%5B%5D=%7B1%7D%5E%60%22%3C%3E"),
        ];
        for (given, expected) in table {
            assert_eq!(text(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let table = [
            ("", TargetError::NotAPath),
            ("*", TargetError::NotAPath),
            ("a", TargetError::NotAPath),
            ("/%", TargetError::Escape),
            ("/%2", TargetError::Escape),
            ("/%zz", TargetError::Escape),
            ("/a b", TargetError::Character),
            ("/a#b", TargetError::Character),
            ("/a?b#c", TargetError::Character),
            ("/\u{fc}", TargetError::Character),
            ("/\u{7f}", TargetError::Character),
            ("/\t", TargetError::Character),
        ];
        for (given, expected) in table {
            assert_eq!(text(given), Err(expected), "{given:?}");
        }
        assert_eq!(
            text(&format!("/{}", "a".repeat(MAX_TARGET))),
            Err(TargetError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn the_normal_form_is_normal(target in "/[ -~]{0,60}") {
            if let Ok(once) = text(&target) {
                prop_assert_eq!(text(&once), Ok(once.clone()));
                let path = once.split('?').next().unwrap();
                prop_assert!(!path.split('/').any(|s| s == "." || s == ".."));
                prop_assert!(!once.contains(['\\', '"', '<', '>', ' ', '#', '|']));
            }
        }
    }
}
