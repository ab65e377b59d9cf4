//! One run of a generator, pinned to its core, against one contender.

use std::io::{ErrorKind, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::batch::{Receiver, Sender, Wait};
use super::contender::{Contender, read_answers};
use super::rig::{Outcome, cpu_seconds, own_cpu_seconds};

/// Queries on their way at once over UDP.
const WINDOW: usize = 512;

/// Sent and received in one call.
const BATCH: usize = 64;

/// TCP connections, and queries sent on each before their answers are read.
const CONNECTIONS: usize = 8;
const PIPELINED: usize = 64;

/// How the queries go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
}

/// What one run showed.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) per_second: f64,
    /// Microseconds of the server's CPU time a query answered.
    pub(crate) cpu_micros: f64,
    /// The share of its core that the server used.
    pub(crate) server: f64,
    /// The share of its core that the generator used.
    pub(crate) generator: f64,
    /// The share of queries that were lost.
    pub(crate) lost: f64,
}

/// Asks one contender for so long.
pub(crate) fn run(to: &Contender, way: Way, queries: &[Vec<u8>], length: Duration) -> Outcome<Run> {
    let (server, generator) = (cpu_seconds(to.pid)?, own_cpu_seconds()?);
    let began = Instant::now();
    let (asked, answered) = match way {
        Way::Udp => udp(to, queries, began + length)?,
        Way::Tcp => tcp(to, queries, began + length)?,
    };
    let elapsed = began.elapsed().as_secs_f64();
    let (server, generator) = (
        cpu_seconds(to.pid)? - server,
        own_cpu_seconds()? - generator,
    );
    if answered == 0 {
        return Err(format!("{} answered nothing", to.name).into());
    }
    Ok(Run {
        per_second: answered as f64 / elapsed,
        cpu_micros: server * 1e6 / answered as f64,
        server: server / elapsed,
        generator: generator / elapsed,
        lost: (asked - answered) as f64 / asked as f64,
    })
}

fn udp(to: &Contender, queries: &[Vec<u8>], until: Instant) -> Outcome<(usize, usize)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(to.address)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut receiver, mut sender) = (Receiver::new(BATCH, 2048), Sender::new(BATCH));
    let mut next = queries.iter().cycle();
    let (mut asked, mut answered, mut on_their_way) = (0, 0, 0_usize);
    while Instant::now() < until {
        while on_their_way + BATCH <= WINDOW {
            let batch = next
                .by_ref()
                .take(BATCH)
                .map(|query| (query.as_slice(), None));
            let sent = sender.send(socket.as_fd(), batch)?;
            on_their_way += sent;
            asked += sent;
        }
        match receiver.receive(socket.as_fd(), Wait::ForOne) {
            Ok(count) => {
                answered += count;
                on_their_way = on_their_way.saturating_sub(count);
            }
            // Whatever is still on its way was lost.
            Err(error) if error.kind() == ErrorKind::WouldBlock => on_their_way = 0,
            Err(error) => return Err(error.into()),
        }
    }
    // The last ones are neither lost nor waited for.
    Ok((asked - on_their_way, answered))
}

fn tcp(to: &Contender, queries: &[Vec<u8>], until: Instant) -> Outcome<(usize, usize)> {
    let framed: Vec<Vec<u8>> = queries
        .chunks_exact(PIPELINED)
        .map(|chunk| {
            let frame = |query: &Vec<u8>| {
                let length = u16::try_from(query.len())
                    .expect("queries are short")
                    .to_be_bytes();
                [&length[..], query].concat()
            };
            chunk.iter().flat_map(frame).collect()
        })
        .collect();
    let open = |_| -> Outcome<(TcpStream, Vec<u8>)> {
        let stream = TcpStream::connect(to.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok((stream, Vec::new()))
    };
    let mut connections = (0..CONNECTIONS).map(open).collect::<Outcome<Vec<_>>>()?;
    let mut next = framed.iter().cycle();
    for (stream, _) in &mut connections {
        stream.write_all(next.next().ok_or("no queries")?)?;
    }
    let mut answered = 0;
    while Instant::now() < until {
        for (stream, buffer) in &mut connections {
            read_answers(stream, buffer, PIPELINED)?;
            answered += PIPELINED;
            stream.write_all(next.next().ok_or("no queries")?)?;
        }
    }
    Ok((answered, answered))
}
