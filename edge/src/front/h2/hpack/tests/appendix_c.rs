//! The examples of RFC 7541 Appendix C, all of them but C.1, whose integers are tested where they are
//! made. Blocks of one example come by one connection.

use super::super::Decoder;
use super::decode;

type Fields<'a> = &'a [(&'a str, &'a str)];

/// A block in hexadecimal, the fields it stands for, and the dynamic table then: its entries, the
/// newest first, and its size.
type Block<'a> = (&'a str, Fields<'a>, (Fields<'a>, usize));

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn assert_decodes(mut decoder: Decoder, blocks: &[Block<'_>]) {
    let as_bytes = |fields: Fields<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect()
    };
    for (hex, fields, (entries, size)) in blocks {
        let decoded = decode(&mut decoder, &bytes(hex)).unwrap();
        assert_eq!(decoded, as_bytes(fields), "{hex}");
        let (found, found_size) = decoder.dynamic();
        let found: Vec<_> = found
            .into_iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        assert_eq!((found, found_size), (as_bytes(entries), *size), "{hex}");
        decoder.assert_bounded();
    }
}

/// Of a client that uses 256 bytes of the table, as the responses' examples have it.
fn small() -> Decoder {
    let mut decoder = Decoder::new(4096);
    assert_eq!(decode(&mut decoder, b"\x3f\xe1\x01").unwrap(), []);
    decoder
}

#[test]
fn c_2_header_field_representations() {
    let added = [("custom-key", "custom-header")];
    for (hex, field, table) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            added[0],
            (&added[..], 55),
        ),
        (
            "040c 2f73 616d 706c 652f 7061 7468",
            (":path", "/sample/path"),
            (&[], 0),
        ),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            ("password", "secret"),
            (&[], 0),
        ),
        ("82", (":method", "GET"), (&[], 0)),
    ] {
        assert_decodes(Decoder::new(4096), &[(hex, &[field], table)]);
    }
}

const AUTHORITY: (&str, &str) = (":authority", "www.example.com");
const NO_CACHE: (&str, &str) = ("cache-control", "no-cache");
const CUSTOM: (&str, &str) = ("custom-key", "custom-value");

fn requests(hex: [&str; 3]) {
    let get = (":method", "GET");
    let (http, https) = ((":scheme", "http"), (":scheme", "https"));
    let (root, index) = ((":path", "/"), (":path", "/index.html"));
    let blocks: [Block<'_>; 3] = [
        (hex[0], &[get, http, root, AUTHORITY], (&[AUTHORITY], 57)),
        (
            hex[1],
            &[get, http, root, AUTHORITY, NO_CACHE],
            (&[NO_CACHE, AUTHORITY], 110),
        ),
        (
            hex[2],
            &[get, https, index, AUTHORITY, CUSTOM],
            (&[CUSTOM, NO_CACHE, AUTHORITY], 164),
        ),
    ];
    assert_decodes(Decoder::new(4096), &blocks);
}

#[test]
fn c_3_requests_without_huffman_coding() {
    requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn c_4_requests_with_huffman_coding() {
    requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

fn responses(hex: [&str; 3]) {
    let status = |code| (":status", code);
    let (found, moved) = (status("302"), status("307"));
    let private = ("cache-control", "private");
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let location = ("location", "https://www.example.com");
    let gzip = ("content-encoding", "gzip");
    let cookie = (
        "set-cookie",
        "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    );
    let blocks: [Block<'_>; 3] = [
        (
            hex[0],
            &[found, private, date, location],
            (&[location, date, private, found], 222),
        ),
        (
            hex[1],
            &[moved, private, date, location],
            (&[moved, location, date, private], 222),
        ),
        (
            hex[2],
            &[status("200"), private, later, location, gzip, cookie],
            (&[cookie, gzip, later], 215),
        ),
    ];
    assert_decodes(small(), &blocks);
}

#[test]
fn c_5_responses_without_huffman_coding() {
    responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
         6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
         5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
         3d31",
    ]);
}

#[test]
fn c_6_responses_with_huffman_coding() {
    responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}
