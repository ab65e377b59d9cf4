//! What an answer says, before it is signed, cut to the transport's size and encoded.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};

use crate::dnssec::Unsigned;
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
    /// Why it is a "no", for who looks into it.
    pub extended: Option<ExtendedError>,
}

/// Why an answer is REFUSED or SERVFAIL, told to who knows EDNS (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedError {
    /// None of our zones: whoever delegated the name here was wrong.
    NotAuthoritative,
    /// Transfers, which we don't make.
    NotSupported,
    /// Signatures would be needed that aren't there.
    Unsigned(Unsigned),
}

impl ExtendedError {
    /// Its INFO-CODE.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Unsigned(_) => 0,
            Self::NotAuthoritative => 20,
            Self::NotSupported => 21,
        }
    }

    /// Its EXTRA-TEXT; empty where the code says enough.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotAuthoritative | Self::NotSupported => "",
            Self::Unsigned(Unsigned::Rate) => "signing: rate",
            Self::Unsigned(Unsigned::Failed) => "signing: failed",
        }
    }
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

    /// REFUSED, and why.
    #[must_use]
    pub fn refused(why: ExtendedError) -> Self {
        Self {
            extended: Some(why),
            ..Self::error(ResponseCode::Refused)
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
            extended: None,
        }
    }
}
