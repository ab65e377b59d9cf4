//! What holds for any bytes that a client may send as a request. Called with all kinds of them by
//! the fuzzer, and by the tests with a few.

use bytes::BytesMut;

use super::{Bounds, Framing, Head, Malformed, Scan, check};
use crate::front::chunked::{Chunked, Decoded};

const BOUNDS: Bounds = Bounds {
    bytes: 1024,
    fields: 20,
};

/// However the bytes are cut, the same header is found or refused; one that is accepted has one
/// reading; and so for a body in chunks behind it.
///
/// # Panics
/// If it doesn't hold.
pub fn request(bytes: &[u8], cut: usize) {
    // What is wrong may be told in other words: what comes first, or too much of it.
    let whole = header(bytes, bytes.len()).map_err(drop);
    assert_eq!(
        whole,
        header(bytes, cut).map_err(drop),
        "in pieces of {cut}"
    );
    let Ok(Some((found, rest))) = whole else {
        return;
    };
    assert!(found.len() <= BOUNDS.bytes);
    if let Ok(head) = check(&found, BOUNDS) {
        assert_one_reading(&found, &head);
        if head.framing == Framing::Chunked {
            let whole = chunks(&rest, rest.len()).map_err(drop);
            assert_eq!(whole, chunks(&rest, cut).map_err(drop));
        }
    }
}

/// The header's bytes, and what follows them.
type Cut = (Vec<u8>, Vec<u8>);

fn header(bytes: &[u8], cut: usize) -> Result<Option<Cut>, Malformed> {
    let (mut scan, mut read, mut taken) = (Scan::default(), BytesMut::new(), 0);
    for piece in bytes.chunks(cut.max(1)) {
        read.extend_from_slice(piece);
        taken += piece.len();
        if let Some(end) = scan.find_end(&mut read, BOUNDS)? {
            let behind = [&read[end..], &bytes[taken..]].concat();
            return Ok(Some((read[..end].to_vec(), behind)));
        }
    }
    Ok(None)
}

/// Written down anew, it says the same.
fn assert_one_reading(found: &[u8], head: &Head<'_>) {
    let lines = found.split(|&byte| byte == b'\n');
    assert!(lines.rev().skip(1).all(|line| line.ends_with(b"\r")));
    assert!(!head.method.is_empty() && !head.target.is_empty() && !head.host.is_empty());
    let (method, target, version) = (head.method, head.target, head.version.name());
    let mut anew = format!("{method} {target} {version}\r\n");
    for (name, value) in head.fields() {
        anew += &format!("{name}:{value}\r\n");
    }
    anew += "\r\n";
    let again = check(anew.as_bytes(), BOUNDS).expect("it was accepted before");
    let said = |head: &Head<'_>| (head.host.to_owned(), head.framing, head.fields().count());
    assert_eq!(said(&again), said(head));
    assert!(again.fields().eq(head.fields()));
}

/// What there is of the body, and whether that is all of it.
fn chunks(bytes: &[u8], cut: usize) -> Result<(Vec<u8>, bool), Malformed> {
    let (mut state, mut read, mut body) = (Chunked::Size, BytesMut::new(), Vec::new());
    for piece in bytes.chunks(cut.max(1)) {
        read.extend_from_slice(piece);
        loop {
            match state.decode(&mut read)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Decoded::End => return Ok((body, true)),
                Decoded::Hungry => break,
            }
        }
    }
    Ok((body, false))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const CHUNKED: &str = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX:  y \r\n\r\n\
                           5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\nGET";

    #[test]
    fn they_hold_for_a_request_cut_anywhere() {
        for cut in 1..=CHUNKED.len() {
            super::request(CHUNKED.as_bytes(), cut);
            super::request(&CHUNKED.as_bytes()[..cut], 7);
        }
    }

    proptest! {
        #[test]
        fn they_hold_for_damaged_requests(at: prop::sample::Index, byte: u8, cut in 1_usize..60) {
            let mut bytes = CHUNKED.as_bytes().to_vec();
            *at.get_mut(&mut bytes) = byte;
            super::request(&bytes, cut);
        }
    }
}
