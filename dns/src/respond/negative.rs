//! "No such name" and "no such record" (RFC 2308): the SOA record says how long to believe it.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};

use super::content::{Content, Denial};
use crate::zone::{Node, Zone};

/// The name, and everything below it, doesn't exist (RFC 8020).
pub(super) fn no_name(zone: &Zone, asked: &Name) -> Content {
    negative(zone, asked, ResponseCode::NXDomain, Denial::Name)
}

/// The name has no record of the type; without a node it has none at all.
pub(super) fn no_data(zone: &Zone, node: Option<&Node>, asked: &Name, kind: RecordType) -> Content {
    let mut types = node.map_or_else(Vec::new, |node| zone.types(node));
    // A tailored name may have for others what it hasn't for this asker.
    types.retain(|other| *other != kind);
    negative(zone, asked, ResponseCode::NoError, Denial::Type(types))
}

fn negative(zone: &Zone, asked: &Name, code: ResponseCode, denial: Denial) -> Content {
    Content {
        code,
        authorities: vec![zone.soa(asked, true)],
        denial: Some(denial),
        ..Content::of(zone.origin(), Vec::new())
    }
}
