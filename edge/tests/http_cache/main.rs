//! A plain HTTP mount against RFC 9111 and its kin, over real sockets: an origin that answers as it
//! is told, an edge, a client. A test is named after the rule it holds, its section in its doc.
//!
//! Nothing sleeps to become stale: the origin says how old its answers are.

mod bodies;
#[path = "../faults/dns.rs"]
mod dns;
mod faults;
mod freshness;
mod harness;
mod methods;
mod storing;
mod validation;
mod vary;
