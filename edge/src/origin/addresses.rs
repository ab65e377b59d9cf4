//! Which of the origin's addresses to use, and in which order. Pure: time and chance are handed in.
//!
//! An address where something went wrong is under suspicion: it is used only where there is no
//! other. The suspicion ends by itself after a pause, so that the address is tried again; the next
//! thing that goes wrong there makes the pause longer. Only a body that came whole clears it, for a
//! black hole can well be connected to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::backoff::Backoff;

/// What is known of the origin's addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    known: Vec<SocketAddr>,
    /// The one that was connected to last.
    connected: Option<SocketAddr>,
    suspicions: HashMap<SocketAddr, Suspicion>,
    pause: Backoff,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    strikes: u32,
    until: Instant,
}

impl Addresses {
    pub(crate) fn new(pause: Backoff) -> Self {
        Self {
            known: Vec::new(),
            connected: None,
            suspicions: HashMap::new(),
            pause,
        }
    }

    /// The addresses as DNS has them now; what is known of others is forgotten.
    pub(crate) fn learn(&mut self, found: &[SocketAddr]) {
        self.known = interleave(found);
        let known = &self.known;
        self.suspicions.retain(|address, _| known.contains(address));
    }

    pub(crate) fn holds(&self, address: SocketAddr) -> bool {
        self.known.contains(&address)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// A connection was made.
    pub(crate) fn connected(&mut self, address: SocketAddr) {
        self.connected = Some(address);
    }

    /// Something went wrong there.
    pub(crate) fn strike(&mut self, address: SocketAddr, now: Instant, chance: f64) {
        if !self.holds(address) {
            return;
        }
        let suspicion = self.suspicions.entry(address).or_insert(Suspicion {
            strikes: 0,
            until: now,
        });
        // Many requests fail together when an address dies: one strike for all of them.
        if suspicion.strikes == 0 || suspicion.until <= now {
            suspicion.strikes = suspicion.strikes.saturating_add(1);
            suspicion.until = now + self.pause.pause(suspicion.strikes, chance);
        }
    }

    /// All is well there.
    pub(crate) fn clear(&mut self, address: SocketAddr) {
        self.suspicions.remove(&address);
    }

    pub(crate) fn is_suspect(&self, address: SocketAddr, now: Instant) -> bool {
        self.suspicions
            .get(&address)
            .is_some_and(|suspicion| suspicion.until > now)
    }

    /// How many are under suspicion.
    pub(crate) fn suspects(&self, now: Instant) -> usize {
        let suspect = |address: &&SocketAddr| self.is_suspect(**address, now);
        self.known.iter().filter(suspect).count()
    }

    /// Whether one that isn't under suspicion is known.
    pub(crate) fn has_sound(&self, now: Instant) -> bool {
        self.suspects(now) < self.known.len()
    }

    /// All of them, in the order to be tried: sound ones before suspects, and among those the one
    /// that was connected to last; the suspects by when that ends.
    pub(crate) fn in_order(&self, now: Instant) -> Vec<SocketAddr> {
        let mut order = self.known.clone();
        order.sort_by_key(|address| {
            let until = self
                .suspicions
                .get(address)
                .map(|suspicion| suspicion.until);
            (
                until.filter(|until| *until > now),
                Some(*address) != self.connected,
            )
        });
        order
    }
}

/// IPv6 and IPv4 by turns, IPv6 first (RFC 8305 §4): a family that doesn't work costs one try.
fn interleave(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let (mut six, mut four): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().partition(|address| address.is_ipv6());
    let mut order = Vec::with_capacity(found.len());
    six.reverse();
    four.reverse();
    while order.len() < found.len() {
        order.extend(six.pop());
        order.extend(four.pop());
    }
    order
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PAUSE: Backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
    };

    fn four(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    fn six(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443))
    }

    fn knowing(found: &[SocketAddr]) -> Addresses {
        let mut addresses = Addresses::new(PAUSE);
        addresses.learn(found);
        addresses
    }

    #[test]
    fn families_take_turns() {
        let addresses = knowing(&[four(1), four(2), four(3), six(1)]);
        let order = addresses.in_order(Instant::now());
        assert_eq!(order, [six(1), four(1), four(2), four(3)]);
    }

    #[test]
    fn the_one_that_was_connected_to_comes_first_unless_it_is_suspect() {
        let now = Instant::now();
        let mut addresses = knowing(&[four(1), four(2), four(3)]);
        addresses.connected(four(2));
        assert_eq!(addresses.in_order(now), [four(2), four(1), four(3)]);
        addresses.strike(four(2), now, 0.0);
        assert_eq!(addresses.in_order(now), [four(1), four(3), four(2)]);
        addresses.strike(four(1), now + Duration::from_millis(1), 0.0);
        assert_eq!(addresses.in_order(now), [four(3), four(2), four(1)]);
    }

    #[test]
    fn suspicion_ends_comes_back_for_longer_and_is_cleared() {
        let mut now = Instant::now();
        let mut addresses = knowing(&[four(1)]);
        for seconds in [1, 2, 4] {
            addresses.strike(four(1), now, 0.0);
            addresses.strike(four(1), now, 0.0);
            assert!(!addresses.has_sound(now));
            now += Duration::from_secs(seconds);
            assert!(addresses.has_sound(now), "{seconds}");
        }
        addresses.clear(four(1));
        addresses.strike(four(1), now, 0.0);
        assert!(addresses.has_sound(now + Duration::from_secs(1)));
    }

    #[test]
    fn what_left_dns_is_forgotten() {
        let now = Instant::now();
        let mut addresses = knowing(&[four(1), four(2)]);
        addresses.strike(four(1), now, 0.0);
        addresses.learn(&[four(2)]);
        addresses.strike(four(1), now, 0.0);
        assert!(!addresses.holds(four(1)) && !addresses.is_suspect(four(1), now));
        assert_eq!(addresses.in_order(now), [four(2)]);
    }
}
