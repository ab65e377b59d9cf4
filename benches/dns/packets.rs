//! Random and mutated packets through a real socket: the server must live, answer in time and
//! within the sizes that were asked for.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::batch::{Receiver, Sender, Wait};
use super::contender::Contender;
use super::rig::Outcome;
use super::world::Random;

const BATCH: usize = 64;

/// The largest UDP answer to an asker without EDNS, and to any asker.
const PLAIN: usize = 512;
const CAP: usize = 1232;

/// How long a good query may wait for its answer between bad ones.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends so many packets, 64 at a time, each batch with a good query at its end.
pub(crate) fn run(to: &Contender, count: u64) -> Outcome<()> {
    let began = Instant::now();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(to.address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut random = Random::new(0xd1b5_4a32_d192_ed03);
    let (mut receiver, mut sender) = (Receiver::new(BATCH + 1, 65_536), Sender::new(BATCH + 1));
    let (mut sent, mut answered, mut largest) = (0, 0_u64, 0);
    while sent < count {
        let mut batch: Vec<Vec<u8>> = (0..BATCH as u64)
            .map(|n| packet(&mut random, n as u8))
            .collect();
        batch.push(last(random.next() as u8));
        send(&mut sender, &socket, &batch)?;
        sent += BATCH as u64;
        let mut is_over = false;
        while !is_over {
            match receiver.receive(socket.as_fd(), Wait::ForOne) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(
                        format!("no answer within {PATIENCE:?} after {sent} packets").into(),
                    );
                }
                Err(error) => return Err(format!("after {sent} packets: {error}").into()),
            }
            for (answer, _) in receiver.datagrams() {
                let id = answer.first_chunk::<2>().ok_or("an answer without an id")?;
                let asked = &batch[usize::from(id[0])];
                check(asked, answer)?;
                largest = largest.max(answer.len());
                answered += 1;
                is_over |= usize::from(id[0]) == BATCH;
            }
        }
    }
    println!(
        "packets: {sent} sent in {:.0} s, {answered} answers, the largest of {largest} bytes, \
         none larger than allowed\n",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn send(sender: &mut Sender, socket: &UdpSocket, batch: &[Vec<u8>]) -> Outcome<()> {
    let mut rest = batch;
    while !rest.is_empty() {
        let these = rest.iter().map(|packet| (packet.as_slice(), None));
        let sent = sender.send(socket.as_fd(), these)?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// An answer is one to what was asked, and no larger than it may be.
fn check(asked: &[u8], answer: &[u8]) -> Outcome<()> {
    // The longest that any bytes could have asked for; without EDNS 512, of which only one who reads
    // the whole query can tell, so EDNS is looked for by its record's type anywhere behind the header.
    let has_edns = asked
        .get(12..)
        .is_some_and(|rest| rest.windows(2).any(|two| two == [0, 41]));
    let limit = if has_edns { CAP } else { PLAIN };
    let is_answer = answer.len() >= 12 && answer[2] & 0x80 != 0 && answer[..2] == asked[..2];
    if !is_answer || answer.len() > limit {
        return Err(format!(
            "{} bytes in answer to {asked:02x?}:\n{answer:02x?}",
            answer.len()
        )
        .into());
    }
    Ok(())
}

/// A good query whose id says that it is the last of its batch.
fn last(low: u8) -> Vec<u8> {
    let mut query = vec![BATCH as u8, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x02go\x04test\0\0\x01\0\x01");
    query
}

/// A packet whose id begins with its number in the batch.
fn packet(random: &mut Random, number: u8) -> Vec<u8> {
    let mut packet = if random.below(4) == 0 {
        let length = random.below(600);
        (0..length).map(|_| random.next() as u8).collect()
    } else {
        mutated(random)
    };
    if let Some(first) = packet.first_mut() {
        *first = number;
    }
    packet
}

/// A well-formed query with up to four things wrong.
fn mutated(random: &mut Random) -> Vec<u8> {
    let mut packet = query(random);
    for _ in 0..random.below(5) {
        let at = random
            .below(packet.len().max(1))
            .min(packet.len().saturating_sub(1));
        match random.below(6) {
            0 if !packet.is_empty() => packet[at] = random.next() as u8,
            1 if !packet.is_empty() => packet[at] ^= 1 << random.below(8),
            2 => packet.truncate(at),
            3 => packet.insert(at, random.next() as u8),
            4 if !packet.is_empty() => {
                packet.remove(at);
            }
            _ => {
                let more = random.below(40);
                packet.extend((0..more).map(|_| random.next() as u8));
            }
        }
    }
    packet
}

fn query(random: &mut Random) -> Vec<u8> {
    const NAMES: [&[u8]; 7] = [
        b"\x02go\x04test\0",
        b"\x02Go\x04tEST\0",
        b"\x03all\x02go\x04test\0",
        b"\x03why\x02go\x04test\0",
        b"\x03ns1\x02go\x04test\0",
        b"\x04none\x02go\x04test\0",
        b"\x07example\0",
    ];
    const TYPES: [u8; 12] = [1, 1, 28, 65, 2, 6, 16, 43, 48, 252, 255, 41];
    const OPTIONS: [&[u8]; 8] = [
        b"",
        b"\0\x08\0\x07\0\x01\x18\0\xc0\0\x02",
        b"\0\x08\0\x0b\0\x02\x38\0\x20\x01\x0d\xb8\0\0\0",
        b"\0\x08\0\x04\0\0\0\0",
        b"\0\x08\0\x07\0\x03\x18\0\xc0\0\x02",
        b"\0\x0a\0\x08abcdefgh",
        b"\0\x03\0\0",
        b"\0\x0a\0\x18abcdefgh0123456789abcdef",
    ];
    let edns = random.below(3) > 0;
    let flags = [0, 1, 1, 0x81, 0x28, 0x10][random.below(6)];
    let mut packet = vec![
        0,
        random.next() as u8,
        flags,
        0x20,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        u8::from(edns),
    ];
    packet.extend(NAMES[random.below(NAMES.len())]);
    packet.extend([0, TYPES[random.below(TYPES.len())], 0, 1]);
    if edns {
        let options = OPTIONS[random.below(OPTIONS.len())];
        let [p1, p0] = [0, 512, 1232, 4096, 65_535_u16][random.below(5)].to_be_bytes();
        let dnssec_ok = 0x80 * u8::from(random.below(2) == 0);
        packet.extend([0, 0, 41, p1, p0, 0, 0, dnssec_ok, 0, 0, options.len() as u8]);
        packet.extend(options);
    }
    packet
}
