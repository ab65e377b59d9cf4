//! How many connections there are, and how many each client has: one IPv4 address, or one IPv6 /64, of
//! which every host has as many addresses as it likes.
//!
//! Limits are handed in with each connection, so they may change while there are some.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Cut;
use crate::config::Tcp;

/// The connections of all clients. Only who has one is in it, so it is as bounded as they are.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_client: HashMap<u128, usize>,
}

/// A client's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    key: u128,
}

impl Clients {
    /// A place for one more connection, if the client may have one.
    ///
    /// # Errors
    /// Which limit stands against it.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, limits: &Tcp) -> Result<Place, Cut> {
        let key = key(client);
        let mut counts = self.0.lock();
        if counts.all >= limits.connections {
            return Err(Cut::Connections);
        }
        let own = counts.by_client.get(&key).copied().unwrap_or(0);
        if own >= limits.per_client {
            return Err(Cut::PerClient);
        }
        counts.all += 1;
        counts.by_client.insert(key, own + 1);
        drop(counts);
        Ok(Place {
            clients: self.clone(),
            key,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock();
        counts.all -= 1;
        if let Some(own) = counts.by_client.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                counts.by_client.remove(&self.key);
            }
        }
    }
}

fn key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, per_client: usize) -> Tcp {
        Tcp {
            connections,
            per_client,
            ..Tcp::default()
        }
    }

    #[test]
    fn a_client_has_so_many_places_and_gets_them_back() {
        let clients = Arc::new(Clients::default());
        let enter = |text: &str| clients.enter(text.parse().unwrap(), &limits(100, 2));
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(enter("192.0.2.1").unwrap_err(), Cut::PerClient);
        assert!(enter("192.0.2.2").is_ok());
        drop(second);
        assert!(enter("192.0.2.1").is_ok());
        let wide = (enter("2001:db8::1"), enter("2001:db8::2:3"));
        assert!(wide.1.is_ok() && enter("2001:db8::ffff").is_err());
        assert!(enter("2001:db8:0:1::1").is_ok());
        drop((first, wide));
        let counts = clients.0.lock();
        assert!(counts.by_client.is_empty() && counts.all == 0);
    }

    #[test]
    fn a_limit_that_is_lowered_counts_those_that_are_there() {
        let clients = Arc::new(Clients::default());
        let enter = |last: u8, most| clients.enter([192, 0, 2, last].into(), &limits(most, 9));
        let places = [enter(1, 3).unwrap(), enter(2, 3).unwrap()];
        assert_eq!(enter(3, 1).unwrap_err(), Cut::Connections);
        drop(places);
        assert!(enter(3, 1).is_ok());
    }
}
