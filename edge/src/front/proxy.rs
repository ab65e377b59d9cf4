//! The PROXY protocol, versions 1 and 2: how a balancer says on whose behalf it connects.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
//!
//! Addresses within `proxy_protocol.trusted` must begin every connection with such a header, before
//! TLS; from anywhere else it is garbage, as anything before a request or a handshake is.
//! [`parse`] is pure; [`read`] takes exactly the header's bytes off the stream.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Begins a header of version 1.
const WORD: &[u8] = b"PROXY ";
/// The longest header of version 1, its line end included.
const LONGEST_LINE: usize = 107;
/// The shortest, "PROXY UNKNOWN\r\n".
const SHORTEST_LINE: usize = 15;
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// The longest header of version 2 that is taken. Addresses need 36 bytes; balancers add some
/// hundred of extensions (TLVs), which are skipped.
const LONGEST: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header. Without a client the balancer speaks for itself (LOCAL) or doesn't say (UNKNOWN).
    Header {
        /// Its length.
        length: usize,
        /// On whose behalf.
        client: Option<SocketAddr>,
    },
    /// The beginning of one: at least this many bytes are still to come.
    Incomplete(usize),
}

/// No header, or a broken one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY protocol header: {0}")]
pub struct NoHeader(&'static str);

/// Reads a header off a connection.
///
/// # Errors
/// It is malformed, took longer than `limit`, or the connection ended.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    limit: Duration,
) -> io::Result<Option<SocketAddr>> {
    timeout(limit, read_header(stream)).await?
}

async fn read_header(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::with_capacity(64);
    loop {
        match parse(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Parsed::Header { client, .. } => return Ok(client),
            Parsed::Incomplete(more) => {
                let have = bytes.len();
                bytes.resize(have + more, 0);
                stream.read_exact(&mut bytes[have..]).await?;
            }
        }
    }
}

/// Parses the header at the beginning of `bytes`.
///
/// # Errors
/// They are not, or can't become, a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    let begins = |with: &[u8]| {
        let n = bytes.len().min(with.len());
        bytes[..n] == with[..n]
    };
    if begins(SIGNATURE) {
        binary(bytes)
    } else if begins(WORD) {
        line(bytes)
    } else {
        Err(NoHeader("the first bytes are others"))
    }
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    // Nothing is shorter than a whole line of version 1: both may be waited for.
    if bytes.len() < SIGNATURE.len() {
        return Ok(Parsed::Incomplete(SIGNATURE.len() - bytes.len()));
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Ok(Parsed::Incomplete(FIXED - bytes.len()));
    };
    let [.., command, family, high, low] = *fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Err(NoHeader("unknown version"));
    }
    if length > LONGEST {
        return Err(NoHeader("longer than 4096 bytes"));
    }
    if bytes.len() < length {
        return Ok(Parsed::Incomplete(length - bytes.len()));
    }
    let addresses = &bytes[FIXED..length];
    let client = match command & 0x0f {
        0 => None,
        1 => source(family, addresses)?,
        _ => return Err(NoHeader("unknown command")),
    };
    Ok(Parsed::Header { length, client })
}

/// The source of a PROXY command. TCP over IPv4 or IPv6 only: who speaks another protocol to the
/// balancer (a local socket, say) has no address, and the specification says to keep the socket's.
fn source(family: u8, addresses: &[u8]) -> Result<Option<SocketAddr>, NoHeader> {
    const SHORT: NoHeader = NoHeader("too short for its addresses");
    match family {
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] =
                *addresses.first_chunk::<12>().ok_or(SHORT)?;
            let address = Ipv4Addr::new(a, b, c, d);
            Ok(Some(SocketAddr::new(address.into(), port(high, low))))
        }
        0x21 => {
            let addresses = addresses.first_chunk::<36>().ok_or(SHORT)?;
            let mut octets = [0; 16];
            octets.copy_from_slice(&addresses[..16]);
            let address = Ipv6Addr::from(octets);
            let port = port(addresses[32], addresses[33]);
            Ok(Some(SocketAddr::new(address.into(), port)))
        }
        _ => Ok(None),
    }
}

fn port(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

/// Version 1.
fn line(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    let end = bytes.windows(2).position(|two| two == b"\r\n");
    let Some(end) = end else {
        if bytes.len() >= LONGEST_LINE {
            return Err(NoHeader("no line end within 107 bytes"));
        }
        // Byte by byte beyond the shortest: what comes after the line isn't ours.
        let more = SHORTEST_LINE.saturating_sub(bytes.len()).max(1);
        return Ok(Parsed::Incomplete(more));
    };
    let length = end + 2;
    if length > LONGEST_LINE {
        return Err(NoHeader("no line end within 107 bytes"));
    }
    let text = std::str::from_utf8(&bytes[WORD.len()..end]);
    let text = text.map_err(|_| NoHeader("not ASCII"))?;
    let client = words(text)?;
    Ok(Parsed::Header { length, client })
}

/// What follows "PROXY ".
fn words(text: &str) -> Result<Option<SocketAddr>, NoHeader> {
    let mut words = text.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let [Some(from), Some(to), Some(from_port), Some(to_port), None] =
        std::array::from_fn(|_| words.next())
    else {
        return Err(NoHeader("not four words of addresses"));
    };
    let (from, to) = match family {
        Some("TCP4") => (address::<Ipv4Addr>(from)?, address::<Ipv4Addr>(to)?),
        Some("TCP6") => (address::<Ipv6Addr>(from)?, address::<Ipv6Addr>(to)?),
        _ => return Err(NoHeader("unknown family")),
    };
    let _ = (to, decimal(to_port)?);
    Ok(Some(SocketAddr::new(from, decimal(from_port)?)))
}

fn address<A: std::str::FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, NoHeader> {
    let address: A = text.parse().map_err(|_| NoHeader("not an address"))?;
    Ok(address.into())
}

/// Digits only, no sign, no leading zero.
fn decimal(text: &str) -> Result<u16, NoHeader> {
    const NOT: NoHeader = NoHeader("not a port");
    let canonical = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    if !canonical {
        return Err(NOT);
    }
    text.parse().map_err(|_| NOT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2 for a connection between two addresses of one family.
    fn written(from: SocketAddr, to: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
        let mut addresses = Vec::new();
        let family = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                addresses.extend(from.octets());
                addresses.extend(to.octets());
                0x11
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                addresses.extend(from.octets());
                addresses.extend(to.octets());
                0x21
            }
            _ => unreachable!("one family"),
        };
        addresses.extend(from.port().to_be_bytes());
        addresses.extend(to.port().to_be_bytes());
        addresses.extend(tlvs);
        with_command(0x21, family, &addresses)
    }

    fn with_command(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn header(length: usize, client: Option<&str>) -> Result<Parsed, NoHeader> {
        let client = client.map(|text| text.parse().unwrap());
        Ok(Parsed::Header { length, client })
    }

    #[test]
    fn version_1_is_read() {
        for (text, client) in [
            (
                "PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n",
                Some("192.0.2.7:5000"),
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 65535 443\r\n",
                Some("[2001:db8::7]:65535"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ::1 ::2 1 2 and more\r\n", None),
        ] {
            let followed = format!("{text}GET / HTTP/1.1\r\n");
            assert_eq!(
                parse(followed.as_bytes()),
                header(text.len(), client),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for text in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 5000\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 5000 443 7\r\n",
            "PROXY TCP4 192.0.2.7  10.0.0.1 5000 443\r\n",
            "PROXY TCP4 ::1 ::2 5000 443\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 5000 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 05000 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +5000 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 5000 65536\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 5000 443\r\n",
            "PROXY TCP4 \u{e4} 10.0.0.1 5000 443\r\n",
            &long,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        for bytes in [
            with_command(0x11, 0x11, &[0; 12]),
            with_command(0x22, 0x11, &[0; 12]),
            with_command(0x21, 0x11, &[0; 11]),
            with_command(0x21, 0x21, &[0; 35]),
            with_command(0x21, 0x11, &[0; 5000]),
        ] {
            assert!(parse(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_balancer_that_speaks_for_itself_keeps_its_address() {
        for bytes in [
            with_command(0x20, 0, &[]),
            with_command(0x20, 0x11, &[1; 12]),
            with_command(0x21, 0x31, &[1; 216]),
            with_command(0x21, 0, &[]),
        ] {
            assert_eq!(parse(&bytes), header(bytes.len(), None));
        }
    }

    fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = any::<((Ipv4Addr, u16), (Ipv4Addr, u16))>()
            .prop_map(|(from, to)| (from.into(), to.into()));
        let v6 = any::<((Ipv6Addr, u16), (Ipv6Addr, u16))>()
            .prop_map(|(from, to)| (from.into(), to.into()));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (from, to) in pair(),
            tlvs in prop::collection::vec(any::<u8>(), 0..300),
            after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let (ip, to_ip) = (from.ip(), to.ip());
            let line = format!("PROXY {family} {ip} {to_ip} {} {}\r\n", from.port(), to.port());
            for mut bytes in [written(from, to, &tlvs), line.into_bytes()] {
                let expected = Ok(Parsed::Header { length: bytes.len(), client: Some(from) });
                bytes.extend(&after);
                prop_assert_eq!(parse(&bytes), expected);
            }
        }

        /// Reading what is said to be missing never takes a byte too many.
        #[test]
        fn nothing_behind_the_header_is_taken((from, to) in pair()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let text = format!("PROXY TCP4 192.0.2.1 192.0.2.2 {} 1\r\n", from.port());
            for bytes in [written(from, to, b"tlv"), text.into_bytes(), b"PROXY UNKNOWN\r\n".to_vec()] {
                let mut all = bytes.clone();
                all.extend(b"after");
                let mut rest = all.as_slice();
                let limit = Duration::from_secs(5);
                let got = runtime.as_ref().unwrap().block_on(read(&mut rest, limit));
                prop_assert!(got.is_ok());
                prop_assert_eq!(rest, b"after");
            }
        }

        #[test]
        fn any_bytes_are_judged_in_bounded_space(
            begins in prop_oneof![Just(&b""[..]), Just(&SIGNATURE[..]), Just(WORD)],
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut all = begins.to_vec();
            all.extend(bytes);
            match parse(&all) {
                Ok(Parsed::Header { length, .. }) => prop_assert!(length <= all.len()),
                Ok(Parsed::Incomplete(more)) => {
                    prop_assert!(more > 0 && all.len() + more <= LONGEST);
                }
                Err(_) => {}
            }
        }
    }
}
