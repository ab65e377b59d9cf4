//! From what an answer says to its bytes, within what the transport and the asker take.

use hickory_proto::op::{self, Message, MessageType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::content::Content;
use super::{PLAIN_UDP_PAYLOAD, Transport};
use crate::query::{Draft, Question};

/// How much of an answer is written.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    /// The most bytes.
    pub(super) bytes: u16,
    /// Nothing but the question, with TC, whatever would fit.
    pub(super) empty: bool,
}

/// Encodes within a limit. Says whether the answer was cut, or nothing if not even that could be
/// written.
pub(super) fn encode(
    draft: &Draft,
    content: Content,
    edns: Option<op::Edns>,
    limit: Limit,
    out: &mut Vec<u8>,
) -> Option<bool> {
    let Limit { bytes, empty } = limit;
    let mut message = message(draft, content, edns);
    if !empty && emit(&message, bytes, out) {
        return Some(false);
    }
    // Addresses of name servers are a courtesy: leaving them out is no truncation.
    if !message.additionals.is_empty() {
        message.additionals.clear();
        if !empty && emit(&message, bytes, out) {
            return Some(false);
        }
    }
    message.answers.clear();
    message.authorities.clear();
    message.metadata.truncation = true;
    emit(&message, bytes, out).then_some(true)
}

/// The most bytes that an answer may have, `payload` being our own cap for UDP.
pub(super) fn limit(draft: &Draft, transport: Transport, payload: u16) -> u16 {
    match (transport, &draft.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_UDP_PAYLOAD,
        (Transport::Udp, Some(edns)) => edns.payload.clamp(PLAIN_UDP_PAYLOAD, payload),
    }
}

fn message(draft: &Draft, content: Content, edns: Option<op::Edns>) -> Message {
    let asked = &draft.metadata;
    let mut message = Message::new(asked.id, MessageType::Response, asked.op_code);
    message.metadata.recursion_desired = asked.recursion_desired;
    message.metadata.authoritative = content.authoritative;
    message.metadata.response_code = content.code;
    message.queries = draft.question.iter().map(question_section).collect();
    message.answers = content.answers;
    message.authorities = content.authorities;
    message.additionals = content.additionals;
    message.edns = edns;
    message
}

fn question_section(question: &Question) -> op::Query {
    let mut query = op::Query::query(question.name.clone(), question.kind);
    query.set_query_class(question.class);
    query
}

/// Encodes a message; false if it is longer than `limit` or can't be encoded.
fn emit(message: &Message, limit: u16, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut encoder = BinEncoder::new(out);
    // Without a limit of its own the encoder fails only at 64 KiB, where it cuts and sets TC
    // itself: both are told from a whole message by what it says of its length.
    let whole = message.emit(&mut encoder).is_ok();
    let cut_by_encoder = !message.metadata.truncation && out.get(2).is_some_and(|b| b & 0x02 != 0);
    whole && !cut_by_encoder && out.len() <= usize::from(limit)
}
