//! A query from its bytes, as far as an authoritative server needs to understand it.
//!
//! The header and the question are decoded by hickory-proto; the records behind them are only
//! walked over, and the OPT record is read raw, since what is wrong in it decides the answer.
//! Nothing here trusts a length or a count.

use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use crate::cookie::{self, Cookie};
use crate::ecs::{self, ClientSubnet};

/// The OPT record's type (RFC 6891 §6.1.1).
const OPT: u16 = 41;

/// The option that asks who answers (RFC 5001 §2.3).
pub const NSID: u16 = 3;

/// The option that asks how long a TCP connection may be idle (RFC 7828 §3.1).
pub const TCP_KEEPALIVE: u16 = 11;

/// The only EDNS version there is.
const EDNS_VERSION: u8 = 0;

/// What one datagram or TCP message turned out to be.
#[derive(Debug)]
pub enum Parsed {
    /// A response, or too short to have an id: nothing may be sent back.
    Ignored,
    /// To be answered with an error; as much as was understood is kept for that answer. NOERROR: no
    /// question, but a cookie, by which an asker learns ours (RFC 7873 §5.4).
    Rejected(Draft, ResponseCode),
    /// A well-formed question.
    Query(Draft, Question),
}

/// What an answer takes from its query, whatever comes of it.
#[derive(Debug)]
pub struct Draft {
    /// Id, opcode and flags of the query.
    pub metadata: Metadata,
    /// The question, where it could be read.
    pub question: Option<Question>,
    /// The query's EDNS, where it had any.
    pub edns: Option<Edns>,
    /// Whether a client subnet was there and wrong.
    pub bad_subnet: bool,
}

/// The one question of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, in the asker's case.
    pub name: Name,
    /// The type asked for.
    pub kind: RecordType,
    /// The class asked for.
    pub class: DNSClass,
}

/// What the OPT record of a query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP answer the asker takes, in bytes, as sent.
    pub payload: u16,
    /// The DO bit, to be copied into the answer (RFC 3225).
    pub dnssec_ok: bool,
    /// The CO bit: compact denials may have the code NXDOMAIN (RFC 9824 §5).
    pub compact_ok: bool,
    /// The client subnet, validated.
    pub subnet: Option<ClientSubnet>,
    /// The cookie, well-formed; of several the first (RFC 7873 §4).
    pub cookie: Option<Cookie>,
    /// Whether the asker wants to know who answers. What it sends with that has no meaning.
    pub nsid: bool,
    /// Whether the asker would keep a TCP connection. What it sends with that has no meaning.
    pub keepalive: bool,
}

/// Reads a query. Never panics, and takes time linear in the message.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(header) = Header::read(&mut decoder) else {
        return Parsed::Ignored;
    };
    if header.message_type == MessageType::Response {
        return Parsed::Ignored;
    }
    let mut draft = Draft {
        metadata: header.metadata,
        question: None,
        edns: None,
        bad_subnet: false,
    };
    let walked = draft.walk(&mut decoder, &header.counts);
    if header.op_code != OpCode::Query {
        return Parsed::Rejected(draft, ResponseCode::NotImp);
    }
    let has_cookie = draft.edns.is_some_and(|edns| edns.cookie.is_some());
    match (walked, draft.question.clone()) {
        (Ok(()), Some(question)) => Parsed::Query(draft, question),
        (Err(Fault(code)), _) => Parsed::Rejected(draft, code),
        (Ok(()), None) if has_cookie => Parsed::Rejected(draft, ResponseCode::NoError),
        (Ok(()), None) => Parsed::Rejected(draft, ResponseCode::FormErr),
    }
}

/// A walk that ended early, with the code to answer.
struct Fault(ResponseCode);

impl From<DecodeError> for Fault {
    fn from(_: DecodeError) -> Self {
        Self(ResponseCode::FormErr)
    }
}

const FORM_ERROR: Fault = Fault(ResponseCode::FormErr);

impl Draft {
    fn walk(&mut self, decoder: &mut BinDecoder<'_>, counts: &HeaderCounts) -> Result<(), Fault> {
        self.question = match counts.queries {
            0 => None,
            1 => Some(read_question(decoder)?),
            _ => return Err(FORM_ERROR),
        };
        for _ in 0..u32::from(counts.answers) + u32::from(counts.authorities) {
            if skip_record(decoder)?.kind == OPT {
                return Err(FORM_ERROR);
            }
        }
        let mut options = None;
        for _ in 0..counts.additionals {
            let record = skip_record(decoder)?;
            if record.kind == OPT && options.replace(self.read_opt(&record)?).is_some() {
                return Err(FORM_ERROR);
            }
        }
        // Options of another version can't be understood, so the version is judged first.
        options.map_or(Ok(()), |(version, data)| {
            if version != EDNS_VERSION {
                return Err(Fault(ResponseCode::BADVERS));
            }
            self.read_options(data)
        })
    }

    /// Keeps the fixed part; hands back the version and the options.
    fn read_opt<'a>(&mut self, record: &RawRecord<'a>) -> Result<(u8, &'a [u8]), Fault> {
        if !record.owner_is_root {
            return Err(FORM_ERROR);
        }
        let [_, version, flags, _] = record.ttl.to_be_bytes();
        self.edns = Some(Edns {
            payload: record.class,
            dnssec_ok: flags & 0x80 != 0,
            compact_ok: flags & 0x40 != 0,
            subnet: None,
            cookie: None,
            nsid: false,
            keepalive: false,
        });
        Ok((version, record.data))
    }

    /// Reads the options there is an answer to. What is unknown is passed over (RFC 6891 §6.1.2).
    fn read_options(&mut self, data: &[u8]) -> Result<(), Fault> {
        let Some(mut edns) = self.edns else {
            return Ok(());
        };
        let mut decoder = BinDecoder::new(data);
        while !decoder.is_empty() {
            let code = decoder.read_u16()?.unverified();
            let length = decoder.read_u16()?.unverified();
            let option = decoder.read_slice(usize::from(length))?.unverified();
            match code {
                ecs::OPTION_CODE => {
                    let parsed = ClientSubnet::parse(option).ok();
                    if parsed.is_none() || edns.subnet.is_some() {
                        self.bad_subnet = true;
                        return Err(FORM_ERROR);
                    }
                    edns.subnet = parsed;
                }
                cookie::OPTION_CODE if edns.cookie.is_none() => {
                    edns.cookie = Some(Cookie::parse(option).map_err(|_| FORM_ERROR)?);
                }
                NSID => edns.nsid = true,
                TCP_KEEPALIVE => edns.keepalive = true,
                _ => {}
            }
        }
        // Only now: what is wrong somewhere is not answered in part.
        self.edns = Some(edns);
        Ok(())
    }
}

fn read_question(decoder: &mut BinDecoder<'_>) -> Result<Question, Fault> {
    // The first name of a message has nothing to point at but the header.
    let start = u16::try_from(decoder.index()).map_err(|_| FORM_ERROR)?;
    if skip_name(&mut decoder.clone(start))? == Owner::Compressed {
        return Err(FORM_ERROR);
    }
    Ok(Question {
        name: Name::read(decoder)?,
        kind: RecordType::from(decoder.read_u16()?.unverified()),
        class: DNSClass::from(decoder.read_u16()?.unverified()),
    })
}

struct RawRecord<'a> {
    owner_is_root: bool,
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

fn skip_record<'a>(decoder: &mut BinDecoder<'a>) -> Result<RawRecord<'a>, Fault> {
    let owner_is_root = skip_name(decoder)? == Owner::Root;
    let kind = decoder.read_u16()?.unverified();
    let class = decoder.read_u16()?.unverified();
    let ttl = decoder.read_u32()?.unverified();
    let length = decoder.read_u16()?.unverified();
    let data = decoder.read_slice(usize::from(length))?.unverified();
    Ok(RawRecord {
        owner_is_root,
        kind,
        class,
        ttl,
        data,
    })
}

#[derive(PartialEq, Eq)]
enum Owner {
    Root,
    Plain,
    Compressed,
}

/// Steps over a name without following its pointer, so no chain of pointers costs anything.
fn skip_name(decoder: &mut BinDecoder<'_>) -> Result<Owner, Fault> {
    let mut owner = Owner::Root;
    let mut length = 1;
    loop {
        let byte = decoder.pop()?.unverified();
        match byte >> 6 {
            0b00 if byte == 0 => return Ok(owner),
            0b00 => {
                decoder.read_slice(usize::from(byte))?;
                owner = Owner::Plain;
                length += 1 + usize::from(byte);
                if length > 255 {
                    return Err(FORM_ERROR);
                }
            }
            0b11 => {
                decoder.pop()?;
                return Ok(Owner::Compressed);
            }
            _ => return Err(FORM_ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(counts: [u16; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 0x01, 0x00];
        counts.iter().for_each(|c| bytes.extend(c.to_be_bytes()));
        bytes.extend(body);
        bytes
    }

    fn opt(ttl: u32, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 41, 0x04, 0xd0];
        bytes.extend(ttl.to_be_bytes());
        bytes.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
        bytes.extend(options);
        bytes
    }

    const QUESTION: &[u8] = b"\x02Go\x04tesT\x00\x00\x01\x00\x01";

    fn code(bytes: &[u8]) -> Option<ResponseCode> {
        match parse(bytes) {
            Parsed::Ignored => None,
            Parsed::Rejected(_, code) => Some(code),
            Parsed::Query(..) => Some(ResponseCode::NoError),
        }
    }

    fn with(records: &[&[u8]]) -> Vec<u8> {
        let count = u16::try_from(records.len()).unwrap();
        message([1, 0, 0, count], &[&[QUESTION], records].concat().concat())
    }

    #[test]
    fn a_question_keeps_the_case_of_its_name() {
        let bytes = with(&[&opt(0x8000, &[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2])]);
        let Parsed::Query(draft, question) = parse(&bytes) else {
            panic!("refused");
        };
        assert_eq!(question.name.to_ascii(), "Go.tesT.");
        assert_eq!(
            (question.kind, question.class),
            (RecordType::A, DNSClass::IN)
        );
        let edns = draft.edns.unwrap();
        assert_eq!((edns.payload, edns.dnssec_ok), (1232, true));
        assert_eq!(edns.subnet.unwrap().to_string(), "192.0.2.0/24");
    }

    #[test]
    fn what_cannot_be_answered_is_ignored() {
        assert_eq!(code(b""), None);
        assert_eq!(code(&message([1, 0, 0, 0], QUESTION)[..11]), None);
        let mut response = message([1, 0, 0, 0], QUESTION);
        response[2] |= 0x80;
        assert_eq!(code(&response), None);
    }

    #[test]
    fn malformed_queries_are_format_errors() {
        let form = Some(ResponseCode::FormErr);
        assert_eq!(code(&message([0, 0, 0, 0], b"")), form);
        assert_eq!(
            code(&message([2, 0, 0, 0], &[QUESTION, QUESTION].concat())),
            form
        );
        assert_eq!(code(&message([1, 0, 0, 0], &QUESTION[..8])), form);
        assert_eq!(code(&message([1, 0, 0, 1], QUESTION)), form);
        assert_eq!(code(&message([1, 65535, 65535, 65535], QUESTION)), form);
        assert_eq!(
            code(&message([1, 0, 0, 0], b"\xc0\x0c\x00\x01\x00\x01")),
            form,
            "loop"
        );
        assert_eq!(
            code(&message([1, 0, 0, 0], b"\xc0\x00\x00\x01\x00\x01")),
            form,
            "header"
        );
        assert_eq!(
            code(&message([1, 0, 0, 0], b"\x41a\x00\x00\x01\x00\x01")),
            form,
            "label"
        );
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(4);
        let tail = b"\x00\x00\x01\x00\x01";
        assert_eq!(
            code(&message([1, 0, 0, 0], &[&long, tail.as_slice()].concat())),
            form
        );
        assert_eq!(
            code(&with(&[&opt(0, &[]), &opt(0, &[])])),
            form,
            "two OPT records"
        );
        assert_eq!(
            code(&with(&[b"\x01a\x00\x00\x29\x04\xd0\0\0\0\0\0\0"])),
            form,
            "OPT owner"
        );
        assert_eq!(code(&with(&[&opt(0, &[0, 8, 0])])), form, "cut option");
        assert_eq!(
            code(&with(&[&opt(0, &[0, 9, 0, 4, 1])])),
            form,
            "option too long"
        );
        let twice = [0, 8, 0, 4, 0, 1, 0, 0].repeat(2);
        assert_eq!(code(&with(&[&opt(0, &twice)])), form, "two client subnets");
        let early = [QUESTION, &opt(0, &[])].concat();
        assert_eq!(
            code(&message([1, 1, 0, 0], &early)),
            form,
            "OPT as an answer"
        );
    }

    #[test]
    fn unknown_options_and_other_records_are_passed_over() {
        let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        let other = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x7f\x00\x00\x01";
        assert_eq!(
            code(&with(&[other, &opt(0, &cookie)])),
            Some(ResponseCode::NoError)
        );
    }

    #[test]
    fn another_version_is_judged_before_its_options() {
        assert_eq!(
            code(&with(&[&opt(1 << 16, &[0, 8, 0])])),
            Some(ResponseCode::BADVERS)
        );
    }

    #[test]
    fn another_opcode_is_not_implemented_however_it_continues() {
        for op in 1..16 {
            let mut bytes = message([7, 0, 0, 9], b"junk");
            bytes[2] = op << 3;
            assert_eq!(code(&bytes), Some(ResponseCode::NotImp));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_change_of_a_good_query_makes_it_panic(
            at in 0usize..60, byte in any::<u8>(), cut in 0usize..60,
        ) {
            let mut bytes = with(&[&opt(0, &[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2])]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse(&bytes);
            bytes.truncate(cut);
            let _ = parse(&bytes);
        }
    }
}
