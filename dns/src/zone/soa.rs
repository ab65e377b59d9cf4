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

/// The serial of content that has moved: the time, in seconds since 1970, unless the serial has
/// already come that far (RFC 1982): then the one after it. So it only rises, and without a memory
/// too as long as clocks do.
#[must_use]
pub fn next_serial(before: Option<u32>, now: u32) -> u32 {
    match before {
        Some(before) if now.wrapping_sub(before).cast_signed() <= 0 => before.wrapping_add(1),
        _ => now,
    }
}

/// Whole seconds as DNS writes them: at most 2³¹ − 1 (RFC 2181 §8).
pub(super) fn seconds(period: Duration) -> u32 {
    u32::try_from(period.as_secs())
        .unwrap_or(u32::MAX)
        .min(i32::MAX.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_only_rises_whatever_the_clock_does() {
        for (before, now, next) in [
            (None, 1000, 1000),
            (Some(999), 1000, 1000),
            (Some(1000), 1000, 1001),
            (Some(2000), 1000, 2001),
            (Some(u32::MAX), 5, 5),
            (Some(5), u32::MAX, 6),
        ] {
            assert_eq!(next_serial(before, now), next, "{before:?}");
        }
    }
}
