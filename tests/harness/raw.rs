//! Bytes in, bytes out: requests that no HTTP library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What came back for some bytes.
#[derive(Debug)]
pub struct RawReply {
    /// Everything received.
    pub bytes: Vec<u8>,
    /// Whether the server closed the connection, and not our patience.
    pub closed: bool,
}

impl RawReply {
    /// The status of the first answer; `None` for a close without a word.
    pub fn status(&self) -> Option<u16> {
        let rest = self.bytes.strip_prefix(b"HTTP/1.1 ")?;
        std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
    }

    /// How many answers came on this connection.
    pub fn answers(&self) -> usize {
        self.bytes
            .windows(9)
            .filter(|window| window == b"HTTP/1.1 ")
            .count()
    }
}

/// Sends `bytes` and keeps the sending half open: whether the server closes is its own decision.
pub fn exchange(address: &str, bytes: &[u8], wait: Duration) -> RawReply {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    read_all(&mut stream, wait)
}

/// Sends `first`, then `drop` again and again in small intervals until the server closes or `wait`
/// is over.
pub fn drip(address: &str, first: &[u8], drop: &[u8], wait: Duration) -> RawReply {
    let mut stream = connect(address);
    let mut writer = stream.try_clone().expect("a second handle");
    let _ = stream.write_all(first);
    let drop = drop.to_vec();
    let dripping = std::thread::spawn(move || {
        let until = Instant::now() + wait;
        while Instant::now() < until && writer.write_all(&drop).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let reply = read_all(&mut stream, wait);
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let _ = dripping.join();
    reply
}

fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
}

fn read_all(stream: &mut TcpStream, wait: Duration) -> RawReply {
    read_until(stream, wait, |_| false)
}

fn read_until(stream: &mut TcpStream, wait: Duration, enough: impl Fn(&[u8]) -> bool) -> RawReply {
    stream.set_read_timeout(Some(wait)).expect("a read timeout");
    let mut bytes = Vec::new();
    let mut buffer = [0; 16384];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                break !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        }
        if enough(&bytes) {
            break false;
        }
    };
    RawReply { bytes, closed }
}

/// HTTP/2 by hand (RFC 9113).
pub mod h2 {
    use super::{RawReply, connect, read_until};
    use std::io::Write;
    use std::time::Duration;

    /// Frame types (RFC 9113, section 6).
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PRIORITY.
    pub const PRIORITY: u8 = 2;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
    /// The flag END_STREAM.
    pub const END_STREAM: u8 = 1;
    /// The flag END_HEADERS.
    pub const END_HEADERS: u8 = 4;

    /// One frame.
    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len())
            .expect("a small frame")
            .to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A header block of literals without indexing (RFC 7541, section 6.2.2).
    pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in headers {
            block.push(0);
            for text in [name, value] {
                length(&mut block, text.len());
                block.extend(text.as_bytes());
            }
        }
        block
    }

    /// The client's preface and empty SETTINGS.
    pub fn preface() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes
    }

    /// A GET on `stream`.
    pub fn get(stream: u32, authority: &str, path: &str) -> Vec<u8> {
        let block = block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
        ]);
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
    }

    /// Sends the preface and `frames`, then reads until the server closes, says nothing for
    /// `wait`, or has sent frames that are `enough`.
    pub fn exchange(
        address: &str,
        frames: &[u8],
        wait: Duration,
        enough: impl Fn(&Frames) -> bool,
    ) -> Frames {
        let mut stream = connect(address);
        let _ = stream.write_all(&preface());
        let _ = stream.write_all(frames);
        let sent = |bytes: &[u8]| {
            Frames(RawReply {
                bytes: bytes.to_vec(),
                closed: false,
            })
        };
        Frames(read_until(&mut stream, wait, |bytes| enough(&sent(bytes))))
    }

    /// What the server sent.
    pub struct Frames(pub RawReply);

    impl Frames {
        /// The (type, flags, stream) of each frame.
        pub fn kinds(&self) -> Vec<(u8, u8, u32)> {
            self.frames()
                .into_iter()
                .map(|(kind, flags, stream, _)| (kind, flags, stream))
                .collect()
        }

        /// Whether there is a frame of this type, on any stream.
        pub fn has(&self, kind: u8) -> bool {
            self.kinds().iter().any(|(found, ..)| *found == kind)
        }

        /// Whether the server gave the connection up.
        pub fn gave_up(&self) -> bool {
            self.0.closed || self.has(GOAWAY)
        }

        /// Whether some stream has ended, well or by a reset.
        pub fn has_ended_a_stream(&self) -> bool {
            let ends = |(kind, flags, _): &(u8, u8, u32)| {
                *kind == RST_STREAM
                    || (*kind == DATA || *kind == HEADERS) && flags & END_STREAM != 0
            };
            self.gave_up() || self.kinds().iter().any(ends)
        }

        /// Whether some answer is a 200: the eighth entry of HPACK's static table, behind what may
        /// resize the dynamic one.
        pub fn has_a_200(&self) -> bool {
            let frames = self.frames();
            let first = |payload: &[u8]| payload.iter().find(|&&byte| byte >> 5 != 1).copied();
            frames
                .iter()
                .any(|(kind, _, _, payload)| *kind == HEADERS && first(payload) == Some(0x88))
        }

        fn frames(&self) -> Vec<(u8, u8, u32, &[u8])> {
            let mut frames = Vec::new();
            let mut rest = self.0.bytes.as_slice();
            while let Some((head, tail)) = rest.split_first_chunk::<9>() {
                let [a, b, c, kind, flags, s0, s1, s2, s3] = *head;
                let len = u32::from_be_bytes([0, a, b, c]) as usize;
                let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
                frames.push((kind, flags, stream, &tail[..len.min(tail.len())]));
                rest = tail.get(len..).unwrap_or_default();
            }
            frames
        }
    }

    /// A string's length with a 7-bit prefix (RFC 7541, section 5.1), not Huffman-coded.
    fn length(block: &mut Vec<u8>, len: usize) {
        let Ok(short @ 0..127) = u8::try_from(len) else {
            block.push(127);
            let mut rest = len - 127;
            while rest >= 128 {
                block.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or_default());
                rest >>= 7;
            }
            block.push(u8::try_from(rest).unwrap_or_default());
            return;
        };
        block.push(short);
    }
}
