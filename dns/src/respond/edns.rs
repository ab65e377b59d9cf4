//! The OPT record of an answer: there if and only if the query had one (RFC 6891 §7).

use hickory_proto::op;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::ecs;
use crate::query::Edns;

/// Says what we take over UDP (`payload`), keeps the DO bit, and returns a client subnet with the
/// scope for which the answer holds.
pub(super) fn opt(asked: &Edns, payload: u16, scope: u8) -> op::Edns {
    let mut edns = op::Edns::new();
    edns.set_max_payload(payload).set_dnssec_ok(asked.dnssec_ok);
    if let Some(subnet) = asked.subnet {
        let option = EdnsOption::Unknown(ecs::OPTION_CODE, subnet.echo(scope));
        edns.options_mut().insert(option);
    }
    edns
}
