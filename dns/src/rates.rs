//! Response rate limiting: how many UDP answers a network gets, so that nobody can have us flood a
//! network in whose name he asks.
//!
//! A pure state machine, the time is handed in. Every network (/24, /56) has a token bucket for
//! answers and another for errors, in a table of fixed size: networks that asked longest ago make
//! room. A network over its rate isn't left without answers: every few, one is sent empty with TC
//! set, so that a real asker comes back over TCP, or if it knows cookies is told BADCOOKIE with one.
//! Whoever shows a valid cookie is never limited.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::Rates as Limits;

/// Networks that share a set of the table; the longest idle of them makes room.
const WAYS: usize = 4;

/// What is limited apart, so that a flood of nonsense doesn't cost real answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// NOERROR, with or without data.
    Answer,
    /// NXDOMAIN, REFUSED, FORMERR and the like.
    Error,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Pass,
    /// It is replaced by a small one that makes a real asker come back.
    Slip,
    /// It is not sent.
    Drop,
}

/// One network's bucket, kept as the time until which it has spent its tokens (GCRA): 24 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Names network and class; 0: free.
    tag: u64,
    /// Nanoseconds since the start at which the bucket will be full again.
    full_at: u64,
    /// Answers over the rate.
    over: u32,
}

/// The buckets of all networks.
#[derive(Debug)]
pub struct Rates {
    limits: Limits,
    sets: Box<[Mutex<[Bucket; WAYS]>]>,
    /// Keyed by chance, so that nobody can aim at another's bucket.
    hasher: RandomState,
    start: Instant,
}

impl Rates {
    /// Full buckets for everybody.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        let sets = limits.networks.div_ceil(WAYS).next_power_of_two();
        Self {
            limits,
            sets: (0..sets).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            start: now,
        }
    }

    /// Takes a token if there is one. Without, nothing changes and [`Self::judge`] decides.
    #[must_use]
    pub fn admit(&self, to: IpAddr, class: Class, now: Instant) -> bool {
        self.take(to, class, now, |_| ()).is_none()
    }

    /// What becomes of an answer to somebody without a valid cookie.
    #[must_use]
    pub fn judge(&self, to: IpAddr, class: Class, now: Instant) -> Verdict {
        let over = self.take(to, class, now, |bucket| {
            bucket.over = bucket.over.wrapping_add(1);
            bucket.over
        });
        match (over, self.limits.slip) {
            (None, _) => Verdict::Pass,
            (Some(_), 0) => Verdict::Drop,
            (Some(over), slip) if over.is_multiple_of(slip) => Verdict::Slip,
            (Some(_), _) => Verdict::Drop,
        }
    }

    /// Takes a token, or if there is none does something to the bucket and returns what that says.
    fn take<T>(
        &self,
        to: IpAddr,
        class: Class,
        now: Instant,
        empty: impl FnOnce(&mut Bucket) -> T,
    ) -> Option<T> {
        let rate = match class {
            Class::Answer => self.limits.answers,
            Class::Error => self.limits.errors,
        };
        let to = to.to_canonical();
        if rate == 0 || self.limits.exempt.iter().any(|net| net.contains(&to)) {
            return None;
        }
        let tag = self.tag(to, class);
        let now = u64::try_from(now.saturating_duration_since(self.start).as_nanos());
        let now = now.unwrap_or(u64::MAX / 2);
        let a_token = 1_000_000_000 / u64::from(rate);
        let most = u64::from(self.limits.burst) * 1_000_000_000;
        // The tag's low bits choose the set; there are a power of two.
        let index = tag as usize & (self.sets.len() - 1);
        let mut set = self.sets.get(index)?.lock();
        let bucket = find(&mut set, tag);
        let full_at = bucket.full_at.max(now) + a_token;
        if full_at - now > most.max(a_token) {
            return Some(empty(bucket));
        }
        bucket.full_at = full_at;
        None
    }

    fn tag(&self, to: IpAddr, class: Class) -> u64 {
        let network = match to {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.limits.prefix_v4.min(32)));
                u128::from(v4.to_bits() & mask.unwrap_or(0))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.limits.prefix_v6.min(128)));
                v6.to_bits() & mask.unwrap_or(0)
            }
        };
        self.hasher.hash_one((network, to.is_ipv6(), class)).max(1)
    }
}

/// The bucket of a tag, or in its place the one that has been idle the longest, full again.
fn find(set: &mut [Bucket; WAYS], tag: u64) -> &mut Bucket {
    let known = set.iter().position(|bucket| bucket.tag == tag);
    let index = known.unwrap_or_else(|| {
        let idle = (0..WAYS)
            .min_by_key(|index| set[*index].full_at)
            .unwrap_or(0);
        set[idle] = Bucket {
            tag,
            ..Bucket::default()
        };
        idle
    });
    &mut set[index]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            answers: 10,
            errors: 2,
            burst: 2,
            slip: 2,
            prefix_v4: 24,
            prefix_v6: 56,
            exempt: vec!["127.0.0.0/8".parse().unwrap()],
            networks: 1000,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn passed(rates: &Rates, to: &str, class: Class, now: Instant, tries: usize) -> usize {
        let verdicts = (0..tries).map(|_| rates.judge(ip(to), class, now));
        verdicts.filter(|v| *v == Verdict::Pass).count()
    }

    #[test]
    fn a_network_gets_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let rates = Rates::new(limits(), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(passed(&rates, "192.0.2.1", Class::Answer, start, 100), 20);
        assert_eq!(passed(&rates, "192.0.2.200", Class::Answer, start, 9), 0);
        assert_eq!(passed(&rates, "192.0.3.1", Class::Answer, start, 9), 9);
        assert_eq!(passed(&rates, "192.0.2.1", Class::Error, start, 100), 4);
        assert_eq!(passed(&rates, "192.0.2.1", Class::Answer, at(1), 100), 10);
        assert_eq!(
            passed(&rates, "192.0.2.1", Class::Answer, at(1000), 100),
            20
        );
        assert_eq!(
            passed(&rates, "::ffff:192.0.2.1", Class::Answer, at(1000), 9),
            0
        );
        assert_eq!(
            passed(&rates, "2001:db8:0:1::1", Class::Answer, start, 99),
            20
        );
        assert_eq!(
            passed(&rates, "2001:db8:0:ff::", Class::Answer, start, 9),
            0
        );
        assert_eq!(
            passed(&rates, "2001:db8:0:100::", Class::Answer, start, 9),
            9
        );
    }

    #[test]
    fn who_is_exempt_and_what_has_no_rate_always_passes() {
        let now = Instant::now();
        let unlimited = Limits {
            errors: 0,
            ..limits()
        };
        let rates = Rates::new(unlimited, now);
        assert_eq!(passed(&rates, "127.9.9.9", Class::Answer, now, 999), 999);
        assert_eq!(passed(&rates, "192.0.2.1", Class::Error, now, 999), 999);
    }

    #[test]
    fn over_the_rate_every_second_answer_slips_or_none_or_all() {
        let now = Instant::now();
        for (slip, expected) in [
            (2, [Verdict::Drop, Verdict::Slip]),
            (0, [Verdict::Drop; 2]),
            (1, [Verdict::Slip; 2]),
        ] {
            let rates = Rates::new(Limits { slip, ..limits() }, now);
            assert_eq!(passed(&rates, "192.0.2.1", Class::Answer, now, 20), 20);
            let next = || rates.judge(ip("192.0.2.1"), Class::Answer, now);
            assert_eq!([next(), next()], expected);
        }
    }

    #[test]
    fn admitting_takes_a_token_and_refusing_changes_nothing() {
        let now = Instant::now();
        let rates = Rates::new(limits(), now);
        let admit = || rates.admit(ip("192.0.2.1"), Class::Answer, now);
        assert_eq!((0..100).filter(|_| admit()).count(), 20);
        assert_eq!(
            rates.judge(ip("192.0.2.1"), Class::Answer, now),
            Verdict::Drop
        );
        assert_eq!(
            rates.judge(ip("192.0.2.1"), Class::Answer, now),
            Verdict::Slip
        );
    }

    #[test]
    fn a_full_table_forgets_the_idle_before_the_busy() {
        let start = Instant::now();
        let rates = Rates::new(
            Limits {
                networks: 1,
                ..limits()
            },
            start,
        );
        assert_eq!(passed(&rates, "192.0.2.1", Class::Answer, start, 100), 20);
        for n in 0..200 {
            assert!(rates.admit(ip(&format!("10.0.{n}.1")), Class::Answer, start));
        }
        assert_eq!(passed(&rates, "192.0.2.1", Class::Answer, start, 9), 0);
    }

    proptest! {
        #[test]
        fn no_network_ever_gets_more_than_burst_and_rate(
            waits in proptest::collection::vec(0u64..400, 1..300),
        ) {
            let start = Instant::now();
            let rates = Rates::new(limits(), start);
            let (mut now, mut got) = (start, 0);
            for wait in waits {
                now += Duration::from_millis(wait);
                got += u32::from(rates.admit(ip("192.0.2.1"), Class::Answer, now));
            }
            let allowed = 20.0 + 10.0 * (now - start).as_secs_f64();
            prop_assert!(f64::from(got) <= allowed + 1.0);
        }
    }
}
