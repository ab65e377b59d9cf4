//! The EDNS client subnet option (RFC 7871), read and written byte by byte.
//!
//! hickory-proto's own type normalises what it reads (host bits, odd lengths), so a bad option
//! could neither be refused nor a good one echoed as it came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The option's code (RFC 7871 §6).
pub const OPTION_CODE: u16 = 8;

/// Family, source and scope stand before the address.
const HEAD: usize = 4;

/// A valid client subnet, as it came in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// Address family number: 1 IPv4, 2 IPv6; 0 only with a source prefix of 0.
    family: u16,
    /// Leading bits of the address that the asker gave.
    source: u8,
    /// The address, left-aligned, zero beyond `source`.
    address: [u8; 16],
}

/// Why a client subnet is refused with FORMERR (RFC 7871 §7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Shorter than its fixed part.
    #[error("shorter than four bytes")]
    Short,
    /// Only an answer may carry a scope.
    #[error("scope is not zero in a query")]
    Scope,
    /// Neither IPv4 nor IPv6, or family 0 with an address.
    #[error("unknown address family")]
    Family,
    /// Longer than an address of the family.
    #[error("source prefix longer than an address")]
    Source,
    /// More or fewer address bytes than the source prefix needs.
    #[error("address length does not match the source prefix")]
    Length,
    /// Bits set beyond the source prefix.
    #[error("bits set beyond the source prefix")]
    HostBits,
}

impl ClientSubnet {
    /// Reads the option's data.
    ///
    /// # Errors
    /// Any deviation from RFC 7871, as [`SubnetError`] lists them.
    pub fn parse(data: &[u8]) -> Result<Self, SubnetError> {
        let &[f1, f0, source, scope, ref given @ ..] = data else {
            return Err(SubnetError::Short);
        };
        let family = u16::from_be_bytes([f1, f0]);
        if scope != 0 {
            return Err(SubnetError::Scope);
        }
        if source > longest(family, source)? {
            return Err(SubnetError::Source);
        }
        if given.len() != bytes_for(source) {
            return Err(SubnetError::Length);
        }
        let mut address = [0; 16];
        address[..given.len()].copy_from_slice(given);
        if u128::from_be_bytes(address) & host_mask(source) != 0 {
            return Err(SubnetError::HostBits);
        }
        Ok(Self {
            family,
            source,
            address,
        })
    }

    /// The client's address, unless the asker wants the subnet left out of account (source 0).
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        (self.source > 0).then(|| self.address())
    }

    /// The source prefix length in bits.
    #[must_use]
    pub fn source(&self) -> u8 {
        self.source
    }

    /// The option's data for the answer: family, source and address as they came.
    #[must_use]
    pub fn echo(&self, scope: u8) -> Vec<u8> {
        let mut data = Vec::with_capacity(HEAD + 16);
        data.extend_from_slice(&self.family.to_be_bytes());
        data.extend_from_slice(&[self.source, scope]);
        data.extend_from_slice(&self.address[..bytes_for(self.source)]);
        data
    }

    fn address(&self) -> IpAddr {
        let [a, b, c, d, ..] = self.address;
        if self.family == 1 {
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.address))
        }
    }
}

impl std::fmt::Display for ClientSubnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address(), self.source)
    }
}

fn longest(family: u16, source: u8) -> Result<u8, SubnetError> {
    match family {
        0 if source == 0 => Ok(0),
        1 => Ok(32),
        2 => Ok(128),
        _ => Err(SubnetError::Family),
    }
}

fn bytes_for(prefix: u8) -> usize {
    usize::from(prefix).div_ceil(8)
}

fn host_mask(prefix: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn malformed_options_are_refused_with_the_reason() {
        let cases: &[(&[u8], SubnetError)] = &[
            (&[], SubnetError::Short),
            (&[0, 1, 24], SubnetError::Short),
            (&[0, 1, 24, 24, 192, 0, 2], SubnetError::Scope),
            (&[0, 1, 0, 1], SubnetError::Scope),
            (&[0, 0, 24, 0, 192, 0, 2], SubnetError::Family),
            (&[0, 0, 1, 0, 128], SubnetError::Family),
            (&[0, 3, 24, 0, 192, 0, 2], SubnetError::Family),
            (&[0, 3, 0, 0], SubnetError::Family),
            (&[0, 0, 0, 0, 1], SubnetError::Length),
            (&[0, 1, 24, 0, 192, 0], SubnetError::Length),
            (&[0, 1, 24, 0, 192, 0, 2, 0], SubnetError::Length),
            (&[0, 1, 0, 0, 0], SubnetError::Length),
            (&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8], SubnetError::Length),
            (&[0, 1, 23, 0, 192, 0, 3], SubnetError::HostBits),
            (&[0, 1, 1, 0, 0xff], SubnetError::HostBits),
            (&[0, 1, 33, 0, 192, 0, 2, 1, 0], SubnetError::Source),
            (&[0, 2, 129, 0], SubnetError::Source),
        ];
        for (data, error) in cases {
            assert_eq!(ClientSubnet::parse(data), Err(*error), "{data:?}");
        }
    }

    #[test]
    fn a_subnet_is_echoed_as_it_came_with_our_scope() {
        for (data, client) in [
            (&[0, 1, 24, 0, 192, 0, 2][..], Some("192.0.2.0")),
            (&[0, 1, 32, 0, 192, 0, 2, 9], Some("192.0.2.9")),
            (&[0, 1, 20, 0, 192, 0, 0x20], Some("192.0.32.0")),
            (&[0, 2, 32, 0, 0x20, 1, 0xd, 0xb8], Some("2001:db8::")),
            (&[0, 1, 0, 0], None),
            (&[0, 2, 0, 0], None),
            (&[0, 0, 0, 0], None),
        ] {
            let subnet = ClientSubnet::parse(data).unwrap();
            assert_eq!(subnet.client(), client.map(|c| c.parse().unwrap()));
            assert_eq!(subnet.echo(0), data);
            let mut scoped = data.to_vec();
            scoped[3] = 17;
            assert_eq!(subnet.echo(17), scoped);
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_echoed_and_nothing_panics(
            data in proptest::collection::vec(any::<u8>(), 0..24),
        ) {
            if let Ok(subnet) = ClientSubnet::parse(&data) {
                prop_assert_eq!(subnet.echo(0), data);
            }
        }
    }
}
