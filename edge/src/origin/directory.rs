//! The origin's addresses, kept up to date.
//!
//! The name is looked up again when the time to live of the last answer is over. As long as that
//! fails, or DNS says that there is no such name, the last good answer stands: a DNS that is broken
//! costs nothing while the origin stays where it was.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::addresses::Addresses;
use super::metrics::{DirectoryMetrics, show};
use super::resolve::Resolve;
use crate::backoff::Backoff;

/// An answer is believed for at least so long: a TTL of 0 would have DNS asked all the time.
const SHORTEST: Duration = Duration::from_secs(1);
/// And for no longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Pause after a look-up that failed while an older answer stands.
const RETRY: Duration = Duration::from_secs(2);

/// Where the origin is.
pub(crate) struct Directory {
    resolve: Resolve,
    addresses: Mutex<Addresses>,
    /// When to look up again; held while somebody does.
    due: tokio::sync::Mutex<Option<Instant>>,
    metrics: DirectoryMetrics,
}

impl Directory {
    pub(crate) fn new(resolve: Resolve, pause: Backoff, metrics: DirectoryMetrics) -> Self {
        Self {
            resolve,
            addresses: Mutex::new(Addresses::new(pause)),
            due: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// What is known now.
    pub(crate) fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock()
    }

    /// Makes sure that there is an address. Not bounded in time by itself.
    ///
    /// # Errors
    /// A text, if there is none and never was.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        if self.addresses.lock().len() > 0 {
            return Ok(());
        }
        self.refresh().await
    }

    /// Looks the name up if the last answer's time is over. Not bounded in time by itself.
    ///
    /// # Errors
    /// As [`Directory::ready`].
    pub(crate) async fn refresh(&self) -> Result<(), String> {
        let mut due = self.due.lock().await;
        if due.is_some_and(|due| Instant::now() < due) {
            return Ok(());
        }
        let found = self.resolve.addresses().await;
        self.metrics.resolved(found.is_ok());
        let now = Instant::now();
        let mut addresses = self.addresses.lock();
        match found {
            Ok(found) => {
                let lives = found.until.saturating_duration_since(now);
                *due = Some(now + lives.clamp(SHORTEST, LONGEST));
                addresses.learn(&found.addresses);
            }
            Err(error) if addresses.len() > 0 => {
                *due = Some(now + RETRY);
                tracing::warn!(
                    error,
                    "the origin's name was not resolved: last answer kept"
                );
            }
            Err(error) => return Err(error),
        }
        show(&self.metrics.addresses, addresses.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use prometheus::Registry;

    use super::super::dns::{Dns, Says};
    use super::super::metrics::OriginMetrics;
    use super::*;

    fn directory(dns: &Dns) -> Directory {
        let resolve = Resolve::new("origin.example", 80, &[dns.address]);
        let pause = Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(1),
        };
        let metrics = OriginMetrics::new(&Registry::new());
        Directory::new(resolve, pause, metrics.directory)
    }

    fn ips(last: &[u8]) -> Vec<Ipv4Addr> {
        last.iter()
            .map(|last| Ipv4Addr::new(192, 0, 2, *last))
            .collect()
    }

    fn known(directory: &Directory) -> Vec<SocketAddr> {
        directory.addresses().in_order(Instant::now())
    }

    fn expected(last: &[u8]) -> Vec<SocketAddr> {
        let address = |ip: Ipv4Addr| SocketAddr::from((ip, 80));
        ips(last).into_iter().map(address).collect()
    }

    /// Lets the answer's time pass, as far as the directory knows.
    async fn expire(directory: &Directory) {
        *directory.due.lock().await = None;
    }

    #[tokio::test]
    async fn all_addresses_are_known_until_their_time_is_over() {
        let dns = Dns::start(Says::Addresses(ips(&[1, 2]), 1));
        let directory = directory(&dns);
        directory.ready().await.unwrap();
        assert_eq!(known(&directory), expected(&[1, 2]));
        let asked = dns.asked();
        dns.now_says(Says::Addresses(ips(&[2, 3]), 60));
        directory.refresh().await.unwrap();
        assert_eq!(dns.asked(), asked, "the answer still holds");
        // The resolver keeps it for its second too: until the new one is seen.
        while known(&directory) != expected(&[2, 3]) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            directory.refresh().await.unwrap();
        }
        let asked = dns.asked();
        directory.refresh().await.unwrap();
        assert_eq!(dns.asked(), asked);
    }

    #[tokio::test]
    async fn a_failing_dns_erases_nothing() {
        let dns = Dns::start(Says::Addresses(ips(&[1]), 0));
        let directory = directory(&dns);
        directory.ready().await.unwrap();
        for says in [
            Says::NoSuchName,
            Says::Failure,
            Says::Addresses(ips(&[]), 1),
        ] {
            dns.now_says(says);
            let (asked, before) = (dns.asked(), directory.metrics.failed_resolutions());
            while directory.metrics.failed_resolutions() == before {
                expire(&directory).await;
                directory.refresh().await.unwrap();
            }
            assert!(dns.asked() > asked);
            assert_eq!(known(&directory), expected(&[1]));
        }
        dns.now_says(Says::Addresses(ips(&[2]), 60));
        while known(&directory) != expected(&[2]) {
            expire(&directory).await;
            directory.refresh().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_name_that_never_was_is_an_error_with_its_name() {
        let dns = Dns::start(Says::NoSuchName);
        let error = directory(&dns).ready().await.unwrap_err();
        assert!(error.contains("origin.example"), "{error}");
    }
}
