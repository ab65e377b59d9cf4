//! The two escapes of a request path: percent-encoding (RFC 3986 §2.1) outside, x/mod's `!` inside.
//!
//! Decoding yields printable ASCII only. Nothing here allocates unless there is something to
//! decode, and decoding never makes a text longer.

use std::borrow::Cow;

use super::GrammarError;

/// Decodes a raw path once. An encoded slash is refused: it could not be told from a real one.
pub(super) fn percent_decode(raw: &str) -> Result<Cow<'_, str>, GrammarError> {
    let Some(first) = raw.bytes().position(|b| !is_raw(b)) else {
        return Ok(Cow::Borrowed(raw));
    };
    let (plain, mut rest) = raw.as_bytes().split_at(first);
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(plain);
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else {
                    return Err(GrammarError::BadPercent);
                };
                decoded.push(printable(hex(*high)? << 4 | hex(*low)?)?);
                tail
            }
            b'?' | b'#' => return Err(GrammarError::QueryOrFragment),
            byte if is_raw(byte) => {
                decoded.push(byte);
                tail
            }
            byte => return Err(GrammarError::BadByte(byte)),
        };
    }
    let decoded = String::from_utf8(decoded).map_err(|_| GrammarError::BadPercent)?;
    Ok(Cow::Owned(decoded))
}

/// Undoes x/mod's escape of upper-case letters; strict, so that every text has one escaped form.
pub(super) fn unescape(escaped: &str) -> Result<Cow<'_, str>, GrammarError> {
    let special = |b: u8| b == b'!' || b.is_ascii_uppercase();
    let Some(first) = escaped.bytes().position(special) else {
        return Ok(Cow::Borrowed(escaped));
    };
    let mut text = String::with_capacity(escaped.len());
    text.push_str(&escaped[..first]);
    let mut chars = escaped[first..].chars();
    while let Some(c) = chars.next() {
        match c {
            '!' => match chars.next() {
                Some(letter @ 'a'..='z') => text.push(letter.to_ascii_uppercase()),
                _ => return Err(GrammarError::BadBang),
            },
            'A'..='Z' => return Err(GrammarError::UpperCase),
            c => text.push(c),
        }
    }
    Ok(Cow::Owned(text))
}

/// Appends `text` with upper-case letters as `!` + lower case.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return out.push_str(text);
    }
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(c.to_ascii_lowercase());
    }
}

/// Appends `text` `!`-escaped and then percent-encoded where RFC 3986 does not allow the character
/// in a path, with upper-case digits. `text` is ASCII.
pub(super) fn push_encoded(out: &mut String, text: &str) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    for byte in text.bytes() {
        if byte.is_ascii_uppercase() {
            out.extend(['!', char::from(byte.to_ascii_lowercase())]);
        } else if is_raw(byte) {
            out.push(char::from(byte));
        } else {
            out.extend([
                '%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]);
        }
    }
}

/// How long `text` is with its upper-case letters escaped, in bytes.
pub(super) fn escaped_len(text: &str) -> usize {
    text.len() + text.bytes().filter(u8::is_ascii_uppercase).count()
}

/// RFC 3986 `pchar` without percent-encodings, or `/`.
const fn is_raw(byte: u8) -> bool {
    RAW[byte as usize]
}

const RAW: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"-._~!$&'()*+,;=:@/";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = true;
        }
        byte += 1;
    }
    table
};

fn hex(digit: u8) -> Result<u8, GrammarError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(GrammarError::BadPercent),
    }
}

fn printable(byte: u8) -> Result<u8, GrammarError> {
    match byte {
        b'/' => Err(GrammarError::EncodedSlash),
        b' '..=b'~' => Ok(byte),
        byte => Err(GrammarError::BadByte(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_once() {
        let cases = [
            ("/plain", Ok("/plain")),
            ("/%21burnt", Ok("/!burnt")),
            ("/%2521", Ok("/%21")),
            ("/%7e%7E", Ok("/~~")),
            ("/a%20b", Ok("/a b")),
            ("/%", Err(GrammarError::BadPercent)),
            ("/%2", Err(GrammarError::BadPercent)),
            ("/%g0", Err(GrammarError::BadPercent)),
            ("/%+1", Err(GrammarError::BadPercent)),
            ("/%2f", Err(GrammarError::EncodedSlash)),
            ("/%2F", Err(GrammarError::EncodedSlash)),
            ("/%00", Err(GrammarError::BadByte(0))),
            ("/%0a", Err(GrammarError::BadByte(b'\n'))),
            ("/%7f", Err(GrammarError::BadByte(0x7f))),
            ("/%c3%a4", Err(GrammarError::BadByte(0xc3))),
            ("/ä", Err(GrammarError::BadByte(0xc3))),
            ("/a b", Err(GrammarError::BadByte(b' '))),
            ("/a\\b", Err(GrammarError::BadByte(b'\\'))),
            ("/a\"b", Err(GrammarError::BadByte(b'"'))),
            ("/a{b}", Err(GrammarError::BadByte(b'{'))),
            ("/a[b]", Err(GrammarError::BadByte(b'['))),
            ("/a\0", Err(GrammarError::BadByte(0))),
            ("/a?b", Err(GrammarError::QueryOrFragment)),
            ("/a#b", Err(GrammarError::QueryOrFragment)),
        ];
        for (raw, want) in cases {
            assert_eq!(
                percent_decode(raw).as_deref(),
                want.as_ref().copied(),
                "{raw:?}"
            );
        }
    }

    #[test]
    fn a_path_without_escapes_is_borrowed() {
        assert!(matches!(percent_decode("/a/@v/list"), Ok(Cow::Borrowed(_))));
        assert!(matches!(unescape("github.com/a"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn bangs_are_undone_strictly() {
        let cases = [
            ("!burnt!sushi", Ok("BurntSushi")),
            ("a!b", Ok("aB")),
            ("a", Ok("a")),
            ("A", Err(GrammarError::UpperCase)),
            ("!a!", Err(GrammarError::BadBang)),
            ("!", Err(GrammarError::BadBang)),
            ("!!a", Err(GrammarError::BadBang)),
            ("!A", Err(GrammarError::BadBang)),
            ("!1", Err(GrammarError::BadBang)),
            ("!-", Err(GrammarError::BadBang)),
            ("!ä", Err(GrammarError::BadBang)),
        ];
        for (escaped, want) in cases {
            assert_eq!(
                unescape(escaped).as_deref(),
                want.as_ref().copied(),
                "{escaped:?}"
            );
        }
    }

    #[test]
    fn encoding_keeps_what_rfc_3986_allows() {
        let mut out = String::new();
        push_encoded(&mut out, "aB#$%&()+,-.=@[]^_{}~ ");
        assert_eq!(out, "a!b%23$%25&()+,-.=@%5B%5D%5E_%7B%7D~%20");
    }
}
