//! What an answer says, before it is signed, cut to the transport's size and encoded.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};

use crate::steer::Choice;

/// What an answer says.
#[derive(Clone, Debug)]
pub struct Content {
    /// The response code.
    pub code: ResponseCode,
    /// Whether it is said with authority.
    pub authoritative: bool,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authorities: Vec<Record>,
    /// The additional section without OPT: a courtesy, left out before anything is cut.
    pub additionals: Vec<Record>,
    /// The scope for a client subnet, in bits.
    pub scope: u8,
    /// What was chosen, where the name is tailored.
    pub choice: Option<Choice>,
    /// The origin of the zone that answers; none where no zone does.
    pub zone: Option<Name>,
    /// What is denied, if anything is.
    pub denial: Option<Denial>,
}

/// What a negative answer denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The name, and everything below it.
    Name,
    /// The type, of a name that has these, ascending: none for an empty non-terminal.
    Type(Vec<RecordType>),
}

impl Content {
    /// A positive answer of a zone.
    #[must_use]
    pub fn of(zone: &Name, answers: Vec<Record>) -> Self {
        Self {
            authoritative: true,
            answers,
            zone: Some(zone.clone()),
            ..Self::error(ResponseCode::NoError)
        }
    }

    /// A bare response code, without authority.
    #[must_use]
    pub fn error(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            scope: 0,
            choice: None,
            zone: None,
            denial: None,
        }
    }
}
