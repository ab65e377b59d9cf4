//! The HTTPS record of a steered name (RFC 9460): in service mode, for the name itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::svcb::{Alpn, IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, HTTPS};
use hickory_proto::rr::{Name, RData};

/// Service mode, the one and only alternative (RFC 9460 §2.4.1).
const PRIORITY: u16 = 1;

/// What an HTTPS record says beside addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// Protocols beside HTTP/1.1 (RFC 9460 §7.1).
    pub alpn: Vec<String>,
    /// The port, if it isn't 443.
    pub port: Option<u16>,
    /// Whether the addresses answered stand in it too (`ipv4hint`, `ipv6hint`).
    pub hints: bool,
}

impl Https {
    /// The record's data, with the addresses that an A and an AAAA answer would hold. Parameters
    /// stand in ascending order of their keys and at most once (RFC 9460 §2.2).
    #[must_use]
    pub fn data(&self, v4: Vec<Ipv4Addr>, v6: Vec<Ipv6Addr>) -> RData {
        let mut params = Vec::new();
        if !self.alpn.is_empty() {
            let alpn = SvcParamValue::Alpn(Alpn(self.alpn.clone()));
            params.push((SvcParamKey::Alpn, alpn));
        }
        if let Some(port) = self.port {
            params.push((SvcParamKey::Port, SvcParamValue::Port(port)));
        }
        if self.hints && !v4.is_empty() {
            let hint = IpHint(v4.into_iter().map(A).collect());
            params.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(hint)));
        }
        if self.hints && !v6.is_empty() {
            let hint = IpHint(v6.into_iter().map(AAAA).collect());
            params.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(hint)));
        }
        RData::HTTPS(HTTPS(SVCB::new(PRIORITY, Name::root(), params)))
    }
}
