//! The SOA record, and seconds as DNS writes them.

use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::SOA;

/// The SOA record's fields (RFC 1035 §3.3.13).
#[derive(Clone, Debug)]
pub struct Authority {
    /// The mailbox of whoever is responsible, as a name.
    pub contact: Name,
    /// Version of the zone.
    pub serial: u32,
    /// For secondaries, of which there are none.
    pub refresh: Duration,
    /// For secondaries.
    pub retry: Duration,
    /// For secondaries.
    pub expire: Duration,
    /// How long a "no such name" or "no such record" may be kept (RFC 2308).
    pub negative_ttl: Duration,
}

impl Authority {
    pub(super) fn record(&self, primary: Name) -> SOA {
        SOA::new(
            primary,
            self.contact.clone(),
            self.serial,
            seconds(self.refresh).cast_signed(),
            seconds(self.retry).cast_signed(),
            seconds(self.expire).cast_signed(),
            seconds(self.negative_ttl),
        )
    }
}

/// Whole seconds as DNS writes them: at most 2³¹ − 1 (RFC 2181 §8).
pub(super) fn seconds(period: Duration) -> u32 {
    u32::try_from(period.as_secs())
        .unwrap_or(u32::MAX)
        .min(i32::MAX.cast_unsigned())
}
