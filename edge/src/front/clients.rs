//! What one client's address may have at once: open connections, and requests a second.
//!
//! An address is an IPv4 address or an IPv6 prefix (`limits.ipv6_prefix`: a customer has a whole
//! /64). Requests above the rate are *delayed* first, in the order in which they came, and refused
//! only where the wait would be longer than `queue_wait`: the go command never tries again.
//!
//! Memory is bounded: at most `limits.addresses` are known, some 150 bytes each. Those without a
//! connection and with an unused allowance are forgotten when room is needed; where there is none,
//! further addresses share one allowance, the crowd's.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::RETRY_AFTER;
use parking_lot::Mutex;
use prometheus::IntCounter;

use modcdn_core::refusal::{Reason, Refusal};

use super::service::refused;
use crate::config::{LimitConfig, RateConfig};
use crate::exchange::Answer;
use crate::metrics::Metrics;

/// Locks, so that front threads rarely wait for each other. Taken once a connection.
const SHARDS: usize = 16;

/// A shard that is full is searched for somebody to forget at most this often.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// All clients' addresses. One per edge.
pub(crate) struct Clients {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    delayed: IntCounter,
}

struct Shard {
    known: HashMap<IpAddr, Arc<Client>>,
    crowd: Arc<Client>,
    swept: Instant,
}

/// One address, or the crowd of those that found no room.
pub(crate) struct Client {
    open: AtomicUsize,
    /// When the next request is due at the configured rate, in nanoseconds since `born`.
    due: AtomicU64,
    born: Instant,
}

/// One open connection of a client; dropping it is its end.
pub(crate) struct Visit {
    client: Arc<Client>,
    delayed: IntCounter,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.client.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Clients {
    pub(crate) fn new(metrics: &Metrics, now: Instant) -> Clients {
        let shard = |_| {
            Mutex::new(Shard {
                known: HashMap::new(),
                crowd: Arc::new(Client::new(now)),
                swept: now,
            })
        };
        Clients {
            shards: std::array::from_fn(shard),
            hasher: RandomState::new(),
            delayed: metrics.requests_delayed.clone(),
        }
    }

    /// Counts a connection of this address; `None` if it has too many.
    pub(crate) fn enter(&self, ip: IpAddr, limits: &LimitConfig, now: Instant) -> Option<Visit> {
        let address = address(ip, limits.ipv6_prefix);
        let shard = usize::try_from(self.hasher.hash_one(address)).unwrap_or(0) % SHARDS;
        let room = limits.addresses.div_ceil(SHARDS);
        let client = self.shards[shard].lock().client(address, room, now);
        let most = limits.connections_per_address;
        let more = |open: usize| (open < most).then_some(open + 1);
        client
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Visit {
            client,
            delayed: self.delayed.clone(),
        })
    }
}

impl Shard {
    fn client(&mut self, address: IpAddr, room: usize, now: Instant) -> Arc<Client> {
        if let Some(client) = self.known.get(&address) {
            return Arc::clone(client);
        }
        let may_sweep = now.saturating_duration_since(self.swept) >= SWEEP_PAUSE;
        if self.known.len() >= room && may_sweep {
            self.known.retain(|_, client| !client.is_forgettable(now));
            self.swept = now;
        }
        if self.known.len() >= room {
            return Arc::clone(&self.crowd);
        }
        let client = Arc::new(Client::new(now));
        self.known.insert(address, Arc::clone(&client));
        client
    }
}

impl Client {
    fn new(now: Instant) -> Client {
        Client {
            open: AtomicUsize::new(0),
            due: AtomicU64::new(0),
            born: now,
        }
    }

    /// Nobody else holds it (its shard is locked), and a new one would be allowed no more.
    fn is_forgettable(self: &Arc<Client>, now: Instant) -> bool {
        Arc::strong_count(self) == 1 && self.due.load(Ordering::Relaxed) <= self.at(now)
    }

    fn at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.born);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a place in the queue: how long to wait for it.
    fn take(&self, rate: &RateConfig, now: Instant) -> Result<Duration, TooMany> {
        let (rate, now) = (Rate::of(rate), self.at(now));
        let due = &self.due;
        let mut turn = Ok(Duration::ZERO);
        let update = |due| match rate.turn(due, now) {
            Ok((wait, next)) => {
                turn = Ok(wait);
                Some(next)
            }
            Err(too_many) => {
                turn = Err(too_many);
                None
            }
        };
        let _ = due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        turn
    }
}

impl Visit {
    /// How long a request waits for its turn, which is its own from now on.
    ///
    /// # Errors
    /// The wait would be too long.
    pub(crate) fn turn(&self, rate: &RateConfig) -> Result<Duration, TooMany> {
        if rate.requests_per_second == 0 {
            return Ok(Duration::ZERO);
        }
        let wait = self.client.take(rate, Instant::now())?;
        if wait > Duration::ZERO {
            self.delayed.inc();
        }
        Ok(wait)
    }
}

/// A request that would have to wait too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// When it would find a place in the queue.
    retry_after: Duration,
}

impl TooMany {
    /// What such a request is answered.
    pub(crate) fn answer(self, asked: &str, rate: &RateConfig) -> Answer {
        let most = rate.requests_per_second;
        let failed = format!("more than {most} requests a second from your address");
        let refusal = Refusal::new(Reason::RateLimited, asked, failed)
            .hint("try again later, or set fewer parallel downloads");
        let mut answer = refused(&refusal);
        let seconds = self.retry_after.as_secs() + 1;
        answer
            .headers
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
        answer
    }
}

/// A token bucket kept as one number, the time at which the next request is due (the "generic cell
/// rate algorithm"): a request may come early by all but one of the burst, and later ones wait.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Nanoseconds a request.
    interval: u64,
    /// How much earlier than due, in nanoseconds.
    early: u64,
    /// The longest wait, in nanoseconds.
    patience: u64,
}

impl Rate {
    fn of(config: &RateConfig) -> Rate {
        let interval = 1_000_000_000 / u64::from(config.requests_per_second.max(1));
        Rate {
            interval,
            early: interval.saturating_mul(u64::from(config.burst.saturating_sub(1))),
            patience: u64::try_from(config.queue_wait.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// How long a request that comes `now` waits, and when the one after it is due.
    fn turn(self, due: u64, now: u64) -> Result<(Duration, u64), TooMany> {
        let start = due.max(now);
        let wait = (start - now).saturating_sub(self.early);
        if wait > self.patience {
            let retry_after = Duration::from_nanos(wait - self.patience);
            return Err(TooMany { retry_after });
        }
        Ok((
            Duration::from_nanos(wait),
            start.saturating_add(self.interval),
        ))
    }
}

/// What counts as one client.
fn address(ip: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let host_bits = 128 - u32::from(ipv6_prefix.min(128));
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & mask).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use modcdn_core::units::Period;
    use prometheus::Registry;
    use proptest::prelude::*;

    use super::*;

    fn clients(now: Instant) -> Clients {
        Clients::new(&Metrics::new(&Registry::new()), now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_connections_and_another_its_own() {
        let now = Instant::now();
        let clients = clients(now);
        let limits = LimitConfig {
            connections_per_address: 2,
            ..LimitConfig::default()
        };
        let enter = |text| clients.enter(ip(text), &limits, now);
        let first = enter("2001:db8::1");
        let second = enter("2001:db8::2:0:0:2");
        assert!(first.is_some() && second.is_some());
        assert!(enter("2001:db8::3").is_none(), "the same /64");
        assert!(enter("2001:db8:0:1::1").is_some(), "another /64");
        assert!(enter("192.0.2.1").is_some());
        drop(first);
        assert!(enter("2001:db8::3").is_some());
    }

    #[test]
    fn strangers_share_an_allowance_once_the_table_is_full() {
        let now = Instant::now();
        let clients = clients(now);
        let limits = LimitConfig {
            connections_per_address: 3,
            addresses: SHARDS,
            ..LimitConfig::default()
        };
        let mut visits: Vec<Visit> = Vec::new();
        let mut refused = 0;
        for n in 0..1000_u32 {
            let visit = clients.enter(std::net::Ipv4Addr::from(n).into(), &limits, now);
            refused += usize::from(visit.is_none());
            visits.extend(visit);
        }
        assert!(refused > 900, "{refused}");
        let known = |clients: &Clients| -> usize {
            let lengths = clients.shards.iter().map(|shard| shard.lock().known.len());
            lengths.sum()
        };
        assert_eq!(known(&clients), SHARDS);
        visits.clear();
        let later = now + 2 * SWEEP_PAUSE;
        let far = ip("203.0.113.9");
        assert!(clients.enter(far, &limits, later).is_some());
        assert!(
            known(&clients) <= SHARDS,
            "those without a connection were forgotten"
        );
    }

    fn rate(requests_per_second: u32, burst: u32, queue_wait: Period) -> RateConfig {
        RateConfig {
            requests_per_second,
            burst,
            queue_wait,
        }
    }

    #[test]
    fn a_burst_passes_then_requests_wait_and_then_they_are_refused() {
        let now = Instant::now();
        let client = Client::new(now);
        let rate = rate(10, 3, Period::millis(250));
        let waits: Vec<_> = (0..6).map(|_| client.take(&rate, now)).collect();
        let wait = |millis| Ok(Duration::from_millis(millis));
        assert_eq!(
            waits[..5],
            [wait(0), wait(0), wait(0), wait(100), wait(200)]
        );
        let retry_after = Duration::from_millis(50);
        assert_eq!(waits[5], Err(TooMany { retry_after }));
        assert_eq!(client.take(&rate, now + Duration::from_secs(9)), wait(0));
    }

    #[test]
    fn the_answer_says_when_to_come_again() {
        let now = Instant::now();
        let limits = LimitConfig::default();
        let visit = clients(now).enter(ip("192.0.2.1"), &limits, now).unwrap();
        let rate = rate(1, 1, Period::millis(0));
        assert!(visit.turn(&rate).is_ok());
        let too_many = visit.turn(&rate).unwrap_err();
        let answer = too_many.answer("/m/@v/list", &rate);
        assert_eq!(answer.status, 429);
        assert_eq!(answer.headers[RETRY_AFTER], "1");
        assert_eq!(answer.reason, Some(Reason::RateLimited));
    }

    proptest! {
        /// However requests come, what is let through in any span of time is at most the burst and
        /// what the rate allows in it, in order, and nobody waits longer than was said.
        #[test]
        fn the_rate_is_never_exceeded(
            per_second in 1_u32..2000,
            burst in 1_u32..50,
            queue_wait in 0_u64..2000,
            gaps in prop::collection::vec(0_u64..50_000_000, 1..200),
        ) {
            let queue_wait = Period::millis(queue_wait);
            let rate = Rate::of(&rate(per_second, burst, queue_wait));
            let (mut due, mut now) = (0, 0);
            let mut passed: Vec<u64> = Vec::new();
            for gap in gaps {
                now += gap;
                if let Ok((wait, next)) = rate.turn(due, now) {
                    prop_assert!(wait <= *queue_wait);
                    let at = now + u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert!(passed.last().is_none_or(|last| *last <= at));
                    passed.push(at);
                    due = next;
                }
            }
            for (n, from) in passed.iter().enumerate() {
                for (more, to) in passed[n..].iter().enumerate() {
                    let allowed = u64::from(burst) + (to - from) / rate.interval;
                    prop_assert!(more as u64 <= allowed);
                }
            }
        }
    }
}
