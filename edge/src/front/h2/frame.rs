//! Frames (RFC 9113 §4, §6): their heads, kinds, flags and error codes. Pure.

/// A frame's head (§4.1).
pub(crate) const HEAD: usize = 9;

/// The most that a frame may carry unless its receiver has said otherwise, and we never do (§4.2).
pub(crate) const MAX_PAYLOAD: usize = 16_384;

/// The highest stream identifier, and the largest window (§5.1.1, §6.9.1).
pub(crate) const MAX_31: u32 = 0x7fff_ffff;

/// What a frame says, by its number (§6). Unknown kinds are ignored (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

impl Kind {
    const KNOWN: [Kind; 10] = [
        Kind::Data,
        Kind::Headers,
        Kind::Priority,
        Kind::RstStream,
        Kind::Settings,
        Kind::PushPromise,
        Kind::Ping,
        Kind::GoAway,
        Kind::WindowUpdate,
        Kind::Continuation,
    ];

    fn of(number: u8) -> Kind {
        let known = Self::KNOWN.get(usize::from(number)).copied();
        known.unwrap_or(Kind::Unknown)
    }
}

/// Flags (§6.1, §6.2, §6.5, §6.7). `ACK` and `END_STREAM` are the same bit of different kinds.
pub(crate) mod flags {
    pub(crate) const ACK: u8 = 0x01;
    pub(crate) const END_STREAM: u8 = 0x01;
    pub(crate) const END_HEADERS: u8 = 0x04;
    pub(crate) const PADDED: u8 = 0x08;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Why a stream or a connection ends (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes that follow.
    pub(crate) length: usize,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// 0 is the connection.
    pub(crate) stream: u32,
}

impl Head {
    /// Reads one; the reserved bit is ignored.
    pub(crate) fn parse(bytes: [u8; HEAD]) -> Head {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        Head {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & MAX_31,
        }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// A DATA frame without a byte of content, or none that can be told from padding, that ends
    /// nothing either.
    pub(crate) fn is_empty_data(self) -> bool {
        /// A length of the padding, and padding.
        const LONGEST_PADDING: usize = 256;
        let padded = self.has(flags::PADDED) && self.length <= LONGEST_PADDING;
        self.kind == Kind::Data && (self.length == 0 || padded) && !self.has(flags::END_STREAM)
    }
}

/// The head of a frame of ours. `length` is below 2²⁴.
pub(crate) fn head(kind: Kind, flags: u8, stream: u32, length: usize) -> [u8; HEAD] {
    let [_, a, b, c] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind as u8, flags, d, e, f, g]
}

/// A whole frame with a short payload.
pub(crate) fn short(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&head(kind, flags, stream, payload.len()));
    out.extend_from_slice(payload);
}

/// GOAWAY (§6.8): streams above `last` were not and will not be looked at.
pub(crate) fn go_away(out: &mut Vec<u8>, last: u32, code: ErrorCode) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&(code as u32).to_be_bytes());
    short(out, Kind::GoAway, 0, 0, &payload);
}

/// RST_STREAM (§6.4).
pub(crate) fn rst_stream(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    let code = (code as u32).to_be_bytes();
    short(out, Kind::RstStream, 0, stream, &code);
}

/// WINDOW_UPDATE (§6.9).
pub(crate) fn window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    short(out, Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes());
}

/// Takes the padding off (§6.1). `None`: there is more padding than frame.
pub(crate) fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flags::PADDED) {
        return Some(payload);
    }
    let (length, rest) = payload.split_first()?;
    let kept = rest.len().checked_sub(usize::from(*length))?;
    rest.get(..kept)
}

/// One parameter of SETTINGS (§6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    HeaderTableSize(u32),
    EnablePush(u32),
    InitialWindowSize(u32),
    MaxFrameSize(u32),
    /// One that doesn't concern a server that pushes nothing and sends no large headers.
    Other,
}

/// Identifiers of what we announce ourselves.
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
/// We look at no RFC 7540 priorities (RFC 9218 §2.1).
pub(crate) const NO_RFC7540_PRIORITIES: u16 = 9;

/// The parameters of a SETTINGS payload, whose length is a multiple of 6.
pub(crate) fn settings(payload: &[u8]) -> impl Iterator<Item = Setting> + '_ {
    payload.chunks_exact(6).map(|entry| {
        let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
        match u16::from_be_bytes([entry[0], entry[1]]) {
            1 => Setting::HeaderTableSize(value),
            2 => Setting::EnablePush(value),
            4 => Setting::InitialWindowSize(value),
            5 => Setting::MaxFrameSize(value),
            _ => Setting::Other,
        }
    })
}

/// A SETTINGS frame of ours.
pub(crate) fn write_settings(out: &mut Vec<u8>, parameters: &[(u16, u32)]) {
    out.extend_from_slice(&head(Kind::Settings, 0, 0, 6 * parameters.len()));
    for (id, value) in parameters {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_is_read_as_it_was_written(
            length in 0_usize..1 << 24,
            number in 0_usize..10,
            flags: u8,
            stream in 0..=MAX_31,
        ) {
            let kind = Kind::KNOWN[number];
            let read = Head::parse(head(kind, flags, stream, length));
            prop_assert_eq!(read, Head { length, kind, flags, stream });
        }

        #[test]
        fn padding_never_reaches_beyond_the_frame(flags: u8, payload: Vec<u8>) {
            let head = Head { length: payload.len(), kind: Kind::Data, flags, stream: 1 };
            if let Some(kept) = unpadded(head, &payload) {
                prop_assert!(kept.len() <= payload.len());
                let taken = usize::from(head.has(super::flags::PADDED));
                prop_assert_eq!(kept, &payload[taken..taken + kept.len()]);
            }
        }
    }

    #[test]
    fn more_padding_than_frame_is_none() {
        let padded = |payload: &[u8]| {
            let head = Head {
                length: payload.len(),
                kind: Kind::Data,
                flags: flags::PADDED,
                stream: 1,
            };
            unpadded(head, payload).map(<[u8]>::to_vec)
        };
        assert_eq!(padded(&[2, b'a', 0, 0]), Some(b"a".to_vec()));
        assert_eq!(padded(&[3, 0, 0, 0]), Some(Vec::new()));
        assert_eq!(padded(&[4, 0, 0, 0]), None);
        assert_eq!(padded(&[]), None);
    }

    #[test]
    fn settings_are_read_and_unknown_ones_passed_over() {
        let mut out = Vec::new();
        write_settings(&mut out, &[(4, 7), (0xabc, 1), (5, 20_000)]);
        let read: Vec<_> = settings(&out[HEAD..]).collect();
        let expected = [
            Setting::InitialWindowSize(7),
            Setting::Other,
            Setting::MaxFrameSize(20_000),
        ];
        assert_eq!(read, expected);
    }
}
