//! From the bytes of a query to the bytes of its answer: a function of both, a [`Map`] and the time,
//! which are handed in; only the limits of [`crate::rates`] remember anything.
//!
//! Failure rules: what isn't a query gets nothing; what can't be understood gets FORMERR; other
//! opcodes NOTIMP; names outside the zones, transfers and other classes REFUSED. An answer is never
//! longer than the transport allows: over UDP that is the least of our cap and what the asker takes
//! (512 bytes without EDNS); what doesn't fit is left out whole and TC is set, so the asker comes
//! back over TCP. An answer carries OPT if and only if the query did, and a client subnet if and
//! only if the query carried a valid one.

pub mod content;

mod chaos;
mod edns;
mod encode;
mod negative;
mod zones;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::DNSClass;

use self::content::Content;
use crate::config::Tcp;
use crate::cookie::{Jar, Standing};
use crate::dnssec::{Signing, Wanted};
use crate::ecs;
use crate::query::{Draft, Parsed, Question, parse};
use crate::rates::{Class, Rates, Verdict};
use crate::steer::{Choice, Client, Map};
use crate::zone::Zones;

/// The largest UDP answer to an asker without EDNS (RFC 1035 §4.2.1).
pub const PLAIN_UDP_PAYLOAD: u16 = 512;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram: the answer is capped.
    Udp,
    /// A message on a TCP connection.
    Tcp,
}

impl Transport {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A moment, on the clock that never jumps and on the wall's.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For rates.
    pub instant: Instant,
    /// Seconds since 1970, modulo 2³²: for cookies, whose times are compared as serial numbers.
    pub unix: u32,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            instant: Instant::now(),
            unix: since_1970.map_or(0, |since| since.as_secs() as u32),
        }
    }
}

/// What is known of a query besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Who sent it.
    pub peer: IpAddr,
    /// How.
    pub transport: Transport,
    /// When it came.
    pub at: Moment,
}

/// What became of an answer over the rate of its asker's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// It wasn't sent.
    Dropped,
    /// An empty one with TC was sent.
    Truncated,
    /// BADCOOKIE was sent, with a cookie.
    BadCookie,
}

impl Limited {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dropped, Self::Truncated, Self::BadCookie];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Truncated => "truncated",
            Self::BadCookie => "badcookie",
        }
    }
}

/// What came of the client subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubnetUse {
    /// None was sent.
    Absent,
    /// A valid one with an address.
    Given,
    /// A valid one that asks to be left out of account (source 0).
    Declined,
    /// A malformed one.
    Invalid,
}

impl SubnetUse {
    /// What can come of a client subnet in a query that is well-formed.
    pub const COUNTED: [Self; 3] = [Self::Absent, Self::Given, Self::Declined];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Given => "given",
            Self::Declined => "declined",
            Self::Invalid => "invalid",
        }
    }
}

/// What an answer was, for logs and metrics.
#[derive(Debug)]
pub struct Note {
    /// The question, where it could be read.
    pub question: Option<Question>,
    /// The response code.
    pub code: ResponseCode,
    /// What came of the client subnet.
    pub subnet_use: SubnetUse,
    /// The client subnet with its prefix length, where a valid one came.
    pub subnet: Option<ecs::ClientSubnet>,
    /// The PoPs chosen, where the name is tailored.
    pub choice: Option<Choice>,
    /// What the asker's cookie was worth.
    pub cookie: Standing,
    /// Whether the answer had to be cut.
    pub truncated: bool,
    /// What rate limiting made of it, if anything.
    pub limited: Option<Limited>,
}

/// What a responder is beside its zones.
#[derive(Debug)]
pub struct Settings {
    /// The most bytes of a UDP answer.
    pub payload: u16,
    /// Who answers, for who asks for it (NSID, `id.server`); none: nobody is told.
    pub identity: Option<String>,
    /// Limits of TCP connections; how long one may be idle is told to who asks.
    pub tcp: Tcp,
    /// Makes and judges cookies; none: they are passed over.
    pub cookies: Option<Jar>,
    /// How many answers a network gets; none: any number.
    pub rates: Option<Arc<Rates>>,
    /// Signs the zones that have keys; none: no zone has.
    pub signing: Option<Arc<Signing>>,
}

impl Settings {
    /// Nothing but an answer's size.
    #[must_use]
    pub fn plain(payload: u16) -> Self {
        Self {
            payload,
            identity: None,
            tcp: Tcp::default(),
            cookies: None,
            rates: None,
            signing: None,
        }
    }
}

/// Answers queries for some zones. It never changes: other zones have another one.
#[derive(Clone, Debug)]
pub struct Responder {
    zones: Arc<Zones>,
    settings: Arc<Settings>,
}

impl Responder {
    /// A responder for these zones.
    #[must_use]
    pub fn new(zones: Arc<Zones>, mut settings: Settings) -> Self {
        settings.payload = settings.payload.max(PLAIN_UDP_PAYLOAD);
        Self {
            zones,
            settings: Arc::new(settings),
        }
    }

    /// The same server for other zones.
    #[must_use]
    pub fn with_zones(&self, zones: Arc<Zones>) -> Self {
        Self {
            zones,
            settings: self.settings.clone(),
        }
    }

    /// The zones.
    #[must_use]
    pub fn zones(&self) -> &Arc<Zones> {
        &self.zones
    }

    /// What the server is beside its zones.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The largest UDP answer in bytes.
    #[must_use]
    pub fn payload(&self) -> u16 {
        self.settings.payload
    }

    /// Whether a plain answer (no cookie, NOERROR) may be sent without asking [`Self::respond`]: over
    /// TCP, or if the asker's network is within its rate, of which it then takes its share.
    #[must_use]
    pub fn admits(&self, ask: &Ask) -> bool {
        let within = |rates: &Arc<Rates>| rates.admit(ask.peer, Class::Answer, ask.at.instant);
        ask.transport == Transport::Tcp || self.settings.rates.as_ref().is_none_or(within)
    }

    /// Answers one message into `out`, which is overwritten. `None`: it is no query. Nothing may be
    /// sent then, nor if `out` is left empty because the asker's network had its share.
    #[must_use]
    pub fn respond(&self, bytes: &[u8], ask: &Ask, map: &Map, out: &mut Vec<u8>) -> Option<Note> {
        out.clear();
        let (draft, content) = match parse(bytes) {
            Parsed::Ignored => return None,
            Parsed::Rejected(draft, code) => (draft, Content::error(code)),
            Parsed::Query(draft, question) => {
                let content = self.content(&draft, &question, ask, map);
                (draft, content)
            }
        };
        let cookie = self.standing(&draft, ask);
        let limited = self.limit(cookie, content.code, ask);
        let content = match limited {
            Some(Limited::BadCookie) => Content::error(ResponseCode::BADCOOKIE),
            // What isn't sent isn't signed either.
            Some(_) => content,
            None => self.signed(&draft, content, ask),
        };
        let mut note = Note {
            code: content.code,
            subnet_use: subnet_use(&draft),
            subnet: draft.edns.and_then(|edns| edns.subnet),
            choice: content.choice,
            cookie,
            truncated: false,
            limited,
            question: None,
        };
        if limited != Some(Limited::Dropped) {
            let edns = draft.edns.as_ref();
            let edns = edns.map(|asked| self.settings.opt(asked, &content, ask, map));
            let limit = encode::Limit {
                bytes: encode::limit(&draft, ask.transport, self.settings.payload),
                empty: limited == Some(Limited::Truncated),
            };
            note.truncated = encode::encode(&draft, content, edns, limit, out)?;
        }
        note.question = draft.question;
        Some(note)
    }

    fn content(&self, draft: &Draft, question: &Question, ask: &Ask, map: &Map) -> Content {
        if question.class == DNSClass::CH {
            return chaos::answer(question, self.settings.identity.as_deref(), map);
        }
        let client = Client {
            subnet: draft.edns.and_then(|edns| edns.subnet?.client()),
            resolver: ask.peer.to_canonical(),
        };
        zones::answer(&self.zones, question, &client, map, ask.at.instant)
    }

    fn signed(&self, draft: &Draft, mut content: Content, ask: &Ask) -> Content {
        if let (Some(signing), Some(question)) = (&self.settings.signing, &draft.question) {
            let wanted = draft.edns.map_or_else(Wanted::default, |edns| Wanted {
                dnssec_ok: edns.dnssec_ok,
                compact_ok: edns.compact_ok,
            });
            signing.attach(&mut content, question, wanted, ask.at.unix);
        }
        content
    }

    fn standing(&self, draft: &Draft, ask: &Ask) -> Standing {
        let cookie = draft.edns.and_then(|edns| edns.cookie);
        match (&self.settings.cookies, cookie) {
            (Some(jar), Some(cookie)) => jar.judge(&cookie, ask.peer, ask.at.unix),
            _ => Standing::Absent,
        }
    }

    fn limit(&self, cookie: Standing, code: ResponseCode, ask: &Ask) -> Option<Limited> {
        let rates = self.settings.rates.as_ref()?;
        if ask.transport == Transport::Tcp || cookie == Standing::Valid {
            return None;
        }
        let class = match code {
            ResponseCode::NoError => Class::Answer,
            _ => Class::Error,
        };
        match rates.judge(ask.peer, class, ask.at.instant) {
            Verdict::Pass => None,
            Verdict::Drop => Some(Limited::Dropped),
            Verdict::Slip if cookie == Standing::Absent => Some(Limited::Truncated),
            Verdict::Slip => Some(Limited::BadCookie),
        }
    }
}

fn subnet_use(draft: &Draft) -> SubnetUse {
    match draft.edns.and_then(|edns| edns.subnet) {
        _ if draft.bad_subnet => SubnetUse::Invalid,
        None => SubnetUse::Absent,
        Some(subnet) if subnet.client().is_none() => SubnetUse::Declined,
        Some(_) => SubnetUse::Given,
    }
}

#[cfg(test)]
mod tests;
