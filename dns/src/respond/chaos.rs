//! Class CHAOS: which of our servers answers (RFC 4892). Which version it runs is nobody's business.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use super::content::{Content, ExtendedError};
use crate::query::Question;
use crate::steer::Map;

/// Names that mean this server, lower-case; the second is what askers still type.
const NAMES: [&str; 2] = ["id.server.", "hostname.bind."];

pub(super) fn answer(question: &Question, identity: Option<&str>, map: &Map) -> Content {
    let asked = question.name.to_lowercase().to_ascii();
    match identity {
        Some(identity) if NAMES.contains(&asked.as_str()) && question.kind == RecordType::TXT => {
            let text = TXT::new(vec![super::edns::identity(identity, map)]);
            let mut record = Record::from_rdata(question.name.clone(), 0, RData::TXT(text));
            record.dns_class = DNSClass::CH;
            Content {
                authoritative: true,
                answers: vec![record],
                ..Content::error(ResponseCode::NoError)
            }
        }
        _ => Content::refused(ExtendedError::NotAuthoritative),
    }
}
