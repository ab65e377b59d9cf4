//! File descriptors: how many there are, and how many of them clients may have.
//!
//! Every connection is one, but so is every file of the store, every connection to the origin and
//! every scrape. Some are kept from clients ([`RESERVED`], at most half), so that an edge under more
//! connections than it can hold goes on serving those it has, and tells what is going on.

use std::os::fd::RawFd;

/// Descriptors that clients' connections leave alone.
const RESERVED: usize = 512;

/// As many connections as configured, but never so many that no descriptor is left for files, the
/// origin and the admin listener.
pub(crate) fn connection_limit(configured: usize) -> usize {
    let Some(most) = limit().map(left_for_clients) else {
        return configured;
    };
    if most < configured {
        tracing::warn!(
            configured,
            most,
            "fewer connections than configured: open file limit"
        );
    }
    configured.min(most)
}

/// The highest descriptor that a client's connection may be. The system gives the lowest that is
/// free: above this one only the reserve is left, whatever took the others.
pub(crate) fn highest_for_clients() -> RawFd {
    let most = limit().map(left_for_clients);
    most.and_then(|most| RawFd::try_from(most).ok())
        .unwrap_or(RawFd::MAX)
}

fn left_for_clients(descriptors: usize) -> usize {
    descriptors - RESERVED.min(descriptors / 2)
}

/// How many files this process may have open; the binary raises it before it runs a role.
fn limit() -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call gets a valid pointer to an `rlimit` that lives through it.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (read == 0).then(|| usize::try_from(limit.rlim_cur).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_at_least_half_and_never_all() {
        assert_eq!(left_for_clients(100), 50);
        assert_eq!(left_for_clients(1024), 512);
        assert_eq!(left_for_clients(20_000), 20_000 - RESERVED);
    }
}
