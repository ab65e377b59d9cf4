//! The OPT record of an answer: there if and only if the query had one (RFC 6891 §7).

use hickory_proto::op;
use hickory_proto::rr::rdata::opt::EdnsOption;

use super::content::Content;
use super::{Ask, Settings, Transport};
use crate::query::{self, Edns};
use crate::steer::Map;
use crate::{cookie, ecs};

/// The option that says why (RFC 8914 §2).
const EXTENDED_ERROR: u16 = 15;

/// The CO bit among the flags (RFC 9824 §5.1).
const COMPACT_OK: u16 = 0x4000;

impl Settings {
    /// Says what we take over UDP, keeps the DO and CO bits, answers each option that was understood, and
    /// says why a "no" is one. The client subnet comes last, with the scope for which the answer holds.
    pub(super) fn opt(&self, asked: &Edns, told: &Content, ask: &Ask, map: &Map) -> op::Edns {
        let mut edns = op::Edns::new();
        edns.set_max_payload(self.payload)
            .set_dnssec_ok(asked.dnssec_ok);
        if asked.compact_ok {
            edns.flags_mut().z = COMPACT_OK;
        }
        let mut put = |code: u16, data: Vec<u8>| {
            edns.options_mut().insert(EdnsOption::Unknown(code, data));
        };
        if let (true, Some(identity)) = (asked.nsid, &self.identity) {
            put(query::NSID, self::identity(identity, map).into_bytes());
        }
        if let (Some(cookie), Some(jar)) = (&asked.cookie, &self.cookies) {
            let data = jar.answer(cookie, ask.peer, ask.at.unix);
            put(cookie::OPTION_CODE, data.to_vec());
        }
        // Never over UDP (RFC 7828 §3.2.1).
        if asked.keepalive && ask.transport == Transport::Tcp {
            let tenths = u16::try_from(self.tcp.idle.as_millis() / 100).unwrap_or(u16::MAX);
            put(query::TCP_KEEPALIVE, tenths.to_be_bytes().to_vec());
        }
        if let Some(extended) = told.extended {
            let code = extended.code().to_be_bytes();
            put(
                EXTENDED_ERROR,
                [&code[..], extended.text().as_bytes()].concat(),
            );
        }
        if let Some(subnet) = asked.subnet {
            put(ecs::OPTION_CODE, subnet.echo(told.scope));
        }
        edns
    }
}

/// Who answers, and with which map.
pub(super) fn identity(identity: &str, map: &Map) -> String {
    format!("{identity} map={}", map.version())
}
