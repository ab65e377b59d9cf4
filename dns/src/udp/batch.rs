//! Datagrams by the batch: `recvmmsg` and `sendmmsg` (Linux), the only unsafe code of the role.
//!
//! Buffers are made once. The headers that the kernel reads and writes point into them and are
//! written anew before each call, so no pointer outlives the call that it was made for.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

/// Room for a socket address of either family, as the kernel writes it (`sockaddr_in6` is the
/// longer one).
const PEER_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// The same as the kernel counts it. It takes the longer length for IPv4 too.
const PEER_LENGTH: libc::socklen_t = PEER_BYTES as libc::socklen_t;

/// Who sent a datagram, as the kernel put it: that is also how it is answered.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Peer([u8; PEER_BYTES]);

impl Peer {
    const UNKNOWN: Self = Self([0; PEER_BYTES]);

    /// The address without its port; nothing if it is of neither family.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        // Both kinds begin with the family and the port; IPv6 has a flow label before the address.
        let &[f0, f1, _, _, a, b, c, d, ref rest @ ..] = &self.0;
        match i32::from(u16::from_ne_bytes([f0, f1])) {
            libc::AF_INET => Some(Ipv4Addr::new(a, b, c, d).into()),
            libc::AF_INET6 => {
                let octets = *rest.first_chunk::<16>()?;
                Some(Ipv6Addr::from(octets).into())
            }
            _ => None,
        }
    }
}

/// Whether a call may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For the first datagram, as long as the socket allows; what else is there comes along.
    ForOne,
    /// Not at all.
    #[allow(dead_code, reason = "for load generators, which share this file")]
    Never,
}

/// What was received in one call.
pub(crate) struct Receiver {
    bytes: Vec<u8>,
    room: usize,
    peers: Vec<Peer>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    received: usize,
}

impl Receiver {
    /// Takes up to `slots` datagrams at once, the first `room` bytes of each.
    pub(crate) fn new(slots: usize, room: usize) -> Self {
        Self {
            bytes: vec![0; slots * room],
            room,
            peers: vec![Peer::UNKNOWN; slots],
            headers: vec![no_header(); slots],
            vectors: vec![no_vector(); slots],
            received: 0,
        }
    }

    /// Receives; what was received before is gone. Returns how many datagrams came.
    ///
    /// # Errors
    /// The socket's; `WouldBlock` where nothing came in time.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, wait: Wait) -> io::Result<usize> {
        self.received = 0;
        let parts = self.bytes.chunks_exact_mut(self.room);
        let parts = parts.zip(&mut self.peers).zip(&mut self.vectors);
        for (((bytes, peer), vector), header) in parts.zip(&mut self.headers) {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            header.msg_hdr.msg_name = peer.0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = PEER_LENGTH;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::Never => libc::MSG_DONTWAIT,
        };
        // SAFETY: `headers` holds as many elements as is said. Each points to one vector, to a peer
        // and through the vector to a piece of `bytes`, with their true sizes; no two share any of
        // it, all of it belongs to `self`, which is borrowed mutably until the call is over, and
        // bytes of any value are valid in all of it. Control data there is none (null, 0).
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                flags as _,
                null_mut(),
            )
        };
        self.received = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// The datagrams received last, in their order.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (&[u8], &Peer)> {
        let parts = self.bytes.chunks_exact(self.room).zip(&self.peers);
        let parts = parts.zip(&self.headers).take(self.received);
        parts.map(|((bytes, peer), header)| {
            let length = usize::try_from(header.msg_len).unwrap_or(usize::MAX);
            (&bytes[..length.min(bytes.len())], peer)
        })
    }
}

/// What is sent in one call.
pub(crate) struct Sender {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
}

impl Sender {
    /// Sends up to `slots` datagrams at once.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            headers: vec![no_header(); slots],
            vectors: vec![no_vector(); slots],
        }
    }

    /// Sends, each datagram to its peer, or without one to whom the socket is connected. Returns
    /// how many of the first were sent; more than there are slots never are.
    ///
    /// # Errors
    /// That of the first datagram; a later one's ends the call early.
    pub(crate) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: impl Iterator<Item = (&'a [u8], Option<&'a Peer>)>,
    ) -> io::Result<usize> {
        let slots = self.headers.iter_mut().zip(&mut self.vectors);
        let mut filled = 0;
        for ((header, vector), (bytes, peer)) in slots.zip(datagrams) {
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            header.msg_hdr.msg_name =
                peer.map_or(null_mut(), |peer| peer.0.as_ptr().cast_mut().cast());
            header.msg_hdr.msg_namelen = peer.map_or(0, |_| PEER_LENGTH);
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            filled += 1;
        }
        // SAFETY: of `headers` there are at least `filled`, and each of those was just pointed at a
        // vector of `self` and, through it and by its name, at bytes and a peer that `datagrams`
        // borrowed for 'a, which ends after this call. The kernel only reads them; it writes
        // nothing but each header's length, and `self` is borrowed mutably.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                filled,
                libc::MSG_NOSIGNAL as _,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

fn no_header() -> libc::mmsghdr {
    // SAFETY: it is integers and pointers, for which zero is a value.
    unsafe { zeroed() }
}

fn no_vector() -> libc::iovec {
    libc::iovec {
        iov_base: null_mut(),
        iov_len: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn talk(any: &str) {
        let server = UdpSocket::bind(any).unwrap();
        let client = UdpSocket::bind(any).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let (mut receiver, mut sender) = (Receiver::new(4, 8), Sender::new(4));
        let sent: [&[u8]; 5] = [b"", b"one", b"eightsss", b"longer than room", b"left out"];
        let all = sent.iter().map(|bytes| (*bytes, None));
        assert_eq!(sender.send(client.as_fd(), all).unwrap(), 4);

        assert_eq!(receiver.receive(server.as_fd(), Wait::ForOne).unwrap(), 4);
        let got: Vec<&[u8]> = receiver.datagrams().map(|(bytes, _)| bytes).collect();
        assert_eq!(got, [&b""[..], b"one", b"eightsss", b"longer t"]);
        let from = client.local_addr().unwrap().ip();
        assert!(
            receiver
                .datagrams()
                .all(|(_, peer)| peer.ip() == Some(from))
        );

        let answers = receiver
            .datagrams()
            .map(|(bytes, peer)| (bytes, Some(peer)));
        assert_eq!(sender.send(server.as_fd(), answers).unwrap(), 4);
        let mut back = Receiver::new(8, 64);
        assert_eq!(back.receive(client.as_fd(), Wait::ForOne).unwrap(), 4);
        let got: Vec<&[u8]> = back.datagrams().map(|(bytes, _)| bytes).collect();
        assert_eq!(got, [&b""[..], b"one", b"eightsss", b"longer t"]);
    }

    #[test]
    fn datagrams_come_and_go_with_their_peers_over_ipv4() {
        talk("127.0.0.1:0");
    }

    #[test]
    fn datagrams_come_and_go_with_their_peers_over_ipv6() {
        talk("[::1]:0");
    }

    #[test]
    fn nothing_there_is_an_error_that_says_so_and_leaves_no_datagrams() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut receiver = Receiver::new(4, 8);
        let error = receiver.receive(socket.as_fd(), Wait::Never).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(receiver.datagrams().count(), 0);
    }
}
